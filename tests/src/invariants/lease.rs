//! Nothing outlives its lease (design 5.3): when a host's machines are declared lost because it did not renew, none of them runs any
//! more; that is what lets a replacement have the same address later. A machine runs only for a slice that was decided, and
//! only on the host the decision named.

use consort_scheduler::slice::record::{LossReason, Standing, State};

use super::Violation;
use crate::world::World;

/// After every event.
pub(super) fn holds(world: &World) -> Result<(), Violation> {
    for (index, host) in world.hosts.iter().enumerate() {
        for (name, machine) in &host.machines.all {
            if !crate::machines::Machines::is_there(machine) {
                continue;
            }
            let violated = |what: &str| {
                let what = format!("machine {name} runs on host {index}, {what}");
                Err(Violation { invariant: "lease", what })
            };
            let Some(chosen) = world.oracle.chosen.get(&machine.slice) else {
                return violated("and its slice was never decided");
            };
            if !chosen.iter().any(|(_, _, record)| record.state == State::Active) {
                return violated("and its slice was never active");
            }
            let Some(record) = world.oracle.current(machine.slice) else { continue };
            let Some(entry) = record.machines.get(usize::from(machine.index)) else {
                return violated("and its record does not know it");
            };
            if entry.host != host.id {
                return violated("and its record places it elsewhere");
            }
            if entry.standing == Standing::Lost(LossReason::LeaseLapsed) {
                return violated("and was declared lost");
            }
        }
    }
    Ok(())
}
