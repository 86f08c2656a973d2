//! Whom to dial when, how long to wait after a failure, which connection may go: the rules at the head of [`peers`](super).

use super::{Connection, Link, Peer, Peers, Transport};
use crate::{identity::HostId, view::below};
use rand_core::Rng;
use std::{net::SocketAddr, time::Duration};

/// Dials under way at once.
pub(crate) const DIALS_MAX: usize = 4;
/// Below so many connections a node looks for more. An overlay whose members each choose six at random is connected with all but certainty;
/// more cost pings and memory (120 kB each over QUIC).
pub const NEIGHBOURS_WANTED: usize = 6;
/// Above so many connections the unused ones are closed, among them those that searches of the routing table leave behind. Twice what is wanted,
/// so that closing here does not make the peer look for another at once.
pub const NEIGHBOURS_MAX: usize = 12;
/// Below so many connections a host looks for neighbours through third members too. Enough for news to spread, and to lose two; more would fill the few members that all
/// others can reach: with six, a founder had a hundred circuits of twenty-six hosts that nobody needed.
pub(crate) const NEIGHBOURS_BY_CIRCUIT: usize = 3;
/// Connections to hosts that are near by Kademlia's metric, where the view is but a sample: with one neighbour gone the others tell.
pub(crate) const NEAR_WANTED: usize = 3;
/// Among so many of the nearest: some cannot be reached.
pub(crate) const NEAR_TRIED: usize = 8;
/// A connection is unused when node asked nothing over it for so long.
pub(crate) const UNUSED_AFTER: Duration = Duration::from_secs(30);
pub(super) const BACKOFF_MIN: Duration = Duration::from_secs(1);
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(300);
pub(super) const BACKOFF_ALONE_MAX: Duration = Duration::from_secs(15);
impl Peers {
    /// Hosts to dial now, each with its addresses. They count as being dialled.
    pub(crate) fn choose_dials(
        &mut self,
        now: Duration,
        rng: &mut impl Rng,
    ) -> Vec<(HostId, Vec<SocketAddr>)> {
        let mut chosen = Vec::new();
        while self.dialling() < DIALS_MAX && self.connected() + self.dialling() < NEIGHBOURS_WANTED {
            let mut ready: Vec<HostId> = self
                .peers
                .iter()
                .filter(|(_, peer)| {
                    !peer.addresses.is_empty()
                        && !peer.barred
                        && matches!(peer.link, Link::Down { retry_at } if retry_at <= now)
                })
                .map(|(host, _)| *host)
                .collect();
            if ready.is_empty() {
                break;
            }
            // The map's order is random; sorting makes one seed give one choice.
            ready.sort_unstable();
            let host = ready[below(rng, ready.len())];
            let peer = self.peers.get_mut(&host).expect("it was just found");
            peer.link = Link::Dialling;
            chosen.push((host, peer.addresses.clone()));
        }
        chosen
    }

    /// Hosts to dial of those that are near, which come with the nearest first. They count as being dialled.
    pub(crate) fn choose_near(&mut self, near: &[HostId], now: Duration) -> Vec<(HostId, Vec<SocketAddr>)> {
        let mut chosen = Vec::new();
        let is_open = |peer: &Peer| matches!(peer.link, Link::Up { .. } | Link::Dialling);
        let mut open = near.iter().filter(|host| self.peers.get(*host).is_some_and(is_open)).count();
        for host in near {
            if open >= NEAR_WANTED || self.dialling() >= DIALS_MAX {
                break;
            }
            let Some(peer) = self.peers.get_mut(host) else { continue };
            let is_ready = matches!(peer.link, Link::Down { retry_at } if retry_at <= now);
            if is_ready && !peer.addresses.is_empty() && !peer.barred {
                peer.link = Link::Dialling;
                chosen.push((*host, peer.addresses.clone()));
                open += 1;
            }
        }
        chosen
    }

    /// A connection that may go because there are too many: the longest unused, those through third members first, but for those to hosts that are near, which either
    /// end may have wanted, and those that are `kept`. One at a time, since the peer may be closing others.
    pub(crate) fn choose_close(
        &self,
        near: &[HostId],
        kept: impl Fn(&HostId) -> bool,
        now: Duration,
    ) -> Option<HostId> {
        let connected = self.connected();
        if connected <= NEIGHBOURS_WANTED {
            return None;
        }
        let leading = self.leading();
        let unused = self.peers.iter().filter_map(|(host, peer)| {
            let Link::Up { connections, used_at, hold, .. } = &peer.link else { return None };
            let relayed = |connection: &Connection| connection.transport == Transport::Relayed;
            let is_direct = !connections.iter().all(relayed);
            let leads = is_direct && connections.iter().any(|own| leading.contains(&own.address));
            let is_used = now.saturating_sub(*used_at) < UNUSED_AFTER || hold.is_shared() || leads;
            let most = if is_direct { NEIGHBOURS_MAX } else { NEIGHBOURS_WANTED };
            let may_go = connected > most && !is_used && !near.contains(host) && !kept(host);
            may_go.then_some((is_direct, *used_at, *host))
        });
        unused.min().map(|(.., host)| host)
    }
}

pub(super) fn backoff(attempts: u32, alone: bool) -> Duration {
    let max = if alone { BACKOFF_ALONE_MAX } else { BACKOFF_MAX };
    BACKOFF_MIN.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(max)
}

/// ± 25 %.
pub(super) fn jittered(wait: Duration, rng: &mut impl Rng) -> Duration {
    wait * 3 / 4 + wait.mul_f64(f64::from(rng.next_u32()) / f64::from(u32::MAX)) / 2
}
