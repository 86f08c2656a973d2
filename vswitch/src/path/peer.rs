//! All ways to one peer: probed when a link wants one, compared, one of them chosen, and watched while it is used.
//!
//! | file | what it is about |
//! |---|---|
//! | here | the peer's state, what node and links want of it |
//! | `answers` | probes and replies that came |
//! | `choosing` | which way the link uses |
//! | `fresh` | ways from another port, where one may be spoiled |
//! | `meetings` | when the two ends are to tell each other where they are |
//! | `moving` | this host is elsewhere now, or may be |
//! | `searches` | this peer's part in port searches |
//! | `upkeep` | what time does |
//!
//! # Who decides
//! Each end chooses for itself what it sends on, and takes what comes by any path. So that both use one path (and keep one NAT open), the end with the
//! lesser public key goes first: it says so on the path it chose (*nominate*), and the other follows if the path works for it too.

mod answers;
mod choosing;
mod fresh;
mod meetings;
mod moving;
mod searches;
mod upkeep;

use std::time::{Duration, Instant};

use super::{
    CANDIDATES_MAX, Candidate, CandidateKind, PathOutput, PeerNat, RELAYED_MAX, RelayedPath, Shared,
    bucket::Bucket,
    fresh::InVain,
    key::{ProbeKey, Tag},
    track::{Kind, Track},
    via::{Origin, SocketId, Via},
    view::{PathReason, PeerPaths},
};
use crate::{
    HostId,
    session::ReplayWindow,
    switch::PeerIndex,
    wire::{Probe, ProbeFlags, ProbeKind},
};
use meetings::Meet;
use searches::Searches;

/// Ways to one peer: its candidates, its relays, and where its datagrams came from.
const TRACKS_MAX: usize = CANDIDATES_MAX + RELAYED_MAX + HEARD_MAX;
/// Of them, those known from datagrams only. A new one takes the place of the one that was silent longest.
const HEARD_MAX: usize = 4;
/// Replies to one peer in a second, and at once: a whole port search of the peer's, and its keep-alives.
const REPLIES_PER_SECOND: u32 = 150;
const REPLIES_AT_ONCE: u32 = 300;
/// After a doubt that came to nothing, until the next: while frames are sent that nobody has to answer, each costs some probes.
const CALM: Duration = Duration::from_millis(400);
/// Between repetitions of what the peer must learn.
const HERALD_EVERY: Duration = Duration::from_millis(60);

/// What a link wants of its paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// Nothing: there is no link.
    None,
    /// The link is there and at rest: nothing is sent for it.
    Rest,
    /// The link is to be made.
    Wanted,
    /// Frames pass.
    InUse,
}

/// Traffic goes unanswered: does the path still work?
#[derive(Debug)]
struct Suspicion {
    since: Instant,
    rounds: u32,
    next: Instant,
    /// The doubted way had its time, and was looked at then.
    looked: bool,
}

impl Suspicion {
    fn new(now: Instant) -> Self {
        Self { since: now, rounds: 0, next: now, looked: false }
    }
}

/// Something the peer must learn by a probe on the chosen path; repeated until one is answered.
#[derive(Debug)]
struct Herald {
    moved: bool,
    tries: u32,
    next: Instant,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) index: PeerIndex,
    pub(super) host: HostId,
    pub(super) key: ProbeKey,
    pub(super) tag_in: Tag,
    tag_out: Tag,
    /// This end's choice goes first.
    first: bool,
    direct: bool,
    nat: PeerNat,
    tracks: Vec<Track>,
    chosen: Option<Origin>,
    reason: Option<PathReason>,
    nominated: Option<Origin>,
    /// The number of the newest probe by which the peer said what it uses or that it has moved: ways differ in length, and what it said before may come after.
    last_word: u64,
    serial: u64,
    window: Box<ReplayWindow>,
    replies: Bucket,
    need: Need,
    /// Links of other peers use this one as relay.
    relays_for: bool,
    meet: Option<Meet>,
    suspicion: Option<Suspicion>,
    calm_until: Instant,
    /// Until then this relay is not told again where this host is.
    told_until: Instant,
    herald: Option<Herald>,
    keep_at: Option<Instant>,
    searches: Searches,
    vain: InVain,
    /// The NAT before this host gives each destination another port.
    own_is_hard: bool,
    /// A meeting was asked for just now.
    pub(super) asks_to_meet: bool,
    /// The link must see other ways.
    pub(super) changed: bool,
}

/// What makes a peer.
pub(super) struct Named {
    pub(super) index: PeerIndex,
    pub(super) host: HostId,
    pub(super) key: ProbeKey,
    pub(super) tag_in: Tag,
    pub(super) tag_out: Tag,
    pub(super) first: bool,
    pub(super) serial: u64,
}

