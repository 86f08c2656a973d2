//! Links as people and programs see them.

use std::net::SocketAddr;

use super::{LinkCounts, event::LinkDownReason};
use crate::{HostId, session::Suite, switch::NetworkId};

/// One link.
#[derive(Debug, Clone, serde::Serialize)]
pub struct LinkSnapshot {
    /// The other end.
    pub peer: HostId,
    /// What the link is doing.
    pub state: LinkState,
    /// Whether frames passed a moment ago.
    pub in_use: bool,
    /// Where its datagrams go.
    pub address: Option<SocketAddr>,
    /// Smoothed round trip, in microseconds.
    pub round_trip_micros: Option<u64>,
    /// Part of the peer's datagrams in this session that did not arrive, 0 to 1.
    pub loss: f64,
    /// The largest datagram the path was found to take (UDP payload).
    pub datagram_bytes: u16,
    /// The largest frame that is not cut on it.
    pub frame_bytes: u16,
    /// The cipher.
    pub suite: Option<Suite>,
    /// Age of the session that seals.
    pub session_seconds: Option<u64>,
    /// Networks shared, and how far.
    pub channels: Vec<ChannelSnapshot>,
    /// What passed.
    pub counts: LinkCounts,
}

/// What a link is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// Nobody wants it.
    Idle,
    /// Handshakes are being tried.
    Connecting,
    /// It is there.
    Up,
    /// It was there; the reason it went.
    Down(LinkDownReason),
}

/// One network on a link.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ChannelSnapshot {
    /// Which.
    pub network: NetworkId,
    /// Our grant at the peer: idle, asking, open, lapsed, refused.
    pub outbound: &'static str,
    /// The peer's grant here: none, asked, open, lapsed, refused.
    pub inbound: &'static str,
    /// Bytes of frames sent to the peer on it, super-frames as they came from the port.
    pub frame_bytes_sent: u64,
}
