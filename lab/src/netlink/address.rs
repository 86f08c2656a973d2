//! Addresses, routes and neighbours.

use std::net::IpAddr;

use super::link::octets;
use super::message::{FLAG_CREATE, FLAG_EXCLUSIVE};
use super::{Netlink, NetlinkError, acknowledged_request};

const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWNEIGH: u16 = 28;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
/// No duplicate address detection: a lab address serves at once, not after a second.
const IFA_F_NODAD: u32 = 0x02;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
/// It was heard of a moment ago, and is asked again when that is long ago.
const NUD_REACHABLE: u16 = 0x02;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
pub(super) const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RTN_UNICAST: u8 = 1;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;

/// Where a route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop<'a> {
    /// Through a neighbour.
    Via(IpAddr),
    /// Straight onto a link.
    Device(&'a str),
}

/// What is done to a table of routes.
#[derive(Debug, Clone, Copy)]
struct Change {
    kind: u16,
    flags: u16,
    table: u8,
}

impl Netlink {
    /// Gives a link an address, at once usable.
    pub fn add_address(&mut self, link: &str, address: IpAddr, prefix_len: u8) -> Result<(), NetlinkError> {
        let index = self.link_index(link)?;
        // struct ifaddrmsg: family, prefix length, flags, scope, index (4)
        let mut header = [family(address), prefix_len, 0, 0, 0, 0, 0, 0];
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        let message = acknowledged_request(RTM_NEWADDR, FLAG_CREATE | FLAG_EXCLUSIVE, &header)
            .attribute(IFA_LOCAL, &octets(address))
            .attribute(IFA_ADDRESS, &octets(address))
            .number(IFA_FLAGS, IFA_F_NODAD);
        self.route.request(&format!("give {link} the address {address}/{prefix_len}"), message).map(drop)
    }

    /// Says which Ethernet address a neighbour has, as if it had just answered.
    pub fn add_neighbour(&mut self, link: &str, address: IpAddr, mac: [u8; 6]) -> Result<(), NetlinkError> {
        let index = self.link_index(link)?;
        // struct ndmsg: family, padding (3), index (4), state (2), flags, type
        let mut header = [0; 12];
        header[0] = family(address);
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        header[8..10].copy_from_slice(&NUD_REACHABLE.to_ne_bytes());
        let message = acknowledged_request(RTM_NEWNEIGH, FLAG_CREATE | FLAG_EXCLUSIVE, &header)
            .attribute(NDA_DST, &octets(address))
            .attribute(NDA_LLADDR, &mac);
        self.route.request(&format!("tell {link} of the neighbour {address}"), message).map(drop)
    }

    /// Adds a route; `0.0.0.0/0` or `::/0` is the default route.
    pub fn add_route(
        &mut self,
        destination: IpAddr,
        prefix_len: u8,
        hop: Hop<'_>,
    ) -> Result<(), NetlinkError> {
        self.add_route_in(RT_TABLE_MAIN, destination, prefix_len, hop)
    }

    pub(super) fn add_route_in(
        &mut self,
        table: u8,
        destination: IpAddr,
        prefix_len: u8,
        hop: Hop<'_>,
    ) -> Result<(), NetlinkError> {
        let attempted = format!("add a route to {destination}/{prefix_len}");
        let change = Change { kind: RTM_NEWROUTE, flags: FLAG_CREATE | FLAG_EXCLUSIVE, table };
        self.route(&attempted, change, destination, prefix_len, hop)
    }

    /// Takes a route away.
    pub fn remove_route(
        &mut self,
        destination: IpAddr,
        prefix_len: u8,
        hop: Hop<'_>,
    ) -> Result<(), NetlinkError> {
        let attempted = format!("remove the route to {destination}/{prefix_len}");
        let change = Change { kind: RTM_DELROUTE, flags: 0, table: RT_TABLE_MAIN };
        self.route(&attempted, change, destination, prefix_len, hop)
    }

    fn route(
        &mut self,
        attempted: &str,
        change: Change,
        destination: IpAddr,
        prefix_len: u8,
        hop: Hop<'_>,
    ) -> Result<(), NetlinkError> {
        let scope = match hop {
            Hop::Via(_) => RT_SCOPE_UNIVERSE,
            Hop::Device(_) => RT_SCOPE_LINK,
        };
        // struct rtmsg: family, destination and source prefix lengths, service, table, protocol, scope, type, flags (4)
        let header = [
            family(destination),
            prefix_len,
            0,
            0,
            change.table,
            RTPROT_STATIC,
            scope,
            RTN_UNICAST,
            0,
            0,
            0,
            0,
        ];
        let message = acknowledged_request(change.kind, change.flags, &header);
        let message =
            if prefix_len == 0 { message } else { message.attribute(RTA_DST, &octets(destination)) };
        let message = match hop {
            Hop::Via(gateway) => message.attribute(RTA_GATEWAY, &octets(gateway)),
            Hop::Device(link) => {
                let index = self.link_index(link)?;
                message.number(RTA_OIF, index)
            }
        };
        self.route.request(attempted, message).map(drop)
    }
}

pub(super) fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    }
}
