//! One attempt to write.

use std::collections::{BTreeMap, BTreeSet};

use super::{Accepted, Ballot, majority};

/// One attempt, from its first question to its decision. `A` names an acceptor.
///
/// ```text
/// Preparing ──majority promised──▶ (owner computes the next value) ──▶ Accepting ──majority accepted──▶ decided
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Proposer<A, V> {
    ballot: Ballot,
    acceptors: usize,
    stage: Stage<A, V>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Stage<A, V> {
    Preparing { promises: BTreeMap<A, Option<Accepted<V>>> },
    Choosing,
    Accepting { value: V, accepted_by: BTreeSet<A> },
    Decided,
}

impl<A: Ord + Clone, V: Clone> Proposer<A, V> {
    /// Begins: the owner sends `ballot` to all `acceptors`.
    #[must_use]
    pub const fn new(ballot: Ballot, acceptors: usize) -> Self {
        Self { ballot, acceptors, stage: Stage::Preparing { promises: BTreeMap::new() } }
    }

    /// The ballot of this attempt.
    pub const fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// An acceptor promised. With the majority's last promise comes the register's present value, once: the
    /// owner answers it with [`Proposer::propose`].
    pub fn promised(&mut self, from: A, accepted: Option<Accepted<V>>) -> Option<Option<V>> {
        let Stage::Preparing { promises } = &mut self.stage else { return None };
        promises.insert(from, accepted);
        if promises.len() < majority(self.acceptors) {
            return None;
        }
        let highest = promises.values().flatten().max_by_key(|accepted| accepted.ballot);
        let current = highest.map(|accepted| accepted.value.clone());
        self.stage = Stage::Choosing;
        Some(current)
    }

    /// The owner chose the next value, and sends it to all acceptors.
    pub fn propose(&mut self, value: V) {
        if matches!(self.stage, Stage::Choosing) {
            self.stage = Stage::Accepting { value, accepted_by: BTreeSet::new() };
        }
    }

    /// An acceptor accepted. With the majority's last acceptance comes the decided value, once.
    pub fn accepted(&mut self, from: A) -> Option<V> {
        let Stage::Accepting { value, accepted_by } = &mut self.stage else { return None };
        accepted_by.insert(from);
        if accepted_by.len() < majority(self.acceptors) {
            return None;
        }
        let value = value.clone();
        self.stage = Stage::Decided;
        Some(value)
    }

    /// Whether this acceptor still owes the answer the attempt waits for.
    pub fn waits_for(&self, acceptor: &A) -> bool {
        match &self.stage {
            Stage::Preparing { promises } => !promises.contains_key(acceptor),
            Stage::Accepting { accepted_by, .. } => !accepted_by.contains(acceptor),
            Stage::Choosing | Stage::Decided => false,
        }
    }

    /// The value that is being written.
    pub const fn value(&self) -> Option<&V> {
        match &self.stage {
            Stage::Accepting { value, .. } => Some(value),
            Stage::Preparing { .. } | Stage::Choosing | Stage::Decided => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BALLOT: Ballot = Ballot { round: 2, nonce: 7 };

    #[test]
    fn the_highest_accepted_value_of_a_majority_is_carried_forward() {
        let mut proposer = Proposer::<u8, char>::new(BALLOT, 3);
        let old = |round, value| Some(Accepted { ballot: Ballot { round, nonce: 0 }, value });
        assert_eq!(proposer.promised(0, old(1, 'a')), None);
        assert_eq!(proposer.promised(0, old(1, 'a')), None, "a repeated promise counts once");
        assert_eq!(proposer.promised(1, None), Some(Some('a')));
        proposer.propose('b');
        assert_eq!(proposer.accepted(2), None);
        assert_eq!(proposer.accepted(2), None, "a repeated acceptance counts once");
        assert_eq!(proposer.accepted(0), Some('b'));
        assert_eq!(proposer.accepted(1), None, "it is decided once");
    }
}
