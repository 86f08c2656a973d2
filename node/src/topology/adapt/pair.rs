//! One pair of hosts: how much goes between them, and how far a link for it is.

use std::time::Duration;

use super::recent::Recent;
use super::{BARRED_MAX, BARRED_MIN, GOOD_PART, HOLD_MIN, Pair, RATE_MIN, TRIAL};

/// How fast a rate follows: a burst of a tenth of a second moves it by a tenth.
const SMOOTHING: Duration = Duration::from_secs(1);
/// A link with less than this part of [`RATE_MIN`] is idle: well below what added it.
const IDLE_PART: f64 = 0.25;
/// A pair that yielded, or was barred, is a plain one again after so long.
const FORGIVEN_AFTER: Duration = Duration::from_secs(1_800);
/// A rate so many times that of the trial, or others with less than this part of theirs then, are another case than the one that was tried.
const DOUBT_MORE: f64 = 1.25;
const DOUBT_LESS: f64 = 0.75;
/// The first of these for a pair that got more by its link than around: the others left it no more there, whatever it wanted, and that is so for as long as
/// they have not left.
const DOUBT_MORE_SQUEEZED: f64 = 2.5;
/// Who gets so much more by the link was squeezed around.
const SQUEEZED_PART: f64 = 1.1;
/// A trial whose rate is farther below what was usual than this many times what the rate varies by itself has gone wrong.
const CLEARLY: f64 = 3.0;
/// How much a rate is held to vary by itself at least, and where that is not known.
const SPREAD_MIN: f64 = 0.03;
const SPREAD_UNKNOWN: f64 = 0.15;
/// Of what a rate varies, at most this part is allowed for at the end of a long trial.
const ALLOWED_MAX: f64 = 0.03;
/// Others with less than this part of the pair's own rate made no difference.
const REST_PART: f64 = 0.1;
/// How often a bar doubles; more is [`BARRED_MAX`] anyway.
const STRIKES_MAX: u32 = 8;

/// How far a link is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Stage {
    Off {
        until: Duration,
    },
    /// `instead_of`: whose place it takes, once the other end agrees.
    Asked {
        since: Duration,
        reserved_s: f64,
        instead_of: Option<Pair>,
    },
    Trial(Trial),
    On(Held),
}

/// A link that proved itself, and what was so when it did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Held {
    since: Duration,
    /// The pair's rate.
    rate: f64,
    /// How many times that of the trial it may be.
    more: f64,
    /// That of all others together, which share the way around.
    rest: f64,
    /// Seconds for which it has been another case, each weighed by how much another.
    doubt_s: f64,
}

/// A link that may have become worse than the way around.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Doubt {
    /// How much of one it is now, from 0 to 1.
    pub(super) weight: f64,
    /// The seconds of doubt, weighed.
    pub(super) seconds: f64,
    /// What the pair has, and all others around, as parts of what they had when the link proved itself.
    pub(super) own: f64,
    pub(super) rest: f64,
}

/// What a trial says so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The link is no worse.
    Good,
    /// It is worse.
    Bad,
    /// The rate varies by itself by more than it is short of.
    Unclear,
}

/// A link that is being watched.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Trial {
    pub(super) since: Duration,
    reserved_s: f64,
    /// The pair's usual rate before, and how much it varied by itself as a part of that, from so many seconds.
    before: f64,
    spread: f64,
    count: f64,
    /// What all others had around when it began.
    rest: f64,
    /// It is watched for longer than [`TRIAL`].
    pub(super) is_long: bool,
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

    /// What to think of the link by now; `is_last`: there is no more time.
    pub(super) fn verdict(&self, is_last: bool) -> Verdict {
        let part = self.part_of_before();
        // What the two means, before and now, are uncertain by.
        let uncertain = self.spread * (1.0 / self.count.max(1.0) + 1.0 / self.late.1.max(1.0)).sqrt();
        let allowed = if self.is_long { uncertain.min(ALLOWED_MAX) } else { 0.0 };
        if part >= GOOD_PART - allowed {
            Verdict::Good
        } else if is_last || part < GOOD_PART - CLEARLY * self.spread {
            Verdict::Bad
        } else {
            Verdict::Unclear
        }
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
    /// The seconds since it has been hot.
    recent: Recent,
    /// The same of all others around.
    rest: Recent,
    /// What it had around when its link came up; none before.
    around: Option<f64>,
    hot_since: Option<Duration>,
    /// When there was last as much as makes a link worth keeping.
    used_at: Duration,
    /// Trials that went wrong.
    strikes: u32,
    /// How often it had to give its place away, or had one in vain.
    yields: u32,
    /// When the last of either was.
    blamed_at: Duration,
}

