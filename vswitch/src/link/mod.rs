//! Links: encrypted ways to peers, one per host, with a channel for each network the two hosts share.
//!
//! # What it owns
//! Who our peers are, their sessions ([`slots`]), channels and grants ([`channel`]), the size their path takes ([`path_mtu`]), whether
//! they are there ([`liveness`]), and the frames that wait for all that ([`hold`]). It refuses to know sockets, devices, the
//! switch's tables and what a grant says.
//!
//! # Two halves
//! ```text
//!  keeper (one thread)                        workers (many)
//!  Links: handshakes, channels, timers  ──▶  Routes (never changed, replaced)  ──▶ Egress: frames ▶ datagrams
//!         ▲                                                                        Ingress: datagrams ▶ frames
//!         └── handshake datagrams, control messages, frames without a route ◀──────┘
//! ```
//! Workers never wait for the keeper: what they need is in [`Routes`], and what they cannot do goes to a bounded queue. All of
//! it is without IO: time, entropy and datagrams are arguments; what is to be sent comes out of [`Links::poll_output`].
//!
//! # Rules
//! - A datagram that is replayed, cut, changed or foreign moves a counter and nothing else.
//! - A link is tried while node offers a grant for it, with ever longer pauses; it is up once the peer has proved its keys.
//! - An authenticated datagram that is the newest of the session in use moves the link to the address it came from (roaming).
//! - A peer whose instance changed has lost its state: sessions before are dropped, channels are asked for anew.

mod channel;
mod counters;
mod egress;
mod event;
mod hold;
mod ingress;
mod liveness;
mod path_mtu;
mod peer;
mod route;
mod slots;
mod snapshot;
#[cfg(test)]
mod tests;
mod wanted;
mod watch;

pub(crate) use counters::{Count, RefusalCounters, RelayCounters};
pub use counters::{LinkCounts, RefusalCounts, RelayCounts};
pub(crate) use egress::{Egress, NotSent, Report, Transmit, Transmitted};
pub use event::{ChannelRequest, Event, LinkDownReason};
pub(crate) use ingress::{Arrived, Ingress};
pub(crate) use path_mtu::LARGEST as DATAGRAM_PROBED_MAX;
pub(crate) use route::{Route, Routes};
pub use snapshot::{ChannelSnapshot, LinkSnapshot, LinkState};

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    entropy::Entropy,
    path::{
        LineSnapshot, Need, Origin, PathOutput, Paths, PathsSnapshot, Probers, RelaySnapshot, RelayTable,
        SocketId, Via, Ways,
    },
    session::{Cookies, Identity, Judgement, PublicKey, Received, SessionLimits},
    switch::{NetworkId, PeerIndex},
    wire::Datagram,
};
use peer::Link;

/// Peers of one host: the hosts of all its slices. A link at rest takes a few KiB, its sessions 6 KiB.
pub(crate) const LINKS_MAX: usize = 4096;
/// Bytes of frames held for all links: some hundred links that open at once.
const HELD_BYTES_MAX: usize = 8 << 20;
/// Grants kept for peers that node has not named yet.
const EARLY_GRANTS_MAX: usize = 1024;

/// The time, twice: for timers, and for the timestamps of initiations.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) at: Instant,
    /// Nanoseconds since 1970. Only its growth matters.
    pub(crate) wall_nanos: u64,
}

/// What links are told once.
#[derive(Debug)]
pub(crate) struct LinksConfig {
    pub(crate) identity: Identity,
    pub(crate) limits: SessionLimits,
    /// The largest datagram that is ever sent.
    pub(crate) datagram_limit: u16,
    /// Initiations in a second that are answered without a cookie.
    pub(crate) calm_per_second: u32,
    /// Workers that receive; at most 64. All sessions of one peer are received by one worker.
    pub(crate) lanes: u8,
}

/// What the driver has to do.
#[derive(Debug)]
pub(crate) enum Output {
    /// Send a datagram, which lives `hops` hops if that is said. Whether it could be sent is not asked.
    Send { via: Via, hops: Option<u8>, datagram: Vec<u8> },
    /// Open another socket, for a port search.
    OpenSocket(SocketId),
    /// Close one.
    CloseSocket(SocketId),
    /// Tell node.
    Tell(Event),
    /// Send these frames, for which the way is open now.
    Release { peer: PeerIndex, network: NetworkId, frames: Vec<Vec<u8>> },
}

