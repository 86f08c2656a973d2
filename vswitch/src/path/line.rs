//! A line of so many bits a second: what is sent over it leaves one after the other, waits shortly, or is dropped.
//!
//! A line keeps no datagrams, only the time at which what was let through so far will have left it. So all workers share one without a lock. Who asks is told
//! when his datagrams may leave; he keeps them until then (`driver/pacer`). What would wait longer than [`WAIT_MAX`] is dropped: a standing queue
//! tells a sender nothing that its loss would not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::{HostId, link::Count};

/// The longest that a datagram waits for its line: TCP over a path of some milliseconds fills a line through a queue of twice that, and a call does not
/// suffer from it. A run of datagrams that begins within it is let through whole.
pub(crate) const WAIT_MAX: Duration = Duration::from_millis(20);
/// On a slow line it is as long as so many bytes take, the longest run of datagrams that a sender gives at once: what follows such a run must not be lost for
/// the run's sake.
const RUN_BYTES: u64 = 64 * 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Line {
    start: Instant,
    bits_per_second: u64,
    wait_max_nanos: u64,
    /// Nanoseconds after `start`.
    free_at: AtomicU64,
    bytes: Count,
    dropped: Count,
}

/// A line as people see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct LineSnapshot {
    /// The host at its other end.
    pub peer: HostId,
    /// The most it carries from this host, in bits a second.
    pub rate_bits_per_s: u64,
    /// Bytes of datagrams (UDP payload) let through.
    pub bytes: u64,
    /// Datagrams that would have waited too long.
    pub dropped: u64,
}

impl Line {
    pub(crate) fn new(now: Instant, bits_per_second: u64) -> Self {
        let bits_per_second = bits_per_second.max(1);
        Self {
            start: now,
            bits_per_second,
            wait_max_nanos: nanos(WAIT_MAX).max(RUN_BYTES * 8_000_000_000 / bits_per_second),
            free_at: AtomicU64::new(0),
            bytes: Count::default(),
            dropped: Count::default(),
        }
    }

    pub(crate) fn bits_per_second(&self) -> u64 {
        self.bits_per_second
    }

    /// When so many bytes, in so many datagrams, may leave; none: they are dropped and counted.
    pub(crate) fn admit(&self, now: Instant, bytes: usize, datagrams: u64) -> Option<Instant> {
        let cost = (bytes as u64).saturating_mul(8_000_000_000) / self.bits_per_second;
        let now = nanos(now.saturating_duration_since(self.start));
        let take = |free_at: u64| {
            let from = free_at.max(now);
            (from <= now.saturating_add(self.wait_max_nanos)).then(|| from.saturating_add(cost))
        };
        match self.free_at.fetch_update(Relaxed, Relaxed, take) {
            Ok(before) => {
                self.bytes.add(bytes as u64);
                Some(self.start + Duration::from_nanos(before.max(now)))
            }
            Err(_) => {
                self.dropped.add(datagrams);
                None
            }
        }
    }

    pub(crate) fn snapshot(&self, peer: HostId) -> LineSnapshot {
        LineSnapshot {
            peer,
            rate_bits_per_s: self.bits_per_second,
            bytes: self.bytes.read(),
            dropped: self.dropped.read(),
        }
    }
}

/// What is asked of both lines leaves when the later lets it; a line that is not there lets everything through at once.
pub(crate) fn admit_both(
    lines: [Option<&Arc<Line>>; 2],
    now: Instant,
    bytes: usize,
    datagrams: u64,
) -> Result<Instant, usize> {
    let mut at = now;
    for (place, line) in lines.into_iter().enumerate() {
        if let Some(line) = line {
            at = at.max(line.admit(now, bytes, datagrams).ok_or(place)?);
        }
    }
    Ok(at)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    /// Bytes let through in so long when `offered` bytes come each millisecond, and the longest wait.
    fn offered(line: &Line, mut now: Instant, millis: u32, offered: usize) -> (usize, Duration) {
        let (mut passed, mut longest) = (0, Duration::ZERO);
        for _ in 0..millis {
            now += Duration::from_millis(1);
            for _ in 0..offered / 1000 {
                if let Some(at) = line.admit(now, 1000, 1) {
                    passed += 1000;
                    longest = longest.max(at - now);
                }
            }
        }
        (passed, longest)
    }

    #[test]
    fn the_rate_holds_and_nothing_waits_longer_than_it_may() {
        let now = testing::now();
        let line = Line::new(now, 80_000_000);
        let (passed, longest) = offered(&line, now, 1_000, 30_000);
        // Ten megabytes in the second, and what waits at the end.
        assert!((9_990_000..=10_000_000 + 201_000).contains(&passed), "{passed}");
        assert!(longest <= WAIT_MAX, "{longest:?}");
        let shown = line.snapshot(HostId::random());
        assert_eq!((shown.bytes, shown.dropped), (passed as u64, (30_000_000 - passed as u64) / 1000));
    }

    #[test]
    fn below_the_rate_nothing_waits_and_nothing_is_dropped() {
        let now = testing::now();
        let line = Line::new(now, 8_000_000);
        let (passed, longest) = offered(&line, now, 1000, 1000);
        assert_eq!((passed, longest), (1_000_000, Duration::ZERO));
    }

    #[test]
    fn what_was_not_used_is_not_saved_up() {
        let now = testing::now();
        let line = Line::new(now, 8_000_000);
        let (passed, _) = offered(&line, now + Duration::from_secs(60), 10, 100_000);
        assert!(passed <= 10_000 + 65_536 + 1_000, "{passed}");
    }

    #[test]
    fn on_a_slow_line_a_run_waits_for_one_before_it_and_no_longer() {
        let now = testing::now();
        let line = Line::new(now, 1_000_000);
        let run = Duration::from_millis(512);
        assert_eq!(line.admit(now, 64_000, 45), Some(now));
        assert_eq!(line.admit(now, 64_000, 45), Some(now + run), "half a second later");
        assert_eq!(line.admit(now, 1000, 1), None);
        assert_eq!(line.admit(now + run, 1000, 1), Some(now + 2 * run));
    }

    #[test]
    fn of_two_lines_the_later_counts_and_either_may_refuse() {
        let now = testing::now();
        let line = |bits| Arc::new(Line::new(now, bits));
        let (fast, slow) = (line(800_000_000), line(80_000_000));
        let admit = || admit_both([Some(&fast), Some(&slow)], now, 100_000, 70);
        assert_eq!(admit_both([None, None], now, 10_000, 10), Ok(now));
        assert_eq!(
            [admit(), admit(), admit()],
            [0, 10, 20].map(|millis| Ok(now + Duration::from_millis(millis)))
        );
        assert_eq!(admit(), Err(1));
    }
}
