//! One acceptor's share of a register.

use serde::{Deserialize, Serialize};

use super::Ballot;

/// A value and the ballot it was accepted under.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Accepted<V> {
    /// Under which ballot.
    pub ballot: Ballot,
    /// What.
    pub value: V,
}

/// What an acceptor remembers. Whoever changes it makes it durable before the answer leaves.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Acceptor<V> {
    promised: Ballot,
    accepted: Option<Accepted<V>>,
}

impl<V> Default for Acceptor<V> {
    fn default() -> Self {
        Self { promised: Ballot::ZERO, accepted: None }
    }
}

impl<V> Acceptor<V> {
    /// Promises to refuse every ballot below this one, and tells what was accepted so far.
    ///
    /// # Errors
    /// With the higher ballot that was promised before.
    pub fn prepare(&mut self, ballot: Ballot) -> Result<Option<&Accepted<V>>, Ballot> {
        if ballot < self.promised {
            return Err(self.promised);
        }
        self.promised = ballot;
        Ok(self.accepted.as_ref())
    }

    /// Whether a value under this ballot would be accepted.
    ///
    /// # Errors
    /// With the higher ballot that was promised before.
    pub fn would_accept(&self, ballot: Ballot) -> Result<(), Ballot> {
        if ballot < self.promised { Err(self.promised) } else { Ok(()) }
    }

    /// Accepts a value.
    ///
    /// # Errors
    /// With the higher ballot that was promised before.
    pub fn accept(&mut self, ballot: Ballot, value: V) -> Result<(), Ballot> {
        self.would_accept(ballot)?;
        self.promised = ballot;
        self.accepted = Some(Accepted { ballot, value });
        Ok(())
    }

    /// What was accepted last.
    pub const fn accepted(&self) -> Option<&Accepted<V>> {
        self.accepted.as_ref()
    }

    /// The highest ballot promised.
    pub const fn promised(&self) -> Ballot {
        self.promised
    }
}
