//! Probes and replies of the peer: their codes are right, what they say is to be judged.

use std::time::{Duration, Instant};

use super::{Peer, Shared};
use crate::path::{
    CandidateKind,
    nat::Seen,
    schedule::Manner,
    track::Kind,
    via::{Origin, SocketId},
    view::PathReason,
};
use crate::wire::{Probe, ProbeFlags, ProbeKind};

/// A probe that comes where none is known to work is met with one of ours, but not more often.
const TRIGGER_PAUSE: Duration = Duration::from_millis(50);

impl Peer {
    /// A probe came: it is answered, and shows a way.
    pub(in crate::path) fn handle_probe(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        origin: Origin,
        probe: &Probe,
        mut flags: ProbeFlags,
    ) {
        if self.window.note(probe.serial) == crate::session::Verdict::Repeated {
            return shared.refusals.probe_repeated.one();
        }
        if !shared.may_use(&origin, self.index) {
            return shared.refusals.way_unknown.one();
        }
        let known = self.place(&origin);
        let Some(back) = origin.back().or_else(|| known.map(|place| self.tracks[place].via)) else {
            return shared.refusals.way_unknown.one();
        };
        if !self.replies.take(now) {
            return shared.refusals.probe_rate.one();
        }
        let seen = origin.token.is_none().then_some(origin.address);
        let reply = Probe { kind: ProbeKind::Reply, tag: self.tag_out, serial: probe.serial, address: seen };
        self.send(shared, back, reply, None);
        if flags.aside {
            return;
        }
        if flags.nominate || flags.moved {
            let is_newest = probe.serial > self.last_word;
            self.last_word = self.last_word.max(probe.serial);
            (flags.nominate, flags.moved) = (flags.nominate && is_newest, flags.moved && is_newest);
        }
        if flags.nominate && !self.first {
            // Also a way that is not allowed yet: the reply ends the nomination, which is not said again when it is.
            self.nominated = Some(origin);
        }
        let Some(place) = known.or_else(|| self.add_heard(shared, origin)) else { return };
        let track = &mut self.tracks[place];
        track.arrived(now);
        if flags.moved {
            return self.peer_moved(shared, now, place);
        }
        if !track.alive() && track.last_sent().is_none_or(|sent| now >= sent + TRIGGER_PAUSE) {
            // Whatever was tried before: the peer's NAT is open for us there now.
            track.restart(now, Manner::Plain);
        }
        if flags.nominate && !self.first {
            self.reconsider(shared, now, PathReason::Nominated);
        }
    }

    /// The peer says that it is there now, and nowhere else; through a relay, that it is where it was no more.
    fn peer_moved(&mut self, shared: &mut Shared, now: Instant, place: usize) {
        let origin = self.tracks[place].origin;
        for track in &mut self.tracks {
            if track.origin.same(&origin) {
                track.heard(now);
            } else if track.direct() && track.alive() {
                track.give_up();
            }
        }
        self.nominated = None;
        self.choose(shared, now, place, PathReason::Roamed);
        self.changed = true;
    }

    /// A reply came.
    pub(in crate::path) fn handle_reply(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        origin: Origin,
        reply: &Probe,
    ) {
        if shared.take_fresh(now, self.host, &origin, reply) {
            return;
        }
        let known = self.place(&origin).filter(|place| self.tracks[*place].waits_for(reply.serial));
        let place = match known {
            Some(place) => {
                self.tracks[place].answered(now, reply.serial);
                place
            }
            None => match self.found(shared, now, origin, reply.serial) {
                Some(place) => place,
                None => return shared.refusals.unexpected.one(),
            },
        };
        // Through a stream of the control plane the peer sees a socket of its own computer.
        let is_stream = self.tracks[place].kind == Kind::Candidate(CandidateKind::Stream);
        if let Some(outside) = reply.address
            && origin.token.is_none()
            && origin.socket == SocketId::MAIN
            && !is_stream
        {
            shared.own.note(now, self.host, Seen { target: origin.address, outside });
        }
        if self.chosen.is_some_and(|chosen| chosen.same(&self.tracks[place].origin)) {
            self.answered_chosen(now);
            if self.herald.as_ref().is_some_and(|herald| herald.tries > 0) {
                self.herald = None;
            }
        }
        self.changed = true;
        self.reconsider(shared, now, PathReason::Better);
        // It may be the answer for which a doubted way is left.
        self.doubt(shared, now);
    }

