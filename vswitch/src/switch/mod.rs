//! The virtual switch: which port or peer a frame goes to, or why it goes nowhere.
//!
//! # What it owns
//! Networks, ports, the peers that are members, what the record says of machines ([`config`]), what was learned beside it, and the
//! counts. It refuses to know sockets, devices, keys and clocks: time comes as an argument, frames as bytes, and the answer
//! is a [`Decision`].
//!
//! # How many workers share it
//! ```text
//!   set_network, attach, …           one at a time, under a lock
//!         │ makes a new View
//!         ▼
//!   Arc<View> (never changed) ◀── Worker::refresh (one atomic load; takes the new view if there is one)
//!         │
//!         ▼
//!   Worker::from_port / from_peer    no lock, no allocation; learned addresses in atomics
//! ```

mod config;
mod decision;
mod reason;

pub use config::{Guard, MachineBinding, NetworkConfig, NetworkId, PeerIndex, PortConfig, PortId};
pub use decision::{Decision, Egress};
pub use reason::{DropReason, Happened, SwitchCounts};

use std::{sync::Arc, time::Instant};

use crate::HostId;

/// The switch of one host, shared by all workers. Cheap calls, none waits for the network.
#[derive(Debug)]
pub struct Switch {}

impl Switch {
    /// A switch without networks. `seed` keys the hashes of addresses.
    pub fn new(_host: HostId, _now: Instant, _seed: u64) -> Arc<Self> {
        unimplemented!()
    }
    /// The short name of a host, given on first use.
    pub fn peer(&self, _host: HostId) -> Result<PeerIndex, PeersFull> {
        unimplemented!()
    }
    /// The host behind a short name.
    pub fn host_of(&self, _peer: PeerIndex) -> Option<HostId> {
        unimplemented!()
    }
    /// Forgets a host that no network mentions; its index is never given again.
    pub fn forget_peer(&self, _host: HostId) {
        unimplemented!()
    }
    /// Creates or replaces a network; its ports stay.
    pub fn set_network(&self, _network: NetworkConfig) -> Result<(), SetNetworkError> {
        unimplemented!()
    }
    /// Removes a network with its ports, which are returned: their devices are no longer read for anybody.
    pub fn remove_network(&self, _network: NetworkId) -> Vec<PortId> {
        unimplemented!()
    }
    /// Attaches a machine.
    pub fn attach(&self, _network: NetworkId, _port: PortConfig) -> Result<PortId, AttachError> {
        unimplemented!()
    }
    /// Detaches a machine; `false` if the port was gone already.
    pub fn detach(&self, _port: PortId) -> bool {
        unimplemented!()
    }
    /// Another worker's own view and counters.
    pub fn worker(self: &Arc<Self>) -> Worker {
        unimplemented!()
    }
    /// Everything worth showing.
    pub fn snapshot(&self) -> SwitchSnapshot {
        unimplemented!()
    }
}

/// What one thread needs to decide about frames. `Send`; owned by one thread.
#[derive(Debug)]
pub struct Worker {}

impl Worker {
    /// Takes the newest configuration if it changed (one atomic load when it did not). Call it once per batch. True if it changed.
    pub fn refresh(&mut self) -> bool {
        unimplemented!()
    }
    /// A frame read from a local port (without its virtio header).
    pub fn from_port(&self, _now: Instant, _port: PortId, _frame: &[u8]) -> Decision<'_> {
        unimplemented!()
    }
    /// A frame that a peer sent on a network's channel.
    pub fn from_peer(&self, _now: Instant, _peer: PeerIndex, _network: NetworkId, _frame: &[u8]) -> Decision<'_> {
        unimplemented!()
    }
    /// A network's MTU, if it is configured.
    pub fn mtu(&self, _network: NetworkId) -> Option<u16> {
        unimplemented!()
    }
    /// The network of a port, if it is attached.
    pub fn network_of(&self, _port: PortId) -> Option<NetworkId> {
        unimplemented!()
    }
    /// Whether the peer is a member host of the network as configured here.
    pub fn is_member(&self, _network: NetworkId, _peer: PeerIndex) -> bool {
        unimplemented!()
    }
}

/// More hosts than a switch names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the switch names at most {PEERS_MAX} hosts")]
pub struct PeersFull;

/// Hosts one switch can name: more than any slice set of one host; 16 MiB at worst.
pub const PEERS_MAX: usize = 65_536;

/// Why a network is not as told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetNetworkError {
    /// As it says.
    #[error(transparent)]
    PeersFull(#[from] PeersFull),
}

/// Why a machine is not attached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// As it says.
    #[error("network {0} is not configured here")]
    NetworkUnknown(NetworkId),
}

/// State of the switch for people and programs.
#[derive(Debug, Clone, serde::Serialize)]
pub struct SwitchSnapshot {
    /// Counts of all workers.
    pub counts: SwitchCounts,
}
