//! What a node keeps between two runs: its directory, its keys, its store.
//!
//! Owns: `DIR` itself and the lock that keeps a second daemon out ([`dir`]), the key files ([`keys`]), the store ([`store`]),
//! the machine's boot ([`boot`]). Refuses to know: what the bytes in the store mean.
//! Invariants: one daemon per directory; nothing in it is readable by others; a key file is written once, whole; a change of the
//! store is durable when the call returns.

pub mod boot;
pub mod dir;
pub mod keys;
pub mod store;
