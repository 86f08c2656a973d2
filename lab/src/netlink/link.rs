//! Links: made, configured, moved between namespaces, counted, removed.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

use super::message::{FLAG_CREATE, FLAG_EXCLUSIVE, Message, attribute, long_at, number_at};
use super::{Netlink, NetlinkError, acknowledged_request};
use crate::Netns;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_STATS64: u16 = 23;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_GROUP: u16 = 2;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_PORT: u16 = 15;

const IFF_UP: u32 = 1;
/// Bytes of `struct ifinfomsg`.
const INTERFACE_HEADER_BYTES: usize = 16;

/// What a link counted, from the kernel's `rtnl_link_stats64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkStatistics {
    /// Frames received.
    pub rx_packets: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
}

/// A point-to-point VXLAN link of the kernel: the unencrypted baseline of `bench links`.
#[derive(Debug, Clone, Copy)]
pub struct Vxlan {
    /// The network's number.
    pub id: u32,
    /// This end's underlay address.
    pub local: Ipv4Addr,
    /// The other end's underlay address.
    pub remote: Ipv4Addr,
    /// The UDP port at both ends.
    pub port: u16,
}

impl Netlink {
    /// Makes a veth pair, each end born inside its namespace: `name` in this one, `peer` in `peer_namespace` (or this one).
    pub fn create_veth(
        &mut self,
        name: &str,
        peer: &str,
        peer_namespace: Option<&Netns>,
        mtu: u32,
    ) -> Result<(), NetlinkError> {
        let message = new_link(name).number(IFLA_MTU, mtu).nested(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, "veth").nested(IFLA_INFO_DATA, |data| {
                data.block(VETH_INFO_PEER, &interface_header(0, 0, 0), |end| {
                    let end = end.text(IFLA_IFNAME, peer).number(IFLA_MTU, mtu);
                    match peer_namespace {
                        Some(namespace) => end.number(IFLA_NET_NS_FD, descriptor(namespace)),
                        None => end,
                    }
                })
            })
        });
        self.route.request(&format!("create the veth pair {name}, {peer}"), message).map(drop)
    }

    /// Makes a bridge.
    pub fn create_bridge(&mut self, name: &str) -> Result<(), NetlinkError> {
        let message = new_link(name).nested(IFLA_LINKINFO, |info| info.text(IFLA_INFO_KIND, "bridge"));
        self.route.request(&format!("create the bridge {name}"), message).map(drop)
    }

    /// Makes a VXLAN link.
    pub fn create_vxlan(&mut self, name: &str, vxlan: Vxlan) -> Result<(), NetlinkError> {
        let message = new_link(name).nested(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, "vxlan").nested(IFLA_INFO_DATA, |data| {
                data.number(IFLA_VXLAN_ID, vxlan.id)
                    .attribute(IFLA_VXLAN_GROUP, &vxlan.remote.octets())
                    .attribute(IFLA_VXLAN_LOCAL, &vxlan.local.octets())
                    .attribute(IFLA_VXLAN_LEARNING, &[1])
                    .attribute(IFLA_VXLAN_PORT, &vxlan.port.to_be_bytes())
            })
        });
        self.route.request(&format!("create the VXLAN link {name}"), message).map(drop)
    }

    /// The index of a link.
    pub fn link_index(&mut self, name: &str) -> Result<u32, NetlinkError> {
        let body = self.link(name)?;
        number_at(&body, 4).ok_or_else(|| short_answer(name))
    }

    /// A link's Ethernet address.
    pub fn link_address(&mut self, name: &str) -> Result<[u8; 6], NetlinkError> {
        let body = self.link(name)?;
        body.get(INTERFACE_HEADER_BYTES..)
            .and_then(|attributes| attribute(attributes, IFLA_ADDRESS))
            .and_then(|address| address.try_into().ok())
            .ok_or_else(|| short_answer(name))
    }

    /// What a link counted so far.
    pub fn link_statistics(&mut self, name: &str) -> Result<LinkStatistics, NetlinkError> {
        let body = self.link(name)?;
        let counted = body
            .get(INTERFACE_HEADER_BYTES..)
            .and_then(|attributes| attribute(attributes, IFLA_STATS64))
            .ok_or_else(|| short_answer(name))?;
        let at = |index: usize| long_at(counted, 8 * index).ok_or_else(|| short_answer(name));
        Ok(LinkStatistics { rx_packets: at(0)?, tx_packets: at(1)?, rx_bytes: at(2)?, tx_bytes: at(3)? })
    }

    /// Switches a link on.
    pub fn set_up(&mut self, name: &str) -> Result<(), NetlinkError> {
        let index = self.link_index(name)?;
        let message = acknowledged_request(RTM_NEWLINK, 0, &interface_header(index, IFF_UP, IFF_UP));
        self.route.request(&format!("switch {name} on"), message).map(drop)
    }

    /// Switches a link off.
    pub fn set_down(&mut self, name: &str) -> Result<(), NetlinkError> {
        let index = self.link_index(name)?;
        let message = acknowledged_request(RTM_NEWLINK, 0, &interface_header(index, 0, IFF_UP));
        self.route.request(&format!("switch {name} off"), message).map(drop)
    }

    /// Sets the largest payload of a link's frames.
    pub fn set_mtu(&mut self, name: &str, mtu: u32) -> Result<(), NetlinkError> {
        self.change(name, &format!("set the MTU of {name} to {mtu}"), |message| message.number(IFLA_MTU, mtu))
    }

    /// Sets a link's Ethernet address.
    pub fn set_link_address(&mut self, name: &str, mac: [u8; 6]) -> Result<(), NetlinkError> {
        self.change(name, &format!("set the Ethernet address of {name}"), |message| {
            message.attribute(IFLA_ADDRESS, &mac)
        })
    }

    /// Makes a link a port of a bridge.
    pub fn set_bridge(&mut self, name: &str, bridge: &str) -> Result<(), NetlinkError> {
        let master = self.link_index(bridge)?;
        self.change(name, &format!("put {name} into the bridge {bridge}"), |message| {
            message.number(IFLA_MASTER, master)
        })
    }

    /// Moves a link into another namespace.
    pub fn move_link(&mut self, name: &str, namespace: &Netns) -> Result<(), NetlinkError> {
        self.change(name, &format!("move {name} to another namespace"), |message| {
            message.number(IFLA_NET_NS_FD, descriptor(namespace))
        })
    }

    /// Removes a link, and with one end of a veth pair the other.
    pub fn delete_link(&mut self, name: &str) -> Result<(), NetlinkError> {
        let index = self.link_index(name)?;
        let message = acknowledged_request(RTM_DELLINK, 0, &interface_header(index, 0, 0));
        self.route.request(&format!("remove {name}"), message).map(drop)
    }

    fn change(
        &mut self,
        name: &str,
        attempted: &str,
        fill: impl FnOnce(Message) -> Message,
    ) -> Result<(), NetlinkError> {
        let index = self.link_index(name)?;
        let message = fill(acknowledged_request(RTM_NEWLINK, 0, &interface_header(index, 0, 0)));
        self.route.request(attempted, message).map(drop)
    }

    fn link(&mut self, name: &str) -> Result<Vec<u8>, NetlinkError> {
        let message =
            acknowledged_request(RTM_GETLINK, 0, &interface_header(0, 0, 0)).text(IFLA_IFNAME, name);
        self.route
            .request(&format!("find the link {name}"), message)?
            .into_iter()
            .next()
            .ok_or_else(|| short_answer(name))
    }
}

fn new_link(name: &str) -> Message {
    acknowledged_request(RTM_NEWLINK, FLAG_CREATE | FLAG_EXCLUSIVE, &interface_header(0, 0, 0))
        .text(IFLA_IFNAME, name)
}

fn short_answer(name: &str) -> NetlinkError {
    NetlinkError::new(format!("read the kernel's answer about {name}"), Errno::EBADMSG)
}

fn descriptor(namespace: &Netns) -> u32 {
    u32::try_from(namespace.as_fd().as_raw_fd()).expect("descriptors are not negative")
}

/// `struct ifinfomsg`: family, padding, type (2), index (4), flags (4), mask of flags (4).
fn interface_header(index: u32, flags: u32, mask: u32) -> [u8; INTERFACE_HEADER_BYTES] {
    let mut header = [0; INTERFACE_HEADER_BYTES];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&mask.to_ne_bytes());
    header
}

/// An address as the network writes it.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
