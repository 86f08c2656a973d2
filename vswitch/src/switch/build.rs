//! From what the switch is told to what workers see: checks each value and builds the parts of a [`View`](super::view::View).

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use super::{
    config::{MachineBinding, NetworkConfig, NetworkId, PeerIndex, PortConfig, PortId},
    peers::PeersFull,
    view::{Home, Local, Network, Port, Rates, Record},
};
use crate::{
    HostId,
    hash::{AddressMap, Seed},
    mac::MacAddr,
    table::Table,
};

/// Networks on one host. More than its machines could use; each costs some kilobytes at least.
pub const NETWORKS_MAX: usize = 4_096;
/// Ports on one host: twice the machines a large host could run.
pub const PORTS_MAX: usize = 4_096;
/// Machines in one network: the lookup is measured up to 100,000 addresses; a record entry takes about 100 bytes.
pub const MACHINES_MAX: usize = 131_072;
/// IP addresses of each family on one machine's interface.
pub const ADDRESSES_MAX: usize = 64;
/// Addresses learned in one network that allows unknown ones: 128 KiB. A /20 full of nested guests fits.
pub const LEARNED_MAX: usize = 4_096;

/// Why a network is not as told. The old configuration stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetNetworkError {
    /// See [`NETWORKS_MAX`].
    #[error("this host has {NETWORKS_MAX} networks already")]
    NetworksFull,
    /// See [`MACHINES_MAX`].
    #[error("a network has at most {MACHINES_MAX} machines, this one has {0}")]
    TooManyMachines(usize),
    /// See [`ADDRESSES_MAX`].
    #[error("{0} has more than {ADDRESSES_MAX} addresses of one family")]
    TooManyAddresses(MacAddr),
    /// A group address or all zero.
    #[error("{0} is no address of one station")]
    NotStation(MacAddr),
    /// Two machines with one MAC address.
    #[error("two machines have the MAC address {0}")]
    MacTwice(MacAddr),
    /// Two machines with one IP address.
    #[error("two machines have the address {0}")]
    AddressTwice(IpAddr),
    /// Not an address one machine can have.
    #[error("{0} cannot be a machine's address")]
    NotAssignable(IpAddr),
    /// Too many hosts.
    #[error(transparent)]
    PeersFull(#[from] PeersFull),
}

/// Why a machine is not attached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The network comes first.
    #[error("network {0} is not configured here")]
    NetworkUnknown(NetworkId),
    /// See [`PORTS_MAX`].
    #[error("this host has {PORTS_MAX} ports already")]
    PortsFull,
    /// See [`ADDRESSES_MAX`].
    #[error("a port has at most {ADDRESSES_MAX} addresses of one family")]
    TooManyAddresses,
    /// A group address or all zero.
    #[error("{0} is no address of one station")]
    NotStation(MacAddr),
    /// Another port of the network has it.
    #[error("{0} is attached to this network already")]
    MacInUse(MacAddr),
    /// The record has it on another host.
    #[error("{0} belongs to a machine on another host")]
    MacElsewhere(MacAddr),
    /// Another machine has it.
    #[error("{0} belongs to another machine of this network")]
    AddressInUse(IpAddr),
    /// Not an address one machine can have.
    #[error("{0} cannot be a machine's address")]
    NotAssignable(IpAddr),
}

const fn is_assignable_ipv4(address: Ipv4Addr) -> bool {
    !(address.is_unspecified() || address.is_multicast() || address.is_broadcast() || address.is_loopback())
}

const fn is_assignable_ipv6(address: Ipv6Addr) -> bool {
    !(address.is_unspecified() || address.is_multicast() || address.is_loopback())
}

impl Record {
    fn empty(seed: Seed) -> Self {
        Self {
            by_mac: AddressMap::with_hasher(seed),
            by_ipv4: AddressMap::with_hasher(seed),
            by_ipv6: AddressMap::with_hasher(seed),
        }
    }

    fn build(
        machines: &[MachineBinding],
        seed: Seed,
        mut home: impl FnMut(HostId) -> Result<Home, PeersFull>,
    ) -> Result<Self, SetNetworkError> {
        let mut record = Self::empty(seed);
        for machine in machines {
            record.add(machine, home(machine.host)?)?;
        }
        Ok(record)
    }

    fn add(&mut self, machine: &MachineBinding, home: Home) -> Result<(), SetNetworkError> {
        let mac = machine.mac;
        if !mac.is_station() {
            return Err(SetNetworkError::NotStation(mac));
        }
        if machine.ipv4.len() > ADDRESSES_MAX || machine.ipv6.len() > ADDRESSES_MAX {
            return Err(SetNetworkError::TooManyAddresses(mac));
        }
        if self.by_mac.insert(mac, home).is_some() {
            return Err(SetNetworkError::MacTwice(mac));
        }
        for address in machine.ipv4.iter().copied() {
            if !is_assignable_ipv4(address) {
                return Err(SetNetworkError::NotAssignable(address.into()));
            }
            if self.by_ipv4.insert(address.to_bits(), mac).is_some_and(|other| other != mac) {
                return Err(SetNetworkError::AddressTwice(address.into()));
            }
        }
        for address in machine.ipv6.iter().copied().chain([mac.link_local()]) {
            if !is_assignable_ipv6(address) {
                return Err(SetNetworkError::NotAssignable(address.into()));
            }
            if self.by_ipv6.insert(address.to_bits(), mac).is_some_and(|other| other != mac) {
                return Err(SetNetworkError::AddressTwice(address.into()));
            }
        }
        Ok(())
    }
}

