//! Every request ends with an answer, one, in bounded time, unless the node that was asked has died.

use super::Violation;
use crate::world::World;

/// The longest any command may take, in the world's milliseconds: the longest hold, both rounds of asking, one change, and what
/// clocks differ.
const LONGEST: u64 = 40_000;

/// After every event.
pub(super) fn holds(world: &World) -> Result<(), Violation> {
    for (command, asked) in &world.oracle.asked {
        let violated = |what: &str| {
            let what = format!("command {command} at host {} {what}", asked.host);
            Err(Violation { invariant: "answer", what })
        };
        if asked.answers.len() > 1 {
            return violated("was answered twice");
        }
        if asked.answers.is_empty() && !asked.excused && world.now > asked.at + LONGEST {
            return violated("was not answered in time");
        }
    }
    Ok(())
}

/// At the end.
pub(super) fn all_were_answered(world: &World) -> Result<(), Violation> {
    let unanswered = world.oracle.asked.iter().find(|(_, asked)| asked.answers.is_empty() && !asked.excused);
    match unanswered {
        None => Ok(()),
        Some((command, asked)) => {
            let what = format!("command {command} at host {} was never answered", asked.host);
            Err(Violation { invariant: "answer", what })
        }
    }
}
