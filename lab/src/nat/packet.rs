//! Packets through a NAT: addresses changed in place, sums kept right, ICMP errors and later parts of a packet led to the right host.
//!
//! Lengths never change, and time to live is not touched: that is the router's part. A later part of a packet follows its first; one
//! that overtook it is dropped (RFC 4787, REQ-14 asks for parts in order, REQ-14a recommends any order). An error about a packet
//! reaches whoever sent that, and changes no mapping (REQ-12; RFC 5508, REQ-4 and 5).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use super::{Flow, Nat, Protocol, Refusal, Side, Signal, Unsolicited};
use crate::packet::icmp::Complaint;
use crate::packet::{Transport, View, checksum, number_at, set_number};

/// Packets that are on their way in parts, at once; then the parts of others are lost.
const FRAGMENTED_MAX: usize = 256;
/// How long the rest of a packet may take.
const FRAGMENTS_WITHIN: Duration = Duration::from_secs(5);

/// What became of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It was translated and goes on to that side.
    Forward(Side),
    /// It was not passed on.
    Refused(Refusal),
    /// It was not passed on, and this packet tells its sender.
    Rejected(Refusal, Vec<u8>),
}

/// Where the parts of packets go whose first part came by.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    known: BTreeMap<(Side, IpAddr, IpAddr, u32, u8), Leads>,
}

#[derive(Debug, Clone, Copy)]
struct Leads {
    until: Duration,
    to: Side,
    source: Ipv4Addr,
    destination: Ipv4Addr,
}

/// Which of a packet's ends is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Source,
    Destination,
}

impl Nat {
    /// Translates a packet that a host inside sends.
    pub fn translate_out(&mut self, now: Duration, packet: &mut [u8]) -> Verdict {
        self.translate(now, packet, Side::Inside)
    }

    /// Translates a packet that comes from outside.
    pub fn translate_in(&mut self, now: Duration, packet: &mut [u8]) -> Verdict {
        self.translate(now, packet, Side::Outside)
    }

    fn translate(&mut self, now: Duration, packet: &mut [u8], from: Side) -> Verdict {
        let Some(view) = View::of(packet).filter(View::is_ipv4) else {
            return self.refused(Refusal::Malformed);
        };
        match view.transport {
            Transport::Later => match self.fragments.follow(now, packet, &view, from) {
                Some(side) => Verdict::Forward(side),
                None => self.refused(Refusal::LoneFragment),
            },
            Transport::IcmpError => match self.translate_error(now, packet, &view, from) {
                Some(side) => Verdict::Forward(side),
                None => self.refused(Refusal::NotMapped),
            },
            _ => self.translate_first(now, packet, &view, from),
        }
    }

    fn translate_first(&mut self, now: Duration, packet: &mut [u8], view: &View, from: Side) -> Verdict {
        let Some((flow, signal)) = flow_of(view) else { return self.refused(Refusal::OtherProtocol) };
        let translated = match from {
            Side::Inside => self.outbound(now, flow, signal),
            Side::Outside => self.inbound(now, flow, signal).map(|flow| (Side::Inside, flow)),
        };
        match translated {
            Ok((to, translated)) => {
                if translated.source != flow.source {
                    rewrite(packet, view, End::Source, translated.source);
                }
                if translated.destination != flow.destination {
                    rewrite(packet, view, End::Destination, translated.destination);
                }
                self.fragments.learn(now, view, from, to, translated);
                Verdict::Forward(to)
            }
            Err(reason @ (Refusal::NotMapped | Refusal::Filtered)) => self.answer(packet, view, reason),
            Err(reason) => Verdict::Refused(reason),
        }
    }

    fn refused(&mut self, reason: Refusal) -> Verdict {
        self.counters.refuse(reason);
        Verdict::Refused(reason)
    }

    fn answer(&self, packet: &[u8], view: &View, reason: Refusal) -> Verdict {
        let rejects = self.behaviour.unsolicited == Unsolicited::Reject;
        match rejects.then(|| Complaint::PortUnreachable.packet(packet, view, view.destination)).flatten() {
            Some(said) => Verdict::Rejected(reason, said),
            None => Verdict::Refused(reason),
        }
    }

    /// Changes an error as the packet it is about was changed, the other way round.
    fn translate_error(&mut self, now: Duration, packet: &mut [u8], view: &View, from: Side) -> Option<Side> {
        let (start, quoted) = View::quoted(packet, view)?;
        let (flow, _) = flow_of(&quoted)?;
        match from {
            // About what somebody inside sent: the source stands for him.
            Side::Outside => {
                let inside = self.known(now, (flow.protocol, flow.source), flow.destination)?;
                set_endpoint(&mut packet[start..], &quoted, End::Source, inside);
                set_address(packet, End::Destination, *inside.ip());
            }
            // About what somebody inside received.
            Side::Inside => {
                let outside = self.known_outside(now, (flow.protocol, flow.destination), flow.source)?;
                set_endpoint(&mut packet[start..], &quoted, End::Destination, outside);
                set_address(packet, End::Source, *outside.ip());
            }
        }
        set_number(packet, view.offset + 2, 0);
        let sum = checksum::of(&[&packet[view.offset..view.length]]);
        set_number(packet, view.offset + 2, sum);
        match from {
            Side::Outside => self.counters.r#in += 1,
            Side::Inside => self.counters.out += 1,
        }
        Some(match from {
            Side::Outside => Side::Inside,
            Side::Inside => Side::Outside,
        })
    }
}

