//! Frames for tests, built field by field.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::{
    frame::{
        arp::{Arp, Operation},
        checksum::{Sum, pseudo_ipv4, pseudo_ipv6},
        ip::protocol,
        neighbour_discovery as nd,
    },
    mac::MacAddr,
};

/// An Ethernet frame; `tags` are VLAN ids, outermost first.
pub(crate) fn ethernet(to: MacAddr, from: MacAddr, tags: &[u16], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [to.0, from.0].concat();
    for tag in tags {
        frame.extend([0x81, 0x00]);
        frame.extend(tag.to_be_bytes());
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// An IPv4 packet with a right header checksum.
pub(crate) fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let total = u16::try_from(20 + payload.len()).unwrap();
    let mut packet = vec![0x45, 0];
    packet.extend(total.to_be_bytes());
    packet.extend([0x12, 0x34, 0x40, 0, 64, protocol, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    let sum = Sum::default().bytes(&packet).finish();
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

/// An IPv6 packet.
pub(crate) fn ipv6(from: Ipv6Addr, to: Ipv6Addr, next: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    packet.extend([next, hop_limit]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(payload);
    packet
}

/// A UDP datagram without checksum.
pub(crate) fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = [from.to_be_bytes(), to.to_be_bytes()].concat();
    datagram.extend(u16::try_from(8 + payload.len()).unwrap().to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

/// Puts the right checksum into a TCP or UDP header over IPv4.
pub(crate) fn sum_ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, segment: &mut [u8]) {
    let length = u32::try_from(segment.len()).unwrap();
    put_sum(protocol, segment, pseudo_ipv4(from, to, protocol, length));
}

/// Puts the right checksum into a TCP or UDP header over IPv6.
pub(crate) fn sum_ipv6(from: Ipv6Addr, to: Ipv6Addr, protocol: u8, segment: &mut [u8]) {
    let length = u32::try_from(segment.len()).unwrap();
    put_sum(protocol, segment, pseudo_ipv6(from, to, protocol, length));
}

fn put_sum(kind: u8, segment: &mut [u8], pseudo: Sum) {
    let at = match kind {
        protocol::TCP => 16,
        protocol::UDP => 6,
        _ => 2,
    };
    segment[at..at + 2].fill(0);
    let sum = pseudo.bytes(segment);
    let sum = if kind == protocol::UDP { sum.finish_udp() } else { sum.finish() };
    segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// An ARP packet in a frame.
pub(crate) fn arp(
    to: MacAddr,
    operation: Operation,
    sender: (MacAddr, Ipv4Addr),
    target: (MacAddr, Ipv4Addr),
) -> Vec<u8> {
    let packet = Arp {
        operation,
        sender_mac: sender.0,
        sender_ip: sender.1,
        target_mac: target.0,
        target_ip: target.1,
    };
    ethernet(to, sender.0, &[], 0x0806, &packet.encode())
}

/// Neighbour discovery in a frame: a message with a target and perhaps a link-layer address option.
pub(crate) fn neighbour(
    (to_mac, to): (MacAddr, Ipv6Addr),
    (from_mac, from): (MacAddr, Ipv6Addr),
    kind: u8,
    target: Ipv6Addr,
    link: Option<MacAddr>,
) -> Vec<u8> {
    let mut icmp = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    match kind {
        nd::ROUTER_ADVERTISEMENT => icmp.extend([0; 8]),
        nd::REDIRECT => icmp.extend([target.octets(), target.octets()].concat()),
        _ => icmp.extend(target.octets()),
    }
    if let Some(link) = link {
        let option =
            if kind == nd::NEIGHBOUR_ADVERTISEMENT { nd::TARGET_LINK_LAYER } else { nd::SOURCE_LINK_LAYER };
        icmp.extend([option, 1]);
        icmp.extend(link.0);
    }
    sum_ipv6(from, to, protocol::ICMPV6, &mut icmp);
    ethernet(to_mac, from_mac, &[], 0x86dd, &ipv6(from, to, protocol::ICMPV6, 255, &icmp))
}

/// The group and group MAC address on which an IPv6 address is solicited (RFC 4291 section 2.7.1, RFC 2464 section 7).
pub(crate) fn solicited_node(address: Ipv6Addr) -> (MacAddr, Ipv6Addr) {
    let [.., a, b, c] = address.octets();
    let low = u16::from_be_bytes([b, c]);
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), low);
    (MacAddr([0x33, 0x33, 0xff, a, b, c]), group)
}

/// A small generator with a fixed seed (SplitMix64): the same bytes in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % u64::try_from(bound).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.roll().to_le_bytes()[0]
    }
}

/// Feeds random bytes to a decoder, then frames of all kinds, damaged.
pub(crate) fn hostile(rounds: usize, mut decode: impl FnMut(&[u8])) {
    let mut dice = Dice(1);
    for _ in 0..rounds {
        let bytes: Vec<u8> = (0..dice.below(200)).map(|_| dice.byte()).collect();
        decode(&bytes);
    }
    let (a, b) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
    let (a4, b4) = (Ipv4Addr::new(10, 7, 0, 1), Ipv4Addr::new(10, 7, 0, 2));
    let (a6, b6) = (Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2));
    let options = [&[17, 0, 1, 4, 0, 0, 0, 0][..], &udp(1, 2, b"behind options")].concat();
    let frames = [
        arp(b, Operation::Request, (a, a4), (b, b4)),
        neighbour(solicited_node(b6), (a, a6), nd::NEIGHBOUR_SOLICITATION, b6, Some(a)),
        neighbour((b, b6), (a, a6), nd::NEIGHBOUR_ADVERTISEMENT, a6, Some(a)),
        ethernet(b, a, &[5, 6], 0x0800, &ipv4(a4, b4, protocol::UDP, &udp(1, 2, b"tagged"))),
        ethernet(b, a, &[], 0x86dd, &ipv6(a6, b6, protocol::HOP_BY_HOP, 64, &options)),
        ethernet(b, a, &[], 0x0800, &ipv4(a4, b4, protocol::TCP, &[0x50; 40])),
    ];
    for frame in frames {
        damaged(&frame, frame.len(), rounds / 10, &mut decode);
        damaged(&frame[14..], frame.len() - 14, rounds / 10, &mut decode);
    }
}

/// Feeds good bytes with up to four changes among the first `reach` and perhaps cut short.
pub(crate) fn damaged(good: &[u8], reach: usize, rounds: usize, mut decode: impl FnMut(&[u8])) {
    let mut dice = Dice(u64::try_from(good.len()).unwrap());
    decode(good);
    for _ in 0..rounds {
        let mut bytes = good.to_vec();
        for _ in 0..dice.below(5) {
            let at = dice.below(reach.min(bytes.len()));
            bytes[at] =
                if dice.roll().is_multiple_of(2) { dice.byte() } else { bytes[at] ^ (1 << dice.below(8)) };
        }
        if dice.roll().is_multiple_of(3) {
            bytes.truncate(dice.below(bytes.len()));
        }
        decode(&bytes);
    }
}
