//! MAC addresses: six octets, and the few questions a switch asks of them (IEEE 802-2014 section 8.2).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A 48-bit MAC address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// The broadcast address.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// The first six bytes of a slice, if there are six.
    #[inline]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.first_chunk().map(|octets| Self(*octets))
    }

    /// A group address: broadcast or multicast. Never a valid source.
    #[inline]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// One station's address: neither a group address nor all zero.
    #[inline]
    pub fn is_station(self) -> bool {
        !self.is_group() && self.0 != [0; 6]
    }

    /// In the block 01:80:C2:00:00:00..=0F, which a bridge never forwards (IEEE 802.1Q table 8-1).
    #[inline]
    pub fn is_link_constrained(self) -> bool {
        self.0[..5] == [0x01, 0x80, 0xc2, 0, 0] && self.0[5] <= 0x0f
    }

    /// The address as the low 48 bits of a number, for hashing and packing.
    #[inline]
    pub const fn to_bits(self) -> u64 {
        let o = self.0;
        u64::from_be_bytes([0, 0, o[0], o[1], o[2], o[3], o[4], o[5]])
    }

    /// The link-local IPv6 address that RFC 4291 appendix A derives from this address (modified EUI-64).
    pub const fn link_local(self) -> std::net::Ipv6Addr {
        let o = self.0;
        std::net::Ipv6Addr::from_octets([
            0xfe,
            0x80,
            0,
            0,
            0,
            0,
            0,
            0,
            o[0] ^ 2,
            o[1],
            o[2],
            0xff,
            0xfe,
            o[3],
            o[4],
            o[5],
        ])
    }
}

/// One word instead of a slice: half the cost in the tables keyed by it.
impl std::hash::Hash for MacAddr {
    #[inline]
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(self.to_bits());
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let o = self.0;
        write!(f, "{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", o[0], o[1], o[2], o[3], o[4], o[5])
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not six pairs of hexadecimal digits joined by colons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a MAC address is six pairs of hexadecimal digits joined by ':', such as 02:00:00:00:00:01")]
pub struct ParseMacError;

impl FromStr for MacAddr {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or(ParseMacError)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(ParseMacError);
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| ParseMacError)?;
        }
        if parts.next().is_some() { Err(ParseMacError) } else { Ok(Self(octets)) }
    }
}

impl Serialize for MacAddr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddr {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_nothing_else_is_accepted() {
        let mac: MacAddr = "02:1a:00:ff:7e:01".parse().unwrap();
        assert_eq!(mac, MacAddr([0x02, 0x1a, 0x00, 0xff, 0x7e, 0x01]));
        assert_eq!(mac.to_string(), "02:1a:00:ff:7e:01");
        for bad in [
            "",
            "02:1a:00:ff:7e",
            "02:1a:00:ff:7e:01:02",
            "2:1a:00:ff:7e:01",
            "+2:1a:00:ff:7e:01",
            "02-1a-00-ff-7e-01",
        ] {
            assert_eq!(bad.parse::<MacAddr>(), Err(ParseMacError), "{bad}");
        }
    }

    #[test]
    fn link_local_address_is_the_modified_eui_64() {
        let mac = MacAddr([0x02, 0x00, 0x5e, 0x10, 0x00, 0x01]);
        assert_eq!(mac.link_local(), "fe80::5eff:fe10:1".parse::<std::net::Ipv6Addr>().unwrap());
    }

    #[test]
    fn kinds_of_address_are_told_apart() {
        assert!(MacAddr::BROADCAST.is_group());
        assert!(MacAddr([0x01, 0, 0x5e, 0, 0, 1]).is_group());
        assert!(!MacAddr([0; 6]).is_station());
        assert!(MacAddr([2, 0, 0, 0, 0, 1]).is_station());
        assert!(MacAddr([0x01, 0x80, 0xc2, 0, 0, 0x0e]).is_link_constrained());
        assert!(!MacAddr([0x01, 0x80, 0xc2, 0, 0, 0x10]).is_link_constrained());
    }
}
