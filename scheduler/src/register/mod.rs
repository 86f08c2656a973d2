//! The fenced register that holds one slice's record.
//!
//! A compare-and-set register on a fixed set of acceptors (the slice's stewards), after Rystsov, *CASPaxos:
//! Replicated State Machines without logs* (2018), which is Lamport's single-decree Synod run again and again
//! with the last value carried forward.
//!
//! A proposer who wants a change draws a [`Ballot`] no one else has, asks all acceptors to *promise* it, takes
//! the value of the highest ballot a majority had accepted, applies the change to it, and asks all to *accept*
//! the result under its ballot. When a majority has accepted, it is decided. An acceptor that promised a
//! ballot refuses lower ones: that is the fence. Reading a majority and writing a higher ballot without
//! promises is wrong: the model in `tests/register_model.rs` finds both Commit and Abort decided.
//!
//! On loss a message is sent again; each step answers the same when it is repeated. On a refusal the proposer
//! waits a random while and comes back with a higher ballot. An acceptor forgets nothing between answers: its
//! state is durable before its answer leaves.
//!
//! Reading without writing: when a majority reports the same accepted ballot, its value is decided and no later
//! one was decided before the reading began (any later majority would share a member with the readers').
//!
//! This room knows neither clocks nor slices; the value is a parameter, so the model checker runs this very code.

mod acceptor;
mod ballot;
mod proposer;
mod reading;

pub use acceptor::{Accepted, Acceptor};
pub use ballot::Ballot;
pub use proposer::Proposer;
pub use reading::{Reading, Seen};

/// How many of `acceptors` are a majority.
#[must_use]
pub const fn majority(acceptors: usize) -> usize {
    acceptors / 2 + 1
}
