//! The bound part of a stay: the lease, the machines, what the switch is told, and leaving.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::order::order;
use super::{Fate, STOP_AGAIN, Stage, Stay};
use crate::engine::context::Context;
use crate::engine::{DriverReport, Output, SliceEvent, StopReason};
use crate::limits::{READINGS_PER_LEASE, drift_bound};
use crate::message::MachineState;
use crate::reader::Read;
use crate::slice::grant::GrantBytes;
use crate::slice::id::NetworkId;
use crate::slice::record::Record;
use crate::slice::view::{SliceNetworks, machine_id};
use crate::units::Millis;

#[derive(Debug)]
pub(super) struct Bound {
    pub(super) record: Record,
    /// The owner gives no longer than this, however long the tenant makes the term.
    pub(super) owner_until: Millis,
    pub(super) lease: Lease,
    pub(super) machines: BTreeMap<u8, Kept>,
    pub(super) grants: BTreeMap<NetworkId, GrantBytes>,
}

/// How sure this host is of its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lease {
    /// A majority of stewards answered a question sent one lease before this.
    Until(Millis),
    /// After a restart: unknown; given up at this time if no majority answers. Machines end by the deadline they were
    /// given before.
    Unproved { give_up: Millis },
}

impl Lease {
    pub(super) const fn end(self) -> Millis {
        match self {
            Self::Until(until) => until,
            Self::Unproved { give_up } => give_up,
        }
    }
}

#[derive(Debug)]
pub(super) struct Kept {
    pub(super) state: MachineState,
    /// Whether the order to start it is still to be given, once the lease is proved.
    pub(super) to_start: bool,
}

impl Stay {
    /// The decision: the machines are this host's to run.
    pub(super) fn bind(&mut self, ctx: &mut Context<'_>, record: Record, sent_at: Millis) {
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

    pub(super) fn read_bound(&mut self, ctx: &mut Context<'_>, read: Read) -> Fate {
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
    pub(super) fn leave(&mut self, ctx: &mut Context<'_>, reason: StopReason, after: Fate) -> Fate {
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
    pub(in crate::host) fn handle_report(
        &mut self,
        ctx: &mut Context<'_>,
        machine: u8,
        report: DriverReport,
    ) -> Fate {
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
}
