//! What people and programs see of a peer.

use crate::{clock::UnixSeconds, identity::HostId, protocol::member::Refusal};
use serde::Serialize;
use std::{net::SocketAddr, time::Duration};

/// Who dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// The peer.
    Inbound,
    /// This host.
    Outbound,
}

/// What carries a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// QUIC over UDP.
    Quic,
    /// Noise and Yamux over TCP.
    Tcp,
    /// Noise and Yamux over a circuit through another member; the address is that member's.
    Relayed,
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", tag = "kind")]
#[non_exhaustive]
pub enum FailureReason {
    /// Nobody told where it listens.
    #[error("no address is known")]
    NoAddress,
    /// Dialled without success.
    #[error("unreachable: {detail}")]
    Unreachable {
        /// What the transports said.
        detail: String,
    },
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// Another host answers at its address.
    #[error("{found} answers at its address")]
    WrongIdentity {
        /// Who answers.
        found: HostId,
    },
    /// It did not let this host in.
    #[error("it refused this host: {refusal}")]
    RefusedByPeer {
        /// Why.
        refusal: Refusal,
    },
    /// This host did not let it in.
    #[error("this host refused it: {refusal}")]
    RefusedHere {
        /// Why.
        refusal: Refusal,
    },
    /// The connection was lost.
    #[error("the connection was lost: {detail}")]
    Lost {
        /// What the transport said.
        detail: String,
    },
    /// It stopped answering pings.
    #[error("it stopped answering")]
    Silent,
    /// It closed the connection.
    #[error("it closed the connection")]
    ClosedByPeer,
    /// As many callers wait for connections as this host allows.
    #[error("too many callers wait for connections")]
    Busy,
    /// This host closed the connection, having more than it needs.
    #[error("closed here: not needed")]
    ClosedHere,
}

/// The last failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Why.
    #[serde(flatten)]
    pub reason: FailureReason,
    /// When.
    pub at: UnixSeconds,
    /// How many in a row.
    pub attempts: u32,
}

/// Connected, or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum PeerState {
    /// No connection; dialled again in so long if one is needed.
    Down {
        /// Zero: at once.
        retry_in: Duration,
    },
    /// A dial is under way.
    Dialling,
    /// It came to the door and was not let in; it is not dialled.
    Refused,
    /// Connected, and proved a member.
    Connected {
        /// The peer's end.
        address: SocketAddr,
        /// Over what.
        transport: Transport,
        /// Who dialled.
        direction: Direction,
        /// Since when.
        since: UnixSeconds,
        /// The last ping's.
        round_trip: Option<Duration>,
    },
}

/// One peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PeerStatus {
    /// Who.
    pub host: HostId,
    /// Connected, or not.
    #[serde(flatten)]
    pub state: PeerState,
    /// Where it may be found, the proven one first.
    pub addresses: Vec<SocketAddr>,
    /// When it was last connected.
    pub last_seen: Option<UnixSeconds>,
    /// Why not, if the last try or connection ended badly.
    pub failure: Option<Failure>,
}
