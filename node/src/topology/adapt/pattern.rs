//! What the traffic of a slice looks like: the classic patterns of parallel programs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use libp2p_identity::PeerId as HostId;
use serde::{Deserialize, Serialize};

use super::{Pair, RATE_MIN};

/// A pair is part of a pattern if it carries at least this part of the busiest one's rate.
const HEAVY_PART: f64 = 0.2;
/// One pair is *the* hot pair if it carries this part of everything.
const HOT_PART: f64 = 0.6;
/// Of all possible pairs, so many make it all-to-all: a few are always quiet for a moment.
const ALL_PART: f64 = 0.9;

/// A pattern.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "pattern", rename_all = "kebab-case")]
pub enum Pattern {
    /// Next to nothing goes anywhere.
    Quiet,
    /// Two hosts have most of it.
    HotPair {
        /// The two.
        hosts: [String; 2],
    },
    /// Everybody with everybody (transposition, shuffles).
    AllToAll,
    /// Each with the next.
    Ring,
    /// Each with a few around it, as in a grid.
    Neighbours,
    /// All with one (a server, a master with workers).
    Hub {
        /// The one.
        host: String,
    },
    /// None of these.
    Irregular,
}

impl fmt::Display for Pattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quiet => out.write_str("quiet"),
            Self::HotPair { hosts: [a, b] } => write!(out, "one hot pair: {a} and {b}"),
            Self::AllToAll => out.write_str("all to all"),
            Self::Ring => out.write_str("ring"),
            Self::Neighbours => out.write_str("mesh of neighbours"),
            Self::Hub { host } => write!(out, "all with {host}"),
            Self::Irregular => out.write_str("irregular"),
        }
    }
}

/// Recognises the pattern of rates in bytes a second; hosts are told by the names that `name_of` gives.
#[must_use]
pub fn recognise(rates: &BTreeMap<Pair, f64>, name_of: impl Fn(HostId) -> String) -> Pattern {
    let total: f64 = rates.values().sum();
    let Some((busiest, most)) = rates.iter().max_by(|(_, a), (_, b)| a.total_cmp(b)) else {
        return Pattern::Quiet;
    };
    if total < RATE_MIN {
        return Pattern::Quiet;
    }
    let heavy: Vec<Pair> =
        rates.iter().filter(|(_, rate)| **rate >= HEAVY_PART * most).map(|(pair, _)| *pair).collect();
    if *most >= HOT_PART * total {
        return Pattern::HotPair { hosts: busiest.hosts().map(name_of) };
    }
    let mut next: BTreeMap<HostId, BTreeSet<HostId>> = BTreeMap::new();
    for pair in &heavy {
        let [a, b] = pair.hosts();
        next.entry(a).or_default().insert(b);
        next.entry(b).or_default().insert(a);
    }
    let hosts = next.len();
    let is_all = as_f64(heavy.len()) >= ALL_PART * as_f64(hosts * (hosts - 1) / 2);
    if hosts > 2 && is_all {
        return Pattern::AllToAll;
    }
    let degree =
        |least: usize, most: usize| next.values().all(|others| (least..=most).contains(&others.len()));
    if let Some((host, _)) = next.iter().find(|(_, others)| others.len() == hosts - 1)
        && heavy.len() == hosts - 1
    {
        return Pattern::Hub { host: name_of(*host) };
    }
    match is_connected(&next) {
        true if degree(2, 2) => Pattern::Ring,
        // A grid of two dimensions: corners have two neighbours, the inner ones four; and no triangles.
        true if degree(2, 4) && !has_triangle(&next) => Pattern::Neighbours,
        _ => Pattern::Irregular,
    }
}

fn as_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn is_connected(next: &BTreeMap<HostId, BTreeSet<HostId>>) -> bool {
    let mut waiting: Vec<HostId> = next.keys().take(1).copied().collect();
    let mut seen: BTreeSet<HostId> = waiting.iter().copied().collect();
    while let Some(host) = waiting.pop() {
        waiting.extend(next[&host].iter().filter(|other| seen.insert(**other)));
    }
    seen.len() == next.len()
}

fn has_triangle(next: &BTreeMap<HostId, BTreeSet<HostId>>) -> bool {
    next.iter()
        .any(|(_, others)| others.iter().any(|other| next[other].intersection(others).next().is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::testing::{below, host, seeded};

    /// Rates with noise: heavy pairs within a half and the double, all others a thousandth.
    fn seen(hosts: usize, heavy: &[(usize, usize)], seed: u64) -> Pattern {
        let mut rng = seeded(seed);
        let mut rates = BTreeMap::new();
        for a in 0..hosts {
            for b in a + 1..hosts {
                rates.insert(Pair::new(host(a), host(b)), 1_000.0);
            }
        }
        for (a, b) in heavy {
            rates.insert(Pair::new(host(*a), host(*b)), as_f64(500_000 + below(&mut rng, 1_500_000)));
        }
        recognise(&rates, |host| host.to_string())
    }

    #[test]
    fn the_classic_patterns_are_recognised_through_noise() {
        for seed in 0..20 {
            let ring: Vec<_> = (0..8).map(|a| (a, (a + 1) % 8)).collect();
            assert_eq!(seen(8, &ring, seed), Pattern::Ring);
            let all: Vec<_> = (0..6).flat_map(|a| (a + 1..6).map(move |b| (a, b))).collect();
            assert_eq!(seen(6, &all, seed), Pattern::AllToAll);
            let grid: Vec<_> = (0..12)
                .flat_map(|at| [(at % 4 != 3).then_some((at, at + 1)), (at < 8).then_some((at, at + 4))])
                .flatten()
                .collect();
            assert_eq!(seen(12, &grid, seed), Pattern::Neighbours);
            let hub: Vec<_> = (1..7).map(|a| (0, a)).collect();
            assert_eq!(seen(7, &hub, seed), Pattern::Hub { host: host(0).to_string() });
            let Pattern::HotPair { hosts } = seen(8, &[(2, 5)], seed) else { panic!("a hot pair") };
            assert_eq!(
                BTreeSet::from(hosts),
                BTreeSet::from([host(2), host(5)].map(|host| host.to_string()))
            );
            assert_eq!(seen(9, &[(0, 1), (1, 2), (3, 4), (4, 5), (3, 5), (6, 7)], seed), Pattern::Irregular);
        }
    }

    #[test]
    fn what_is_next_to_nothing_is_quiet() {
        assert_eq!(recognise(&BTreeMap::new(), |host| host.to_string()), Pattern::Quiet);
        assert_eq!(seen(5, &[], 1), Pattern::Quiet);
    }
}
