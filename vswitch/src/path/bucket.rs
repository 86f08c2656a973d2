//! A bucket of tokens: so many at once, so many a second.

use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    per_second: u32,
    most: u32,
    /// Tokens in thousandths of a millisecond's worth: no rounding at any rate in use.
    level: u64,
    at: Instant,
}

const UNIT: u64 = 1_000_000;

impl Bucket {
    /// Full at first.
    pub(super) fn new(now: Instant, per_second: u32, most: u32) -> Self {
        Self { per_second, most, level: u64::from(most) * UNIT, at: now }
    }

    /// Takes one; false if there is none.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        self.fill(now);
        let enough = self.level >= UNIT;
        if enough {
            self.level -= UNIT;
        }
        enough
    }

    /// Whether there are so many.
    pub(super) fn has(&mut self, now: Instant, count: u32) -> bool {
        self.fill(now);
        self.level >= u64::from(count) * UNIT
    }

    fn fill(&mut self, now: Instant) {
        let micros = now.saturating_duration_since(self.at).as_micros();
        let micros = u64::try_from(micros).unwrap_or(u64::MAX);
        let more = micros.saturating_mul(self.per_second.into());
        self.level = self.level.saturating_add(more).min(u64::from(self.most) * UNIT);
        self.at = self.at.max(now);
    }

    /// When there is one again.
    pub(super) fn next_at(&self) -> Instant {
        let missing = UNIT.saturating_sub(self.level);
        self.at + Duration::from_micros(missing.div_ceil(self.per_second.max(1).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn gives_its_burst_and_then_its_rate() {
        let mut now = testing::now();
        let mut bucket = Bucket::new(now, 100, 10);
        assert_eq!((0..50).filter(|_| bucket.take(now)).count(), 10);
        let mut taken = 0;
        for _ in 0..10_000 {
            now += Duration::from_micros(100);
            taken += usize::from(bucket.take(now));
        }
        assert_eq!(taken, 100);
        assert!(!bucket.take(now) || !bucket.take(now));
        assert!(bucket.next_at() > now && bucket.next_at() <= now + Duration::from_millis(10));
    }
}
