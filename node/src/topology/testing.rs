//! What the tests of this room share: hosts by number, and files made of them.

use std::collections::BTreeMap;

use libp2p_identity::{Keypair, PeerId};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::model::{Host, Roles};

pub(super) fn seeded(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// A number below `bound`.
pub(super) fn below(rng: &mut impl Rng, bound: usize) -> usize {
    usize::try_from(rng.next_u64() % u64::try_from(bound).unwrap()).unwrap()
}

/// The same number, the same host.
pub(super) fn host(number: usize) -> PeerId {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&u64::try_from(number).unwrap().to_be_bytes());
    Keypair::ed25519_from_bytes(seed).unwrap().public().to_peer_id()
}

pub(super) fn named_hosts(names: &[&str]) -> Vec<Host> {
    let one = |(number, name): (usize, &&str)| Host {
        name: (*name).to_owned(),
        id: host(number),
        attributes: BTreeMap::new(),
        roles: Roles::default(),
        rate: None,
        line: number + 1,
    };
    names.iter().enumerate().map(one).collect()
}

/// A file with hosts `h0`, `h1`, …: `head`, then `[hosts]` from the line after it, then `tail`.
pub(super) fn file(head: &str, hosts: usize, tail: &str) -> String {
    let table: String = (0..hosts).map(|number| format!("h{number} = \"{}\"\n", host(number))).collect();
    format!("{head}\n[hosts]\n{table}{tail}")
}
