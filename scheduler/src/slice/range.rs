//! Address ranges of networks: as wished, and the rules they keep.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::spec::SpecError;

/// An IPv4 range.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ipv4Range {
    /// Its first address.
    pub first: Ipv4Addr,
    /// Its prefix length.
    pub prefix: u8,
}

impl Ipv4Range {
    /// How many addresses it has.
    #[must_use]
    pub const fn size(&self) -> u64 {
        1 << (32 - if self.prefix > 32 { 32 } else { self.prefix })
    }

    /// Whether the two have an address in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let (mine, theirs) = (u64::from(self.first.to_bits()), u64::from(other.first.to_bits()));
        mine < theirs + other.size() && theirs < mine + self.size()
    }
}

impl fmt::Display for Ipv4Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

impl fmt::Debug for Ipv4Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An IPv6 range; always a /64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ipv6Range(pub Ipv6Addr);

impl Ipv6Range {
    /// The only prefix length there is.
    pub const PREFIX: u8 = 64;
}

impl fmt::Display for Ipv6Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0, Self::PREFIX)
    }
}

impl fmt::Debug for Ipv6Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which addresses of one family a network has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Wanted<R> {
    /// Chosen for it.
    Auto,
    /// None of this family.
    Off,
    /// These.
    Range(R),
}

/// The widest IPv4 range: one private block.
const IPV4_PREFIX_MIN: u8 = 8;

/// The narrowest: a gateway and a handful of machines.
const IPV4_PREFIX_MAX: u8 = 29;

pub(super) fn check_ipv4(field: &str, range: Ipv4Range, machines: u64) -> Result<(), SpecError> {
    if !(IPV4_PREFIX_MIN..=IPV4_PREFIX_MAX).contains(&range.prefix) {
        let remedy = format!("write a prefix of {IPV4_PREFIX_MIN} to {IPV4_PREFIX_MAX}");
        return Err(SpecError::new(field, range, remedy));
    }
    let mask = u32::MAX << (32 - range.prefix);
    let first = Ipv4Addr::from_bits(range.first.to_bits() & mask);
    if first != range.first {
        let remedy = format!("write its first address: {first}/{}", range.prefix);
        return Err(SpecError::new(field, range, remedy));
    }
    let (head, last) =
        (range.first.octets()[0], Ipv4Addr::from_bits(range.first.to_bits() | !mask).octets()[0]);
    if head == 0 || head == 127 || last >= 224 {
        return Err(SpecError::new(field, range, "machines cannot have these addresses; write 10.x.y.0/24"));
    }
    // The network's own address, the gateway and the broadcast address are not for machines.
    if machines + 3 > range.size() {
        let remedy = format!("it has no room for {machines} machines and a gateway: write a shorter prefix");
        return Err(SpecError::new(field, range, remedy));
    }
    Ok(())
}

pub(super) fn check_ipv6(field: &str, range: Ipv6Range) -> Result<(), SpecError> {
    let segments = range.0.segments();
    if segments[4..] != [0; 4] {
        return Err(SpecError::new(
            field,
            range,
            "write its first address, for example fd12:3456:789a:1::/64",
        ));
    }
    let unicast = segments[0] & 0xe000 == 0x2000 || segments[0] & 0xfe00 == 0xfc00;
    if !unicast {
        return Err(SpecError::new(
            field,
            range,
            "write \"auto\", a local range (fd00::/8) or a global one (2000::/3)",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_overlap_when_one_holds_the_other() {
        let range = |a, b, c, prefix| Ipv4Range { first: Ipv4Addr::new(10, a, b, c), prefix };
        assert!(range(7, 0, 0, 24).overlaps(&range(7, 0, 128, 25)));
        assert!(range(0, 0, 0, 8).overlaps(&range(255, 255, 0, 24)));
        assert!(!range(7, 0, 0, 24).overlaps(&range(7, 1, 0, 24)));
    }
}
