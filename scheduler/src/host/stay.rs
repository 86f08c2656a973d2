//! One slice's stay on this host, from offer to the last machine gone.
//!
//! Stages and who moves them: see the picture in [`super`]. A stay decides; the ledger's entry and the persisted
//! form are removed by the role when a call here answers with another [`Fate`] than `Stay`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{StoredStay, key};
use crate::bounded::List;
use crate::engine::context::Context;
use crate::engine::{BootId, DriverReport, InterfaceOrder, MachineOrder, Output, SliceEvent, StopReason};
use crate::identity::HostId;
use crate::ledger::Ledger;
use crate::limits::{DOUBT_READ_EVERY, MACHINES_MAX, READINGS_PER_LEASE, RETRY_AFTER, drift_bound};
use crate::message::{Grants, Held, MachineReport, MachineState, Reader, Reports, Verdict};
use crate::reader::{Read, ReadOutcome, RecordReader};
use crate::refusal::Refusal;
use crate::resources::Resources;
use crate::slice::charter::Founded;
use crate::slice::grant::GrantBytes;
use crate::slice::id::NetworkId;
use crate::slice::record::{Machine, Record, State};
use crate::slice::view::{SliceNetworks, machine_id};
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

#[derive(Debug)]
struct Bound {
    record: Record,
    /// The owner gives no longer than this, however long the tenant makes the term.
    owner_until: Millis,
    lease: Lease,
    machines: BTreeMap<u8, Kept>,
    grants: BTreeMap<NetworkId, GrantBytes>,
}

/// How sure this host is of its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lease {
    /// A majority of stewards answered a question sent one lease before this.
    Until(Millis),
    /// After a restart: unknown; given up at this time if no majority answers. Machines end by the deadline they were
    /// given before.
    Unproved { give_up: Millis },
}

impl Lease {
    const fn end(self) -> Millis {
        match self {
            Self::Until(until) => until,
            Self::Unproved { give_up } => give_up,
        }
    }
}

#[derive(Debug)]
struct Kept {
    state: MachineState,
    /// Whether the order to start it is still to be given, once the lease is proved.
    to_start: bool,
}

/// What is persisted of a stage.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum StoredStage {
    Pledged { until: Millis },
    Bound { record: Box<Record>, owner_until: Millis, machines: List<(u8, MachineState), MACHINES_MAX> },
}

impl StoredStage {
    pub(super) fn belongs_to(&self, founded: &Founded) -> bool {
        match self {
            Self::Pledged { .. } => true,
            Self::Bound { record, .. } => record.belongs_to(founded),
        }
    }
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

    /// Takes up a stay after a restart of the daemon, or of the host.
    pub(super) fn restore(
        ctx: &mut Context<'_>,
        founded: Arc<Founded>,
        held: Resources,
        stored: StoredStage,
        stored_in: BootId,
    ) -> (Self, Fate) {
        let (now, same_boot) = (ctx.now, stored_in == ctx.config.boot);
        let lease = founded.charter.spec.lease;
        match stored {
            StoredStage::Pledged { until } => {
                // A new boot's clock began anew: the hold is treated as over.
                let until = if same_boot { until } else { now };
                let give_up = until.max(now).plus(lease).plus(drift_bound(lease));
                (Self::new(founded, held, Stage::Pledged { until, give_up }, now), Fate::Stay)
            }
            StoredStage::Bound { record, owner_until, machines } => {
                let bound = Bound {
                    record: *record,
                    owner_until,
                    lease: Lease::Unproved { give_up: now.plus(lease) },
                    machines: BTreeMap::new(),
                    grants: BTreeMap::new(),
                };
                let mut stay = Self::new(founded, held, Stage::Bound(Box::new(bound)), now);
                if !same_boot {
                    return (stay, Fate::FreeAndRelease);
                }
                stay.take_up_machines(ctx, &machines);
                (stay, Fate::Stay)
            }
        }
    }

