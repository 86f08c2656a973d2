//! Whole members on loopback, over QUIC and over TCP: each file one matter.
//!
//! No test waits by the clock: each waits for the event or the state that the rule promises, and the harness gives up after [`world::PATIENCE`]
//! with what was seen, which only a fault reaches.

mod circuits;
mod documents;
mod joining;
mod limits;
mod records;
mod requests;
mod restart;
mod revoking;
mod world;
