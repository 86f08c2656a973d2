//! The node itself, its overlay, its peers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::why::{Nat, Path};

/// The state of this node.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The version of the program.
    pub version: String,
    /// The node's `HostId`.
    pub host: String,
    /// The overlay's public key; empty while it is being joined.
    pub overlay: String,
    /// Whether this host itself was put out.
    pub revoked: bool,
    /// Where the control plane listens.
    pub addresses: Vec<String>,
    /// Where the data plane listens, once this host is a member.
    pub data_address: Option<String>,
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
    pub cpus_milli: u64,
    /// Thousandths of a CPU, free.
    pub free_cpus_milli: u64,
    /// Memory shared.
    pub memory_bytes: u64,
    /// Memory free.
    pub free_memory_bytes: u64,
    /// Disk shared.
    pub disk_bytes: u64,
    /// Disk free.
    pub free_disk_bytes: u64,
    /// Machines at once.
    pub machines_max: u64,
    /// Machines that may still be added.
    pub free_machines: u64,
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
    /// How the link's datagrams go: straight, through a relay, inside the control plane, or not at all.
    pub path: Path,
    /// What the peer says of the NAT before it.
    pub nat: Nat,
    /// The relays of the ways that are held to it, each in order; the one in use first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relays: Vec<Vec<String>>,
    /// What port searches for a direct path to it have cost, where there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<SearchCost>,
    /// The link of the data plane, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<Link>,
}

/// What this host has spent on port searches for one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SearchCost {
    /// Searches.
    pub searches: u32,
    /// Probes of all of them.
    pub probes: u32,
    /// Sockets opened, each a mapping at the NAT before this host.
    pub mappings: u32,
}

/// How this host can be reached, and whether others are reached through it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Reach {
    /// What is before this host.
    pub nat: Nat,
    /// Its own addresses, with the data plane's port.
    pub local: Vec<String>,
    /// What other members see, and who does.
    pub observed: Vec<Observed>,
    /// The port its router opened: the outside address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapped: Option<String>,
    /// Why there is none, where the router was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_mapped: Option<String>,
    /// Whether it forwards for others.
    pub relays: bool,
    /// Members known to forward for others.
    pub relays_known: usize,
    /// What the data plane forwards, and what it refused to, by reason.
    #[schema(value_type = Object)]
    pub relay: serde_json::Value,
    /// Whether names can be looked up; none where there is nothing to ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<bool>,
}

/// What one member sees of this host.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Observed {
    /// As which address.
    pub address: String,
    /// Who.
    pub by: String,
}

/// A link of the data plane.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Link {
    /// `idle`, `connecting`, `up`, or `down` with the reason.
    pub state: String,
    /// The peer's address in use.
    pub address: Option<String>,
    /// Round trip.
    pub rtt_ms: Option<f64>,
    /// Part of the peer's datagrams that did not arrive, 0 to 1.
    pub loss: f64,
    /// The largest datagram the path was found to take.
    pub datagram_bytes: u16,
    /// Datagrams with frames, sent.
    pub sent_datagrams: u64,
    /// Datagrams with frames, received and found genuine.
    pub received_datagrams: u64,
    /// All that the link counts.
    #[schema(value_type = Object)]
    pub counts: serde_json::Value,
}

/// One member of the overlay, as far as this node knows.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Member {
    /// The member's `HostId`; revoking it puts it out, and all whom it invited.
    pub host: String,
    /// Who vouched for it; none for the founder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invited_by: Option<String>,
    /// The invitation it came by; revoking it puts out all who came by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invitation: Option<String>,
    /// Since when, in seconds since 1970.
    pub since_unix_s: u64,
    /// Whether it is connected to this host.
    pub connected: bool,
    /// Whether it is this host.
    pub here: bool,
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
