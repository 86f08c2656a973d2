//! Rules: which table of routes a packet is looked up in. Source: `linux/fib_rules.h`.

use std::net::{IpAddr, Ipv4Addr};

use super::address::{Hop, RT_TABLE_MAIN, family};
use super::link::octets;
use super::message::{FLAG_CREATE, FLAG_EXCLUSIVE};
use super::{Netlink, NetlinkError, acknowledged_request};

const RTM_NEWRULE: u16 = 32;
const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FR_ACT_TO_TBL: u8 = 1;
/// Bits of an IPv4 address.
const WHOLE: u8 = 32;

/// Tables of routes beside the kernel's own three, which are the last.
pub const TABLES: std::ops::Range<u8> = 1..RT_TABLE_MAIN - 1;

/// Which packets a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packets {
    /// From this address.
    From(Ipv4Addr),
    /// To this address.
    To(Ipv4Addr),
}

impl Netlink {
    /// Looks these packets, where they come in by a link, up in another table than the main one.
    pub fn add_rule(&mut self, link: &str, packets: Packets, table: u8) -> Result<(), NetlinkError> {
        let (kind, address, lengths) = match packets {
            Packets::To(address) => (FRA_DST, address, [WHOLE, 0]),
            Packets::From(address) => (FRA_SRC, address, [0, WHOLE]),
        };
        let address = IpAddr::from(address);
        // struct fib_rule_hdr: family, destination and source prefix lengths, service, table, reserved (2), action, flags (4)
        let header = [family(address), lengths[0], lengths[1], 0, table, 0, 0, FR_ACT_TO_TBL, 0, 0, 0, 0];
        let message = acknowledged_request(RTM_NEWRULE, FLAG_CREATE | FLAG_EXCLUSIVE, &header)
            .text(FRA_IIFNAME, link)
            .attribute(kind, &octets(address));
        self.route
            .request(&format!("look packets of {link} {packets:?} up in table {table}"), message)
            .map(drop)
    }

    /// The default route of a table beside the main one.
    pub fn add_default_route(&mut self, table: u8, via: Ipv4Addr) -> Result<(), NetlinkError> {
        self.add_route_in(table, Ipv4Addr::UNSPECIFIED.into(), 0, Hop::Via(via.into()))
    }
}
