//! All ways to one peer: probed when a link wants one, compared, one of them chosen, and watched while it is used.
//!
//! | file | what it is about |
//! |---|---|
//! | here | the peer's state, what node and links want of it |
//! | `answers` | probes and replies that came |
//! | `upkeep` | what time does |
//!
//! # Who decides
//! Each end chooses for itself what it sends on, and takes what comes by any path. So that both use one path (and keep one NAT open), the end with the
//! lesser public key goes first: it says so on the path it chose (*nominate*), and the other follows if the path works for it too.

mod answers;
mod upkeep;

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use super::{
    CANDIDATES_MAX, Candidate, CandidateKind, PathOutput, PeerNat, RELAYED_MAX, RelayedPath, Shared,
    bucket::Bucket,
    choice,
    key::{ProbeKey, Tag},
    track::{Kind, Track},
    via::{Origin, SocketId, Via},
    view::{PathReason, PeerPaths, SearchSpent},
};
use crate::{
    HostId,
    link::Event,
    session::ReplayWindow,
    switch::PeerIndex,
    wire::{Probe, ProbeFlags, ProbeKind},
};

/// Ways to one peer: its candidates, its relays, and where its datagrams came from.
const TRACKS_MAX: usize = CANDIDATES_MAX + RELAYED_MAX + HEARD_MAX;
/// Of them, those known from datagrams only. A new one takes the place of the one that was silent longest.
const HEARD_MAX: usize = 4;
/// Replies to one peer in a second, and at once: a whole port search of the peer's, and its keep-alives.
const REPLIES_PER_SECOND: u32 = 150;
const REPLIES_AT_ONCE: u32 = 300;
/// Probes of a search that may still be answered: four seconds' worth.
const SEARCHED_MAX: usize = 400;
/// Until node is asked for a meeting: shorter than anybody notices, longer than a direct handshake takes on most paths.
const MEET_AFTER: Duration = Duration::from_millis(100);
/// The next meetings while no path is found, doubled each time.
const MEET_AGAIN: Duration = Duration::from_secs(2);
const MEET_AGAIN_MAX: Duration = Duration::from_secs(30);
/// The next meetings while the path leads through a relay though a direct one is allowed, doubled each time.
const UPGRADE_AGAIN: Duration = Duration::from_secs(30);
const UPGRADE_AGAIN_MAX: Duration = Duration::from_secs(300);
/// After candidates came, until a port search begins if no probe was answered: two probes of each burst, and a round trip on most paths. The bursts'
/// later probes go on meanwhile, within the search's rate.
const SEARCH_AFTER: Duration = Duration::from_millis(400);
/// Between searches for one peer, doubled each time up to an hour.
const SEARCH_AGAIN: Duration = Duration::from_secs(60);

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

#[derive(Debug)]
struct Meet {
    at: Instant,
    tries: u32,
}

