//! What is known of each peer and what is to be done about it: connected or why not, when to dial again, which connections may go.
//!
//! Owns the table of peers (at most [`PEERS_MAX`]), their addresses, states, failures and the dial schedule. Refuses to know the swarm, the
//! view and the meaning of a chain. Time and randomness are arguments.
//!
//! ```text
//!          learned            chosen, or asked for                established
//! unknown ────────▶ Down ───────────────────────────▶ Dialling ───────────────▶ Up
//!                    ▲           failed, with a cause     │                      │ closed, with a cause
//!                    └─────────────────────────────────────┴──────────────────────┘
//! ```
//! - A node dials at most [`DIALS_MAX`](schedule::DIALS_MAX) at once, and only while it has fewer than [`NEIGHBOURS_WANTED`] connections or somebody asked for the peer:
//!   a restart of many nodes is a trickle of dials and not a storm (notes/control-plane.md, 1).
//! - A peer that failed waits: 1 s, doubled each time up to [`BACKOFF_MAX`](schedule::BACKOFF_MAX) (or [`BACKOFF_ALONE_MAX`](schedule::BACKOFF_ALONE_MAX) while there is no connection at all), each time
//!   ± 25 %, so that those cut off together do not come back together.
//! - Above [`NEIGHBOURS_MAX`] connections, those unused for [`UNUSED_AFTER`](schedule::UNUSED_AFTER) are closed one by one, the longest unused first. Those through a
//!   third member go first, and above [`NEIGHBOURS_WANTED`] already: each is somebody else's work, and who relays for many serves only so many. One that others lead
//!   through, or over which a stream of node's runs, is used.

pub(crate) mod refused;
mod schedule;
mod status;

pub use schedule::{NEIGHBOURS_MAX, NEIGHBOURS_WANTED};
pub use status::{Direction, Failure, FailureReason, PeerState, PeerStatus, Transport};

use schedule::{BACKOFF_MIN, backoff, jittered};
pub(crate) use schedule::{NEAR_TRIED, NEAR_WANTED, NEIGHBOURS_BY_CIRCUIT};

use crate::{bytes::ADDRESSES_MAX, clock::UnixSeconds, identity::HostId, membership::Chain};
use libp2p::swarm::ConnectionId;
use rand_core::Rng;
use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

/// Most peers remembered: the view, the connected ones, and room for those that fail. About 0.5 KiB each.
pub const PEERS_MAX: usize = 512;
/// Somebody who asks for a peer that failed so recently gets that failure again instead of another dial.
const ASKED_AGAIN_MIN: Duration = Duration::from_millis(500);

/// One connection of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    pub(crate) direction: Direction,
    pub(crate) transport: Transport,
    pub(crate) address: SocketAddr,
    pub(crate) since: UnixSeconds,
}

/// Keeps a peer's connection in use as long as it, or a copy of it, is there: each of node's streams has one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hold(Arc<()>);

impl Hold {
    /// Whether there is a copy.
    fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

#[derive(Debug)]
enum Link {
    Down { retry_at: Duration },
    Dialling,
    Up { connections: Vec<Connection>, round_trip: Option<Duration>, used_at: Duration, hold: Hold },
}

#[derive(Debug)]
struct Peer {
    addresses: Vec<SocketAddr>,
    link: Link,
    chain: Option<Chain>,
    last_seen: Option<UnixSeconds>,
    failure: Option<Failure>,
    failed_at: Duration,
    attempts: u32,
    /// Put out: not dialled until it comes by itself with a new proof.
    barred: bool,
}

/// What an established connection means for the driver.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Established {
    /// The first connection to this peer.
    First,
    /// The peer has newer: close these.
    Replaces(Vec<ConnectionId>),
}

/// Whether a peer can be reached now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Connected,
    Dialling,
    Dial(Vec<SocketAddr>),
    Failed(FailureReason),
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    peers: HashMap<HostId, Peer>,
}

impl Peers {
    /// Notes that `host` may be found at `addresses`. The one that worked last stays first.
    pub(crate) fn learn(&mut self, host: HostId, addresses: &[SocketAddr]) {
        if !self.peers.contains_key(&host) && !self.make_room() {
            return;
        }
        let peer = self.peers.entry(host).or_insert_with(Peer::unknown);
        let proven = peer.last_seen.and_then(|_| peer.addresses.first().copied());
        let mut fresh: Vec<SocketAddr> = proven.into_iter().collect();
        for address in addresses {
            if !fresh.contains(address) && fresh.len() < ADDRESSES_MAX {
                fresh.push(*address);
            }
        }
        if !addresses.is_empty() {
            peer.addresses = fresh;
        }
    }

