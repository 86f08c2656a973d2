//! Checked views over the bytes of a frame: what the switch and the offloads must know, and no more.
//!
//! A view is made once, checks every length it will use, and then cannot fail. Nothing here allocates, and nothing here decides.
//! Sources: IEEE 802.3 and 802.1Q (framing, tags), RFC 826 and 5227 (ARP), RFC 791, RFC 8200, RFC 4861 (neighbour discovery).

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod ip;
pub mod neighbour_discovery;

/// Fuzz entry: reads whatever comes as a frame, and as each of the packets a frame can hold.
pub fn fuzz(bytes: &[u8]) {
    if let Ok(header) = ethernet::Ethernet::parse(bytes) {
        assert!(header.payload(bytes).len() + header.payload_offset == bytes.len());
        packets(header.payload(bytes));
    }
    packets(bytes);
}

fn packets(bytes: &[u8]) {
    if let Ok(arp) = arp::Arp::parse(bytes) {
        assert_eq!(arp.encode(), bytes[..arp::ARP_BYTES]);
    }
    if let Ok(ip) = ip::Ipv4::parse(bytes) {
        assert!(ip.header_bytes <= ip.total_bytes && ip.total_bytes <= bytes.len());
    }
    if let Ok(ip) = ip::Ipv6::parse(bytes) {
        assert!(ip.upper_offset <= ip.total_bytes && ip.total_bytes <= bytes.len());
        // Whether it is ICMPv6 or not: more inputs reach the parser this way.
        let _ = neighbour_discovery::Message::parse(&ip, &bytes[ip.upper_offset..ip.total_bytes]);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_bytes_make_a_decoder_panic() {
        crate::specimen::hostile(20_000, super::fuzz);
    }
}
