//! What node wants of the links: peers and where they may be reached, grants, relays, rates.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    ChannelRequest, EARLY_GRANTS_MAX, Entry, LINKS_MAX, LinkDownReason, Links, LinksFull, peer::Link,
};
use crate::{
    HostId,
    path::{
        Candidate, LocalPaths, Need, PeerNat, RelayLeg, RelayPolicy, RelayRefusal, RelayTokens, RelayedPath,
    },
    session::PublicKey,
    switch::{NetworkId, PeerIndex},
    wire::control::{GRANT_BYTES_MAX, GrantRefusal},
};

impl Links {
    /// Names a peer. Another key is another peer: the old link goes.
    pub(crate) fn set_peer(
        &mut self,
        now: Instant,
        peer: PeerIndex,
        host: HostId,
        key: PublicKey,
    ) -> Result<(), LinksFull> {
        if self.links.get(&peer).is_some_and(|entry| entry.link.key != key) {
            self.remove_peer(now, peer);
        }
        if !self.links.contains_key(&peer) {
            if self.links.len() >= LINKS_MAX {
                return Err(LinksFull);
            }
            let link = Link::new(peer, host, key, now, self.datagram_limit);
            let route = Arc::new(link.route(|_| None));
            self.links.insert(peer, Entry { link, route, deadline: None, need: Need::None });
            self.by_key.insert(key, peer);
            self.paths.set_peer(now, peer, host, &key);
            let networks: Vec<_> = self.early_grants.keys().filter(|(of, _)| *of == peer).copied().collect();
            for place in networks {
                if let Some(grant) = self.early_grants.remove(&place) {
                    self.offer_grant(now, place.1, peer, grant);
                }
            }
        }
        self.settle(now);
        Ok(())
    }

    /// Whether the link to a peer is kept up, frames or not.
    pub(crate) fn set_kept(&mut self, now: Instant, peer: PeerIndex, kept: bool) {
        self.with(now, peer, |link, _| link.set_kept(now, kept));
    }

    /// Where a peer may be reached: by its record, or (with its NAT) by its node just now.
    pub(crate) fn set_candidates(
        &mut self,
        now: Instant,
        peer: PeerIndex,
        candidates: &[Candidate],
        met: Option<PeerNat>,
    ) {
        self.paths.set_candidates(now, peer, candidates, met);
        self.settle(now);
    }

    /// Ways to a peer through relays, and whether direct ones are allowed.
    pub(crate) fn set_relayed(&mut self, now: Instant, peer: PeerIndex, relayed: &[RelayedPath]) {
        self.paths.set_relayed(now, peer, relayed);
        self.settle(now);
    }

    /// Whether the topology allows direct ways to a peer.
    pub(crate) fn set_direct(&mut self, now: Instant, peer: PeerIndex, direct: bool) {
        self.paths.set_direct(now, peer, direct);
        self.settle(now);
    }

    /// The addresses of this host's interfaces, with the port. Peers of other ones before are told at once.
    pub(crate) fn set_local(&mut self, now: Instant, local: Vec<SocketAddr>) {
        let moved = self.paths.set_local(now, local);
        self.own_moved(now, moved);
    }

    /// Addresses that are reached through the switch and are no ways to anybody.
    pub(crate) fn set_inside(&mut self, now: Instant, prefixes: Vec<(IpAddr, u8)>) {
        let moved = self.paths.set_inside(now, prefixes);
        self.own_moved(now, moved);
    }

    fn own_moved(&mut self, now: Instant, moved: bool) {
        if moved {
            for peer in self.links.keys().copied().collect::<Vec<_>>() {
                self.with(now, peer, |link, _| link.own_moved(now));
            }
        }
        self.settle(now);
    }

    /// Ports that node had mapped at a router.
    pub(crate) fn set_mapped(&mut self, now: Instant, mapped: Vec<SocketAddr>) {
        self.paths.set_mapped(now, mapped);
        self.settle(now);
    }

    /// Peers that are asked what they see of this host.
    pub(crate) fn set_observers(&mut self, now: Instant, observers: Vec<PeerIndex>) {
        self.paths.set_observers(now, observers);
        self.settle(now);
    }

    /// Where this host can be reached.
    pub(crate) fn is_inside(&self, ip: IpAddr) -> bool {
        self.paths.is_inside(ip)
    }

    pub(crate) fn own_paths(&self) -> LocalPaths {
        self.paths.local()
    }

