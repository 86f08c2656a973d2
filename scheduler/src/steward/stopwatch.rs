//! Time that goes on across restarts and boots.
//!
//! A point on the clock means nothing after a boot, when the clock has begun anew. What has passed is carried over
//! as a span: as much as had passed when it was last stored. The time during which the host was off is not known, and not
//! counted.

use serde::{Deserialize, Serialize};

use crate::units::Millis;

/// Time since something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stopwatch {
    /// What had passed already at `from`.
    before: Millis,
    /// From when this boot's clock counts.
    from: Millis,
}

impl Stopwatch {
    /// It happened now.
    pub(super) const fn started(now: Millis) -> Self {
        Self { before: Millis::ZERO, from: now }
    }

    /// What has passed.
    pub(super) const fn elapsed(&self, now: Millis) -> Millis {
        self.before.plus(now.since(self.from))
    }

    /// When this much will have passed.
    pub(super) const fn reaches(&self, span: Millis) -> Millis {
        self.from.plus(span.since(self.before))
    }

    /// Goes on in a new boot, after what had passed when it was stored.
    pub(super) const fn carried(&self, stored_at: Millis, now: Millis) -> Self {
        Self { before: self.elapsed(stored_at), from: now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_passed_is_carried_into_a_new_boot_although_its_clock_is_younger() {
        let watch = Stopwatch::started(Millis(5_000_000));
        assert_eq!(watch.elapsed(Millis(8_000_000)), Millis(3_000_000));
        let carried = watch.carried(Millis(8_000_000), Millis(700));
        assert_eq!(carried.elapsed(Millis(1_700)), Millis(3_001_000));
        assert_eq!(carried.reaches(Millis(3_001_000)), Millis(1_700));
        assert_eq!(carried.reaches(Millis(1)), Millis(700), "it has passed already");
    }
}
