//! Who has which address on a network by itself: chosen by each host, settled alike by all.
//!
//! # The rule
//! A host chooses its addresses by hash of network and host, and goes on from there past those it knows to be taken; so two hosts that do not
//! know each other seldom choose alike. Where they did, the one that joined *earlier* keeps the address; of two that joined in
//! the same millisecond, the one with the lesser name. The other's claim stands without that address until it has chosen another, which it does as soon as
//! it hears of the first. Rank never changes while a host stays, so the first in rank never yields, then the second yields at most to the
//! first, and so on: hosts that have heard of each other end with distinct addresses, however they heard.
//!
//! MAC addresses follow from network and host, and nobody can claim another's. Pure functions; time comes inside the claims.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use consort_overlay::HostId;
use consort_vswitch::{MacAddr, NetworkId};

use super::prefix::Prefix;
use super::statement::{Definition, Standing, Statement};

/// A host on a network, with what of its claim it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// The host.
    pub host: HostId,
    /// Its MAC address.
    pub mac: MacAddr,
    /// Its IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// Addresses it claimed and does not have, each with the host that has it.
    pub lost: Vec<(IpAddr, HostId)>,
}

/// The MAC address of a host on a network: locally administered, unicast.
#[must_use]
pub fn mac_of(network: NetworkId, host: HostId) -> MacAddr {
    let [a, b, c, d, e, ..] = hash("mac", network, host);
    MacAddr([0x02, a, b, c, d, e])
}

fn hash(what: &str, network: NetworkId, host: HostId) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("consort 2026-11 place on a network by itself");
    hasher.update(what.as_bytes()).update(&network.0).update(&host.to_bytes());
    *hasher.finalize().as_bytes()
}

/// The address that a host takes where these are taken; none if there is no room.
#[must_use]
pub fn choose(prefix: Prefix, network: NetworkId, host: HostId, taken: &BTreeSet<IpAddr>) -> Option<IpAddr> {
    let seed = *hash("address", network, host).first_chunk().expect("a hash is longer");
    prefix.choices(u128::from_be_bytes(seed)).find(|address| !taken.contains(address))
}

/// A /24 for a network where these prefixes are in use: of 10.0.0.0/8, else of 172.16.0.0/12, else of 192.168.0.0/16.
#[must_use]
pub fn choose_ipv4_prefix(seed: [u8; 16], used: &[Prefix]) -> Option<Prefix> {
    const BLOCKS: [(Ipv4Addr, u32); 3] = [
        (Ipv4Addr::new(10, 0, 0, 0), 1 << 16),
        (Ipv4Addr::new(172, 16, 0, 0), 1 << 12),
        (Ipv4Addr::new(192, 168, 0, 0), 1 << 8),
    ];
    let start = u32::from_be_bytes([0, 0, seed[0], seed[1]]);
    BLOCKS.into_iter().find_map(|(block, count)| {
        (0..count).find_map(|step| {
            let index = start.wrapping_add(step) % count;
            let first = Ipv4Addr::from_bits(block.to_bits() + (index << 8));
            let prefix = Prefix::around(first.into(), 24)?;
            used.iter().all(|other| !other.overlaps(prefix)).then_some(prefix)
        })
    })
}

/// Settles who has what, the first in rank first. Addresses outside the network's prefixes are nobody's.
#[must_use]
pub fn settle<'a>(network: &Definition, claims: impl IntoIterator<Item = &'a Statement>) -> Vec<Seat> {
    let mut ranked: Vec<&Statement> =
        claims.into_iter().filter(|claim| claim.standing != Standing::Left).collect();
    ranked.sort_unstable_by_key(|claim| (claim.since_ms, claim.host));
    let (mut macs, mut owners) = (BTreeSet::new(), BTreeMap::new());
    let mut seats = Vec::with_capacity(ranked.len());
    for claim in ranked {
        let mac = mac_of(network.id, claim.host);
        // Two of 2^40 alike, or ground out on purpose: the switch takes one of them.
        if !macs.insert(mac) {
            continue;
        }
        let mut seat = Seat { host: claim.host, mac, ipv4: None, ipv6: None, lost: Vec::new() };
        for address in claim.addresses() {
            if !network.prefixes().any(|prefix| prefix.is_for_host(address)) {
                continue;
            }
            match *owners.entry(address).or_insert(claim.host) {
                owner if owner != claim.host => seat.lost.push((address, owner)),
                _ => match address {
                    IpAddr::V4(address) => seat.ipv4 = Some(address),
                    IpAddr::V6(address) => seat.ipv6 = Some(address),
                },
            }
        }
        seats.push(seat);
    }
    seats
}

