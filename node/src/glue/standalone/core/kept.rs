//! What this host kept of its earlier life, taken up again: networks it made, those it is on, and who was heard on them.

use serde::{Deserialize, Serialize};

use super::{Core, HEARD, MADE, Now, Output, Own};
use crate::glue::standalone::directory::is_over;
use crate::glue::standalone::heard;
use crate::glue::standalone::statement::{Claim, Definition, Refusal, Signed};

/// What is kept of [`Own`].
#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) definition: Signed,
    pub(super) claim: Signed,
    pub(super) device: String,
}

impl Core {
    /// Takes up what was kept; gives the keys of what is of another overlay, or of no use, and is forgotten.
    pub fn restore(&mut self, now: Now, kept: Vec<(String, Vec<u8>)>) -> Vec<String> {
        let mut useless = Vec::new();
        // Claims come after the networks they are about.
        let (claims, networks): (Vec<_>, Vec<_>) =
            kept.into_iter().partition(|(key, _)| key.starts_with(HEARD));
        for (key, bytes) in networks.into_iter().chain(claims) {
            let taken = if key.starts_with(MADE) {
                self.restore_made(&bytes)
            } else if key.starts_with(HEARD) {
                self.restore_heard(now, &bytes)
            } else {
                self.restore_joined(now, &bytes)
            };
            if taken.is_err() {
                self.outputs.push_back(Output::Keep { key: key.clone(), value: None });
                useless.push(key);
            }
        }
        useless
    }

    fn restore_made(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let definition = Definition::open(self.overlay, Signed::decode(bytes)?)?;
        self.directory.put_network(definition);
        Ok(())
    }

    fn restore_joined(&mut self, now: Now, bytes: &[u8]) -> Result<(), Refusal> {
        let (kept, []) = postcard::take_from_bytes::<Kept>(bytes).map_err(|_| Refusal::Malformed)? else {
            return Err(Refusal::Malformed);
        };
        let definition = Definition::open(self.overlay, kept.definition)?;
        let claim = Claim::read(kept.claim)?;
        claim.verify(self.overlay)?;
        if claim.network() != definition.id || claim.said.host != self.me || !claim.is_joined() {
            return Err(Refusal::Malformed);
        }
        let id = definition.id;
        self.directory.put_network(definition);
        self.own.insert(id, Own { claim, device: kept.device, notices: Vec::new() });
        self.renew(now, id);
        Ok(())
    }

    /// Who was on this host's networks in its earlier life; claims that are over by now are left out.
    fn restore_heard(&mut self, now: Now, bytes: &[u8]) -> Result<(), Refusal> {
        for claim in heard::read(bytes)? {
            if claim.said.host == self.me || !self.own.contains_key(&claim.network()) {
                return Err(Refusal::NetworkUnknown);
            }
            claim.verify(self.overlay)?;
            if !is_over(&claim, now.seconds()) {
                self.directory.put_claim(claim);
            }
        }
        Ok(())
    }
}
