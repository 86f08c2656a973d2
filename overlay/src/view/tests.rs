//! The rules of the view, against a naive model.

use super::*;
use crate::testing::{NOW, pair, record, seeded};
use proptest::prelude::*;
use std::{collections::BTreeMap, time::Duration};

/// A record of host `n` without signatures worth checking: the view takes what others verified.
fn described(n: u16, sequence: u64) -> Arc<HostRecord> {
    let mut seed = [3; 32];
    seed[..2].copy_from_slice(&n.to_be_bytes());
    let host = crate::identity::Key::of(&crate::identity::pair_from_seed(&seed)).host().unwrap();
    let mut record = record(&[1], sequence);
    record.host = host;
    Arc::new(record)
}

/// What is offered first.
const NEW: Offered = Offered::New { replaced: None };

fn view() -> View {
    View::new(&described(u16::MAX, 1).host)
}

#[test]
fn the_newest_sequence_wins() {
    let (mut view, mut rng) = (view(), seeded(1));
    let mut offer = |sequence| view.offer(Arc::new(record(&[1], sequence)), &mut rng, |_| false);
    assert_eq!(
        [offer(5), offer(5), offer(4), offer(6)],
        [NEW, Offered::Stale, Offered::Stale, Offered::Newer]
    );
    assert_eq!(view.sequence(&crate::identity::Key::of(&pair(1)).host().unwrap()), Some(6));
}

#[test]
fn a_full_view_keeps_its_bound_and_what_is_pinned() {
    let (mut view, mut rng) = (view(), seeded(2));
    let pinned: Vec<HostId> = (0..10).map(|n| described(n, 1).host).collect();
    for n in 0..400 {
        view.offer(described(n, 1), &mut rng, |host| pinned.contains(host));
        assert!(view.len() <= VIEW_MAX);
    }
    assert!(pinned.iter().all(|host| view.get(host).is_some()));
    assert_eq!(view.offer(described(999, 1), &mut rng, |_| true), Offered::Full);
}

#[test]
fn neighbours_are_named_where_the_view_is_a_sample_and_stay_whatever_comes() {
    let (mut view, mut rng) = (view(), seeded(7));
    let mut all: Vec<HostId> = (0..1_000).map(|n| described(n, 1).host).collect();
    all.sort_by_key(|host| place(host) ^ view.own);
    for n in 0..1_000 {
        assert_eq!(view.nearest(8).is_empty(), view.len() < SAMPLE_FROM);
        view.offer(described(n, 1), &mut rng, |_| false);
    }
    assert_eq!(view.nearest(NEAREST_KEPT), all[..NEAREST_KEPT]);
    assert_eq!(view.nearest(1_000).len(), VIEW_MAX);
}

#[test]
fn records_go_when_they_expire() {
    let (mut view, mut rng) = (view(), seeded(3));
    view.offer(described(1, 1), &mut rng, |_| false);
    let mut late = Arc::unwrap_or_clone(described(2, 1));
    late.expires = NOW.after(Duration::from_secs(1800));
    view.offer(Arc::new(late), &mut rng, |_| false);
    assert_eq!(view.expire(NOW.after(Duration::from_secs(899))), []);
    assert_eq!(view.expire(NOW.after(Duration::from_secs(900))), [described(1, 1).host]);
    assert_eq!(view.len(), 1);
}

#[test]
fn half_of_a_sample_is_drawn_as_often_as_any_other() {
    let (mut view, mut rng) = (view(), seeded(4));
    for n in 0..20 {
        view.offer(described(n, 1), &mut rng, |_| false);
    }
    let reader = described(0, 1).host;
    let mut seen: BTreeMap<HostId, u32> = BTreeMap::new();
    for _ in 0..1700 {
        let sample = view.sample(4, &mut rng, &reader, &[]);
        assert_eq!(sample.len(), 4);
        sample.iter().for_each(|record| *seen.entry(record.host).or_default() += 1);
    }
    assert_eq!(seen.len(), 19);
    assert!(!seen.contains_key(&reader));
    let mut nearest: Vec<HostId> = seen.keys().copied().collect();
    nearest.sort_by_key(|host| place(host) ^ place(&reader));
    let drawn = nearest.split_off(2);
    assert!(nearest.iter().all(|host| seen[host] == 1700), "the two nearest are always told");
    // 1700 draws of 2 out of 17: 200 each, with a standard deviation of about 13.
    assert!(drawn.iter().all(|host| (130..270).contains(&seen[host])), "{seen:?}");
}

