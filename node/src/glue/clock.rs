//! The clock of everything that is leased: `CLOCK_BOOTTIME`, which goes on while the computer sleeps.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use consort_scheduler::units::Millis;

use crate::state::boot;

/// Now, on the scheduler's clock.
#[must_use]
pub fn now() -> Millis {
    Millis(u64::try_from(boot::since_boot().as_millis()).unwrap_or(u64::MAX))
}

/// How long until `then`; nothing if it is past.
#[must_use]
pub fn until(then: Millis) -> Duration {
    Duration::from_millis(then.since(now()).0)
}

/// Seconds since 1970, for what two hosts compare.
#[must_use]
pub fn wall_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
