//! This host changes its network: connections from an address that is gone are dead, and without this neither end would know before most of a minute is over.
//!
//! The story: when a connection stands, the address it leaves from is noted. When addresses change and the way to its other end leaves from another now, or there is none,
//! the connection is closed, and its host dialled again, and once more whenever another address comes. A network that was joined changes no way, and closes nothing. Where the
//! control plane listens on given addresses instead of any, it has no other to go on with, and nothing happens here.
//!
//! Owns: those addresses, and the hosts that were lost with one. Bounded by the peers.

use super::Driver;
use crate::{
    identity::HostId,
    peers::{FailureReason, PEERS_MAX},
};
use libp2p::swarm::ConnectionId;
use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Moving {
    leaves_from: HashMap<ConnectionId, Leaving>,
    lost: BTreeSet<HostId>,
}

#[derive(Debug, Clone, Copy)]
struct Leaving {
    host: HostId,
    own: IpAddr,
    to: SocketAddr,
}

/// The address from which the system would send there now. The socket sends nothing: to connect it only asks for the route.
fn own_address_to(remote: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match remote {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(remote).ok()?;
    socket.local_addr().ok().map(|own| own.ip())
}

impl Moving {
    /// A connection to a host, or to the relay before it, stands.
    pub(super) fn established(&mut self, host: HostId, id: ConnectionId, remote: SocketAddr) {
        self.lost.remove(&host);
        if let Some(own) = own_address_to(remote) {
            self.leaves_from.insert(id, Leaving { host, own, to: remote });
        }
    }

    /// Whether the last connection to a host was lost with an address.
    pub(super) fn is_lost(&self, host: &HostId) -> bool {
        self.lost.contains(host)
    }

    /// One is gone; whether its host was lost with an address.
    pub(super) fn closed(&mut self, host: &HostId, id: ConnectionId) -> bool {
        self.leaves_from.remove(&id);
        self.lost.contains(host)
    }

    /// The connections whose way does not leave from where it did; `own_to` says from where it leaves now.
    fn take_dead(&mut self, own_to: impl Fn(SocketAddr) -> Option<IpAddr>) -> Vec<ConnectionId> {
        let is_dead = |(_, leaving): &(&ConnectionId, &Leaving)| own_to(leaving.to) != Some(leaving.own);
        let dead: Vec<(ConnectionId, HostId)> =
            self.leaves_from.iter().filter(is_dead).map(|(id, leaving)| (*id, leaving.host)).collect();
        for (_, host) in &dead {
            if self.lost.len() < PEERS_MAX {
                self.lost.insert(*host);
            }
        }
        dead.into_iter().map(|(id, _)| id).collect()
    }
}

impl Driver {
    /// Addresses of this host have changed.
    pub(super) fn close_dead_connections(&mut self) {
        let dead = self.moving.take_dead(own_address_to);
        if !dead.is_empty() {
            self.door.lock().moved();
        }
        for id in dead {
            let detail = "this host has another address now".to_owned();
            self.close(id, FailureReason::Lost { detail });
        }
    }

    /// There is another: those who were lost may be reached from it.
    pub(super) fn on_address_new(&mut self) {
        if self.moving.lost.is_empty() {
            return;
        }
        let lost: Vec<HostId> = self.moving.lost.iter().copied().collect();
        for host in lost {
            self.peers.retry_now(&host);
        }
        self.upkeep_connections();
    }

    /// The connection to a host that was lost with an address is closed.
    pub(super) fn redial(&mut self, host: &HostId) {
        self.peers.retry_now(host);
        self.upkeep_connections();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_whose_way_leaves_from_elsewhere_now_are_dead_and_others_are_not() {
        let (here, there) = (HostId::random(), HostId::random());
        let id = ConnectionId::new_unchecked;
        let mut moving = Moving::default();
        moving.established(here, id(1), "127.0.0.1:7440".parse().unwrap());
        let (own, to) = ("192.0.2.1".parse().unwrap(), "198.51.100.1:7440".parse().unwrap());
        moving.leaves_from.insert(id(2), Leaving { host: there, own, to });
        let before = |remote: SocketAddr| if remote == to { Some(own) } else { own_address_to(remote) };
        assert_eq!(moving.take_dead(before), []);
        let after = |remote: SocketAddr| own_address_to(remote).filter(|_| remote != to);
        assert_eq!(moving.take_dead(after), [id(2)]);
        assert!(moving.closed(&there, id(2)) && !moving.closed(&here, id(1)));
        assert!(moving.leaves_from.is_empty());
        moving.established(there, id(3), "127.0.0.1:7440".parse().unwrap());
        assert!(!moving.closed(&there, id(3)), "found again");
    }
}