impl Local {
    fn empty(seed: Seed) -> Self {
        Self {
            by_mac: AddressMap::with_hasher(seed),
            by_ipv4: AddressMap::with_hasher(seed),
            by_ipv6: AddressMap::with_hasher(seed),
        }
    }

    fn add(&mut self, port: &Port) {
        self.by_mac.insert(port.mac, port.id);
        self.by_ipv4.extend(port.ipv4.iter().map(|address| (address.to_bits(), port.mac)));
        self.by_ipv6.extend(port.ipv6.iter().map(|address| (address.to_bits(), port.mac)));
        self.by_ipv6.insert(port.mac.link_local().to_bits(), port.mac);
    }
}

impl Network {
    /// The network as configured, keeping what `old` has that frames changed, and without ports yet.
    pub(super) fn build(
        config: &NetworkConfig,
        old: Option<&Self>,
        seed: Seed,
        mut index: impl FnMut(HostId) -> Result<Option<PeerIndex>, PeersFull>,
    ) -> Result<Self, SetNetworkError> {
        if config.machines.len() > MACHINES_MAX {
            return Err(SetNetworkError::TooManyMachines(config.machines.len()));
        }
        let mut members = HashSet::new();
        for host in &config.hosts {
            members.extend(index(*host)?);
        }
        let record = Record::build(&config.machines, seed, |host| {
            Ok(index(host)?.map_or(Home::Here, |peer| {
                members.insert(peer);
                Home::Peer(peer)
            }))
        })?;
        let mut peers: Box<[PeerIndex]> = members.into_iter().collect();
        peers.sort_unstable();
        let kept_rates = |peer: &PeerIndex| {
            let old = old?;
            let at = old.peers.binary_search(peer).ok()?;
            Some(Arc::clone(&old.member_rates[at]))
        };
        let member_rates = peers.iter().map(|peer| kept_rates(peer).unwrap_or_default()).collect();
        let learned = config.allow_unknown.then(|| {
            old.and_then(|old| old.learned.clone())
                .unwrap_or_else(|| Arc::new(Table::new(LEARNED_MAX, seed.hash(u64::from(config.mtu)))))
        });
        Ok(Self {
            id: config.id,
            mtu: config.mtu,
            record: Arc::new(record),
            peers,
            member_rates,
            ports: Box::default(),
            local: Local::empty(seed),
            learned,
        })
    }

    /// This network with exactly these ports.
    pub(super) fn with_ports<'a>(mut self, ports: impl Iterator<Item = &'a Port>, seed: Seed) -> Self {
        self.local = Local::empty(seed);
        self.ports = ports
            .map(|port| {
                self.local.add(port);
                port.id
            })
            .collect();
        self.ports.sort_unstable();
        self
    }

    /// Whether this port may be attached beside those that are.
    pub(super) fn check_port(&self, port: &PortConfig) -> Result<(), AttachError> {
        let mac = port.mac;
        if !mac.is_station() {
            return Err(AttachError::NotStation(mac));
        }
        if self.local.by_mac.contains_key(&mac) {
            return Err(AttachError::MacInUse(mac));
        }
        if matches!(self.record.by_mac.get(&mac), Some(Home::Peer(_))) {
            return Err(AttachError::MacElsewhere(mac));
        }
        if port.ipv4.len() > ADDRESSES_MAX || port.ipv6.len() > ADDRESSES_MAX {
            return Err(AttachError::TooManyAddresses);
        }
        for address in port.ipv4.iter().copied() {
            if !is_assignable_ipv4(address) {
                return Err(AttachError::NotAssignable(address.into()));
            }
            if self.owner_of_ipv4(address).is_some_and(|owner| owner != mac) {
                return Err(AttachError::AddressInUse(address.into()));
            }
        }
        for address in port.ipv6.iter().copied() {
            if !is_assignable_ipv6(address) {
                return Err(AttachError::NotAssignable(address.into()));
            }
            if self.owner_of_ipv6(address).is_some_and(|owner| owner != mac) {
                return Err(AttachError::AddressInUse(address.into()));
            }
        }
        Ok(())
    }
}

impl Port {
    pub(super) fn build(id: PortId, config: PortConfig) -> Self {
        Self {
            id,
            mac: config.mac,
            ipv4: config.ipv4.into(),
            ipv6: config.ipv6.into(),
            guard: config.guard,
            rates: Rates::default(),
        }
    }
}
