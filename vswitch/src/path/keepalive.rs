//! How often a path at rest is probed, so that the NATs on it do not forget it.
//!
//! RFC 4787 (REQ-5) asks two minutes of a NAT; many give thirty seconds, some less. A probe whose answer shows another outside address than the
//! one before tells that the mapping was forgotten: the interval shrinks. While nothing of the kind is seen it grows again, slowly.

use std::time::Duration;

/// Below the usual thirty seconds, with room for a lost probe's repetition.
const FIRST: Duration = Duration::from_secs(20);
/// More often than this costs more than a mapping is worth.
const LEAST: Duration = Duration::from_secs(5);
/// A lost probe must be repeated before thirty seconds are over.
const MOST: Duration = Duration::from_secs(25);
/// What is added after each stable round.
const GROWTH: Duration = Duration::from_millis(250);

/// The interval of one host's keep-alives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interval(Duration);

impl Default for Interval {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Interval {
    pub(super) fn get(self) -> Duration {
        self.0
    }

    /// A probe after a full interval showed the same outside address.
    pub(super) fn kept(&mut self) {
        self.0 = (self.0 + GROWTH).min(MOST);
    }

    /// It showed another.
    pub(super) fn forgotten(&mut self) {
        self.0 = (self.0 * 3 / 5).max(LEAST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shrinks_below_the_nats_timeout_and_stays_within_its_bounds() {
        let mut interval = Interval::default();
        (0..100).for_each(|_| interval.kept());
        assert_eq!(interval.get(), MOST);
        interval.forgotten();
        assert_eq!(interval.get(), Duration::from_secs(15));
        (0..100).for_each(|_| interval.forgotten());
        assert_eq!(interval.get(), LEAST);
    }
}
