//! What links tell node.

use std::net::SocketAddr;

use crate::{
    HostId,
    path::{PathReason, PathView},
    switch::{NetworkId, PeerIndex},
    wire::control::{GrantDigest, GrantRefusal},
};

/// News for node. Each is about one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A peer presents a grant; judge it and call [`crate::DataPlane::answer_channel`].
    ChannelRequested {
        /// Goes back with the answer.
        request: ChannelRequest,
        /// Who asks: authenticated by its static key.
        peer: HostId,
        /// For which network.
        network: NetworkId,
        /// Opaque here.
        grant: Vec<u8>,
    },
    /// A peer refused the grant we present.
    ChannelRefused {
        /// Who.
        peer: HostId,
        /// For which network.
        network: NetworkId,
        /// Why.
        reason: GrantRefusal,
    },
    /// A link is there: the peer proved its keys.
    LinkUp {
        /// Who.
        peer: HostId,
    },
    /// A link is gone. While it is wanted, it is tried again without end.
    LinkDown {
        /// Who.
        peer: HostId,
        /// Why.
        reason: LinkDownReason,
    },
    /// A link wants a path to a peer and none is there yet: tell the peer our candidates and NAT over the control plane, and
    /// ours its own ([`crate::DataPlane::set_candidates`]), at once on both sides. Comes again, ever more seldom, while none is found.
    MeetWanted {
        /// Who.
        peer: HostId,
    },
    /// Where this host can be reached has changed: [`crate::DataPlane::own_paths`].
    CandidatesChanged,
    /// A link goes another way.
    PathChanged {
        /// Who.
        peer: HostId,
        /// The way; none: there is no path any more.
        path: Option<PathView>,
        /// Why.
        reason: PathReason,
    },
    /// The peer's node says something: [`crate::DataPlane::say`].
    Said {
        /// Who.
        peer: HostId,
        /// Opaque here.
        body: Vec<u8>,
    },
    /// A peer's authenticated datagrams come from another address; the link follows.
    Roamed {
        /// Who.
        peer: HostId,
        /// The address before.
        from: SocketAddr,
        /// The address now.
        to: SocketAddr,
    },
}

/// Why a link is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkDownReason {
    /// Nothing was heard for too long.
    Silent,
    /// The peer said that it leaves.
    PeerLeft,
    /// The session came to its end and no new one was agreed.
    SessionEnded,
    /// No network is shared any more.
    Unused,
    /// Node removed the peer, or gave it another key.
    Removed,
}

/// Names one question about a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChannelRequest {
    pub(super) peer: PeerIndex,
    pub(super) network: NetworkId,
    pub(super) digest: [u8; 8],
}

impl ChannelRequest {
    pub(super) fn digest(&self) -> GrantDigest {
        GrantDigest(self.digest)
    }
}
