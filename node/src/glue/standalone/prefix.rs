//! Prefixes: a run of addresses that share their first bits, of either IP version.
//!
//! Owns: reading, printing, containment, and which prefixes a network may have. Refuses to know who has which address.
//! Invariant: the bits behind the length are zero, so equal prefixes are equal values.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The widest IPv4 prefix of a network: one private block.
pub const IPV4_LEN_MIN: u8 = 8;
/// The narrowest: two hosts.
pub const IPV4_LEN_MAX: u8 = 30;
/// The widest IPv6 prefix: one subnet (RFC 4291 section 2.5.1).
pub const IPV6_LEN_MIN: u8 = 64;
/// The narrowest: hosts choose by hash, and want some room to miss each other.
pub const IPV6_LEN_MAX: u8 = 120;

/// A prefix of either IP version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "(IpAddr, u8)", into = "(IpAddr, u8)")]
pub struct Prefix {
    first: IpAddr,
    len: u8,
}

/// Why a text or a value is no prefix, or none for a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// Not ADDRESS/LENGTH.
    #[error("it is not an address and a length such as 10.7.0.0/24")]
    Malformed,
    /// Bits behind the length are set.
    #[error("it begins in the middle; write {0}")]
    NotItsFirst(Prefix),
    /// Too wide or too narrow.
    #[error("a network's length is {min} to {max}")]
    Length {
        /// The least.
        min: u8,
        /// The most.
        max: u8,
    },
    /// Loopback, multicast, link-local, reserved.
    #[error("hosts cannot have these addresses; write one such as 10.7.0.0/24 or fd07::/64")]
    NotForHosts,
    /// Of the other IP version.
    #[error("it is of the other IP version")]
    OtherVersion,
}

impl Prefix {
    /// The prefix of this length that holds `address`; none if there is no such length.
    #[must_use]
    pub fn around(address: IpAddr, len: u8) -> Option<Self> {
        let width = width(address);
        if len > width {
            return None;
        }
        let host_bits = u32::from(width - len);
        let kept = bits(address).checked_shr(host_bits).unwrap_or(0).checked_shl(host_bits).unwrap_or(0);
        Some(Self { first: of_bits(address, kept), len })
    }

    /// Its first address.
    #[must_use]
    pub const fn first(self) -> IpAddr {
        self.first
    }

    /// How many leading bits are fixed.
    #[must_use]
    pub const fn length(self) -> u8 {
        self.len
    }

    /// Whether the address is one of these.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4() && Self::around(address, self.len) == Some(self)
    }

    /// Whether the two have an address in common.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }

    /// How many addresses it has.
    fn size(self) -> u128 {
        1_u128.checked_shl(u32::from(width(self.first) - self.len)).unwrap_or(u128::MAX)
    }

    /// The address so many behind the first.
    fn at(self, offset: u128) -> IpAddr {
        of_bits(self.first, bits(self.first) + offset)
    }

    /// Whether a host may have this address: neither the first (the network's own, or all routers') nor, of IPv4, the last (broadcast).
    #[must_use]
    pub fn is_for_host(self, address: IpAddr) -> bool {
        let last = self.at(self.size() - 1);
        self.contains(address) && address != self.first && (address.is_ipv6() || address != last)
    }

    /// The addresses that are chosen from, beginning somewhere in the middle as `seed` says and going round once. The second address
    /// is left for a router.
    pub fn choices(self, seed: u128) -> impl Iterator<Item = IpAddr> {
        let outer = if self.first.is_ipv4() { 3 } else { 2 };
        let span = self.size().saturating_sub(outer);
        let start = if span == 0 { 0 } else { seed % span };
        (0..span).map(move |step| self.at(2 + (start + step) % span))
    }

    /// Checks that a network of hosts may have it.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn check_for_network(self) -> Result<(), PrefixError> {
        let (min, max) =
            if self.first.is_ipv4() { (IPV4_LEN_MIN, IPV4_LEN_MAX) } else { (IPV6_LEN_MIN, IPV6_LEN_MAX) };
        if !(min..=max).contains(&self.len) {
            return Err(PrefixError::Length { min, max });
        }
        let good = match self.first {
            IpAddr::V4(first) => !matches!(first.octets(), [0 | 127 | 224.., ..] | [169, 254, ..]),
            // Unique local or global unicast.
            IpAddr::V6(first) => first.segments()[0] & 0xfe00 == 0xfc00 || first.segments()[0] >> 13 == 1,
        };
        if good { Ok(()) } else { Err(PrefixError::NotForHosts) }
    }
}

const fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The address of these bits, of the version of `like`.
fn of_bits(like: IpAddr, bits: u128) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(u32::MAX)).into(),
        IpAddr::V6(_) => Ipv6Addr::from_bits(bits).into(),
    }
}

/// An address and a length, as in `10.7.0.5/24`.
///
/// # Errors
/// If the text is not that.
pub fn parse_address(text: &str) -> Result<(IpAddr, u8), PrefixError> {
    let (address, len) = text.split_once('/').ok_or(PrefixError::Malformed)?;
    let address: IpAddr = address.parse().map_err(|_| PrefixError::Malformed)?;
    let len: u8 = len.parse().map_err(|_| PrefixError::Malformed)?;
    if len > width(address) { Err(PrefixError::Malformed) } else { Ok((address, len)) }
}

