//! One connection per pair of hosts, agreed before the swarm sees it.
//!
//! Streams and requests take a random connection of a peer, and closing a duplicate kills what runs on it (notes/control-plane.md, 1). So the
//! duplicate is refused at the door instead, by a rule both sides can follow alone:
//!
//! - A dialler that is about to speak stops if it has let the same peer in meanwhile.
//! - A listener that hears from a peer it is itself speaking to, or with which its own dial has just led to a connection, keeps the connection
//!   dialled by the smaller HostId: if that is its own, it refuses the peer's as redundant; else it lets the peer in, and its own is refused there.
//! - A peer that dials although a connection stands has lost it (it dials only without one), or is a new process (its session differs): it is
//!   let in, and the driver closes the older one.
//!
//! Marks of handshakes under way end by themselves after [`MARK_LIFETIME`]; nothing depends on somebody taking them away.

use crate::{identity::HostId, peers::Direction, protocol::member::Refusal};
use std::{collections::HashMap, time::Duration};

/// Longer than a handshake may take.
pub(crate) const MARK_LIFETIME: Duration = Duration::from_secs(10);
/// Entries are swept when there are so many; a stranger cannot make one, since only verified members do.
const HOSTS_MAX: usize = 1024;

#[derive(Debug, Clone, Copy, Default)]
struct Stage {
    speaking_until: Duration,
    let_in_until: Duration,
    established: Option<Standing>,
}

#[derive(Debug, Clone, Copy)]
struct Standing {
    direction: Direction,
    session: u64,
    since: Duration,
}

/// Who is in which stage.
#[derive(Debug)]
pub(crate) struct Arbiter {
    local: HostId,
    hosts: HashMap<HostId, Stage>,
    connections_max: usize,
}

impl Arbiter {
    pub(crate) fn new(local: HostId, connections_max: usize) -> Self {
        Self { local, hosts: HashMap::new(), connections_max }
    }

    fn stage(&mut self, peer: HostId, now: Duration) -> &mut Stage {
        if self.hosts.len() >= HOSTS_MAX && !self.hosts.contains_key(&peer) {
            self.hosts.retain(|_, stage| {
                stage.established.is_some() || stage.speaking_until.max(stage.let_in_until) > now
            });
        }
        self.hosts.entry(peer).or_default()
    }

    /// This host's dial reached the peer and is about to speak.
    pub(crate) fn begin_dial(&mut self, peer: HostId, now: Duration) -> Result<(), Refusal> {
        let stage = self.stage(peer, now);
        if stage.let_in_until > now || stage.established.is_some() {
            return Err(Refusal::Redundant);
        }
        stage.speaking_until = now + MARK_LIFETIME;
        Ok(())
    }

    /// A member asks to be let in.
    pub(crate) fn accept(&mut self, peer: HostId, session: u64, now: Duration) -> Result<(), Refusal> {
        let taken = self.taken(now);
        let own_wins = self.local < peer;
        let full = taken >= self.connections_max;
        let stage = self.stage(peer, now);
        let own_under_way = stage.speaking_until > now;
        let own_just_stands = stage.established.is_some_and(|standing| {
            standing.direction == Direction::Outbound
                && standing.session == session
                && now.saturating_sub(standing.since) < MARK_LIFETIME
        });
        if own_just_stands || (own_under_way && own_wins) {
            return Err(Refusal::Redundant);
        }
        if full && stage.established.is_none() {
            return Err(Refusal::Full);
        }
        stage.let_in_until = now + MARK_LIFETIME;
        Ok(())
    }

    /// Connections that stand or are about to.
    fn taken(&self, now: Duration) -> usize {
        self.hosts.values().filter(|stage| stage.established.is_some() || stage.let_in_until > now).count()
    }

    /// A handshake ended without a connection.
    pub(crate) fn ended(&mut self, peer: HostId, direction: Direction) {
        let Some(stage) = self.hosts.get_mut(&peer) else { return };
        match direction {
            Direction::Outbound => stage.speaking_until = Duration::ZERO,
            Direction::Inbound => stage.let_in_until = Duration::ZERO,
        }
    }

