//! Neighbour discovery for IPv6: the five messages, with the checks that RFC 4861 makes receivers do.
//!
//! | offset | size | field (solicitation, advertisement) |
//! |---|---|---|
//! | 0 | 1+1 | type (133–137), code 0 |
//! | 2 | 2 | checksum |
//! | 4 | 4 | advertisement: flags router, solicited, override in the top three bits; else reserved |
//! | 8 | 16 | target |
//! | 24 | 8 each | options: type, length in units of 8, value; 1 source's and 2 target's link-layer address |
//!
//! The checksum is not checked: the frame may come from a port whose kernel left it to be completed.
//! Sources: RFC 4861 sections 4, 6.1, 7.1 and 8.1; RFC 4862 section 5.4; RFC 6980 (never in fragments).

use std::net::Ipv6Addr;

use super::ip::{Fragment, Ipv6};
use crate::mac::MacAddr;

/// Router solicitation.
pub const ROUTER_SOLICITATION: u8 = 133;
/// Router advertisement.
pub const ROUTER_ADVERTISEMENT: u8 = 134;
/// Neighbour solicitation.
pub const NEIGHBOUR_SOLICITATION: u8 = 135;
/// Neighbour advertisement.
pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Redirect.
pub const REDIRECT: u8 = 137;

/// Option: the sender's link-layer address.
pub const SOURCE_LINK_LAYER: u8 = 1;
/// Option: the target's link-layer address.
pub const TARGET_LINK_LAYER: u8 = 2;

/// One message of neighbour discovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// A machine asks for routers.
    RouterSolicitation {
        /// The sender's MAC address as it says.
        source_link: Option<MacAddr>,
    },
    /// A router speaks.
    RouterAdvertisement,
    /// Who has the target? With source `::` it is duplicate address detection.
    Solicitation {
        /// The address asked for.
        target: Ipv6Addr,
        /// The sender's MAC address as it says.
        source_link: Option<MacAddr>,
    },
    /// The sender has the target.
    Advertisement {
        /// The address claimed.
        target: Ipv6Addr,
        /// The MAC address claimed for it.
        target_link: Option<MacAddr>,
    },
    /// A router tells a better next hop.
    Redirect,
}

/// What RFC 4861 tells receivers to discard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed neighbour discovery message")]
pub struct MessageError;

impl Message {
    /// Reads the ICMPv6 message of a packet (cut to its [`Ipv6::total_bytes`]); `None` if it is another kind of ICMPv6.
    pub fn parse(ip: &Ipv6, icmp: &[u8]) -> Result<Option<Self>, MessageError> {
        let kind = *icmp.first().ok_or(MessageError)?;
        let fixed_bytes = match kind {
            ROUTER_SOLICITATION => 8,
            ROUTER_ADVERTISEMENT => 16,
            NEIGHBOUR_SOLICITATION | NEIGHBOUR_ADVERTISEMENT => 24,
            REDIRECT => 40,
            _ => return Ok(None),
        };
        if ip.hop_limit != 255 || ip.fragment != Fragment::Whole || icmp.len() < fixed_bytes || icmp[1] != 0 {
            return Err(MessageError);
        }
        let (fixed, options) = icmp.split_at(fixed_bytes);
        let links = Links::parse(options)?;
        let target = || {
            let octets: &[u8; 16] = fixed[8..].first_chunk().ok_or(MessageError)?;
            let target = Ipv6Addr::from_octets(*octets);
            if target.is_multicast() { Err(MessageError) } else { Ok(target) }
        };
        Ok(Some(match kind {
            ROUTER_SOLICITATION => {
                if ip.source.is_unspecified() && links.source.is_some() {
                    return Err(MessageError);
                }
                Self::RouterSolicitation { source_link: links.source }
            }
            ROUTER_ADVERTISEMENT => Self::RouterAdvertisement,
            NEIGHBOUR_SOLICITATION => {
                let duplicate_detection = ip.source.is_unspecified();
                if duplicate_detection && (links.source.is_some() || !is_solicited_node(ip.destination)) {
                    return Err(MessageError);
                }
                Self::Solicitation { target: target()?, source_link: links.source }
            }
            NEIGHBOUR_ADVERTISEMENT => {
                let solicited = fixed[4] & 0x40 != 0;
                if solicited && ip.destination.is_multicast() {
                    return Err(MessageError);
                }
                Self::Advertisement { target: target()?, target_link: links.target }
            }
            _ => Self::Redirect,
        }))
    }
}

