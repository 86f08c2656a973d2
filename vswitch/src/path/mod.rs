//! Paths: where a datagram to a peer is sent, found by probes, measured and chosen.
//!
//! # What it owns
//! Where this host can be reached (`own`), every way that is known to each peer (`peer`, `track`) and which one its link uses (`choice`), port searches
//! (`search`), and forwarding for others (`forward`). It refuses to know sessions, frames and sockets: time, randomness and datagrams are arguments, what is to be
//! sent comes out of `Paths::poll_output`.
//!
//! # The story
//! A *probe* asks a peer over one way; its *reply* shows that the way works both ways, how long it takes, and from where the peer saw the probe. Both carry a code made with
//! a key that only the two hosts have (`key`); strangers get no answer, and no answer is longer than its question.
//!
//! 1. Members answer probes with what they saw: so a host learns its outside addresses and the kind of its NAT (`nat`).
//! 2. A link is wanted. What is known of the peer is probed at once; if nothing answers within a tenth of a second, node is asked for a *meeting*
//!    ([`Event::MeetWanted`]): both ends learn the other's candidates and probe at the same time, so that each opens its own NAT
//!    (`schedule`: the first probes live few hops).
//!    Where that was in vain, a probe may have come too early all the same: from another port they begin afresh (`fresh`).
//! 3. Where one end's NAT gives each destination another port, the two search for one within a hard budget (`search`).
//! 4. Until then, or if that fails, the link goes through a relay, which forwards by token and opens nothing (`forward`); datagrams are taken from any way, so that
//!    going over to a better one loses none.
//! 5. Traffic that goes unanswered makes the path doubted: it and the others are probed at once, and the first that answers takes its place. A host whose own
//!    addresses change says so to its relays and peers at once, and doubts the paths of links in use; what a session proves to come from elsewhere moves the
//!    link as well.
//! 6. Only ways of links in use are kept open (`keepalive`).
//!
//! Addresses on networks that this host itself is on are no ways at all (`inside`).
//!
//! Sources: RFC 4787 (kinds of NAT), RFC 8445 (ICE: candidates, checks, nomination), RFC 8489 (STUN), RFC 5128 (hole punching); and what was
//! measured on machines like these (`notes/control-plane.md`).

mod bucket;
mod candidate;
mod choice;
mod forward;
mod fresh;
mod inside;
mod keepalive;
mod key;
mod line;
mod local;
mod nat;
mod own;
mod peer;
mod ports;
mod relayed;
mod relaying;
mod schedule;
mod search;
mod snapshot;
mod track;
mod via;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    HostId,
    entropy::Entropy,
    link::{Event, Now, RefusalCounters},
    session::{PublicKey, SharedSecret, StaticSecret},
    switch::PeerIndex,
    wire::{Probe, ProbeKind},
};
pub use candidate::{CANDIDATES_MAX, Candidate, CandidateKind, RELAYED_MAX, RelayedPath};
pub(crate) use forward::RelayTable;
pub use inside::INSIDE_MAX;
pub(crate) use key::{ProbeKey, Tag};
pub(crate) use line::Line;
pub use line::LineSnapshot;
pub use local::LocalPaths;
pub use nat::{NatKind, NatView, PeerNat, PortPattern};
pub(crate) use peer::{Need, Ways};
pub use relayed::{
    LEG_LIFE_MAX, RelayLeg, RelayPolicy, RelayRefusal, RelaySnapshot, RelayTokens, TOKENS_MAX,
};
pub(crate) use via::{Origin, SocketId, Via};
pub use view::{PathReason, PathResult, PathView, PathsSnapshot, PeerPaths, SearchSpent, TriedPath};

use forward::Relays;
use fresh::Fresh;
use own::Own;
use peer::{Named, Peer};
use search::{MAPPINGS_MAX, MAPPINGS_PER_SECOND, Search};

/// Probes a second of all bursts, and at once: some links that open together; a port search has a budget of its own.
const PROBES_PER_SECOND: u32 = 200;
const PROBES_AT_ONCE: u32 = 400;
/// Sockets of port searches that are open at one time: those in use, and the search's own.
const SOCKETS_MAX: usize = 512;