/// What all links share.
#[derive(Debug)]
struct Shared {
    identity: Identity,
    own_key: PublicKey,
    limits: SessionLimits,
    entropy: Entropy,
    /// Which link an index belongs to.
    indices: HashMap<u32, PeerIndex>,
    outputs: VecDeque<Output>,
    refusals: Arc<RefusalCounters>,
    /// The sum over all links.
    held_bytes: usize,
    lanes: u8,
}

impl Shared {
    /// An index that no session or initiation has. Its lowest byte, modulo the number of lanes, is the peer's lane: rekeys and
    /// roaming do not move a flow to another worker. Beside that it is random, so that it tells nothing.
    fn draw_index(&mut self, peer: PeerIndex) -> u32 {
        loop {
            let [low, rest @ ..] = self.entropy.array::<4>();
            let low = low - low % self.lanes;
            // The first port's queue is read by the first worker: the first peer's datagrams go to the second.
            let lane = u8::try_from((peer.get() + 1) % u32::from(self.lanes)).expect("fewer than 256 lanes");
            let Some(low) = low.checked_add(lane) else { continue };
            let index = u32::from_le_bytes([low, rest[0], rest[1], rest[2]]);
            if let std::collections::hash_map::Entry::Vacant(place) = self.indices.entry(index) {
                place.insert(peer);
                return index;
            }
        }
    }

    /// Sends a datagram of a link.
    fn send(&mut self, via: &Via, datagram: &[u8]) {
        self.outputs.push_back(Output::Send { via: *via, hops: None, datagram: via.wrap(datagram) });
    }

    fn tell(&mut self, event: Event) {
        self.outputs.push_back(Output::Tell(event));
    }

    fn entropy_jitter(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.entropy.below(u32::try_from(most.as_micros()).unwrap_or(u32::MAX)).into())
    }
}

/// All links of this host.
#[derive(Debug)]
pub(crate) struct Links {
    shared: Shared,
    cookies: Cookies,
    datagram_limit: u16,
    links: BTreeMap<PeerIndex, Entry>,
    by_key: HashMap<PublicKey, PeerIndex>,
    early_grants: BTreeMap<(PeerIndex, NetworkId), Vec<u8>>,
    deadlines: BTreeSet<(Instant, PeerIndex)>,
    paths: Paths,
    probers: Arc<Probers>,
    relay: Arc<RelayTable>,
    changed: bool,
}

#[derive(Debug)]
struct Entry {
    link: Link,
    route: Arc<Route>,
    deadline: Option<Instant>,
    need: Need,
}

impl Links {
    pub(crate) fn new(
        config: LinksConfig,
        mut entropy: Entropy,
        refusals: Arc<RefusalCounters>,
        now: Now,
    ) -> Self {
        let own_key = config.identity.secret.public();
        let (secret, overlay) = (config.identity.secret.clone(), config.identity.shared.clone());
        let paths = Paths::new(secret, overlay, entropy.fork(), Arc::clone(&refusals), now);
        Self {
            cookies: Cookies::new(own_key, entropy.fork(), config.calm_per_second, now.at),
            shared: Shared {
                identity: config.identity,
                own_key,
                limits: config.limits,
                entropy,
                indices: HashMap::new(),
                outputs: VecDeque::new(),
                refusals,
                held_bytes: 0,
                lanes: config.lanes.max(1),
            },
            datagram_limit: config.datagram_limit,
            links: BTreeMap::new(),
            by_key: HashMap::new(),
            early_grants: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            paths,
            probers: Arc::default(),
            relay: Arc::default(),
            changed: true,
        }
    }

    // ── what comes from workers ──

