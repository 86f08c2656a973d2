//! The configured state as workers see it: built once per change, never changed after, shared by [`Arc`].
//!
//! What many frames change (rates, learned addresses) hangs behind an [`Arc`] of its own, so that it survives a new view.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use super::{
    config::{Guard, NetworkId, PeerIndex, PortId},
    storm::{ASKED_AGAIN_PER_SECOND, GROUP_PER_SECOND, LEARN_PER_SECOND, Rate},
};
use crate::{
    hash::{AddressMap, Seed},
    mac::MacAddr,
    table::{Place as Heard, Table},
};

/// Everything configured.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) networks: AddressMap<u128, Arc<Network>>,
    /// Each port with its network, so that one lookup finds both.
    pub(crate) ports: AddressMap<u32, (Arc<Port>, Arc<Network>)>,
}

impl View {
    pub(crate) fn empty(seed: Seed) -> Self {
        Self { networks: AddressMap::with_hasher(seed), ports: AddressMap::with_hasher(seed) }
    }

    /// A network's ports, in order.
    pub(super) fn ports_of(&self, id: NetworkId) -> Vec<Arc<Port>> {
        let ports = self.network(id).map_or(&[][..], |network| &network.ports);
        ports.iter().filter_map(|port| self.ports.get(&port.0)).map(|(port, _)| Arc::clone(port)).collect()
    }

    /// This view with one network added or replaced, and with exactly these ports in it.
    pub(super) fn with_network(&self, network: Network, ports: Vec<Arc<Port>>, seed: Seed) -> Self {
        let mut view = self.without_network(network.id);
        let network = Arc::new(network.with_ports(ports.iter().map(AsRef::as_ref), seed));
        view.networks.insert(key(network.id), Arc::clone(&network));
        view.ports.extend(ports.into_iter().map(|port| (port.id.0, (port, Arc::clone(&network)))));
        view
    }

    /// This view without a network and its ports.
    pub(super) fn without_network(&self, id: NetworkId) -> Self {
        let mut view = Self { networks: self.networks.clone(), ports: self.ports.clone() };
        view.networks.remove(&key(id));
        view.ports.retain(|_, (_, network)| network.id != id);
        view
    }

    #[inline]
    pub(crate) fn network(&self, id: NetworkId) -> Option<&Arc<Network>> {
        self.networks.get(&key(id))
    }
}

const fn key(id: NetworkId) -> u128 {
    u128::from_ne_bytes(id.0)
}

/// One network.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(crate) id: NetworkId,
    pub(crate) mtu: u16,
    pub(crate) record: Arc<Record>,
    /// Hosts with members, in order, and in step with `member_rates`.
    pub(crate) peers: Box<[PeerIndex]>,
    pub(crate) member_rates: Box<[Arc<Rates>]>,
    pub(crate) ports: Box<[PortId]>,
    pub(crate) local: Local,
    /// Present where unknown addresses are allowed.
    pub(crate) learned: Option<Arc<Table>>,
}

/// What the record says, by each kind of address.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) by_mac: AddressMap<MacAddr, Home>,
    pub(crate) by_ipv4: AddressMap<u32, MacAddr>,
    pub(crate) by_ipv6: AddressMap<u128, MacAddr>,
}

/// The addresses of the ports attached here, of which the record may know nothing (standalone networks).
#[derive(Debug, Clone)]
pub(crate) struct Local {
    pub(crate) by_mac: AddressMap<MacAddr, PortId>,
    pub(crate) by_ipv4: AddressMap<u32, MacAddr>,
    pub(crate) by_ipv6: AddressMap<u128, MacAddr>,
}

/// On which host the record has a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    Here,
    Peer(PeerIndex),
}

/// Where frames for an address go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Port(PortId),
    Peer(PeerIndex),
    /// A machine of this host, not attached now.
    Absent,
}

/// One port.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) id: PortId,
    pub(crate) mac: MacAddr,
    pub(crate) ipv4: Box<[Ipv4Addr]>,
    pub(crate) ipv6: Box<[Ipv6Addr]>,
    pub(crate) guard: Guard,
    pub(crate) rates: Rates,
}

/// What one port or peer may do in a second.
#[derive(Debug)]
pub(crate) struct Rates {
    pub(super) group: Rate,
    pub(super) asked_again: Rate,
    pub(super) learn: Rate,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            group: Rate::per_second(GROUP_PER_SECOND),
            asked_again: Rate::per_second(ASKED_AGAIN_PER_SECOND),
            learn: Rate::per_second(LEARN_PER_SECOND),
        }
    }
}

impl Network {
    /// Where the record or a port says an address is. What was only heard of does not count here.
    #[inline]
    pub(crate) fn known_place(&self, mac: MacAddr) -> Option<Place> {
        match self.record.by_mac.get(&mac) {
            Some(Home::Peer(peer)) => Some(Place::Peer(*peer)),
            Some(Home::Here) => {
                Some(self.local.by_mac.get(&mac).map_or(Place::Absent, |port| Place::Port(*port)))
            }
            None => self.local.by_mac.get(&mac).map(|port| Place::Port(*port)),
        }
    }

    /// A place that was heard, unless its port or peer has left the network since.
    #[inline]
    pub(crate) fn heard_place(&self, heard: Heard) -> Option<Place> {
        match heard {
            Heard::Port(port) => {
                let port = PortId(port);
                self.ports.binary_search(&port).ok().map(|_| Place::Port(port))
            }
            Heard::Peer(peer) => {
                let peer = PeerIndex(peer);
                self.peers.binary_search(&peer).ok().map(|_| Place::Peer(peer))
            }
        }
    }

    /// Whose IPv4 address it is, by the record or a port.
    #[inline]
    pub(crate) fn owner_of_ipv4(&self, address: Ipv4Addr) -> Option<MacAddr> {
        let key = address.to_bits();
        self.record.by_ipv4.get(&key).or_else(|| self.local.by_ipv4.get(&key)).copied()
    }

    /// Whose IPv6 address it is, by the record or a port; link-local addresses derived from known MAC addresses are known.
    #[inline]
    pub(crate) fn owner_of_ipv6(&self, address: Ipv6Addr) -> Option<MacAddr> {
        let key = address.to_bits();
        self.record.by_ipv6.get(&key).or_else(|| self.local.by_ipv6.get(&key)).copied()
    }

    /// The rates of a member host; `None` if it is no member.
    #[inline]
    pub(crate) fn member(&self, peer: PeerIndex) -> Option<&Rates> {
        let at = self.peers.binary_search(&peer).ok()?;
        Some(&self.member_rates[at])
    }

    pub(crate) const fn allows_unknown(&self) -> bool {
        self.learned.is_some()
    }
}
