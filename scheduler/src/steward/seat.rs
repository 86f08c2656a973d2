//! One register at one steward: the acceptor's share of it, and the watch over its slice.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::stopwatch::Stopwatch;
use crate::engine::BootId;
use crate::engine::context::Context;
use crate::identity::HostId;
use crate::limits::{FORMING_MAX, RETRY_AFTER, SCAN_EVERY, TOMBSTONE_KEEP, drift_bound};
use crate::message::{
    AcceptorRefusal, Grants, Held, MachineReport, MachineState, Message, Reader, Reports, SliceHint,
};
use crate::register::{Accepted, Acceptor, Ballot, majority};
use crate::slice::change::Change;
use crate::slice::charter::{Founded, SignedCharter};
use crate::slice::grant;
use crate::slice::id::SliceId;
use crate::slice::record::{AbortReason, EndReason, LossReason, Record, Standing, State};
use crate::units::Millis;

/// What a watcher wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    /// This change.
    Change(Change),
    /// The register may be forgotten.
    Forget,
}

/// What a seat counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Times {
    /// Since it first knew of the slice.
    known: Stopwatch,
    /// Since it first accepted that the slice is active.
    active: Option<Stopwatch>,
    /// Since it first accepted that the slice is over.
    over: Option<Stopwatch>,
}

impl Times {
    /// Goes on in a new boot.
    fn carried(&self, stored_at: Millis, now: Millis) -> Self {
        let carried = |watch: Stopwatch| watch.carried(stored_at, now);
        Self { known: carried(self.known), active: self.active.map(carried), over: self.over.map(carried) }
    }
}

/// What is persisted of a seat.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StoredSeat {
    charter: SignedCharter,
    acceptor: Acceptor<Record>,
    times: Times,
    stored_at: Millis,
    boot: BootId,
}

impl StoredSeat {
    pub(crate) fn encode(&self) -> Vec<u8> {
        crate::stored::encode(self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        crate::stored::decode(bytes)
    }

    /// The slice, and what was accepted.
    pub(crate) fn into_accepted(self) -> (SliceId, Option<Accepted<Record>>) {
        (self.charter.slice(), self.acceptor.accepted().cloned())
    }
}

/// One register.
#[derive(Debug)]
pub(super) struct Seat {
    founded: Arc<Founded>,
    opened_by: HostId,
    acceptor: Acceptor<Record>,
    times: Times,
    /// When each member host last renewed here. A renewal counts only when it was answered with a value in which the
    /// host still has machines.
    heard: BTreeMap<HostId, Millis>,
    reports: BTreeMap<u8, MachineState>,
    comparing: Option<Comparing>,
    next_watch: Millis,
}

/// A question to the other stewards about hosts that seem lapsed here.
#[derive(Debug)]
struct Comparing {
    round: u64,
    /// By host, how many stewards (this one among them) have not heard it for too long.
    lapsed: BTreeMap<HostId, usize>,
    answered: Vec<HostId>,
}

/// An answer to a reader.
pub(super) struct Answer {
    pub(super) held: Held,
    pub(super) reports: Reports,
    pub(super) grants: Grants,
    pub(super) left: Millis,
    pub(super) charter: Option<Box<SignedCharter>>,
}

impl Answer {
    pub(super) const fn nothing(held: Held) -> Self {
        Self { held, reports: Reports::new(), grants: Grants::new(), left: Millis::ZERO, charter: None }
    }
}

impl Seat {
    pub(super) fn new(founded: Arc<Founded>, opened_by: HostId, now: Millis) -> Self {
        Self {
            founded,
            opened_by,
            acceptor: Acceptor::default(),
            times: Times { known: Stopwatch::started(now), active: None, over: None },
            heard: BTreeMap::new(),
            reports: BTreeMap::new(),
            comparing: None,
            next_watch: now.plus(FORMING_MAX),
        }
    }

    pub(super) fn restore(now: Millis, stored: StoredSeat, boot: BootId) -> Option<Self> {
        let founded = stored.charter.open().ok()?;
        let sound = stored.acceptor.accepted().is_none_or(|accepted| accepted.value.belongs_to(&founded));
        sound.then_some(())?;
        let same_boot = stored.boot == boot;
        let times = if same_boot { stored.times } else { stored.times.carried(stored.stored_at, now) };
        let coordinator = founded.charter.coordinator;
        let mut seat = Self::new(Arc::new(founded), coordinator, now);
        seat.acceptor = stored.acceptor;
        seat.times = times;
        seat.count_all_as_heard(now);
        seat.next_watch = now;
        Some(seat)
    }

