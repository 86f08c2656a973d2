//! Reading one slice's record from its stewards, again and again.
//!
//! A round asks all stewards at once. It ends well when a majority answers with the same ballot; what counts
//! for a lease is when the round was *sent*. A round that does not end well is replaced by the next; when a majority
//! answered but does not agree, a steward is asked to settle the register first.

use std::collections::BTreeMap;

use crate::engine::context::Context;
use crate::identity::HostId;
use crate::message::{Held, MachineState, Message, Reader, Reports};
use crate::register::{Accepted, Ballot, Reading, Seen};
use crate::slice::charter::{Founded, SignedCharter};
use crate::slice::id::SliceId;
use crate::slice::record::Record;
use crate::units::Millis;

/// Reads one record.
#[derive(Debug, Clone)]
pub(crate) struct RecordReader {
    slice: SliceId,
    stewards: Vec<HostId>,
    known: Option<Accepted<Record>>,
    round: Option<Round>,
}

#[derive(Debug, Clone)]
struct Round {
    id: u64,
    sent_at: Millis,
    reading: Reading<HostId, Record>,
    forbidden: usize,
    reports: BTreeMap<u8, MachineState>,
    left: Millis,
}

/// What a steward's answer led to.
#[derive(Debug)]
pub(crate) enum ReadOutcome {
    /// Nothing yet.
    Waiting,
    /// A majority agrees.
    Decided(Box<Read>),
    /// All have answered and no majority agrees.
    Unsettled,
}

/// A record that was read.
#[derive(Debug)]
pub(crate) struct Read {
    /// When the question was sent.
    pub(crate) sent_at: Millis,
    /// The value; none when the register is empty or not there.
    pub(crate) record: Option<Record>,
    /// Whether a steward knew the slice and would not show it.
    pub(crate) forbidden: bool,
    /// What stewards heard of the machines.
    pub(crate) reports: Reports,
    /// The least that a steward counts as left of the term.
    pub(crate) left: Millis,
}

impl RecordReader {
    pub(crate) fn new(slice: SliceId, stewards: &[HostId]) -> Self {
        Self { slice, stewards: stewards.to_vec(), known: None, round: None }
    }

    /// Whether these are the slice and the stewards that are read.
    pub(crate) fn reads(&self, founded: &Founded) -> bool {
        self.slice == founded.slice && self.stewards[..] == founded.charter.stewards[..]
    }

    /// When the round under way was sent.
    pub(crate) fn asked_at(&self) -> Option<Millis> {
        self.round.as_ref().map(|round| round.sent_at)
    }

    /// The ballot and value read last.
    pub(crate) const fn known(&self) -> Option<&Accepted<Record>> {
        self.known.as_ref()
    }

    /// Whether this is an answer to the question under way, from one of those that were asked.
    pub(crate) fn awaits(&self, from: HostId, round_id: u64) -> bool {
        self.round.as_ref().is_some_and(|round| round.id == round_id) && self.stewards.contains(&from)
    }

    /// Begins a round, in place of one that is under way.
    pub(crate) fn ask(&mut self, ctx: &mut Context<'_>, reader: &Reader) {
        use rand_core::Rng;
        let id = ctx.rng.next_u64();
        let known: Option<Ballot> = self.known.as_ref().map(|known| known.ballot);
        self.round = Some(Round {
            id,
            sent_at: ctx.now,
            reading: Reading::new(self.stewards.len()),
            forbidden: 0,
            reports: BTreeMap::new(),
            left: Millis(u64::MAX),
        });
        for steward in &self.stewards {
            let message = Message::Read { slice: self.slice, round: id, known, reader: reader.clone() };
            ctx.send(*steward, message);
        }
    }

    /// Asks one steward, another one each time, to settle the register.
    pub(crate) fn ask_to_settle(&self, ctx: &mut Context<'_>, charter: &SignedCharter, abort: bool) {
        let Ok(count) = u64::try_from(self.stewards.len()) else { return };
        let index = usize::try_from(ctx.below(count)).unwrap_or(0);
        if let Some(steward) = self.stewards.get(index) {
            ctx.send(*steward, Message::Settle { charter: Box::new(charter.clone()), abort });
        }
    }

    /// Whether a majority has answered the round under way without agreeing.
    pub(crate) fn majority_disagrees(&self) -> bool {
        self.round.as_ref().is_some_and(|round| round.reading.majority_answered())
    }

    /// A steward answered.
    pub(crate) fn handle_standing(
        &mut self,
        from: HostId,
        round_id: u64,
        held: Held,
        reports: &Reports,
        left: Millis,
    ) -> ReadOutcome {
        if !self.awaits(from, round_id) {
            return ReadOutcome::Waiting;
        }
        let Some(round) = &mut self.round else { return ReadOutcome::Waiting };
        let accepted = match held {
            Held::Empty | Held::Unknown => None,
            Held::Forbidden => {
                round.forbidden += 1;
                None
            }
            Held::Same(ballot) => match self.known.as_ref().filter(|known| known.ballot == ballot) {
                Some(known) => Some(known.clone()),
                None => return ReadOutcome::Waiting,
            },
            Held::Value(accepted) if accepted.value.slice == self.slice => Some(*accepted),
            Held::Value(_) => return ReadOutcome::Waiting,
        };
        for report in reports {
            let known = round.reports.entry(report.machine).or_insert(MachineState::Placed);
            if rank(&report.state) > rank(known) {
                *known = report.state.clone();
            }
        }
        round.left = round.left.min(left);
        match round.reading.answered(from, accepted) {
            Seen::Waiting => ReadOutcome::Waiting,
            Seen::Unsettled => ReadOutcome::Unsettled,
            Seen::Decided(accepted) => {
                let reports = std::mem::take(&mut round.reports)
                    .into_iter()
                    .map(|(machine, state)| crate::message::MachineReport { machine, state });
                let read = Read {
                    sent_at: round.sent_at,
                    record: accepted.as_ref().map(|accepted| accepted.value.clone()),
                    forbidden: round.forbidden > 0,
                    reports: Reports::first_of(reports),
                    left: round.left,
                };
                self.round = None;
                if accepted.is_some() {
                    self.known = accepted;
                }
                ReadOutcome::Decided(Box::new(read))
            }
        }
    }
}

/// A machine only ever goes forward, so the furthest report is the latest.
const fn rank(state: &MachineState) -> u8 {
    match state {
        MachineState::Placed => 0,
        MachineState::Starting => 1,
        MachineState::Running => 2,
        MachineState::Failed(_) => 3,
        MachineState::Stopped => 4,
    }
}
