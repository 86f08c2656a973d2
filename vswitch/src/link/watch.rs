//! Whether a link is in use, and whether what it sends is answered: looked at while frames are sent, and not at all while it rests.
//!
//! ```text
//!            a frame sent (a worker says so), or received        nothing sent for ASLEEP_AFTER
//!   asleep ──────────────────────────────────────────▶ looking ──────────────────────────────▶ asleep
//!                                                       every LOOK_EVERY
//! ```
//! In use means that a frame passed within [`IN_USE`]: only then pings and keep-alives go out and silence counts. A link at rest costs nothing but
//! its rekeys.

use std::time::{Duration, Instant};

/// Between two looks while frames are sent. More often wakes the keeper for nothing; less often a path that fails is noticed later.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Sent, and nothing heard for this long (and two round trips): the path is doubted. Longer than pauses of busy hosts and of radios usually are; a
/// doubt without cause costs three probes for each way.
const UNANSWERED: Duration = Duration::from_millis(120);
/// Without a frame sent for this long nobody looks any more.
const ASLEEP_AFTER: Duration = Duration::from_secs(1);
/// A frame within this time means that the link is in use: pauses of programs that talk are shorter.
pub(super) const IN_USE: Duration = Duration::from_secs(30);

/// What frames of a link do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) sent: u64,
    pub(super) received: u64,
    /// When anything of the peer's was last opened.
    pub(super) heard: Option<Instant>,
    pub(super) round_trip: Option<Duration>,
}

/// What is seen at a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    Well,
    /// What was sent is not answered.
    Unanswered,
    /// Nothing is sent: workers shall say when that changes.
    Asleep,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Watch {
    sent: u64,
    received: u64,
    /// When a frame last passed, as far as looks tell.
    passed: Instant,
    sent_at: Instant,
    /// When the first frame was sent after the peer was last heard.
    waits_since: Option<Instant>,
    next: Option<Instant>,
}

impl Watch {
    /// A link that has just come up counts as used.
    pub(super) fn new(now: Instant) -> Self {
        Self { sent: 0, received: 0, passed: now, sent_at: now, waits_since: None, next: Some(now) }
    }

    pub(super) fn in_use(&self, now: Instant) -> bool {
        now < self.passed + IN_USE
    }

    /// When the link comes to rest if no frame passes.
    pub(super) fn rests_at(&self) -> Instant {
        self.passed + IN_USE
    }

    pub(super) fn next_at(&self) -> Option<Instant> {
        self.next
    }

    /// A worker sent something while nobody looked.
    pub(super) fn wake(&mut self, now: Instant) {
        if !self.in_use(now) {
            // Silence before is no silence.
            self.waits_since = None;
        }
        self.passed = now;
        self.sent_at = now;
        self.next.get_or_insert(now + LOOK_EVERY);
    }

    /// Looks whether frames passed, beside the regular looks.
    pub(super) fn note(&mut self, now: Instant, traffic: Traffic) {
        if traffic.sent != self.sent || traffic.received != self.received {
            self.passed = now;
        }
        self.received = traffic.received;
        if traffic.sent != self.sent {
            self.sent = traffic.sent;
            self.sent_at = now;
            self.waits_since.get_or_insert(now);
        }
        if self.waits_since.is_some_and(|since| traffic.heard.is_some_and(|heard| heard >= since)) {
            self.waits_since = None;
        }
    }

    /// The look that is due.
    pub(super) fn look(&mut self, now: Instant, traffic: Traffic) -> Sight {
        if self.next.is_none_or(|at| at > now) {
            return Sight::Well;
        }
        self.note(now, traffic);
        let patience = UNANSWERED.max(traffic.round_trip.unwrap_or_default() * 2);
        let unanswered = self.waits_since.is_some_and(|since| now >= since + patience);
        if now >= self.sent_at + ASLEEP_AFTER {
            self.next = None;
            self.waits_since = None;
            return Sight::Asleep;
        }
        self.next = Some(now + LOOK_EVERY);
        if unanswered { Sight::Unanswered } else { Sight::Well }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn traffic(sent: u64, heard: Option<Instant>) -> Traffic {
        Traffic { sent, received: 0, heard, round_trip: None }
    }

    #[test]
    fn traffic_that_is_answered_is_well_and_what_is_not_is_seen_within_a_quarter_of_a_second() {
        let mut now = testing::now();
        let mut watch = Watch::new(now);
        for sent in 0..20 {
            assert_eq!(watch.look(now, traffic(sent, Some(now))), Sight::Well);
            now += LOOK_EVERY;
        }
        let heard = now - LOOK_EVERY;
        let failed = now;
        let mut sent = 20;
        while watch.look(now, traffic(sent, Some(heard))) != Sight::Unanswered {
            now += LOOK_EVERY;
            sent += 1;
            assert!(now < failed + Duration::from_millis(250));
        }
    }

    #[test]
    fn a_link_that_sends_nothing_is_not_looked_at_until_it_does() {
        let start = testing::now();
        let mut watch = Watch::new(start);
        let mut now = start;
        while watch.look(now, traffic(0, None)) != Sight::Asleep {
            now = watch.next_at().unwrap();
        }
        assert_eq!(watch.next_at(), None);
        assert!(watch.in_use(now) && !watch.in_use(start + IN_USE));
        let later = start + Duration::from_secs(100);
        watch.wake(later);
        assert!(watch.in_use(later) && watch.next_at().is_some());
    }
}