    /// A datagram that is not data.
    pub(crate) fn handle_datagram(&mut self, now: Now, from: Origin, bytes: &[u8]) {
        let datagram = match Datagram::parse(bytes) {
            Ok(datagram) => datagram,
            Err(refusal) => return self.shared.refusals.refused(refusal),
        };
        match datagram {
            Datagram::Initiation(initiation) => {
                if !self.admitted(now.at, from, initiation.sender(), initiation.bytes()) {
                    return;
                }
                let Ok(received) =
                    Received::open(&self.shared.identity, &initiation, &mut self.shared.entropy)
                else {
                    return self.shared.refusals.handshake_forged.one();
                };
                match self.by_key.get(&received.peer) {
                    Some(peer) => {
                        self.with(now.at, *peer, |link, shared| {
                            link.handle_initiation(shared, now, from, received)
                        });
                    }
                    None => self.shared.refusals.peer_unknown.one(),
                }
            }
            Datagram::Response(response) => {
                if !self.admitted(now.at, from, response.sender(), response.bytes()) {
                    return;
                }
                match self.shared.indices.get(&response.receiver()) {
                    Some(peer) => {
                        self.with(now.at, *peer, |link, shared| {
                            link.handle_response(shared, now, from, &response)
                        });
                    }
                    None => self.shared.refusals.unexpected.one(),
                }
            }
            Datagram::CookieReply(reply) => match self.shared.indices.get(&reply.receiver()) {
                Some(peer) => {
                    self.with(now.at, *peer, |link, shared| link.handle_cookie(shared, now, &reply));
                }
                None => self.shared.refusals.unexpected.one(),
            },
            // Workers keep these.
            Datagram::Data(_) | Datagram::Probe(_) | Datagram::Relayed(..) => {
                self.shared.refusals.session_unknown.one();
            }
        }
    }

    /// Before any public-key work.
    fn admitted(&mut self, now: Instant, from: Origin, index: u32, message: &[u8]) -> bool {
        match self.cookies.judge(now, from.address, index, message) {
            Judgement::Proceed => return true,
            Judgement::Foreign => self.shared.refusals.mac1_wrong.one(),
            Judgement::TooMany => self.shared.refusals.address_rate.one(),
            Judgement::ProveAddress(reply) => {
                self.shared.refusals.cookie_replies.one();
                match from.back().or_else(|| self.paths.back(&from)) {
                    Some(via) => self.shared.send(&via, &reply),
                    None => self.shared.refusals.way_unknown.one(),
                }
            }
        }
        false
    }

    /// A datagram was opened that proves a session or comes from another address.
    pub(crate) fn handle_touched(
        &mut self,
        now: Now,
        peer: PeerIndex,
        index: u32,
        from: Origin,
        newest: bool,
    ) {
        self.with(now.at, peer, |link, shared| link.handle_touched(shared, now, index, from, newest));
    }

    /// A probe or reply that a worker found to be this peer's.
    pub(crate) fn handle_probe(&mut self, now: Instant, peer: PeerIndex, from: Origin, bytes: &[u8]) {
        self.paths.handle_probe(now, peer, from, bytes);
        self.settle(now);
    }

    /// A link at rest sends.
    pub(crate) fn handle_woken(&mut self, now: Instant, peer: PeerIndex) {
        self.with(now, peer, |link, _| link.handle_woken(now));
    }

    /// A control message that a worker opened.
    pub(crate) fn handle_control(&mut self, now: Now, peer: PeerIndex, bytes: &[u8]) {
        self.with(now.at, peer, |link, shared| link.handle_control(shared, now, bytes));
    }

    /// A frame came on a channel that is not known.
    pub(crate) fn handle_unknown_channel(&mut self, now: Instant, peer: PeerIndex, channel: u32) {
        self.with(now, peer, |link, shared| link.handle_unknown_channel(shared, now, channel));
    }

    /// A frame that a worker could not send yet.
    pub(crate) fn handle_frame(&mut self, now: Instant, peer: PeerIndex, network: NetworkId, frame: Vec<u8>) {
        self.with(now, peer, |link, shared| link.handle_frame(shared, now, network, frame));
    }

    /// The local interface refused a datagram of this size.
    pub(crate) fn handle_too_large(&mut self, now: Instant, peer: PeerIndex, size: u16) {
        self.with(now, peer, |link, _| link.handle_too_large(now, size));
    }

