//! Who is where on the LAN, and answers to those who ask for the gateway: ARP (RFC 826) and neighbour discovery (RFC 4861).
//!
//! Outside there is nothing to find out: whoever made the cable knows what is at its other end.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::packet::icmp::ipv6_header;
use crate::packet::{ICMPV6, IPV6_HEADER_BYTES, checksum, set_number};

pub(super) type Mac = [u8; 6];

pub(super) const ETHERNET_BYTES: usize = 14;
pub(super) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(super) const ETHERTYPE_ARP: u16 = 0x0806;
pub(super) const ETHERTYPE_IPV6: u16 = 0x86dd;

/// Addresses known on one LAN; then no more are learned. A case has a handful of hosts.
const KNOWN_MAX: usize = 1024;
const BROADCAST: Mac = [0xff; 6];
/// Ethernet and IPv4 in the first eight bytes of an ARP packet, the operation after them.
const ARP_PREFIX: [u8; 6] = [0, 1, 8, 0, 6, 4];
const ARP_BYTES: usize = 28;
const ARP_REQUEST: u16 = 1;
const ARP_REPLY: u16 = 2;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// A solicitation or advertisement with one link-layer address.
const DISCOVERY_BYTES: usize = 32;
/// Discovery counts only from a neighbour: over no router.
const DISCOVERY_HOPS: u8 = 255;

#[derive(Debug, Default)]
pub(super) struct Neighbours {
    known: BTreeMap<IpAddr, Mac>,
}

impl Neighbours {
    pub(super) fn find(&self, address: IpAddr) -> Option<Mac> {
        self.known.get(&address).copied()
    }

    pub(super) fn learn(&mut self, address: IpAddr, mac: Mac) {
        if !address.is_unspecified() && (self.known.len() < KNOWN_MAX || self.known.contains_key(&address)) {
            self.known.insert(address, mac);
        }
    }
}

/// Who asks for whom, and where he is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) who: IpAddr,
    pub(super) at: Mac,
    pub(super) wanted: IpAddr,
    /// Otherwise it is an answer: `wanted` is then the receiver's address.
    pub(super) is_question: bool,
}

/// Reads an ARP packet.
pub(super) fn read_arp(packet: &[u8]) -> Option<Asked> {
    let packet = packet.first_chunk::<ARP_BYTES>()?;
    let operation = u16::from_be_bytes([packet[6], packet[7]]);
    let address = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
    (packet[..6] == ARP_PREFIX && [ARP_REQUEST, ARP_REPLY].contains(&operation)).then(|| Asked {
        who: address(14).into(),
        at: [packet[8], packet[9], packet[10], packet[11], packet[12], packet[13]],
        wanted: address(24).into(),
        is_question: operation == ARP_REQUEST,
    })
}

/// Reads a solicitation or an advertisement from an IPv6 packet; `None` for anything else.
pub(super) fn read_discovery(packet: &[u8], from: Mac) -> Option<Asked> {
    let message = packet.get(IPV6_HEADER_BYTES..IPV6_HEADER_BYTES + 24)?;
    if packet[0] >> 4 != 6
        || packet[6] != ICMPV6
        || packet[7] != DISCOVERY_HOPS
        || ![SOLICITATION, ADVERTISEMENT].contains(&message[0])
    {
        return None;
    }
    let source = Ipv6Addr::from_octets(*packet[8..].first_chunk()?);
    let target = Ipv6Addr::from_octets(*message[8..].first_chunk()?);
    let is_question = message[0] == SOLICITATION;
    Some(Asked {
        who: if is_question { source.into() } else { target.into() },
        at: from,
        wanted: target.into(),
        is_question,
    })
}

/// The frame that asks a LAN for an address.
pub(super) fn question(own_mac: Mac, own: IpAddr, wanted: IpAddr) -> Option<Vec<u8>> {
    match (own, wanted) {
        (IpAddr::V4(own), IpAddr::V4(wanted)) => {
            Some(arp_frame(BROADCAST, ARP_REQUEST, (own_mac, own), ([0; 6], wanted)))
        }
        (IpAddr::V6(own), IpAddr::V6(wanted)) => {
            let tail = wanted.octets();
            let group =
                Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, tail[13], tail[14], tail[15]]);
            let to = [0x33, 0x33, 0xff, tail[13], tail[14], tail[15]];
            Some(discovery_frame((own_mac, own), (to, group), [SOLICITATION, 0], wanted))
        }
        _ => None,
    }
}

/// The frame that answers a question for the gateway's own address.
pub(super) fn answer(own_mac: Mac, asked: &Asked) -> Option<Vec<u8>> {
    match (asked.wanted, asked.who) {
        (IpAddr::V4(own), IpAddr::V4(who)) => {
            Some(arp_frame(asked.at, ARP_REPLY, (own_mac, own), (asked.at, who)))
        }
        // Solicited, and it overrides what was known.
        (IpAddr::V6(own), IpAddr::V6(who)) => {
            Some(discovery_frame((own_mac, own), (asked.at, who), [ADVERTISEMENT, 0x60], own))
        }
        _ => None,
    }
}

fn arp_frame(to: Mac, operation: u16, own: (Mac, Ipv4Addr), other: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut frame = ethernet(to, own.0, ETHERTYPE_ARP);
    frame.extend(ARP_PREFIX);
    frame.extend(operation.to_be_bytes());
    for (mac, address) in [own, other] {
        frame.extend(mac);
        frame.extend(address.octets());
    }
    frame
}

fn discovery_frame(
    own: (Mac, Ipv6Addr),
    to: (Mac, Ipv6Addr),
    [kind, flags]: [u8; 2],
    target: Ipv6Addr,
) -> Vec<u8> {
    let link_layer = if kind == SOLICITATION { 1 } else { 2 };
    let mut message = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    message.extend(target.octets());
    message.extend([link_layer, 1]);
    message.extend(own.0);
    debug_assert_eq!(message.len(), DISCOVERY_BYTES);
    let sum = checksum::with_pseudo_header(own.1.into(), to.1.into(), ICMPV6, &message);
    set_number(&mut message, 2, sum);
    let mut header = ipv6_header(own.1, to.1, message.len());
    header[7] = DISCOVERY_HOPS;
    let mut frame = ethernet(to.0, own.0, ETHERTYPE_IPV6);
    frame.extend(header);
    frame.extend(message);
    frame
}

pub(super) fn ethernet(to: Mac, from: Mac, ethertype: u16) -> Vec<u8> {
    [to.as_slice(), &from, &ethertype.to_be_bytes()].concat()
}
