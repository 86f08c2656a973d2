//! One pair of hosts: how much goes between them, and how far a link for it is.

use std::time::Duration;

use super::{BARRED_MAX, BARRED_MIN, HOLD_MIN, RATE_MIN};

/// How fast a rate follows: a burst of a tenth of a second moves it by a tenth.
const SMOOTHING: Duration = Duration::from_secs(1);
/// A link with less than this part of [`RATE_MIN`] is idle: well below what added it.
const IDLE_PART: f64 = 0.25;
/// A pair that yielded, or was barred, is a plain one again after so long.
const FORGIVEN_AFTER: Duration = Duration::from_secs(1_800);
/// A rate so many times that of the trial, or others with less than this part of theirs then, are another case than the one that was tried.
const DOUBT_MORE: f64 = 1.25;
const DOUBT_LESS: f64 = 0.75;
/// Others with less than this part of the pair's own rate made no difference.
const REST_PART: f64 = 0.1;
/// How often a bar doubles; more is [`BARRED_MAX`] anyway.
const STRIKES_MAX: u32 = 8;

/// How far a link is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Stage {
    Off { until: Duration },
    Asked { since: Duration, reserved_s: f64 },
    Trial(Trial),
    On(Held),
}

/// A link that proved itself, and what was so when it did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Held {
    since: Duration,
    /// The pair's rate.
    rate: f64,
    /// That of all others together, which share the way around.
    rest: f64,
}

/// A link that is being watched.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Trial {
    pub(super) since: Duration,
    reserved_s: f64,
    /// The pair's rate before.
    before: f64,
    /// What went since.
    bytes: f64,
    /// For how long it was watched.
    seconds: f64,
    /// The same in the second half, when the change of path is past.
    late: (f64, f64),
}

impl Trial {
    /// The rate now as a part of what it was.
    pub(super) fn part_of_before(&self) -> f64 {
        let (bytes, seconds) = if self.late.1 > 0.0 { self.late } else { (self.bytes, self.seconds) };
        bytes / seconds.max(0.001) / self.before.max(1.0)
    }

    /// What it cost, of what was set aside for it.
    fn cost_s(&self) -> f64 {
        let lacking = 1.0 - self.bytes / (self.before * self.seconds).max(1.0);
        (self.reserved_s * lacking).clamp(0.0, self.reserved_s)
    }
}

impl Stage {
    pub(super) fn has_link(&self) -> bool {
        !matches!(self, Self::Off { .. })
    }
}

/// What is known of a pair.
#[derive(Debug, Clone)]
pub(super) struct Track {
    /// Bytes a second, smoothed.
    pub(super) rate: f64,
    pub(super) stage: Stage,
    hot_since: Option<Duration>,
    /// When there was last as much as makes a link worth keeping.
    used_at: Duration,
    /// Trials that went wrong.
    strikes: u32,
    /// How often it had to give its place away.
    yields: u32,
    /// When the last of either was.
    blamed_at: Duration,
}

impl Default for Track {
    fn default() -> Self {
        Self {
            rate: 0.0,
            stage: Stage::Off { until: Duration::ZERO },
            hot_since: None,
            used_at: Duration::ZERO,
            strikes: 0,
            yields: 0,
            blamed_at: Duration::ZERO,
        }
    }
}

impl Track {
    pub(super) fn measure(&mut self, now: Duration, step: Duration, bytes: u64) {
        // Counts of bytes are far below where a double loses one that matters here.
        let bytes = f64::from(u32::try_from(bytes.min(u64::from(u32::MAX))).unwrap_or(u32::MAX));
        let seconds = step.as_secs_f64();
        let weight = 1.0 - (-seconds / SMOOTHING.as_secs_f64()).exp();
        self.rate += weight * (bytes / seconds - self.rate);
        if self.rate >= IDLE_PART * RATE_MIN {
            self.used_at = now;
        }
        if now.saturating_sub(self.blamed_at) > FORGIVEN_AFTER {
            (self.strikes, self.yields) = (0, 0);
        }
        if let Stage::Trial(trial) = &mut self.stage {
            trial.bytes += bytes;
            trial.seconds += seconds;
            if now.saturating_sub(trial.since) > super::TRIAL / 2 {
                trial.late.0 += bytes;
                trial.late.1 += seconds;
            }
        }
    }

    pub(super) fn is_hot(&mut self, now: Duration, hot: bool) {
        self.hot_since = if hot { Some(self.hot_since.unwrap_or(now)) } else { None };
    }