    pub(super) fn stored(&self, now: Millis, boot: BootId) -> StoredSeat {
        StoredSeat {
            charter: self.founded.signed.clone(),
            acceptor: self.acceptor.clone(),
            times: self.times,
            stored_at: now,
            boot,
        }
    }

    pub(super) fn founded(&self) -> &Founded {
        &self.founded
    }

    pub(super) fn founded_arc(&self) -> Arc<Founded> {
        Arc::clone(&self.founded)
    }

    /// How long this steward has known of the slice.
    pub(super) const fn known_for(&self, now: Millis) -> Millis {
        self.times.known.elapsed(now)
    }

    fn record(&self) -> Option<&Record> {
        self.acceptor.accepted().map(|accepted| &accepted.value)
    }

    fn active(&self) -> Option<&Record> {
        self.record().filter(|record| record.state == State::Active)
    }

    /// Whether this host made us keep the register, and nothing was decided in it.
    pub(super) fn is_undecided_for(&self, host: HostId) -> bool {
        let undecided = self.record().is_none_or(|record| record.state == State::Forming);
        undecided && self.opened_by == host
    }

    /// Whether a host has, or had, a part in the slice.
    pub(super) fn takes_part(&self, host: HostId) -> bool {
        let charter = &self.founded.charter;
        let placed = |record: &Record| record.machines.iter().any(|machine| machine.host == host);
        charter.coordinator == host || charter.stewards.contains(&host) || self.record().is_some_and(placed)
    }

    /// Whether a host may have the register settled: who takes part, or, while nothing is known of who does, anyone
    /// who holds the charter.
    pub(super) fn may_settle(&self, host: HostId) -> bool {
        self.record().is_none() || self.takes_part(host)
    }

    pub(super) fn prepare(&mut self, ballot: Ballot) -> Result<Option<Accepted<Record>>, AcceptorRefusal> {
        self.check_round(ballot)?;
        self.acceptor.prepare(ballot).map(|accepted| accepted.cloned()).map_err(AcceptorRefusal::Promised)
    }

    /// Rounds go up by ones: who jumps far ahead wants to use them up, so that nobody can write any more.
    fn check_round(&self, ballot: Ballot) -> Result<(), AcceptorRefusal> {
        let ahead = ballot.round.saturating_sub(self.acceptor.promised().round);
        if ahead > ROUNDS_AHEAD_MAX { Err(AcceptorRefusal::NotAllowed) } else { Ok(()) }
    }

    /// Accepts a value, unless it declares a host lost that has renewed here within lease and drift bound.
    pub(super) fn accept(
        &mut self,
        now: Millis,
        ballot: Ballot,
        record: Record,
    ) -> Result<(), AcceptorRefusal> {
        self.check_round(ballot)?;
        self.acceptor.would_accept(ballot).map_err(AcceptorRefusal::Promised)?;
        let lapsed_in_it = |host: HostId| {
            let lost = Standing::Lost(LossReason::LeaseLapsed);
            record.machines.iter().any(|machine| machine.host == host && machine.standing == lost)
        };
        let alive = self.heard.iter().find(|(host, at)| lapsed_in_it(**host) && !self.has_lapsed(now, **at));
        if let Some((host, _)) = alive {
            return Err(AcceptorRefusal::HostAlive(*host));
        }
        let was_active = self.active().is_some();
        self.acceptor.accept(ballot, record).map_err(AcceptorRefusal::Promised)?;
        self.note_state(now, was_active);
        Ok(())
    }

    fn note_state(&mut self, now: Millis, was_active: bool) {
        let Some(state) = self.record().map(|record| record.state) else { return };
        if state == State::Active && !was_active {
            self.times.active.get_or_insert(Stopwatch::started(now));
            self.count_all_as_heard(now);
        }
        if state.is_final() {
            self.times.over.get_or_insert(Stopwatch::started(now));
        } else {
            // A value that was accepted and never decided may have said that it is over.
            self.times.over = None;
        }
        let members = self.active().map(Record::members).unwrap_or_default();
        self.heard.retain(|host, _| members.contains(host));
        self.next_watch = self.next_watch.min(now.plus(SCAN_EVERY));
    }

    fn count_all_as_heard(&mut self, now: Millis) {
        let members = self.active().map(Record::members).unwrap_or_default();
        self.heard = members.into_iter().map(|host| (host, now)).collect();
    }

    fn patience(&self) -> Millis {
        let lease = self.founded.charter.spec.lease;
        lease.plus(drift_bound(lease))
    }

