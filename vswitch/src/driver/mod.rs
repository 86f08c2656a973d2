//! Where the data plane meets the kernel: UDP sockets, TAP queues, threads, the clock. The only room with `unsafe`.
//!
//! # Threads
//! ```text
//!   worker 0..n   one epoll each: its own UDP socket (all on one port; a peer's sessions come to one of them), the TAP queues
//!                 it reads (`readers`), a waker. Reads, asks the switch, seals or opens, sends or writes. Never waits for a lock.
//!   keeper        handshakes, control messages, timers, held frames. One thread, so that public-key work and its floods do
//!                 not stop frames.
//! ```
//! The order inside a flow: one TAP queue carries a flow (the kernel hashes), one worker reads it and sends it from its socket, and another after it
//! only when all is sent; one peer's socket pair is received by one worker, which writes in order.
//!
//! Drivers decide nothing: what a datagram or frame means is said by [`crate::link`] and [`crate::switch`].

mod address;
mod backlog;
pub(crate) mod clock;
mod codel;
pub(crate) mod counters;
pub(crate) mod events;
mod hops;
pub(crate) mod inbox;
pub(crate) mod interfaces;
pub(crate) mod keeper;
mod pacer;
pub(crate) mod poll;
pub(crate) mod published;
pub(crate) mod readers;
mod sender;
pub mod tap;
pub(crate) mod udp;
pub(crate) mod underlay;
pub(crate) mod worker;
