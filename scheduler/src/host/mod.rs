//! This host's part in slices: it offers, holds, is bound, renews, stops.
//!
//! ```text
//!           Ask                Pledge                 record: Active, I am a member
//!  (none) ──────▶ Offered ───────────────▶ Pledged ───────────────────────────────▶ Bound
//!                    │ hold over, Cancel      │ record: Aborted, Ended; Cancel         │ record: over, or I am lost;
//!                    ▼                        ▼ (or in doubt too long)                 ▼ lease ran out
//!                  (none)                   (none)                                  Leaving ──all gone──▶ (none)
//! ```
//! *Offered* is a promise to the coordinator alone, and lapses by this host's own clock. *Pledged* is a promise to the
//! record: it is durable before it is answered, and only the record frees it: when the hold is over, the host asks a
//! steward to move Forming → Aborted and reads what came of it. If no steward can be reached for another lease and drift
//! bound, the host gives up its place: by then, had the slice become active, the stewards would have declared this host
//! lost. *Bound* lasts as long as the record says so and the lease is renewed by reading it. The ledger's entry goes
//! last, when the driver has reported every machine gone.

mod admission;
mod stay;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::engine::context::Context;
use crate::engine::{BootId, DriverReport, Output, Share, SliceEvent};
use crate::identity::HostId;
use crate::ledger::Ledger;
use crate::limits::{HOLD_MAX, HOLDS_PER_COORDINATOR_MAX, HOST_SLICES_MAX};
use crate::message::{AskKind, Grants, Held, Message, Reports, SliceHint, Verdict};
use crate::refusal::Refusal;
use crate::resources::Resources;
use crate::slice::charter::{Founded, SignedCharter};
use crate::slice::grant::{self, GrantRefusal};
use crate::slice::id::{NetworkId, SliceId};
use crate::slice::record::{Record, State};
use crate::units::Millis;
pub(crate) use admission::judge;
use stay::{Fate, Stay, StoredStage};

/// The prefix of the keys this room persists.
pub(crate) const KEY_PREFIX: &str = "host/";

/// All slices this host takes part in, and its ledger.
#[derive(Debug)]
pub(crate) struct HostRole {
    pub(crate) ledger: Ledger,
    stays: BTreeMap<SliceId, Stay>,
}

/// What is persisted of a stay: enough to know, after a restart, what was promised and what may still run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StoredStay {
    charter: SignedCharter,
    held: Resources,
    stage: StoredStage,
    boot: BootId,
}

impl StoredStay {
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        crate::stored::decode(bytes)
    }
}

impl HostRole {
    pub(crate) const fn new(share: &Share) -> Self {
        Self { ledger: Ledger::new(share.limit), stays: BTreeMap::new() }
    }

    /// Takes up a stay after a restart.
    pub(crate) fn restore(&mut self, ctx: &mut Context<'_>, stored: StoredStay) -> Option<()> {
        let founded = Arc::new(stored.charter.open().ok()?);
        let slice = founded.slice;
        stored.stage.belongs_to(&founded).then_some(())?;
        self.ledger.restore(slice, stored.held);
        let (stay, fate) = Stay::restore(ctx, founded, stored.held, stored.stage, stored.boot);
        self.stays.insert(slice, stay);
        self.settle_fate(ctx, slice, fate);
        Some(())
    }

    /// A coordinator asks for room, for so many machines. `name_is_taken` says what this host knows beyond its own stays.
    pub(crate) fn handle_ask(
        &mut self,
        ctx: &mut Context<'_>,
        from: HostId,
        charter: SignedCharter,
        (machines, kind): (u16, AskKind),
        name_is_taken: impl Fn(&Founded) -> bool,
    ) {
        let slice = charter.slice();
        let verdict = match self.stays.get(&slice) {
            Some(stay) => match stay.offer() {
                Some(verdict) if kind != AskKind::Plan => verdict.clone(),
                _ => return,
            },
            None => self.admit(ctx, from, charter, (machines, kind), name_is_taken),
        };
        for refusal in &verdict.refusals {
            ctx.count(refusal.code());
        }
        ctx.send(from, Message::Answer { slice, kind, verdict });
    }

    fn admit(
        &mut self,
        ctx: &mut Context<'_>,
        from: HostId,
        charter: SignedCharter,
        (machines, kind): (u16, AskKind),
        name_is_taken: impl Fn(&Founded) -> bool,
    ) -> Verdict {
        let undecided = |stay: &&Stay| stay.is_undecided() && stay.coordinator() == from;
        if self.stays.len() >= HOST_SLICES_MAX {
            return Verdict::refusing(Refusal::HostFull);
        }
        if self.stays.values().filter(undecided).count() >= HOLDS_PER_COORDINATOR_MAX {
            return Verdict::refusing(Refusal::TooManyHolds);
        }
        let founded = match charter.open() {
            Ok(founded) if founded.charter.coordinator == from => Arc::new(founded),
            _ => return Verdict::refusing(Refusal::BadCharter),
        };
        let has_same_name = |hint: SliceHint| hint.is_living_namesake_of(&founded);
        if self.hints().any(has_same_name) || name_is_taken(&founded) {
            return Verdict::refusing(Refusal::NameTaken);
        }
        let verdict = judge(&founded.charter, ctx.config, &self.ledger, machines);
        let AskKind::Reserve(hold) = kind else { return verdict };
        if !verdict.offers() {
            return verdict;
        }
        let slice = founded.slice;
        if let Err(short) = self.ledger.promise(slice, verdict.offer) {
            let refusal = Refusal::NoCapacity { resource: short.resource, missing: short.missing };
            return Verdict::refusing(refusal);
        }
        let until = ctx.now.plus(hold.min(HOLD_MAX));
        let name = founded.charter.spec.name.clone();
        self.stays.insert(slice, Stay::offered(founded, verdict.clone(), until));
        ctx.output(Output::Event { slice, name, event: SliceEvent::Held });
        verdict
    }