/// What the driver has to do.
#[derive(Debug)]
pub(crate) enum PathOutput {
    /// Send a datagram, which lives `hops` hops if that is said.
    Send { via: Via, hops: Option<u8>, datagram: Vec<u8> },
    /// Tell node.
    Tell(Event),
    /// Open another socket.
    Open(SocketId),
    /// Close one.
    Close(SocketId),
}

/// What all peers share.
#[derive(Debug)]
struct Shared {
    own: Own,
    outputs: VecDeque<PathOutput>,
    refusals: Arc<RefusalCounters>,
    entropy: Entropy,
    budget: bucket::Bucket,
    /// When the budget is exhausted.
    blocked_until: Option<Instant>,
    /// Probes of bursts since the port search last looked: they take from its rate.
    beside: u32,
    /// Beside the main one, and whose ways may lead over each; none: nobody's, it only asks.
    sockets: BTreeMap<SocketId, Option<PeerIndex>>,
    last_socket: u16,
    fresh: Option<Fresh>,
}

impl Shared {
    fn may_probe(&mut self, now: Instant) -> bool {
        if self.blocked_until.is_some_and(|until| until > now) {
            return false;
        }
        let may = self.budget.take(now);
        self.blocked_until = (!may).then(|| self.budget.next_at());
        self.beside = self.beside.saturating_add(u32::from(may));
        may
    }

    fn open(&mut self, owner: Option<PeerIndex>) -> Option<SocketId> {
        if self.sockets.len() >= SOCKETS_MAX {
            return None;
        }
        let id = loop {
            self.last_socket =
                if self.last_socket + 1 < SocketId::SECOND.0 { self.last_socket + 1 } else { 1 };
            if !self.sockets.contains_key(&SocketId(self.last_socket)) {
                break SocketId(self.last_socket);
            }
        };
        self.sockets.insert(id, owner);
        self.outputs.push_back(PathOutput::Open(id));
        Some(id)
    }

    /// Whether ways of this peer may lead over a socket: one that closes with another's would take them along.
    fn may_use(&self, origin: &Origin, peer: PeerIndex) -> bool {
        // What came through a relay comes where the relay's ways lead.
        origin.socket == SocketId::MAIN || origin.token.is_some() || self.is_owner(origin.socket, peer)
    }

    fn is_owner(&self, socket: SocketId, peer: PeerIndex) -> bool {
        self.sockets.get(&socket).is_some_and(|owner| *owner == Some(peer))
    }

    fn close(&mut self, socket: SocketId) {
        if self.sockets.remove(&socket).is_some() {
            self.outputs.push_back(PathOutput::Close(socket));
        }
    }
}

/// How workers tell whose a probe is, before anything else is done for it.
#[derive(Debug, Default)]
pub(crate) struct Probers(HashMap<Tag, (PeerIndex, ProbeKey)>);

/// Why a probe is no peer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoProber {
    Stranger,
    Forged,
}

impl Probers {
    /// Whose probe or reply it is: one look-up for a stranger's, one hash for a forged one.
    pub(crate) fn judge(&self, bytes: &[u8]) -> Result<PeerIndex, NoProber> {
        let tag = crate::wire::probe_tag(bytes).ok_or(NoProber::Stranger)?;
        let (peer, key) = self.0.get(&tag).ok_or(NoProber::Stranger)?;
        if key.made(bytes) { Ok(*peer) } else { Err(NoProber::Forged) }
    }
}

/// All paths of this host.
#[derive(Debug)]
pub(crate) struct Paths {
    shared: Shared,
    secret: StaticSecret,
    overlay: SharedSecret,
    own_key: PublicKey,
    peers: BTreeMap<PeerIndex, Peer>,
    by_host: HashMap<HostId, PeerIndex>,
    relays: Relays,
    /// Of peers whose direct links have a rate.
    lines: BTreeMap<PeerIndex, Arc<Line>>,
    search: Option<Search>,
    /// What the NAT before this host can bear, whichever peer is searched for.
    mappings: bucket::Bucket,
    /// When it was last looked which ports the NAT gives next.
    ports_asked: Option<Instant>,
    deadlines: BTreeSet<(Instant, PeerIndex)>,
    deadline_of: HashMap<PeerIndex, Instant>,
    /// Peers whose links must see other ways.
    changed: BTreeSet<PeerIndex>,
    probers_changed: bool,
    /// This host has been told its addresses.
    placed: bool,
    inside: inside::Inside,
    start: Now,
}

