//! Questions for addresses (ARP, neighbour solicitation), answered on the asking machine's own host from the record.
//!
//! # Rules
//! - A question for an address somebody has is answered here with that machine's MAC address, also when it was asked of the machine itself
//!   (Linux checks its neighbours so); it crosses no link and reaches no other port.
//! - A machine that asks for its own address looks for duplicates (ARP probe, RFC 5227; duplicate address detection, RFC 4862) or
//!   announces itself; nobody answers, and there is nobody to tell who does not know: it is absorbed.
//! - A machine that looks for duplicates of *another's* address is answered, so that it refrains.
//! - Announcements and unasked answers about addresses the record has are absorbed. What the record does not have is announced to all.
//! - A question for an address nobody has is passed on where unknown addresses are allowed (and for link-local IPv6 addresses, which
//!   machines choose themselves); elsewhere nobody could answer.
//! - Only untagged and priority-tagged questions count: in a VLAN of a machine's own the record's addresses do not apply.

use std::net::Ipv6Addr;

use crate::{
    frame::{
        arp::{ARP_BYTES, Arp, Operation},
        checksum::pseudo_ipv6,
        ethernet::{HEADER_BYTES, TAG_BYTES, TAGS_MAX},
        ip::{IPV6_BYTES, protocol},
        neighbour_discovery::{Message, NEIGHBOUR_ADVERTISEMENT, TARGET_LINK_LAYER},
    },
    inspect::{Content, Inspected, Ipv6Kind},
    mac::MacAddr,
    switch::view::Network,
};

/// A neighbour advertisement with the target's link-layer address.
const ADVERTISEMENT_BYTES: usize = 32;

/// The largest answer: Ethernet with tags, IPv6, a neighbour advertisement.
pub const ANSWER_BYTES_MAX: usize = HEADER_BYTES + TAGS_MAX * TAG_BYTES + IPV6_BYTES + ADVERTISEMENT_BYTES;

/// A frame the switch made itself, to be written to the port that asked. Its checksums are complete.
#[derive(Clone, Copy)]
pub struct Answer {
    bytes: [u8; ANSWER_BYTES_MAX],
    len: usize,
}

impl Answer {
    /// The frame.
    pub fn frame(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// An answer to the frame in question: from one station to another, with the question's tags.
    fn to(question: &[u8], inspected: &Inspected, source: MacAddr, destination: MacAddr) -> Self {
        let offset = inspected.ethernet.payload_offset;
        let mut answer = Self { bytes: [0; ANSWER_BYTES_MAX], len: offset };
        answer.bytes[..6].copy_from_slice(&destination.0);
        answer.bytes[6..12].copy_from_slice(&source.0);
        answer.bytes[12..offset].copy_from_slice(&question[12..offset]);
        answer
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Answer({} bytes)", self.len)
    }
}

/// What becomes of a frame as far as neighbours are concerned.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It asks for nobody's address, or is no question: switch it.
    Pass,
    /// Done here.
    Absorb,
    /// Nobody can have the address.
    TargetUnknown,
    AnswerArp(Answer),
    AnswerNeighbour(Answer),
}

/// Judges a frame that a port sent and its guard let through.
#[inline]
pub(crate) fn judge(frame: &[u8], inspected: &Inspected, network: &Network) -> Verdict {
    if inspected.ethernet.vlan != 0 {
        return Verdict::Pass;
    }
    match &inspected.content {
        Content::Arp(arp) => judge_arp(frame, inspected, arp, network),
        Content::Ipv6 { source, kind: Ipv6Kind::Neighbour(message) } => match message {
            Message::Solicitation { target, .. } => {
                judge_solicitation(frame, inspected, *source, *target, network)
            }
            Message::Advertisement { target, .. } => {
                let mac = network.record.by_ipv6.get(&target.to_bits());
                if mac == Some(&inspected.ethernet.source) { Verdict::Absorb } else { Verdict::Pass }
            }
            _ => Verdict::Pass,
        },
        _ => Verdict::Pass,
    }
}

fn judge_arp(frame: &[u8], inspected: &Inspected, arp: &Arp, network: &Network) -> Verdict {
    if arp.is_announcement() {
        let recorded = network.record.by_ipv4.get(&arp.sender_ip.to_bits()) == Some(&arp.sender_mac);
        return if recorded { Verdict::Absorb } else { Verdict::Pass };
    }
    match network.owner_of_ipv4(arp.target_ip) {
        Some(owner) if owner == arp.sender_mac => Verdict::Absorb,
        Some(owner) => Verdict::AnswerArp(arp_answer(frame, inspected, arp, owner)),
        None if network.allows_unknown() => Verdict::Pass,
        None => Verdict::TargetUnknown,
    }
}

fn judge_solicitation(
    frame: &[u8],
    inspected: &Inspected,
    source: Ipv6Addr,
    target: Ipv6Addr,
    network: &Network,
) -> Verdict {
    match network.owner_of_ipv6(target) {
        Some(owner) if owner == inspected.ethernet.source => Verdict::Absorb,
        Some(owner) => Verdict::AnswerNeighbour(advertisement(frame, inspected, source, target, owner)),
        None if network.allows_unknown() || target.is_unicast_link_local() => Verdict::Pass,
        None => Verdict::TargetUnknown,
    }
}

/// "The target is at the owner's address". A probe's sender has no address yet: the answer's target address stays 0.0.0.0.
fn arp_answer(frame: &[u8], inspected: &Inspected, question: &Arp, owner: MacAddr) -> Answer {
    let mut answer = Answer::to(frame, inspected, owner, question.sender_mac);
    let reply: [u8; ARP_BYTES] = Arp {
        operation: Operation::Reply,
        sender_mac: owner,
        sender_ip: question.target_ip,
        target_mac: question.sender_mac,
        target_ip: question.sender_ip,
    }
    .encode();
    answer.push(&reply);
    answer
}

/// A neighbour advertisement (RFC 4861 section 7.2.4): solicited and overriding to the asker, or to all nodes if the asker has no
/// address yet.
fn advertisement(
    frame: &[u8],
    inspected: &Inspected,
    asker: Ipv6Addr,
    target: Ipv6Addr,
    owner: MacAddr,
) -> Answer {
    const SOLICITED: u8 = 0x40;
    const OVERRIDE: u8 = 0x20;
    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    const ALL_NODES_MAC: MacAddr = MacAddr([0x33, 0x33, 0, 0, 0, 1]);
    let (to, to_mac, flags) = if asker.is_unspecified() {
        (ALL_NODES, ALL_NODES_MAC, OVERRIDE)
    } else {
        (asker, inspected.ethernet.source, SOLICITED | OVERRIDE)
    };

    let mut icmp = [0; ADVERTISEMENT_BYTES];
    icmp[0] = NEIGHBOUR_ADVERTISEMENT;
    icmp[4] = flags;
    icmp[8..24].copy_from_slice(&target.octets());
    icmp[24..26].copy_from_slice(&[TARGET_LINK_LAYER, 1]);
    icmp[26..].copy_from_slice(&owner.0);
    #[expect(clippy::cast_possible_truncation, reason = "32 fits")]
    let length = const { ADVERTISEMENT_BYTES as u8 };
    let sum = pseudo_ipv6(target, to, protocol::ICMPV6, u32::from(length)).bytes(&icmp).finish();
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());

    let mut answer = Answer::to(frame, inspected, owner, to_mac);
    answer.push(&[0x60, 0, 0, 0, 0, length, protocol::ICMPV6, 255]);
    answer.push(&target.octets());
    answer.push(&to.octets());
    answer.push(&icmp);
    answer
}
