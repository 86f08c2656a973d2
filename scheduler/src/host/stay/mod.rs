//! One slice's stay on this host, from offer to the last machine gone.
//!
//! Stages and who moves them: see the picture in [`super`]. A stay decides; the ledger's entry and the persisted
//! form are removed by the role when a call here answers with another [`Fate`] than `Stay`.

mod bound;
mod order;
mod stored;

use std::collections::BTreeMap;
use std::sync::Arc;

use bound::{Bound, Lease};
pub(super) use stored::StoredStage;

use crate::engine::context::Context;
use crate::engine::{Output, SliceEvent, StopReason};
use crate::identity::HostId;
use crate::ledger::Ledger;
use crate::limits::{DOUBT_READ_EVERY, RETRY_AFTER, drift_bound};
use crate::message::{Grants, Held, MachineReport, Reader, Reports, Verdict};
use crate::reader::{Read, ReadOutcome, RecordReader};
use crate::refusal::Refusal;
use crate::resources::Resources;
use crate::slice::charter::Founded;
use crate::slice::grant::GrantBytes;
use crate::slice::id::NetworkId;
use crate::slice::record::{Record, State};
use crate::units::Millis;

/// What becomes of a stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes on.
    Stay,
    /// It is over, and everything it held is free.
    Free,
    /// The same, and the stewards should know that its machines are gone.
    FreeAndRelease,
}

/// How often an order to stop is given again while the driver has not reported the machine gone.
const STOP_AGAIN: Millis = Millis::from_secs(5);

#[derive(Debug)]
pub(super) struct Stay {
    founded: Arc<Founded>,
    held: Resources,
    stage: Stage,
    reader: RecordReader,
    next_look: Millis,
    look_again: bool,
    /// Grants that came with the round under way.
    fresh_grants: BTreeMap<NetworkId, GrantBytes>,
}

#[derive(Debug)]
enum Stage {
    Offered { verdict: Verdict, until: Millis },
    Pledged { until: Millis, give_up: Millis },
    Bound(Box<Bound>),
    Leaving { machines: BTreeMap<u8, String>, reason: StopReason, after: Fate, stop_again: Millis },
}

impl Stay {
    pub(super) fn offered(founded: Arc<Founded>, verdict: Verdict, until: Millis) -> Self {
        let held = verdict.offer;
        Self::new(founded, held, Stage::Offered { verdict, until }, Millis(u64::MAX))
    }

    fn new(founded: Arc<Founded>, held: Resources, stage: Stage, next_look: Millis) -> Self {
        let reader = RecordReader::new(founded.slice, &founded.charter.stewards);
        Self { founded, held, stage, reader, next_look, look_again: false, fresh_grants: BTreeMap::new() }
    }

    pub(super) fn founded(&self) -> &Founded {
        &self.founded
    }

    pub(super) fn coordinator(&self) -> HostId {
        self.founded.charter.coordinator
    }

    /// What was offered, while it is no more than that.
    pub(super) const fn offer(&self) -> Option<&Verdict> {
        match &self.stage {
            Stage::Offered { verdict, .. } => Some(verdict),
            _ => None,
        }
    }

    pub(super) const fn is_offered(&self) -> bool {
        matches!(self.stage, Stage::Offered { .. })
    }

    /// Whether it is held for a coordinator who has not decided.
    pub(super) const fn is_undecided(&self) -> bool {
        matches!(self.stage, Stage::Offered { .. } | Stage::Pledged { .. })
    }

    pub(super) const fn is_stored(&self) -> bool {
        !self.is_offered()
    }

    /// The record, as far as it was read.
    pub(super) fn record(&self) -> Option<&Record> {
        match &self.stage {
            Stage::Bound(bound) => Some(&bound.record),
            Stage::Offered { .. } | Stage::Pledged { .. } | Stage::Leaving { .. } => {
                self.reader.known().map(|known| &known.value)
            }
        }
    }

