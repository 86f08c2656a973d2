//! What this host forwards for others, what its links' rates bound, and the relays that its own ways lead through.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use super::{Line, Paths, RelayLeg, RelayPolicy, RelayRefusal, RelayTable, RelayTokens, Via, peer::Peer};
use crate::{HostId, switch::PeerIndex};

impl Paths {
    pub(crate) fn set_relay(&mut self, now: Instant, policy: RelayPolicy) {
        self.relays.set_policy(now, policy);
        self.note_relays(now);
    }

    /// True if the peer's link has another rate now.
    pub(crate) fn set_rate(&mut self, now: Instant, peer: PeerIndex, bits_per_second: Option<u64>) -> bool {
        let before = self.lines.get(&peer).map(|line| line.bits_per_second());
        if before == bits_per_second || !self.peers.contains_key(&peer) {
            return false;
        }
        match bits_per_second {
            Some(bits) => drop(self.lines.insert(peer, Arc::new(Line::new(now, bits)))),
            None => drop(self.lines.remove(&peer)),
        }
        self.relays.moved(peer);
        true
    }

    /// What bounds the rate of the first link of a way to a peer.
    pub(crate) fn line(&self, peer: PeerIndex, via: &Via) -> Option<Arc<Line>> {
        if self.lines.is_empty() {
            return None;
        }
        let next = match via.token {
            None => peer,
            Some(token) => *self.by_host.get(&self.peers.get(&peer)?.relay_of(token)?)?,
        };
        self.lines.get(&next).cloned()
    }

    pub(crate) fn relay_open(&mut self, now: Instant, leg: &RelayLeg) -> Result<RelayTokens, RelayRefusal> {
        let end = |host: HostId| self.by_host.get(&host).copied().ok_or(RelayRefusal::HostUnknown(host));
        let (from, to) = (end(leg.from)?, end(leg.to)?);
        let tokens = self.relays.open(now, leg, from, to, &mut self.shared.entropy)?;
        self.note_relays(now);
        if leg.onward.is_some() {
            self.with(now, to, |relay, _, now| relay.seek(now));
        }
        Ok(tokens)
    }

    pub(crate) fn relay_close(&mut self, now: Instant, incoming: u32) {
        self.relays.close(incoming);
        self.note_relays(now);
    }

    /// What workers forward by, if it changed since the last time.
    pub(crate) fn take_table(&mut self) -> Option<RelayTable> {
        let (peers, lines) = (&self.peers, &self.lines);
        let sources = |peer| peers.get(&peer).map(Peer::sources).unwrap_or_default();
        let way = |peer| peers.get(&peer).and_then(Peer::way);
        self.relays.take_table(sources, way, |peer| lines.get(&peer).cloned())
    }

    /// Ways through this relay start elsewhere now.
    pub(super) fn relay_moved(&mut self, relay: HostId, to: Via) {
        for (index, peer) in &mut self.peers {
            peer.relay_moved(relay, to);
            if std::mem::take(&mut peer.changed) {
                self.changed.insert(*index);
            }
        }
    }

    /// Relays of ways that are used are kept in reach, and those that come after this host on the ways of others.
    pub(super) fn note_relays(&mut self, now: Instant) {
        let used: BTreeSet<PeerIndex> = self
            .peers
            .values()
            .flat_map(Peer::relays)
            .filter_map(|relay| self.by_host.get(&relay).copied())
            .chain(self.relays.onward())
            .collect();
        for peer in self.peers.keys().copied().collect::<Vec<_>>() {
            self.with(now, peer, |peer, _, now| peer.set_relays_for(now, used.contains(&peer.index)));
        }
    }
}
