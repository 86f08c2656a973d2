//! What node tells a relay and is told by it.

use std::time::Duration;

use crate::{HostId, link::RelayCounts};

/// What the owner of a host lets others send through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RelayPolicy {
    /// Whether anything is forwarded.
    pub enabled: bool,
    /// Bits a second of all that is forwarded.
    pub rate_bits_per_s_max: u64,
    /// Hosts that may be ends of legs at one time.
    pub peers_max: usize,
    /// Legs at one time, at most [`TOKENS_MAX`].
    pub tokens_max: usize,
}

/// Legs of one relay, whatever its owner allows: each takes some hundred bytes.
pub const TOKENS_MAX: usize = 4096;
/// The longest a leg is kept without being opened anew.
pub const LEG_LIFE_MAX: Duration = Duration::from_secs(600);

/// One direction of a way through this relay. Both hosts are peers of the data plane (see [`DataPlane::set_peer`](crate::DataPlane::set_peer));
/// where they are is learned from their probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayLeg {
    /// Who sends: a datagram with the leg's token from any other address is refused.
    pub from: HostId,
    /// Who gets it.
    pub to: HostId,
    /// The token `to` forwards by, where it is a relay too; none where it is the end.
    pub onward: Option<u32>,
    /// How long it holds without being opened anew, at most [`LEG_LIFE_MAX`].
    pub expires: Duration,
}

/// The numbers of a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayTokens {
    /// What comes with it is forwarded.
    pub incoming: u32,
    /// What it leaves with.
    pub outgoing: u32,
}

/// Why a leg is not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RelayRefusal {
    /// The owner relays nothing.
    #[error("this host does not relay: its owner has not allowed it")]
    Disabled,
    /// As many legs as the owner allows are open.
    #[error("the relay has as many legs as its owner allows")]
    TokensFull,
    /// As many hosts as the owner allows are relayed for.
    #[error("the relay serves as many hosts as its owner allows")]
    PeersFull,
    /// The data plane does not know one of the hosts.
    #[error("the relay does not know host {0}")]
    HostUnknown(HostId),
}

/// What is forwarded for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct RelaySnapshot {
    /// Legs that are open.
    pub legs: usize,
    /// Hosts at their ends.
    pub hosts: usize,
    /// What passed and what did not.
    pub counts: RelayCounts,
}
