//! Random numbers for the cores, from a seed that the driver draws.
//!
//! BLAKE3 keyed by the seed, as an extendable output of a growing number. The key is replaced after each draw by part of its
//! output, so that a state seen later tells nothing of earlier draws.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// A seeded generator fit for keys.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct Entropy {
    key: [u8; 32],
}

impl Entropy {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self { key: blake3::derive_key("consort vswitch entropy v1", &seed) }
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        let mut output = blake3::Hasher::new_keyed(&self.key).update(b"draw").finalize_xof();
        output.fill(&mut self.key);
        output.fill(bytes);
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    /// A number below `bound` (which is small: the bias is below one in four thousand million).
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        u32::try_from((u64::from(self.u32()) * u64::from(bound)) >> 32).expect("below bound")
    }

    /// Another generator, whose draws do not depend on how much is drawn here afterwards.
    pub(crate) fn fork(&mut self) -> Self {
        Self::new(self.array())
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_sequence_and_draws_differ() {
        let (mut a, mut b) = (Entropy::new([1; 32]), Entropy::new([1; 32]));
        let first: [u8; 16] = a.array();
        assert_eq!(first, b.array());
        assert_ne!(first, a.array::<16>());
        assert_ne!(Entropy::new([2; 32]).array::<16>(), first);
        assert_ne!(a.fork().array::<16>(), a.array::<16>());
        assert!((0..1000).all(|_| a.below(10) < 10));
    }
}
