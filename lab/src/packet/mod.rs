//! IP packets as bytes, as much of them as a router, a firewall or a NAT looks at.
//!
//! Owns: where the parts of a packet are ([`View`], for both IP versions), sums ([`checksum`]), ICMP messages that a router says
//! ([`icmp`]). Refuses to know what is done with a packet. Nothing here panics on any bytes: a view exists only of a packet whose lengths
//! agree.
//!
//! Sources: RFC 791, 8200, 768, 9293, 792, 4443, 1191.

pub(crate) mod checksum;
pub(crate) mod icmp;
mod view;

#[cfg(test)]
pub(crate) use view::tests::{ipv4_packet, udp_packet};
pub(crate) use view::{TCP_FIN, TCP_RST, TCP_SYN, Transport, View};

/// IPv4's header without options.
pub(crate) const IPV4_HEADER_BYTES: usize = 20;
/// IPv6's header without extensions.
pub(crate) const IPV6_HEADER_BYTES: usize = 40;
/// Numbers of protocols (IANA).
pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;

/// Two bytes as the network writes a number; the caller knows that they are there.
pub(crate) fn number_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_be_bytes([bytes[offset], bytes[offset + 1]])
}

/// The same, written.
pub(crate) fn set_number(bytes: &mut [u8], offset: usize, number: u16) {
    bytes[offset..offset + 2].copy_from_slice(&number.to_be_bytes());
}