    /// The coordinator chose others, or gave up.
    pub(crate) fn handle_cancel(&mut self, ctx: &mut Context<'_>, from: HostId, slice: SliceId) {
        let cancels = |stay: &Stay| stay.coordinator() == from && stay.is_undecided();
        if self.stays.get(&slice).is_some_and(cancels) {
            self.settle_fate(ctx, slice, Fate::Free);
        }
    }

    /// The coordinator wants this host to be bound by the record.
    pub(crate) fn handle_pledge(
        &mut self,
        ctx: &mut Context<'_>,
        from: HostId,
        slice: SliceId,
        machines: u16,
        taken: Resources,
    ) {
        let stay = self.stays.get_mut(&slice).filter(|stay| stay.coordinator() == from);
        let refusal = match stay {
            None => Some(Refusal::HoldOver),
            Some(stay) => stay.pledge(ctx, &mut self.ledger, machines, taken).err(),
        };
        ctx.send(from, Message::Pledged { slice, refusal });
    }

    /// The record has changed, someone says.
    pub(crate) fn handle_news(&mut self, ctx: &mut Context<'_>, slice: SliceId) {
        if let Some(stay) = self.stays.get_mut(&slice) {
            stay.look_now(ctx);
        }
    }

    /// A steward answered a reading of ours.
    pub(crate) fn handle_standing(
        &mut self,
        ctx: &mut Context<'_>,
        from: HostId,
        slice: SliceId,
        round: u64,
        held: Held,
        grants: &Grants,
    ) {
        if let Some(stay) = self.stays.get_mut(&slice) {
            let fate = stay.handle_standing(ctx, &mut self.ledger, from, round, held, grants);
            self.settle_fate(ctx, slice, fate);
        } else {
            ctx.count("standing_not_asked_for");
        }
    }

    /// The driver says how a machine fares.
    pub(crate) fn handle_report(
        &mut self,
        ctx: &mut Context<'_>,
        slice: SliceId,
        machine: u8,
        report: DriverReport,
    ) {
        if let Some(stay) = self.stays.get_mut(&slice) {
            let fate = stay.handle_report(ctx, machine, report);
            self.settle_fate(ctx, slice, fate);
        } else {
            ctx.count("report_of_unknown_machine");
        }
    }

    /// The owner changed what he gives. What is promised stands; offers that are not pledged stay good until they lapse.
    pub(crate) const fn set_share(&mut self, share: &Share) {
        self.ledger.set_limit(share.limit);
    }

    fn settle_fate(&mut self, ctx: &mut Context<'_>, slice: SliceId, fate: Fate) {
        if fate == Fate::Stay {
            return;
        }
        let Some(stay) = self.stays.remove(&slice) else { return };
        self.ledger.free_entry(slice);
        if stay.is_stored() {
            ctx.output(Output::Persist { key: key(slice), value: None });
        }
        if fate == Fate::FreeAndRelease {
            for steward in &stay.founded().charter.stewards {
                ctx.send(*steward, Message::Release { slice });
            }
        }
        let name = stay.founded().charter.spec.name.clone();
        ctx.output(Output::Event { slice, name, event: SliceEvent::Freed });
    }

    /// What was due.
    pub(crate) fn handle_timeout(&mut self, ctx: &mut Context<'_>) {
        let due = |stay: &&Stay| stay.poll_timeout() <= ctx.now;
        let slices: Vec<SliceId> = self.stays.values().filter(due).map(|stay| stay.founded().slice).collect();
        for slice in slices {
            if let Some(stay) = self.stays.get_mut(&slice) {
                let fate = stay.handle_timeout(ctx);
                self.settle_fate(ctx, slice, fate);
            }
        }
    }

    /// When to come back.
    pub(crate) fn poll_timeout(&self) -> Option<Millis> {
        self.stays.values().map(Stay::poll_timeout).min()
    }

    /// The slices this host takes part in, as far as it has read their records.
    pub(crate) fn records(&self) -> impl Iterator<Item = (&Founded, &Record, Reports)> {
        self.stays.values().filter_map(|stay| Some((stay.founded(), stay.record()?, stay.reports())))
    }

    /// The slices this host takes part in, as hints for whoever looks for them.
    pub(crate) fn hints(&self) -> impl Iterator<Item = SliceHint> {
        self.stays.values().filter(|stay| !stay.is_offered()).map(|stay| {
            let charter = &stay.founded().charter;
            SliceHint {
                slice: stay.founded().slice,
                name: charter.spec.name.clone(),
                tenant: charter.tenant,
                stewards: charter.stewards.clone(),
                state: stay.record().map_or(State::Forming, |record| record.state),
                version: stay.record().map_or(0, |record| record.version),
            }
        })
    }

    /// Judges a grant another host presents, by what this host knows.
    pub(crate) fn verify_grant(
        &self,
        from: HostId,
        network: NetworkId,
        bytes: &[u8],
        now: Millis,
    ) -> Result<Millis, GrantRefusal> {
        let views = self.stays.values().filter_map(|stay| Some((stay.record()?, stay.lease_until()?)));
        let mut of_network =
            views.filter(|(record, _)| record.networks.iter().any(|known| known.id == network));
        let (record, lease_until) = of_network.next().ok_or(GrantRefusal::NotForThis)?;
        grant::verify_grant(record, lease_until, from, network, bytes, now)
    }
}

/// The key under which a stay is persisted.
fn key(slice: SliceId) -> String {
    format!("{KEY_PREFIX}{slice}")
}