    /// What the owner lets others send through this host.
    pub(crate) fn set_relay(&mut self, now: Instant, policy: RelayPolicy) {
        self.paths.set_relay(now, policy);
        self.settle(now);
    }

    /// The most, in bits a second, that this host sends over its direct link to a peer, for itself and for others; none: whatever it carries.
    pub(crate) fn set_rate(&mut self, now: Instant, peer: PeerIndex, bits_per_second: Option<u64>) {
        if !self.paths.set_rate(now, peer, bits_per_second) {
            return;
        }
        // Ways through the peer have it as their first link, too.
        for (peer, entry) in &mut self.links {
            entry.route = Arc::new(entry.link.route(|via| self.paths.line(*peer, via)));
        }
        self.changed = true;
        self.settle(now);
    }

    /// Opens a leg through this host, or begins its time anew.
    pub(crate) fn relay_open(&mut self, now: Instant, leg: &RelayLeg) -> Result<RelayTokens, RelayRefusal> {
        let opened = self.paths.relay_open(now, leg);
        self.settle(now);
        opened
    }

    /// Closes a leg.
    pub(crate) fn relay_close(&mut self, now: Instant, incoming: u32) {
        self.paths.relay_close(now, incoming);
        self.settle(now);
    }

    /// Forgets a peer with its keys.
    pub(crate) fn remove_peer(&mut self, now: Instant, peer: PeerIndex) {
        self.paths.remove_peer(now, peer);
        self.settle(now);
        let Some(mut entry) = self.links.remove(&peer) else { return };
        entry.link.leave(&mut self.shared, LinkDownReason::Removed);
        self.shared.held_bytes -= entry.link.held_bytes();
        self.by_key.remove(&entry.link.key);
        if let Some(deadline) = entry.deadline {
            self.deadlines.remove(&(deadline, peer));
        }
        self.changed = true;
    }

    /// The grant to present to a peer for a network; the link is wanted from now on. False if it is too long or there is no room.
    pub(crate) fn offer_grant(
        &mut self,
        now: Instant,
        network: NetworkId,
        peer: PeerIndex,
        grant: Vec<u8>,
    ) -> bool {
        if grant.is_empty() || grant.len() > GRANT_BYTES_MAX {
            return false;
        }
        if !self.links.contains_key(&peer) {
            let room = self.early_grants.len() < EARLY_GRANTS_MAX;
            if room {
                self.early_grants.insert((peer, network), grant);
            }
            return room;
        }
        self.with(now, peer, |link, _| link.offer_grant(now, network, grant))
            .is_some_and(|offered| offered.is_ok())
    }

    /// Says something to a peer's node, over whatever way the link has; false where there is no link.
    pub(crate) fn say(&mut self, now: Instant, peer: PeerIndex, body: &[u8]) -> bool {
        self.with(now, peer, |link, shared| link.say_note(shared, body)).unwrap_or(false)
    }

    /// Closes a network's channels on all links.
    pub(crate) fn remove_network(&mut self, now: Instant, network: NetworkId) {
        self.early_grants.retain(|(_, of), _| *of != network);
        for peer in self.links.keys().copied().collect::<Vec<_>>() {
            self.with(now, peer, |link, shared| link.remove_network(shared, network));
        }
    }

    /// Closes a network's channels to all but these peers: the others are no members any more.
    pub(crate) fn keep_members(&mut self, now: Instant, network: NetworkId, members: &BTreeSet<PeerIndex>) {
        self.early_grants.retain(|(peer, of), _| *of != network || members.contains(peer));
        let others: Vec<_> = self.links.keys().copied().filter(|peer| !members.contains(peer)).collect();
        for peer in others {
            self.with(now, peer, |link, shared| link.remove_network(shared, network));
        }
    }

    /// Node's judgement of a grant.
    pub(crate) fn answer(
        &mut self,
        now: Instant,
        request: &ChannelRequest,
        answer: Result<Duration, GrantRefusal>,
    ) {
        self.with(now, request.peer, |link, shared| link.answer(shared, now, request, answer));
    }

    /// The event could not be delivered: the peer's next question raises it again.
    pub(crate) fn forget_question(&mut self, request: &ChannelRequest) {
        if let Some(entry) = self.links.get_mut(&request.peer) {
            entry.link.forget_question(request.network);
        }
    }

    /// Says farewell to all.
    pub(crate) fn leave(&mut self, now: Instant) {
        for peer in self.links.keys().copied().collect::<Vec<_>>() {
            self.remove_peer(now, peer);
        }
    }
}
