//! All paths, for people and programs.

use std::time::Instant;

use super::{LineSnapshot, Paths, PathsSnapshot, relayed::RelaySnapshot};
use crate::link::RelayCounters;

impl Paths {
    pub(crate) fn snapshot(&self, now: Instant) -> PathsSnapshot {
        PathsSnapshot { local: self.local(), peers: self.peers.values().map(|peer| peer.view(now)).collect() }
    }

    pub(crate) fn lines(&self) -> Vec<LineSnapshot> {
        let shown = |(peer, line): (_, &std::sync::Arc<super::Line>)| {
            self.peers.get(peer).map(|peer| line.snapshot(peer.host))
        };
        self.lines.iter().filter_map(shown).collect()
    }

    pub(crate) fn relay_snapshot(&self, counters: &RelayCounters) -> RelaySnapshot {
        let (legs, hosts) = self.relays.counts();
        RelaySnapshot { legs, hosts, counts: counters.read() }
    }
}