impl Paths {
    pub(crate) fn new(
        secret: StaticSecret,
        overlay: SharedSecret,
        entropy: Entropy,
        refusals: Arc<RefusalCounters>,
        now: Now,
    ) -> Self {
        let own_key = secret.public();
        Self {
            shared: Shared {
                own: Own::new(now.at),
                outputs: VecDeque::new(),
                refusals,
                entropy,
                budget: bucket::Bucket::new(now.at, PROBES_PER_SECOND, PROBES_AT_ONCE),
                blocked_until: None,
                beside: 0,
                sockets: BTreeMap::new(),
                last_socket: 0,
                fresh: None,
            },
            secret,
            overlay,
            own_key,
            peers: BTreeMap::new(),
            by_host: HashMap::new(),
            relays: Relays::new(),
            lines: BTreeMap::new(),
            search: None,
            mappings: bucket::Bucket::new(now.at, MAPPINGS_PER_SECOND, MAPPINGS_MAX),
            ports_asked: None,
            inside: inside::Inside::default(),
            deadlines: BTreeSet::new(),
            deadline_of: HashMap::new(),
            changed: BTreeSet::new(),
            probers_changed: false,
            placed: false,
            start: now,
        }
    }

    // ── what node tells ──

    /// Names a peer.
    pub(crate) fn set_peer(&mut self, now: Instant, peer: PeerIndex, host: HostId, key: &PublicKey) {
        if self.peers.contains_key(&peer) {
            return;
        }
        let probe_key = ProbeKey::new(&self.secret, key, &self.overlay);
        let lived = now.saturating_duration_since(self.start.at).as_micros();
        let named = Named {
            index: peer,
            host,
            tag_in: probe_key.tag(key),
            tag_out: probe_key.tag(&self.own_key),
            key: probe_key,
            first: self.own_key < *key,
            serial: self.start.wall_nanos / 1000 + u64::try_from(lived).unwrap_or(0),
        };
        self.peers.insert(peer, Peer::new(now, named));
        self.by_host.insert(host, peer);
        self.probers_changed = true;
    }

    pub(crate) fn remove_peer(&mut self, now: Instant, peer: PeerIndex) {
        self.with(now, peer, |peer, shared, _| peer.leave(shared));
        let Some(gone) = self.peers.remove(&peer) else { return };
        self.by_host.remove(&gone.host);
        self.relays.remove_peer(peer);
        self.lines.remove(&peer);
        self.set_deadline(peer, None);
        self.forget_ports_of(now, peer);
        self.probers_changed = true;
    }

    /// The peer's candidates as its record or node tells them; `met` with its NAT: both sides probe now.
    pub(crate) fn set_candidates(
        &mut self,
        now: Instant,
        peer: PeerIndex,
        candidates: &[Candidate],
        met: Option<PeerNat>,
    ) {
        let outside = |candidate: &Candidate| !self.inside.contains(candidate.address.ip());
        let candidates: Vec<Candidate> =
            candidates.iter().filter(|candidate| outside(candidate)).copied().collect();
        self.with(now, peer, |peer, shared, now| {
            if let Some(nat) = met {
                peer.set_nat(nat);
            }
            peer.set_candidates(shared, now, &candidates, met.is_some());
        });
        if let Some(nat) = met {
            self.told_meanwhile(now, peer, nat);
        }
    }

    pub(crate) fn set_relayed(&mut self, now: Instant, peer: PeerIndex, relayed: &[RelayedPath]) {
        let at: HashMap<HostId, Via> = relayed
            .iter()
            .filter_map(|way| Some((way.relay, self.way(*self.by_host.get(&way.relay)?)?)))
            .collect();
        self.with(now, peer, |peer, shared, now| {
            peer.set_relayed(shared, now, relayed, |relay| at.get(&relay).copied());
        });
        self.note_relays(now);
    }

    pub(crate) fn set_direct(&mut self, now: Instant, peer: PeerIndex, direct: bool) {
        self.with(now, peer, |peer, shared, now| peer.set_direct(shared, now, direct));
    }

    pub(crate) fn set_mapped(&mut self, now: Instant, mapped: Vec<SocketAddr>) {
        self.shared.own.set_mapped(now, mapped);
    }

