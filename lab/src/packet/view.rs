//! Where the parts of a packet are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{ICMP, ICMPV6, IPV4_HEADER_BYTES, IPV6_HEADER_BYTES, TCP, UDP, number_at};

const FRAGMENT_HEADER: u8 = 44;
/// Hop-by-hop, routing, destination and (as RFC 7045 counts them) mobility headers: next header and length stand first.
const EXTENSIONS: [u8; 4] = [0, 43, 60, 135];
/// Extension headers before the transport's; real packets have one.
const EXTENSIONS_MAX: usize = 8;
const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

const TCP_BYTES_MIN: usize = 20;
const UDP_BYTES: usize = 8;
const ICMP_BYTES_MIN: usize = 8;

/// A packet's parts. The packet's bytes from 0 to [`View::length`] are there, and so is the transport's header that [`Transport`] names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    /// Where the transport's header begins.
    pub(crate) offset: usize,
    /// Of the whole packet; what stands behind it is padding.
    pub(crate) length: usize,
    pub(crate) protocol: u8,
    pub(crate) transport: Transport,
    pub(crate) fragment: Option<Fragment>,
    /// Whether a router may not cut it.
    pub(crate) whole: bool,
    pub(crate) hops: u8,
}

/// A part of a packet that was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fragment {
    pub(crate) id: u32,
    pub(crate) first: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp {
        source: u16,
        destination: u16,
    },
    Tcp {
        source: u16,
        destination: u16,
        flags: u8,
    },
    EchoRequest {
        id: u16,
    },
    EchoReply {
        id: u16,
    },
    /// An ICMP error, with the packet it is about.
    IcmpError,
    /// Neighbour discovery and the like.
    OtherIcmp,
    /// Not the first part of a packet.
    Later,
    Other,
}

/// `FIN`, `SYN` and `RST` of TCP.
pub(crate) const TCP_FIN: u8 = 1;
pub(crate) const TCP_SYN: u8 = 2;
pub(crate) const TCP_RST: u8 = 4;

impl View {
    /// The parts of a packet; `None` if its lengths do not agree.
    pub(crate) fn of(packet: &[u8]) -> Option<Self> {
        let mut view = match packet.first()? >> 4 {
            4 => Self::of_ipv4(packet)?,
            6 => Self::of_ipv6(packet)?,
            _ => return None,
        };
        if view.fragment.is_none_or(|fragment| fragment.first) {
            view.transport = transport(view.protocol, &packet[view.offset..view.length])?;
        }
        Some(view)
    }

    /// The packet an ICMP error is about, and where it begins. It is cut short as a rule: its length may be more than what is there,
    /// and is not looked at.
    pub(crate) fn quoted(packet: &[u8], error: &Self) -> Option<(usize, Self)> {
        let start = error.offset + ICMP_BYTES_MIN;
        let quoted = packet.get(start..error.length)?;
        if quoted.first()? >> 4 != 4 || quoted.len() < IPV4_HEADER_BYTES {
            return None;
        }
        let offset = usize::from(quoted[0] & 0x0f) * 4;
        // Ports and no more are promised to be there (RFC 792: eight bytes).
        let transport = quoted.get(offset..offset + ICMP_BYTES_MIN)?;
        let (source, destination) = (number_at(transport, 0), number_at(transport, 2));
        let transport = match quoted[9] {
            UDP => Transport::Udp { source, destination },
            TCP => Transport::Tcp { source, destination, flags: 0 },
            ICMP if transport[0] == 8 => Transport::EchoRequest { id: number_at(transport, 4) },
            _ => return None,
        };
        let view = Self {
            source: Ipv4Addr::from_octets(quoted[12..16].try_into().ok()?).into(),
            destination: Ipv4Addr::from_octets(quoted[16..20].try_into().ok()?).into(),
            offset,
            length: quoted.len(),
            protocol: quoted[9],
            transport,
            fragment: None,
            whole: true,
            hops: quoted[8],
        };
        (offset >= IPV4_HEADER_BYTES).then_some((start, view))
    }

    fn of_ipv4(packet: &[u8]) -> Option<Self> {
        let header = packet.first_chunk::<IPV4_HEADER_BYTES>()?;
        let offset = usize::from(header[0] & 0x0f) * 4;
        let length = usize::from(number_at(header, 2));
        if offset < IPV4_HEADER_BYTES || length < offset || length > packet.len() {
            return None;
        }
        let flags = number_at(header, 6);
        let is_part = flags & (MORE_FRAGMENTS | OFFSET_MASK) != 0;
        Some(Self {
            source: Ipv4Addr::new(header[12], header[13], header[14], header[15]).into(),
            destination: Ipv4Addr::new(header[16], header[17], header[18], header[19]).into(),
            offset,
            length,
            protocol: header[9],
            transport: Transport::Later,
            fragment: is_part
                .then(|| Fragment { id: u32::from(number_at(header, 4)), first: flags & OFFSET_MASK == 0 }),
            whole: flags & DONT_FRAGMENT != 0,
            hops: header[8],
        })
    }

