//! Reading a register without writing it.

use std::collections::BTreeMap;

use super::{Accepted, Ballot, majority};

/// One question to all acceptors and their answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading<A, V> {
    acceptors: usize,
    answers: BTreeMap<A, Option<Accepted<V>>>,
}

/// What the answers so far prove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen<V> {
    /// Too few have answered.
    Waiting,
    /// A majority agrees on this decided value; none when nothing was ever accepted there.
    Decided(Option<Accepted<V>>),
    /// A majority has answered, and no majority agrees: someone must settle it.
    Unsettled,
}

impl<A: Ord + Copy, V: Clone> Reading<A, V> {
    /// Begins.
    #[must_use]
    pub const fn new(acceptors: usize) -> Self {
        Self { acceptors, answers: BTreeMap::new() }
    }

    /// An acceptor answered.
    pub fn answered(&mut self, from: A, accepted: Option<Accepted<V>>) -> Seen<V> {
        self.answers.insert(from, accepted);
        self.seen()
    }

    fn seen(&self) -> Seen<V> {
        let needed = majority(self.acceptors);
        if self.answers.len() < needed {
            return Seen::Waiting;
        }
        let ballot_of = |answer: &Option<Accepted<V>>| answer.as_ref().map_or(Ballot::ZERO, |a| a.ballot);
        for answer in self.answers.values() {
            let agreeing =
                self.answers.values().filter(|other| ballot_of(other) == ballot_of(answer)).count();
            if agreeing >= needed {
                return Seen::Decided(answer.clone());
            }
        }
        if self.answers.len() == self.acceptors { Seen::Unsettled } else { Seen::Waiting }
    }

    /// Whether as many have answered as a decision needs, though they do not agree.
    #[must_use]
    pub fn majority_answered(&self) -> bool {
        self.answers.len() >= majority(self.acceptors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(round: u64) -> Option<Accepted<u64>> {
        Some(Accepted { ballot: Ballot { round, nonce: 0 }, value: round })
    }

    #[test]
    fn a_majority_of_one_ballot_is_decided_and_anything_less_is_not() {
        let mut reading = Reading::new(3);
        assert_eq!(reading.answered(0, value(1)), Seen::Waiting);
        assert_eq!(reading.answered(1, value(2)), Seen::Waiting, "the third may agree with either");
        assert!(reading.majority_answered());
        assert_eq!(reading.answered(2, value(2)), Seen::Decided(value(2)));
        assert_eq!(reading.answered(1, value(3)), Seen::Unsettled);
    }

    #[test]
    fn nothing_is_an_answer_too() {
        let mut reading = Reading::<u8, u64>::new(1);
        assert_eq!(reading.answered(0, None), Seen::Decided(None));
    }
}
