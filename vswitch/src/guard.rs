//! Guards: what a port or a peer may claim about itself in the frames it sends.
//!
//! # Rules for a port
//! - Its source MAC address is its own. With [`Guard::AllowUnknown`] also one that nobody has by the record or a port.
//! - Its source IP address (in IPv4, IPv6, ARP and neighbour discovery) is its own, or a link-local IPv6 address that is nobody
//!   else's (machines may choose those freely, RFC 7217), or none where a machine without address must speak (DHCP, duplicate
//!   address detection, listener reports). With `AllowUnknown` also one that nobody has.
//! - In a VLAN of the machine's own (a tag with an id), the record's addresses do not apply, but nobody else's may be claimed.
//! - ARP and neighbour discovery say the same MAC address inside as outside.
//! - A strict port sends no answers of a DHCP server (RFC 7610) and speaks not as a router (RFC 6105).
//!
//! # Rules for a peer
//! - A MAC or IP address that the record has on another host, or a port has here, is not the peer's to use.
//! - ARP and neighbour discovery say the same MAC address inside as outside, and where unknown addresses are not allowed no DHCP server
//!   and no router speaks: a host whose owner is hostile gains little by leaving its own guards out.
//!
//! It refuses to know where a frame goes. Every refusal is a [`DropReason`].

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::{
    frame::{
        arp::{Arp, Operation},
        neighbour_discovery::Message,
    },
    inspect::{Content, Inspected, Ipv6Kind},
    mac::MacAddr,
    switch::{
        DropReason, Guard,
        view::{Network, Port},
    },
};

/// Whether a port may have sent this, its source MAC address being accepted already.
#[inline]
pub(crate) fn port(inspected: &Inspected, port: &Port, network: &Network) -> Result<(), DropReason> {
    let rules = Rules {
        network,
        mac: inspected.ethernet.source,
        own: (port.guard == Guard::Strict && inspected.ethernet.vlan == 0)
            .then_some((&port.ipv4, &port.ipv6)),
        services: port.guard == Guard::AllowUnknown,
    };
    rules.content(&inspected.content)
}

/// Whether a peer may have sent this, its source MAC address being accepted already.
#[inline]
pub(crate) fn peer(inspected: &Inspected, network: &Network) -> Result<(), DropReason> {
    let rules =
        Rules { network, mac: inspected.ethernet.source, own: None, services: network.allows_unknown() };
    rules.content(&inspected.content)
}

/// What applies to one sender.
struct Rules<'a> {
    network: &'a Network,
    mac: MacAddr,
    /// The only addresses that may be used, where that is so.
    own: Option<(&'a [Ipv4Addr], &'a [Ipv6Addr])>,
    /// Whether the sender may be a DHCP server or a router.
    services: bool,
}

impl Rules<'_> {
    #[inline]
    fn content(&self, content: &Content) -> Result<(), DropReason> {
        match content {
            Content::Other => Ok(()),
            Content::Arp(arp) => self.arp(arp),
            Content::Ipv4 { source, destination, dhcp_server } => {
                if *dhcp_server && !self.services {
                    return Err(DropReason::DhcpServer);
                }
                // A DHCP client without an address (RFC 2131 section 4.1).
                if source.is_unspecified() && destination.is_broadcast() {
                    return Ok(());
                }
                self.ipv4(*source)
            }
            Content::Ipv6 { source, kind } => match kind {
                Ipv6Kind::DhcpServer if !self.services => Err(DropReason::DhcpServer),
                Ipv6Kind::Neighbour(message) => self.neighbour(*source, message),
                Ipv6Kind::Listener if source.is_unspecified() => Ok(()),
                _ => self.ipv6(*source),
            },
        }
    }

    fn arp(&self, arp: &Arp) -> Result<(), DropReason> {
        if arp.sender_mac != self.mac {
            return Err(DropReason::ArpSpoofed);
        }
        let probe = arp.sender_ip.is_unspecified() && arp.operation == Operation::Request;
        if probe { Ok(()) } else { self.ipv4(arp.sender_ip).map_err(|_| DropReason::ArpSpoofed) }
    }

    fn neighbour(&self, source: Ipv6Addr, message: &Message) -> Result<(), DropReason> {
        let own_link = |link: &Option<MacAddr>| match link {
            Some(mac) if *mac != self.mac => Err(DropReason::NeighbourSpoofed),
            _ => Ok(()),
        };
        match message {
            Message::RouterAdvertisement | Message::Redirect => {
                if !self.services {
                    return Err(DropReason::RouterClaim);
                }
                self.ipv6(source)
            }
            Message::RouterSolicitation { source_link } | Message::Solicitation { source_link, .. } => {
                own_link(source_link)?;
                if source.is_unspecified() { Ok(()) } else { self.ipv6(source) }
            }
            Message::Advertisement { target, target_link } => {
                own_link(target_link)?;
                self.ipv6(source)?;
                self.ipv6(*target).map_err(|_| DropReason::NeighbourSpoofed)
            }
        }
    }

    #[inline]
    fn ipv4(&self, source: Ipv4Addr) -> Result<(), DropReason> {
        if let Some((own, _)) = self.own {
            return if own.contains(&source) {
                Ok(())
            } else {
                Err(self.blame(self.network.owner_of_ipv4(source)))
            };
        }
        match self.network.owner_of_ipv4(source) {
            Some(owner) if owner != self.mac => Err(DropReason::IpSpoofed),
            _ => Ok(()),
        }
    }

    #[inline]
    fn ipv6(&self, source: Ipv6Addr) -> Result<(), DropReason> {
        if let Some((_, own)) = self.own
            && own.contains(&source)
        {
            return Ok(());
        }
        match self.network.owner_of_ipv6(source) {
            Some(owner) if owner != self.mac => Err(DropReason::IpSpoofed),
            Some(_) => Ok(()),
            None if self.own.is_some() && !source.is_unicast_link_local() => Err(DropReason::IpNotOwn),
            None => Ok(()),
        }
    }

    /// Whether an address that is not the sender's is somebody else's or nobody's.
    fn blame(&self, owner: Option<MacAddr>) -> DropReason {
        match owner {
            Some(owner) if owner != self.mac => DropReason::IpSpoofed,
            _ => DropReason::IpNotOwn,
        }
    }
}
