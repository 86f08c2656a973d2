//! Who is where: records and their exchange, and the search by Kademlia for hosts that no record tells of.

use super::{
    Call, Driver,
    connections::reject,
    requests::{EXCHANGE, REVOCATIONS},
    transport::{dial_addresses, from_multiaddr},
};
use crate::{
    bytes::ADDRESSES_MAX,
    clock::UnixSeconds,
    counters::count,
    event::Event,
    identity::HostId,
    peers::{FailureReason, NEAR_TRIED, Reach},
    protocol::{
        revocations::encode_question,
        rpc::{RpcRefusal, RpcResponse},
    },
    record::{Draft, HostRecord, RECORD_REFRESH, RecordRefusal, Unverified},
    view::{
        Offered, below,
        exchange::{Exchange, RECORDS_MAX, SEQUENCE_STEP, Tag},
    },
};
use libp2p::kad::{self, GetClosestPeersError, QueryResult};
use std::{net::SocketAddr, sync::Arc, time::Duration};

/// Searches under way at once.
const SEARCHES_MAX: usize = 64;
/// Peers that hear of a changed record at once; the others by their exchanges.
const SPREAD_MAX: usize = 8;
/// A record that keeps changing is spread at most so often.
const SPREAD_PAUSE: Duration = Duration::from_secs(2);

impl Driver {
    /// Where others may find this host.
    pub(super) fn own_addresses(&self) -> Vec<SocketAddr> {
        let mut found: Vec<SocketAddr> = self.config.advertise.clone();
        found.extend(
            self.swarm.listeners().filter_map(|address| from_multiaddr(address).map(|(address, _)| address)),
        );
        let reachable = |address: &SocketAddr| match address.ip() {
            std::net::IpAddr::V4(ip) => !ip.is_link_local() && !ip.is_unspecified(),
            // A link-local address means nothing without its interface.
            std::net::IpAddr::V6(ip) => !ip.is_unicast_link_local() && !ip.is_unspecified(),
        };
        found.retain(reachable);
        if found.iter().any(|address| !address.ip().is_loopback()) {
            found.retain(|address| !address.ip().is_loopback());
        }
        let mut addresses = Vec::new();
        for address in found {
            if !addresses.contains(&address) && addresses.len() < ADDRESSES_MAX {
                addresses.push(address);
            }
        }
        addresses
    }

    /// Signs this host's record anew.
    pub(super) fn renew_record(&mut self) {
        let (addresses, relays) = (self.own_addresses(), self.circuits.relays());
        let door = self.door.lock();
        let Some(membership) = &door.membership else { return };
        let milliseconds = u64::try_from(self.clock.since_epoch().as_millis()).unwrap_or(u64::MAX);
        self.record_sequence = self.record_sequence.saturating_add(SEQUENCE_STEP).max(milliseconds);
        let draft = Draft {
            sequence: self.record_sequence,
            issued: self.clock.unix(),
            addresses: &addresses,
            relays: &relays,
            payload: &self.payload,
            chain: &membership.chain,
        };
        self.record = Some(Arc::new(HostRecord::issue(door.pair(), membership.overlay, &draft)));
    }

    /// Tells some peers of a change at once, or as soon as the pause is over.
    pub(super) fn spread_record(&mut self) {
        let now = self.now();
        if now < self.spread_at + SPREAD_PAUSE {
            self.spread_due = true;
            return;
        }
        self.spread_due = false;
        self.spread_at = now;
        let mut up: Vec<HostId> = self.peers.up().collect();
        for _ in 0..SPREAD_MAX.min(up.len()) {
            let chosen = up.swap_remove(below(&mut self.rng, up.len()));
            self.exchange_with(chosen);
        }
    }

    pub(super) fn record_of(&self, host: &HostId) -> Option<Arc<HostRecord>> {
        if host == self.swarm.local_peer_id() { self.record.clone() } else { self.view.get(host).cloned() }
    }

    pub(super) fn upkeep_directory(&mut self) {
        let (now, unix) = (self.now(), self.clock.unix());
        for host in self.view.expire(unix) {
            if !self.peers.is_up(&host) {
                self.leave_directory(&host);
            }
            self.announce(Event::RecordChanged(host));
        }
        let is_old = |record: &Arc<HostRecord>| record.issued.after(RECORD_REFRESH) <= unix;
        if self.record.as_ref().is_some_and(is_old) {
            self.renew_record();
        }
        if self.spread_due {
            self.spread_record();
        }
        if self.pace.is_due(now) {
            let up = self.whom_to_ask();
            if !up.is_empty() {
                let chosen = up[below(&mut self.rng, up.len())];
                self.exchange_with(chosen);
            }
        }
    }