impl TryFrom<(IpAddr, u8)> for Prefix {
    type Error = PrefixError;

    fn try_from((first, len): (IpAddr, u8)) -> Result<Self, PrefixError> {
        let prefix = Self::around(first, len).ok_or(PrefixError::Malformed)?;
        if prefix.first == first { Ok(prefix) } else { Err(PrefixError::NotItsFirst(prefix)) }
    }
}

impl From<Prefix> for (IpAddr, u8) {
    fn from(prefix: Prefix) -> Self {
        (prefix.first, prefix.len)
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        parse_address(text)?.try_into()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.len)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn a_prefix_is_written_by_its_first_address() {
        assert_eq!(prefix("10.7.0.0/24").to_string(), "10.7.0.0/24");
        assert_eq!("10.7.0.5/24".parse::<Prefix>(), Err(PrefixError::NotItsFirst(prefix("10.7.0.0/24"))));
        for bad in ["", "10.7.0.0", "10.7.0.0/33", "fd00::/129", "10.7/16", "x/8", "10.7.0.0/-1"] {
            assert_eq!(bad.parse::<Prefix>(), Err(PrefixError::Malformed), "{bad}");
        }
        assert_eq!(prefix("0.0.0.0/0").length(), 0);
        assert_eq!(prefix("::/0").first(), "::".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn only_addresses_hosts_can_have_make_a_network() {
        for good in ["10.0.0.0/8", "192.168.1.0/30", "100.64.0.0/24", "fd00::/64", "2001:db8::/120"] {
            assert_eq!(prefix(good).check_for_network(), Ok(()), "{good}");
        }
        for bad in
            ["0.0.0.0/8", "127.1.0.0/16", "169.254.7.0/24", "224.0.0.0/8", "fe80::/64", "ff02::/64", "::/64"]
        {
            assert_eq!(prefix(bad).check_for_network(), Err(PrefixError::NotForHosts), "{bad}");
        }
        for wide in ["10.0.0.0/7", "10.0.0.0/31", "fd00::/63", "fd00::/121"] {
            let (first, len) = parse_address(wide).unwrap();
            let prefix = Prefix::around(first, len).unwrap();
            assert!(matches!(prefix.check_for_network(), Err(PrefixError::Length { .. })), "{wide}");
        }
    }

    #[test]
    fn neither_the_networks_own_nor_the_broadcast_address_is_a_hosts() {
        let lan = prefix("10.7.0.0/24");
        let is = |address: &str| lan.is_for_host(address.parse().unwrap());
        assert!(is("10.7.0.1") && is("10.7.0.254"));
        assert!(!is("10.7.0.0") && !is("10.7.0.255") && !is("10.7.1.1") && !is("fd00::1"));
        let six = prefix("fd00::/120");
        assert!(six.is_for_host("fd00::ff".parse().unwrap()) && !six.is_for_host("fd00::".parse().unwrap()));
    }

    #[test]
    fn the_narrowest_prefix_has_one_choice_beside_the_router() {
        let choices: Vec<_> = prefix("10.7.0.0/30").choices(77).collect();
        assert_eq!(choices, ["10.7.0.2".parse::<IpAddr>().unwrap()]);
    }

    proptest! {
        #[test]
        fn choices_go_once_round_all_that_hosts_may_have_but_the_routers(len in 22_u8..=30, seed in any::<u128>()) {
            let lan = Prefix::around("10.9.0.0".parse().unwrap(), len).unwrap();
            let mut chosen: Vec<IpAddr> = lan.choices(seed).collect();
            prop_assert!(chosen.iter().all(|address| lan.is_for_host(*address)));
            chosen.sort_unstable();
            chosen.dedup();
            prop_assert_eq!(chosen.len(), (1_usize << (32 - len)) - 3);
        }

        #[test]
        fn overlap_is_having_an_address_in_common(a in any::<u32>(), b in any::<u32>(), m in 0_u8..=32, n in 0_u8..=32) {
            let [one, other] = [(a, m), (b, n)].map(|(bits, len)| Prefix::around(Ipv4Addr::from_bits(bits).into(), len).unwrap());
            let shorter = m.min(n);
            let same = Prefix::around(one.first(), shorter) == Prefix::around(other.first(), shorter);
            prop_assert_eq!(one.overlaps(other), same);
            prop_assert_eq!(other.overlaps(one), same);
        }

        #[test]
        fn a_prefix_comes_out_as_it_went_in(bits in any::<u128>(), len in 0_u8..=128) {
            let wanted = Prefix::around(Ipv6Addr::from_bits(bits).into(), len).unwrap();
            prop_assert_eq!(wanted.to_string().parse::<Prefix>(), Ok(wanted));
            let bytes = postcard::to_stdvec(&wanted).unwrap();
            prop_assert_eq!(postcard::from_bytes::<Prefix>(&bytes), Ok(wanted));
        }
    }
}
