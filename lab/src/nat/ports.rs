//! Which outside port a new mapping gets.
//!
//! An inside port below 1024 gets one below 1024, one above gets one above (RFC 4787, REQ-3a).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use rand_chacha::ChaCha8Rng;
use rand_core::Rng as _;

use super::behaviour::Ports;
use super::flow::Protocol;

/// Ports that need privileges on the host that has them.
const WELL_KNOWN: RangeInclusive<u16> = 1..=1023;
/// All others.
const OTHERS: RangeInclusive<u16> = 1024..=65535;
/// Throws before a random choice becomes a search: with half of all ports taken, one in 2^32 choices searches.
const THROWS_MAX: usize = 32;

/// Remembers where a sequence is.
#[derive(Debug, Default)]
pub(super) struct Allocator {
    /// One entry for each protocol and outside address.
    last: BTreeMap<(Protocol, Ipv4Addr), u16>,
}

impl Allocator {
    /// A free port for an inside port, if there is one.
    pub(super) fn choose(
        &mut self,
        random: &mut ChaCha8Rng,
        ports: Ports,
        (protocol, outside): (Protocol, Ipv4Addr),
        inside_port: u16,
        is_free: impl Fn(u16) -> bool,
    ) -> Option<u16> {
        let range = if WELL_KNOWN.contains(&inside_port) { WELL_KNOWN } else { OTHERS };
        match ports {
            Ports::Preserving => from(inside_port, 2, &range)
                .chain(from(inside_port.wrapping_add(1), 2, &range))
                .find(|port| is_free(*port)),
            Ports::Shared => from(inside_port, 1, &range).find(|port| is_free(*port)),
            Ports::Sequential { step } => {
                let last = self.last.entry((protocol, outside)).or_insert_with(|| uniform(random, &range));
                let first = last.wrapping_add(step);
                // A step that skips half of the ports must not leave them unused.
                let port = from(first, step.max(1), &range)
                    .chain(from(first, 1, &range))
                    .find(|port| is_free(*port))?;
                *last = port;
                Some(port)
            }
            Ports::Random => {
                let thrown = (0..THROWS_MAX).map(|_| uniform(random, &range)).find(|port| is_free(*port));
                thrown.or_else(|| from(uniform(random, &range), 1, &range).find(|port| is_free(*port)))
            }
        }
    }
}

/// Once round the range from `first` in steps.
fn from(first: u16, step: u16, range: &RangeInclusive<u16>) -> impl Iterator<Item = u16> {
    let (low, count) = (u32::from(*range.start()), u32::from(*range.end() - *range.start()) + 1);
    let first = u32::from(first).saturating_sub(low) % count;
    let step = u32::from(step);
    (0..count.div_ceil(step)).map(move |index| {
        u16::try_from(low + (first + index * step) % count).expect("inside a range of ports")
    })
}

fn uniform(random: &mut ChaCha8Rng, range: &RangeInclusive<u16>) -> u16 {
    let count = u32::from(*range.end() - *range.start()) + 1;
    range.start() + u16::try_from(random.next_u32() % count).expect("less than the count of ports")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand_core::SeedableRng as _;

    use super::*;

    const OUTSIDE: (Protocol, Ipv4Addr) = (Protocol::Udp, Ipv4Addr::new(198, 51, 100, 2));

    fn take(ports: Ports, inside_port: u16, count: usize) -> Vec<u16> {
        let mut allocator = Allocator::default();
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut taken = BTreeSet::new();
        let mut order = Vec::new();
        for _ in 0..count {
            let port = allocator
                .choose(&mut random, ports, OUTSIDE, inside_port, |port| !taken.contains(&port))
                .unwrap();
            assert!(taken.insert(port));
            order.push(port);
        }
        order
    }

    #[test]
    fn a_preserving_nat_keeps_the_port_then_its_parity() {
        assert_eq!(take(Ports::Preserving, 7441, 3), [7441, 7443, 7445]);
        assert_eq!(take(Ports::Preserving, 65535, 2), [65535, 1025]);
    }

    #[test]
    fn a_sequence_goes_on_from_the_last_and_round_the_end() {
        let order = take(Ports::Sequential { step: 1 }, 7441, 3);
        assert_eq!(order[1], order[0].checked_add(1).unwrap());
        assert_eq!(order[2], order[1] + 1);
    }

    /// REQ-3a.
    #[test]
    fn a_port_stays_on_its_side_of_1024() {
        for ports in [Ports::Preserving, Ports::Shared, Ports::Sequential { step: 2 }, Ports::Random] {
            assert!(take(ports, 123, 500).iter().all(|port| WELL_KNOWN.contains(port)), "{ports:?}");
            assert!(take(ports, 1024, 500).iter().all(|port| OTHERS.contains(port)), "{ports:?}");
        }
    }

    #[test]
    fn every_port_is_found_and_then_none() {
        for ports in [Ports::Preserving, Ports::Shared, Ports::Sequential { step: 2 }, Ports::Random] {
            assert_eq!(take(ports, 1, 1023).len(), 1023, "{ports:?}");
            let mut random = ChaCha8Rng::seed_from_u64(1);
            assert_eq!(Allocator::default().choose(&mut random, ports, OUTSIDE, 1, |_| false), None);
        }
    }
}
