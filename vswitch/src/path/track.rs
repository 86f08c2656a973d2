//! One way to one peer: what was sent on it, what came back, and how good it is.
//!
//! ```text
//!            wanted                    a probe answered, or sealed data
//!  untried ─────────▶ burst of probes ─────────────────────────────────▶ alive
//!                        ▲    │ none answered                              │ MISSES_MAX probes in a row missed
//!                        │    ▼                                            ▼
//!                        └─ unanswered ◀───────────────────────────────────┘     (wanted again, or a probe came by it: burst)
//! ```

use std::{
    collections::VecDeque,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{
    candidate::CandidateKind,
    schedule::{Burst, Manner},
    via::{Origin, Via},
    view::{PathResult, PathView, TriedPath},
};
use crate::HostId;

/// Probes in a row without an answer after which a path that worked does not any more.
const MISSES_MAX: u32 = 3;
/// Until a probe counts as missed, at least: twice the round trip on most paths.
const WAIT_MIN: Duration = Duration::from_millis(150);
/// The same for a path whose round trip is not known.
const WAIT_FIRST: Duration = Duration::from_secs(1);
/// Answers that come later than this are not waited for: longer than any usual round trip.
const KEPT: Duration = Duration::from_secs(4);
/// Probes of one path that may still be answered.
const ASKED_MAX: usize = 12;
/// After so long without a datagram the NATs on the way may have forgotten it: shorter than any of them takes.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(15);

/// How a way is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The peer's node told it.
    Candidate(CandidateKind),
    /// A datagram of the peer's came from there.
    Heard,
    /// Through a relay; the cost is added where paths are compared.
    Relay { relay: HostId, cost: Duration },
}

/// What a probe waits for.
#[derive(Debug, Clone, Copy)]
struct Asked {
    serial: u64,
    at: Instant,
    missed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Untried,
    Burst(Burst),
    Alive,
    Unanswered,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) kind: Kind,
    pub(super) via: Via,
    pub(super) origin: Origin,
    phase: Phase,
    asked: VecDeque<Asked>,
    missed: u32,
    round_trip: Option<Duration>,
    answers: u32,
    loss: f32,
    heard: Option<Instant>,
    /// The peer's probe came by it since it last failed.
    arrives: bool,
    answered: Option<Instant>,
    sent: u32,
    last_sent: Option<Instant>,
}

impl Track {
    pub(super) fn new(kind: Kind, via: Via, origin: Origin) -> Self {
        Self {
            kind,
            via,
            origin,
            phase: Phase::Untried,
            asked: VecDeque::new(),
            missed: 0,
            round_trip: None,
            answers: 0,
            loss: 0.0,
            heard: None,
            arrives: false,
            answered: None,
            sent: 0,
            last_sent: None,
        }
    }

    pub(super) fn alive(&self) -> bool {
        self.phase == Phase::Alive
    }

    pub(super) fn direct(&self) -> bool {
        !matches!(self.kind, Kind::Relay { .. })
    }

    /// Whether what comes by it is the peer's: it works, or the peer's own probe came and the way back is being tried.
    pub(super) fn is_peers(&self) -> bool {
        self.alive() || self.arrives && self.is_being_tried()
    }

    /// Whether it leads to an IPv4 address of the wide network.
    pub(super) fn is_wide(&self) -> bool {
        match self.via.address.ip() {
            IpAddr::V4(ip) => !ip.is_private() && !ip.is_loopback() && !ip.is_link_local(),
            IpAddr::V6(_) => false,
        }
    }

    /// Whether both ends must probe at once: a probe that comes alone may do harm.
    pub(super) fn needs_meeting(&self) -> bool {
        self.kind == Kind::Candidate(CandidateKind::Observed)
    }

    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    pub(super) fn loss(&self) -> f32 {
        self.loss
    }

    /// Probes answered.
    pub(super) fn answers(&self) -> u32 {
        self.answers
    }

