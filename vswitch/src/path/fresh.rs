//! A fresh port: another socket, and what members see of it. One at a time.
//!
//! It serves two ends.
//! - **Which ports come next.** A NAT that gives each destination another port keeps those it gave to the members that were asked long ago; where its sequence has got to
//!   only a new mapping tells. So a host behind such a NAT asks from a new socket whenever it wants to meet somebody, and tells the answer with its candidates.
//! - **A way that nobody has spoiled.** Where a probe came too early, the NAT has taken it for its own and keeps the pair of ports for as long as anything moves on it
//!   ([`super::schedule`]): probing on never frees it. What goes between other ports is another pair. So the end with the lesser key (or the one that has a NAT) opens
//!   another socket, is told by members how that one is seen, and names it beside its other candidates; that makes the two meet again, and from the new socket
//!   begins another gentle round, with twice the pause.
//!
//! # Bounds
//! One socket at a time for at most [`KEPT_MAX`], unless a way over it works; [`QUICK_MAX`] tries for one peer, and then one after [`AGAIN`], doubled each time. Every
//! mapping counts among those of port searches.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{nat::NatKind, via::SocketId};
use crate::switch::PeerIndex;

/// How long members have to answer.
const ANSWER_MAX: Duration = Duration::from_millis(800);
/// How long a named port is tried: a meeting, the longest pause and the probes after it.
const KEPT_MAX: Duration = Duration::from_secs(12);
/// The candidate is withdrawn so long after a direct path is there: the peer's end must have chosen it, too.
const SETTLED: Duration = Duration::from_secs(2);
/// After a meeting, until its probes count as in vain, beside the pause before they go the whole way: two long round trips.
pub(super) const IN_VAIN_AFTER: Duration = Duration::from_millis(1_600);
/// How often another port is tried for one peer without a rest: each has twice the pause of the one before.
pub(super) const QUICK_MAX: u32 = 5;
/// Then, until the next; doubled each time up to an hour.
const AGAIN: Duration = Duration::from_secs(60);
/// Between two looks at where a NAT's sequence is.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To learn which ports come next.
    Ports,
    /// A way to this peer.
    Way(PeerIndex),
}

#[derive(Debug)]
struct Question {
    serial: u64,
    asked: SocketAddr,
    seen: Option<SocketAddr>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) purpose: Purpose,
    pub(super) socket: SocketId,
    questions: Vec<Question>,
    ends: Instant,
}

impl Fresh {
    pub(super) fn new(now: Instant, purpose: Purpose, socket: SocketId) -> Self {
        Self { purpose, socket, questions: Vec::new(), ends: now + ANSWER_MAX }
    }

    pub(super) fn asks(&mut self, serial: u64, asked: SocketAddr) {
        self.questions.push(Question { serial, asked, seen: None });
    }

    /// Whether anybody was asked.
    pub(super) fn has_asked(&self) -> bool {
        !self.questions.is_empty()
    }

    /// Whether this is an answer to one of its questions.
    pub(super) fn takes(&mut self, now: Instant, serial: u64, from: SocketAddr, seen: SocketAddr) -> bool {
        let is_asked = |question: &&mut Question| question.serial == serial && question.asked == from;
        let Some(question) = self.questions.iter_mut().find(is_asked) else { return false };
        question.seen = Some(seen);
        self.ends = match self.purpose {
            Purpose::Way(_) => self.ends.max(now + KEPT_MAX),
            Purpose::Ports if self.questions.iter().all(|question| question.seen.is_some()) => now,
            Purpose::Ports => self.ends,
        };
        true
    }

    /// What members saw, in the order in which they were asked.
    pub(super) fn seen(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.questions.iter().filter_map(|question| question.seen)
    }

    /// A direct path is there.
    pub(super) fn settled(&mut self, now: Instant) {
        self.ends = self.ends.min(now + SETTLED);
    }

    pub(super) fn ends(&self) -> Instant {
        self.ends
    }
}

/// Whether a host behind `own` opens a fresh port towards one behind `theirs`: some end has a NAT, and none depends on who asks.
pub(super) fn may_be_spoiled(own: NatKind, theirs: NatKind) -> bool {
    use NatKind::{EndpointIndependent, None};
    matches!((own, theirs), (EndpointIndependent, None | EndpointIndependent) | (None, EndpointIndependent))
}