/// In ff02::1:ff00:0/104 (RFC 4291 section 2.7.1).
fn is_solicited_node(address: Ipv6Addr) -> bool {
    address.octets()[..13] == [0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0xff]
}

/// The link-layer addresses among a message's options.
struct Links {
    source: Option<MacAddr>,
    target: Option<MacAddr>,
}

impl Links {
    fn parse(mut options: &[u8]) -> Result<Self, MessageError> {
        let mut links = Self { source: None, target: None };
        while let [kind, units, ..] = *options {
            let bytes = usize::from(units) * 8;
            if bytes == 0 || bytes > options.len() {
                return Err(MessageError);
            }
            let (option, rest) = options.split_at(bytes);
            let link = match kind {
                SOURCE_LINK_LAYER => Some(&mut links.source),
                TARGET_LINK_LAYER => Some(&mut links.target),
                _ => None,
            };
            if let Some(link) = link {
                // A second one could say something else than the first: which one counts is up to the receiver, so neither does.
                if bytes != 8 || link.is_some() {
                    return Err(MessageError);
                }
                *link = MacAddr::from_slice(&option[2..]);
            }
            options = rest;
        }
        if options.is_empty() { Ok(links) } else { Err(MessageError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(source: &str, destination: &str) -> Ipv6 {
        Ipv6 {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            hop_limit: 255,
            protocol: 58,
            upper_offset: 40,
            total_bytes: 72,
            fragment: Fragment::Whole,
        }
    }

    #[rustfmt::skip]
    const SOLICITATION: [u8; 32] = [
        135, 0, 0, 0,           // neighbour solicitation, code 0, checksum
        0, 0, 0, 0,             // reserved
        0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, // target fd00::3
        1, 1, 2, 0, 0, 0, 0, 1, // source link-layer address 02:00:00:00:00:01
    ];

    #[test]
    fn golden_solicitation() {
        let message = Message::parse(&ip("fd00::2", "ff02::1:ff00:3"), &SOLICITATION);
        assert_eq!(
            message,
            Ok(Some(Message::Solicitation {
                target: "fd00::3".parse().unwrap(),
                source_link: Some(MacAddr([2, 0, 0, 0, 0, 1])),
            }))
        );
    }

    #[test]
    fn duplicate_detection_carries_no_link_address_and_goes_to_the_solicited_node() {
        let plain = &SOLICITATION[..24];
        assert!(Message::parse(&ip("::", "ff02::1:ff00:3"), plain).is_ok());
        assert_eq!(Message::parse(&ip("::", "ff02::1:ff00:3"), &SOLICITATION), Err(MessageError));
        assert_eq!(Message::parse(&ip("::", "ff02::1"), plain), Err(MessageError));
    }

    #[test]
    fn what_receivers_must_discard_is_refused() {
        let good = ip("fd00::2", "ff02::1:ff00:3");
        for length in 1..32 {
            if length != 24 {
                assert_eq!(Message::parse(&good, &SOLICITATION[..length]), Err(MessageError), "{length}");
            }
        }
        assert_eq!(Message::parse(&Ipv6 { hop_limit: 254, ..good }, &SOLICITATION), Err(MessageError));
        assert_eq!(
            Message::parse(&Ipv6 { fragment: Fragment::First, ..good }, &SOLICITATION),
            Err(MessageError)
        );
        for (at, value) in [(1, 1), (8, 0xff), (25, 0), (25, 2)] {
            let mut bad = SOLICITATION;
            bad[at] = value;
            assert_eq!(Message::parse(&good, &bad), Err(MessageError), "byte {at}");
        }
        let mut twice = SOLICITATION.to_vec();
        twice.extend([1, 1, 2, 0, 0, 0, 0, 9]);
        assert_eq!(Message::parse(&good, &twice), Err(MessageError));
    }

    #[test]
    fn advertisements_are_not_solicited_by_everybody() {
        let mut advertisement = SOLICITATION;
        advertisement[0] = 136;
        advertisement[4] = 0x60;
        advertisement[24] = 2;
        assert!(Message::parse(&ip("fd00::3", "fd00::2"), &advertisement).is_ok());
        assert_eq!(Message::parse(&ip("fd00::3", "ff02::1"), &advertisement), Err(MessageError));
    }

    #[test]
    fn other_icmpv6_is_none_of_it() {
        assert_eq!(Message::parse(&ip("fd00::3", "fd00::2"), &[128, 0, 0, 0]), Ok(None));
        assert_eq!(Message::parse(&ip("fd00::3", "fd00::2"), &[]), Err(MessageError));
    }
}