    fn has_lapsed(&self, now: Millis, heard_at: Millis) -> bool {
        now.since(heard_at) >= self.patience()
    }

    /// Answers a reader, and counts a renewal.
    pub(super) fn read(
        &mut self,
        ctx: &mut Context<'_>,
        from: HostId,
        known: Option<Ballot>,
        reader: Reader,
    ) -> Answer {
        let over = self.record().is_some_and(|record| record.state.is_final());
        let allowed = match &reader {
            Reader::Renewing(_) | Reader::Looking => over || self.record().is_none() || self.takes_part(from),
            Reader::Tenant(order) => order.open(from).is_ok_and(|order| {
                let charter = &self.founded.charter;
                order.tenant == charter.tenant
                    && order.selector.selects(self.founded.slice, &charter.spec.name)
            }),
        };
        if !allowed {
            ctx.count("read_forbidden");
            return Answer::nothing(Held::Forbidden);
        }
        let Some(accepted) = self.acceptor.accepted() else { return Answer::nothing(Held::Empty) };
        let held = if known == Some(accepted.ballot) {
            Held::Same(accepted.ballot)
        } else {
            Held::Value(Box::new(accepted.clone()))
        };
        let (grants, charter) = match reader {
            Reader::Renewing(reports) => (self.renew(ctx, from, &reports), None),
            Reader::Looking | Reader::Tenant(_) => {
                (Grants::new(), Some(Box::new(self.founded.signed.clone())))
            }
        };
        let reports = self
            .reports
            .iter()
            .map(|(machine, state)| MachineReport { machine: *machine, state: state.clone() });
        Answer { held, reports: Reports::first_of(reports), grants, left: self.left(ctx.now), charter }
    }

    /// Counts a renewal of a member and issues its grants.
    fn renew(&mut self, ctx: &mut Context<'_>, from: HostId, reports: &Reports) -> Grants {
        let Some(record) = self.active().filter(|record| record.has_member(from)) else {
            return Grants::new();
        };
        let networks = record.networks.iter().enumerate();
        let mine = networks.filter(|(index, _)| record.hosts_on_network(*index).contains(&from));
        let issued = mine.filter_map(|(_, network)| {
            let grant = grant::issue(&ctx.config.keypair, ctx.me, record, network.id, from).ok()?;
            Some((network.id, grant))
        });
        let grants = Grants::first_of(issued.collect::<Vec<_>>());
        let of_host: Vec<u8> =
            record.placed_on(from).filter_map(|(index, _)| u8::try_from(index).ok()).collect();
        for report in reports.iter().filter(|report| of_host.contains(&report.machine)) {
            self.reports.insert(report.machine, report.state.clone());
        }
        self.heard.insert(from, ctx.now);
        grants
    }

    fn left(&self, now: Millis) -> Millis {
        let (Some(active), Some(record)) = (self.times.active, self.record()) else { return Millis::ZERO };
        record.term.since(active.elapsed(now))
    }

    /// A host gives its machines up. Says whether it has any.
    pub(super) fn release(&mut self, host: HostId) -> bool {
        self.active().is_some_and(|record| record.has_member(host))
    }

    /// How long ago each member renewed here.
    pub(super) fn ages(&self, now: Millis) -> Vec<(HostId, Millis)> {
        self.heard.iter().map(|(host, at)| (*host, now.since(*at))).collect()
    }

    pub(super) fn hint(&self) -> Option<SliceHint> {
        let record = self.record()?;
        Some(SliceHint {
            slice: record.slice,
            name: record.name.clone(),
            tenant: record.tenant,
            stewards: record.stewards.clone(),
            state: record.state,
            version: record.version,
        })
    }

    /// When to come back.
    pub(super) const fn poll_timeout(&self) -> Millis {
        self.next_watch
    }

