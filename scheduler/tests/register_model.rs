//! The register, model-checked: the real acceptor and proposer, every order of messages.
//!
//! Two proposers race for one slice: the coordinator wants Active, a host whose hold ran out wants Aborted. The network is
//! a set to which messages are only ever added, so each may be delivered never, once, often, and in any order; acceptors answer
//! any message ever sent. Lost stewards are included: a message that is never delivered. What must hold: no two
//! different values are ever decided.
//!
//! The known-wrong register, in which reading a majority replaces the promise, must be found wrong, or this model proves
//! nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use consort_scheduler::register::{Accepted, Acceptor, Ballot, Proposer};
use stateright::{Checker, Model, Property};

/// What can be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Fate {
    Active,
    Aborted,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Message {
    Prepare(Ballot),
    Promise(u8, Ballot, Option<(Ballot, Fate)>),
    Accept(Ballot, Fate),
    Accepted(u8, Ballot, Fate),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Race {
    acceptors: Vec<Acceptor<Fate>>,
    proposers: Vec<Option<Proposer<u8, Fate>>>,
    attempts: Vec<u8>,
    sent: BTreeSet<Message>,
    /// What proposers believe is decided.
    believed: BTreeSet<Fate>,
}

impl Race {
    /// What is decided, whether or not anyone has heard: a majority has accepted it under one ballot.
    fn decided(&self) -> BTreeSet<Fate> {
        let mut acceptances: BTreeMap<(Ballot, Fate), usize> = BTreeMap::new();
        for message in &self.sent {
            if let Message::Accepted(_, ballot, fate) = message {
                *acceptances.entry((*ballot, *fate)).or_default() += 1;
            }
        }
        let majority = consort_scheduler::register::majority(self.acceptors.len());
        acceptances.into_iter().filter(|(_, count)| *count >= majority).map(|((_, fate), _)| fate).collect()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Action {
    /// A proposer begins an attempt with a ballot of its own.
    Begin(u8),
    /// An acceptor answers.
    ToAcceptor(u8, Message),
    /// A proposer hears an answer.
    ToProposer(u8, Message),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fencing {
    /// As built.
    Promises,
    /// Known wrong: acceptors answer what they have, and forget that they were asked.
    None,
}

#[derive(Debug, Clone)]
struct Register {
    acceptors: u8,
    attempts: u8,
    fencing: Fencing,
    /// Whether proposers hear acceptances too. What is decided does not depend on it, and without there are far
    /// fewer states.
    acceptances_heard: bool,
}

/// The proposers: the first wants Active, the second Aborted.
const WISHES: [Fate; 2] = [Fate::Active, Fate::Aborted];

fn ballot(attempt: u8, proposer: u8) -> Ballot {
    Ballot { round: u64::from(attempt), nonce: u64::from(proposer) }
}

impl Register {
    fn answer(&self, acceptor: &mut Acceptor<Fate>, me: u8, message: &Message) -> Option<Message> {
        match message {
            Message::Prepare(ballot) => {
                let mut asked = acceptor.clone();
                let accepted = asked.prepare(*ballot).ok()?.map(|accepted| (accepted.ballot, accepted.value));
                if self.fencing == Fencing::Promises {
                    *acceptor = asked;
                }
                Some(Message::Promise(me, *ballot, accepted))
            }
            Message::Accept(ballot, fate) => {
                acceptor.accept(*ballot, *fate).ok()?;
                Some(Message::Accepted(me, *ballot, *fate))
            }
            Message::Promise(..) | Message::Accepted(..) => None,
        }
    }

    fn hear(race: &mut Race, me: u8, message: &Message) {
        let index = usize::from(me);
        let Some(proposer) = &mut race.proposers[index] else { return };
        match message {
            Message::Promise(from, ballot, accepted) if *ballot == proposer.ballot() => {
                let accepted = accepted.map(|(ballot, value)| Accepted { ballot, value });
                if let Some(current) = proposer.promised(*from, accepted) {
                    // Forming → wished, and what is decided stays.
                    let next = current.unwrap_or(WISHES[index]);
                    proposer.propose(next);
                    race.sent.insert(Message::Accept(*ballot, next));
                }
            }
            Message::Accepted(from, ballot, _) if *ballot == proposer.ballot() => {
                if let Some(fate) = proposer.accepted(*from) {
                    race.believed.insert(fate);
                }
            }
            _ => {}
        }
    }
}

impl Model for Register {
    type State = Race;
    type Action = Action;

    fn init_states(&self) -> Vec<Race> {
        vec![Race {
            acceptors: (0..self.acceptors).map(|_| Acceptor::default()).collect(),
            proposers: vec![None, None],
            attempts: vec![0, 0],
            sent: BTreeSet::new(),
            believed: BTreeSet::new(),
        }]
    }

    fn actions(&self, race: &Race, actions: &mut Vec<Action>) {
        for (me, attempts) in (0u8..).zip(&race.attempts) {
            if *attempts < self.attempts {
                actions.push(Action::Begin(me));
            }
        }
        for message in &race.sent {
            match message {
                Message::Prepare(ballot) | Message::Accept(ballot, _) => {
                    // Refusals tell a proposer nothing here, so a message that is refused is no step.
                    let heeds = |to: &u8| race.acceptors[usize::from(*to)].promised() <= *ballot;
                    actions.extend(
                        (0..self.acceptors).filter(heeds).map(|to| Action::ToAcceptor(to, message.clone())),
                    );
                }
                Message::Accepted(..) if !self.acceptances_heard => {}
                Message::Promise(_, ballot, _) | Message::Accepted(_, ballot, _) => {
                    let promise = matches!(message, Message::Promise(..));
                    let waits = |to: &u8| {
                        let proposer = race.proposers[usize::from(*to)].as_ref();
                        proposer.is_some_and(|p| p.ballot() == *ballot && !(promise && p.value().is_some()))
                    };
                    actions.extend((0u8..2).filter(waits).map(|to| Action::ToProposer(to, message.clone())));
                }
            }
        }
    }

    fn next_state(&self, race: &Race, action: Action) -> Option<Race> {
        let mut next = race.clone();
        match action {
            Action::Begin(me) => {
                let index = usize::from(me);
                next.attempts[index] += 1;
                let ballot = ballot(next.attempts[index], me);
                next.proposers[index] = Some(Proposer::new(ballot, usize::from(self.acceptors)));
                next.sent.insert(Message::Prepare(ballot));
            }
            Action::ToAcceptor(to, message) => {
                let answer = self.answer(&mut next.acceptors[usize::from(to)], to, &message);
                next.sent.extend(answer);
            }
            Action::ToProposer(to, message) => Self::hear(&mut next, to, &message),
        }
        // What changes nothing is no step: it only makes the search longer.
        (next != *race).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("one decision", |_, race: &Race| race.decided().len() <= 1),
            Property::always("what is believed is decided", |_, race: &Race| {
                race.believed.is_subset(&race.decided())
            }),
            Property::sometimes("it can be active", |_, race: &Race| race.decided().contains(&Fate::Active)),
            Property::sometimes("it can be aborted", |_, race: &Race| {
                race.decided().contains(&Fate::Aborted)
            }),
        ]
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

fn check(model: Register) {
    let checked = model.clone().checker().threads(threads()).spawn_bfs().join();
    println!("{model:?}: {} states", checked.unique_state_count());
    checked.assert_properties();
}

#[test]
fn one_steward_decides_once_however_often_it_is_tried() {
    check(Register { acceptors: 1, attempts: 2, fencing: Fencing::Promises, acceptances_heard: true });
}

#[test]
fn three_stewards_decide_once() {
    check(Register { acceptors: 3, attempts: 1, fencing: Fencing::Promises, acceptances_heard: false });
}

#[test]
fn without_promises_two_decisions_are_found() {
    let model = Register { acceptors: 3, attempts: 1, fencing: Fencing::None, acceptances_heard: false };
    let checked = model.checker().threads(threads()).spawn_bfs().join();
    let path = checked.discovery("one decision").expect("a register without fencing decides twice");
    println!("two decisions after {} steps", path.into_actions().len());
}
