//! A fast keyed hash for addresses and ids: one folded multiplication per word.
//!
//! Keys are short and fixed (MAC and IP addresses, ids), so SipHash would cost more than the lookup it serves. The seed is drawn per
//! process: a stranger who can choose addresses cannot choose which ones collide without it. Tables that strangers fill are bounded
//! ([`crate::table`]), so that even a stranger who guesses collisions gains only the eviction of his own kind.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hasher},
};

/// A map keyed by addresses or ids.
pub(crate) type AddressMap<K, V> = HashMap<K, V, Seed>;

/// The key of the hash.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seed(u64);

/// An odd constant with well spread bits (the golden ratio in 64 bits).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Seed {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The hash of one word.
    #[inline]
    pub(crate) fn hash(self, word: u64) -> u64 {
        fold(self.0 ^ word, SPREAD ^ self.0.rotate_left(32))
    }
}

#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the two halves of the product are taken apart on purpose"
)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b | 1);
    (product as u64) ^ ((product >> 64) as u64)
}

impl BuildHasher for Seed {
    type Hasher = WordHasher;

    #[inline]
    fn build_hasher(&self) -> WordHasher {
        WordHasher { seed: *self, state: SPREAD }
    }
}

#[derive(Debug)]
pub(crate) struct WordHasher {
    seed: Seed,
    state: u64,
}

impl Hasher for WordHasher {
    #[inline]
    fn finish(&self) -> u64 {
        self.state
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.state = self.seed.hash(self.state.rotate_left(23) ^ word);
    }

    #[inline]
    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "both halves are hashed")]
    fn write_u128(&mut self, word: u128) {
        self.write_u64(word as u64);
        self.write_u64((word >> 64) as u64);
    }
}
