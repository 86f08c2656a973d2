//! IPv4 and IPv6 headers, and where the transport header is.
//!
//! Sources: RFC 791 (IPv4), RFC 8200 (IPv6 and its extension headers), RFC 7112 (the first fragment holds the whole chain),
//! RFC 4302 (authentication header's length).

use std::net::{Ipv4Addr, Ipv6Addr};

/// Protocol numbers this crate tells apart (IANA "Assigned Internet Protocol Numbers").
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// Authentication header.
    pub const AUTHENTICATION: u8 = 51;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6 destination options.
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// Mobility header.
    pub const MOBILITY: u8 = 135;
}

/// IPv4 header without options.
pub const IPV4_BYTES: usize = 20;
/// IPv6 header without extensions.
pub const IPV6_BYTES: usize = 40;
/// Extension headers looked through. RFC 8200 allows each kind once (destination options twice), which is seven.
pub const EXTENSIONS_MAX: usize = 8;

/// An IP header that is cut short or contradicts itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed IP header")]
pub struct IpError;

/// What an IPv4 header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4 {
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// What it carries.
    pub protocol: u8,
    /// Length of the header with options.
    pub header_bytes: usize,
    /// Length of header and payload; what lies behind is padding.
    pub total_bytes: usize,
    /// Whether this is a fragment, and whether it is a later one (its payload starts with no transport header).
    pub fragment: Fragment,
}

/// A whole packet or a piece of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragment {
    /// Not fragmented.
    Whole,
    /// The first piece: the transport header is here.
    First,
    /// A later piece.
    Later,
}

impl Fragment {
    const fn of(offset: u16, more: bool) -> Self {
        match (offset, more) {
            (0, false) => Self::Whole,
            (0, true) => Self::First,
            _ => Self::Later,
        }
    }
}

impl Ipv4 {
    /// Reads a header at the start of an Ethernet payload.
    #[inline]
    pub fn parse(packet: &[u8]) -> Result<Self, IpError> {
        let header: &[u8; IPV4_BYTES] = packet.first_chunk().ok_or(IpError)?;
        let header_bytes = usize::from(header[0] & 0x0f) * 4;
        let total_bytes = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header[0] >> 4 != 4
            || header_bytes < IPV4_BYTES
            || total_bytes < header_bytes
            || total_bytes > packet.len()
        {
            return Err(IpError);
        }
        let flags = u16::from_be_bytes([header[6], header[7]]);
        Ok(Self {
            source: Ipv4Addr::new(header[12], header[13], header[14], header[15]),
            destination: Ipv4Addr::new(header[16], header[17], header[18], header[19]),
            protocol: header[9],
            header_bytes,
            total_bytes,
            fragment: Fragment::of(flags & 0x1fff, flags & 0x2000 != 0),
        })
    }
}

/// What an IPv6 header and the extensions behind it say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv6 {
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
    /// Hop limit.
    pub hop_limit: u8,
    /// The upper layer's protocol, or the first header that cannot be looked through.
    pub protocol: u8,
    /// Where it starts, from the start of the IPv6 header. Beyond the packet's end in no case.
    pub upper_offset: usize,
    /// Length of header and payload; what lies behind is padding.
    pub total_bytes: usize,
    /// Whether this is a fragment. What a later fragment carries at `upper_offset` is no header.
    pub fragment: Fragment,
}

impl Ipv6 {
    /// Reads a header and walks its extensions.
    #[inline]
    pub fn parse(packet: &[u8]) -> Result<Self, IpError> {
        let header: &[u8; IPV6_BYTES] = packet.first_chunk().ok_or(IpError)?;
        let total_bytes = IPV6_BYTES + usize::from(u16::from_be_bytes([header[4], header[5]]));
        if header[0] >> 4 != 6 || total_bytes > packet.len() {
            return Err(IpError);
        }
        let address = |at: usize| {
            let mut octets = [0; 16];
            octets.copy_from_slice(&header[at..at + 16]);
            Ipv6Addr::from_octets(octets)
        };
        let mut parsed = Self {
            source: address(8),
            destination: address(24),
            hop_limit: header[7],
            protocol: header[6],
            upper_offset: IPV6_BYTES,
            total_bytes,
            fragment: Fragment::Whole,
        };
        parsed.walk_extensions(&packet[..total_bytes])?;
        Ok(parsed)
    }

