//! The number of an attempt to write.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The number of one attempt: ordered by round, then by nonce.
///
/// Two attempts must never share a ballot, also not one before and one after a restart. The nonce is drawn
/// anew for every attempt from 64 random bits, and so needs no memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Ballot {
    /// Grows with every refusal.
    pub round: u64,
    /// Tells attempts of one round apart.
    pub nonce: u64,
}

impl Ballot {
    /// Below every ballot of an attempt.
    pub const ZERO: Self = Self { round: 0, nonce: 0 };

    /// A ballot above `other`.
    #[must_use]
    pub const fn above(other: Self, nonce: u64) -> Self {
        Self { round: other.round.saturating_add(1), nonce }
    }
}

impl fmt::Debug for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:04x}", self.round, self.nonce & 0xffff)
    }
}
