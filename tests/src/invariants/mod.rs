//! What must hold. One file each, with its source.
//!
//! [`each_step`] holds after every event, whatever breaks; [`at_the_end`] must have come about once nothing has been broken
//! for a while.

pub mod answer;
pub mod decision;
pub mod gang;
pub mod lease;
pub mod limit;

use thiserror::Error;

use crate::world::World;

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{invariant}: {what}")]
pub struct Violation {
    /// Which invariant: the name of its file.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
}

/// What must hold after every event.
///
/// # Errors
/// Names the invariant that does not hold.
pub fn each_step(world: &World) -> Result<(), Violation> {
    limit::holds(world)?;
    decision::holds(world)?;
    lease::holds(world)?;
    answer::holds(world)
}

/// What must have come about when nothing has been broken for a while and every term has run out.
///
/// # Errors
/// Names the invariant that does not hold.
pub fn at_the_end(world: &World) -> Result<(), Violation> {
    gang::nothing_is_left(world)?;
    answer::all_were_answered(world)
}
