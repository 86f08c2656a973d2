//! No host is over its limit at any instant: neither what it has promised nor what runs there (design 5.1: the ledger never
//! promises more than the owner allows; all else in the system is a hint).

use super::Violation;
use crate::world::World;

/// After every event.
pub(super) fn holds(world: &World) -> Result<(), Violation> {
    for (index, host) in world.hosts.iter().enumerate() {
        let promised =
            host.engine.as_ref().map(consort_scheduler::engine::Engine::promised).unwrap_or_default();
        for (what, amount) in [("promised", promised), ("running", host.machines.taken())] {
            if !amount.fits(&host.limit) {
                let what = format!("host {index} has {amount:?} {what} of {:?}", host.limit);
                return Err(Violation { invariant: "limit", what });
            }
        }
    }
    Ok(())
}
