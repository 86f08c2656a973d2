//! Links that follow the traffic, where the topology leaves them out (as VNET's VTTIF did).
//!
//! In: how much went between hosts since the last time, by the switches' own counters; which links the operator lets be added; the time. Out:
//! links to add and to drop. Refuses to know: sockets, what the traffic is, and how a link is made.
//!
//! ```text
//!                hot for `after`, credit enough            up            no worse after TRIAL
//!    Off ─────────────────────────────────────▶ Asked ───────────▶ Trial ───────────────────▶ On
//!     ▲  barred a while, longer each time         │ failed            │ worse                  │ idle for `drop`,
//!     └───────────────────────────────────────────┴───────────────────┴────────────────────────┘ or a hotter one needs its place
//! ```
//! - *Profit* of a link is the pair's rate times what the direct link saves of the route's cost. Only pairs that carry [`SHARE_MIN`] of all traffic and
//!   [`RATE_MIN`] are looked at: the rest is not worth a handshake.
//! - *Never much worse than leaving it alone*: each trial is paid from a credit in seconds of all traffic, which starts with [`CREDIT_MAX_S`] and grows by
//!   [`CREDIT_PER_S`] of a second each second. A trial sets aside the worst it can cost before it begins, and gives back what it did not; so in any time
//!   `t` trials that go wrong cost at most `CREDIT_MAX_S + CREDIT_PER_S * t`: under 2 % of ten minutes. A pair whose trial went wrong is barred, twice as
//!   long each time.
//! - What was tried is what is kept: when the pair wants much more than at its trial, or the others have left the way around to it, the link goes and has to
//!   prove itself anew. Back on the way around is never worse than leaving it alone. Who has a link of his own counts among the others with what he had
//!   around: what he says more by it, he does not say less when his queue is empty.
//! - *Ups and downs are no leaving*: a doubt is weighed by how much the others have left, and goes again while they have not. So it takes as long as what could
//!   be lost by it is little, and the whole of it is bounded, and paid.
//! - *Only what is steady is compared*: a pair's rate moves when others get links, too, and its queue empties itself. So a pair is tried when its seconds are
//!   alike, or have differed for long enough to tell by how much they do; a trial that is short of less than that is longer.
//! - *No flapping*: traffic has to last before a link is added and to be gone long before it is dropped; a place is taken from another link only by a pair
//!   with `MOVE_FACTOR` times its profit, not before `HOLD_MIN` and not before the other end has agreed, and each pair that comes back after it had to yield has to wait and to be hotter twofold.
//!
//! Sources: Sundararaj, Gupta, Dinda 2005, for inference from traffic and greedy adaptation; the bounds are this crate's own.

mod action;
#[cfg(test)]
mod crowd;
mod pair;
pub mod pattern;
mod recent;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p_identity::PeerId as HostId;

use super::model::{Adaptation, Pair, Topology};
use super::routes::State;
pub use action::{Action, Why};
use pair::{Stage, Track, Verdict};

/// Below so many bytes a second (1 Mbit/s), a pair is not worth a link of its own.
pub const RATE_MIN: f64 = 125_000.0;
/// Below this part of all traffic, neither.
pub const SHARE_MIN: f64 = 0.05;
/// How long a new link is watched. Longer costs more where it is worse; shorter takes the change of path itself for its effect.
pub const TRIAL: Duration = Duration::from_secs(2);
/// How long, if the pair's rate varies by itself by more than it is short of.
const TRIAL_LONG: Duration = Duration::from_secs(8);
/// A link is kept if the pair's rate is at least this part of what it was.
const GOOD_PART: f64 = 0.98;
/// A trial whose rate is below this part after half of its time ends at once.
const HOPELESS_PART: f64 = 0.5;
/// How long a link that was asked for may take to come up.
const UP_WITHIN: Duration = Duration::from_secs(10);
/// Seconds of all traffic that trials may cost at first, and that can be saved up.
pub const CREDIT_MAX_S: f64 = 4.0;
/// How much of each second is saved up.
pub const CREDIT_PER_S: f64 = 0.01;
/// What makes a link doubtful has to last for so many seconds, longer the less it is: a connection that waits for its timer, or a host that is busy for a moment,
/// does not. What that may cost is paid, too; without credit for it the link goes at once.
const DOUBT_LASTS_S: f64 = 2.0;
/// How much more a pair must profit to take another's place.
const MOVE_FACTOR: f64 = 1.5;
/// How long a link keeps its place at least.
const HOLD_MIN: Duration = Duration::from_secs(10);
/// For how long a pair is barred after its first trial went wrong, and at most.
const BARRED_MIN: Duration = Duration::from_secs(30);
const BARRED_MAX: Duration = Duration::from_secs(3_600);
/// Most pairs that are followed: those with the most traffic. A slice of 128 hosts has some thousand.
pub const PAIRS_MAX: usize = 4_096;
/// Two observations nearer than this tell nothing of a rate.
const STEP_MIN: Duration = Duration::from_millis(10);

