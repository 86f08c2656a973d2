//! One look at a frame: everything the guards and the neighbour answers need, taken apart once.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::{
    frame::{
        arp::Arp,
        ethernet::{Ethernet, EthernetError, ethertype},
        ip::{Fragment, Ipv4, Ipv6, protocol},
        neighbour_discovery::Message,
    },
    switch::DropReason,
};

/// The multicast listener messages, which a machine may send before it has an address (RFC 3590, RFC 9777).
const LISTENER_MESSAGES: [u8; 4] = [130, 131, 132, 143];
const DHCP_SERVER_PORT: u16 = 67;
const DHCPV6_SERVER_PORT: u16 = 547;

/// A frame's header and what its contents claim.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inspected {
    pub(crate) ethernet: Ethernet,
    pub(crate) content: Content,
}

/// What a frame says about addresses.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Content {
    Arp(Arp),
    Ipv4 {
        source: Ipv4Addr,
        destination: Ipv4Addr,
        dhcp_server: bool,
    },
    Ipv6 {
        source: Ipv6Addr,
        kind: Ipv6Kind,
    },
    /// Nothing: another protocol.
    Other,
}

/// What an IPv6 packet is, as far as guards care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ipv6Kind {
    Neighbour(Message),
    /// Multicast listener reports: allowed without a source address.
    Listener,
    DhcpServer,
    Other,
}

impl Inspected {
    /// Whether it asks or tells who has an address: ARP, neighbour solicitation or advertisement.
    #[inline]
    pub(crate) fn is_neighbour(&self) -> bool {
        use Message::{Advertisement, Solicitation};
        matches!(
            self.content,
            Content::Arp(_)
                | Content::Ipv6 { kind: Ipv6Kind::Neighbour(Solicitation { .. } | Advertisement { .. }), .. }
        )
    }

    /// Reads a frame; what is malformed enough to hide its claims is refused with a reason.
    #[inline]
    pub(crate) fn of(frame: &[u8]) -> Result<Self, DropReason> {
        let ethernet = Ethernet::parse(frame).map_err(|error| match error {
            EthernetError::Truncated => DropReason::Truncated,
            EthernetError::TooManyTags => DropReason::TooManyTags,
        })?;
        let payload = ethernet.payload(frame);
        let content = match ethernet.ethertype {
            ethertype::IPV4 => ipv4(payload)?,
            ethertype::IPV6 => ipv6(payload)?,
            ethertype::ARP => Content::Arp(Arp::parse(payload).map_err(|_| DropReason::ArpMalformed)?),
            _ => Content::Other,
        };
        Ok(Self { ethernet, content })
    }
}

#[inline]
fn ipv4(packet: &[u8]) -> Result<Content, DropReason> {
    let ip = Ipv4::parse(packet).map_err(|_| DropReason::IpMalformed)?;
    let dhcp_server = ip.protocol == protocol::UDP
        && ip.fragment != Fragment::Later
        && source_port(&packet[ip.header_bytes..ip.total_bytes])? == DHCP_SERVER_PORT;
    Ok(Content::Ipv4 { source: ip.source, destination: ip.destination, dhcp_server })
}

#[inline]
fn ipv6(packet: &[u8]) -> Result<Content, DropReason> {
    let ip = Ipv6::parse(packet).map_err(|_| DropReason::IpMalformed)?;
    let upper = &packet[ip.upper_offset..ip.total_bytes];
    let kind = match ip.protocol {
        _ if ip.fragment == Fragment::Later => Ipv6Kind::Other,
        protocol::UDP if source_port(upper)? == DHCPV6_SERVER_PORT => Ipv6Kind::DhcpServer,
        protocol::ICMPV6 => match Message::parse(&ip, upper).map_err(|_| DropReason::NeighbourMalformed)? {
            Some(message) => Ipv6Kind::Neighbour(message),
            None if LISTENER_MESSAGES.contains(&upper[0]) => Ipv6Kind::Listener,
            None => Ipv6Kind::Other,
        },
        _ => Ipv6Kind::Other,
    };
    Ok(Content::Ipv6 { source: ip.source, kind })
}

/// A transport header cut so short that its ports are in the next fragment could hide any of them.
#[inline]
fn source_port(upper: &[u8]) -> Result<u16, DropReason> {
    match *upper {
        [high, low, _, _, ..] => Ok(u16::from_be_bytes([high, low])),
        _ => Err(DropReason::IpMalformed),
    }
}
