//! A host's clock: it has its own beginning and runs a little fast or slow.
//!
//! The world's time is the truth that no engine sees.

use consort_scheduler::units::Millis;

/// A host's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// What it showed when the world's time was `started`.
    pub shown: u64,
    /// The world's time when it began to run.
    pub started: u64,
    /// Its pace in millionths: a million is right.
    pub pace: u64,
}

impl Clock {
    /// What it shows at the world's time `now`.
    #[must_use]
    pub const fn show(&self, now: u64) -> Millis {
        Millis(self.shown + (now - self.started) * self.pace / 1_000_000)
    }

    /// The first moment of the world's time at which it shows `at` or later.
    #[must_use]
    pub const fn when(&self, at: Millis) -> u64 {
        self.started + (at.0.saturating_sub(self.shown)).saturating_mul(1_000_000).div_ceil(self.pace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_shows_at_least_what_it_was_asked_to_wait_for() {
        for pace in [990_000, 1_000_000, 1_004_321] {
            let clock = Clock { shown: 777, started: 123, pace };
            for at in [777, 778, 1000, 123_456] {
                let when = clock.when(Millis(at));
                assert!(clock.show(when) >= Millis(at), "{pace} {at}");
                assert!(when == 123 || clock.show(when - 1) < Millis(at), "{pace} {at}");
            }
        }
    }
}