/// Follows the traffic of one slice, or of one host's part of it.
#[derive(Debug)]
pub struct Adapter {
    limits: Adaptation,
    tracks: BTreeMap<Pair, Track>,
    seen_at: Duration,
    credit_s: f64,
    /// Bytes a second of all pairs, smoothed as each of them.
    total: f64,
}

impl Adapter {
    /// Nothing was seen yet.
    #[must_use]
    pub fn new(limits: Adaptation, now: Duration) -> Self {
        Self { limits, tracks: BTreeMap::new(), seen_at: now, credit_s: CREDIT_MAX_S, total: 0.0 }
    }

    /// The links that adaptation has or is making.
    #[must_use]
    pub fn added(&self) -> BTreeSet<Pair> {
        self.tracks.iter().filter(|(_, track)| track.stage.has_link()).map(|(pair, _)| *pair).collect()
    }

    /// Seconds of all traffic that trials may still cost.
    #[must_use]
    pub fn credit_s(&self) -> f64 {
        self.credit_s
    }

    /// A link that was asked for stands.
    pub fn up(&mut self, pair: Pair, now: Duration) {
        let rest = self.around() - self.tracks.get(&pair).map_or(0.0, Track::around);
        if let Some(track) = self.tracks.get_mut(&pair) {
            track.up(now, rest);
        }
    }

    /// A link that was asked for could not be made, or broke.
    pub fn failed(&mut self, pair: Pair, now: Duration) {
        if let Some(track) = self.tracks.get_mut(&pair)
            && track.stage.has_link()
        {
            self.credit_s += track.bar(now);
        }
    }

    /// The other end wants a link of the pair: whether there is room for it here, too. Its trial is paid from here as well as from there.
    pub fn accept(&mut self, pair: Pair, now: Duration, topology: &Topology, state: &State) -> bool {
        let Some(track) = self.tracks.get(&pair) else { return false };
        if track.stage.has_link() {
            return true;
        }
        let worst_s = TRIAL.as_secs_f64() * track.rate / self.total.max(1.0);
        let profit = track.rate * saving(topology, state, pair);
        let is_worth_it = track.is_free(now)
            && track.rate >= RATE_MIN
            && carries(topology, pair, track.rate)
            && profit > 0.0
            && self.credit_s >= worst_s;
        if !is_worth_it || self.place_for(now, pair, profit, topology, state) != Some(None) {
            return false;
        }
        self.credit_s -= worst_s;
        if let Some(track) = self.tracks.get_mut(&pair) {
            track.ask(now, worst_s, None);
        }
        true
    }

    /// The other end has a place for a link that was asked for, or asked for it, too: whoever had to yield to it here goes now, and not before.
    pub fn agreed(&mut self, pair: Pair, now: Duration) -> Option<Action> {
        let Stage::Asked { instead_of, .. } = &mut self.tracks.get_mut(&pair)?.stage else { return None };
        let yielding = instead_of.take()?;
        let track = self.tracks.get_mut(&yielding).filter(|track| track.stage.has_link())?;
        self.credit_s = (self.credit_s + track.yielded(now)).min(CREDIT_MAX_S);
        Some(Action::Drop(yielding, Why::Yielded))
    }

    /// The other end has no room for a link that was asked for: its place is free, and it may be asked for again after a while.
    pub fn declined(&mut self, pair: Pair, now: Duration) {
        if let Some(track) = self.tracks.get_mut(&pair)
            && matches!(track.stage, Stage::Asked { .. })
        {
            self.credit_s = (self.credit_s + track.release(now)).min(CREDIT_MAX_S);
        }
    }

    /// The other end has given a link up.
    pub fn gone(&mut self, pair: Pair, now: Duration) {
        if let Some(track) = self.tracks.get_mut(&pair)
            && track.stage.has_link()
        {
            self.credit_s = (self.credit_s + track.release(now)).min(CREDIT_MAX_S);
        }
    }

    /// Takes what went between hosts since the last time, and says what to do about it.
    pub fn observe(
        &mut self,
        now: Duration,
        bytes: &BTreeMap<Pair, u64>,
        topology: &Topology,
        state: &State,
    ) -> Vec<Action> {
        let step = now.saturating_sub(self.seen_at);
        if step < STEP_MIN {
            return Vec::new();
        }
        self.seen_at = now;
        self.credit_s = (self.credit_s + CREDIT_PER_S * step.as_secs_f64()).min(CREDIT_MAX_S);
        self.measure(now, step, bytes);
        let mut actions = self.settle(now);
        self.drop_idle(now, step, topology, &mut actions);
        self.add_hot(now, topology, state, &mut actions);
        actions
    }

