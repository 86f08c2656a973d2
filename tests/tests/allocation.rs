//! The allocation protocol in many drawn worlds: loss, delay, repetition, reordering, partition, and breakdowns anywhere.

use std::sync::atomic::{AtomicU64, Ordering};

use consort_tests::scenario;

/// Seeds tried by the ordinary run; `CONSORT_SEEDS=100000` tries more, `CONSORT_FIRST_SEED` others.
const SEEDS: u64 = 300;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn invariants_hold_in_every_drawn_world() {
    let (first, seeds) =
        (number("CONSORT_FIRST_SEED").unwrap_or(0), number("CONSORT_SEEDS").unwrap_or(SEEDS));
    let next = AtomicU64::new(first);
    let worlds = || {
        let mut counts = (0, 0, 0);
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds {
                return counts;
            }
            let summary = scenario::run(seed, None).unwrap_or_else(|failure| panic!("{failure}"));
            counts = (counts.0 + summary.created, counts.1 + summary.refused, counts.2 + summary.undecided);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let counts: Vec<(usize, usize, usize)> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(worlds)).collect();
        running.into_iter().map(|thread| thread.join().expect("the violation was printed above")).collect()
    });
    let sum = |part: fn(&(usize, usize, usize)) -> usize| counts.iter().map(part).sum::<usize>();
    let (created, refused, undecided) = (sum(|c| c.0), sum(|c| c.1), sum(|c| c.2));
    println!("{seeds} worlds: {created} created, {refused} refused, {undecided} undecided");
    // Worlds in which nothing ever succeeds, or nothing ever fails, would prove nothing.
    assert!(created as u64 > seeds / 2 && refused as u64 > seeds / 10);
}

#[test]
fn a_seed_decides_everything() {
    for seed in [3, 11] {
        let (once, again) = (scenario::run(seed, None).unwrap(), scenario::run(seed, None).unwrap());
        assert!(once.log == again.log, "seed {seed} went differently the second time");
    }
}

/// Replays one seed and prints its log: `CONSORT_SEED=7 cargo test -p consort-tests --test allocation replay -- --nocapture`.
#[test]
fn replay() {
    let Some(seed) = number("CONSORT_SEED") else { return };
    match scenario::run(seed, None) {
        Ok(summary) => println!("{}\nseed {seed}: no violation", summary.log),
        Err(failure) => panic!("{}\n{failure}", failure.log),
    }
}
