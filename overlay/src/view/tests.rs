//! The rules of the view, against a naive model.

use super::*;
use crate::testing::{NOW, pair, record, seeded};
use proptest::prelude::*;
use std::{collections::BTreeMap, time::Duration};

/// A record of host `n` without signatures worth checking: the view takes what others verified.
fn described(n: u16, sequence: u64) -> HostRecord {
    let mut seed = [3; 32];
    seed[..2].copy_from_slice(&n.to_be_bytes());
    let host = crate::identity::Key::of(&crate::identity::pair_from_seed(&seed)).host().unwrap();
    let mut record = record(&[1], sequence);
    record.host = host;
    record
}

#[test]
fn the_newest_sequence_wins() {
    let (mut view, mut rng) = (View::default(), seeded(1));
    let mut offer = |sequence| view.offer(record(&[1], sequence), &mut rng, |_| false);
    assert_eq!(
        [offer(5), offer(5), offer(4), offer(6)],
        [Offered::New, Offered::Stale, Offered::Stale, Offered::Newer]
    );
    assert_eq!(view.sequence(&crate::identity::Key::of(&pair(1)).host().unwrap()), Some(6));
}

#[test]
fn a_full_view_keeps_its_bound_and_what_is_pinned() {
    let (mut view, mut rng) = (View::default(), seeded(2));
    let pinned: Vec<HostId> = (0..10).map(|n| described(n, 1).host).collect();
    for n in 0..400 {
        view.offer(described(n, 1), &mut rng, |host| pinned.contains(host));
        assert!(view.len() <= VIEW_MAX);
    }
    assert!(pinned.iter().all(|host| view.get(host).is_some()));
    assert_eq!(view.offer(described(999, 1), &mut rng, |_| true), Offered::Full);
}

#[test]
fn records_go_when_they_expire() {
    let (mut view, mut rng) = (View::default(), seeded(3));
    view.offer(described(1, 1), &mut rng, |_| false);
    let mut late = described(2, 1);
    late.expires = NOW.after(Duration::from_secs(900));
    view.offer(late, &mut rng, |_| false);
    assert_eq!(view.expire(NOW.after(Duration::from_secs(299))), []);
    assert_eq!(view.expire(NOW.after(Duration::from_secs(300))), [described(1, 1).host]);
    assert_eq!(view.len(), 1);
}

#[test]
fn every_record_is_sampled_as_often_as_any_other() {
    let (mut view, mut rng) = (View::default(), seeded(4));
    for n in 0..20 {
        view.offer(described(n, 1), &mut rng, |_| false);
    }
    let without = described(0, 1).host;
    let mut seen: BTreeMap<HostId, u32> = BTreeMap::new();
    for _ in 0..1900 {
        let sample = view.sample(5, &mut rng, &without, &[]);
        assert_eq!(sample.len(), 5);
        sample.iter().for_each(|record| *seen.entry(record.host).or_default() += 1);
    }
    assert_eq!(seen.len(), 19);
    assert!(!seen.contains_key(&without));
    // 1900 draws of 5 out of 19: 500 each, with a standard deviation of about 19.
    assert!(seen.values().all(|count| (400..600).contains(count)), "{seen:?}");
}

#[test]
fn who_asks_gets_what_it_lacks_first() {
    let (mut view, mut rng) = (View::default(), seeded(5));
    for n in 0..30 {
        view.offer(described(n, 1), &mut rng, |_| false);
    }
    let lacking: Vec<HostId> = (0..3).map(|n| described(n, 1).host).collect();
    let known: Vec<Tag> = (3..30).map(|n| tag(&described(n, 1).host)).collect();
    let sample = view.sample(5, &mut rng, &HostId::random(), &known);
    assert_eq!(sample.len(), 5);
    assert!(lacking.iter().all(|host| sample[..3].iter().any(|record| record.host == *host)));
    assert_eq!(view.tags().len(), 30);
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
        let (mut view, mut rng) = (View::default(), seeded(seed));
        let mut model: BTreeMap<HostId, u64> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Offer(n, sequence) => {
                    let record = described(n, sequence);
                    let before = model.get(&record.host).copied();
                    let expected = match before {
                        None => Offered::New,
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
