//! How often one peer may do one thing: token buckets, and a bounded table of them.
//!
//! Owns counts only; time is an argument. A bucket outlives the peer's connection, so that reconnecting buys nothing. When the table is full,
//! full buckets (which remember nothing) go first, then the one untouched longest.

use std::{collections::HashMap, hash::Hash, time::Duration};

/// A steady rate and how much may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many per second in the long run; at least 1.
    pub per_second: u32,
    /// How many at once after a pause; at least 1.
    pub burst: u32,
}

/// Tokens are counted in nanoseconds of waiting, so that nothing is lost to rounding.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// The time at which the bucket would be full again; in the past: full.
    full_at: Duration,
}

impl Bucket {
    fn take(&mut self, rate: Rate, now: Duration) -> bool {
        let cost = Duration::from_secs(1) / rate.per_second.max(1);
        let full_at = self.full_at.max(now) + cost;
        if full_at > now + cost * rate.burst.max(1) {
            return false;
        }
        self.full_at = full_at;
        true
    }
}

/// Buckets by who and what.
#[derive(Debug)]
pub(crate) struct Limiter<K> {
    buckets: HashMap<K, Bucket>,
    len_max: usize,
}

impl<K: Eq + Hash + Clone> Limiter<K> {
    pub(crate) fn new(len_max: usize) -> Self {
        Self { buckets: HashMap::new(), len_max }
    }

    /// Whether `key` may do it once more at `now`; if so, it is counted.
    pub(crate) fn allows(&mut self, key: K, rate: Rate, now: Duration) -> bool {
        if self.buckets.len() >= self.len_max && !self.buckets.contains_key(&key) {
            self.make_room(now);
        }
        self.buckets.entry(key).or_insert(Bucket { full_at: now }).take(rate, now)
    }

    fn make_room(&mut self, now: Duration) {
        self.buckets.retain(|_, bucket| bucket.full_at > now);
        if self.buckets.len() < self.len_max {
            return;
        }
        let oldest = self.buckets.iter().min_by_key(|(_, bucket)| bucket.full_at).map(|(key, _)| key.clone());
        if let Some(oldest) = oldest {
            self.buckets.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RATE: Rate = Rate { per_second: 2, burst: 3 };

    #[test]
    fn a_burst_then_the_steady_rate() {
        let mut limiter = Limiter::new(4);
        let at = |ms| Duration::from_secs(100) + Duration::from_millis(ms);
        let allowed: Vec<bool> = [0, 0, 0, 0, 499, 500, 501, 1000]
            .into_iter()
            .map(|ms| limiter.allows("peer", RATE, at(ms)))
            .collect();
        assert_eq!(allowed, [true, true, true, false, false, true, false, true]);
    }

    #[test]
    fn one_peer_does_not_use_up_another_ones_share() {
        let mut limiter = Limiter::new(4);
        while limiter.allows("a", RATE, Duration::ZERO) {}
        assert!(limiter.allows("b", RATE, Duration::ZERO));
    }

    proptest! {
        /// Never more than the burst plus the rate times the elapsed time, and the table keeps its bound.
        #[test]
        fn no_window_exceeds_burst_plus_rate(steps in proptest::collection::vec((0u8..6, 0u64..400), 1..200)) {
            let mut limiter = Limiter::new(8);
            let mut now = Duration::ZERO;
            let mut taken: HashMap<u8, Vec<Duration>> = HashMap::new();
            for (key, wait) in steps {
                now += Duration::from_millis(wait);
                if limiter.allows(key, RATE, now) {
                    taken.entry(key).or_default().push(now);
                }
                prop_assert!(limiter.buckets.len() <= 8);
            }
            for times in taken.values() {
                for (first, from) in times.iter().enumerate() {
                    for (count, to) in times[first..].iter().enumerate() {
                        let bound = f64::from(RATE.burst) + (*to - *from).as_secs_f64() * f64::from(RATE.per_second);
                        prop_assert!((count + 1) as f64 <= bound + 1e-6);
                    }
                }
            }
        }
    }
}
