//! Placeholder map; see the crate's rooms.

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
#[cfg(test)]
mod specimen;
pub mod session;
mod split;
pub mod switch;
pub mod table;
mod tally;
#[cfg(test)]
mod testing;
pub mod wire;

pub use libp2p_identity::PeerId as HostId;

pub use data_plane::{AttachError, DataPlane, DataPlaneConfig, PeerConfig, PeerError, Snapshot, StartError, WORKERS_MAX};
pub use driver::{counters::WorkerCounts, events::EventReceiver, tap};
pub use link::{
    ChannelRequest, ChannelSnapshot, Event, LinkCounts, LinkDownReason, LinkSnapshot, LinkState, LinksFull, RefusalCounts,
};
pub use mac::MacAddr;
pub use session::{SessionLimits, SharedSecret, StaticSecret};
pub use switch::{Guard, MachineBinding, NetworkConfig, NetworkId, PortConfig, PortId};
pub use wire::control::GrantRefusal;