    /// Adds places where `host` may be found; true if one of them is news.
    pub(crate) fn learn_more(&mut self, host: HostId, addresses: &[SocketAddr]) -> bool {
        let known = self.addresses(&host).to_vec();
        let fresh: Vec<SocketAddr> =
            addresses.iter().filter(|address| !known.contains(address)).copied().collect();
        if fresh.is_empty() {
            return false;
        }
        // News first, after the one that worked last: what is on the link is nearer than what was.
        self.learn(host, &[fresh, known].concat());
        true
    }

    /// A peer that was known in an earlier life of this node.
    pub(crate) fn restore(&mut self, host: HostId, addresses: &[SocketAddr], last_seen: Option<UnixSeconds>) {
        self.learn(host, addresses);
        if let Some(peer) = self.peers.get_mut(&host) {
            peer.last_seen = last_seen;
        }
    }

    /// Makes sure one more fits: the peer that is down and has failed most goes.
    fn make_room(&mut self) -> bool {
        if self.peers.len() < PEERS_MAX {
            return true;
        }
        let worst = self
            .peers
            .iter()
            .filter(|(_, peer)| matches!(peer.link, Link::Down { .. }))
            .max_by_key(|(_, peer)| (peer.attempts, std::cmp::Reverse(peer.last_seen)))
            .map(|(host, _)| *host);
        worst.is_some_and(|host| self.peers.remove(&host).is_some())
    }

    /// Somebody needs `host` now: its backoff does not count, unless it failed a moment ago.
    pub(crate) fn ask_for(&mut self, host: &HostId, now: Duration) -> Reach {
        let Some(peer) = self.peers.get_mut(host) else { return Reach::Failed(FailureReason::NoAddress) };
        match &mut peer.link {
            Link::Up { used_at, .. } => {
                *used_at = now;
                Reach::Connected
            }
            Link::Dialling => Reach::Dialling,
            Link::Down { .. } => {
                if let Some(failure) = &peer.failure
                    && (peer.barred || now.saturating_sub(peer.failed_at) < ASKED_AGAIN_MIN)
                {
                    return Reach::Failed(failure.reason.clone());
                }
                if peer.addresses.is_empty() {
                    return Reach::Failed(FailureReason::NoAddress);
                }
                peer.link = Link::Dialling;
                Reach::Dial(peer.addresses.clone())
            }
        }
    }

    /// The swarm began to dial on its own account (a Kademlia query).
    pub(crate) fn dialling_began(&mut self, host: HostId) {
        self.learn(host, &[]);
        if let Some(peer) = self.peers.get_mut(&host)
            && matches!(peer.link, Link::Down { .. })
        {
            peer.link = Link::Dialling;
        }
    }

    /// A connection stands, and its peer proved its membership by `chain`.
    pub(crate) fn established(
        &mut self,
        host: HostId,
        connection: Connection,
        chain: Chain,
        now: Duration,
    ) -> Established {
        if !self.peers.contains_key(&host) {
            self.make_room();
        }
        let peer = self.peers.entry(host).or_insert_with(Peer::unknown);
        peer.attempts = 0;
        peer.failure = None;
        peer.last_seen = Some(connection.since);
        peer.chain = Some(chain);
        peer.barred = false;
        if connection.direction == Direction::Outbound && connection.transport != Transport::Relayed {
            peer.addresses.retain(|known| *known != connection.address);
            peer.addresses.insert(0, connection.address);
            peer.addresses.truncate(ADDRESSES_MAX);
        }
        if let Link::Up { connections, .. } = &mut peer.link {
            let old = connections.iter().map(|connection| connection.id).collect();
            connections.push(connection);
            return Established::Replaces(old);
        }
        let hold = Hold::default();
        peer.link = Link::Up { connections: vec![connection], round_trip: None, used_at: now, hold };
        Established::First
    }

    /// A connection is gone; `true` if it was the peer's last.
    pub(crate) fn closed(
        &mut self,
        host: &HostId,
        id: ConnectionId,
        failure: Failure,
        now: Duration,
        rng: &mut impl Rng,
    ) -> bool {
        let Some(peer) = self.peers.get_mut(host) else { return false };
        let Link::Up { connections, .. } = &mut peer.link else { return false };
        connections.retain(|connection| connection.id != id);
        if !connections.is_empty() {
            return false;
        }
        peer.failure = Some(failure);
        peer.failed_at = now;
        peer.link = Link::Down { retry_at: now + jittered(BACKOFF_MIN, rng) };
        true
    }

