//! Addresses that this host reaches through the switch itself: on networks it is on with a device of its own.
//!
//! A path to one of them would lead through the very link it is for: each datagram would come back as a frame to be sent. So they are neither told as this
//! host's nor tried as a peer's. Node says which they are before it gives a device an address.

use std::net::IpAddr;

/// Prefixes at once: two for each of the networks a host may be on.
pub const INSIDE_MAX: usize = 256;

/// Prefixes, each its first address and its length.
#[derive(Debug, Default)]
pub(crate) struct Inside(Vec<(IpAddr, u8)>);

impl Inside {
    pub(super) fn new(mut prefixes: Vec<(IpAddr, u8)>) -> Self {
        prefixes.truncate(INSIDE_MAX);
        Self(prefixes)
    }

    /// Whether the address is one of these.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|(first, len)| match (first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let differ = first.to_bits() ^ address.to_bits();
                differ.leading_zeros() >= u32::from(*len)
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let differ = first.to_bits() ^ address.to_bits();
                differ.leading_zeros() >= u32::from(*len)
            }
            _ => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_inside_if_it_begins_as_a_prefix_does() {
        let inside = Inside::new(vec![
            ("10.7.0.0".parse().unwrap(), 24),
            ("fd07::".parse().unwrap(), 64),
            ("192.0.2.1".parse().unwrap(), 32),
        ]);
        for address in ["10.7.0.0", "10.7.0.255", "fd07::1", "192.0.2.1"] {
            assert!(inside.contains(address.parse().unwrap()), "{address}");
        }
        for address in ["10.7.1.0", "10.6.255.255", "fd07:0:0:1::", "192.0.2.2", "::10.7.0.1"] {
            assert!(!inside.contains(address.parse().unwrap()), "{address}");
        }
        assert!(Inside::new(vec![("0.0.0.0".parse().unwrap(), 0)]).contains([1, 2, 3, 4].into()));
        assert!(!Inside::default().contains([1, 2, 3, 4].into()));
    }
}