    /// The end of a proved lease.
    pub(super) fn lease_until(&self) -> Option<Millis> {
        match &self.stage {
            Stage::Bound(bound) => match bound.lease {
                Lease::Until(until) => Some(until),
                Lease::Unproved { .. } => None,
            },
            Stage::Offered { .. } | Stage::Pledged { .. } | Stage::Leaving { .. } => None,
        }
    }

    /// How this host's machines fare.
    pub(super) fn reports(&self) -> Reports {
        match &self.stage {
            Stage::Bound(bound) => Reports::first_of(
                bound
                    .machines
                    .iter()
                    .map(|(machine, kept)| MachineReport { machine: *machine, state: kept.state.clone() }),
            ),
            Stage::Offered { .. } | Stage::Pledged { .. } | Stage::Leaving { .. } => Reports::new(),
        }
    }

    /// Becomes bound by the record.
    pub(super) fn pledge(
        &mut self,
        ctx: &mut Context<'_>,
        ledger: &mut Ledger,
        machines: u16,
        taken: Resources,
    ) -> Result<(), Refusal> {
        let until = match &self.stage {
            Stage::Pledged { .. } | Stage::Bound(_) => return Ok(()),
            Stage::Offered { until, .. } if *until > ctx.now => *until,
            Stage::Offered { .. } | Stage::Leaving { .. } => return Err(Refusal::HoldOver),
        };
        if !taken.fits(&self.held) || taken.machines != u64::from(machines) || machines == 0 {
            return Err(Refusal::HoldOver);
        }
        ledger.promise(self.founded.slice, taken).map_err(|_| Refusal::HoldOver)?;
        self.held = taken;
        let lease = self.founded.charter.spec.lease;
        self.stage = Stage::Pledged { until, give_up: until.plus(lease).plus(drift_bound(lease)) };
        self.plan_doubtful_look(ctx.now);
        self.persist(ctx);
        self.event(ctx, SliceEvent::Pledged);
        Ok(())
    }

    fn event(&self, ctx: &mut Context<'_>, event: SliceEvent) {
        let name = self.founded.charter.spec.name.clone();
        ctx.output(Output::Event { slice: self.founded.slice, name, event });
    }

    /// Reads the record now, or again as soon as the reading under way is over.
    pub(super) fn look_now(&mut self, ctx: &mut Context<'_>) {
        if self.reader.asked_at().is_some() {
            self.look_again = true;
        } else {
            self.look(ctx);
        }
    }

    fn look(&mut self, ctx: &mut Context<'_>) {
        if matches!(self.stage, Stage::Pledged { .. } | Stage::Bound(_)) {
            self.fresh_grants.clear();
            self.look_again = false;
            self.reader.ask(ctx, &Reader::Renewing(self.reports()));
        }
    }

    /// A steward answered.
    pub(super) fn handle_standing(
        &mut self,
        ctx: &mut Context<'_>,
        ledger: &mut Ledger,
        from: HostId,
        round: u64,
        held: Held,
        grants: &Grants,
    ) -> Fate {
        if !self.reader.awaits(from, round) {
            ctx.count("standing_not_asked_for");
            return Fate::Stay;
        }
        for (network, grant) in grants {
            self.fresh_grants.entry(*network).or_insert_with(|| grant.clone());
        }
        match self.reader.handle_standing(from, round, held, &Reports::new(), Millis::ZERO) {
            ReadOutcome::Waiting => Fate::Stay,
            ReadOutcome::Unsettled => {
                self.ask_to_settle(ctx);
                Fate::Stay
            }
            ReadOutcome::Decided(read) => {
                let fate = self.read(ctx, ledger, *read);
                if self.look_again && fate == Fate::Stay {
                    self.look(ctx);
                }
                fate
            }
        }
    }

    fn ask_to_settle(&self, ctx: &mut Context<'_>) {
        let abort = matches!(self.stage, Stage::Pledged { until, .. } if until <= ctx.now);
        self.reader.ask_to_settle(ctx, &self.founded.signed, abort);
    }