impl Default for Track {
    fn default() -> Self {
        Self {
            rate: 0.0,
            stage: Stage::Off { until: Duration::ZERO },
            recent: Recent::default(),
            rest: Recent::default(),
            around: None,
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
        self.recent.take(bytes, seconds);
        if self.rate >= IDLE_PART * RATE_MIN {
            self.used_at = now;
        }
        if now.saturating_sub(self.blamed_at) > FORGIVEN_AFTER {
            (self.strikes, self.yields) = (0, 0);
        }
        if let Stage::Trial(trial) = &mut self.stage {
            trial.bytes += bytes;
            trial.seconds += seconds;
            if now.saturating_sub(trial.since) > TRIAL / 2 {
                trial.late.0 += bytes;
                trial.late.1 += seconds;
            }
        }
    }

    /// What all others had around meanwhile, in bytes a second.
    pub(super) fn beside(&mut self, step: Duration, rest: f64) {
        let seconds = step.as_secs_f64();
        self.rest.take(rest * seconds, seconds);
    }

    pub(super) fn is_hot(&mut self, now: Duration, hot: bool) {
        if hot && self.hot_since.is_none() {
            // What was before it became hot is not what it is usually.
            self.recent = Recent::default();
        }
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
        lasts && self.recent.is_comparable() && matches!(self.stage, Stage::Off { until } if now >= until)
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

    /// What it carries usually, and never more than that: a burst is no reason to move others.
    pub(super) fn lasting_least(&self) -> f64 {
        self.recent.usual().map_or(self.rate, |usual| usual.min(self.rate))
    }

    /// The same, and never less: a moment's silence is no reason to be moved.
    pub(super) fn lasting_most(&self) -> f64 {
        self.recent.usual().map_or(self.rate, |usual| usual.max(self.rate))
    }

    /// What it would have on the way around as far as that is known: who has a link of his own may say more by it.
    pub(super) fn around(&self) -> f64 {
        match self.around {
            Some(around) if self.stage.has_link() => self.rate.min(around),
            _ => self.rate,
        }
    }

    pub(super) fn ask(&mut self, now: Duration, reserved_s: f64, instead_of: Option<Pair>) {
        self.stage = Stage::Asked { since: now, reserved_s, instead_of };
    }

    /// `rest`: what all others have around.
    pub(super) fn up(&mut self, now: Duration, rest: f64) {
        if let Stage::Asked { reserved_s, .. } = self.stage {
            let before = self.recent.to_hold().unwrap_or(self.rate);
            self.around = Some(before);
            self.stage = Stage::Trial(Trial {
                since: now,
                reserved_s,
                before,
                spread: self.recent.spread().unwrap_or(SPREAD_UNKNOWN).max(SPREAD_MIN),
                count: self.recent.count(),
                rest,
                is_long: false,
                bytes: 0.0,
                seconds: 0.0,
                late: (0.0, 0.0),
            });
        }
    }

    /// What is set aside for a longer trial, if the link is in one that may be longer.
    pub(super) fn lengthen(&mut self, more_s: f64) {
        if let Stage::Trial(trial) = &mut self.stage {
            trial.is_long = true;
            trial.reserved_s += more_s;
        }
    }

    /// The trial went well: gives back what it did not cost.
    pub(super) fn keep(&mut self, now: Duration, rest: f64) -> f64 {
        let back = self.unspent_s();
        let (rate, mut more, mut least_rest) = (self.rate, DOUBT_MORE, rest);
        if let Stage::Trial(trial) = &self.stage {
            // Several links that come at once empty the queues of all: what the others have then for a moment is not what they have.
            least_rest = rest.min(trial.rest).min(self.rest.to_hold().unwrap_or(rest));
            if trial.part_of_before() >= SQUEEZED_PART {
                more = DOUBT_MORE_SQUEEZED;
            }
        }
        self.stage = Stage::On(Held { since: now, rate, more, rest: least_rest, doubt_s: 0.0 });
        self.strikes = 0;
        back
    }

    /// It went wrong: not again for a while.
    pub(super) fn bar(&mut self, now: Duration) -> f64 {
        let back = self.unspent_s();
        let wait = (BARRED_MIN * (1 << self.strikes.min(STRIKES_MAX))).min(BARRED_MAX);
        self.strikes = (self.strikes + 1).min(STRIKES_MAX);
        // Nor does it move another for it so easily.
        self.yields = (self.yields + 1).min(STRIKES_MAX);
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

    /// Whether the link may have become worse than the way around: the pair wants more than what the link proved to carry, or the others have left the way
    /// around to it. `rest`: what all others have around. Where all of them and the pair itself say less, nobody has left.
    ///
    /// Others whose connections share a cable have their ups and downs. What the pair could lose is what they left, so a doubt grows by how much that is, and
    /// goes again while it is nothing.
    pub(super) fn doubtful(&mut self, step: Duration, rest: f64) -> Option<Doubt> {
        let rate = self.rate;
        let Stage::On(held) = &mut self.stage else { return None };
        let (own, others) = (rate / held.rate.max(1.0), rest / held.rest.max(1.0));
        let left = if held.rest > held.rate * REST_PART { own.min(1.0) - others / DOUBT_LESS } else { 0.0 };
        let weight = if own > held.more { 1.0 } else { left };
        // It goes as fast as the gravest grows.
        let weight = if weight > 0.0 { weight } else { -1.0 };
        held.doubt_s = (held.doubt_s + weight * step.as_secs_f64()).max(0.0);
        (weight > 0.0).then_some(Doubt { weight, seconds: held.doubt_s, own, rest: others })
    }

    /// Back to the way around, where it may prove again that a link is better; later each time.
    pub(super) fn doubted(&mut self, now: Duration) {
        self.yields = (self.yields + 1).min(STRIKES_MAX);
        self.blamed_at = now;
        self.stage = Stage::Off { until: now + HOLD_MIN * (1 << self.yields.min(5)) / 2 };
    }

    /// A hotter pair takes its place.
    pub(super) fn yielded(&mut self, now: Duration) -> f64 {
        let back = self.unspent_s();
        self.yields = (self.yields + 1).min(STRIKES_MAX);
        self.blamed_at = now;
        self.stage = Stage::Off { until: now + HOLD_MIN * (1 << self.yields.min(5)) };
        back
    }

    fn unspent_s(&self) -> f64 {
        match &self.stage {
            Stage::Asked { reserved_s, .. } => *reserved_s,
            Stage::Trial(trial) => trial.reserved_s - trial.cost_s(),
            Stage::Off { .. } | Stage::On(_) => 0.0,
        }
    }
}