    pub(super) fn heard_at(&self) -> Option<Instant> {
        self.heard
    }

    /// When a probe was last answered: it worked both ways.
    pub(super) fn answered_at(&self) -> Option<Instant> {
        self.answered
    }

    pub(super) fn last_sent(&self) -> Option<Instant> {
        self.last_sent
    }

    /// Begins to probe, unless it works or is being probed. `manner`: how it is done where the way leads through the wide network.
    pub(super) fn start(&mut self, now: Instant, manner: Manner) {
        if matches!(self.phase, Phase::Untried | Phase::Unanswered) {
            self.restart(now, manner);
        }
    }

    /// Begins to probe anew, whatever was known.
    pub(super) fn restart(&mut self, now: Instant, manner: Manner) {
        let is_gentle = !matches!(
            self.kind,
            Kind::Candidate(CandidateKind::Local | CandidateKind::Stream) | Kind::Heard | Kind::Relay { .. }
        );
        let is_open = self.heard.is_some_and(|heard| now < heard + FORGOTTEN_AFTER);
        let manner = if is_gentle && !is_open { manner } else { Manner::Plain };
        self.phase = Phase::Burst(Burst::new(now, manner));
    }

    /// Whether probes are under way, and none was answered.
    pub(super) fn is_being_tried(&self) -> bool {
        matches!(self.phase, Phase::Burst(_))
    }