    /// Looks after the slice.
    pub(super) fn handle_timeout(&mut self, ctx: &mut Context<'_>) -> Vec<Wish> {
        let now = ctx.now;
        let turn = self.turn(ctx.me);
        let Some(record) = self.record() else {
            // Promised and never written: as good as a tombstone, once nothing can be on its way any more.
            let forget_at = self.times.known.reaches(TOMBSTONE_KEEP);
            self.next_watch = forget_at;
            return if forget_at <= now { vec![Wish::Forget] } else { Vec::new() };
        };
        match record.state {
            State::Ended(_) | State::Aborted(_) => {
                let over = self.times.over.unwrap_or(Stopwatch::started(now));
                let forget_at = over.reaches(TOMBSTONE_KEEP);
                self.next_watch = forget_at;
                if forget_at <= now { vec![Wish::Forget] } else { Vec::new() }
            }
            State::Forming => {
                let abandoned_at = self.times.known.reaches(FORMING_MAX).plus(turn);
                self.next_watch = again_or(now, abandoned_at);
                let abandon = Wish::Change(Change::Abort(AbortReason::Abandoned));
                if abandoned_at <= now { vec![abandon] } else { Vec::new() }
            }
            State::Active => {
                let active = self.times.active.unwrap_or(Stopwatch::started(now));
                let over_at = active.reaches(record.term).plus(turn);
                let lapse_at = |at: &Millis| at.plus(self.patience()).plus(turn);
                let first_lapse = self.heard.values().map(lapse_at).min().unwrap_or(Millis(u64::MAX));
                self.next_watch = again_or(now, over_at.min(first_lapse));
                if over_at <= now {
                    return vec![Wish::Change(Change::End(EndReason::TermOver))];
                }
                if first_lapse <= now { self.compare(ctx) } else { Vec::new() }
            }
        }
    }

    /// Stewards act one after another, by their place in the charter.
    fn turn(&self, me: HostId) -> Millis {
        let place = self.founded.charter.stewards.iter().position(|steward| *steward == me).unwrap_or(0);
        Millis(TURN.0.saturating_mul(u64::try_from(place).unwrap_or(0)))
    }

    /// Some hosts seem lapsed here: asks the other stewards whether they think so too.
    fn compare(&mut self, ctx: &mut Context<'_>) -> Vec<Wish> {
        use rand_core::Rng;
        let round = ctx.rng.next_u64();
        let lapsed =
            self.heard.iter().filter(|(_, at)| self.has_lapsed(ctx.now, **at)).map(|(host, _)| (*host, 1));
        self.comparing = Some(Comparing { round, lapsed: lapsed.collect(), answered: vec![ctx.me] });
        let me = ctx.me;
        for steward in self.founded.charter.stewards.iter().filter(|steward| **steward != me) {
            ctx.send(*steward, Message::Heard { slice: self.founded.slice, round });
        }
        self.lost_hosts()
    }

    /// Another steward answered.
    pub(super) fn heard_ago(
        &mut self,
        now: Millis,
        from: HostId,
        round: u64,
        ages: &[(HostId, Millis)],
    ) -> Vec<Wish> {
        let patience = self.patience();
        let is_steward = self.founded.charter.stewards.contains(&from);
        let Some(comparing) = self.comparing.as_mut().filter(|comparing| comparing.round == round) else {
            return Vec::new();
        };
        if !is_steward || comparing.answered.contains(&from) {
            return Vec::new();
        }
        comparing.answered.push(from);
        for (host, lapsed) in &mut comparing.lapsed {
            match ages.iter().find(|(other, _)| other == host) {
                Some((_, age)) if *age >= patience => *lapsed += 1,
                // It renews elsewhere: it counts as heard here as long ago as there.
                Some((_, age)) => {
                    if let Some(at) = self.heard.get_mut(host) {
                        *at = (*at).max(Millis(now.0.saturating_sub(age.0)));
                    }
                }
                // The other steward does not count it as a member: it has not renewed there.
                None => *lapsed += 1,
            }
        }
        self.lost_hosts()
    }

    /// The hosts that a majority of stewards has not heard for too long, as one change.
    fn lost_hosts(&self) -> Vec<Wish> {
        let Some(comparing) = &self.comparing else { return Vec::new() };
        let needed = majority(self.founded.charter.stewards.len());
        let lost = comparing.lapsed.iter().filter(|(_, lapsed)| **lapsed >= needed);
        let lost: Vec<HostId> = lost.map(|(host, _)| *host).collect();
        if lost.is_empty() {
            Vec::new()
        } else {
            vec![Wish::Change(Change::Lose(lost, LossReason::LeaseLapsed))]
        }
    }
}

/// How far a ballot's round may be ahead of what was promised: more attempts than one steward can have missed.
const ROUNDS_AHEAD_MAX: u64 = 1 << 16;

/// How long the next steward in the charter waits for the one before it to act: a round trip or two.
const TURN: Millis = Millis(150);

/// At `due`, or, when that has passed and what was due has been begun, when its outcome should be known.
fn again_or(now: Millis, due: Millis) -> Millis {
    if due > now { due } else { now.plus(SCAN_EVERY).plus(RETRY_AFTER) }
}
