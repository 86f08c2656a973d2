//! All or nothing (design 5.1): a slice that is active runs whole, except for machines that are lost; of any other slice nothing is left,
//! no machine and no promise.

use consort_scheduler::slice::record::{Standing, State};

use super::Violation;
use crate::machines::Life;
use crate::world::World;

/// Once nothing has been broken for a while: each active slice runs whole.
///
/// # Errors
/// Names the machine that does not run.
pub fn active_slices_are_whole(world: &World) -> Result<(), Violation> {
    for slice in world.oracle.chosen.keys() {
        let Some(record) = world.oracle.current(*slice).filter(|record| record.state == State::Active) else {
            continue;
        };
        for (index, machine) in record.machines.iter().enumerate() {
            let host = world.hosts.iter().find(|host| host.id == machine.host);
            let runs = host.is_some_and(|host| {
                host.machines
                    .of(*slice)
                    .any(|kept| usize::from(kept.index) == index && kept.life == Life::Running)
            });
            let placed = machine.standing == Standing::Placed;
            if placed && !runs && !world.keeper_ended.contains(&(*slice, index)) {
                let what = format!("{slice:?} is active and {} does not run", machine.name);
                return Err(Violation { invariant: "gang", what });
            }
        }
    }
    Ok(())
}

/// When every term has run out: nothing is left anywhere.
pub(super) fn nothing_is_left(world: &World) -> Result<(), Violation> {
    let violated = |what: String| Err(Violation { invariant: "gang", what });
    for (index, host) in world.hosts.iter().enumerate() {
        let promised =
            host.engine.as_ref().map(consort_scheduler::engine::Engine::promised).unwrap_or_default();
        if promised != consort_scheduler::resources::Resources::NONE {
            return violated(format!("host {index} still has {promised:?} promised"));
        }
        if let Some(name) = host.machines.all.keys().next() {
            return violated(format!("host {index} still has machine {name}"));
        }
        if let Some(key) = host.disk.keys().find(|key| key.starts_with("host/")) {
            return violated(format!("host {index} still keeps {key}"));
        }
    }
    for slice in world.oracle.chosen.keys() {
        let state = world.oracle.current(*slice).map(|record| record.state);
        if !state.is_some_and(State::is_final) {
            return violated(format!("{slice:?} is still {state:?}"));
        }
    }
    Ok(())
}