    fn measure(&mut self, now: Duration, step: Duration, bytes: &BTreeMap<Pair, u64>) {
        for pair in bytes.keys() {
            if self.tracks.len() < PAIRS_MAX || self.make_room() {
                self.tracks.entry(*pair).or_default();
            }
        }
        for (pair, track) in &mut self.tracks {
            track.measure(now, step, bytes.get(pair).copied().unwrap_or(0));
        }
        self.total = self.tracks.values().map(|track| track.rate).sum();
        let (share, total, around) = (SHARE_MIN, self.total, self.around());
        for track in self.tracks.values_mut() {
            track.beside(step, around - track.around());
            track.is_hot(now, track.rate >= RATE_MIN && track.rate >= share * total);
        }
        self.tracks.retain(|_, track| !track.is_forgotten(now));
    }

    /// The one with the least traffic and no link goes.
    fn make_room(&mut self) -> bool {
        let idle = self.tracks.iter().filter(|(_, track)| !track.stage.has_link());
        let least = idle.min_by(|(_, a), (_, b)| a.rate.total_cmp(&b.rate)).map(|(pair, _)| *pair);
        least.is_some_and(|pair| self.tracks.remove(&pair).is_some())
    }

    /// What all pairs have on the way around, as far as that is known.
    fn around(&self) -> f64 {
        self.tracks.values().map(Track::around).sum()
    }

    /// Ends trials, well or not, and asks that led to nothing.
    fn settle(&mut self, now: Duration) -> Vec<Action> {
        let (mut actions, around) = (Vec::new(), self.around());
        for (pair, track) in &mut self.tracks {
            let (verdict, age, is_long, percent) = match &track.stage {
                Stage::Asked { since, .. } if now.saturating_sub(*since) > UP_WITHIN => {
                    self.credit_s += track.bar(now);
                    actions.push(Action::Drop(*pair, Why::NotUp));
                    continue;
                }
                Stage::Trial(trial) => {
                    let age = now.saturating_sub(trial.since);
                    let hopeless = age >= TRIAL / 2 && trial.part_of_before() < HOPELESS_PART;
                    let verdict = if hopeless { Verdict::Bad } else { trial.verdict(age >= TRIAL_LONG) };
                    (
                        verdict,
                        if hopeless { TRIAL } else { age },
                        trial.is_long,
                        percent(trial.part_of_before()),
                    )
                }
                _ => continue,
            };
            // Two looks: the more there are, the more often chance finds a worse link good.
            if age < TRIAL || (is_long && age < TRIAL_LONG && verdict != Verdict::Bad) {
                continue;
            }
            match verdict {
                Verdict::Good => self.credit_s += track.keep(now, around - track.around()),
                Verdict::Unclear => {
                    // What it is short of is less than half, or it would be clear.
                    let longer = (TRIAL_LONG - TRIAL).as_secs_f64() / 2.0;
                    let more_s = longer * track.rate / self.total.max(1.0);
                    if self.credit_s >= more_s {
                        self.credit_s -= more_s;
                        track.lengthen(more_s);
                    } else {
                        self.credit_s += track.bar(now);
                        actions.push(Action::Drop(*pair, Why::Worse { percent }));
                    }
                }
                Verdict::Bad => {
                    self.credit_s += track.bar(now);
                    actions.push(Action::Drop(*pair, Why::Worse { percent }));
                }
            }
        }
        self.credit_s = self.credit_s.min(CREDIT_MAX_S);
        actions
    }

    fn drop_idle(&mut self, now: Duration, step: Duration, topology: &Topology, actions: &mut Vec<Action>) {
        let (drop, around) = (self.limits.drop, self.around());
        // One second of doubts, of however many pairs, costs no more than all traffic of that second: the gravest is paid.
        let mut paid_s = 0.0;
        for (pair, track) in &mut self.tracks {
            let [a, b] = pair.hosts();
            let idle = matches!(track.stage, Stage::On(_)) && track.idle_for(now) >= drop;
            if let Some(doubt) = track.doubtful(step, around - track.around())
                && !idle
            {
                let more_s = (doubt.weight * step.as_secs_f64() - paid_s).max(0.0);
                let paid = self.credit_s >= more_s;
                if paid {
                    self.credit_s -= more_s;
                    paid_s += more_s;
                }
                if !paid || doubt.seconds >= DOUBT_LASTS_S {
                    track.doubted(now);
                    let (own_percent, rest_percent) = (percent(doubt.own), percent(doubt.rest));
                    actions.push(Action::Drop(*pair, Why::Changed { own_percent, rest_percent }));
                    continue;
                }
            }
            // The operator may have changed his mind.
            let unwanted = track.stage.has_link() && !topology.may_add(a, b);
            if idle || unwanted {
                self.credit_s = (self.credit_s + track.release(now)).min(CREDIT_MAX_S);
                let why = if unwanted { Why::NotAllowed } else { Why::Idle };
                actions.push(Action::Drop(*pair, why));
            }
        }
    }

