//! One decision per slice (design 5.3): never both Active and Aborted; what is final stays; what was decided is what users are told
//! and what hosts do.

use consort_scheduler::engine::Answer;
use consort_scheduler::slice::record::{Record, State};

use super::Violation;
use crate::world::World;

/// After every event.
pub(super) fn holds(world: &World) -> Result<(), Violation> {
    let violated = |what: String| Err(Violation { invariant: "decision", what });
    for (slice, chosen) in &world.oracle.chosen {
        let mut in_order: Vec<_> = chosen.iter().collect();
        in_order.sort_by_key(|(_, ballot, _)| *ballot);
        for pair in in_order.windows(2) {
            let (before, after): (&Record, &Record) = (&pair[0].2, &pair[1].2);
            if before != after && (before.state.is_final() || after.version <= before.version) {
                let (before, after) = ((before.version, before.state), (after.version, after.state));
                return violated(format!("{slice:?} went from {before:?} to {after:?}"));
            }
        }
        let was = |wanted: fn(State) -> bool| chosen.iter().any(|(_, _, record)| wanted(record.state));
        if was(|state| state == State::Active) && was(|state| matches!(state, State::Aborted(_))) {
            return violated(format!("{slice:?} was both active and aborted"));
        }
    }
    for asked in world.oracle.asked.values() {
        for (_, answer) in &asked.answers {
            let Some(slice) = asked.creates else { continue };
            let was_active = world.oracle.chosen.get(&slice).is_some_and(|chosen| {
                chosen.iter().any(|(_, _, record)| matches!(record.state, State::Active | State::Ended(_)))
            });
            match answer {
                Answer::Created { .. } if !was_active => {
                    return violated(format!("{slice:?} was called created and never decided"));
                }
                Answer::Refused { .. } if was_active => {
                    return violated(format!("{slice:?} was called refused and is active"));
                }
                _ => {}
            }
        }
    }
    Ok(())
}
