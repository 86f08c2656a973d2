//! The clocks; the only place that reads them.

use std::time::{Duration, Instant, SystemTime};

use crate::link::Now;

/// The monotonic clock.
#[expect(clippy::disallowed_methods, reason = "the driver's own reading")]
#[inline]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Both clocks.
#[expect(clippy::disallowed_methods, reason = "the driver's own reading")]
pub(crate) fn both() -> Now {
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Now { at: now(), wall_nanos: u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX) }
}

/// Processor time of the calling thread.
pub(crate) fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// How long some work takes.
pub(crate) fn time(work: &mut dyn FnMut()) -> Duration {
    let start = now();
    work();
    now() - start
}
