//! The node itself, its overlay, its peers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The state of this node.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The version of the program.
    pub version: String,
    /// The node's `HostId`.
    pub host: String,
    /// The overlay's public key.
    pub overlay: String,
    /// Where the control plane listens.
    pub addresses: Vec<String>,
    /// Where the data plane listens.
    pub data_address: String,
    /// The key that signs slices asked for here.
    pub tenant: String,
    /// The state directory.
    pub state_dir: String,
    /// The process.
    pub pid: u32,
    /// Since the daemon started.
    pub uptime_ms: u64,
    /// Peers connected and proved to be members.
    pub peers_connected: usize,
    /// Hosts whose record is in the view.
    pub hosts_known: usize,
    /// What the owner shares, and what of it is free.
    pub share: ShareStatus,
    /// Machines that run on this host.
    pub machines: usize,
    /// Slices this node has asked for or hosts machines of.
    pub slices: usize,
}

/// What the owner shares, and what of it is free.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ShareStatus {
    /// Thousandths of a CPU, shared.
    pub cpus_milli: u32,
    /// Thousandths of a CPU, free.
    pub free_cpus_milli: u32,
    /// Memory shared.
    pub memory_bytes: u64,
    /// Memory free.
    pub free_memory_bytes: u64,
    /// Disk shared.
    pub disk_bytes: u64,
    /// Disk free.
    pub free_disk_bytes: u64,
    /// Machines at once.
    pub machines_max: u32,
    /// Machines that may still be added.
    pub free_machines: u32,
}

/// One peer, connected or not.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Peer {
    /// Its `HostId`.
    pub host: String,
    /// Whether the control plane is connected and the peer has proved its membership.
    pub connected: bool,
    /// Why not, where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where it is, or was last tried.
    pub addresses: Vec<String>,
    /// Round trip of the control plane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
    /// The link of the data plane, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<Link>,
}

/// A link of the data plane.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Link {
    /// `up`, `handshake` or `down`.
    pub state: String,
    /// The peer's address in use.
    pub address: Option<String>,
    /// Round trip.
    pub rtt_ms: Option<f64>,
    /// The largest datagram that passes.
    pub mtu: Option<u32>,
    /// Datagrams sent.
    pub sent_datagrams: u64,
    /// Datagrams received.
    pub received_datagrams: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
}

/// One member of the overlay, as far as this node knows.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Member {
    /// The member's `HostId`.
    pub host: String,
    /// The key whose revocation puts it out.
    pub key: String,
    /// Who invited it; none for the founder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invited_by: Option<String>,
    /// Whether it has been put out.
    pub revoked: bool,
}

/// What kind of ticket is wanted.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct InviteBody {
    /// How long it is good.
    pub valid_ms: u64,
}

/// All that a newcomer needs.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Ticket {
    /// One string.
    pub ticket: String,
}

/// Whom to join.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct JoinBody {
    /// The ticket.
    pub ticket: String,
}

/// The overlay that was joined.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Joined {
    /// The overlay's public key.
    pub overlay: String,
    /// This node's `HostId`.
    pub host: String,
}

/// What to put out.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RevokeBody {
    /// A `HostId` or a key.
    pub key: String,
}

/// What was put out.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Revoked {
    /// The key.
    pub key: String,
}
