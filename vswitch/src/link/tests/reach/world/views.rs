//! What came of it.

use super::*;

impl World {
    pub(in super::super) fn paths(&self, at: usize, of: usize) -> PeerPaths {
        let id = self.hosts[of].id;
        self.hosts[at].links.paths(self.now).peers.into_iter().find(|peer| peer.peer == id).unwrap()
    }

    /// The link is up both ways and what it uses is direct and works.
    pub(in super::super) fn direct(&self, a: usize, b: usize) -> bool {
        [(a, b), (b, a)].into_iter().all(|(at, of)| {
            let paths = self.paths(at, of);
            let works = |chosen: &PathView| {
                paths.tried.iter().any(|tried| tried.path == *chosen && tried.result == PathResult::Alive)
            };
            self.open(at, of)
                && paths
                    .chosen
                    .as_ref()
                    .is_some_and(|path| matches!(path, PathView::Direct { .. }) && works(path))
        })
    }

    pub(in super::super) fn relayed(&self, a: usize, b: usize) -> bool {
        [(a, b), (b, a)].into_iter().all(|(at, of)| {
            self.open(at, of) && matches!(self.paths(at, of).chosen, Some(PathView::Relay { .. }))
        })
    }

    pub(in super::super) fn open(&self, at: usize, to: usize) -> bool {
        let route = self.hosts[at].routes.peers.get(&self.hosts[to].peer);
        route.is_some_and(|route| Egress::channel(self.now, route, NETWORK, 0).is_ok())
    }

    pub(in super::super) fn link(&self, at: usize, of: usize) -> LinkSnapshot {
        let id = self.hosts[of].id;
        self.hosts[at].links.snapshot(self.now).into_iter().find(|link| link.peer == id).unwrap()
    }

    /// Ways a host's sockets of port searches have opened at its NAT within so long before now.
    pub(in super::super) fn mappings_at_once(&self, host: usize, within: Duration) -> usize {
        let recent = self.sent.iter().rev().take_while(|sent| sent.at + within >= self.now);
        let searched = recent.filter(|sent| sent.host == host && sent.socket != SocketId::MAIN);
        searched.map(|sent| (sent.socket, sent.to)).collect::<BTreeSet<_>>().len()
    }

    /// Sockets that a host has probed from since then, and the most probes in any second.
    pub(in super::super) fn spent(&self, host: usize, since: Instant) -> (usize, usize) {
        let sent: Vec<&Sent> = self
            .sent
            .iter()
            .filter(|sent| sent.host == host && sent.at >= since && sent.bytes == PROBE_BYTES)
            .collect();
        let sockets: BTreeSet<SocketId> = sent.iter().map(|sent| sent.socket).collect();
        let mut most = 0;
        let mut first = 0;
        for (last, one) in sent.iter().enumerate() {
            while sent[first].at + Duration::from_secs(1) <= one.at {
                first += 1;
            }
            most = most.max(last + 1 - first);
        }
        (sockets.len(), most)
    }
}