    /// Whether [`Self::take_due`] has something.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        matches!(&self.phase, Phase::Burst(burst) if burst.next_at().is_some_and(|at| at <= now))
    }

    /// The burst's probe that is due, if one is: how many hops it lives.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Option<u8>> {
        match &mut self.phase {
            Phase::Burst(burst) => burst.take(now),
            _ => None,
        }
    }

    /// When something is to be sent or counted as missed.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let burst = match &self.phase {
            Phase::Burst(burst) => burst.next_at(),
            _ => None,
        };
        let wait = self.wait();
        let overdue = self.asked.iter().find(|asked| !asked.missed).map(|asked| asked.at + wait);
        burst.into_iter().chain(overdue).min()
    }

    /// A probe goes out.
    pub(super) fn sent(&mut self, now: Instant, serial: u64) {
        if self.asked.len() == ASKED_MAX {
            self.asked.pop_front();
        }
        self.asked.push_back(Asked { serial, at: now, missed: false });
        self.sent = self.sent.saturating_add(1);
        self.last_sent = Some(now);
    }

    fn wait(&self) -> Duration {
        self.round_trip.map_or(WAIT_FIRST, |rtt| (rtt * 2).max(WAIT_MIN))
    }

    /// Whether this probe was sent on this path and not answered yet.
    pub(super) fn waits_for(&self, serial: u64) -> bool {
        self.asked.iter().any(|asked| asked.serial == serial)
    }

    /// A probe was answered: the path works. False if it was not asked for.
    pub(super) fn answered(&mut self, now: Instant, serial: u64) -> bool {
        let Some(place) = self.asked.iter().position(|asked| asked.serial == serial) else { return false };
        let Some(asked) = self.asked.remove(place) else { return false };
        self.sample(now.saturating_duration_since(asked.at));
        if !asked.missed {
            self.count(false);
        }
        self.answers = self.answers.saturating_add(1);
        self.answered = Some(now);
        self.heard(now);
        true
    }

    /// Something of the peer's that proves itself came this way, or an answer that proves the way out too.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = Some(now);
        self.missed = 0;
        if !self.alive() {
            // What was sent before the way was open, or with few hops to live, says nothing of it.
            self.asked.iter_mut().for_each(|asked| asked.missed = true);
        }
        self.phase = Phase::Alive;
    }

    /// Only towards us is it proved to work.
    pub(super) fn arrived(&mut self, now: Instant) {
        self.heard = Some(now);
        self.arrives = true;
    }

    /// A round trip measured inside the session that goes this way.
    pub(super) fn sample(&mut self, sample: Duration) {
        self.round_trip = Some(self.round_trip.map_or(sample, |old| (old * 7 + sample) / 8));
    }

    /// Counts what was not answered in time; true if the path is dead by it.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let wait = self.wait();
        self.asked.retain(|asked| asked.at + KEPT > now);
        let overdue = |asked: &&mut Asked| !asked.missed && asked.at + wait <= now;
        let missed = self.asked.iter_mut().filter(overdue).map(|asked| asked.missed = true).count();
        for _ in 0..missed {
            self.missed += 1;
            // Before the first answer the way was not open, and once so many are missed it is broken: neither is a loss of it. One that was cut off by a move
            // would else be taken for lossy when it is found again, and nothing would be sent on it that could show otherwise.
            if self.answers > 0 && self.alive() && self.missed <= MISSES_MAX {
                self.count(true);
            }
        }
        match self.phase {
            Phase::Alive if self.missed >= MISSES_MAX => {
                self.give_up();
                true
            }
            Phase::Burst(burst)
                if burst.next_at().is_none() && self.asked.iter().all(|asked| asked.missed) =>
            {
                self.give_up();
                false
            }
            _ => false,
        }
    }

    /// It is taken for dead without waiting for more probes.
    pub(super) fn give_up(&mut self) {
        self.arrives = false;
        self.phase = Phase::Unanswered;
    }

    fn count(&mut self, missed: bool) {
        let sample = if missed { 1.0 } else { 0.0 };
        self.loss += (sample - self.loss) / 8.0;
    }

    pub(super) fn view(&self) -> PathView {
        match self.kind {
            Kind::Candidate(kind) => PathView::Direct { address: self.via.address, kind: Some(kind) },
            Kind::Heard => PathView::Direct { address: self.via.address, kind: None },
            Kind::Relay { relay, .. } => PathView::Relay { relay, address: self.via.address },
        }
    }

    pub(super) fn tried(&self, now: Instant) -> TriedPath {
        let millis = |since: Duration| u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        TriedPath {
            path: self.view(),
            result: match self.phase {
                Phase::Untried => PathResult::Untried,
                Phase::Burst(_) => PathResult::Probing,
                Phase::Alive => PathResult::Alive,
                Phase::Unanswered => PathResult::Unanswered,
            },
            round_trip_micros: self.round_trip.map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
            loss: self.loss,
            heard_millis_ago: self.heard.map(|heard| millis(now.saturating_duration_since(heard))),
            probes: self.sent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn track() -> Track {
        let address = "192.0.2.1:9".parse().unwrap();
        Track::new(Kind::Candidate(CandidateKind::Observed), Via::direct(address), Origin::direct(address))
    }

    #[test]
    fn an_answer_makes_a_path_alive_and_misses_in_a_row_end_it() {
        let now = testing::now();
        let mut track = track();
        track.start(now, Manner::Gentle { in_vain: 0 });
        assert_eq!(track.take_due(now), Some(Some(super::super::schedule::FEW_HOPS)));
        track.sent(now, 1);
        assert!(!track.answered(now, 2), "not asked");
        let after = now + Duration::from_millis(40);
        assert!(track.answered(after, 1) && track.alive());
        assert!(!track.answered(after, 1), "an answer counts once");
        assert_eq!(track.round_trip(), Some(Duration::from_millis(40)));
        let mut at = after;
        for serial in 2..5 {
            track.sent(at, serial);
            at += WAIT_MIN;
            assert_eq!(track.expire(at), serial == 4);
        }
        assert!(!track.alive() && track.loss() > 0.2);
    }

    #[test]
    fn probes_that_opened_the_way_do_not_count_against_it() {
        let mut now = testing::now();
        let mut track = track();
        track.start(now, Manner::Gentle { in_vain: 0 });
        let mut sent = 0;
        while sent < 4 {
            now = track.next_at().unwrap();
            sent += u64::from(track.take_due(now).is_some());
            track.sent(now, sent);
        }
        now += Duration::from_millis(40);
        assert!(track.answered(now, 4), "the first that lives long enough");
        assert!(!track.expire(now + WAIT_MIN), "three that died on the way are no reason to give up");
        assert!(track.alive() && track.loss() == 0.0);
    }

    #[test]
    fn a_way_that_was_silent_for_long_is_opened_gently_again() {
        let now = testing::now();
        let mut track = track();
        let gentle = Manner::Gentle { in_vain: 0 };
        track.arrived(now);
        for (after, hops) in [(1, None), (15, Some(super::super::schedule::FEW_HOPS))] {
            let at = now + Duration::from_secs(after);
            track.restart(at, gentle);
            assert_eq!(track.take_due(at), Some(hops));
        }
    }

    #[test]
    fn a_way_that_opens_late_has_lost_nothing() {
        let now = testing::now();
        let mut track = track();
        track.start(now, Manner::Gentle { in_vain: 0 });
        (1..=8).for_each(|serial| track.sent(now, serial));
        let after = now + WAIT_FIRST;
        track.expire(after);
        track.sent(after, 9);
        assert!(track.answered(after, 9) && track.loss() == 0.0);
    }

    /// Who moved had probed his peer's address in vain until the way was open again; then it was "lossy", and the relay was kept though it answered.
    #[test]
    fn a_way_that_was_broken_is_not_lossy_when_it_is_found_again() {
        let mut now = testing::now();
        let mut track = track();
        let mut serial = 0;
        let mut probe = |track: &mut Track, now, answered| {
            serial += 1;
            track.sent(now, serial);
            if answered {
                assert!(track.answered(now, serial));
            }
        };
        track.start(now, Manner::Gentle { in_vain: 0 });
        probe(&mut track, now, true);
        (0..8).for_each(|_| probe(&mut track, now, false));
        now += WAIT_MIN;
        assert!(track.expire(now), "all at once");
        for _ in 0..9 {
            track.restart(now, Manner::Plain);
            probe(&mut track, now, false);
            now += WAIT_FIRST;
            track.expire(now);
        }
        probe(&mut track, now, true);
        assert!(track.alive() && track.loss() < 0.35, "{}", track.loss());
    }

    #[test]
    fn a_way_that_loses_half_is_lossy_also_after_it_died_of_it() {
        let mut now = testing::now();
        let mut track = track();
        track.start(now, Manner::Gentle { in_vain: 0 });
        for serial in 0..60 {
            track.sent(now, serial);
            if serial % 2 == 0 && serial < 54 {
                track.answered(now, serial);
            }
            now += WAIT_MIN;
            track.expire(now);
        }
        assert!(!track.alive());
        track.sent(now, 60);
        track.answered(now, 60);
        assert!(track.alive() && track.loss() > 0.4, "{}", track.loss());
    }

    #[test]
    fn a_late_answer_still_counts() {
        let now = testing::now();
        let mut track = track();
        track.start(now, Manner::Gentle { in_vain: 0 });
        track.take_due(now);
        track.sent(now, 1);
        track.expire(now + WAIT_FIRST);
        assert!(track.answered(now + Duration::from_secs(2), 1));
        assert_eq!(track.round_trip(), Some(Duration::from_secs(2)));
    }

    #[test]
    fn a_burst_without_an_answer_ends_and_may_begin_again() {
        let mut now = testing::now();
        let mut track = track();
        track.start(now, Manner::Gentle { in_vain: 0 });
        let mut sent = 0;
        while let Some(at) = track.next_at() {
            now = now.max(at);
            while track.take_due(now).is_some() {
                sent += 1;
                track.sent(now, sent);
            }
            track.expire(now);
        }
        assert_eq!(sent, 9);
        assert_eq!(track.tried(now).result, PathResult::Unanswered);
        track.start(now, Manner::Gentle { in_vain: 0 });
        assert_eq!(track.tried(now).result, PathResult::Probing);
    }
}
