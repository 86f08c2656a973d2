//! Paths as people and programs see them.

use std::net::SocketAddr;

use super::{Candidate, CandidateKind, LocalPaths, PeerNat};
use crate::HostId;

/// One way to a peer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "path")]
pub enum PathView {
    /// Straight to the peer.
    Direct {
        /// Where.
        address: SocketAddr,
        /// How the address is known; none: from datagrams that came from it, or by port search.
        kind: Option<CandidateKind>,
    },
    /// Through one or more relays.
    Relay {
        /// The first of them.
        relay: HostId,
        /// Where it is reached.
        address: SocketAddr,
    },
}

/// Why a path was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PathReason {
    /// None was there before.
    First,
    /// The one before does not answer.
    Failover,
    /// It is better by more than the hysteresis.
    Better,
    /// The other end, whose word goes first, sends on it.
    Nominated,
    /// The peer's authenticated datagrams come from there now.
    Roamed,
    /// Node took away the one before, or forbade direct paths.
    Withdrawn,
}

/// What became of one way to a peer.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct TriedPath {
    /// Which.
    pub path: PathView,
    /// How it went.
    pub result: PathResult,
    /// Smoothed round trip in microseconds.
    pub round_trip_micros: Option<u64>,
    /// Of its last probes, the part that was not answered, 0 to 1.
    pub loss: f32,
    /// Milliseconds since something authenticated came by it.
    pub heard_millis_ago: Option<u64>,
    /// Probes sent.
    pub probes: u32,
}

/// How a way to a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PathResult {
    /// Not tried: no link wants it.
    Untried,
    /// Probes are out.
    Probing,
    /// Probes are answered.
    Alive,
    /// No probe was answered.
    Unanswered,
}

/// A port search (see [`super`]): what it has cost so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct SearchSpent {
    /// Searches for this peer.
    pub searches: u32,
    /// Probes of all of them.
    pub probes: u32,
    /// Sockets opened, each a mapping at the NAT.
    pub mappings: u32,
}

/// All ways to one peer.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct PeerPaths {
    /// Who.
    pub peer: HostId,
    /// The one in use.
    pub chosen: Option<PathView>,
    /// Why it is.
    pub reason: Option<PathReason>,
    /// The NAT before the peer, as it said.
    pub nat: PeerNat,
    /// Whether the topology allows a direct path.
    pub direct: bool,
    /// Every way that is known.
    pub tried: Vec<TriedPath>,
    /// What port searches have cost.
    pub search: SearchSpent,
}

/// This host's side and all peers'.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct PathsSnapshot {
    /// Where this host can be reached.
    pub local: LocalPaths,
    /// By peer.
    pub peers: Vec<PeerPaths>,
}

impl From<&Candidate> for PathView {
    fn from(candidate: &Candidate) -> Self {
        Self::Direct { address: candidate.address, kind: Some(candidate.kind) }
    }
}
