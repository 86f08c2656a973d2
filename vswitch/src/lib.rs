//! The data plane of Consort: Ethernet frames between local machines and encrypted links to other hosts, without any server.
//!
//! ```text
//!   machine ── TAP ──▶ offload ──▶ switch ──▶ link (channel, session) ──▶ UDP ──▶ … ──▶ the same, backwards
//! ```
//!
//! | room | what it owns |
//! |---|---|
//! | [`DataPlane`] | the handle: what node wants, what it is told, what it shows |
//! | [`mac`], [`frame`] | addresses and checked views of frames |
//! | [`table`], [`switch`], [`neighbour`] | which port or peer a frame goes to, or why nowhere; answers for known addresses |
//! | [`offload`] | super-frames: cut and joined as the kernel does |
//! | [`wire`] | the bytes of datagrams, one file per kind |
//! | [`session`] | handshakes, cookies, keys, counters, windows |
//! | `link` | one encrypted way per peer: sessions, channels opened by grants, path MTU, liveness, roaming |
//! | [`path`] | ways to peers: candidates, probes, choice, port search, relays |
//! | `split` | frames joined from parts, where they exceed the path |
//! | [`tap`] and the rest of `driver` | TAP, UDP, threads, the clock; the only room with `unsafe` |
//!
//! Everything but `driver` is plain data and functions: compiled and tested without privileges, devices or a clock.
//!
//! # Rules of the crate
//! - No frame leaves a host unsealed, and none is delivered that was not sealed by the peer it is said to come from, on a channel
//!   that node opened for that peer. What fails this is dropped and counted, and nothing else happens.
//! - Nothing a peer, a guest or a stranger sends can panic, allocate without bound, or make us work harder than the sender.
//! - Workers take no lock per frame and wait for nobody; order inside a flow is kept.

pub mod bench;
mod config;
mod data_plane;
mod driver;
mod entropy;
pub mod frame;
mod guard;
mod hash;
mod inspect;
mod link;
pub mod mac;
pub mod neighbour;
pub mod offload;
pub mod path;
pub mod session;
#[cfg(test)]
mod specimen;
mod split;
pub mod switch;
pub mod table;
mod tally;
#[cfg(test)]
mod testing;
pub mod wire;

pub use libp2p_identity::PeerId as HostId;

pub use config::{AttachError, DataPlaneConfig, PeerConfig, PeerError, StartError, WORKERS_MAX};
pub use data_plane::{DataPlane, Snapshot};
pub use driver::{counters::WorkerCounts, events::EventReceiver, tap};
pub use link::{
    ChannelRequest, ChannelSnapshot, Event, LinkCounts, LinkDownReason, LinkSnapshot, LinkState, LinksFull,
    RefusalCounts, RelayCounts,
};
pub use mac::MacAddr;
pub use session::{SessionLimits, SharedSecret, StaticSecret};
pub use switch::{Guard, MachineBinding, NetworkConfig, NetworkId, PortConfig, PortId};
pub use wire::control::{GrantRefusal, NOTE_BYTES_MAX};