    /// The answer to a port search's probe shows a way.
    fn found(&mut self, shared: &mut Shared, now: Instant, origin: Origin, serial: u64) -> Option<usize> {
        let at = self.searches.take_asked(serial, &origin)?;
        let place = self.place(&origin).or_else(|| self.add_heard(shared, origin))?;
        self.tracks[place].sample(now.saturating_duration_since(at));
        self.tracks[place].heard(now);
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, sync::Arc};

    use super::*;
    use crate::{
        HostId,
        entropy::Entropy,
        link::{Now, RefusalCounters},
        path::{Candidate, Need, PathOutput, Paths, RelayLeg, RelayPolicy, relayed::LEG_LIFE_MAX},
        session::{SharedSecret, StaticSecret},
        testing,
    };

    /// Paths of one host, which knows the other as peer 1.
    fn paths(now: Instant, own: u8, other: u8) -> Paths {
        let refusals = Arc::<RefusalCounters>::default();
        let (secret, shared) = (StaticSecret::new([own; 32]), SharedSecret::new([9; 32]));
        let begun = Now { at: now, wall_nanos: 1 };
        let mut paths = Paths::new(secret, shared, Entropy::new([own; 32]), refusals, begun);
        let key = StaticSecret::new([other; 32]).public();
        paths.set_peer(now, testing::peer(1), HostId::random(), &key);
        paths
    }

    /// The first datagram that is to be sent.
    fn sent(paths: &mut Paths) -> Vec<u8> {
        loop {
            if let PathOutput::Send { datagram, .. } = paths.poll_output().expect("something is to be sent") {
                return datagram;
            }
        }
    }

    /// A relay's way is longer: what the peer said on it before it found the direct one comes afterwards, and is not what it uses now.
    #[test]
    fn a_nomination_that_comes_late_does_not_undo_a_newer_one() {
        let (now, peer) = (testing::now(), testing::peer(1));
        let key = |own: u8| StaticSecret::new([own; 32]).public();
        let (first, other) = if key(1) < key(2) { (1, 2) } else { (2, 1) };
        let (mut here, mut there) = (paths(now, other, first), paths(now, first, other));
        let ways = ["198.51.100.2:9", "198.51.100.3:9"].map(|address| address.parse().unwrap());
        let mut said = Vec::new();
        for address in ways {
            here.set_candidates(now, peer, &ways.map(Candidate::local), None);
            here.set_need(now, peer, Need::Wanted);
            here.with(now, peer, |peer, shared, now| peer.heard(shared, now, Origin::direct(address)));
            let flags = ProbeFlags { nominate: true, ..ProbeFlags::default() };
            there.with(now, peer, |peer, shared, _| {
                let serial = peer.next_serial();
                let probe = Probe { kind: ProbeKind::Probe(flags), tag: peer.tag_out, serial, address: None };
                peer.send(shared, crate::path::Via::direct(address), probe, None);
            });
            said.push((Origin::direct(address), sent(&mut there)));
        }
        for place in [1, 0] {
            let (origin, probe) = &said[place];
            here.handle_probe(now, peer, *origin, probe);
        }
        let nominated = here.peers[&peer].nominated.unwrap();
        assert!(nominated.same(&Origin::direct(ways[1])));
    }

    /// A router's address changed: the peer saw it first and came by the relay, and what it brought there hid that nothing arrived on the direct way.
    #[test]
    fn who_is_heard_on_another_way_than_the_chosen_one_makes_that_one_doubted() {
        let (now, peer) = (testing::now(), testing::peer(1));
        let mut here = paths(now, 1, 2);
        let ways = ["198.51.100.2:9", "198.51.100.3:9"].map(|address| address.parse().unwrap());
        here.set_candidates(now, peer, &ways.map(Candidate::local), None);
        for (need, doubted) in [(Need::Wanted, false), (Need::InUse, true)] {
            here.set_need(now, peer, need);
            let hear = |here: &mut Paths, way: SocketAddr| {
                here.with(now, peer, |peer, shared, now| peer.heard(shared, now, Origin::direct(way)));
            };
            hear(&mut here, ways[0]);
            assert!(here.peers[&peer].chosen.is_some_and(|chosen| chosen.same(&Origin::direct(ways[0]))));
            assert!(here.peers[&peer].suspicion.is_none());
            hear(&mut here, ways[1]);
            assert_eq!(here.peers[&peer].suspicion.is_some(), doubted, "{need:?}");
        }
    }

