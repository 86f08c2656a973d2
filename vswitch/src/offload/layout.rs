//! Where the headers of a TCP or UDP frame are.
//!
//! Frames with anything else, fragments, and frames whose lengths contradict each other have no layout: they cross as they are.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::frame::{
    checksum::{Sum, pseudo_ipv4, pseudo_ipv6},
    ethernet::{Ethernet, ethertype},
    ip::{Fragment, IPV4_BYTES, IPV6_BYTES, Ipv4, Ipv6, protocol},
};

/// The longest stack of headers that is offloaded: Ethernet with two tags, IPv6 with some extensions or IPv4 with options, TCP with all
/// its options.
pub const HEADERS_MAX: usize = 256;

/// TCP header without options.
pub const TCP_BYTES: usize = 20;
/// From the start of a TCP header to its flags.
pub(super) const TCP_FLAGS: usize = 13;
/// UDP header.
pub const UDP_BYTES: usize = 8;

/// The flags of a TCP header (RFC 9293 section 3.1).
pub(super) mod flag {
    pub(in super::super) const FIN: u8 = 0x01;
    pub(in super::super) const SYN: u8 = 0x02;
    pub(in super::super) const RST: u8 = 0x04;
    pub(in super::super) const PSH: u8 = 0x08;
    pub(in super::super) const URG: u8 = 0x20;
    pub(in super::super) const CWR: u8 = 0x80;
}

/// Which IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Which transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    pub(super) const fn protocol(self) -> u8 {
        match self {
            Self::Tcp => protocol::TCP,
            Self::Udp => protocol::UDP,
        }
    }

    /// From the start of the header to its checksum.
    pub const fn checksum_offset(self) -> usize {
        match self {
            Self::Tcp => 16,
            Self::Udp => 6,
        }
    }
}

/// Where things are in one frame. Every offset is inside the frame it was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Which IP.
    pub version: Version,
    /// Which transport.
    pub transport: Transport,
    /// Start of the IP header.
    pub network: usize,
    /// Start of the transport header.
    pub upper: usize,
    /// Start of the payload.
    pub payload: usize,
    /// End of the IP packet; what follows is padding.
    pub end: usize,
}

impl Layout {
    /// Finds the headers; `None` if the frame is not a whole TCP or UDP packet with headers within [`HEADERS_MAX`].
    #[inline]
    pub fn of(frame: &[u8]) -> Option<Self> {
        let ethernet = Ethernet::parse(frame).ok()?;
        let network = ethernet.payload_offset;
        let packet = ethernet.payload(frame);
        let (version, protocol, fragment, upper, total) = match ethernet.ethertype {
            ethertype::IPV4 => {
                let ip = Ipv4::parse(packet).ok()?;
                (Version::V4, ip.protocol, ip.fragment, ip.header_bytes, ip.total_bytes)
            }
            ethertype::IPV6 => {
                let ip = Ipv6::parse(packet).ok()?;
                (Version::V6, ip.protocol, ip.fragment, ip.upper_offset, ip.total_bytes)
            }
            _ => return None,
        };
        if fragment != Fragment::Whole {
            return None;
        }
        let segment = &packet[upper..total];
        let (transport, header_bytes) = match protocol {
            protocol::TCP => {
                let header: &[u8; TCP_BYTES] = segment.first_chunk()?;
                (Transport::Tcp, usize::from(header[12] >> 4) * 4)
            }
            protocol::UDP => (Transport::Udp, UDP_BYTES),
            _ => return None,
        };
        let payload = network + upper + header_bytes;
        let minimum = if transport == Transport::Tcp { TCP_BYTES } else { UDP_BYTES };
        if header_bytes < minimum || header_bytes > segment.len() || payload > HEADERS_MAX {
            return None;
        }
        Some(Self { version, transport, network, upper: network + upper, payload, end: network + total })
    }

    /// The transport's pseudo-header sum for a segment (header and payload) of this length.
    #[inline]
    pub(super) fn pseudo(&self, frame: &[u8], length: u32) -> Sum {
        let protocol = self.transport.protocol();
        match self.version {
            Version::V4 => {
                let header: &[u8; IPV4_BYTES] =
                    frame[self.network..].first_chunk().expect("the layout is of this frame");
                let [.., a, b, c, d, e, f, g, h] = *header;
                pseudo_ipv4(Ipv4Addr::new(a, b, c, d), Ipv4Addr::new(e, f, g, h), protocol, length)
            }
            Version::V6 => {
                let header: &[u8; IPV6_BYTES] =
                    frame[self.network..].first_chunk().expect("the layout is of this frame");
                let address = |at: usize| {
                    let octets: &[u8; 16] = header[at..].first_chunk().expect("24 + 16 bytes are there");
                    Ipv6Addr::from_octets(*octets)
                };
                pseudo_ipv6(address(8), address(24), protocol, length)
            }
        }
    }

    /// Start of the transport checksum.
    #[inline]
    pub const fn checksum(&self) -> usize {
        self.upper + self.transport.checksum_offset()
    }
}
