//! What a node must keep to be the same member after a restart; node writes it down whenever [`Event::StateChanged`](crate::Event) brings one.
//!
//! With it a host comes back without a ticket: its membership, whom it put out or let in, and where it last met others. The identity (the host's
//! key pair) is not in it; node keeps that by itself. It holds secrets: the file is for the node's owner alone.

use crate::{
    clock::UnixSeconds,
    document::Document,
    identity::HostId,
    membership::{Chain, Membership, Revocation},
};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Most peers kept for the next life. All being gone at once is what a new ticket is for.
pub const KNOWN_PEERS_MAX: usize = 64;

/// A peer this host was connected with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownPeer {
    /// Who.
    pub host: HostId,
    /// Where, the proven address first.
    pub addresses: Vec<SocketAddr>,
    /// When last.
    pub last_seen: UnixSeconds,
}

/// All of it. An empty one is that of a host that belongs nowhere yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverlayState {
    /// The proof, if this host belongs to an overlay.
    pub(crate) membership: Option<Membership>,
    /// Who was put out.
    pub(crate) revocations: Vec<Revocation>,
    /// What operators said.
    #[serde(default)]
    pub(crate) documents: Vec<Document>,
    /// Chains this host signed for others: evidence for putting them out.
    pub(crate) issued: Vec<Chain>,
    /// Where to look for others first.
    pub(crate) known: Vec<KnownPeer>,
    /// The greatest sequence number this host's record has had.
    pub(crate) sequence: u64,
}

impl OverlayState {
    /// The membership, if there is one.
    pub fn membership(&self) -> Option<&Membership> {
        self.membership.as_ref()
    }
}