    /// Nothing is left to know of it.
    pub(super) fn is_forgotten(&self, now: Duration) -> bool {
        let clean = self.strikes == 0 && self.yields == 0;
        !self.stage.has_link()
            && clean
            && self.rate < 1.0
            && now.saturating_sub(self.used_at) > FORGIVEN_AFTER
    }

    pub(super) fn idle_for(&self, now: Duration) -> Duration {
        now.saturating_sub(self.used_at)
    }

    pub(super) fn may_be_asked(&self, now: Duration, after: Duration) -> bool {
        let lasts = self.hot_since.is_some_and(|since| now.saturating_sub(since) >= after);
        lasts && matches!(self.stage, Stage::Off { until } if now >= until)
    }

    /// It has no link and may have one.
    pub(super) fn is_free(&self, now: Duration) -> bool {
        matches!(self.stage, Stage::Off { until } if now >= until)
    }

    /// How many times hotter than another it has to be: twofold for each time it had to yield.
    pub(super) fn eagerness_needed(&self) -> f64 {
        f64::from(1_u32 << self.yields.min(STRIKES_MAX))
    }

    /// For how long it has had its place, if it can be moved.
    pub(super) fn held_for(&self, now: Duration) -> Option<Duration> {
        match self.stage {
            Stage::On(held) => Some(now.saturating_sub(held.since)),
            _ => None,
        }
    }

    pub(super) fn ask(&mut self, now: Duration, reserved_s: f64) {
        self.stage = Stage::Asked { since: now, reserved_s };
    }

    pub(super) fn up(&mut self, now: Duration) {
        if let Stage::Asked { reserved_s, .. } = self.stage {
            let (before, late) = (self.rate, (0.0, 0.0));
            self.stage =
                Stage::Trial(Trial { since: now, reserved_s, before, bytes: 0.0, seconds: 0.0, late });
        }
    }

    /// The trial went well: gives back what it did not cost.
    pub(super) fn keep(&mut self, now: Duration, total: f64) -> f64 {
        let back = self.unspent_s();
        let rest = (total - self.rate).max(0.0);
        self.stage = Stage::On(Held { since: now, rate: self.rate, rest });
        self.strikes = 0;
        back
    }

    /// It went wrong: not again for a while.
    pub(super) fn bar(&mut self, now: Duration) -> f64 {
        let back = self.unspent_s();
        let wait = (BARRED_MIN * (1 << self.strikes.min(STRIKES_MAX))).min(BARRED_MAX);
        self.strikes = (self.strikes + 1).min(STRIKES_MAX);
        self.blamed_at = now;
        self.stage = Stage::Off { until: now + wait };
        back
    }

    /// It is not used, or not wanted.
    pub(super) fn release(&mut self, now: Duration) -> f64 {
        let back = self.unspent_s();
        self.stage = Stage::Off { until: now + HOLD_MIN };
        back
    }

    /// Whether the link may have become worse than the way around: the pair wants more than what the link proved to carry, or the others
    /// have left the way around to it.
    pub(super) fn is_doubtful(&self, total: f64) -> bool {
        let Stage::On(held) = &self.stage else { return false };
        let rest = (total - self.rate).max(0.0);
        self.rate > DOUBT_MORE * held.rate
            || (held.rest > held.rate * REST_PART && rest < DOUBT_LESS * held.rest)
    }

    /// Back to the way around, where it may prove again that a link is better; later each time.
    pub(super) fn doubted(&mut self, now: Duration) {
        self.yields = (self.yields + 1).min(STRIKES_MAX);
        self.blamed_at = now;
        self.stage = Stage::Off { until: now + HOLD_MIN * (1 << self.yields.min(5)) / 2 };
    }

    /// A hotter pair takes its place.
    pub(super) fn yielded(&mut self, now: Duration) {
        self.yields = (self.yields + 1).min(STRIKES_MAX);
        self.blamed_at = now;
        self.stage = Stage::Off { until: now + HOLD_MIN * (1 << self.yields.min(5)) };
    }

    fn unspent_s(&self) -> f64 {
        match &self.stage {
            Stage::Asked { reserved_s, .. } => *reserved_s,
            Stage::Trial(trial) => trial.reserved_s - trial.cost_s(),
            Stage::Off { .. } | Stage::On(_) => 0.0,
        }
    }
}