    /// A host with two addresses sends from the other as soon as the relay has answered there; the relay hears a moment later that its own probe arrived.
    #[test]
    fn a_relay_takes_what_comes_from_where_it_has_answered_its_host() {
        let (mut now, from, to) = (testing::now(), testing::peer(1), testing::peer(2));
        let (mut here, mut there) = (paths(now, 1, 2), paths(now, 2, 1));
        let other = HostId::random();
        here.set_peer(now, to, other, &StaticSecret::new([3; 32]).public());
        let policy =
            RelayPolicy { enabled: true, rate_bits_per_s_max: 1_000_000_000, peers_max: 2, tokens_max: 1 };
        here.set_relay(now, policy);
        let leg = RelayLeg { from: here.peers[&from].host, to: other, onward: None, expires: LEG_LIFE_MAX };
        let token = here.relay_open(now, &leg).unwrap().incoming;
        let origins =
            ["203.0.113.1:8", "203.0.113.2:8"].map(|address| Origin::direct(address.parse().unwrap()));
        for origin in [origins[1], Origin::direct("203.0.113.9:8".parse().unwrap())] {
            here.with(now, to, |peer, shared, now| peer.heard(shared, now, origin));
        }
        here.with(now, from, |peer, shared, now| peer.heard(shared, now, origins[0]));
        let goes_on = |here: &mut Paths, now| {
            let Some(table) = here.take_table() else { return [None; 2] };
            let mut run = crate::wire::relayed_header(crate::wire::Onward::End, token).to_vec();
            run.resize(200, 1);
            let counters = crate::link::RelayCounters::default();
            origins
                .map(|origin| Some(table.forward(now, &origin, &mut run.clone(), 200, &counters).is_some()))
        };
        assert_eq!(goes_on(&mut here, now), [Some(true), Some(false)], "another host's address");
        there.set_candidates(now, from, &[Candidate::local("198.51.100.2:9".parse().unwrap())], None);
        there.set_need(now, from, Need::Wanted);
        there.handle_timeout(now);
        here.handle_probe(now, from, origins[1], &sent(&mut there));
        assert_eq!(goes_on(&mut here, now), [Some(true); 2]);
        // The way back does not work.
        while let Some(next) =
            here.poll_timeout().filter(|next| *next < testing::now() + Duration::from_secs(20))
        {
            now = next;
            here.handle_timeout(now);
            here.with(now, from, |peer, shared, now| peer.heard(shared, now, origins[0]));
        }
        assert_eq!(goes_on(&mut here, now), [Some(true), Some(false)]);
    }

    #[test]
    fn what_is_seen_at_the_end_of_a_stream_is_no_address_of_this_host() {
        for (kind, observed) in [(CandidateKind::Local, 1), (CandidateKind::Stream, 0)] {
            let (now, peer) = (testing::now(), testing::peer(1));
            let (mut here, mut there) = (paths(now, 1, 2), paths(now, 2, 1));
            let address = "198.51.100.2:9".parse().unwrap();
            here.set_candidates(now, peer, &[Candidate { address, kind }], None);
            here.set_need(now, peer, Need::Wanted);
            here.handle_timeout(now);
            let seen_from = Origin::direct("203.0.113.1:8".parse().unwrap());
            there.handle_probe(now, peer, seen_from, &sent(&mut here));
            here.handle_probe(now, peer, Origin::direct(address), &sent(&mut there));
            assert!(here.back(&Origin::direct(address)).is_some());
            assert_eq!(here.local().observed.len(), observed, "{kind:?}");
        }
    }
}
