//! When a host seeks ports: searches ([`super::search`]) and fresh ports ([`super::fresh`]) begin and end here, one of each at a time.

use std::time::Instant;

use super::{
    HostId, NatKind, Origin, Paths, PeerNat, Shared,
    fresh::{self, Fresh, Purpose},
    search::{Act, SOCKETS, Search},
};
use crate::{switch::PeerIndex, wire::Probe};

/// Members that are asked what they see of a fresh socket: two tell a sequence, and each costs a mapping.
const OBSERVERS: usize = 3;
const MAPPINGS: u32 = 3;

const _: () = assert!(OBSERVERS == MAPPINGS as usize);

impl Shared {
    /// Whether a reply answers a question that was asked from a fresh socket.
    pub(super) fn take_fresh(&mut self, now: Instant, by: HostId, origin: &Origin, reply: &Probe) -> bool {
        let Some(fresh) = self.fresh.as_mut().filter(|fresh| fresh.socket == origin.socket) else {
            return false;
        };
        let Some(seen) = reply.address else { return false };
        if !fresh.takes(now, reply.serial, origin.address, seen) {
            return false;
        }
        let is_first = fresh.seen().nth(1).is_none();
        if is_first && matches!(fresh.purpose, Purpose::Way(_)) {
            self.own.set_fresh(now, Some((seen, by)));
        }
        true
    }
}

impl Paths {
    /// A peer that was met may have told what something under way waits for.
    pub(super) fn told_meanwhile(&mut self, now: Instant, peer: PeerIndex, nat: PeerNat) {
        if let Some(search) = self.search.as_mut().filter(|search| search.peer == peer) {
            search.hint(nat.ports);
        }
        let named = self.shared.fresh.as_ref().filter(|fresh| fresh.seen().next().is_some());
        if let Some(Fresh { socket, purpose, .. }) = named
            && *purpose == Purpose::Way(peer)
        {
            let socket = *socket;
            self.with(now, peer, |peer, shared, now| peer.try_from(shared, now, socket));
        }
    }

    /// A peer goes.
    pub(super) fn forget_ports_of(&mut self, now: Instant, peer: PeerIndex) {
        if self.search.as_ref().is_some_and(|search| search.peer == peer) {
            self.end_search();
        }
        if self.shared.fresh.as_ref().is_some_and(|fresh| fresh.purpose == Purpose::Way(peer)) {
            self.end_fresh(now);
        }
    }

    pub(super) fn begin_search(&mut self, now: Instant, index: PeerIndex) {
        let Some(peer) = self.peers.get_mut(&index) else { return };
        if !peer.search_due(now) {
            return;
        }
        let (own, theirs) = (self.shared.own.nat(), peer.nat());
        let easy = |kind: NatKind| matches!(kind, NatKind::None | NatKind::EndpointIndependent);
        let is_hard = own.kind.is_hard() && easy(theirs.kind);
        let (outside, inside) = peer.outside();
        let Some(first) = outside.first().copied() else { return };
        let is_easy = easy(own.kind) && theirs.kind.is_hard();
        if !is_hard && !is_easy {
            return;
        }
        if self.search.is_some() || is_hard && !self.mappings.has(now, SOCKETS.into()) {
            return self.with(now, index, |peer, _, now| peer.put_search_off(now));
        }
        if peer.is_search_put_off() {
            // The other end searches from the meeting on, too: one end's half finds nothing alone.
            return self.with(now, index, |peer, _, now| peer.meet_for_search(now));
        }
        let search = match is_hard {
            true => Search::hard(now, index, first),
            false => Search::easy(now, index, first.ip(), theirs.ports, &inside, &mut self.shared.entropy),
        };
        peer.search_began(now);
        self.search = Some(search);
    }

    pub(super) fn run_search(&mut self, now: Instant) {
        let beside = std::mem::take(&mut self.shared.beside);
        let Some(search) = &mut self.search else { return };
        search.put_off(now, beside);
        let index = search.peer;
        let is_in_vain = self.peers.get(&index).is_none_or(|peer| !peer.is_search_wanted());
        if is_in_vain || search.over(now) {
            return self.end_search();
        }
        while let Some(act) = self.search.as_mut().and_then(|search| search.take(now)) {
            let (socket, to, hops) = match act {
                Act::Probe(socket, to, hops) => (socket, to, hops),
                Act::Open(to, hops) => {
                    if !self.mappings.take(now) {
                        return;
                    }
                    let Some(socket) = self.shared.open(Some(index)) else { return };
                    if let Some(search) = &mut self.search {
                        search.opened(socket);
                    }
                    self.with(now, index, |peer, _, _| peer.search_opened());
                    (socket, to, Some(hops))
                }
            };
            self.with(now, index, |peer, shared, now| peer.probe_search(shared, now, socket, to, hops));
        }
    }