    /// A connection stands.
    pub(crate) fn established(&mut self, peer: HostId, direction: Direction, session: u64, now: Duration) {
        let standing = Standing { direction, session, since: now };
        *self.stage(peer, now) = Stage { established: Some(standing), ..Stage::default() };
    }

    /// The last connection to the peer is gone.
    pub(crate) fn closed(&mut self, peer: &HostId) {
        if let Some(stage) = self.hosts.get_mut(peer) {
            stage.established = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Duration = Duration::from_secs(100);

    fn two() -> (HostId, HostId) {
        let (a, b) = (HostId::random(), HostId::random());
        (a.min(b), a.max(b))
    }

    #[test]
    fn when_both_dial_at_once_the_smaller_ones_connection_stays() {
        let (small, large) = two();
        let (mut at_small, mut at_large) = (Arbiter::new(small, 8), Arbiter::new(large, 8));
        at_small.begin_dial(large, T).unwrap();
        at_large.begin_dial(small, T).unwrap();
        assert_eq!(at_small.accept(large, 1, T), Err(Refusal::Redundant));
        assert_eq!(at_large.accept(small, 1, T), Ok(()));
    }

    #[test]
    fn a_hello_that_arrives_after_the_own_dial_stands_is_redundant() {
        let (small, large) = two();
        let mut at_small = Arbiter::new(small, 8);
        at_small.begin_dial(large, T).unwrap();
        at_small.established(large, Direction::Outbound, 1, T);
        assert_eq!(at_small.accept(large, 1, T + Duration::from_secs(1)), Err(Refusal::Redundant));
    }

    #[test]
    fn a_dialler_that_let_the_peer_in_meanwhile_stops() {
        let (small, large) = two();
        let mut at_small = Arbiter::new(small, 8);
        at_small.accept(large, 1, T).unwrap();
        assert_eq!(at_small.begin_dial(large, T), Err(Refusal::Redundant));
    }

    #[test]
    fn a_restarted_peer_is_let_in_although_its_old_connection_stands() {
        let (small, large) = two();
        let mut at_small = Arbiter::new(small, 8);
        at_small.established(large, Direction::Outbound, 1, T);
        assert_eq!(at_small.accept(large, 2, T), Ok(()));
    }

    #[test]
    fn a_peer_that_lost_its_connection_is_let_in_again() {
        let (small, large) = two();
        let mut at_small = Arbiter::new(small, 8);
        at_small.established(large, Direction::Inbound, 1, T);
        assert_eq!(at_small.accept(large, 1, T), Ok(()));
        at_small.established(large, Direction::Outbound, 1, T);
        assert_eq!(at_small.accept(large, 1, T + MARK_LIFETIME), Ok(()));
    }

    #[test]
    fn the_limit_counts_those_let_in_and_spares_those_that_return() {
        let local = HostId::random();
        let (a, b, c) = (HostId::random(), HostId::random(), HostId::random());
        let mut arbiter = Arbiter::new(local, 2);
        arbiter.accept(a, 1, T).unwrap();
        arbiter.established(a, Direction::Inbound, 1, T);
        arbiter.accept(b, 1, T).unwrap();
        assert_eq!(arbiter.accept(c, 1, T), Err(Refusal::Full));
        assert_eq!(arbiter.accept(a, 2, T), Ok(()));
        arbiter.ended(b, Direction::Inbound);
        arbiter.closed(&a);
        arbiter.ended(a, Direction::Inbound);
        assert_eq!(arbiter.accept(c, 1, T), Ok(()));
    }

    #[test]
    fn marks_end_by_themselves() {
        let (small, large) = two();
        let mut at_small = Arbiter::new(small, 8);
        at_small.begin_dial(large, T).unwrap();
        assert_eq!(at_small.accept(large, 1, T + MARK_LIFETIME), Ok(()));
    }
}
