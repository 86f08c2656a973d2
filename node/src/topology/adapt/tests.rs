//! The adapter in a small world: leaves of a star whose hub they share, and direct links of capacities that nobody knows beforehand.

use super::*;
use crate::topology::testing::{below, file, host, seeded};

pub(super) const STEP: Duration = Duration::from_millis(100);
/// How long a link takes to come up, and how long a pair is silent when its path changes.
const UP_AFTER: Duration = Duration::from_millis(300);
const SWITCH: Duration = Duration::from_millis(200);
/// What the hub carries, in bytes a second.
const HUB: f64 = 10_000_000.0;

pub(super) fn star(leaves: usize, links: usize) -> Topology {
    let tail = format!("[adapt]\nlinks = {links}\nafter = \"2s\"\ndrop = \"30s\"\n");
    Topology::parse(&file("shape = \"star\"\nhubs = \"h0\"", leaves + 1, &tail)).unwrap()
}

pub(super) fn pair(a: usize, b: usize) -> Pair {
    Pair::new(host(a), host(b))
}

/// What pairs want at a time.
type Demand<'a> = &'a mut dyn FnMut(Duration) -> BTreeMap<Pair, f64>;

struct Outcome {
    /// All that arrived, and what would have without any adaptation.
    adapted: f64,
    still: f64,
    actions: Vec<(Duration, Action)>,
    last: BTreeSet<Pair>,
}

