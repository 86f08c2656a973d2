//! The node: the daemon on a host, and the commands that talk to it.
//!
//! This crate joins the others, which do not know each other: the overlay (who is there), the vswitch (frames between machines), the
//! scheduler (who gives what to whom) and the machine drivers. It is the only one that knows configuration, the control
//! socket, tasks and shutdown.
//!
//! | room | what it owns |
//! |---|---|
//! | [`config`] | what the owner wants: file, command line, and what they mean together |
//! | [`state`] | what is kept between two runs: directory, keys, store |
//! | [`control`] | the API on the socket: bodies, routes, server, client |
//! | [`glue`] | one file per pair of crates: what one says, told to the other |
//! | [`daemon`] | wiring: starts the parts, one task per state, and ends them |
//! | [`cli`] | what each command prints |
//! | [`topology`] | who may link with whom, by the operator's file: pure |
//! | [`demo`], [`mod@bench`] | the proof that it works, and how fast |
//! | [`frugal`] | gives back the memory that only the start needed |
//! | [`privilege`] | whether machines can be made on this host |
//! | [`why`] | why the way between two hosts is as it is: pure, facts in, cause and remedy out |
//! | [`telemetry`], [`failure`] | log lines and readiness; what a user is told when something did not work |
//!
//! Ownership: one task owns each state (the engine, the machines, the networks) and hears of the others by bounded queues; the
//! handles in [`glue`] are the only way to it.

pub mod bench;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod demo;
pub mod failure;
pub mod frugal;
pub mod glue;
pub mod privilege;

pub mod state;
pub mod telemetry;
#[cfg(test)]
mod testing;
pub mod topology;
pub mod why;
