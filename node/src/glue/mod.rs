//! Where the parts meet. One file per pair: what one part says, told to the other.
//!
//! ```text
//!                    ┌───────────── engine (task) ─────────────┐
//!  overlay ──▶ inbound ──▶ messages │ commands ◀── tenant ◀── API routes
//!     ▲          │                  ▼
//!     │          │       outputs: persist ▶ store, send ▶ overlay, networks ▶ vswitch, orders ▶ machines
//!     │          ▼                                                                     │
//!  candidates  remote (exec, console, …) ─────────────────────────────────────▶ driver ┤ TAP ▶ vswitch
//!  describe ▶ peers (task) ▶ vswitch: who may be linked, and where                      ▼
//!                                                          reports ──────────────────▶ engine
//! ```
//! | file | joins | owns |
//! |---|---|---|
//! | [`protocols`] | overlay, all | names and limits of what nodes ask each other |
//! | [`describe`], [`candidates`] | overlay, scheduler | what a host says of itself; whom a request may ask |
//! | [`engine`] | scheduler, overlay, store | the engine, its clock, the order of its outputs |
//! | [`networks`] | scheduler, vswitch | what of each slice the switch has been told; who may open a channel |
//! | [`standalone`] | overlay, vswitch, store | networks by themselves: who is on them, this host's devices |
//! | [`wanted`] | vswitch | which hosts the parts want the data plane to know |
//! | [`peers`] | overlay, vswitch | which hosts the data plane knows, and where |
//! | [`kept`] | overlay, store | records of other hosts for the next life |
//! | [`topology`] | overlay, topology | which topology holds, for all who act by it |
//! | [`meet`] | overlay, vswitch | two hosts tell each other where they are; what is done where there is no direct path |
//! | [`relay`] | overlay, vswitch | ways through other members, and others' through this host |
//! | [`mapping`] | vswitch | a port at the router, for the data plane |
//! | [`adapting`] | topology, vswitch | links that follow the traffic |
//! | [`ways`] | topology, vswitch | what the operator's topology allows |
//! | [`machines`], [`machine`] | scheduler, machine driver, vswitch | one task per machine of this host |
//! | [`tenant`] | API, scheduler | what a tenant asks of slices, signed with his key |
//! | [`progress`] | overlay, scheduler, vswitch | how far a slice's hosts are, for the timings of `slice create` |
//! | [`remote`] | API, overlay, machine driver | programs, console and log of a machine wherever it is |
//! | [`inbound`] | overlay, all | routes what comes from other nodes |
//! | [`member`] | all | starts and ends what needs a membership |
//!
//! Invariants: one task owns each state, and its handle is the only way to it; every queue is bounded; what a peer sends is checked by the
//! part it is for, and moves a counter there when it is refused.

pub mod adapting;
pub mod candidates;
pub mod clock;
pub mod describe;
pub mod engine;
pub mod inbound;
pub mod kept;
pub mod machine;
pub mod machines;
pub mod mapping;
pub mod meet;
pub mod member;
pub mod networks;
pub mod peers;
pub mod progress;
pub mod protocols;
pub mod relay;
pub mod remote;
pub mod standalone;
pub mod tenant;
pub mod topology;
pub mod traffic;
pub mod wanted;
pub mod ways;
