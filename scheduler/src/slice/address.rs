//! Addresses that follow from a slice's name.
//!
//! Every host computes the same: network ids, ranges where none was given, MAC and IP addresses of each
//! machine. The host part of an address is the machine's position in the slice plus two: `.0` is the
//! network's own, `.1` is kept for its gateway.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::id::{Name, NetworkId, SliceId};
use super::spec::{Ipv4Range, Ipv6Range, Network, Wanted};

/// Host parts that no machine has: the network's own address and the gateway.
const FIRST_HOST_PART: u32 = 2;

fn hash(label: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(label);
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

/// The id of a network of a slice.
#[must_use]
pub fn network_id(slice: SliceId, network: &Name) -> NetworkId {
    let mut id = [0; 16];
    id.copy_from_slice(&hash(b"consort network", &[&slice.0, network.as_str().as_bytes()])[..16]);
    NetworkId(id)
}

/// The IPv4 ranges of a slice's networks, given or chosen, none overlapping another.
#[must_use]
pub fn ipv4_ranges(slice: SliceId, networks: &[Network]) -> Vec<Option<Ipv4Range>> {
    let given = |network: &Network| match network.ipv4 {
        Wanted::Range(range) => Some(range),
        Wanted::Auto | Wanted::Off => None,
    };
    let mut taken: Vec<Ipv4Range> = networks.iter().filter_map(given).collect();
    networks
        .iter()
        .map(|network| match network.ipv4 {
            Wanted::Range(range) => Some(range),
            Wanted::Off => None,
            Wanted::Auto => {
                let chosen = choose_ipv4(network_id(slice, &network.name), &taken)?;
                taken.push(chosen);
                Some(chosen)
            }
        })
        .collect()
}

/// A /24 of 10.0.0.0/8 by the network's id; when that is taken, of 172.16.0.0/12, then of 192.168.0.0/16.
/// None only when the given ranges cover all three.
fn choose_ipv4(id: NetworkId, taken: &[Ipv4Range]) -> Option<Ipv4Range> {
    const BLOCKS: [(u32, u32); 3] = [(0x0a00_0000, 16), (0xac10_0000, 12), (0xc0a8_0000, 8)];
    let start = u32::from_be_bytes([0, 0, id.0[0], id.0[1]]);
    BLOCKS.into_iter().find_map(|(block, bits)| {
        let count = 1u32 << bits;
        (0..count).find_map(|step| {
            let index = start.wrapping_add(step) % count;
            let range = Ipv4Range { first: Ipv4Addr::from_bits(block + (index << 8)), prefix: 24 };
            taken.iter().all(|other| !other.overlaps(&range)).then_some(range)
        })
    })
}

/// The IPv6 range of a network: given, or a unique local one by its id (RFC 4193: `fd`, 40 bits, subnet).
#[must_use]
pub fn ipv6_range(slice: SliceId, network: &Network) -> Option<Ipv6Range> {
    match network.ipv6 {
        Wanted::Off => None,
        Wanted::Range(range) => Some(range),
        Wanted::Auto => {
            let mut octets = [0; 16];
            octets[0] = 0xfd;
            octets[1..8].copy_from_slice(&network_id(slice, &network.name).0[..7]);
            Some(Ipv6Range(Ipv6Addr::from(octets)))
        }
    }
}

/// The address of the machine at `index`; none when the range has no room for it.
#[must_use]
pub fn ipv4_of(range: Ipv4Range, index: usize) -> Option<Ipv4Addr> {
    let part = u32::try_from(index).ok()?.checked_add(FIRST_HOST_PART)?;
    (u64::from(part) + 1 < range.size()).then(|| Ipv4Addr::from_bits(range.first.to_bits() + part))
}

/// The address of the machine at `index`.
#[must_use]
pub fn ipv6_of(range: Ipv6Range, index: usize) -> Ipv6Addr {
    let part = u128::try_from(index).expect("an index fits") + u128::from(FIRST_HOST_PART);
    Ipv6Addr::from_bits(range.0.to_bits() + part)
}

/// A MAC address of a machine's interface, different from all in `taken`: locally administered, unicast.
#[must_use]
pub fn mac_of(slice: SliceId, machine: &str, interface: usize, taken: &[[u8; 6]]) -> [u8; 6] {
    let interface = u64::try_from(interface).expect("an index fits").to_be_bytes();
    let mut try_number = 0u64;
    loop {
        let digest =
            hash(b"consort mac", &[&slice.0, &interface, &try_number.to_be_bytes(), machine.as_bytes()]);
        let mac = [0x02, digest[0], digest[1], digest[2], digest[3], digest[4]];
        if !taken.contains(&mac) {
            return mac;
        }
        try_number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLICE: SliceId = SliceId([7; 16]);

    fn network(name: &str, ipv4: Wanted<Ipv4Range>) -> Network {
        Network { name: name.parse().unwrap(), ipv4, ipv6: Wanted::Auto }
    }

    #[test]
    fn chosen_ranges_keep_clear_of_given_ones_and_each_other() {
        let all_of_ten = Wanted::Range(Ipv4Range { first: Ipv4Addr::new(10, 0, 0, 0), prefix: 8 });
        let networks = [network("a", Wanted::Auto), network("b", all_of_ten), network("c", Wanted::Auto)];
        let ranges = ipv4_ranges(SLICE, &networks);
        let (a, c) = (ranges[0].unwrap(), ranges[2].unwrap());
        assert_eq!((a.first.octets()[0], c.first.octets()[0]), (172, 172));
        assert!(!a.overlaps(&c));
    }

    #[test]
    fn host_parts_begin_after_the_gateway_and_stop_before_the_broadcast_address() {
        let range = Ipv4Range { first: Ipv4Addr::new(10, 7, 0, 0), prefix: 29 };
        assert_eq!(ipv4_of(range, 0), Some(Ipv4Addr::new(10, 7, 0, 2)));
        assert_eq!(ipv4_of(range, 4), Some(Ipv4Addr::new(10, 7, 0, 6)));
        assert_eq!(ipv4_of(range, 5), None);
        let range = ipv6_range(SLICE, &network("a", Wanted::Auto)).unwrap();
        assert_eq!(range.0.octets()[0], 0xfd);
        assert_eq!(ipv6_of(range, 3).segments()[4..], [0, 0, 0, 5]);
    }

    #[test]
    fn a_taken_mac_is_not_given_again() {
        let first = mac_of(SLICE, "m-0", 0, &[]);
        let second = mac_of(SLICE, "m-0", 0, &[first]);
        assert_ne!(first, second);
        assert_eq!((first[0], second[0]), (2, 2));
    }
}