    fn read(&mut self, ctx: &mut Context<'_>, ledger: &mut Ledger, read: Read) -> Fate {
        if read.record.as_ref().is_some_and(|record| !record.belongs_to(&self.founded)) {
            ctx.count("read_foreign_record");
            return Fate::Stay;
        }
        match &self.stage {
            Stage::Pledged { .. } => self.read_pledged(ctx, ledger, read),
            Stage::Bound(_) => self.read_bound(ctx, read),
            Stage::Offered { .. } | Stage::Leaving { .. } => Fate::Stay,
        }
    }

    fn read_pledged(&mut self, ctx: &mut Context<'_>, ledger: &mut Ledger, read: Read) -> Fate {
        self.plan_doubtful_look(ctx.now);
        let Some(record) = read.record else { return Fate::Stay };
        match record.state {
            State::Forming if record.has_member(ctx.me) => Fate::Stay,
            State::Forming | State::Ended(_) | State::Aborted(_) => Fate::Free,
            State::Active if !record.has_member(ctx.me) => Fate::Free,
            State::Active => {
                let taken = record.taken_on(ctx.me);
                if !taken.fits(&self.held) || ledger.promise(self.founded.slice, taken).is_err() {
                    ctx.count("record_takes_more_than_pledged");
                    return Fate::FreeAndRelease;
                }
                self.held = taken;
                self.bind(ctx, record, read.sent_at);
                Fate::Stay
            }
        }
    }

    /// Now and then, at the moment the hold is over, and often after that.
    fn plan_doubtful_look(&mut self, now: Millis) {
        if let Stage::Pledged { until, .. } = self.stage {
            self.next_look =
                if until > now { now.plus(DOUBT_READ_EVERY).min(until) } else { now.plus(RETRY_AFTER) };
        }
    }

    /// When to come back.
    pub(super) fn poll_timeout(&self) -> Millis {
        let next_look = match self.reader.asked_at() {
            Some(asked_at) => asked_at.plus(RETRY_AFTER),
            None => self.next_look,
        };
        match &self.stage {
            Stage::Offered { until, .. } => *until,
            Stage::Pledged { give_up, .. } => next_look.min(*give_up),
            Stage::Bound(bound) => next_look.min(bound.lease.end()).min(bound.owner_until),
            Stage::Leaving { stop_again, .. } => *stop_again,
        }
    }

    /// What was due.
    pub(super) fn handle_timeout(&mut self, ctx: &mut Context<'_>) -> Fate {
        match &mut self.stage {
            Stage::Offered { until, .. } => return if *until <= ctx.now { Fate::Free } else { Fate::Stay },
            Stage::Pledged { give_up, .. } if *give_up <= ctx.now => {
                ctx.count("pledge_given_up_in_doubt");
                return Fate::Free;
            }
            Stage::Bound(bound) if bound.lease.end() <= ctx.now => {
                self.event(ctx, SliceEvent::LeaseLapsed);
                return self.leave(ctx, StopReason::LeaseLapsed, Fate::FreeAndRelease);
            }
            Stage::Bound(bound) if bound.owner_until <= ctx.now => {
                return self.leave(ctx, StopReason::OwnersTermOver, Fate::FreeAndRelease);
            }
            Stage::Leaving { machines, reason, stop_again, .. } => {
                *stop_again = ctx.now.plus(STOP_AGAIN);
                for (machine, id) in machines.iter() {
                    let (slice, machine, id) = (self.founded.slice, *machine, id.clone());
                    ctx.output(Output::Stop { slice, machine, id, reason: *reason });
                }
                return Fate::Stay;
            }
            Stage::Pledged { .. } | Stage::Bound(_) => {}
        }
        let hold_is_over = matches!(self.stage, Stage::Pledged { until, .. } if until <= ctx.now);
        if hold_is_over || self.reader.majority_disagrees() {
            self.ask_to_settle(ctx);
        }
        self.look(ctx);
        Fate::Stay
    }
}
