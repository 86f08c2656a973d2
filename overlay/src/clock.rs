//! Time as this crate means it.
//!
//! Two kinds, never mixed: [`UnixSeconds`] is what signed things carry and other hosts compare; a `Duration` since the driver's start is what
//! timers count in, and cannot jump. The cores get both as arguments; only the driver asks a [`Clock`].

use serde::{Deserialize, Serialize};
use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

/// How far another host's clock may run ahead before its signatures count as not yet valid. Hosts without NTP drift seconds per day;
/// more tolerance lets a wrong clock keep stale records alive.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_secs(120);

/// Whole seconds since 1970, until 2106.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixSeconds(pub u32);

impl UnixSeconds {
    /// Later by `duration`, cut to whole seconds and to what four bytes hold.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(u64::from(self.0).saturating_add(duration.as_secs()).try_into().unwrap_or(u32::MAX))
    }

    /// Whether this lies further ahead of `now` than clocks may differ.
    pub fn is_ahead_of(self, now: Self) -> bool {
        self > now.after(CLOCK_SKEW_MAX)
    }
}

/// Where the driver reads the wall clock; tests give one they move by hand.
pub trait Clock: Send + Sync + 'static {
    /// Time since 1970.
    fn since_epoch(&self) -> Duration;

    /// The same in the unit that signed things carry.
    fn unix(&self) -> UnixSeconds {
        UnixSeconds(self.since_epoch().as_secs().try_into().unwrap_or(u32::MAX))
    }
}

/// The host's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the driver's one reading of the wall clock")]
    fn since_epoch(&self) -> Duration {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
    }
}

/// Time since the first call in this process: what timers count in.
#[expect(clippy::disallowed_methods, reason = "this is the driver's one reading of the monotonic clock")]
pub(crate) fn since_start() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    // One second ahead, so that no time that is counted is zero, the value that means "long ago".
    START.get_or_init(Instant::now).elapsed() + Duration::from_secs(1)
}
