//! What time does to a peer's ways: bursts, missed answers, doubts, keep-alives, meetings.

use std::time::{Duration, Instant};

use super::{CALM, HERALD_EVERY, Meet, Need, Peer, Shared};
use crate::{
    path::{track::Track, view::PathReason},
    wire::ProbeFlags,
};

/// Between the probes of a doubt; and how many there are.
const DOUBT_EVERY: Duration = Duration::from_millis(60);
const DOUBT_ROUNDS: u32 = 3;
/// How long a doubt lasts at least and at most; between, two round trips.
const DOUBT_MIN: Duration = Duration::from_millis(250);
const DOUBT_MAX: Duration = Duration::from_secs(2);
/// How long a doubted way has at least (or two of its round trips) before one that answers takes its place: less, and a host that is busy for a moment leaves a
/// direct path for a relay.
const OVERTAKEN_AFTER: Duration = Duration::from_millis(50);
/// How often what the peer must learn is said.
const HERALD_TRIES: u32 = 10;
/// Ways beside the chosen one that are kept open while the link is used: one direct, one through a relay.
const SPARES: usize = 2;

impl Peer {
    /// Does what is due.
    pub(in crate::path) fn handle_timeout(&mut self, shared: &mut Shared, now: Instant) {
        self.run_bursts(shared, now);
        let died = self.tracks.iter_mut().map(|track| track.expire(now)).filter(|died| *died).count();
        if died > 0 {
            self.changed = true;
            self.reconsider(shared, now, PathReason::Failover);
        }
        self.doubt(shared, now);
        self.herald(shared, now);
        self.keep_alive(shared, now);
        self.meet(shared, now);
    }

    pub(super) fn run_bursts(&mut self, shared: &mut Shared, now: Instant) {
        for place in 0..self.tracks.len() {
            // Only what is due takes from the rate: a port search is held up by each.
            while self.tracks[place].is_due(now)
                && shared.may_probe(now)
                && let Some(hops) = self.tracks[place].take_due(now)
            {
                self.probe(shared, now, place, ProbeFlags::default(), hops);
            }
        }
    }

    pub(super) fn doubt(&mut self, shared: &mut Shared, now: Instant) {
        let Some(doubt) = &mut self.suspicion else { return };
        let since = doubt.since;
        if doubt.rounds < DOUBT_ROUNDS && doubt.next <= now {
            doubt.rounds += 1;
            doubt.next = now + DOUBT_EVERY;
            let chosen = self.chosen_place();
            for place in 0..self.tracks.len() {
                if self.tracks[place].alive() || Some(place) == chosen {
                    self.probe(shared, now, place, ProbeFlags::default(), None);
                }
            }
        }
        let is_overtaken = self.is_overtaken(now, since);
        if now < since + self.doubt_lasts() && !is_overtaken {
            let had_its_time = now >= since + self.overtaken_after();
            self.suspicion.iter_mut().for_each(|doubt| doubt.looked = had_its_time);
            return;
        }
        self.suspicion = None;
        self.calm_until = now + CALM;
        for track in &mut self.tracks {
            if track.alive() && track.heard_at().is_none_or(|heard| heard < since) {
                track.give_up();
            }
        }
        self.changed = true;
        self.reconsider(shared, now, PathReason::Failover);
        if self.tracks.iter().all(|track| !track.alive()) {
            // Nothing answers: everything is tried again, and the peer's node asked where it is now.
            self.start(now, true);
            self.meet = Some(Meet::new(now));
        } else if self.direct && !self.settled() {
            // A relay carries what went directly a moment ago.
            self.start(now, false);
            self.meet = Some(Meet::after_loss(now));
        }
    }

    /// Whether another way answers what the doubted one had time enough to answer, and has not.
    fn is_overtaken(&self, now: Instant, since: Instant) -> bool {
        let Some(chosen) = self.chosen_place() else { return false };
        let is_silent = self.tracks[chosen].heard_at().is_none_or(|heard| heard < since);
        let answers = |track: &Track| track.alive() && track.answered_at().is_some_and(|at| at >= since);
        now >= since + self.overtaken_after() && is_silent && self.tracks.iter().any(answers)
    }

    fn overtaken_after(&self) -> Duration {
        (self.doubted_round_trip() * 2).max(OVERTAKEN_AFTER)
    }

    fn doubt_lasts(&self) -> Duration {
        (self.doubted_round_trip() * 2 + DOUBT_EVERY).clamp(DOUBT_MIN, DOUBT_MAX)
    }

    fn doubted_round_trip(&self) -> Duration {
        self.chosen_place().and_then(|place| self.tracks[place].round_trip()).unwrap_or_default()
    }

    fn herald(&mut self, shared: &mut Shared, now: Instant) {
        let Some(place) = self.chosen_place() else {
            self.herald = None;
            return;
        };
        let Some(herald) = &mut self.herald else { return };
        if herald.next > now {
            return;
        }
        herald.tries += 1;
        herald.next = now + HERALD_EVERY;
        let flags = ProbeFlags { nominate: self.first, moved: herald.moved, aside: false };
        if herald.tries >= HERALD_TRIES {
            self.herald = None;
        }
        self.probe(shared, now, place, flags, None);
    }

