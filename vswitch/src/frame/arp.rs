//! ARP for Ethernet and IPv4.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 2 | hardware type, 1 = Ethernet |
//! | 2 | 2 | protocol type, 0x0800 = IPv4 |
//! | 4 | 1+1 | address lengths, 6 and 4 |
//! | 6 | 2 | operation: 1 request, 2 reply |
//! | 8 | 6+4 | sender's MAC and IPv4 address |
//! | 18 | 6+4 | target's MAC and IPv4 address |
//!
//! Sources: RFC 826; RFC 5227 for probes (sender 0.0.0.0) and announcements (sender = target).

use std::net::Ipv4Addr;

use crate::mac::MacAddr;

/// An ARP packet, without what Ethernet pads it with.
pub const ARP_BYTES: usize = 28;

/// Question or answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Who has the target address?
    Request,
    /// The sender has the sender address.
    Reply,
}

/// One ARP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    /// Question or answer.
    pub operation: Operation,
    /// Who speaks.
    pub sender_mac: MacAddr,
    /// The address the speaker claims; 0.0.0.0 in a probe.
    pub sender_ip: Ipv4Addr,
    /// Whom an answer is for.
    pub target_mac: MacAddr,
    /// The address asked for.
    pub target_ip: Ipv4Addr,
}

/// Cut short, or not ARP for Ethernet and IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an ARP packet for Ethernet and IPv4")]
pub struct ArpError;

impl Arp {
    /// Reads a packet; padding behind it is ignored.
    pub fn parse(payload: &[u8]) -> Result<Self, ArpError> {
        let packet: &[u8; ARP_BYTES] = payload.first_chunk().ok_or(ArpError)?;
        if packet[..6] != [0, 1, 0x08, 0x00, 6, 4] {
            return Err(ArpError);
        }
        let operation = match packet[6..8] {
            [0, 1] => Operation::Request,
            [0, 2] => Operation::Reply,
            _ => return Err(ArpError),
        };
        let mac = |at: usize| MacAddr::from_slice(&packet[at..]).ok_or(ArpError);
        let ip = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
        Ok(Self {
            operation,
            sender_mac: mac(8)?,
            sender_ip: ip(14),
            target_mac: mac(18)?,
            target_ip: ip(24),
        })
    }

    /// The packet's bytes.
    pub fn encode(&self) -> [u8; ARP_BYTES] {
        let mut packet = [0; ARP_BYTES];
        packet[..6].copy_from_slice(&[0, 1, 0x08, 0x00, 6, 4]);
        packet[7] = match self.operation {
            Operation::Request => 1,
            Operation::Reply => 2,
        };
        packet[8..14].copy_from_slice(&self.sender_mac.0);
        packet[14..18].copy_from_slice(&self.sender_ip.octets());
        packet[18..24].copy_from_slice(&self.target_mac.0);
        packet[24..28].copy_from_slice(&self.target_ip.octets());
        packet
    }

    /// Announces the sender's own address, or answers unasked (RFC 5227 section 2.3, RFC 5944 "gratuitous ARP").
    pub fn is_announcement(&self) -> bool {
        match self.operation {
            Operation::Reply => true,
            Operation::Request => self.sender_ip == self.target_ip && !self.sender_ip.is_unspecified(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: [u8; ARP_BYTES] = [
        0, 1, // Ethernet
        0x08, 0x00, // IPv4
        6, 4, // address lengths
        0, 1, // request
        0x02, 0, 0, 0, 0, 1, // sender MAC
        10, 7, 0, 2, // sender IP
        0, 0, 0, 0, 0, 0, // target MAC, unknown
        10, 7, 0, 3, // target IP
    ];

    #[test]
    fn golden_request_round_trips() {
        let arp = Arp::parse(&REQUEST).unwrap();
        assert_eq!(arp.operation, Operation::Request);
        assert_eq!(
            (arp.sender_mac, arp.sender_ip),
            (MacAddr([2, 0, 0, 0, 0, 1]), Ipv4Addr::new(10, 7, 0, 2))
        );
        assert_eq!((arp.target_mac, arp.target_ip), (MacAddr([0; 6]), Ipv4Addr::new(10, 7, 0, 3)));
        assert_eq!(arp.encode(), REQUEST);
        assert!(!arp.is_announcement());
    }

    #[test]
    fn cut_or_foreign_packets_are_refused_and_padding_is_not() {
        for length in 0..ARP_BYTES {
            assert_eq!(Arp::parse(&REQUEST[..length]), Err(ArpError));
        }
        for (at, value) in [(1, 6), (2, 0x86), (4, 8), (5, 16), (7, 3), (6, 1)] {
            let mut bad = REQUEST;
            bad[at] = value;
            assert_eq!(Arp::parse(&bad), Err(ArpError), "byte {at}");
        }
        let mut padded = REQUEST.to_vec();
        padded.resize(46, 0);
        assert!(Arp::parse(&padded).is_ok());
    }
}