    /// Whom to ask for records: in turn one that is near, who knows this host's other neighbours, and any, who knows the rest.
    fn whom_to_ask(&mut self) -> Vec<HostId> {
        let up: Vec<HostId> = self.peers.up().collect();
        self.near_is_next = !self.near_is_next;
        if self.near_is_next {
            return up;
        }
        let mut near = self.view.nearest(NEAR_TRIED);
        near.retain(|host| up.contains(host));
        if near.is_empty() { up } else { near }
    }

    fn own_exchange(&self, records: &[Arc<HostRecord>]) -> Exchange {
        let digest = self.door.lock().revocations.digest();
        Exchange::new(digest, self.documents.digest(), self.view.tags(), records)
    }

    /// Asks a connected peer for records, and brings it this host's own if it may not have it.
    pub(super) fn exchange_with(&mut self, host: HostId) {
        let has_own = |record: &&Arc<HostRecord>| self.told.get(&host) != Some(&record.sequence);
        let own: Vec<Arc<HostRecord>> = self.record.iter().filter(has_own).cloned().collect();
        let message = self.own_exchange(&own).encode();
        self.send_call(host, EXCHANGE, message, Call::Exchange { told: own.first().map(|own| own.sequence) });
    }

    pub(super) fn on_exchange(&mut self, peer: HostId, body: &[u8]) -> RpcResponse {
        let theirs = Exchange::decode(body).map_err(|_| RpcRefusal::Malformed)?;
        // Its own record first, so that this host does not ask for it.
        self.take_exchange(peer, &theirs);
        let is_known = |own: &&Arc<HostRecord>| theirs.known.iter().any(|tag| tag.covers(Tag::of(own)));
        let mut lacking: Vec<Arc<HostRecord>> =
            self.record.iter().filter(|own| !is_known(own)).cloned().collect();
        let room = RECORDS_MAX - lacking.len();
        lacking.extend(self.view.sample(room, &mut self.rng, &peer, &theirs.known));
        // What this host holds is of use to who answers, not to who asked.
        Ok(Exchange { known: Vec::new(), ..self.own_exchange(&lacking) }.encode())
    }

    pub(super) fn on_exchange_answer(&mut self, peer: HostId, told: Option<u64>, body: Option<&[u8]>) {
        let now = self.now();
        let theirs = body.and_then(|body| Exchange::decode(body).ok());
        if let (Some(sequence), true, true) = (told, theirs.is_some(), self.peers.is_up(&peer)) {
            self.told.insert(peer, sequence);
        }
        let new_hosts = theirs.map_or(0, |theirs| self.take_exchange(peer, &theirs));
        self.pace.learned(new_hosts, self.view.len(), now);
    }

    /// How many hosts it told of that were not in the view.
    fn take_exchange(&mut self, peer: HostId, theirs: &Exchange) -> usize {
        let (digest, question) = {
            let door = self.door.lock();
            (door.revocations.digest(), encode_question(&door.revocations))
        };
        if theirs.digest != digest {
            self.send_call(peer, REVOCATIONS, question, Call::Revocations);
        }
        if theirs.documents != self.documents.digest() {
            self.ask_for_documents(peer);
        }
        let is_new = |offered| matches!(offered, Some(Offered::New { .. }));
        let new_hosts = theirs.records.iter().filter(|bytes| is_new(self.take_record(bytes))).count();
        if new_hosts > 0 {
            self.upkeep_connections();
        }
        new_hosts
    }

    /// Takes in what others say, or what was kept of it.
    pub(super) fn take_record(&mut self, bytes: &[u8]) -> Option<Offered> {
        let record = match self.check_record(bytes) {
            Ok(Some(record)) => record,
            Ok(None) => {
                self.counters.records_stale += 1;
                return None;
            }
            Err(refusal) => {
                count(&mut self.counters.records_refused, refusal_name(refusal));
                return None;
            }
        };
        let (host, addresses) = (record.host, record.addresses.clone());
        let moved = self.view.get(&host).is_some_and(|held| held.addresses != addresses);
        let peers = &self.peers;
        let offered = self.view.offer(Arc::new(record), &mut self.rng, |host| peers.is_up(host));
        match offered {
            Offered::New { .. } | Offered::Newer => {
                self.counters.records_taken += 1;
                self.peers.learn(host, &addresses);
                if let Offered::New { replaced: Some(replaced) } = offered {
                    self.leave_directory(&replaced);
                }
                if moved {
                    self.leave_directory(&host);
                }
                self.enter_directory(&host);
                self.announce(Event::RecordChanged(host));
            }
            Offered::Stale | Offered::Full => self.counters.records_stale += 1,
        }
        Some(offered)
    }