    fn keep_alive(&mut self, shared: &mut Shared, now: Instant) {
        if self.keep_at.is_none_or(|at| at > now) {
            return;
        }
        self.keep_at = (self.need == Need::InUse || self.relays_for).then(|| now + shared.own.interval.get());
        let chosen = self.chosen_place();
        if let Some(place) = chosen {
            let flags = ProbeFlags { nominate: self.first, ..ProbeFlags::default() };
            self.probe(shared, now, place, flags, None);
        }
        let mut spares: Vec<usize> = Vec::new();
        for (place, track) in self.tracks.iter().enumerate() {
            let alike = |other: &usize| self.tracks[*other].direct() == track.direct();
            let spare = track.alive() && Some(place) != chosen && !spares.iter().any(alike);
            if spare && spares.len() < SPARES {
                spares.push(place);
            }
        }
        for place in spares {
            self.probe(shared, now, place, ProbeFlags::default(), None);
        }
    }

    /// Asks what the host sees, on the way that works from where this host is, else on all.
    pub(in crate::path) fn ask(&mut self, shared: &mut Shared, now: Instant) {
        let works = |track: &Track| {
            track.direct() && track.alive() && track.answered_at().is_some_and(|at| shared.own.was_here(at))
        };
        let working = self.tracks.iter().position(works);
        let places: Vec<usize> = match working {
            Some(place) => vec![place],
            None => (0..self.tracks.len()).filter(|place| self.tracks[*place].direct()).collect(),
        };
        for place in places {
            self.probe(shared, now, place, ProbeFlags::default(), None);
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(in crate::path) fn next_at(&self, blocked_until: Option<Instant>) -> Option<Instant> {
        let tracks = self.tracks.iter().filter_map(Track::next_at);
        // A burst that must wait for the budget is not due before it.
        let tracks = tracks.map(|at| blocked_until.map_or(at, |until| at.max(until)));
        let doubt = self.suspicion.as_ref().map(|doubt| {
            let over = doubt.since + self.doubt_lasts();
            let next = if doubt.rounds < DOUBT_ROUNDS { doubt.next.min(over) } else { over };
            // When another way may take its place, if one has answered by then; those that answer later are heard of anyway.
            let overtaken = doubt.since + self.overtaken_after();
            if doubt.looked { next } else { next.min(overtaken) }
        });
        let others = [
            doubt,
            self.herald.as_ref().map(|herald| herald.next),
            self.keep_at,
            self.meet.as_ref().map(Meet::at),
            self.searches.at(),
            self.vain.at(),
        ];
        tracks.chain(others.into_iter().flatten()).min()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, Instant},
    };

    use crate::{
        HostId,
        entropy::Entropy,
        link::{Now, RefusalCounters},
        path::{Candidate, Need, Paths},
        session::{SharedSecret, StaticSecret},
        switch::PeerIndex,
        testing,
    };

    /// Paths of a host that knows a peer by so many addresses.
    fn paths(now: Instant, peer: PeerIndex, addresses: u8) -> Paths {
        let (secret, shared) = (StaticSecret::new([1; 32]), SharedSecret::new([9; 32]));
        let begun = Now { at: now, wall_nanos: 1 };
        let refusals = Arc::<RefusalCounters>::default();
        let mut paths = Paths::new(secret, shared, Entropy::new([1; 32]), refusals, begun);
        paths.set_peer(now, peer, HostId::random(), &StaticSecret::new([2; 32]).public());
        let candidates: Vec<Candidate> =
            (1..=addresses).map(|last| Candidate::local(([10, 0, 0, last], 9).into())).collect();
        paths.set_candidates(now, peer, &candidates, None);
        paths
    }

    #[test]
    fn what_is_looked_at_and_not_due_takes_nothing_from_the_rate() {
        let (now, peer) = (testing::now(), testing::peer(1));
        let mut paths = paths(now, peer, 3);
        paths.set_need(now, peer, Need::Wanted);
        for millis in 0..50 {
            let now = now + Duration::from_millis(millis);
            paths.with(now, peer, |peer, shared, now| peer.handle_timeout(shared, now));
        }
        assert_eq!(paths.shared.beside, 3, "one probe to each candidate");
    }

    #[test]
    fn a_way_that_worked_before_this_host_moved_is_not_the_only_one_that_is_asked_over() {
        let (begin, peer) = (testing::now(), testing::peer(1));
        let mut paths = paths(begin, peer, 2);
        let asked = |paths: &mut Paths, now| {
            paths.with(now, peer, |peer, shared, now| peer.ask(shared, now));
            let tracks = &paths.peers[&peer].tracks;
            tracks.iter().map(|track| track.last_sent() == Some(now)).collect::<Vec<_>>()
        };
        assert_eq!(asked(&mut paths, begin), [true, true], "none is known to work");
        let [there, here, moved] = [1, 2, 3].map(|seconds| begin + Duration::from_secs(seconds));
        paths.with(there, peer, |peer, _, now| {
            peer.tracks[1].sent(now, 99);
            assert!(peer.tracks[1].answered(now, 99));
        });
        assert_eq!(asked(&mut paths, here), [false, true]);
        paths.set_local(moved, vec!["10.0.1.2:9".parse().unwrap()]);
        assert_eq!(asked(&mut paths, moved), [true, true]);
    }
}
