//! Which way the link's datagrams go, and what its paths must know of it.

use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use super::{Link, Notes};
use crate::{
    link::{
        Shared,
        event::Event,
        watch::{Sight, Traffic},
    },
    path::{Need, Origin, Via, Ways},
};

/// The least wait between initiations, also when a way has just been found.
const RETRY_LEAST: Duration = Duration::from_millis(20);
/// How long an initiation that went a way may still be answered after a probe of that way was: what public-key work takes on busy hosts. Longer is waited for nothing where
/// a firewall has dropped it, since it was not open yet.
const ANSWER_AFTER_PROBE: Duration = Duration::from_millis(50);

impl Link {
    /// Other ways to the peer are known, or another is chosen.
    pub(in crate::link) fn set_ways(&mut self, shared: &mut Shared, now: Instant, ways: Ways) {
        let known = ways.known != self.ways.known;
        let untried = ways.tries.iter().any(|via| !self.ways.tries.contains(via));
        let way = |ways: &Ways| ways.chosen.map(|(via, _)| via);
        let found = way(&ways).filter(|via| way(&self.ways) != Some(*via));
        self.ways = ways;
        match self.ways.chosen {
            Some((via, _)) => self.go_by(shared, now, via),
            None => {
                let stays = |via: &Via| self.ways.tries.contains(via);
                self.changed |= self.via.is_some_and(|via| !stays(&via));
                self.via = self.via.filter(stays);
            }
        }
        self.changed |= known;
        if untried && let Some(attempt) = &mut self.slots.attempt {
            attempt.hurry(now, RETRY_LEAST);
        }
        if let Some(via) = found {
            self.hurry_by(now, via);
        }
    }

    /// A way was found that answers probes: the handshake goes there, and once more where it went before, unless that is answered now.
    fn hurry_by(&mut self, now: Instant, via: Via) {
        let Some(attempt) = self.slots.attempt.as_mut().filter(|_| !self.up) else { return };
        match self.tried.contains(&via) {
            true => attempt.hurry(now + ANSWER_AFTER_PROBE, RETRY_LEAST),
            false => attempt.hurry(now, RETRY_LEAST),
        }
    }

    fn go_by(&mut self, shared: &mut Shared, now: Instant, via: Via) {
        let before = self.via.replace(via);
        if before == Some(via) {
            return;
        }
        self.changed = true;
        // What the new path takes is not known, and confirmations of the old one say nothing of it.
        self.probes.clear();
        self.mtu.restart(now);
        match before {
            Some(before) => {
                self.counters.roamed.one();
                if before.address != via.address {
                    shared.tell(Event::Roamed { peer: self.host, from: before.address, to: via.address });
                }
            }
            // What was held while there was none.
            None => {
                let networks: Vec<_> = self.channels.keys().copied().collect();
                networks.into_iter().for_each(|network| self.release(shared, network));
            }
        }
    }

    /// The way to answer what came from there.
    pub(super) fn back(&self, origin: &Origin) -> Option<Via> {
        let known = || self.ways.known.iter().find(|(known, _)| known.same(origin)).map(|(_, via)| *via);
        origin.back().or_else(known)
    }

    /// This host's own addresses changed: the peer learns the new one by the next sealed datagram.
    pub(in crate::link) fn own_moved(&mut self, now: Instant) {
        if self.up {
            self.live.ask_now(now);
            self.watch.wake(now);
        }
    }

    /// A worker sends on the link, which was at rest.
    pub(in crate::link) fn handle_woken(&mut self, now: Instant) {
        if self.up {
            if !self.is_used(now) {
                self.begin_use(now);
            }
            self.watch.wake(now);
        }
    }

    /// Frames pass, or it is kept as if they did.
    pub(super) fn is_used(&self, now: Instant) -> bool {
        self.kept || self.watch.in_use(now)
    }

    /// Silence before this is none, and how far away the peer is now is asked at once.
    pub(super) fn begin_use(&mut self, now: Instant) {
        self.used_since = now;
        self.live.ask_now(now);
    }

    /// Looks after frames that pass.
    pub(super) fn look(&mut self, now: Instant) {
        match self.watch.look(now, self.traffic()) {
            Sight::Well => {}
            Sight::Unanswered => self.notes.suspect = true,
            Sight::Asleep => self.asleep.store(true, Relaxed),
        }
    }

    /// Whether the link is used; what the peer says shows that as well.
    pub(super) fn in_use(&mut self, now: Instant) -> bool {
        let before = self.is_used(now);
        self.watch.note(now, self.traffic());
        let after = self.is_used(now);
        if after && !before {
            self.begin_use(now);
        }
        after
    }

    fn traffic(&self) -> Traffic {
        let heard = self.slots.opening().filter_map(|session| session.last_opened()).max();
        Traffic {
            sent: self.counters.frames_sent.read(),
            received: self.counters.frames_received.read(),
            heard,
            round_trip: self.live.round_trip(),
        }
    }

    /// What the link wants of its paths.
    pub(in crate::link) fn need(&self, now: Instant) -> Need {
        match (self.up, self.is_used(now)) {
            (true, true) => Need::InUse,
            (true, false) => Need::Rest,
            (false, _) if self.wanted() => Need::Wanted,
            (false, _) => Need::None,
        }
    }

    /// What paths must know, asked once.
    pub(in crate::link) fn take_notes(&mut self) -> Notes {
        std::mem::take(&mut self.notes)
    }
}