/// What a link needs to know of its ways.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Ways {
    /// The one to use.
    pub(crate) chosen: Option<(Via, Origin)>,
    /// Those whose datagrams tell nothing new, and how to answer them.
    pub(crate) known: Vec<(Origin, Via)>,
    /// Where a handshake may be tried before any probe was answered; the best first.
    pub(crate) tries: Vec<Via>,
}

impl Peer {
    pub(super) fn new(now: Instant, named: Named) -> Self {
        Self {
            index: named.index,
            host: named.host,
            key: named.key,
            tag_in: named.tag_in,
            tag_out: named.tag_out,
            first: named.first,
            direct: true,
            nat: PeerNat::default(),
            tracks: Vec::new(),
            chosen: None,
            reason: None,
            nominated: None,
            last_word: 0,
            serial: named.serial,
            window: Box::default(),
            replies: Bucket::new(now, REPLIES_PER_SECOND, REPLIES_AT_ONCE),
            need: Need::None,
            relays_for: false,
            meet: None,
            suspicion: None,
            calm_until: now,
            told_until: now,
            herald: None,
            keep_at: None,
            searches: Searches::default(),
            vain: InVain::default(),
            own_is_hard: false,
            asks_to_meet: false,
            changed: true,
        }
    }

    // ── what node tells ──

    /// Replaces the peer's candidates; those that work stay. `met`: the peer probes us now, too.
    pub(super) fn set_candidates(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        candidates: &[Candidate],
        met: bool,
    ) {
        let new: Vec<Candidate> =
            candidates.iter().filter(|new| new.usable()).take(CANDIDATES_MAX).copied().collect();
        let chosen = self.chosen;
        let keep = |track: &Track| {
            !matches!(track.kind, Kind::Candidate(_))
                || new.iter().any(|new| new.address == track.via.address)
                || chosen.is_some_and(|chosen| chosen.same(&track.origin))
                // What a meeting has told is newer than a record that arrives meanwhile.
                || !met && track.is_being_tried()
        };
        self.drop_tracks(shared, keep);
        if self.direct {
            for candidate in new {
                self.add_candidate(candidate);
            }
        }
        self.own_is_hard = shared.own.nat().kind.is_hard();
        if met {
            self.searches.met(now);
            self.vain.met(now);
        }
        if self.active() {
            self.start(now, met);
        }
        self.changed = true;
    }

    fn add_candidate(&mut self, candidate: Candidate) {
        let origin = Origin::direct(candidate.address);
        if let Some(known) = self.tracks.iter_mut().find(|track| track.origin.same(&origin)) {
            known.kind = Kind::Candidate(candidate.kind);
        } else if self.has_room() {
            let via = Via::direct(candidate.address);
            self.tracks.push(Track::new(Kind::Candidate(candidate.kind), via, origin));
        }
    }

    /// Replaces the ways through relays; `at` says where a relay is, where that is known better than node knows it.
    pub(super) fn set_relayed(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        relayed: &[RelayedPath],
        at: impl Fn(HostId) -> Option<Via>,
    ) {
        let relayed = &relayed[..relayed.len().min(RELAYED_MAX)];
        let keep = |track: &Track| match track.kind {
            Kind::Relay { relay, .. } => relayed.iter().any(|new| {
                new.relay == relay
                    && track.via.token == Some(new.token)
                    && track.origin.token == Some(new.token_back)
            }),
            _ => true,
        };
        self.drop_tracks(shared, keep);
        for way in relayed {
            let kind = Kind::Relay { relay: way.relay, cost: Duration::from_millis(way.cost.into()) };
            let to = at(way.relay).unwrap_or(Via::direct(way.address));
            let via = Via { token: Some(way.token), ..to };
            let origin = Origin { socket: to.socket, address: to.address, token: Some(way.token_back) };
            if let Some(known) = self.tracks.iter_mut().find(|track| track.origin.same(&origin)) {
                known.kind = kind;
            } else if self.has_room() {
                self.tracks.push(Track::new(kind, via, origin));
            }
        }
        if self.active() {
            self.start(now, false);
        }
        self.reconsider(shared, now, PathReason::Withdrawn);
        self.changed = true;
    }

    pub(super) fn set_direct(&mut self, shared: &mut Shared, now: Instant, direct: bool) {
        self.direct = direct;
        if !direct {
            self.drop_tracks(shared, |track| !track.direct());
            self.reconsider(shared, now, PathReason::Withdrawn);
        }
    }

    pub(super) fn set_nat(&mut self, nat: PeerNat) {
        self.nat = nat;
    }

