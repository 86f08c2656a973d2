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

/// How long some work takes.
pub(crate) fn time(work: &mut dyn FnMut()) -> Duration {
    let start = now();
    work();
    now() - start
}