    fn of_ipv6(packet: &[u8]) -> Option<Self> {
        let header = packet.first_chunk::<IPV6_HEADER_BYTES>()?;
        let length = IPV6_HEADER_BYTES + usize::from(number_at(header, 4));
        if length > packet.len() {
            return None;
        }
        let (mut offset, mut protocol, mut fragment) = (IPV6_HEADER_BYTES, header[6], None);
        for _ in 0..EXTENSIONS_MAX {
            let is_fragment = protocol == FRAGMENT_HEADER;
            if !is_fragment && !EXTENSIONS.contains(&protocol) {
                break;
            }
            let extension = packet[..length].get(offset..offset + 8)?;
            protocol = extension[0];
            if is_fragment {
                let id = u32::from_be_bytes([extension[4], extension[5], extension[6], extension[7]]);
                let first = number_at(extension, 2) & 0xfff8 == 0;
                fragment = Some(Fragment { id, first });
                offset += 8;
                if !first {
                    break;
                }
            } else {
                offset += 8 + usize::from(extension[1]) * 8;
            }
        }
        let address = |from: usize| Some(Ipv6Addr::from_octets(*header[from..].first_chunk()?));
        (offset <= length).then_some(Self {
            source: address(8)?.into(),
            destination: address(24)?.into(),
            offset,
            length,
            protocol,
            transport: Transport::Later,
            fragment,
            whole: true,
            hops: header[7],
        })
    }

    pub(crate) fn is_ipv4(&self) -> bool {
        self.source.is_ipv4()
    }
}

/// `None` if the header that the protocol promises is not there.
fn transport(protocol: u8, message: &[u8]) -> Option<Transport> {
    let ports = || (number_at(message, 0), number_at(message, 2));
    match protocol {
        UDP => (message.len() >= UDP_BYTES).then(|| {
            let (source, destination) = ports();
            Transport::Udp { source, destination }
        }),
        TCP => (message.len() >= TCP_BYTES_MIN).then(|| {
            let (source, destination) = ports();
            Transport::Tcp { source, destination, flags: message[13] }
        }),
        ICMP | ICMPV6 => (message.len() >= ICMP_BYTES_MIN).then(|| {
            let id = number_at(message, 4);
            match (protocol, message[0]) {
                (ICMP, 8) | (ICMPV6, 128) => Transport::EchoRequest { id },
                (ICMP, 0) | (ICMPV6, 129) => Transport::EchoReply { id },
                (ICMP, 3 | 4 | 11 | 12) | (ICMPV6, 1..=4) => Transport::IcmpError,
                _ => Transport::OtherIcmp,
            }
        }),
        _ => Some(Transport::Other),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packet::checksum;

    /// A UDP packet over IPv4 with right sums.
    pub(crate) fn udp_packet(
        source: std::net::SocketAddrV4,
        destination: std::net::SocketAddrV4,
        payload: &[u8],
    ) -> Vec<u8> {
        let length = u16::try_from(8 + payload.len()).unwrap();
        let mut message = [source.port(), destination.port(), length, 0].map(u16::to_be_bytes).concat();
        message.extend_from_slice(payload);
        let sum =
            checksum::with_pseudo_header((*source.ip()).into(), (*destination.ip()).into(), UDP, &message);
        super::super::set_number(&mut message, 6, sum);
        ipv4_packet(UDP, *source.ip(), *destination.ip(), &message)
    }

    /// A packet over IPv4 with a right header sum.
    pub(crate) fn ipv4_packet(
        protocol: u8,
        source: Ipv4Addr,
        destination: Ipv4Addr,
        message: &[u8],
    ) -> Vec<u8> {
        let length = u16::try_from(IPV4_HEADER_BYTES + message.len()).unwrap().to_be_bytes();
        let mut header = vec![0x45, 0, length[0], length[1], 0, 7, 0, 0, 64, protocol, 0, 0];
        header.extend(source.octets());
        header.extend(destination.octets());
        let sum = checksum::of(&[&header]);
        super::super::set_number(&mut header, 10, sum);
        [header, message.to_vec()].concat()
    }

    #[test]
    fn parts_are_found_and_padding_is_left_out() {
        let mut packet =
            udp_packet("10.0.0.2:5000".parse().unwrap(), "192.0.2.1:53".parse().unwrap(), b"hello");
        packet.extend([0; 9]);
        let view = View::of(&packet).unwrap();
        assert_eq!((view.offset, view.length, view.hops), (20, 33, 64));
        assert_eq!(view.transport, Transport::Udp { source: 5000, destination: 53 });
        assert_eq!(View::of(&packet[..32]), None, "cut short");
    }

    #[test]
    fn a_later_part_has_no_ports() {
        let mut packet =
            udp_packet("10.0.0.2:5000".parse().unwrap(), "192.0.2.1:53".parse().unwrap(), b"hello");
        packet[7] = 1;
        let view = View::of(&packet).unwrap();
        assert_eq!(
            (view.transport, view.fragment),
            (Transport::Later, Some(Fragment { id: 7, first: false }))
        );
    }

    #[test]
    fn the_transport_of_ipv6_stands_behind_its_extensions() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 24, 0, 64];
        packet.extend([0x20; 32]);
        // A hop-by-hop header, a fragment header that says "the first of many", UDP.
        packet.extend([
            FRAGMENT_HEADER,
            0,
            1,
            4,
            0,
            0,
            0,
            0,
            UDP,
            0,
            0,
            1,
            0,
            0,
            0,
            9,
            0x13,
            0x88,
            0,
            53,
            0,
            8,
            0,
            0,
        ]);
        let view = View::of(&packet).unwrap();
        assert_eq!(view.transport, Transport::Udp { source: 5000, destination: 53 });
        assert_eq!((view.offset, view.fragment), (56, Some(Fragment { id: 9, first: true })));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), version in prop::sample::select(vec![0x45u8, 0x46, 0x4f, 0x60, 0])) {
            if let Some(first) = bytes.first_mut() {
                *first = version;
            }
            if let Some(view) = View::of(&bytes) {
                prop_assert!(view.offset <= view.length && view.length <= bytes.len());
                let _ = View::quoted(&bytes, &view);
            }
        }
    }
}
