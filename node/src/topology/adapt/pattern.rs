//! What the traffic of a slice looks like: the classic patterns of parallel programs.
//!
//! First which pairs *belong* to the pattern: those that carry a good part of what a usual one does, where "usual" is not the busiest (a queue that empties
//! itself is far above the others) but the pair at which half of all traffic is carried by busier ones. A cable that several pairs share squeezes some of them,
//! and connections share it unevenly; what belongs to no program (questions for addresses, probes) is far less than that. Between the two there is a gap,
//! and it is looked for. Then what the pairs that belong look like as a graph.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use libp2p_identity::PeerId as HostId;
use serde::{Deserialize, Serialize};

use super::{Pair, RATE_MIN};

/// A pair that carries this part of a usual one's rate belongs to the pattern, one that carries less than [`LIGHT_PART`] does not; in between the widest gap
/// decides.
const HEAVY_PART: f64 = 0.25;
const LIGHT_PART: f64 = 0.03;
/// One pair is *the* hot pair if it carries this part of everything.
const HOT_PART: f64 = 0.6;
/// Of all possible pairs, so many make it all-to-all: a few are always quiet for a moment.
const ALL_PART: f64 = 0.8;

/// A pattern.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "pattern", rename_all = "kebab-case")]
pub enum Pattern {
    /// Nobody says as much as makes a link worth it, not even to all others together.
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
    let mut said: BTreeMap<HostId, f64> = BTreeMap::new();
    for (pair, rate) in rates {
        pair.hosts().into_iter().for_each(|host| *said.entry(host).or_default() += rate);
    }
    if said.values().all(|rate| *rate < RATE_MIN) {
        return Pattern::Quiet;
    }
    let least = least_heavy(rates.values().copied().collect());
    let heavy: Vec<Pair> = rates.iter().filter(|(_, rate)| **rate >= least).map(|(pair, _)| *pair).collect();
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

/// The least rate of a pair that belongs to the pattern.
fn least_heavy(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(|a, b| b.total_cmp(a));
    let usual = usual(&rates);
    let (most, least) = (HEAVY_PART * usual, LIGHT_PART * usual);
    let within = rates.into_iter().filter(|rate| (least..most).contains(rate));
    // From above: each to the next below it, the last to the lower bound.
    let mut above = most;
    let mut widest = (0.0, most);
    for below in within.chain([least]) {
        let gap = above / below.max(f64::MIN_POSITIVE);
        if gap > widest.0 {
            widest = (gap, above);
        }
        above = below;
    }
    widest.1
}

/// The rate at which busier pairs carry half of everything, of rates from the greatest on; the busiest two are no more than the third, if there is one that is
/// not next to nothing beside them.
fn usual(rates: &[f64]) -> f64 {
    let third = rates.get(2).copied().filter(|third| *third >= LIGHT_PART * rates[0]);
    let capped = |rate: f64| third.map_or(rate, |third| rate.min(third));
    let half = rates.iter().map(|rate| capped(*rate)).sum::<f64>() / 2.0;
    let mut sum = 0.0;
    let found = rates.iter().map(|rate| capped(*rate)).find(|rate| {
        sum += rate;
        sum >= half
    });
    found.unwrap_or(0.0)
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

    /// What a pair may carry, and what noise does to it.
    struct Made {
        /// Bytes a second of a pair of the pattern, before noise.
        scale: f64,
        /// Of so many pairs one shares a cable with others, and gets as little as two fifths.
        squeezed_one_of: usize,
        /// What pairs that are in no pattern carry at most, as a part of `scale`.
        foreign: f64,
        /// One pair's queue empties itself: so many times the scale.
        burst: f64,
    }

    const CALM: Made = Made { scale: 1_000_000.0, squeezed_one_of: usize::MAX, foreign: 0.001, burst: 1.0 };

    fn per_mille(rng: &mut rand_chacha::ChaCha8Rng) -> f64 {
        as_f64(below(rng, 1_001)) / 1_000.0
    }

    /// Heavy pairs within a half and the double.
    fn seen(hosts: usize, heavy: &[(usize, usize)], seed: u64, made: &Made) -> Pattern {
        let mut rng = seeded(seed);
        let mut rates = BTreeMap::new();
        for a in 0..hosts {
            for b in a + 1..hosts {
                rates.insert(Pair::new(host(a), host(b)), per_mille(&mut rng) * made.foreign * made.scale);
            }
        }
        let burst = below(&mut rng, heavy.len().max(1));
        for (number, (a, b)) in heavy.iter().enumerate() {
            let mut rate = made.scale * (0.5 + 1.5 * per_mille(&mut rng));
            if heavy.len() > 1 && below(&mut rng, made.squeezed_one_of) == 1 {
                rate *= 0.4 + 0.6 * per_mille(&mut rng);
            }
            // Of a few pairs, one with so much would be the hot pair.
            if number == burst && heavy.len() > 5 {
                rate *= made.burst;
            }
            rates.insert(Pair::new(host(*a), host(*b)), rate);
        }
        recognise(&rates, |host| host.to_string())
    }

    type Edges = Vec<(usize, usize)>;

    /// Each pattern, with so many hosts.
    fn classic() -> Vec<(usize, Edges, Pattern)> {
        let all = |hosts: usize| (0..hosts).flat_map(move |a| (a + 1..hosts).map(move |b| (a, b)));
        let grid = |wide: usize, hosts: usize| {
            (0..hosts).flat_map(move |at| {
                let right = (at % wide != wide - 1).then_some((at, at + 1));
                [right, (at + wide < hosts).then_some((at, at + wide))]
            })
        };
        let mut wanted = Vec::new();
        for hosts in [5, 6, 8, 16] {
            wanted.push((hosts, (0..hosts).map(|a| (a, (a + 1) % hosts)).collect(), Pattern::Ring));
            wanted.push((hosts, all(hosts).collect(), Pattern::AllToAll));
            let hub = Pattern::Hub { host: host(2).to_string() };
            wanted.push((hosts, (0..hosts).filter(|a| *a != 2).map(|a| (2, a)).collect(), hub));
            let two = Pair::new(host(1), host(3)).hosts().map(|host| host.to_string());
            wanted.push((hosts, vec![(1, 3)], Pattern::HotPair { hosts: two }));
        }
        for (wide, hosts) in [(2, 6), (4, 12), (4, 16)] {
            wanted.push((hosts, grid(wide, hosts).flatten().collect(), Pattern::Neighbours));
        }
        let scattered = vec![(0, 1), (1, 2), (3, 4), (4, 5), (3, 5), (6, 7)];
        wanted.push((9, scattered, Pattern::Irregular));
        wanted
    }

    fn each_is_recognised(made: &Made) {
        for (hosts, edges, wanted) in classic() {
            for seed in 0..40 {
                let found = seen(hosts, &edges, seed, made);
                assert_eq!(found, wanted, "{hosts} hosts, seed {seed}");
            }
        }
    }

    #[test]
    fn the_classic_patterns_are_recognised_through_noise() {
        each_is_recognised(&CALM);
        each_is_recognised(&Made { foreign: 0.004, ..CALM });
    }

    #[test]
    fn the_classic_patterns_are_recognised_at_every_scale() {
        for scale in [250_000.0, 10_000_000.0, 1_250_000_000.0] {
            each_is_recognised(&Made { scale, ..CALM });
        }
    }

    /// A shared cable, connections that share it unevenly, a queue that empties itself in the very second that is looked at.
    #[test]
    fn squeezed_cells_belong_to_the_pattern_all_the_same() {
        each_is_recognised(&Made { squeezed_one_of: 3, foreign: 0.004, ..CALM });
        each_is_recognised(&Made { squeezed_one_of: 3, foreign: 0.004, burst: 2.5, ..CALM });
    }

    #[test]
    fn what_is_next_to_nothing_is_quiet() {
        assert_eq!(recognise(&BTreeMap::new(), |host| host.to_string()), Pattern::Quiet);
        assert_eq!(seen(5, &[], 1, &CALM), Pattern::Quiet);
    }

    /// A hundred kilobits a second of each pair: what machines say to each other that have nothing to do.
    #[test]
    fn little_from_each_to_each_is_quiet() {
        for (hosts, edges, _) in classic().into_iter().filter(|(hosts, ..)| *hosts < 8) {
            let made = Made { scale: 12_500.0, ..CALM };
            assert_eq!(seen(hosts, &edges, 3, &made), Pattern::Quiet);
        }
    }
}