/// Traffic goes unanswered: does the path still work?
#[derive(Debug)]
struct Suspicion {
    since: Instant,
    rounds: u32,
    next: Instant,
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
    serial: u64,
    window: Box<ReplayWindow>,
    replies: Bucket,
    need: Need,
    /// Links of other peers use this one as relay.
    relays_for: bool,
    meet: Option<Meet>,
    suspicion: Option<Suspicion>,
    calm_until: Instant,
    herald: Option<Herald>,
    keep_at: Option<Instant>,
    search_at: Option<Instant>,
    searched_at: Option<Instant>,
    spent: SearchSpent,
    searched: VecDeque<(u64, Origin, Instant)>,
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
            serial: named.serial,
            window: Box::default(),
            replies: Bucket::new(now, REPLIES_PER_SECOND, REPLIES_AT_ONCE),
            need: Need::None,
            relays_for: false,
            meet: None,
            suspicion: None,
            calm_until: now,
            herald: None,
            keep_at: None,
            search_at: None,
            searched_at: None,
            spent: SearchSpent::default(),
            searched: VecDeque::new(),
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
        };
        self.drop_tracks(shared, keep);
        if self.direct {
            for candidate in new {
                self.add_candidate(candidate);
            }
        }
        if met {
            self.search_at = Some(now + SEARCH_AFTER);
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
        } else if self.tracks.len() < TRACKS_MAX {
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
            } else if self.tracks.len() < TRACKS_MAX {
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
            // A relay takes the first datagram, wherever its address is known from.
            self.tracks.iter_mut().for_each(|track| track.start(now));
        }
        self.relays_for = relays_for;
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
            if !self.relays_for {
                self.keep_at = None;
            }
            return;
        }
        self.start(now, false);
        if self.meet.is_none() && !self.settled() {
            self.meet = Some(Meet { at: now + MEET_AFTER, tries: 0 });
        }
        if need == Need::InUse {
            self.keep_at.get_or_insert(now);
        }
    }

    /// Something that the session proves came from there. Unknown ways are followed: the peer is there now.
    pub(super) fn heard(&mut self, shared: &mut Shared, now: Instant, origin: Origin) {
        match self.place(&origin) {
            Some(place) => self.tracks[place].heard(now),
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
    }

    /// What is sent gets no answer.
    pub(super) fn suspect(&mut self, now: Instant) {
        if self.suspicion.is_none() && now >= self.calm_until {
            self.suspicion = Some(Suspicion { since: now, rounds: 0, next: now });
        }
    }

    /// Links that go through this relay are not answered: it is asked once whether it hears this host.
    pub(super) fn suspect_way(&mut self, shared: &mut Shared, now: Instant) {
        if now >= self.calm_until {
            self.calm_until = now + Duration::from_secs(1);
            self.ask(shared, now);
        }
    }

    /// This host's own addresses are others now: the peer must learn it at once.
    pub(super) fn own_moved(&mut self, now: Instant) {
        if self.need > Need::None || self.relays_for {
            self.herald = Some(Herald { moved: true, tries: 0, next: now });
            self.tracks.iter_mut().filter(|track| !track.alive()).for_each(|track| track.start(now));
        }
    }

    // ── the choice ──

    /// Whether anything is sent for it.
    fn active(&self) -> bool {
        self.need >= Need::Wanted || self.relays_for
    }

    /// A direct path works, or the one allowed.
    fn settled(&self) -> bool {
        self.chosen_place().is_some_and(|place| {
            let chosen = &self.tracks[place];
            chosen.alive() && (chosen.direct() || !self.direct)
        })
    }

    fn place(&self, origin: &Origin) -> Option<usize> {
        self.tracks.iter().position(|track| track.origin.same(origin))
    }

    fn chosen_place(&self) -> Option<usize> {
        self.chosen.and_then(|chosen| self.place(&chosen))
    }

    /// Probes what is not known to work; after a meeting also what failed before, and what needs both ends to probe at once.
    fn start(&mut self, now: Instant, met: bool) {
        for track in self.tracks.iter_mut().filter(|track| !track.alive()) {
            if met {
                track.restart(now);
            } else if !track.needs_meeting() {
                track.start(now);
            }
        }
    }

    fn drop_tracks(&mut self, shared: &mut Shared, keep: impl Fn(&Track) -> bool) {
        for track in self.tracks.iter().filter(|track| !keep(track)) {
            shared.close(track.via.socket);
        }
        self.tracks.retain(keep);
    }

    /// A way known from the peer's datagrams; none where direct ways are not allowed.
    fn add_heard(&mut self, shared: &mut Shared, origin: Origin) -> Option<usize> {
        let via = origin.back().filter(|_| self.direct)?;
        let heard = |track: &&Track| track.kind == Kind::Heard;
        if self.tracks.iter().filter(heard).count() >= HEARD_MAX || self.tracks.len() >= TRACKS_MAX {
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

    /// Chooses anew after something changed.
    fn reconsider(&mut self, shared: &mut Shared, now: Instant, reason: PathReason) {
        let current = self.chosen_place();
        if self.chosen.is_some() && current.is_none() {
            self.chosen = None;
            self.changed = true;
        }
        let nominated = self.nominated.filter(|_| !self.first).and_then(|origin| self.place(&origin));
        let nominated = nominated.filter(|place| self.tracks[*place].alive());
        let best = nominated.or_else(|| choice::best(&self.tracks, current));
        match best {
            Some(place) if current == Some(place) => {}
            Some(place) => {
                let reason = match current {
                    None if reason != PathReason::Withdrawn => PathReason::First,
                    Some(current) if !self.tracks[current].alive() => PathReason::Failover,
                    _ if nominated.is_some() => PathReason::Nominated,
                    _ => reason,
                };
                self.choose(shared, now, place, reason);
            }
            None if current.is_none() && reason == PathReason::Withdrawn && self.reason.take().is_some() => {
                self.tell(shared, PathReason::Withdrawn);
            }
            None => {}
        }
        self.want_meeting(now);
    }

    fn choose(&mut self, shared: &mut Shared, now: Instant, place: usize, reason: PathReason) {
        let origin = self.tracks[place].origin;
        if self.chosen.is_some_and(|chosen| chosen.same(&origin)) {
            return;
        }
        self.chosen = Some(origin);
        self.reason = Some(reason);
        self.changed = true;
        self.suspicion = None;
        if self.first {
            self.herald = Some(Herald { moved: false, tries: 0, next: now });
        }
        if self.need > Need::None {
            self.tell(shared, reason);
        }
        self.want_meeting(now);
    }

    fn tell(&self, shared: &mut Shared, reason: PathReason) {
        let path = self.chosen_place().map(|place| self.tracks[place].view());
        shared.outputs.push_back(PathOutput::Tell(Event::PathChanged { peer: self.host, path, reason }));
    }

    /// Sets the time of the next meeting by how good the chosen path is.
    fn want_meeting(&mut self, now: Instant) {
        if self.need < Need::Wanted || self.settled() {
            self.meet = None;
        } else if self.chosen_place().is_some_and(|place| self.tracks[place].alive()) {
            let soon = |meet: &Meet| meet.at < now + UPGRADE_AGAIN && meet.tries > 0;
            if self.meet.as_ref().is_none_or(soon) {
                self.meet = Some(Meet { at: now + UPGRADE_AGAIN, tries: 1 });
            }
        } else if self.meet.is_none() {
            self.meet = Some(Meet { at: now + MEET_AFTER, tries: 0 });
        }
    }

    /// The chosen path was answered on.
    fn answered_chosen(&mut self, now: Instant) {
        if self.suspicion.take().is_some() {
            self.calm_until = now + Duration::from_secs(1);
        }
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

    /// A probe of a port search.
    pub(super) fn probe_search(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        socket: SocketId,
        to: SocketAddr,
        hops: Option<u8>,
    ) {
        let serial = self.next_serial();
        if self.searched.len() == SEARCHED_MAX {
            self.searched.pop_front();
        }
        self.searched.push_back((serial, Origin { socket, address: to, token: None }, now));
        self.spent.probes = self.spent.probes.saturating_add(1);
        let via = Via { socket, address: to, token: None };
        let kind = ProbeKind::Probe(ProbeFlags::default());
        self.send(shared, via, Probe { kind, tag: self.tag_out, serial, address: Some(to) }, hops);
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn send(&self, shared: &mut Shared, via: Via, probe: Probe, hops: Option<u8>) {
        let datagram = probe.encode(|covered| self.key.mac(covered));
        shared.outputs.push_back(PathOutput::Send { via, hops, datagram: via.wrap(&datagram) });
    }

    // ── port search ──

    /// The part this host would have in a port search now; none: there is nothing to search.
    pub(super) fn search_due(&mut self, now: Instant) -> bool {
        if self.search_at.is_none_or(|at| at > now) {
            return false;
        }
        self.search_at = None;
        let again = SEARCH_AGAIN * 2_u32.saturating_pow(self.spent.searches.saturating_sub(1).min(6));
        let rested = self.searched_at.is_none_or(|at| now >= at + again);
        let found = self.tracks.iter().any(|track| track.direct() && track.alive());
        self.direct && self.need >= Need::Wanted && !found && rested
    }

    pub(super) fn nat(&self) -> PeerNat {
        self.nat
    }

    /// The peer's outside IPv4 addresses, those seen by members first, and the ports it has inside.
    pub(super) fn outside(&self) -> (Vec<SocketAddr>, Vec<u16>) {
        let kinds =
            [CandidateKind::Observed, CandidateKind::Mapped, CandidateKind::Told, CandidateKind::Local];
        let of = |wanted: CandidateKind| {
            self.tracks
                .iter()
                .filter(move |track| track.kind == Kind::Candidate(wanted))
                .map(|track| track.via.address)
        };
        let global = |address: &SocketAddr| match address.ip() {
            IpAddr::V4(ip) => !ip.is_private() && !ip.is_loopback() && !ip.is_link_local(),
            IpAddr::V6(_) => false,
        };
        let outside = kinds.into_iter().flat_map(of).filter(global).collect();
        let inside =
            of(CandidateKind::Local).chain(of(CandidateKind::Observed)).map(|address| address.port());
        (outside, inside.collect())
    }

    pub(super) fn search_began(&mut self, now: Instant) {
        self.searched_at = Some(now);
        self.spent.searches = self.spent.searches.saturating_add(1);
    }

    pub(super) fn search_opened(&mut self) {
        self.spent.mappings = self.spent.mappings.saturating_add(1);
    }

    /// Whether a direct path works: a search has nothing more to find.
    pub(super) fn direct_alive(&self) -> bool {
        self.tracks.iter().any(|track| track.direct() && track.alive())
    }

    pub(super) fn uses(&self, socket: SocketId) -> bool {
        self.tracks.iter().any(|track| track.via.socket == socket)
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
        let best = self.way();
        let working =
            self.tracks.iter().filter(|track| track.direct() && track.alive()).map(|track| track.via);
        best.into_iter().chain(working.filter(|via| Some(*via) != best)).collect()
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
            search: self.spent,
        }
    }
}