    /// The way to a relay changed.
    pub(super) fn relay_moved(&mut self, relay: HostId, to: Via) {
        for track in &mut self.tracks {
            if matches!(track.kind, Kind::Relay { relay: own, .. } if own == relay) {
                track.via = Via { token: track.via.token, ..to };
                self.changed = true;
            }
        }
    }

    /// The relays of ways that are in use or wanted.
    pub(super) fn relays(&self) -> impl Iterator<Item = HostId> + '_ {
        let active = self.need >= Need::Wanted;
        self.tracks.iter().filter(move |_| active).filter_map(|track| match track.kind {
            Kind::Relay { relay, .. } => Some(relay),
            _ => None,
        })
    }

    /// The relay that forwards by this token.
    pub(super) fn relay_of(&self, token: u32) -> Option<HostId> {
        self.tracks.iter().find_map(|track| match track.kind {
            Kind::Relay { relay, .. } if track.via.token == Some(token) => Some(relay),
            _ => None,
        })
    }

    pub(super) fn has_relays(&self) -> bool {
        self.tracks.iter().any(|track| !track.direct())
    }

    /// The way to answer what came from there, if it is one of the peer's.
    pub(super) fn back(&self, origin: &Origin) -> Option<Via> {
        self.place(origin).map(|place| self.tracks[place].via)
    }

    pub(super) fn set_relays_for(&mut self, now: Instant, relays_for: bool) {
        if !self.relays_for && relays_for {
            self.keep_at = Some(now);
            self.try_all(now);
        }
        self.relays_for = relays_for;
    }

    /// A relay is wanted again: its ways are tried, if none works.
    pub(super) fn seek(&mut self, now: Instant) {
        if self.direct_ways().is_empty() {
            self.try_all(now);
        }
    }

    /// A relay takes the first datagram, wherever its address is known from.
    fn try_all(&mut self, now: Instant) {
        let manner = self.manner();
        self.tracks.iter_mut().for_each(|track| track.start(now, manner));
    }

    /// Forgets it: its sockets go with its ways.
    pub(super) fn leave(&mut self, shared: &mut Shared) {
        self.drop_tracks(shared, |_| false);
    }

    // ── what the link tells ──

    pub(super) fn set_need(&mut self, now: Instant, need: Need) {
        let before = std::mem::replace(&mut self.need, need);
        if before == need {
            return;
        }
        if need < Need::Wanted {
            (self.meet, self.suspicion) = (None, None);
            self.vain.settled();
            if !self.relays_for {
                self.keep_at = None;
            }
            return;
        }
        self.start(now, false);
        if self.meet.is_none() && !self.settled() {
            self.meet = Some(Meet::first(now));
        }
        if need == Need::InUse {
            self.keep_at.get_or_insert(now);
        }
    }

    /// Something that the session proves came from there. Unknown ways are followed: the peer is there now.
    pub(super) fn heard(&mut self, shared: &mut Shared, now: Instant, origin: Origin) {
        match self.place(&origin) {
            Some(place) => {
                self.tracks[place].heard(now);
                // The peer has left the way that is used here, maybe because it is broken. What comes by the other one keeps the link from being silent, so that
                // nothing else would show it.
                if self.need == Need::InUse && self.chosen_place() != Some(place) {
                    self.suspect(now);
                }
            }
            None => {
                let Some(place) = self.add_heard(shared, origin) else { return };
                self.tracks[place].heard(now);
                let reason = if self.chosen.is_some() { PathReason::Roamed } else { PathReason::First };
                return self.choose(shared, now, place, reason);
            }
        }
        self.reconsider(shared, now, PathReason::Better);
    }

    /// A round trip inside the session, on the chosen path.
    pub(super) fn sample(&mut self, now: Instant, sample: Duration) {
        if let Some(place) = self.chosen_place() {
            self.tracks[place].sample(sample);
            self.tracks[place].heard(now);
            self.answered_chosen(now);
        }
    }

    /// The session goes on with another life of the peer: its probes are numbered anew.
    pub(super) fn reborn(&mut self) {
        *self.window = ReplayWindow::default();
        self.last_word = 0;
    }

    /// Whether links of other peers go through this one.
    pub(super) fn relays_for(&self) -> bool {
        self.relays_for
    }

    // ── its ways ──

    /// Whether anything is sent for it.
    fn active(&self) -> bool {
        self.need >= Need::Wanted || self.relays_for
    }

    fn place(&self, origin: &Origin) -> Option<usize> {
        self.tracks.iter().position(|track| track.origin.same(origin))
    }

    fn chosen_place(&self) -> Option<usize> {
        self.chosen.and_then(|chosen| self.place(&chosen))
    }

    /// Probes what is not known to work; after a meeting also what failed before, and what needs both ends to probe at once.
    fn start(&mut self, now: Instant, met: bool) {
        let manner = self.manner();
        for track in self.tracks.iter_mut().filter(|track| !track.alive()) {
            if met {
                track.restart(now, manner);
            } else if !track.needs_meeting() {
                track.start(now, manner);
            }
        }
    }

    fn has_room(&self) -> bool {
        self.tracks.len() < TRACKS_MAX
    }

    fn drop_tracks(&mut self, shared: &mut Shared, keep: impl Fn(&Track) -> bool) {
        let gone: Vec<SocketId> =
            self.tracks.iter().filter(|track| !keep(track)).map(|track| track.via.socket).collect();
        self.tracks.retain(keep);
        // Several ways may leave by one socket, and those through a relay leave by the relay's.
        for socket in gone {
            if shared.is_owner(socket, self.index) && !self.uses(socket) {
                shared.close(socket);
            }
        }
    }

    /// A way known from the peer's datagrams; none where direct ways are not allowed.
    fn add_heard(&mut self, shared: &mut Shared, origin: Origin) -> Option<usize> {
        let via = origin.back().filter(|_| self.direct)?;
        let heard = |track: &&Track| track.kind == Kind::Heard;
        if self.tracks.iter().filter(heard).count() >= HEARD_MAX || !self.has_room() {
            let chosen = self.chosen;
            let spare =
                |track: &&Track| heard(track) && chosen.is_none_or(|chosen| !chosen.same(&track.origin));
            let oldest = self.tracks.iter().filter(spare).min_by_key(|track| track.heard_at())?.origin;
            self.drop_tracks(shared, |track| track.origin != oldest);
        }
        self.tracks.push(Track::new(Kind::Heard, via, origin));
        self.changed = true;
        Some(self.tracks.len() - 1)
    }

    // ── probes out ──

    fn probe(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        place: usize,
        flags: ProbeFlags,
        hops: Option<u8>,
    ) {
        let serial = self.next_serial();
        let track = &mut self.tracks[place];
        track.sent(now, serial);
        let (via, address) = (track.via, track.via.token.is_none().then_some(track.via.address));
        self.send(
            shared,
            via,
            Probe { kind: ProbeKind::Probe(flags), tag: self.tag_out, serial, address },
            hops,
        );
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn send(&self, shared: &mut Shared, via: Via, probe: Probe, hops: Option<u8>) {
        let datagram = probe.encode(|covered| self.key.mac(covered));
        shared.outputs.push_back(PathOutput::Send { via, hops, datagram: via.wrap(&datagram) });
    }

    // ── views ──

    /// The best way to the host itself, where one is known to work: the chosen one while a link uses it, else the one last heard on.
    pub(super) fn way(&self) -> Option<Via> {
        let direct = |track: &&Track| track.direct() && track.alive();
        let chosen =
            self.chosen_place().filter(|_| self.need == Need::InUse).map(|place| &self.tracks[place]);
        let newest = || self.tracks.iter().filter(direct).max_by_key(|track| track.heard_at());
        chosen.filter(direct).or_else(newest).map(|track| track.via)
    }

    /// Every way to the host itself that works, the best first.
    pub(super) fn direct_ways(&self) -> Vec<Via> {
        self.stations(Track::alive)
    }

    /// Where what the host itself sends may come from. As soon as its probe is answered it may send there, and this host hears of that a moment later only.
    pub(super) fn sources(&self) -> Vec<Via> {
        self.stations(Track::is_peers)
    }

    fn stations(&self, fit: impl Fn(&Track) -> bool) -> Vec<Via> {
        let best = self.way();
        let fit = self.tracks.iter().filter(|track| track.direct() && fit(track)).map(|track| track.via);
        best.into_iter().chain(fit.filter(|via| Some(*via) != best)).collect()
    }

    pub(super) fn ways(&self) -> Ways {
        let chosen = self.chosen_place().map(|place| (self.tracks[place].via, self.tracks[place].origin));
        let known = self.tracks.iter().filter(|track| track.alive() || !track.direct());
        // A handshake must not run ahead of the probes where it would be the early datagram that spoils a NAT's port.
        let early =
            |track: &&Track| !matches!(track.kind, Kind::Candidate(CandidateKind::Observed) | Kind::Heard);
        Ways {
            chosen,
            known: known.map(|track| (track.origin, track.via)).collect(),
            tries: self.tracks.iter().filter(early).map(|track| track.via).collect(),
        }
    }

    pub(super) fn view(&self, now: Instant) -> PeerPaths {
        PeerPaths {
            peer: self.host,
            chosen: self.chosen_place().map(|place| self.tracks[place].view()),
            reason: self.reason,
            nat: self.nat,
            direct: self.direct,
            tried: self.tracks.iter().map(|track| track.tried(now)).collect(),
            search: self.searches.spent(),
        }
    }
}
