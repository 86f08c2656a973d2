//! Pure choices: whom to ask, and where machines go.
//!
//! Whom to ask: candidates are drawn at random, weighted by what they last said was free, and asked together for
//! about half as many places again as the gang has. Never greedily: adverts are stale, and everybody's best host
//! is the same host (in the design's simulation greed places 12 to 21 % of what this places).
//!
//! Where machines go: offers are bins. Counts shrink before the request is refused, and sizes shrink before counts,
//! since a machine more is worth more to a gang than a larger one.

use rand_core::Rng;

use crate::engine::Candidate;
use crate::identity::HostId;
use crate::message::{GroupOffer, Verdict};
use crate::resources::Resources;
use crate::slice::record::Assignment;
use crate::slice::spec::{Category, Group, Placement, Spec};

/// Places asked for, in halves of the gang: three halves.
const ASK_HALVES: u64 = 3;

/// How many places to ask hosts for, for a gang of this size.
#[must_use]
pub const fn places_wanted(machines: u64) -> u64 {
    (machines * ASK_HALVES).div_ceil(2)
}

/// Draws up to `hosts_max` candidates, weighted by how many of the gang's largest machines fit into what they
/// advertise, until they have `places` between them. With [`Placement::Spread`], draws also until there is a host
/// for every place, as far as there are hosts.
#[must_use]
pub fn choose_candidates(
    spec: &Spec,
    candidates: &[Candidate],
    places: u64,
    hosts_max: usize,
    rng: &mut impl Rng,
) -> Vec<(HostId, u64)> {
    let machine = largest_least(spec);
    let mut left: Vec<(HostId, u64)> = candidates
        .iter()
        .map(|candidate| {
            let room = candidate.advert.as_ref().map_or(Resources::NONE, |advert| advert.free);
            (candidate.host, machine.count_in(&room, places))
        })
        .collect();
    left.sort_unstable_by_key(|(host, _)| *host);
    left.dedup_by_key(|(host, _)| *host);
    let mut chosen = Vec::new();
    let mut found = 0;
    while chosen.len() < hosts_max && !left.is_empty() {
        let spread_enough = u64::try_from(chosen.len()).is_ok_and(|hosts| hosts >= places);
        if found >= places && (spec.placement == Placement::Pack || spread_enough) {
            break;
        }
        let (host, fits) = left.swap_remove(draw(&left, rng));
        found += fits;
        chosen.push((host, fits));
    }
    let each = water_level(&chosen, places, spec.placement);
    chosen.into_iter().map(|(host, _)| (host, each)).collect()
}

/// A position, at random by weight. A host that says it is full, or says nothing, may have changed: it weighs
/// a little, and is drawn when nothing better is left.
fn draw(left: &[(HostId, u64)], rng: &mut impl Rng) -> usize {
    const UNLIKELY: u64 = 1;
    const PER_PLACE: u64 = 16;
    let weight = |(_, fits): &(HostId, u64)| UNLIKELY + fits.saturating_mul(PER_PLACE);
    let mut at = rng.next_u64() % left.iter().map(weight).sum::<u64>();
    for (index, candidate) in left.iter().enumerate() {
        match at.checked_sub(weight(candidate)) {
            Some(rest) => at = rest,
            None => return index,
        }
    }
    0
}

/// How many machines to ask each chosen host for, so that together they reach `places` although some have room
/// for few.
fn water_level(chosen: &[(HostId, u64)], places: u64, placement: Placement) -> u64 {
    if placement == Placement::Pack {
        return places;
    }
    let reached = |level: u64| chosen.iter().map(|(_, fits)| (*fits).min(level)).sum::<u64>() >= places;
    (1..=places).find(|level| reached(*level)).unwrap_or(places)
}

/// The largest "least" machine of the wish, of each resource the most.
fn largest_least(spec: &Spec) -> Resources {
    spec.groups.iter().map(Group::least).fold(Resources { machines: 1, ..Resources::NONE }, |a, b| {
        Resources {
            cpus_milli: a.cpus_milli.max(b.cpus_milli),
            memory_bytes: a.memory_bytes.max(b.memory_bytes),
            disk_bytes: a.disk_bytes.max(b.disk_bytes),
            machines: 1,
        }
    })
}

/// What one host offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bin {
    /// The host.
    pub host: HostId,
    /// How much.
    pub room: Resources,
    /// For which kinds.
    pub groups: Vec<GroupOffer>,
}

impl Bin {
    /// The bin a verdict makes.
    #[must_use]
    pub fn offered(host: HostId, verdict: &Verdict) -> Self {
        Self { host, room: verdict.offer, groups: verdict.groups.to_vec() }
    }

    fn category_for(&self, group: u8) -> Option<Category> {
        self.groups.iter().find(|offer| offer.group == group).map(|offer| offer.category)
    }
}

