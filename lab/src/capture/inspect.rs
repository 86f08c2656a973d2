//! What a frame on the underlay is, and whether it shows something that should be sealed. Pure.

use memchr::memmem::Finder;

const ETHERNET_BYTES: usize = 14;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
const PROTOCOL_ICMPV6: u8 = 58;
const ICMPV6_NEIGHBOUR_SOLICITATION: u8 = 135;
const ICMPV6_NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// What crossed, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// All frames.
    pub frames: u64,
    /// All bytes, Ethernet headers included.
    pub bytes: u64,
    /// UDP over IPv4 or IPv6.
    pub udp: u64,
    /// TCP over IPv4 or IPv6.
    pub tcp: u64,
    /// ICMP and ICMPv6 other than neighbour discovery.
    pub icmp: u64,
    /// ARP and neighbour discovery.
    pub neighbour: u64,
    /// Anything else.
    pub other: u64,
}

/// The kinds that are counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Udp,
    Tcp,
    Icmp,
    Neighbour,
    Other,
}

/// Counts frames and searches them for markers.
#[derive(Debug)]
pub struct Inspector {
    markers: Vec<(Finder<'static>, u64)>,
    counters: Counters,
}

impl Inspector {
    /// Searches for each of `markers` in every frame.
    pub fn new(markers: &[Vec<u8>]) -> Self {
        let markers = markers.iter().map(|marker| (Finder::new(marker).into_owned(), 0)).collect();
        Self { markers, counters: Counters::default() }
    }

    /// Takes one frame in.
    pub fn inspect(&mut self, frame: &[u8]) {
        let counters = &mut self.counters;
        counters.frames += 1;
        counters.bytes += frame.len() as u64;
        *match kind(frame) {
            Kind::Udp => &mut counters.udp,
            Kind::Tcp => &mut counters.tcp,
            Kind::Icmp => &mut counters.icmp,
            Kind::Neighbour => &mut counters.neighbour,
            Kind::Other => &mut counters.other,
        } += 1;
        for (finder, seen) in &mut self.markers {
            *seen += u64::from(finder.find(frame).is_some());
        }
    }

    /// How many frames showed each marker, in the order they were given.
    pub fn marked(&self) -> Vec<u64> {
        self.markers.iter().map(|(_, seen)| *seen).collect()
    }

    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }
}

fn kind(frame: &[u8]) -> Kind {
    let Some((header, packet)) = frame.split_at_checked(ETHERNET_BYTES) else { return Kind::Other };
    match u16::from_be_bytes([header[12], header[13]]) {
        ETHERTYPE_ARP => Kind::Neighbour,
        ETHERTYPE_IPV4 => packet.get(9).map_or(Kind::Other, |protocol| of_protocol(*protocol, None)),
        ETHERTYPE_IPV6 => {
            packet.get(6).map_or(Kind::Other, |protocol| of_protocol(*protocol, packet.get(40).copied()))
        }
        _ => Kind::Other,
    }
}

fn of_protocol(protocol: u8, icmpv6_type: Option<u8>) -> Kind {
    match (protocol, icmpv6_type) {
        (PROTOCOL_UDP, _) => Kind::Udp,
        (PROTOCOL_TCP, _) => Kind::Tcp,
        (PROTOCOL_ICMPV6, Some(ICMPV6_NEIGHBOUR_SOLICITATION | ICMPV6_NEIGHBOUR_ADVERTISEMENT)) => {
            Kind::Neighbour
        }
        (PROTOCOL_ICMP | PROTOCOL_ICMPV6, _) => Kind::Icmp,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(ethertype: u16, packet: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend_from_slice(&ethertype.to_be_bytes());
        frame.extend_from_slice(packet);
        frame
    }

    #[test]
    fn kinds_are_counted_apart() {
        let mut ipv4_udp = [0; 28];
        ipv4_udp[9] = PROTOCOL_UDP;
        let mut ipv6_solicitation = [0; 64];
        ipv6_solicitation[6] = PROTOCOL_ICMPV6;
        ipv6_solicitation[40] = ICMPV6_NEIGHBOUR_SOLICITATION;
        let mut inspector = Inspector::new(&[]);
        for frame in [
            frame(ETHERTYPE_ARP, &[0; 28]),
            frame(ETHERTYPE_IPV4, &ipv4_udp),
            frame(ETHERTYPE_IPV6, &ipv6_solicitation),
            frame(0x88cc, &[]),
            vec![0; 3],
        ] {
            inspector.inspect(&frame);
        }
        let counters = inspector.counters();
        assert_eq!((counters.frames, counters.udp, counters.neighbour, counters.other), (5, 1, 2, 2));
    }

    #[test]
    fn a_marker_is_found_wherever_it_stands_and_only_then() {
        let mut inspector = Inspector::new(&[b"SECRET-1".to_vec(), b"SECRET-2".to_vec()]);
        inspector.inspect(&frame(ETHERTYPE_IPV4, b"....SECRET-3...."));
        assert_eq!(inspector.marked(), [0, 0]);
        inspector.inspect(&frame(ETHERTYPE_IPV4, b"....SECRET-2"));
        inspector.inspect(b"SECRET-1");
        inspector.inspect(b"SECRET-2SECRET-2");
        assert_eq!(inspector.marked(), [1, 2]);
    }
}