    fn end_search(&mut self) {
        let Some(search) = self.search.take() else { return };
        let peer = self.peers.get(&search.peer);
        for socket in search.into_sockets() {
            if !peer.is_some_and(|peer| peer.uses(socket)) {
                self.shared.close(socket);
            }
        }
    }

    // ── fresh ports ──

    /// Where the NAT gives each destination another port: which come next, so that the peer to be met knows.
    pub(super) fn look_at_ports(&mut self, now: Instant) {
        let is_recent = self.ports_asked.is_some_and(|asked| now < asked + fresh::LOOK_EVERY);
        if !is_recent && self.shared.own.nat().kind.is_hard() && self.ask_fresh(now, Purpose::Ports) {
            self.ports_asked = Some(now);
        }
    }

    /// A round of probes was in vain: another port, that nothing has spoiled.
    pub(super) fn begin_afresh(&mut self, now: Instant, index: PeerIndex) {
        let Some(peer) = self.peers.get_mut(&index) else { return };
        if !peer.in_vain(now) {
            return;
        }
        let (own, theirs) = (self.shared.own.nat().kind, peer.nat().kind);
        let is_ours = own == NatKind::EndpointIndependent && (theirs == NatKind::None || peer.is_first());
        if !fresh::may_be_spoiled(own, theirs) || !is_ours || !peer.may_open_port(now) {
            return;
        }
        match &self.shared.fresh {
            Some(fresh) if fresh.purpose == Purpose::Way(index) => self.end_fresh(now),
            Some(fresh) => {
                let until = fresh.ends();
                return self.with(now, index, |peer, _, _| peer.put_port_off(until));
            }
            None => {}
        }
        if self.ask_fresh(now, Purpose::Way(index)) {
            self.with(now, index, |peer, _, now| peer.port_opened(now));
        }
    }

    /// Opens a socket and asks members what they see of it; false if there is nobody to ask, or too much was opened lately.
    fn ask_fresh(&mut self, now: Instant, purpose: Purpose) -> bool {
        let observers: Vec<PeerIndex> = self.shared.own.observers().to_vec();
        if self.shared.fresh.is_some() || !self.mappings.has(now, MAPPINGS) {
            return false;
        }
        let owner = match purpose {
            Purpose::Ports => None,
            Purpose::Way(peer) => Some(peer),
        };
        let Some(socket) = self.shared.open(owner) else { return false };
        let mut fresh = Fresh::new(now, purpose, socket);
        for observer in observers.into_iter().take(OBSERVERS) {
            let mut asked = None;
            self.with(now, observer, |peer, shared, _| asked = peer.ask_over(shared, socket));
            if let Some((serial, address)) = asked {
                fresh.asks(serial, address);
                self.mappings.take(now);
            }
        }
        if !fresh.has_asked() {
            self.shared.close(socket);
            return false;
        }
        self.shared.fresh = Some(fresh);
        true
    }

    pub(super) fn run_fresh(&mut self, now: Instant) {
        let Some(fresh) = &mut self.shared.fresh else { return };
        if let Purpose::Way(peer) = fresh.purpose
            && self.peers.get(&peer).is_none_or(|peer| !peer.is_search_wanted())
        {
            fresh.settled(now);
        }
        if fresh.ends() <= now {
            self.end_fresh(now);
        }
    }

    fn end_fresh(&mut self, now: Instant) {
        let Some(fresh) = self.shared.fresh.take() else { return };
        let mut is_used = false;
        match fresh.purpose {
            Purpose::Ports => {
                let ports: Vec<u16> = fresh.seen().map(|seen| seen.port()).collect();
                if !ports.is_empty() {
                    self.shared.own.note_ports(now, &ports);
                }
            }
            Purpose::Way(peer) => {
                self.shared.own.set_fresh(now, None);
                self.with(now, peer, |peer, shared, _| is_used = peer.leave_port(shared, fresh.socket));
            }
        }
        if !is_used {
            self.shared.close(fresh.socket);
        }
    }
}