    /// `None`: it brings nothing new. What is not new costs no signature check.
    fn check_record(&mut self, bytes: &[u8]) -> Result<Option<HostRecord>, RecordRefusal> {
        let unverified = Unverified::decode(bytes)?;
        let host = unverified.host();
        if host == *self.swarm.local_peer_id() {
            return self.check_own_record(unverified);
        }
        if self.view.sequence(&host).is_some_and(|held| held >= unverified.sequence()) {
            return Ok(None);
        }
        let known = self.view.get(&host).map(|record| &record.chain).or_else(|| self.peers.chain(&host));
        let door = self.door.lock();
        let Some(overlay) = door.overlay() else { return Ok(None) };
        unverified.verify(overlay, self.clock.unix(), &door.revocations, known).map(Some)
    }

    /// A record of this host's earlier life with a greater number would hide the present one: the present one overtakes it.
    fn check_own_record(&mut self, unverified: Unverified) -> Result<Option<HostRecord>, RecordRefusal> {
        if unverified.sequence() > self.record_sequence {
            let (unix, door) = (self.clock.unix(), self.door.lock());
            let Some(overlay) = door.overlay() else { return Ok(None) };
            let earlier = unverified.verify(overlay, unix, &door.revocations, None)?;
            drop(door);
            self.record_sequence = earlier.sequence;
            self.renew_record();
        }
        Ok(None)
    }

    /// A host that is connected or in view, with known addresses, belongs into the routing table.
    pub(super) fn enter_directory(&mut self, host: &HostId) {
        for address in dial_addresses(self.peers.addresses(host), self.config.transports) {
            self.swarm.behaviour_mut().kad.add_address(host, address);
        }
    }

    fn leave_directory(&mut self, host: &HostId) {
        self.swarm.behaviour_mut().kad.remove_peer(host);
    }

    /// Looks for `host` in the routing tables of others; `false`: too many searches are under way.
    pub(super) fn search(&mut self, host: HostId) -> bool {
        if self.searches.values().any(|sought| *sought == host) {
            return true;
        }
        if self.searches.len() >= SEARCHES_MAX || self.peers.connected() == 0 {
            return false;
        }
        let query = self.swarm.behaviour_mut().kad.search(host);
        self.searches.insert(query, host);
        true
    }

    pub(super) fn on_kad_event(&mut self, event: kad::Event) {
        let kad::Event::OutboundQueryProgressed {
            id,
            result: QueryResult::GetClosestPeers(result),
            step,
            ..
        } = event
        else {
            return;
        };
        let Some(host) = self.searches.get(&id).copied() else { return };
        let found = match result {
            Ok(found) => found.peers,
            Err(GetClosestPeersError::Timeout { peers, .. }) => peers,
        };
        let addresses: Vec<SocketAddr> = found
            .into_iter()
            .filter(|info| info.peer_id == host)
            .flat_map(|info| info.addrs)
            .filter_map(|address| from_multiaddr(&address).map(|(address, _)| address))
            .collect();
        if addresses.is_empty() && !step.last {
            return;
        }
        self.searches.remove(&id);
        self.peers.learn(host, &addresses);
        match self.peers.ask_for(&host, self.now()) {
            Reach::Dial(addresses) => self.dial(host, &addresses),
            Reach::Failed(_) => {
                for waiting in self.waiting.remove(&host).unwrap_or_default() {
                    reject(host, waiting, &FailureReason::NoAddress);
                }
            }
            Reach::Connected | Reach::Dialling => {}
        }
    }

    /// When the newest record this host knows of was signed: for members() and people.
    pub(super) fn seen_at(&self, host: &HostId) -> Option<UnixSeconds> {
        self.view.get(host).map(|record| record.issued)
    }
}

fn refusal_name(refusal: RecordRefusal) -> &'static str {
    match refusal {
        RecordRefusal::Malformed(_) => "malformed",
        RecordRefusal::Expired => "expired",
        RecordRefusal::NotYet => "from-the-future",
        RecordRefusal::Lifetime => "lifetime",
        RecordRefusal::Signature => "signature",
        RecordRefusal::Membership(_) => "membership",
    }
}