    fn add_hot(&mut self, now: Duration, topology: &Topology, state: &State, actions: &mut Vec<Action>) {
        let mut hot: Vec<(Pair, f64)> = self
            .tracks
            .iter()
            .filter(|(_, track)| track.may_be_asked(now, self.limits.after))
            .filter(|(pair, track)| carries(topology, **pair, track.rate))
            .map(|(pair, track)| (*pair, track.lasting_least() * saving(topology, state, *pair)))
            .filter(|(_, profit)| *profit > 0.0)
            .collect();
        hot.sort_by(|(a, x), (b, y)| y.total_cmp(x).then(a.cmp(b)));
        for (pair, profit) in hot {
            let worst_s = TRIAL.as_secs_f64() * self.tracks[&pair].rate / self.total.max(1.0);
            if self.credit_s < worst_s {
                break;
            }
            let Some(instead_of) = self.place_for(now, pair, profit, topology, state) else { continue };
            self.credit_s -= worst_s;
            if let Some(track) = self.tracks.get_mut(&pair) {
                track.ask(now, worst_s, instead_of);
            }
            actions.push(Action::Add(pair));
        }
    }

    /// Whether there is room for a link of `pair`, and whose place it takes.
    fn place_for(
        &self,
        now: Duration,
        pair: Pair,
        profit: f64,
        topology: &Topology,
        state: &State,
    ) -> Option<Option<Pair>> {
        // Who waits for another's place has none of its own before that one goes.
        let yielding = |track: &Track| match track.stage {
            Stage::Asked { instead_of: Some(held), .. } => {
                self.tracks.get(&held).is_some_and(|track| track.stage.has_link()).then_some(held)
            }
            _ => None,
        };
        let promised: BTreeSet<Pair> = self.tracks.values().filter_map(yielding).collect();
        let links_of = |host: HostId| {
            self.tracks.iter().filter(move |(held, track)| {
                track.stage.has_link() && yielding(track).is_none() && held.has(host)
            })
        };
        let full: Vec<HostId> = pair
            .hosts()
            .into_iter()
            .filter(|host| links_of(*host).count() >= self.limits.links_per_host_max)
            .collect();
        if full.is_empty() {
            return Some(None);
        }
        let factor = self.tracks.get(&pair).map_or(1.0, Track::eagerness_needed) * MOVE_FACTOR;
        let candidates = links_of(full[0]).filter(|(held, _)| full.iter().all(|host| held.has(*host)));
        let movable = candidates.filter(|(held, track)| {
            !promised.contains(held) && track.held_for(now).is_some_and(|held| held >= HOLD_MIN)
        });
        movable
            .map(|(held, track)| (*held, track.lasting_most() * saving(topology, state, *held)))
            .min_by(|(_, x), (_, y)| x.total_cmp(y))
            .filter(|(_, least)| profit > factor * least)
            .map(|(held, _)| Some(held))
    }
}

/// Whether the operator lets a direct link carry what goes between the two now: one that carries less is no gain, and need not be tried.
#[expect(
    clippy::cast_precision_loss,
    reason = "rates of links are far below where a double loses what matters"
)]
fn carries(topology: &Topology, pair: Pair, bytes_per_s: f64) -> bool {
    let [a, b] = pair.hosts();
    topology.rate(a, b).is_none_or(|rate| rate.0 as f64 >= bytes_per_s * 8.0)
}

/// Hundredths, for those who read it.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what is beyond reads as the most there is"
)]
fn percent(part: f64) -> u32 {
    (part * 100.0).round() as u32
}

/// Which part of the way's cost a direct link saves; 0 where none may be.
fn saving(topology: &Topology, state: &State, pair: Pair) -> f64 {
    let [a, b] = pair.hosts();
    if !topology.may_add(a, b) {
        return 0.0;
    }
    let direct = f64::from(topology.cost(a, b));
    let around = topology.routes(a, b, state).into_iter().find(|route| !route.is_direct());
    // Where there is no way around, the direct link is everything.
    around.map_or(1.0, |route| ((f64::from(route.cost) - direct) / f64::from(route.cost)).max(0.0))
}