    fn take_up_machines(&mut self, ctx: &mut Context<'_>, stored: &[(u8, MachineState)]) {
        let founded = Arc::clone(&self.founded);
        let Stage::Bound(bound) = &mut self.stage else { return };
        let networks = SliceNetworks::new(&bound.record, ctx.me, &[], ctx.now);
        ctx.output(Output::Networks(Box::new(networks)));
        for (index, state) in stored {
            let ran = *state == MachineState::Running;
            let to_start = matches!(state, MachineState::Placed | MachineState::Starting);
            if ran && let Some(machine) = bound.record.machines.get(usize::from(*index)) {
                let order = order(&founded, &bound.record, *index, machine, ctx.now);
                ctx.output(Output::Adopt(Box::new(order)));
            }
            bound.machines.insert(*index, Kept { state: state.clone(), to_start });
        }
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

    fn persist(&self, ctx: &mut Context<'_>) {
        let stage = match &self.stage {
            Stage::Pledged { until, .. } => StoredStage::Pledged { until: *until },
            Stage::Bound(bound) => StoredStage::Bound {
                record: Box::new(bound.record.clone()),
                owner_until: bound.owner_until,
                machines: List::first_of(
                    bound.machines.iter().map(|(index, kept)| (*index, kept.state.clone())),
                ),
            },
            // An offer is forgotten by a restart, and a stay that is leaving comes back as bound and leaves again.
            Stage::Offered { .. } | Stage::Leaving { .. } => return,
        };
        let stored = StoredStay {
            charter: self.founded.signed.clone(),
            held: self.held,
            stage,
            boot: ctx.config.boot,
        };
        let value = postcard::to_stdvec(&stored).expect("a stay holds nothing postcard cannot write");
        ctx.output(Output::Persist { key: key(self.founded.slice), value: Some(value) });
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
    #[expect(clippy::too_many_arguments, reason = "the fields of one message")]
    pub(super) fn handle_standing(
        &mut self,
        ctx: &mut Context<'_>,
        ledger: &mut Ledger,
        from: HostId,
        round: u64,
        held: Held,
        grants: &Grants,
        reports: &Reports,
    ) -> Fate {
        for (network, grant) in grants {
            self.fresh_grants.entry(*network).or_insert_with(|| grant.clone());
        }
        match self.reader.handle_standing(from, round, held, reports, Millis::ZERO) {
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

    /// The decision: the machines are this host's to run.
    fn bind(&mut self, ctx: &mut Context<'_>, record: Record, sent_at: Millis) {
        let machines = record
            .placed_on(ctx.me)
            .filter_map(|(index, _)| u8::try_from(index).ok())
            .map(|index| (index, Kept { state: MachineState::Placed, to_start: true }));
        // The stewards end the slice first, if its term is the owner's longest: they count from a little earlier.
        let slack = record.lease.plus(drift_bound(record.lease));
        let bound = Bound {
            owner_until: ctx.now.plus(ctx.config.share.term_max).plus(slack),
            lease: Lease::Until(sent_at.plus(record.lease)),
            machines: machines.collect(),
            grants: std::mem::take(&mut self.fresh_grants),
            record,
        };
        self.stage = Stage::Bound(Box::new(bound));
        self.persist(ctx);
        self.announce_events(ctx, 0);
        self.announce_networks(ctx);
        self.announce_lease(ctx);
        self.start_machines(ctx);
        self.plan_next_look(sent_at);
    }

    /// Now and then, at the moment the hold is over, and often after that.
    fn plan_doubtful_look(&mut self, now: Millis) {
        if let Stage::Pledged { until, .. } = self.stage {
            self.next_look =
                if until > now { now.plus(DOUBT_READ_EVERY).min(until) } else { now.plus(RETRY_AFTER) };
        }
    }

    fn plan_next_look(&mut self, sent_at: Millis) {
        let lease = self.founded.charter.spec.lease;
        self.next_look = sent_at.plus(Millis(lease.0 / READINGS_PER_LEASE));
    }

    fn announce_events(&self, ctx: &mut Context<'_>, known_version: u64) {
        let Stage::Bound(bound) = &self.stage else { return };
        for event in bound.record.events.iter().filter(|event| event.version > known_version) {
            self.event(ctx, SliceEvent::record(event));
        }
    }

    fn announce_networks(&self, ctx: &mut Context<'_>) {
        let Stage::Bound(bound) = &self.stage else { return };
        let grants: Vec<_> = bound.grants.iter().map(|(network, grant)| (*network, grant.clone())).collect();
        let networks = SliceNetworks::new(&bound.record, ctx.me, &grants, bound.lease.end());
        ctx.output(Output::Networks(Box::new(networks)));
    }

    fn announce_lease(&self, ctx: &mut Context<'_>) {
        if let Some(until) = self.lease_until() {
            ctx.output(Output::Lease { slice: self.founded.slice, until });
        }
    }

    /// Gives the orders to start that waited for a proved lease.
    fn start_machines(&mut self, ctx: &mut Context<'_>) {
        let founded = Arc::clone(&self.founded);
        let Stage::Bound(bound) = &mut self.stage else { return };
        let until = bound.lease.end();
        for (index, kept) in bound.machines.iter_mut().filter(|(_, kept)| kept.to_start) {
            let Some(machine) = bound.record.machines.get(usize::from(*index)) else { continue };
            kept.to_start = false;
            kept.state = MachineState::Starting;
            ctx.output(Output::Start(Box::new(order(&founded, &bound.record, *index, machine, until))));
        }
    }

    fn read_bound(&mut self, ctx: &mut Context<'_>, read: Read) -> Fate {
        let Some(record) = read.record else {
            // The stewards have forgotten the slice, or do not count this host in.
            let reason = if read.forbidden { StopReason::DeclaredLost } else { StopReason::SliceOver };
            return self.leave(ctx, reason, Fate::Free);
        };
        let known_version = self.record().map_or(0, |known| known.version);
        if record.version < known_version {
            ctx.count("read_older_record");
            return Fate::Stay;
        }
        let over = record.state.is_final();
        let member = record.has_member(ctx.me);
        let changed = record.version > known_version;
        let mut gained_grants = false;
        if let Stage::Bound(bound) = &mut self.stage {
            let lease = record.lease;
            bound.record = record;
            let until = read.sent_at.plus(lease);
            if until > ctx.now {
                bound.lease = Lease::Until(until);
            }
            gained_grants = bound.grants.is_empty() && !self.fresh_grants.is_empty();
            if changed || gained_grants {
                bound.grants.extend(std::mem::take(&mut self.fresh_grants));
            }
        }
        if changed {
            self.announce_events(ctx, known_version);
        }
        if over {
            return self.leave(ctx, StopReason::SliceOver, Fate::Free);
        }
        if !member {
            return self.leave(ctx, StopReason::DeclaredLost, Fate::Free);
        }
        if changed {
            self.persist(ctx);
        }
        if changed || gained_grants {
            self.announce_networks(ctx);
        }
        self.announce_lease(ctx);
        if self.lease_until().is_some() {
            self.start_machines(ctx);
        }
        self.plan_next_look(read.sent_at);
        Fate::Stay
    }

    /// Stops everything and goes.
    fn leave(&mut self, ctx: &mut Context<'_>, reason: StopReason, after: Fate) -> Fate {
        let Stage::Bound(bound) = &self.stage else { return after };
        let slice = self.founded.slice;
        let name_of = |index: &u8| {
            let machine = bound.record.machines.get(usize::from(*index))?;
            Some((*index, machine_id(slice, machine.name.as_str())))
        };
        let machines: BTreeMap<u8, String> = bound.machines.keys().filter_map(name_of).collect();
        ctx.output(Output::NetworksGone(slice));
        for (machine, id) in &machines {
            ctx.output(Output::Stop { slice, machine: *machine, id: id.clone(), reason });
        }
        if machines.is_empty() {
            return after;
        }
        self.stage = Stage::Leaving { machines, reason, after, stop_again: ctx.now.plus(STOP_AGAIN) };
        Fate::Stay
    }

    /// The driver says how a machine fares.
    pub(super) fn handle_report(&mut self, ctx: &mut Context<'_>, machine: u8, report: DriverReport) -> Fate {
        match &mut self.stage {
            Stage::Bound(bound) => {
                let Some(kept) = bound.machines.get_mut(&machine) else { return Fate::Stay };
                let state = match report {
                    DriverReport::Running => MachineState::Running,
                    DriverReport::Failed(why) => MachineState::Failed(why),
                    DriverReport::Gone => MachineState::Failed(crate::bounded::Text::cut("it is gone")),
                };
                if kept.state != state {
                    kept.state = state;
                    self.persist(ctx);
                    self.look_now(ctx);
                }
                Fate::Stay
            }
            Stage::Leaving { machines, after, .. } => {
                if report == DriverReport::Gone {
                    machines.remove(&machine);
                }
                if machines.is_empty() { *after } else { Fate::Stay }
            }
            Stage::Offered { .. } | Stage::Pledged { .. } => Fate::Stay,
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

fn order(
    founded: &Founded,
    record: &Record,
    index: u8,
    machine: &Machine,
    lease_until: Millis,
) -> MachineOrder {
    let group = &founded.charter.spec.groups[usize::from(machine.group)];
    let interfaces = machine.interfaces.iter().filter_map(|nic| {
        let network = record.networks.get(usize::from(nic.network))?;
        Some(InterfaceOrder {
            network: network.id,
            network_name: network.name.clone(),
            mac: nic.mac,
            ipv4: nic.ipv4.zip(network.ipv4),
            ipv6: nic.ipv6.zip(network.ipv6),
        })
    });
    let shares = |network: u8| machine.interfaces.iter().any(|nic| nic.network == network);
    let peers = record.machines.iter().filter_map(|peer| {
        let nics = peer.interfaces.iter().filter(|nic| shares(nic.network));
        let addresses: Vec<IpAddr> = nics
            .flat_map(|nic| nic.ipv4.map(IpAddr::V4).into_iter().chain(nic.ipv6.map(IpAddr::V6)))
            .collect();
        (!addresses.is_empty()).then(|| (peer.name.to_string(), addresses))
    });
    MachineOrder {
        slice: record.slice,
        slice_name: record.name.clone(),
        machine: index,
        id: machine_id(record.slice, machine.name.as_str()),
        hostname: machine.name.to_string(),
        group: group.name.clone(),
        category: machine.category,
        image: group.image.clone(),
        size: machine.size,
        run: group.run.iter().map(ToString::to_string).collect(),
        interfaces: interfaces.collect(),
        peers: peers.collect(),
        lease_until,
    }
}
