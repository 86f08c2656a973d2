//! What a router says about a packet it did not pass on.
//!
//! Never about an ICMP error or a later part of a packet (RFC 1122, section 3.2.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    ICMP, ICMPV6, IPV4_HEADER_BYTES, IPV6_HEADER_BYTES, Transport, View, checksum, number_at, set_number,
};

/// Of the packet that the message is about: RFC 1812 allows 576 bytes for the whole message, RFC 4443 the smallest MTU.
const QUOTED_BYTES_MAX: usize = 500;
const HOPS: u8 = 64;

/// What is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Complaint {
    /// It went over too many routers.
    HopsUsedUp,
    /// Nobody is there, or a filter says so.
    PortUnreachable,
    /// It does not fit into the next link.
    TooBig { mtu: u16 },
}

impl Complaint {
    /// Type and code, in each IP version.
    fn numbers(self) -> [(u8, u8); 2] {
        match self {
            Self::HopsUsedUp => [(11, 0), (3, 0)],
            Self::PortUnreachable => [(3, 3), (1, 4)],
            Self::TooBig { .. } => [(3, 4), (2, 0)],
        }
    }

    /// The packet that says it to the sender of another, from the router's address of the same IP version.
    pub(crate) fn packet(self, about: &[u8], view: &View, router: IpAddr) -> Option<Vec<u8>> {
        let is_silent =
            matches!(view.transport, Transport::IcmpError | Transport::OtherIcmp | Transport::Later);
        if is_silent {
            return None;
        }
        let [v4, v6] = self.numbers();
        let quoted = &about[..view.length.min(QUOTED_BYTES_MAX)];
        let mtu = match self {
            Self::TooBig { mtu } => mtu,
            Self::HopsUsedUp | Self::PortUnreachable => 0,
        };
        let (kind, code) = if view.is_ipv4() { v4 } else { v6 };
        // Both versions have the next link's MTU in the last two bytes of the header's second word.
        let [high, low] = mtu.to_be_bytes();
        let mut message = [&[kind, code, 0, 0, 0, 0, high, low], quoted].concat();
        match (router, view.source) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let sum = checksum::of(&[&message]);
                set_number(&mut message, 2, sum);
                Some([ipv4_header(from, to, message.len()).as_slice(), &message].concat())
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let sum = checksum::with_pseudo_header(router, view.source, ICMPV6, &message);
                set_number(&mut message, 2, sum);
                Some([ipv6_header(from, to, message.len()).as_slice(), &message].concat())
            }
            _ => None,
        }
    }
}

fn ipv4_header(from: Ipv4Addr, to: Ipv4Addr, bytes: usize) -> [u8; IPV4_HEADER_BYTES] {
    let mut header = [0; IPV4_HEADER_BYTES];
    header[0] = 0x45;
    let length = u16::try_from(IPV4_HEADER_BYTES + bytes).expect("short messages");
    set_number(&mut header, 2, length);
    header[8] = HOPS;
    header[9] = ICMP;
    header[12..16].copy_from_slice(&from.octets());
    header[16..20].copy_from_slice(&to.octets());
    let sum = checksum::of(&[&header]);
    set_number(&mut header, 10, sum);
    header
}

pub(crate) fn ipv6_header(from: Ipv6Addr, to: Ipv6Addr, bytes: usize) -> [u8; IPV6_HEADER_BYTES] {
    let mut header = [0; IPV6_HEADER_BYTES];
    header[0] = 0x60;
    set_number(&mut header, 4, u16::try_from(bytes).expect("short messages"));
    header[6] = ICMPV6;
    header[7] = HOPS;
    header[8..24].copy_from_slice(&from.octets());
    header[24..40].copy_from_slice(&to.octets());
    header
}

/// Takes one hop off a packet that has more than one left; the sum stays right.
pub(crate) fn take_hop(packet: &mut [u8], view: &View) {
    match view.is_ipv4() {
        true => {
            let old = [packet[8], packet[9]];
            packet[8] -= 1;
            let sum = checksum::adjusted(number_at(packet, 10), &old, &[packet[8], packet[9]]);
            set_number(packet, 10, sum);
        }
        false => packet[7] -= 1,
    }
}

#[cfg(test)]
mod tests {
    use super::super::udp_packet;
    use super::*;

    #[test]
    fn a_complaint_quotes_the_packet_and_sums_up() {
        let packet =
            udp_packet("10.0.0.2:5000".parse().unwrap(), "192.0.2.1:53".parse().unwrap(), &[1; 1400]);
        let view = View::of(&packet).unwrap();
        let said =
            Complaint::TooBig { mtu: 1280 }.packet(&packet, &view, "10.0.0.1".parse().unwrap()).unwrap();
        let error = View::of(&said).unwrap();
        assert_eq!((error.transport, error.destination), (Transport::IcmpError, view.source));
        assert_eq!(checksum::of(&[&said[..20]]), 0);
        assert_eq!(checksum::of(&[&said[20..]]), 0);
        assert_eq!((said[20], said[21], number_at(&said, 26)), (3, 4, 1280));
        let (start, quoted) = View::quoted(&said, &error).unwrap();
        assert_eq!((start, quoted.transport), (28, view.transport));
        assert_eq!(Complaint::HopsUsedUp.packet(&said, &error, "10.0.0.1".parse().unwrap()), None);
    }

    #[test]
    fn a_hop_less_leaves_the_sum_right() {
        let mut packet = udp_packet("10.0.0.2:5000".parse().unwrap(), "192.0.2.1:53".parse().unwrap(), b"x");
        let view = View::of(&packet).unwrap();
        take_hop(&mut packet, &view);
        assert_eq!((packet[8], checksum::of(&[&packet[..20]])), (63, 0));
    }
}