    // ── time and outputs ──

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Now) {
        self.paths.handle_timeout(now.at);
        self.settle(now.at);
        while let Some((deadline, peer)) = self.deadlines.first().copied() {
            if deadline > now.at {
                break;
            }
            self.deadlines.pop_first();
            if let Some(entry) = self.links.get_mut(&peer) {
                entry.deadline = None;
            }
            self.with(now.at, peer, |link, shared| link.handle_timeout(shared, now));
            // A link whose next deadline is not later would be served for ever.
            if self.deadlines.first().is_some_and(|first| *first == (deadline, peer)) {
                self.set_deadline(peer, Some(now.at + Duration::from_millis(1)));
            }
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let links = self.deadlines.first().map(|(at, _)| *at);
        links.into_iter().chain(self.paths.poll_timeout()).min()
    }

    /// The next thing to do, until none.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.shared.outputs.pop_front()
    }

    /// What workers must see, if it changed since the last time. To be published before any output is acted on: an answer to what
    /// is sent may come at once.
    pub(crate) fn take_routes(&mut self) -> Option<Routes> {
        if let Some(probers) = self.paths.take_probers() {
            self.probers = Arc::new(probers);
            self.changed = true;
        }
        if let Some(table) = self.paths.take_table() {
            self.relay = Arc::new(table);
            self.changed = true;
        }
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let mut routes = Routes {
            probers: Arc::clone(&self.probers),
            relay: Arc::clone(&self.relay),
            ..Routes::default()
        };
        for (peer, entry) in &self.links {
            routes.peers.insert(*peer, Arc::clone(&entry.route));
            for session in entry.link.sessions() {
                routes.sessions.insert(session.local_index(), Arc::clone(session));
            }
        }
        Some(routes)
    }

    /// All links, for people.
    pub(crate) fn snapshot(&self, now: Instant) -> Vec<LinkSnapshot> {
        self.links.values().map(|entry| entry.link.snapshot(now)).collect()
    }

    /// All paths, for people.
    pub(crate) fn paths(&self, now: Instant) -> PathsSnapshot {
        self.paths.snapshot(now)
    }

    /// Links with a rate, for people.
    pub(crate) fn lines(&self) -> Vec<LineSnapshot> {
        self.paths.lines()
    }

    /// What is forwarded for others, for people.
    pub(crate) fn relay_snapshot(&self, counters: &RelayCounters) -> RelaySnapshot {
        self.paths.relay_snapshot(counters)
    }

    fn with<T>(
        &mut self,
        now: Instant,
        peer: PeerIndex,
        act: impl FnOnce(&mut Link, &mut Shared) -> T,
    ) -> Option<T> {
        let entry = self.links.get_mut(&peer)?;
        let held = entry.link.held_bytes();
        let result = act(&mut entry.link, &mut self.shared);
        self.shared.held_bytes = self.shared.held_bytes - held + entry.link.held_bytes();
        let notes = entry.link.take_notes();
        let need = entry.link.need(now);
        let needs = std::mem::replace(&mut entry.need, need) != need;
        if notes.reborn {
            self.paths.reborn(now, peer);
        }
        if needs {
            self.paths.set_need(now, peer, need);
        }
        if let Some(origin) = notes.heard {
            self.paths.heard(now, peer, origin);
        }
        if let Some(sample) = notes.sample {
            self.paths.sample(now, peer, sample);
        }
        if notes.suspect {
            self.paths.suspect(now, peer);
        }
        self.finish(now, peer);
        self.settle(now);
        Some(result)
    }

    /// Gives links the ways that changed, and passes on what paths ask for.
    fn settle(&mut self, now: Instant) {
        while let Some((peer, ways)) = self.paths.take_changed() {
            self.give_ways(now, peer, ways);
        }
        while let Some(output) = self.paths.poll_output() {
            self.shared.outputs.push_back(match output {
                PathOutput::Send { via, hops, datagram } => Output::Send { via, hops, datagram },
                PathOutput::Tell(event) => Output::Tell(event),
                PathOutput::Open(socket) => Output::OpenSocket(socket),
                PathOutput::Close(socket) => Output::CloseSocket(socket),
            });
        }
    }

    fn give_ways(&mut self, now: Instant, peer: PeerIndex, ways: Ways) {
        let Some(entry) = self.links.get_mut(&peer) else { return };
        entry.link.set_ways(&mut self.shared, now, ways);
        self.finish(now, peer);
    }

    /// What follows for workers and timers from a change of a link.
    fn finish(&mut self, now: Instant, peer: PeerIndex) {
        let Some(entry) = self.links.get_mut(&peer) else { return };
        if entry.link.take_changed() {
            entry.route = Arc::new(entry.link.route(|via| self.paths.line(peer, via)));
            self.changed = true;
        }
        let deadline = entry.link.poll_timeout(now, &self.shared);
        self.set_deadline(peer, deadline);
    }

    fn set_deadline(&mut self, peer: PeerIndex, deadline: Option<Instant>) {
        let Some(entry) = self.links.get_mut(&peer) else { return };
        if let Some(old) = std::mem::replace(&mut entry.deadline, deadline) {
            self.deadlines.remove(&(old, peer));
        }
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, peer));
        }
    }
}

/// More peers than a host has links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("at most {LINKS_MAX} peers have links")]
pub struct LinksFull;
