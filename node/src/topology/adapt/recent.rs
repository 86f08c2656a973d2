//! What a pair carried in each of the last seconds: what a rate usually is, and how much it varies by itself.
//!
//! Owns: a few seconds. Refuses to know: what follows from them.

use std::collections::VecDeque;

/// One entry is the mean over at least so many seconds: programs and TCP speak in bursts of a tenth.
const ENTRY_S: f64 = 0.95;
/// Entries kept: enough to tell how much traffic varies, few enough to follow it.
const ENTRIES_MAX: usize = 8;
/// Entries whose middle is the usual rate: a queue that empties itself when others have left the way takes one or two, and is none of them.
const USUAL: usize = 5;

/// All entries are steady if there are so many at least, and none is farther than this part from the middle one.
const STEADY: usize = 3;
const STEADY_PART: f64 = 0.15;

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct Recent {
    entries: VecDeque<f64>,
    bytes: f64,
    seconds: f64,
}

impl Recent {
    pub(super) fn take(&mut self, bytes: f64, seconds: f64) {
        self.bytes += bytes;
        self.seconds += seconds;
        if self.seconds >= ENTRY_S {
            if self.entries.len() == ENTRIES_MAX {
                self.entries.pop_front();
            }
            self.entries.push_back(self.bytes / self.seconds);
            (self.bytes, self.seconds) = (0.0, 0.0);
        }
    }

    /// The middle one of the last few, in bytes a second; none before there is any.
    pub(super) fn usual(&self) -> Option<f64> {
        let mut last: Vec<f64> = self.entries.iter().rev().take(USUAL).copied().collect();
        last.sort_by(f64::total_cmp);
        last.get(last.len().saturating_sub(1) / 2).copied()
    }

    /// What later seconds are held against: what is usual if all were alike; else what all but the weakest quarter had at least.
    pub(super) fn to_hold(&self) -> Option<f64> {
        if self.is_steady() {
            return self.usual();
        }
        let mut all: Vec<f64> = self.entries.iter().copied().collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 4).copied()
    }

    /// Whether all seconds were alike, so that later ones can be held against them: a rate that moves because others have left the way around, or their queues
    /// are empty, moves on. Traffic that is never steady has been looked at for long enough to be judged by how much it varies.
    pub(super) fn is_comparable(&self) -> bool {
        self.is_steady() || self.entries.len() >= ENTRIES_MAX
    }

    fn is_steady(&self) -> bool {
        let Some(middle) = self.usual().filter(|_| self.entries.len() >= STEADY) else { return false };
        self.entries.iter().all(|rate| (rate - middle).abs() <= STEADY_PART * middle)
    }

    /// How far a second usually is from [`Self::usual`], as a part of it; none before there are some.
    pub(super) fn spread(&self) -> Option<f64> {
        let usual = self.usual().filter(|usual| *usual > 0.0 && self.entries.len() >= STEADY)?;
        let mut far: Vec<f64> = self.entries.iter().map(|rate| (rate - usual).abs() / usual).collect();
        far.sort_by(f64::total_cmp);
        // The middle one of all distances is no measure where half of the entries are alike; the third quarter is.
        far.get(far.len() * 3 / 4).copied()
    }

    /// How many seconds that is from, for those who weigh it.
    pub(super) fn count(&self) -> f64 {
        f64::from(u32::try_from(self.entries.len()).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(seconds: &[f64]) -> Recent {
        let mut recent = Recent::default();
        seconds.iter().for_each(|rate| recent.take(*rate, 1.0));
        recent
    }

    #[test]
    fn a_burst_of_a_second_or_two_is_not_what_is_usual() {
        assert_eq!(of(&[]).usual(), None);
        assert_eq!(of(&[8.0, 8.0, 9.0, 30.0, 20.0]).usual(), Some(9.0));
        assert_eq!(of(&[1.0, 1.0, 1.0, 9.0, 9.0, 9.0]).usual(), Some(9.0), "three seconds are none");
    }

    #[test]
    fn what_varies_has_a_spread_and_what_is_even_has_none() {
        assert_eq!(of(&[5.0]).spread(), None, "one second tells nothing of it");
        assert_eq!(of(&[5.0; 8]).spread(), Some(0.0));
        assert_eq!(of(&[5.0, 5.0, 5.0, 5.0, 5.0, 50.0]).spread(), Some(0.0), "one burst is none");
        assert!(of(&[4.0, 5.0, 6.0, 4.0, 5.0, 6.0, 4.0, 6.0]).spread().unwrap() >= 0.2);
    }

    #[test]
    fn what_moves_is_not_held_against_anything_before_it_is_steady() {
        assert!(!of(&[8.0, 8.0]).is_comparable(), "two seconds are too few");
        assert!(of(&[8.0, 8.5, 8.0]).is_comparable());
        let moving = of(&[8.0, 8.0, 12.0]);
        assert!(!moving.is_comparable());
        assert_eq!(moving.to_hold(), Some(8.0));
        assert!(of(&[8.0, 12.0, 8.0, 12.0, 8.0, 12.0, 8.0, 12.0]).is_comparable(), "it never will be");
    }

    #[test]
    fn shorter_looks_are_gathered_to_seconds() {
        let mut recent = Recent::default();
        for tenth in 0..50 {
            recent.take(if tenth % 10 == 0 { 10.0 } else { 0.0 }, 0.1);
        }
        assert!((recent.count() - 5.0).abs() < 1e-6);
        assert!((recent.usual().unwrap() - 10.0).abs() < 1e-6);
    }
}