    /// A dial did not lead to a connection.
    pub(crate) fn failed(&mut self, host: &HostId, failure: Failure, now: Duration, rng: &mut impl Rng) {
        let alone = self.connected() == 0;
        let Some(peer) = self.peers.get_mut(host) else { return };
        if matches!(peer.link, Link::Up { .. }) {
            return;
        }
        peer.attempts = peer.attempts.saturating_add(1);
        let wait = jittered(backoff(peer.attempts, alone), rng);
        peer.failure = Some(Failure { attempts: peer.attempts, ..failure });
        peer.failed_at = now;
        peer.link = Link::Down { retry_at: now + wait };
    }

    /// A dial ended because the same peer's own dial won: no failure.
    pub(crate) fn yielded(&mut self, host: &HostId, now: Duration, rng: &mut impl Rng) {
        if let Some(peer) = self.peers.get_mut(host)
            && matches!(peer.link, Link::Dialling)
        {
            peer.link = Link::Down { retry_at: now + jittered(BACKOFF_MIN, rng) };
        }
    }

    /// Dial `host` again as soon as the schedule comes by.
    pub(crate) fn retry_now(&mut self, host: &HostId) {
        if let Some(peer) = self.peers.get_mut(host)
            && !matches!(peer.link, Link::Up { .. })
        {
            peer.link = Link::Down { retry_at: Duration::ZERO };
            // Who asks for it is not told of the last failure: what caused it is over.
            peer.failed_at = Duration::ZERO;
        }
    }

    /// Node used the connection.
    pub(crate) fn used(&mut self, host: &HostId, now: Duration) {
        if let Some(Peer { link: Link::Up { used_at, .. }, .. }) = self.peers.get_mut(host) {
            *used_at = now;
        }
    }

    /// What keeps the connection to `host` in use.
    pub(crate) fn hold(&self, host: &HostId) -> Hold {
        match self.peers.get(host).map(|peer| &peer.link) {
            Some(Link::Up { hold, .. }) => hold.clone(),
            // Without a connection there is nothing to keep.
            _ => Hold::default(),
        }
    }

    /// A ping was answered.
    pub(crate) fn measured(&mut self, host: &HostId, round_trip: Duration, now: UnixSeconds) {
        if let Some(peer) = self.peers.get_mut(host)
            && let Link::Up { round_trip: held, .. } = &mut peer.link
        {
            *held = Some(round_trip);
            peer.last_seen = Some(now);
        }
    }

    /// Peers this host has dialled itself, with where they were found: they can be reached, so others may be reached through them.
    pub(crate) fn dialled(&self) -> impl Iterator<Item = (HostId, SocketAddr, Transport)> {
        self.direct().filter(|(_, connection)| connection.direction == Direction::Outbound).map(shown)
    }

    /// Peers with a connection that is no circuit.
    pub(crate) fn through(&self) -> impl Iterator<Item = (HostId, SocketAddr, Transport)> {
        self.direct().map(shown)
    }

    fn direct(&self) -> impl Iterator<Item = (HostId, &Connection)> {
        self.peers.iter().filter_map(|(host, peer)| {
            let Link::Up { connections, .. } = &peer.link else { return None };
            let direct = connections.iter().find(|connection| connection.transport != Transport::Relayed)?;
            Some((*host, direct))
        })
    }

    /// Where the members are through which other peers are connected.
    fn leading(&self) -> HashSet<SocketAddr> {
        let links = self.peers.values().map(|peer| &peer.link);
        let connections = links.flat_map(|link| match link {
            Link::Up { connections, .. } => connections.as_slice(),
            Link::Down { .. } | Link::Dialling => &[],
        });
        let relayed = connections.filter(|connection| connection.transport == Transport::Relayed);
        relayed.map(|connection| connection.address).collect()
    }

    /// Peers that are being dialled.
    pub(crate) fn being_dialled(&self) -> impl Iterator<Item = HostId> {
        self.peers.iter().filter(|(_, peer)| matches!(peer.link, Link::Dialling)).map(|(host, _)| *host)
    }

    /// Peers with a connection.
    pub(crate) fn up(&self) -> impl Iterator<Item = HostId> {
        self.peers.iter().filter(|(_, peer)| matches!(peer.link, Link::Up { .. })).map(|(host, _)| *host)
    }

