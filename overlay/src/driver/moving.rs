//! This host changes its network: connections from an address that is gone are dead, and without this neither end would know before most of a minute is over.
//!
//! The story: when a connection stands, the address it leaves from is noted. When addresses change and the way to its other end leaves from another now, or there is none,
//! the connection is closed, and its host dialled again, and once more whenever another address comes. A network that was joined changes no way, and closes nothing. Where the
//! control plane listens on given addresses instead of any, it has no other to go on with, and nothing happens here. Where it is a NAT's address that changed, which node learns
//! by the data plane, all connections are dead that went through it.
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
        self.lose(|leaving| own_to(leaving.to) != Some(leaving.own))
    }

    /// The connections that go through a NAT.
    fn take_outside(&mut self) -> Vec<ConnectionId> {
        self.lose(|leaving| is_private(leaving.own) && !is_private(leaving.to.ip()))
    }

    fn lose(&mut self, is_dead: impl Fn(&Leaving) -> bool) -> Vec<ConnectionId> {
        let dead: Vec<(ConnectionId, HostId)> = self
            .leaves_from
            .iter()
            .filter(|(_, leaving)| is_dead(leaving))
            .map(|(id, leaving)| (*id, leaving.host))
            .collect();
        for (_, host) in &dead {
            if self.lost.len() < PEERS_MAX {
                self.lost.insert(*host);
            }
        }
        dead.into_iter().map(|(id, _)| id).collect()
    }
}

/// Whether only hosts behind the same NAT know the address: RFC 1918, a carrier's (RFC 6598), a link's own, this host's.
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            let is_carriers = first == 100 && second & 0xc0 == 64;
            v4.is_private() || v4.is_link_local() || v4.is_loopback() || is_carriers
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_loopback(),
    }
}

impl Driver {
    /// Addresses of this host have changed.
    pub(super) fn close_dead_connections(&mut self) {
        let dead = self.moving.take_dead(own_address_to);
        self.close_lost(dead, "this host has another address now");
    }

    /// The NAT before this host has another address.
    pub(super) fn close_outside_connections(&mut self) {
        let dead = self.moving.take_outside();
        self.close_lost(dead, "the NAT before this host has another address now");
    }

    fn close_lost(&mut self, dead: Vec<ConnectionId>, why: &str) {
        if !dead.is_empty() {
            self.door.lock().moved();
        }
        for id in dead {
            self.close(id, FailureReason::Lost { detail: why.to_owned() });
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
    fn a_nat_with_another_address_ends_what_goes_through_it_and_nothing_else() {
        let mut moving = Moving::default();
        let id = ConnectionId::new_unchecked;
        let ways = [
            ("10.0.0.2", "198.51.100.1:7440"),
            ("10.0.0.2", "10.0.0.3:7440"),
            ("100.64.0.2", "203.0.113.1:7440"),
            ("192.0.2.1", "198.51.100.1:7440"),
            ("fd00::2", "[fd00::3]:7440"),
            ("2001:db8::2", "[2001:db8::3]:7440"),
        ];
        for (number, (own, to)) in ways.into_iter().enumerate() {
            let leaving =
                Leaving { host: HostId::random(), own: own.parse().unwrap(), to: to.parse().unwrap() };
            moving.leaves_from.insert(id(number), leaving);
        }
        let mut ended = moving.take_outside();
        ended.sort_unstable();
        assert_eq!(ended, [id(0), id(2)]);
    }

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