    pub(crate) fn set_observers(&mut self, now: Instant, observers: Vec<PeerIndex>) {
        self.shared.own.set_observers(now, observers);
    }

    /// Addresses that are reached through the switch from now on; see [`inside`]. Those of this host among them are forgotten.
    pub(crate) fn set_inside(&mut self, now: Instant, prefixes: Vec<(IpAddr, u8)>) -> bool {
        self.inside = inside::Inside::new(prefixes);
        self.set_local(now, self.shared.own.paths().local)
    }

    pub(crate) fn is_inside(&self, ip: IpAddr) -> bool {
        self.inside.contains(ip)
    }

    /// The addresses of this host's interfaces, with the port. True if they are others than before: peers are told at once.
    pub(crate) fn set_local(&mut self, now: Instant, mut local: Vec<SocketAddr>) -> bool {
        local.retain(|address| !self.inside.contains(address.ip()));
        // A host that had no address for a moment has moved all the same.
        let first = !self.placed;
        self.placed |= !local.is_empty();
        if !self.shared.own.set_local(now, local) {
            // The route of an address that came before it may be there now.
            for peer in self.peers.keys().copied().collect::<Vec<_>>() {
                self.with(now, peer, |peer, shared, now| peer.own_moved_again(shared, now));
            }
            return false;
        }
        if first {
            return false;
        }
        self.say_moved(now);
        true
    }

    /// Relays hear of it first: they forward nothing from an address they do not know.
    fn say_moved(&mut self, now: Instant) {
        for relays in [true, false] {
            let which = self.peers.values().filter(|peer| peer.relays_for() == relays);
            for peer in which.map(|peer| peer.index).collect::<Vec<_>>() {
                self.with(now, peer, |peer, shared, now| peer.own_moved(shared, now));
            }
        }
    }

    pub(crate) fn local(&self) -> LocalPaths {
        self.shared.own.paths()
    }

    // ── what links tell ──

    pub(crate) fn set_need(&mut self, now: Instant, peer: PeerIndex, need: Need) {
        let is_new = need >= Need::Wanted && self.peers.get(&peer).is_some_and(|peer| !peer.is_wanted());
        self.with(now, peer, |peer, _, now| peer.set_need(now, need));
        if is_new {
            self.look_at_ports(now);
        }
        if self.peers.get(&peer).is_some_and(Peer::has_relays) {
            self.note_relays(now);
        }
    }

    /// The way to answer what came through a relay from a host that is not known yet.
    pub(crate) fn back(&self, origin: &Origin) -> Option<Via> {
        self.peers.values().find_map(|peer| peer.back(origin))
    }

    /// A session's datagram came from there.
    pub(crate) fn heard(&mut self, now: Instant, peer: PeerIndex, origin: Origin) {
        if self.inside.contains(origin.address.ip()) || !self.shared.may_use(&origin, peer) {
            return self.shared.refusals.way_unknown.one();
        }
        self.with(now, peer, |peer, shared, now| peer.heard(shared, now, origin));
    }

    pub(crate) fn sample(&mut self, now: Instant, peer: PeerIndex, sample: Duration) {
        self.with(now, peer, |peer, _, now| peer.sample(now, sample));
    }

    pub(crate) fn reborn(&mut self, now: Instant, peer: PeerIndex) {
        self.with(now, peer, |peer, _, _| peer.reborn());
    }

    pub(crate) fn suspect(&mut self, now: Instant, peer: PeerIndex) {
        // A relay that sees this host elsewhere than before forwards nothing until it knows: it hears of it first. Without any, observers are asked.
        let relays: Vec<HostId> = self.peers.get(&peer).into_iter().flat_map(Peer::relays).collect();
        let is_alone = relays.is_empty();
        for relay in relays {
            if let Some(relay) = self.by_host.get(&relay).copied() {
                self.with(now, relay, |relay, shared, now| relay.suspect_way(shared, now));
            }
        }
        self.with(now, peer, |peer, _, now| peer.suspect(now));
        if is_alone {
            self.shared.own.ask_soon(now);
        }
    }