    pub(crate) fn is_up(&self, host: &HostId) -> bool {
        self.peers.get(host).is_some_and(|peer| matches!(peer.link, Link::Up { .. }))
    }

    pub(crate) fn connected(&self) -> usize {
        self.up().count()
    }

    fn dialling(&self) -> usize {
        self.peers.values().filter(|peer| matches!(peer.link, Link::Dialling)).count()
    }

    /// The chain a peer proved itself with, while it was connected.
    pub(crate) fn chain(&self, host: &HostId) -> Option<&Chain> {
        self.peers.get(host).and_then(|peer| peer.chain.as_ref())
    }

    /// Every chain a peer showed on a connection.
    pub(crate) fn chains(&self) -> impl Iterator<Item = (HostId, &Chain)> {
        self.peers.iter().filter_map(|(host, peer)| Some((*host, peer.chain.as_ref()?)))
    }

    /// A peer was put out: it stays listed with the reason and is not dialled. Its connections are the driver's to close.
    pub(crate) fn bar(&mut self, host: &HostId, reason: &FailureReason, at: UnixSeconds) {
        if let Some(peer) = self.peers.get_mut(host) {
            peer.barred = true;
            peer.chain = None;
            peer.failure = Some(Failure { reason: reason.clone(), at, attempts: 1 });
        }
    }

    /// Everything learned in another overlay is worthless, but for one host that is in the new one.
    pub(crate) fn clear_but(&mut self, kept: Option<&HostId>) {
        self.peers.retain(|host, _| Some(host) == kept);
    }

    pub(crate) fn is_known(&self, host: &HostId) -> bool {
        self.peers.contains_key(host)
    }

    pub(crate) fn addresses(&self, host: &HostId) -> &[SocketAddr] {
        self.peers.get(host).map_or(&[], |peer| &peer.addresses)
    }

    /// The connections of a peer: one, or two while one replaces the other.
    pub(crate) fn connections(&self, host: &HostId) -> Vec<ConnectionId> {
        match self.peers.get(host).map(|peer| &peer.link) {
            Some(Link::Up { connections, .. }) => {
                connections.iter().map(|connection| connection.id).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Those last seen come first: what a node keeps for its next life.
    pub(crate) fn worth_keeping(&self, count_max: usize) -> Vec<(HostId, Vec<SocketAddr>, UnixSeconds)> {
        let mut seen: Vec<(HostId, Vec<SocketAddr>, UnixSeconds)> = self
            .peers
            .iter()
            .filter(|(_, peer)| !peer.addresses.is_empty())
            .filter_map(|(host, peer)| Some((*host, peer.addresses.clone(), peer.last_seen?)))
            .collect();
        seen.sort_unstable_by_key(|(host, _, last_seen)| (std::cmp::Reverse(*last_seen), *host));
        seen.truncate(count_max);
        seen
    }

    /// All peers, for people.
    pub(crate) fn statuses(&self, now: Duration) -> Vec<PeerStatus> {
        let mut statuses: Vec<PeerStatus> = self
            .peers
            .iter()
            .map(|(host, peer)| PeerStatus {
                host: *host,
                state: match &peer.link {
                    Link::Down { retry_at } => PeerState::Down { retry_in: retry_at.saturating_sub(now) },
                    Link::Dialling => PeerState::Dialling,
                    Link::Up { connections, round_trip, .. } => {
                        let newest = connections.last().expect("a peer that is up has a connection");
                        PeerState::Connected {
                            address: newest.address,
                            transport: newest.transport,
                            direction: newest.direction,
                            since: newest.since,
                            round_trip: *round_trip,
                        }
                    }
                },
                addresses: peer.addresses.clone(),
                last_seen: peer.last_seen,
                failure: peer.failure.clone(),
            })
            .collect();
        statuses.sort_unstable_by_key(|status| status.host);
        statuses
    }
}

fn shown((host, connection): (HostId, &Connection)) -> (HostId, SocketAddr, Transport) {
    (host, connection.address, connection.transport)
}

impl Peer {
    fn unknown() -> Self {
        Self {
            addresses: Vec::new(),
            link: Link::Down { retry_at: Duration::ZERO },
            chain: None,
            last_seen: None,
            failure: None,
            failed_at: Duration::ZERO,
            attempts: 0,
            barred: false,
        }
    }
}

#[cfg(test)]
mod tests;