#[test]
fn who_asks_gets_what_it_lacks_and_nothing_else() {
    let (mut view, mut rng) = (view(), seeded(5));
    let step = exchange::SEQUENCE_STEP;
    for n in 0..30 {
        view.offer(described(n, 5 * step), &mut rng, |_| false);
    }
    let tags = |ns: std::ops::Range<u16>, sequence| ns.map(move |n| Tag::of(&described(n, sequence)));
    // Three it lacks, two of which it has older ones, one of which it has a newer one.
    let known: Vec<Tag> =
        tags(3..5, 4 * step).chain(tags(5..6, 6 * step)).chain(tags(6..30, 5 * step)).collect();
    let mut sample: Vec<HostId> =
        view.sample(8, &mut rng, &HostId::random(), &known).iter().map(|record| record.host).collect();
    let mut lacking: Vec<HostId> = (0..5).map(|n| described(n, 1).host).collect();
    sample.sort_unstable();
    lacking.sort_unstable();
    assert_eq!(sample, lacking);
    assert_eq!(view.tags().len(), 30);
}

#[test]
fn the_nearest_are_never_replaced() {
    let (mut view, mut rng) = (view(), seeded(6));
    let mut all: Vec<HostId> = (0..1000).map(|n| described(n, 1).host).collect();
    for n in 0..1000 {
        view.offer(described(n, 1), &mut rng, |_| false);
    }
    all.sort_by_key(|host| place(host) ^ view.own);
    assert!(all[..NEAREST_KEPT].iter().all(|host| view.get(host).is_some()));
}

#[derive(Debug, Clone)]
enum Step {
    Offer(u16, u64),
    Remove(u16),
    Sample(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u16..40, 0u64..5).prop_map(|(n, sequence)| Step::Offer(n, sequence)),
        1 => (0u16..40).prop_map(Step::Remove),
        1 => (0usize..10).prop_map(Step::Sample),
    ];
    proptest::collection::vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// Below its bound the view is a map from host to the newest record.
    #[test]
    fn below_its_bound_it_is_a_map(steps in steps(), seed: u64) {
        let (mut view, mut rng) = (view(), seeded(seed));
        let mut model: BTreeMap<HostId, u64> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Offer(n, sequence) => {
                    let record = described(n, sequence);
                    let before = model.get(&record.host).copied();
                    let expected = match before {
                        None => NEW,
                        Some(held) if held < sequence => Offered::Newer,
                        Some(_) => Offered::Stale,
                    };
                    if expected != Offered::Stale {
                        model.insert(record.host, sequence);
                    }
                    prop_assert_eq!(view.offer(record, &mut rng, |_| false), expected);
                }
                Step::Remove(n) => {
                    let host = described(n, 0).host;
                    prop_assert_eq!(view.remove_if(|record| record.host == host).len(), usize::from(model.remove(&host).is_some()));
                }
                Step::Sample(count) => {
                    let sample = view.sample(count, &mut rng, &HostId::random(), &[]);
                    prop_assert_eq!(sample.len(), count.min(model.len()));
                }
            }
            let held: BTreeMap<HostId, u64> = view.iter().map(|record| (record.host, record.sequence)).collect();
            prop_assert_eq!(&held, &model);
            prop_assert!(model.iter().all(|(host, sequence)| view.sequence(host) == Some(*sequence)));
        }
    }
}
