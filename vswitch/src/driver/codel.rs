//! CoDel (RFC 8289): says when a flow's queue has stood too long, and how often its sender is to be told.
//!
//! A TCP connection through a TAP fills whatever queue there is up to its window, 4 MB and more: nothing on the way tells it that a
//! tenth would do. Everything the queue holds has left the processor's caches by the time it is sent, and whoever else uses the host
//! waits longer. So a queue that holds no frame for less than [`TARGET`] during an [`INTERVAL`] loses one segment, and then more
//! and more often until it is short again.
//!
//! RFC 8289 has 5 ms and 100 ms, for paths across the Internet whose bottleneck is a line. The queue here is before a processor that
//! empties megabytes in a millisecond: it only stands for flows of at least gigabits a second, whose round trips are short.
//!
//! Pure: time is an argument.

use std::time::{Duration, Instant};

/// What a frame may wait while its queue stands.
const TARGET: Duration = Duration::from_millis(2);
/// How long a queue may stand before its sender is told; some round trips of the flows that can make it stand.
const INTERVAL: Duration = Duration::from_millis(20);

/// One queue's state.
#[derive(Debug, Default)]
pub(super) struct Codel {
    /// When the queue will have stood for an interval; nothing while it does not stand.
    ripe: Option<Instant>,
    /// When the sender is told the next time; nothing while the queue is not too long.
    next: Option<Instant>,
    /// How often he was told since the queue began to be too long.
    told: u32,
}

impl Codel {
    /// Whether the sender is to be told by the frame that leaves the queue now and came at `since`; `last`, if none is left behind it.
    pub(super) fn tells(&mut self, now: Instant, since: Instant, last: bool) -> bool {
        if last || now.saturating_duration_since(since) < TARGET {
            self.ripe = None;
            if self.next.take().is_some() {
                // RFC 8289 section 5.4: a queue that is soon too long again is told of as often as before, nearly.
                self.told = self.told.saturating_sub(2);
            }
            return false;
        }
        let due = match self.next {
            Some(next) => next,
            None => *self.ripe.get_or_insert(now + INTERVAL),
        };
        if now < due {
            return false;
        }
        self.told += 1;
        self.next = Some(now + INTERVAL.div_f64(f64::from(self.told).sqrt()));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    const STEP: Duration = Duration::from_micros(100);

    /// When the sender is told, in steps from the start, while each frame has waited for `wait(step)`.
    fn told(steps: u32, wait: impl Fn(u32) -> Duration) -> Vec<u32> {
        let start = testing::now() + Duration::from_secs(1);
        let mut codel = Codel::default();
        (0..steps)
            .filter(|step| {
                let now = start + STEP * *step;
                codel.tells(now, now - wait(*step), false)
            })
            .collect()
    }

    #[test]
    fn a_short_queue_is_left_alone_and_so_is_one_that_is_empty_now_and_then() {
        assert!(told(10_000, |_| TARGET - STEP).is_empty());
        assert!(told(10_000, |step| if step % 150 == 0 { Duration::ZERO } else { TARGET * 3 }).is_empty());
        let now = testing::now();
        let mut codel = Codel::default();
        assert!((0..1000).all(|step| !codel.tells(now + INTERVAL * step, now, true)));
    }

    #[test]
    fn a_standing_queue_is_told_of_after_an_interval_and_then_more_and_more_often() {
        let told = told(3_000, |_| TARGET);
        assert_eq!(told[0], 200);
        let pauses: Vec<u32> = told.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(pauses[0] == 200 && pauses.is_sorted_by(|one, next| one >= next), "{pauses:?}");
        assert!((30..80).contains(&told.len()), "{told:?}");
    }

    #[test]
    fn a_queue_that_was_short_for_a_moment_is_given_another_interval() {
        let told = told(1_000, |step| if step == 450 { Duration::ZERO } else { TARGET });
        let before = told.iter().filter(|step| **step < 450).count();
        assert_eq!(told[before], 451 + 200, "{told:?}");
    }
}