    /// Moves `protocol` and `upper_offset` behind the extensions. A chain that is cut (also in a first fragment, RFC 7112) or
    /// longer than [`EXTENSIONS_MAX`] is refused.
    fn walk_extensions(&mut self, packet: &[u8]) -> Result<(), IpError> {
        for _ in 0..EXTENSIONS_MAX {
            let rest = &packet[self.upper_offset..];
            let bytes = match self.protocol {
                protocol::HOP_BY_HOP
                | protocol::ROUTING
                | protocol::DESTINATION_OPTIONS
                | protocol::MOBILITY => (usize::from(*rest.get(1).ok_or(IpError)?) + 1) * 8,
                protocol::AUTHENTICATION => (usize::from(*rest.get(1).ok_or(IpError)?) + 2) * 4,
                protocol::FRAGMENT => {
                    let header: &[u8; 8] = rest.first_chunk().ok_or(IpError)?;
                    let field = u16::from_be_bytes([header[2], header[3]]);
                    let fragment = Fragment::of(field >> 3, field & 1 != 0);
                    // A header with offset 0 and no more fragments is an atomic fragment (RFC 6946): whole.
                    self.fragment = fragment;
                    if fragment == Fragment::Later {
                        self.protocol = header[0];
                        self.upper_offset += 8;
                        return Ok(());
                    }
                    8
                }
                _ => return Ok(()),
            };
            if bytes > rest.len() {
                return Err(IpError);
            }
            self.protocol = rest[0];
            self.upper_offset += bytes;
        }
        Err(IpError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rustfmt::skip]
    const IPV4: [u8; 28] = [
        0x45, 0x00, 0x00, 0x1c, // version and header length, type of service, total length 28
        0x12, 0x34, 0x40, 0x00, // id, don't fragment
        0x40, 17, 0x00, 0x00,   // time to live, UDP, checksum (not checked here)
        10, 7, 0, 2,            // source
        10, 7, 0, 3,            // destination
        0x00, 0x44, 0x00, 0x43, 0x00, 0x08, 0x00, 0x00, // UDP 68 -> 67
    ];

    fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, u8::try_from(payload.len()).unwrap(), next, 64];
        packet.extend_from_slice(&Ipv6Addr::LOCALHOST.octets());
        packet.extend_from_slice(&"ff02::1".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend_from_slice(payload);
        packet
    }

    #[test]
    fn golden_ipv4() {
        let ip = Ipv4::parse(&IPV4).unwrap();
        assert_eq!((ip.source, ip.destination), (Ipv4Addr::new(10, 7, 0, 2), Ipv4Addr::new(10, 7, 0, 3)));
        assert_eq!((ip.protocol, ip.header_bytes, ip.total_bytes), (protocol::UDP, 20, 28));
        assert_eq!(ip.fragment, Fragment::Whole);
    }

    #[test]
    fn ipv4_lengths_that_contradict_are_refused() {
        for length in 0..28 {
            assert_eq!(Ipv4::parse(&IPV4[..length]), Err(IpError));
        }
        for (at, value) in [(0, 0x55), (0, 0x44), (0, 0x4f), (3, 19), (3, 29)] {
            let mut bad = IPV4;
            bad[at] = value;
            assert_eq!(Ipv4::parse(&bad), Err(IpError), "byte {at} = {value:#x}");
        }
    }

    #[test]
    fn ipv4_fragments_are_told_apart() {
        let with_flags = |high, low| {
            let mut packet = IPV4;
            packet[6] = high;
            packet[7] = low;
            Ipv4::parse(&packet).unwrap().fragment
        };
        assert_eq!(with_flags(0x20, 0), Fragment::First);
        assert_eq!(with_flags(0x20, 1), Fragment::Later);
        assert_eq!(with_flags(0x00, 1), Fragment::Later);
    }

    #[test]
    fn golden_ipv6_and_its_extensions() {
        let plain = Ipv6::parse(&ipv6(protocol::ICMPV6, &[135, 0])).unwrap();
        assert_eq!((plain.protocol, plain.upper_offset, plain.total_bytes), (protocol::ICMPV6, 40, 42));
        let mut chain = vec![protocol::DESTINATION_OPTIONS, 0, 1, 4, 0, 0, 0, 0];
        chain.extend([protocol::AUTHENTICATION, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        chain.extend([protocol::UDP, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        chain.extend([1, 2, 3]);
        let behind = Ipv6::parse(&ipv6(protocol::HOP_BY_HOP, &chain)).unwrap();
        assert_eq!((behind.protocol, behind.upper_offset), (protocol::UDP, 40 + 8 + 16 + 12));
    }

    #[test]
    fn a_cut_or_endless_chain_is_refused() {
        assert_eq!(Ipv6::parse(&ipv6(protocol::HOP_BY_HOP, &[])), Err(IpError));
        assert_eq!(Ipv6::parse(&ipv6(protocol::HOP_BY_HOP, &[58, 1, 0, 0, 0, 0, 0, 0])), Err(IpError));
        let endless = [protocol::DESTINATION_OPTIONS, 0, 0, 0, 0, 0, 0, 0].repeat(EXTENSIONS_MAX + 1);
        assert_eq!(Ipv6::parse(&ipv6(protocol::DESTINATION_OPTIONS, &endless)), Err(IpError));
    }

    #[test]
    fn ipv6_fragments_are_told_apart() {
        let fragment = |low| {
            let ip = Ipv6::parse(&ipv6(protocol::FRAGMENT, &[58, 0, 0, low, 0, 0, 0, 9, 134, 0])).unwrap();
            (ip.fragment, ip.protocol, ip.upper_offset)
        };
        assert_eq!(fragment(0), (Fragment::Whole, 58, 48));
        assert_eq!(fragment(1), (Fragment::First, 58, 48));
        assert_eq!(fragment(8), (Fragment::Later, 58, 48));
    }
}