/// A layout of a gang over bins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Where machines go, in the order of kinds and numbers.
    pub assignments: Vec<Assignment>,
    /// Whether it is less than the most that was wanted.
    pub shrunk: bool,
}

/// The best layout that fits, none when the least that will do does not.
#[must_use]
pub fn lay_out(spec: &Spec, bins: &[Bin]) -> Option<Layout> {
    let steps = count_steps(spec);
    // More machines need more room, so the largest step that fits can be found by halving.
    let fits =
        |count_step: u64, size_step: u64| pack(spec, bins, &counts_at(spec, count_step, steps), size_step);
    fits(0, 0)?;
    let (mut good, mut bad) = (0, steps + 1);
    while bad - good > 1 {
        let middle = u64::midpoint(good, bad);
        if fits(middle, 0).is_some() { good = middle } else { bad = middle }
    }
    let (size_step, assignments) = (0..=Group::STEPS)
        .rev()
        .find_map(|size_step| fits(good, size_step).map(|found| (size_step, found)))?;
    Some(Layout { assignments, shrunk: good < steps || (size_step < Group::STEPS && sizes_differ(spec)) })
}

fn sizes_differ(spec: &Spec) -> bool {
    spec.groups.iter().any(|group| group.sized(0) != group.sized(Group::STEPS))
}

/// How many steps lead from the least counts to the most.
fn count_steps(spec: &Spec) -> u64 {
    spec.groups.iter().map(|group| u64::from(group.count.max - group.count.min)).max().unwrap_or(0)
}

fn counts_at(spec: &Spec, step: u64, steps: u64) -> Vec<u64> {
    let count = |group: &Group| {
        let (min, max) = (u64::from(group.count.min), u64::from(group.count.max));
        min + ((max - min) * step).checked_div(steps).unwrap_or(0)
    };
    spec.groups.iter().map(count).collect()
}

/// Lays out exactly these counts at one size: first as wished, then as tightly as can be.
fn pack(spec: &Spec, bins: &[Bin], counts: &[u64], size_step: u64) -> Option<Vec<Assignment>> {
    let first = pack_by(spec, bins, counts, size_step, spec.placement);
    first.or_else(|| pack_by(spec, bins, counts, size_step, Placement::Pack))
}

