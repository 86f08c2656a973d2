//! What is persisted of a stay, and how it is taken up after a restart of the daemon or of the host.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bound::{Bound, Kept, Lease};
use super::order::order;
use super::{Fate, Stage, Stay};
use crate::bounded::List;
use crate::engine::context::Context;
use crate::engine::{BootId, Output};
use crate::host::{StoredStay, key};
use crate::limits::{MACHINES_MAX, drift_bound};
use crate::message::MachineState;
use crate::resources::Resources;
use crate::slice::charter::Founded;
use crate::slice::record::Record;
use crate::slice::view::SliceNetworks;
use crate::units::Millis;

/// What is persisted of a stage.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::host) enum StoredStage {
    Pledged { until: Millis },
    Bound { record: Box<Record>, owner_until: Millis, machines: List<(u8, MachineState), MACHINES_MAX> },
}

impl StoredStage {
    pub(in crate::host) fn belongs_to(&self, founded: &Founded) -> bool {
        match self {
            Self::Pledged { .. } => true,
            Self::Bound { record, .. } => record.belongs_to(founded),
        }
    }
}

impl Stay {
    /// Takes up a stay after a restart of the daemon, or of the host.
    pub(in crate::host) fn restore(
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

    pub(super) fn persist(&self, ctx: &mut Context<'_>) {
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
        let value = crate::stored::encode(&stored);
        ctx.output(Output::Persist { key: key(self.founded.slice), value: Some(value) });
    }
}
