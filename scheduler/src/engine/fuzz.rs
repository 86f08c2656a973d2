//! Fuzz entry of what an engine finds on its disk.

use super::{Allow, BootId, Capabilities, Engine, EngineConfig, Images, Restored, Share};
use crate::limits::TERM_MAX;
use crate::resources::Resources;
use crate::units::Millis;
use crate::{host, steward};

/// No bytes on disk may panic an engine that takes them up; they are taken up or refused.
///
/// # Panics
/// When the engine is wrong.
pub fn fuzz_entry(bytes: &[u8]) {
    let keypair = libp2p_identity::Keypair::ed25519_from_bytes([1; 32]).expect("32 bytes are a key");
    let config = EngineConfig {
        keypair,
        share: Share { limit: Resources::NONE, term_max: TERM_MAX, allow: Allow::Everyone },
        capabilities: Capabilities { categories: [].into(), images: Images::Any },
        boot: BootId::of(b"fuzz"),
    };
    for prefix in [host::KEY_PREFIX, steward::KEY_PREFIX] {
        let entries = vec![(format!("{prefix}fuzz"), bytes.to_vec())];
        let restored = Some(Restored { entries });
        if let Ok(mut engine) = Engine::new(config.clone(), restored, [7; 32], Millis(1_000_000)) {
            for now in [1_000_000, 2_000_000, 900_000_000] {
                engine.handle_timeout(Millis(now));
                while engine.poll_output().is_some() {}
            }
        }
    }
}