fn pack_by(
    spec: &Spec,
    bins: &[Bin],
    counts: &[u64],
    size_step: u64,
    placement: Placement,
) -> Option<Vec<Assignment>> {
    let mut groups: Vec<usize> = (0..spec.groups.len()).collect();
    let size = |group: &usize| spec.groups[*group].sized(size_step);
    groups.sort_by_key(|group| std::cmp::Reverse((size(group).memory_bytes, size(group).cpus_milli)));
    let mut rooms: Vec<(Resources, u64)> = bins.iter().map(|bin| (bin.room, 0)).collect();
    let mut assignments = Vec::new();
    for group in groups {
        let wire_group = u8::try_from(group).expect("a slice has few kinds of machines");
        for number in 0..counts[group] {
            let fitting = bins.iter().zip(&rooms).enumerate().filter(|(_, (bin, (room, _)))| {
                size(&group).fits(room) && bin.category_for(wire_group).is_some()
            });
            let (chosen, _) = match placement {
                Placement::Spread => {
                    fitting.min_by_key(|(_, (_, (room, used)))| (*used, u64::MAX - room.memory_bytes))?
                }
                Placement::Pack => {
                    fitting.max_by_key(|(_, (_, (room, used)))| (*used, u64::MAX - room.memory_bytes))?
                }
            };
            rooms[chosen].0 = rooms[chosen].0.minus(&size(&group));
            rooms[chosen].1 += 1;
            assignments.push(Assignment {
                group: wire_group,
                number: u16::try_from(number).expect("a slice has few machines"),
                host: bins[chosen].host,
                category: bins[chosen].category_for(wire_group)?,
                size: size(&group),
            });
        }
    }
    assignments.sort_by_key(|assignment| (assignment.group, assignment.number));
    Some(assignments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Advert;
    use crate::slice::file;
    use proptest::prelude::*;
    use rand_chacha::ChaCha8Rng;
    use rand_core::SeedableRng;
    use std::collections::BTreeMap;

    fn host(byte: u8) -> HostId {
        libp2p_identity::Keypair::ed25519_from_bytes([byte; 32]).unwrap().public().to_peer_id()
    }

    fn spec(machine: &str) -> Spec {
        file::parse(&format!(
            "name = \"a\"\n[machine.m]\nimage = \"mini\"\nmemory = \"64MiB\"\ndisk = \"1MiB\"\n{machine}"
        ))
        .unwrap()
    }

    fn room(cpus: u64, machines: u64) -> Resources {
        Resources { cpus_milli: cpus * 1000, memory_bytes: 1 << 40, disk_bytes: 1 << 40, machines }
    }

    fn bin(byte: u8, room: Resources) -> Bin {
        Bin { host: host(byte), room, groups: vec![GroupOffer { group: 0, category: Category::Sandbox }] }
    }

    fn per_host(layout: &Layout) -> Vec<usize> {
        let mut counts = BTreeMap::new();
        for assignment in &layout.assignments {
            *counts.entry(assignment.host).or_insert(0) += 1;
        }
        let mut counts: Vec<usize> = counts.into_values().collect();
        counts.sort_unstable();
        counts
    }

    #[test]
    fn machines_spread_over_hosts_or_pack_onto_few() {
        let bins = [bin(1, room(8, 8)), bin(2, room(8, 8)), bin(3, room(8, 8))];
        let mut wish = spec("count = 4");
        assert_eq!(per_host(&lay_out(&wish, &bins).unwrap()), [1, 1, 2]);
        wish.placement = Placement::Pack;
        assert_eq!(per_host(&lay_out(&wish, &bins).unwrap()), [4]);
    }

    #[test]
    fn sizes_shrink_before_counts_and_counts_before_a_refusal() {
        let wish = spec("count = { min = 2, max = 8 }\ncpus = { min = 1, max = 4 }");
        let layout = |cpus| lay_out(&wish, &[bin(1, room(cpus, 64))]);
        let all = layout(32).unwrap();
        assert_eq!((all.assignments.len(), all.shrunk), (8, false));
        let smaller = layout(16).unwrap();
        assert_eq!((smaller.assignments.len(), smaller.assignments[0].size.cpus_milli), (8, 1750));
        assert!(smaller.shrunk);
        let fewer = layout(5).unwrap();
        assert_eq!((fewer.assignments.len(), fewer.assignments[0].size.cpus_milli), (5, 1000));
        assert_eq!(layout(1), None);
    }

    #[test]
    fn a_kind_goes_only_where_it_is_offered() {
        let mut other = bin(1, room(8, 8));
        other.groups.clear();
        assert_eq!(lay_out(&spec("count = 1"), &[other]), None);
    }

    fn candidate(byte: u8, machines: u64) -> Candidate {
        let advert = Advert { free: room(64, machines), limit: room(64, 64), sandbox: true, vm: false };
        Candidate { host: host(byte), advert: Some(advert) }
    }

    #[test]
    fn half_as_many_places_again_are_asked_for() {
        let wish = spec("count = 4");
        let candidates: Vec<_> = (1..=3).map(|byte| candidate(byte, 16)).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let asked = choose_candidates(&wish, &candidates, places_wanted(4), 96, &mut rng);
        assert_eq!(asked.len(), 3);
        assert!(asked.iter().all(|(_, places)| *places == 2), "6 places over 3 hosts");
    }

    #[test]
    fn the_choice_is_weighted_and_never_always_the_same() {
        let wish = spec("count = 1");
        let candidates = [candidate(1, 1), candidate(2, 2), candidate(3, 0)];
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut first = BTreeMap::new();
        for _ in 0..1000 {
            let asked = choose_candidates(&wish, &candidates, 2, 1, &mut rng);
            *first.entry(asked[0].0).or_insert(0) += 1;
        }
        let (one, two, none) = (first[&host(1)], first[&host(2)], first.get(&host(3)).copied().unwrap_or(0));
        assert!(two > one && one > 200 && none < 100, "{one} {two} {none}");
    }

    proptest! {
        #[test]
        fn no_layout_overfills_a_bin(
            rooms in prop::collection::vec((0u64..9, 0u64..6), 1..6),
            min in 1u16..6,
            more in 0u16..6,
            cpus in 1u32..3,
        ) {
            let wish = spec(&format!("count = {{ min = {min}, max = {} }}\ncpus = {{ min = 1, max = {cpus} }}", min + more));
            let bins: Vec<Bin> =
                rooms.iter().zip(1u8..).map(|((cpus, machines), byte)| bin(byte, room(*cpus, *machines))).collect();
            let places: u64 = rooms.iter().map(|(cpus, machines)| cpus.min(machines)).sum();
            let layout = lay_out(&wish, &bins);
            prop_assert_eq!(layout.is_some(), places >= u64::from(min), "machines of one size fill every place");
            for bin in layout.iter().flat_map(|_| &bins) {
                let mine = layout.iter().flat_map(|layout| &layout.assignments).filter(|a| a.host == bin.host);
                let taken = mine.fold(Resources::NONE, |sum, a| sum.plus(&a.size));
                prop_assert!(taken.fits(&bin.room));
            }
            if let Some(layout) = layout {
                prop_assert_eq!(layout.assignments.len() as u64, places.min(u64::from(min + more)));
            }
        }
    }
}