impl Fragments {
    fn learn(&mut self, now: Duration, view: &View, from: Side, to: Side, translated: Flow) {
        let Some(fragment) = view.fragment else { return };
        if self.known.len() >= FRAGMENTED_MAX {
            self.known.retain(|_, leads| leads.until > now);
        }
        if self.known.len() < FRAGMENTED_MAX {
            let leads = Leads {
                until: now + FRAGMENTS_WITHIN,
                to,
                source: *translated.source.ip(),
                destination: *translated.destination.ip(),
            };
            self.known.insert((from, view.source, view.destination, fragment.id, view.protocol), leads);
        }
    }

    fn follow(&mut self, now: Duration, packet: &mut [u8], view: &View, from: Side) -> Option<Side> {
        let key = (from, view.source, view.destination, view.fragment?.id, view.protocol);
        let leads = self.known.get(&key).filter(|leads| leads.until > now)?;
        set_address(packet, End::Source, leads.source);
        set_address(packet, End::Destination, leads.destination);
        Some(leads.to)
    }
}

/// Who talks to whom; `None` for what a NAT cannot tell apart.
fn flow_of(view: &View) -> Option<(Flow, Signal)> {
    use crate::packet::{TCP_FIN, TCP_RST, TCP_SYN};
    let (IpAddr::V4(from), IpAddr::V4(to)) = (view.source, view.destination) else { return None };
    let flow = |protocol, source, destination| Flow {
        protocol,
        source: SocketAddrV4::new(from, source),
        destination: SocketAddrV4::new(to, destination),
    };
    Some(match view.transport {
        Transport::Udp { source, destination } => (flow(Protocol::Udp, source, destination), Signal::Data),
        Transport::Tcp { source, destination, flags } => {
            let signal = match flags {
                flags if flags & (TCP_FIN | TCP_RST) != 0 => Signal::Close,
                flags if flags & TCP_SYN != 0 => Signal::Open,
                _ => Signal::Data,
            };
            (flow(Protocol::Tcp, source, destination), signal)
        }
        Transport::EchoRequest { id } => (flow(Protocol::Echo, id, 0), Signal::Data),
        Transport::EchoReply { id } => (flow(Protocol::Echo, 0, id), Signal::Data),
        Transport::IcmpError | Transport::OtherIcmp | Transport::Later | Transport::Other => return None,
    })
}

/// Changes one end of a packet, and every sum that covers it.
fn rewrite(packet: &mut [u8], view: &View, end: End, new: SocketAddrV4) {
    let old_address = address_at(packet, end);
    set_address(packet, end, *new.ip());
    let message = &mut packet[view.offset..view.length];
    let (sum_at, port_at) = match view.transport {
        Transport::Udp { .. } => (6, port_at(end)),
        Transport::Tcp { .. } => (16, port_at(end)),
        // The identifier; ICMP's sum covers no address.
        _ => {
            let old = [message[4], message[5]];
            set_number(message, 4, new.port());
            let sum = checksum::adjusted(number_at(message, 2), &old, &new.port().to_be_bytes());
            return set_number(message, 2, sum);
        }
    };
    let old = [old_address.as_slice(), &message[port_at..port_at + 2]].concat();
    set_number(message, port_at, new.port());
    let new = [new.ip().octets().as_slice(), &new.port().to_be_bytes()].concat();
    let is_udp = matches!(view.transport, Transport::Udp { .. });
    match number_at(message, sum_at) {
        // No sum was made (RFC 768), and a sum of zero is written as its other form.
        0 if is_udp => {}
        sum => match checksum::adjusted(sum, &old, &new) {
            0 if is_udp => set_number(message, sum_at, u16::MAX),
            sum => set_number(message, sum_at, sum),
        },
    }
}

/// Changes one end of a quoted packet, of which the sums below IP's are not read by anybody.
fn set_endpoint(quoted: &mut [u8], view: &View, end: End, new: SocketAddrV4) {
    set_address(quoted, end, *new.ip());
    let at = match view.transport {
        Transport::EchoRequest { .. } | Transport::EchoReply { .. } => 4,
        _ => port_at(end),
    };
    set_number(quoted, view.offset + at, new.port());
}

fn port_at(end: End) -> usize {
    match end {
        End::Source => 0,
        End::Destination => 2,
    }
}

fn address_at(packet: &[u8], end: End) -> [u8; 4] {
    let at = address_offset(end);
    [packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]
}

fn address_offset(end: End) -> usize {
    match end {
        End::Source => 12,
        End::Destination => 16,
    }
}

fn set_address(packet: &mut [u8], end: End, new: Ipv4Addr) {
    let old = address_at(packet, end);
    let at = address_offset(end);
    packet[at..at + 4].copy_from_slice(&new.octets());
    let sum = checksum::adjusted(number_at(packet, 10), &old, &new.octets());
    set_number(packet, 10, sum);
}