    /// A probe or reply that [`Probers`] found to be this peer's.
    pub(crate) fn handle_probe(&mut self, now: Instant, peer: PeerIndex, origin: Origin, bytes: &[u8]) {
        let probe = match Probe::parse(bytes) {
            Ok(probe) => probe,
            Err(refusal) => return self.shared.refusals.refused(refusal),
        };
        if self.inside.contains(origin.address.ip()) {
            return self.shared.refusals.way_unknown.one();
        }
        self.with(now, peer, |peer, shared, now| match probe.kind {
            ProbeKind::Probe(flags) => peer.handle_probe(shared, now, origin, &probe, flags),
            ProbeKind::Reply => peer.handle_reply(shared, now, origin, &probe),
        });
    }

    // ── time and outputs ──

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for observer in self.shared.own.take_due(now) {
            self.with(now, observer, |peer, shared, now| peer.ask(shared, now));
        }
        if self.shared.own.take_news(now) {
            self.shared.outputs.push_back(PathOutput::Tell(Event::CandidatesChanged));
        }
        if self.relays.expire(now) {
            self.note_relays(now);
        }
        while let Some((at, peer)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.set_deadline(peer, None);
            self.with(now, peer, |peer, shared, now| peer.handle_timeout(shared, now));
            self.begin_search(now, peer);
            self.begin_afresh(now, peer);
            if self.peers.get_mut(&peer).is_some_and(|peer| std::mem::take(&mut peer.asks_to_meet)) {
                self.look_at_ports(now);
            }
            // One whose next deadline is not later would be served for ever.
            if self.deadline_of.get(&peer).is_some_and(|next| *next <= at.max(now)) {
                self.set_deadline(peer, Some(now + Duration::from_millis(1)));
            }
        }
        self.run_search(now);
        self.run_fresh(now);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let peers = self.deadlines.first().map(|(at, _)| *at);
        let search = self.search.as_ref().map(Search::next_at);
        let fresh = self.shared.fresh.as_ref().map(Fresh::ends);
        let own = self.shared.own.next_at();
        [peers, search, fresh, own, self.relays.next_at()].into_iter().flatten().min()
    }

    pub(crate) fn poll_output(&mut self) -> Option<PathOutput> {
        self.shared.outputs.pop_front()
    }

    /// A peer whose link must see other ways, and those ways.
    pub(crate) fn take_changed(&mut self) -> Option<(PeerIndex, Ways)> {
        let peer = self.changed.pop_first()?;
        Some((peer, self.peers.get(&peer).map(Peer::ways).unwrap_or_default()))
    }

    /// How workers tell whose a probe is, if that changed since the last time.
    pub(crate) fn take_probers(&mut self) -> Option<Probers> {
        std::mem::take(&mut self.probers_changed).then(|| {
            Probers(self.peers.values().map(|peer| (peer.tag_in, (peer.index, peer.key.clone()))).collect())
        })
    }

    // ── inside ──

    fn way(&self, peer: PeerIndex) -> Option<Via> {
        self.peers.get(&peer).and_then(Peer::way)
    }

    /// Acts on a peer, and passes on what follows from it.
    fn with(&mut self, now: Instant, index: PeerIndex, act: impl FnOnce(&mut Peer, &mut Shared, Instant)) {
        let Some(peer) = self.peers.get_mut(&index) else { return };
        let legs = self.relays.any();
        let (before, were) = (peer.way(), legs.then(|| peer.sources()));
        act(peer, &mut self.shared, now);
        let (after, are) = (peer.way(), legs.then(|| peer.sources()));
        if std::mem::take(&mut peer.changed) {
            self.changed.insert(index);
        }
        let (host, deadline) = (peer.host, peer.next_at(self.shared.blocked_until));
        self.set_deadline(index, deadline);
        // From where the host sends may be known before where it is reached.
        if were != are || before != after {
            self.relays.moved(index);
        }
        if let Some(to) = after.filter(|_| before != after) {
            self.relay_moved(host, to);
        }
    }

    fn set_deadline(&mut self, peer: PeerIndex, deadline: Option<Instant>) {
        let old = match deadline {
            Some(deadline) => self.deadline_of.insert(peer, deadline),
            None => self.deadline_of.remove(&peer),
        };
        if let Some(old) = old {
            self.deadlines.remove(&(old, peer));
        }
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, peer));
        }
    }
}