/// What was tried for one peer so far.
#[derive(Debug, Default)]
pub(super) struct InVain {
    /// When the round of probes under way counts as in vain.
    at: Option<Instant>,
    rounds: u32,
    /// When the last fresh port was opened.
    last: Option<Instant>,
}

impl InVain {
    /// A round of probes begins.
    pub(super) fn met(&mut self, now: Instant) {
        let most_is_over = |at: Instant| now + IN_VAIN_AFTER / 2 >= at;
        if self.at.is_some_and(most_is_over) {
            self.rounds = self.rounds.saturating_add(1);
        }
        self.at = Some(now + IN_VAIN_AFTER + super::schedule::more_pause(self.rounds));
    }

    /// There is a direct path.
    pub(super) fn settled(&mut self) {
        (self.at, self.rounds) = (None, 0);
    }

    pub(super) fn at(&self) -> Option<Instant> {
        self.at
    }

    /// How many rounds were.
    pub(super) fn rounds(&self) -> u32 {
        self.rounds
    }

    /// Whether a round has just turned out to be in vain; asked once for each.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        let is_due = self.at.is_some_and(|at| at <= now);
        if is_due {
            self.at = None;
            self.rounds = self.rounds.saturating_add(1);
        }
        is_due
    }

    /// Whether another port may be opened now.
    pub(super) fn may_open(&self, now: Instant) -> bool {
        let more = self.rounds.saturating_sub(QUICK_MAX + 1);
        let again = AGAIN * 2_u32.pow(more.min(6));
        self.rounds <= QUICK_MAX || self.last.is_none_or(|last| now >= last + again)
    }

    pub(super) fn opened(&mut self, now: Instant) {
        self.last = Some(now);
    }

    /// Somebody else's turn: it is looked again then.
    pub(super) fn put_off(&mut self, until: Instant) {
        self.at = Some(until);
        self.rounds = self.rounds.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn each_round_in_vain_counts_once_and_tries_become_rare() {
        let now = testing::now();
        let mut vain = InVain::default();
        vain.met(now);
        // The other end asks for the same meeting.
        vain.met(now + Duration::from_millis(50));
        assert_eq!(vain.rounds(), 0);
        let mut at = vain.at().unwrap();
        assert!(!vain.take_due(at - Duration::from_micros(1)) && vain.take_due(at) && !vain.take_due(at));
        assert!(vain.may_open(at));
        vain.opened(at);
        for _ in 1..=QUICK_MAX {
            vain.met(at);
            at = vain.at().unwrap();
            assert!(vain.take_due(at));
        }
        assert!(!vain.may_open(at));
        assert!(vain.may_open(at + AGAIN));
        vain.settled();
        assert_eq!((vain.rounds(), vain.at()), (0, None));
    }

    #[test]
    fn a_round_that_the_other_end_ends_first_counts_too() {
        let now = testing::now();
        let mut vain = InVain::default();
        vain.met(now);
        vain.met(now + IN_VAIN_AFTER - Duration::from_millis(100));
        assert_eq!(vain.rounds(), 1);
    }

    #[test]
    fn answers_end_the_question_after_ports_and_begin_a_way() {
        let now = testing::now();
        let members: [SocketAddr; 2] = ["192.0.2.1:1".parse().unwrap(), "192.0.2.2:1".parse().unwrap()];
        let seen: [SocketAddr; 2] = ["198.51.100.1:8".parse().unwrap(), "198.51.100.1:9".parse().unwrap()];
        for (purpose, ends) in [(Purpose::Ports, now), (Purpose::Way(testing::peer(3)), now + KEPT_MAX)] {
            let mut fresh = Fresh::new(now, purpose, SocketId(1));
            (0..2).for_each(|turn| fresh.asks(turn, members[usize::try_from(turn).unwrap()]));
            assert!(!fresh.takes(now, 0, members[1], seen[0]), "another was asked that");
            assert!(fresh.takes(now, 1, members[1], seen[1]) && fresh.takes(now, 0, members[0], seen[0]));
            assert_eq!(fresh.seen().collect::<Vec<_>>(), seen);
            assert_eq!(fresh.ends(), ends);
        }
    }
}
