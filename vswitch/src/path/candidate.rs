//! Candidates: addresses at which a host may be reached, and ways to it through relays, as node tells them.

use std::net::{IpAddr, SocketAddr};

use crate::HostId;

/// Candidates of one host: a few interfaces with both families, what some members saw, mapped ports. Each costs a dozen probes.
pub const CANDIDATES_MAX: usize = 16;
/// Ways to one host through relays: the one in use, a warm spare, and two more.
pub const RELAYED_MAX: usize = 4;

/// An address at which a host may be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Candidate {
    /// Where.
    pub address: SocketAddr,
    /// How it is known.
    pub kind: CandidateKind,
}

/// How an address is known, which says how it is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CandidateKind {
    /// Of one of the host's own interfaces.
    Local,
    /// Configured by the host's owner.
    Told,
    /// Opened at a router by a port mapping protocol.
    Mapped,
    /// What other members saw the host's probes come from; behind a NAT it takes datagrams only while both sides send.
    Observed,
    /// A local socket of node's that carries datagrams over a control connection: the last resort where UDP is blocked.
    Stream,
}

impl Candidate {
    /// An address of an interface.
    pub fn local(address: SocketAddr) -> Self {
        Self { address, kind: CandidateKind::Local }
    }

    /// Whether a datagram may be sent there at all: multicast, broadcast and "any" are nobody's address.
    pub(crate) fn usable(&self) -> bool {
        let ip = self.address.ip();
        let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
        self.address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
    }
}

/// A way to a host through one relay, or through the first of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RelayedPath {
    /// The (first) relay.
    pub relay: HostId,
    /// Where it is reached; a path to it that the data plane has measured is taken before that.
    pub address: SocketAddr,
    /// What to send with: the relay's [`RelayTokens::incoming`](super::RelayTokens::incoming) of the leg towards the host.
    pub token: u32,
    /// What the host's datagrams arrive with: the (first) relay's [`RelayTokens::outgoing`](super::RelayTokens::outgoing) of the leg back.
    pub token_back: u32,
    /// Added to the measured round trip where paths are compared, in milliseconds.
    pub cost: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobodys_addresses_are_not_usable() {
        for address in
            ["0.0.0.0:7", "255.255.255.255:7", "224.0.0.1:7", "[ff02::1]:7", "[::]:7", "192.0.2.1:0"]
        {
            assert!(!Candidate::local(address.parse().unwrap()).usable(), "{address}");
        }
        for address in ["192.0.2.1:7", "127.0.0.1:7", "[fe80::1]:7", "[2001:db8::1]:7"] {
            assert!(Candidate::local(address.parse().unwrap()).usable(), "{address}");
        }
    }
}