/// Runs the adapter for so long. `direct` is what a direct link of a pair carries.
fn run(topology: &Topology, seconds: u64, direct: &dyn Fn(Pair) -> f64, demand: Demand<'_>) -> Outcome {
    let hosts: BTreeSet<HostId> = topology.hosts().iter().map(|host| host.id).collect();
    let state = State { hosts, ..State::default() };
    let mut now = Duration::from_secs(1_000);
    let mut adapter = Adapter::new(topology.adaptation().unwrap().clone(), now);
    let mut up_at: BTreeMap<Pair, Duration> = BTreeMap::new();
    let mut silent_until: BTreeMap<Pair, Duration> = BTreeMap::new();
    let mut outcome = Outcome { adapted: 0.0, still: 0.0, actions: Vec::new(), last: BTreeSet::new() };
    let end = now + Duration::from_secs(seconds);
    let began = now;
    while now < end {
        now += STEP;
        for (pair, at) in &up_at {
            if *at <= now && *at > now - STEP {
                adapter.up(*pair, now);
                silent_until.insert(*pair, now + SWITCH);
            }
        }
        let wanted = demand(now - began);
        outcome.still += shared(&wanted, HUB).values().sum::<f64>() * STEP.as_secs_f64();
        let is_direct = |pair: &Pair| up_at.get(pair).is_some_and(|at| *at <= now);
        let is_silent = |pair: &Pair| silent_until.get(pair).is_some_and(|until| now < *until);
        let spoken = wanted.iter().filter(|(pair, _)| !is_silent(pair));
        let (own, hub): (BTreeMap<Pair, f64>, BTreeMap<Pair, f64>) =
            spoken.partition(|(pair, _)| is_direct(pair));
        let mut got = shared(&hub, HUB);
        got.extend(own.iter().map(|(pair, rate)| (*pair, rate.min(direct(*pair)))));
        outcome.adapted += got.values().sum::<f64>() * STEP.as_secs_f64();
        let bytes = got.iter().map(|(pair, rate)| (*pair, to_bytes(rate * STEP.as_secs_f64()))).collect();
        let mut actions = adapter.observe(now, &bytes, topology, &state);
        let agreed: Vec<Action> = actions
            .iter()
            .filter_map(|action| match action {
                Action::Add(pair) => adapter.agreed(*pair, now),
                Action::Drop(..) => None,
            })
            .collect();
        actions.extend(agreed);
        for action in actions {
            outcome.actions.push((now - began, action));
            match action {
                Action::Add(pair) => drop(up_at.insert(pair, now + UP_AFTER)),
                Action::Drop(pair, _) => {
                    if up_at.remove(&pair).is_some_and(|at| at <= now) {
                        silent_until.insert(pair, now + SWITCH);
                    }
                }
            }
        }
        let added = adapter.added();
        for host in topology.hosts() {
            let links = added.iter().filter(|pair| pair.has(host.id)).count();
            assert!(links <= topology.adaptation().unwrap().links_per_host_max, "the operator's limit");
        }
        assert!(adapter.credit_s() >= -1e-9 && adapter.credit_s() <= CREDIT_MAX_S + 1e-9);
        outcome.last = added;
    }
    outcome
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate of the test's own")]
pub(super) fn to_bytes(bytes: f64) -> u64 {
    bytes as u64
}

/// Max-min fair shares of what is there.
fn shared(wanted: &BTreeMap<Pair, f64>, mut capacity: f64) -> BTreeMap<Pair, f64> {
    let mut order: Vec<(Pair, f64)> = wanted.iter().map(|(pair, rate)| (*pair, *rate)).collect();
    order.sort_by(|(_, a), (_, b)| a.total_cmp(b));
    let mut got = BTreeMap::new();
    let mut left = order.len();
    for (pair, rate) in order {
        let share = capacity / f64::from(u32::try_from(left).unwrap());
        let taken = rate.min(share);
        got.insert(pair, taken);
        capacity -= taken;
        left -= 1;
    }
    got
}

fn adds(outcome: &Outcome) -> usize {
    outcome.actions.iter().filter(|(_, action)| matches!(action, Action::Add(_))).count()
}

#[test]
fn a_hot_pair_gets_its_link_within_seconds_and_profits() {
    let topology = star(6, 2);
    let outcome = run(&topology, 60, &|_| HUB, &mut |at| {
        let mut wanted =
            BTreeMap::from([(pair(3, 4), 100_000.0), (pair(5, 6), 100_000.0), (pair(1, 3), 100_000.0)]);
        if at > Duration::from_secs(10) {
            wanted.insert(pair(1, 2), 2.0 * HUB);
        }
        wanted
    });
    let (at, action) = outcome.actions[0];
    assert_eq!(action, Action::Add(pair(1, 2)));
    assert!(at < Duration::from_secs(14), "{at:?}");
    assert_eq!(adds(&outcome), 1, "{:?}", outcome.actions);
    assert!(outcome.adapted >= outcome.still);
}

#[test]
fn where_several_profit_the_hub_is_relieved() {
    let topology = star(8, 2);
    let ring: BTreeMap<Pair, f64> = (0..8).map(|a| (pair(a + 1, (a + 1) % 8 + 1), 0.5 * HUB)).collect();
    let outcome = run(&topology, 120, &|_| HUB, &mut |_| ring.clone());
    assert!(outcome.adapted > 1.5 * outcome.still, "{} {}", outcome.adapted, outcome.still);
    assert_eq!(outcome.last, ring.keys().copied().collect(), "each edge of the ring has its link");
}

#[test]
fn a_link_that_makes_it_worse_is_given_up_and_costs_next_to_nothing() {
    let topology = star(6, 2);
    let pairs = [pair(1, 2), pair(3, 4), pair(5, 6), pair(1, 3)];
    let outcome =
        run(&topology, 600, &|_| 0.05 * HUB, &mut |_| pairs.iter().map(|pair| (*pair, HUB)).collect());
    assert!(outcome.adapted >= 0.98 * outcome.still, "{}", outcome.adapted / outcome.still);
    assert!(adds(&outcome) >= 1, "it was tried");
    assert!(adds(&outcome) <= 24, "and not again and again: {:?}", outcome.actions);
}

#[test]
fn even_traffic_settles_and_nothing_flaps() {
    let topology = star(6, 2);
    let all: BTreeMap<Pair, f64> =
        (1..7).flat_map(|a| (a + 1..7).map(move |b| (pair(a, b), 0.2 * HUB))).collect();
    let outcome = run(&topology, 600, &|_| HUB, &mut |_| all.clone());
    assert!(outcome.adapted >= 0.98 * outcome.still);
    let late = outcome.actions.iter().filter(|(at, _)| *at > Duration::from_secs(60));
    assert_eq!(late.count(), 0, "{:?}", outcome.actions);
}

#[test]
fn an_idle_link_goes_and_its_place_is_free() {
    let topology = star(4, 1);
    let outcome = run(&topology, 120, &|_| HUB, &mut |at| {
        let busy = if at < Duration::from_secs(30) { pair(1, 2) } else { pair(1, 3) };
        BTreeMap::from([(busy, HUB)])
    });
    assert!(outcome.last.contains(&pair(1, 3)), "{:?}", outcome.actions);
    assert!(!outcome.last.contains(&pair(1, 2)));
    assert!(outcome.actions.len() <= 4, "{:?}", outcome.actions);
}

/// Two pairs of one host are hot in turns, and there is one link.
#[test]
fn pairs_that_take_turns_do_not_make_links_come_and_go() {
    let topology = star(4, 1);
    let outcome = run(&topology, 600, &|_| HUB, &mut |at| {
        let busy = if at.as_secs() / 15 % 2 == 0 { pair(1, 2) } else { pair(1, 3) };
        BTreeMap::from([(busy, HUB)])
    });
    assert!(adds(&outcome) <= 10, "{:?}", outcome.actions);
    assert!(outcome.adapted >= 0.98 * outcome.still);
}

/// Traffic of every kind over links of every kind, by seed: never more than 2 % worse than leaving it alone.
#[test]
fn no_traffic_loses_more_than_two_percent() {
    for seed in 0..12 {
        let mut rng = seeded(seed);
        let leaves = 3 + below(&mut rng, 5);
        let topology = star(leaves, 1 + below(&mut rng, 3));
        let factors: BTreeMap<Pair, f64> = (1..=leaves)
            .flat_map(|a| (a + 1..=leaves).map(move |b| pair(a, b)))
            .map(|pair| (pair, [0.03, 0.15, 0.5, 1.0, 2.0][below(&mut rng, 5)]))
            .collect();
        let period = 1 + below(&mut rng, 40);
        let pairs: Vec<Pair> = factors.keys().copied().collect();
        let mut held: (u64, BTreeMap<Pair, f64>) = (u64::MAX, BTreeMap::new());
        let outcome = run(&topology, 600, &|pair| factors[&pair] * HUB, &mut |at| {
            let turn = at.as_secs() / u64::try_from(period).unwrap();
            if held.0 != turn {
                let busy = 1 + below(&mut rng, 4);
                let demand = |rng: &mut rand_chacha::ChaCha8Rng| [0.02, 0.2, 1.0, 2.0][below(rng, 4)] * HUB;
                held = (
                    turn,
                    (0..busy).map(|_| (pairs[below(&mut rng, pairs.len())], demand(&mut rng))).collect(),
                );
            }
            held.1.clone()
        });
        let part = outcome.adapted / outcome.still;
        assert!(part >= 0.98, "seed {seed}, period {period} s: {part}; {:?}", outcome.actions);
        assert!(adds(&outcome) <= 120, "seed {seed}: {} links in ten minutes", adds(&outcome));
    }
}

/// The pairs of a classic pattern among so many leaves.
pub(super) fn classic(name: &str, leaves: usize) -> Vec<Pair> {
    let every = (1..=leaves).flat_map(|a| (a + 1..=leaves).map(move |b| (a, b)));
    let chosen: Vec<(usize, usize)> = match name {
        "all to all" => every.collect(),
        "ring" => (1..=leaves).map(|a| (a, a % leaves + 1)).collect(),
        // A grid of two rows.
        "neighbours" => every.filter(|(a, b)| b - a == 2 || (b - a == 1 && a % 2 == 1)).collect(),
        "hub" => (2..=leaves).map(|b| (1, b)).collect(),
        "hot pair" => vec![(1, 2)],
        other => panic!("{other} is no pattern"),
    };
    chosen.into_iter().map(|(a, b)| pair(a, b)).collect()
}

/// Each classic pattern, with direct links that carry next to nothing, as much as the way around, and more; rates differ by seed. Prints a table: the
/// least and the most that arrived as a part of what did without adaptation, and the most links that were added in ten minutes.
#[test]
fn no_classic_pattern_loses_more_than_two_percent_or_flaps() {
    const LEAVES: usize = 8;
    for name in ["all to all", "ring", "neighbours", "hub", "hot pair"] {
        for (links, factor) in [(0.05, "worse"), (1.0, "alike"), (3.0, "better")] {
            let (mut least, mut most_adds, mut gain) = (f64::INFINITY, 0, 0.0_f64);
            for seed in 0..2 {
                let mut rng = seeded(seed);
                let topology = star(LEAVES, 1 + below(&mut rng, 3));
                let wanted: BTreeMap<Pair, f64> = classic(name, LEAVES)
                    .into_iter()
                    .map(|pair| (pair, [0.3, 0.5, 0.8, 1.2][below(&mut rng, 4)] * HUB))
                    .collect();
                let outcome = run(&topology, 600, &|_| links * HUB, &mut |_| wanted.clone());
                let part = outcome.adapted / outcome.still;
                assert!(part >= 0.98, "{name}, links {factor}, seed {seed}: {part}; {:?}", outcome.actions);
                least = least.min(part);
                gain = gain.max(part);
                most_adds = most_adds.max(adds(&outcome));
            }
            eprintln!("| {name} | {factor} | {least:.3} | {gain:.2} | {most_adds} |");
            // A bar doubles from half a minute: five trials of a pair, and one more for each doubt.
            let most = 6 * classic(name, LEAVES).len();
            assert!(most_adds <= most, "{name}, links {factor}: {most_adds} links in ten minutes");
        }
    }
}

#[test]
fn what_the_operator_forbids_or_takes_back_is_not_linked() {
    let forbidden = file(
        "shape = \"star\"\nhubs = \"h0\"",
        4,
        "[[link]]\nbetween = [\"h1\", \"h2\"]\nrule = \"forbidden\"\n[adapt]\n",
    );
    let topology = Topology::parse(&forbidden).unwrap();
    let outcome =
        run(&topology, 30, &|_| HUB, &mut |_| BTreeMap::from([(pair(1, 2), HUB), (pair(1, 3), HUB)]));
    assert_eq!(outcome.last, BTreeSet::from([pair(1, 3)]));

    let (open, closed) = (star(3, 2), Topology::default());
    let state = State { hosts: (0..4).map(host).collect(), ..State::default() };
    let mut adapter = Adapter::new(open.adaptation().unwrap().clone(), Duration::from_secs(1));
    let bytes = BTreeMap::from([(pair(1, 2), 1_000_000)]);
    let mut actions = Vec::new();
    for tenth in 11..50 {
        actions.extend(adapter.observe(Duration::from_millis(tenth * 100), &bytes, &open, &state));
    }
    assert_eq!(actions, [Action::Add(pair(1, 2))]);
    let taken_back = adapter.observe(Duration::from_secs(6), &bytes, &closed, &state);
    assert_eq!(taken_back, [Action::Drop(pair(1, 2), Why::NotAllowed)]);
}

/// Each leaf has an adapter of its own that sees its own pairs, and all pairs are alike: who comes first is chance, and differs at both ends. They ask each
/// other, and in half a minute nobody keeps a place for a link that the other has none for, and no two with room are left without one.
#[test]
fn ends_that_ask_each_other_agree_whatever_each_ranks_first() {
    const LEAVES: usize = 8;
    for (seed, links) in [(1, 1), (2, 2), (3, 3)] {
        let mut rng = seeded(seed);
        let topology = star(LEAVES, links);
        let hosts: BTreeSet<HostId> = topology.hosts().iter().map(|host| host.id).collect();
        let state = State { hosts, ..State::default() };
        let limits = topology.adaptation().unwrap().clone();
        let mut adapters: BTreeMap<HostId, Adapter> =
            (1..=LEAVES).map(|leaf| (host(leaf), Adapter::new(limits.clone(), Duration::ZERO))).collect();
        let mut added = 0;
        for second in 1..=30 {
            let now = Duration::from_secs(second);
            for leaf in 1..=LEAVES {
                let others = (1..=LEAVES).filter(|other| *other != leaf);
                let bytes = others
                    .map(|other| {
                        (pair(leaf, other), 500_000 + u64::try_from(below(&mut rng, 5_000)).unwrap())
                    })
                    .collect();
                let actions = adapters.get_mut(&host(leaf)).unwrap().observe(now, &bytes, &topology, &state);
                for action in actions {
                    let Action::Add(wanted) = action else { panic!("nothing is dropped: {action:?}") };
                    let [a, b] = wanted.hosts();
                    let other = if a == host(leaf) { b } else { a };
                    if adapters.get_mut(&other).unwrap().accept(wanted, now, &topology, &state) {
                        added += 1;
                        for end in [host(leaf), other] {
                            adapters.get_mut(&end).unwrap().up(wanted, now);
                        }
                    } else {
                        adapters.get_mut(&host(leaf)).unwrap().declined(wanted, now);
                    }
                }
            }
        }
        let of = |leaf: usize| adapters[&host(leaf)].added();
        for (a, b) in (1..=LEAVES).flat_map(|a| (a + 1..=LEAVES).map(move |b| (a, b))) {
            assert_eq!(
                of(a).contains(&pair(a, b)),
                of(b).contains(&pair(a, b)),
                "seed {seed}: {a} and {b} disagree"
            );
            let both_have_room = of(a).len() < links && of(b).len() < links;
            assert!(of(a).contains(&pair(a, b)) || !both_have_room, "seed {seed}: {a} and {b} have room");
        }
        assert!((1..=LEAVES).all(|leaf| of(leaf).len() <= links), "the operator's limit");
        assert!(added <= LEAVES * links, "seed {seed}: {added} links were added, and none went");
    }
}

#[test]
fn a_link_whose_rate_is_less_than_what_goes_is_not_tried() {
    let slow = file(
        "shape = \"star\"\nhubs = \"h0\"",
        4,
        "[[link]]\nbetween = [\"h1\", \"h2\"]\nrate = \"5Mbit/s\"\n[adapt]\n",
    );
    let topology = Topology::parse(&slow).unwrap();
    let outcome =
        run(&topology, 30, &|_| HUB, &mut |_| BTreeMap::from([(pair(1, 2), HUB), (pair(1, 3), HUB)]));
    assert_eq!(outcome.last, BTreeSet::from([pair(1, 3)]));
}

/// A pair that is hotter than the one with the link asks for its place; that one goes when the other end has agreed, and stays when it has not.
#[test]
fn a_place_is_given_away_when_the_other_end_has_agreed_and_not_before() {
    let topology = star(3, 1);
    let state = State { hosts: (0..4).map(host).collect(), ..State::default() };
    let mut adapter = Adapter::new(topology.adaptation().unwrap().clone(), Duration::ZERO);
    let (held, hotter) = (pair(1, 2), pair(1, 3));
    let mut second = 0;
    let mut next_ask = |adapter: &mut Adapter, more: u64| {
        for _ in 0..60 {
            second += 1;
            let now = Duration::from_secs(second);
            let bytes = BTreeMap::from([(held, 1_000_000), (hotter, more)]);
            match adapter.observe(now, &bytes, &topology, &state)[..] {
                [] => {}
                [Action::Add(wanted)] => return (now, wanted),
                ref other => panic!("{other:?}"),
            }
        }
        panic!("nothing is asked for in a minute")
    };
    let (now, wanted) = next_ask(&mut adapter, 0);
    assert_eq!((wanted, adapter.agreed(held, now)), (held, None), "there was room");
    adapter.up(held, now);
    let (now, wanted) = next_ask(&mut adapter, 5_000_000);
    assert_eq!(wanted, hotter);
    adapter.declined(hotter, now);
    assert_eq!(adapter.added(), BTreeSet::from([held]), "it was declined");
    let (now, wanted) = next_ask(&mut adapter, 5_000_000);
    assert_eq!((wanted, adapter.added().len()), (hotter, 2), "both, until the other end has said so");
    assert_eq!(adapter.agreed(hotter, now), Some(Action::Drop(held, Why::Yielded)));
    assert_eq!(adapter.added(), BTreeSet::from([hotter]));
    assert_eq!(adapter.agreed(hotter, now), None, "once");
}
