//! What is held to one host through relays, and when more is asked for. Pure: time is an argument.

use std::time::{Duration, Instant};

use consort_overlay::HostId;
use consort_vswitch::path::{RELAYED_MAX, RelayedPath};

use super::RENEW_EVERY;
use crate::why::{RelayAttempt, RelayOutcome};

/// Ways held to one host: the one in use and a warm spare.
pub(super) const HELD_WANTED: usize = 2;

/// Ways held to one host while the link goes directly and is in use: what is taken when an address changes.
pub(super) const HELD_DIRECT: usize = 1;

/// How long until a spare way is looked for again, doubled each time up to [`RENEW_EVERY`]: the relays of a host that has just begun are not known yet.
const SPARE_AGAIN: Duration = Duration::from_secs(1);

/// One way to a host.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) route: Vec<HostId>,
    pub(super) path: RelayedPath,
}

/// What is held to one host, and what came of asking for more.
#[derive(Debug, Default)]
pub(super) struct Host {
    pub(super) held: Vec<Held>,
    pub(super) attempts: Vec<RelayAttempt>,
    /// Renewals since the link went direct and nothing passed.
    pub(super) direct_for: u8,
    /// A search is under way.
    pub(super) searching: bool,
    /// What is held is being asked for.
    pub(super) renewing: bool,
    /// Searches that left it without a spare, and when the next is.
    pub(super) searches: u32,
    pub(super) search_at: Option<Instant>,
}

impl Host {
    /// A search ended.
    pub(super) fn searched(&mut self, now: Instant) {
        if self.held.len() >= HELD_WANTED {
            (self.searches, self.search_at) = (0, None);
        } else {
            let wait = (SPARE_AGAIN * 2_u32.saturating_pow(self.searches.min(8))).min(RENEW_EVERY);
            self.searches += 1;
            self.search_at = Some(now + wait);
        }
    }

    /// A way beside a direct one is wanted and not held.
    pub(super) fn is_direct_due(&self, now: Instant) -> bool {
        !self.searching && self.held.len() < HELD_DIRECT && self.search_at.is_none_or(|at| at <= now)
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        !self.searching && self.held.len() < HELD_WANTED && self.search_at.is_none_or(|at| at <= now)
    }

    /// What came of asking a relay.
    pub(super) fn attempted(&mut self, relay: HostId, outcome: RelayOutcome) {
        self.attempts.retain(|attempt| attempt.relay != relay);
        // A peer may ask this host to join by ever other relays; the oldest is of no interest any more.
        if self.attempts.len() >= crate::why::facts::RELAYS_MAX {
            self.attempts.remove(0);
        }
        self.attempts.push(RelayAttempt { relay, outcome });
    }

    /// Holds a way; one over the same route makes room for it.
    pub(super) fn hold(&mut self, held: Held) {
        self.held.retain(|other| other.route != held.route);
        // The oldest goes: the other end has asked for the newer one just now.
        if self.held.len() >= RELAYED_MAX {
            self.held.remove(0);
        }
        self.held.push(held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(number: u32) -> Held {
        let relay = HostId::random();
        let address = "192.0.2.1:7441".parse().unwrap();
        Held {
            route: vec![relay],
            path: RelayedPath { relay, address, token: number, token_back: 0, cost: 0 },
        }
    }

    #[test]
    fn a_spare_way_is_looked_for_ever_more_seldom_until_there_is_one() {
        let (mut entry, mut now) = (Host::default(), Instant::now());
        entry.hold(held(1));
        assert!(entry.is_due(now), "at once");
        let mut waits = Vec::new();
        for _ in 0..8 {
            entry.searched(now);
            let next = entry.search_at.unwrap();
            assert!(!entry.is_due(now) && entry.is_due(next));
            waits.push(next - now);
            now = next;
        }
        assert_eq!(waits[..3], [SPARE_AGAIN, 2 * SPARE_AGAIN, 4 * SPARE_AGAIN]);
        assert_eq!(waits[7], RENEW_EVERY);
        entry.hold(held(2));
        entry.searched(now);
        assert!(!entry.is_due(now + RENEW_EVERY), "there is one");
        entry.held.pop();
        assert!(entry.is_due(now), "and when it is lost, at once again");
    }

    #[test]
    fn beside_a_direct_path_one_way_is_enough_and_is_asked_for_as_seldom() {
        let (mut entry, now) = (Host::default(), Instant::now());
        assert!(entry.is_direct_due(now), "at once");
        entry.searched(now);
        assert!(!entry.is_direct_due(now) && entry.is_direct_due(now + SPARE_AGAIN));
        entry.hold(held(1));
        assert!(!entry.is_direct_due(now + RENEW_EVERY), "there is one");
    }

    #[test]
    fn ways_beyond_what_the_data_plane_takes_push_the_oldest_out() {
        let mut entry = Host::default();
        for number in 0..10 {
            entry.hold(held(number));
        }
        let tokens: Vec<u32> = entry.held.iter().map(|held| held.path.token).collect();
        assert_eq!(tokens, [6, 7, 8, 9]);
        let again = Held { path: RelayedPath { token: 99, ..entry.held[1].path }, ..entry.held[1].clone() };
        entry.hold(again);
        assert_eq!(entry.held.len(), RELAYED_MAX, "a way that is opened again takes its own place");
    }
}
