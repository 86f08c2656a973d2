//! The mappings: which inside endpoint is which outside endpoint, with whom it talks, until when.
//!
//! Invariants: a mapping is found by its inside key and by its outside key, or by neither; only a packet from inside makes one; an
//! expired one is as good as none. Refuses to know packets and how ports are chosen.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use super::behaviour::Dependence;
use super::flow::Protocol;

/// Other ends that one mapping remembers; then the one that would be forgotten first goes. A port search reaches some hundreds.
const SESSIONS_PER_MAPPING_MAX: usize = 4096;
/// How often the expired are cleared away; they are not found before either.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// What a mapping stands for, seen from inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Inside {
    pub(super) protocol: Protocol,
    pub(super) endpoint: SocketAddrV4,
    pub(super) remote: Remote,
}

/// As much of the other end as a mapping depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Remote {
    Any,
    Address(Ipv4Addr),
    Endpoint(SocketAddrV4),
}

impl Remote {
    pub(super) fn of(dependence: Dependence, endpoint: SocketAddrV4) -> Self {
        match dependence {
            Dependence::EndpointIndependent => Self::Any,
            Dependence::AddressDependent => Self::Address(*endpoint.ip()),
            Dependence::AddressAndPortDependent => Self::Endpoint(endpoint),
        }
    }
}

/// What a mapping is known by outside. Where ports are shared, the other end is part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Outside {
    pub(super) protocol: Protocol,
    pub(super) endpoint: SocketAddrV4,
    pub(super) only: Option<SocketAddrV4>,
}

#[derive(Debug)]
pub(super) struct Mapping {
    pub(super) outside: Outside,
    pub(super) expires: Duration,
    sessions: BTreeMap<SocketAddrV4, Session>,
}

/// A mapping's conversation with one other end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Session {
    pub(super) expires: Duration,
    pub(super) stage: Stage,
}

/// How far a conversation is; for TCP it says how long it may be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Opening,
    Established,
    Closing,
}

impl Mapping {
    pub(super) fn new(outside: Outside) -> Self {
        Self { outside, expires: Duration::ZERO, sessions: BTreeMap::new() }
    }

    pub(super) fn session(&self, now: Duration, remote: SocketAddrV4) -> Option<Session> {
        self.sessions.get(&remote).copied().filter(|session| session.expires > now)
    }

    /// Whether it has talked lately with any port of this address.
    pub(super) fn talks_with(&self, now: Duration, address: Ipv4Addr) -> bool {
        let ports = SocketAddrV4::new(address, 0)..=SocketAddrV4::new(address, u16::MAX);
        self.sessions.range(ports).any(|(_, session)| session.expires > now)
    }

    pub(super) fn set_session(&mut self, remote: SocketAddrV4, session: Session) {
        if self.sessions.len() >= SESSIONS_PER_MAPPING_MAX && !self.sessions.contains_key(&remote) {
            let first = self.sessions.iter().min_by_key(|(_, session)| session.expires);
            if let Some(first) = first.map(|(remote, _)| *remote) {
                self.sessions.remove(&first);
            }
        }
        self.sessions.insert(remote, session);
        self.expires = match session.stage {
            // It may have been what kept the mapping.
            Stage::Closing => self.sessions.values().map(|session| session.expires).max().unwrap_or_default(),
            Stage::Opening | Stage::Established => self.expires.max(session.expires),
        };
    }
}

#[derive(Debug, Default)]
pub(super) struct Table {
    mappings: BTreeMap<Inside, Mapping>,
    by_outside: BTreeMap<Outside, Inside>,
    by_host: BTreeMap<Ipv4Addr, usize>,
    swept: Duration,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.mappings.len()
    }

    /// Mappings of one host.
    pub(super) fn len_of(&self, host: Ipv4Addr) -> usize {
        self.by_host.get(&host).copied().unwrap_or_default()
    }

    pub(super) fn of_inside(&mut self, now: Duration, key: Inside) -> Option<&mut Mapping> {
        self.mappings.get_mut(&key).filter(|mapping| mapping.expires > now)
    }

    /// A mapping whether it has expired or not.
    pub(super) fn mapping(&mut self, key: Inside) -> Option<&mut Mapping> {
        self.mappings.get_mut(&key)
    }

    /// The mapping that a packet from `remote` to an outside endpoint is for.
    pub(super) fn of_outside(
        &mut self,
        now: Duration,
        (protocol, endpoint): (Protocol, SocketAddrV4),
        remote: SocketAddrV4,
    ) -> Option<(SocketAddrV4, &mut Mapping)> {
        let inside = [Some(remote), None]
            .into_iter()
            .find_map(|only| self.by_outside.get(&Outside { protocol, endpoint, only }).copied())?;
        let mapping = self.mappings.get_mut(&inside).filter(|mapping| mapping.expires > now)?;
        Some((inside.endpoint, mapping))
    }

    pub(super) fn is_free(&self, now: Duration, outside: Outside) -> bool {
        let holder = self.by_outside.get(&outside).and_then(|inside| self.mappings.get(inside));
        holder.is_none_or(|mapping| mapping.expires <= now)
    }

    /// Puts in a mapping in place of expired ones; its keys are free otherwise.
    pub(super) fn insert(&mut self, key: Inside, outside: Outside) -> &mut Mapping {
        self.remove(key);
        if let Some(expired) = self.by_outside.get(&outside).copied() {
            self.remove(expired);
        }
        self.by_outside.insert(outside, key);
        *self.by_host.entry(*key.endpoint.ip()).or_default() += 1;
        self.mappings.entry(key).insert_entry(Mapping::new(outside)).into_mut()
    }

    fn remove(&mut self, key: Inside) {
        let Some(mapping) = self.mappings.remove(&key) else { return };
        self.by_outside.remove(&mapping.outside);
        let host = *key.endpoint.ip();
        match self.by_host.get_mut(&host) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.by_host.remove(&host)),
        }
    }

    /// Clears the expired away, now and then.
    pub(super) fn sweep(&mut self, now: Duration) {
        if now < self.swept + SWEEP_EVERY {
            return;
        }
        self.swept = now;
        let expired: Vec<Inside> =
            self.mappings.iter().filter(|(_, mapping)| mapping.expires <= now).map(|(key, _)| *key).collect();
        expired.into_iter().for_each(|key| self.remove(key));
        for mapping in self.mappings.values_mut() {
            mapping.sessions.retain(|_, session| session.expires > now);
        }
    }

    /// Forgets everything, as a router that was switched off and on.
    pub(super) fn clear(&mut self) {
        self.mappings.clear();
        self.by_outside.clear();
        self.by_host.clear();
    }
}
