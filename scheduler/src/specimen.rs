//! Small specimens for tests.

use libp2p_identity::Keypair;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use crate::identity::HostId;
use crate::slice::charter::{Charter, Founded};
use crate::slice::file;

pub(crate) fn keypair(byte: u8) -> Keypair {
    Keypair::ed25519_from_bytes([byte; 32]).expect("32 bytes are a key")
}

pub(crate) fn host(byte: u8) -> HostId {
    keypair(byte).public().to_peer_id()
}

/// A slice of one kind of machine on one network, founded by tenant 99 at host 1 with stewards 1, 2 and 3.
pub(crate) fn founded(machine: &str) -> Founded {
    let text = format!(
        "name = \"a\"\n[network.lan]\n[machine.m]\nimage = \"mini\"\nnetworks = [\"lan\"]\n{machine}\n"
    );
    let spec = file::parse(&text).expect("a sound slice file");
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    Charter::found(spec, &keypair(99), host(1), &[host(1), host(2), host(3)], &mut rng)
        .expect("it is in order")
}