/// The addresses that hosts have.
#[must_use]
pub fn taken(seats: &[Seat]) -> BTreeSet<IpAddr> {
    let both = |seat: &Seat| [seat.ipv4.map(IpAddr::from), seat.ipv6.map(IpAddr::from)];
    seats.iter().flat_map(both).flatten().collect()
}

#[cfg(test)]
mod tests {
    use libp2p_identity::Keypair;
    use proptest::prelude::*;

    use super::super::statement::{Draft, Ipv6Wish};
    use super::*;

    fn host(byte: u8) -> HostId {
        Keypair::ed25519_from_bytes([byte; 32]).unwrap().public().to_peer_id()
    }

    fn network(prefix: &str) -> Definition {
        let keys = Keypair::ed25519_from_bytes([1; 32]).unwrap();
        let mut draft = Draft::new("lan".parse().unwrap(), host(1), 1, [0; 16], 1500);
        draft.ipv4 = Some(prefix.parse().unwrap());
        draft.ipv6 = Ipv6Wish::ById;
        let overlay = consort_overlay::OverlayKey(host(9).to_string().parse().unwrap());
        Definition::issue(&keys, overlay, draft)
    }

    fn claim(network: &Definition, host: HostId, since_ms: u64, last: u8) -> Statement {
        let standing = Standing::Joined { ipv4: Some([10, 7, 0, last].into()), ipv6: None };
        Statement::new(network.id, host, 1, since_ms, 1, standing)
    }

    #[test]
    fn of_two_that_want_one_address_the_earlier_has_it_and_the_later_is_told_by_whom() {
        let lan = network("10.7.0.0/24");
        let claims = [claim(&lan, host(2), 20, 5), claim(&lan, host(3), 10, 5), claim(&lan, host(4), 30, 6)];
        let seats = settle(&lan, &claims);
        assert_eq!(seats[0].ipv4, Some([10, 7, 0, 5].into()));
        assert_eq!((seats[0].host, seats[1].host, seats[2].host), (host(3), host(2), host(4)));
        assert_eq!((seats[1].ipv4, &seats[1].lost), (None, &vec![([10, 7, 0, 5].into(), host(3))]));
        assert_eq!(seats[2].ipv4, Some([10, 7, 0, 6].into()));
    }

    #[test]
    fn addresses_outside_the_network_are_nobodys() {
        let lan = network("10.8.0.0/24");
        assert_eq!(settle(&lan, &[claim(&lan, host(2), 1, 5)])[0].ipv4, None);
        let narrow = network("10.7.0.0/30");
        assert_eq!(settle(&narrow, &[claim(&narrow, host(2), 1, 3)])[0].ipv4, None, "broadcast");
        assert_eq!(settle(&narrow, &[claim(&narrow, host(2), 1, 1)])[0].ipv4, Some([10, 7, 0, 1].into()));
    }

    #[test]
    fn a_full_network_has_no_choice_left() {
        let lan = network("10.7.0.0/29");
        let mut taken = BTreeSet::new();
        for byte in 2..=6 {
            let chosen = choose(lan.draft.ipv4.unwrap(), lan.id, host(byte), &taken).unwrap();
            assert!(taken.insert(chosen));
        }
        assert_eq!(choose(lan.draft.ipv4.unwrap(), lan.id, host(7), &taken), None);
    }

    #[test]
    fn a_chosen_prefix_misses_all_that_are_in_use() {
        let used: Vec<Prefix> = ["10.0.0.0/8", "172.16.0.0/13"].map(|text| text.parse().unwrap()).to_vec();
        let chosen = choose_ipv4_prefix([1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &used).unwrap();
        assert!(used.iter().all(|other| !other.overlaps(chosen)) && chosen.to_string().starts_with("172."));
        assert_eq!(choose_ipv4_prefix([0; 16], &["0.0.0.0/0".parse().unwrap()]), None);
    }

    proptest! {
        #[test]
        fn no_two_seats_have_one_address_and_order_of_hearing_does_not_matter(
            wishes in proptest::collection::vec((2_u8..40, 0_u64..4, 0_u8..8), 0..24),
            turn in 0_usize..24,
        ) {
            let lan = network("10.7.0.0/24");
            let mut by_host: BTreeMap<HostId, Statement> = BTreeMap::new();
            for (byte, since, last) in wishes {
                by_host.insert(host(byte), claim(&lan, host(byte), since, last));
            }
            let mut claims: Vec<Statement> = by_host.into_values().collect();
            let seats = settle(&lan, &claims);
            let addresses: Vec<_> = seats.iter().filter_map(|seat| seat.ipv4).collect();
            prop_assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), addresses.len());
            if !claims.is_empty() {
                let turn = turn % claims.len();
                claims.rotate_left(turn);
            }
            prop_assert_eq!(settle(&lan, &claims), seats);
        }
    }
}
