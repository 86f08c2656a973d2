//! What the switch is told: networks, the machines the record names, ports and their guards.
//!
//! Plain values. [`super::Switch`] checks them on the way in; nothing here looks at a frame.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::{HostId, mac::MacAddr};

/// Names one virtual LAN: a broadcast domain across hosts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NetworkId(pub [u8; 16]);

impl std::fmt::Display for NetworkId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for NetworkId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Names one attachment of a machine to the switch. Never used twice in the life of a switch, so that a late detach
/// cannot reach another machine's port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct PortId(pub(crate) u32);

impl std::fmt::Display for PortId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "port {}", self.0)
    }
}

impl std::fmt::Debug for PortId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// A host's short name inside this switch (a [`HostId`] is 80 bytes, too long to compare per frame). Given by
/// [`super::Switch::peer`], never given twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct PeerIndex(pub(crate) u32);

impl PeerIndex {
    /// The number itself, to key a table by.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl std::fmt::Debug for PeerIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "peer {}", self.0)
    }
}

/// One network as the record (or a standalone network's members) describes it.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// Which network.
    pub id: NetworkId,
    /// The largest payload of a frame on this network, without Ethernet header and tags.
    pub mtu: u16,
    /// Every machine the record names, on this host and on others.
    pub machines: Vec<MachineBinding>,
    /// The *other* hosts that have members.
    pub hosts: Vec<HostId>,
    /// Whether addresses the record does not name may be used and are learned (standalone networks, nested guests).
    pub allow_unknown: bool,
}

/// What the record says of one machine's interface: the address it has and the host it runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineBinding {
    /// The interface's MAC address.
    pub mac: MacAddr,
    /// Its IPv4 addresses.
    pub ipv4: Vec<Ipv4Addr>,
    /// Its IPv6 addresses beside the link-local one derived from the MAC address.
    pub ipv6: Vec<Ipv6Addr>,
    /// The host that runs the machine.
    pub host: HostId,
}

/// One attachment of a machine (or of the host itself) on this host.
#[derive(Debug, Clone)]
pub struct PortConfig {
    /// The port's own MAC address.
    pub mac: MacAddr,
    /// The IPv4 addresses that may be used as source on the port.
    pub ipv4: Vec<Ipv4Addr>,
    /// The IPv6 addresses that may be used, beside link-local ones.
    pub ipv6: Vec<Ipv6Addr>,
    /// What the machine may send.
    pub guard: Guard,
    /// Whether frames to and from this port carry a virtio-net header.
    pub vnet_hdr: bool,
}

/// How far a port is trusted with addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Guard {
    /// Only the port's own MAC and IP addresses; no answers of a DHCP server, no router advertisements.
    Strict,
    /// Also addresses nobody in the record has (bridged or nested guests, the host's own port on a standalone network).
    AllowUnknown,
}
