//! Hosts that were refused at the door: a short list for people, so that a wrong key shows on both sides.
//!
//! Strangers choose their keys freely; so the list is bounded, the oldest goes first, and one host has one entry.

use super::status::{Failure, FailureReason};
use crate::{clock::UnixSeconds, identity::HostId};
use serde::Serialize;
use std::{collections::VecDeque, net::SocketAddr};

/// Most strangers listed.
pub const REFUSED_MAX: usize = 64;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedHost {
    /// Who it proved to be.
    pub host: HostId,
    /// Where it came from.
    pub address: Option<SocketAddr>,
    /// Why it was refused, when last, how often.
    pub failure: Failure,
}

/// The list.
#[derive(Debug, Default)]
pub(crate) struct RefusedHosts {
    hosts: VecDeque<RefusedHost>,
}

impl RefusedHosts {
    pub(crate) fn note(
        &mut self,
        host: HostId,
        address: Option<SocketAddr>,
        reason: FailureReason,
        at: UnixSeconds,
    ) {
        let before = self.hosts.iter().position(|known| known.host == host);
        let attempts = before.and_then(|at| self.hosts.remove(at)).map_or(0, |known| known.failure.attempts);
        if self.hosts.len() >= REFUSED_MAX {
            self.hosts.pop_front();
        }
        let failure = Failure { reason, at, attempts: attempts.saturating_add(1) };
        self.hosts.push_back(RefusedHost { host, address, failure });
    }

    /// It is welcome after all.
    pub(crate) fn forget(&mut self, host: &HostId) {
        self.hosts.retain(|known| known.host != *host);
    }

    pub(crate) fn list(&self) -> Vec<RefusedHost> {
        self.hosts.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::member::Refusal;

    #[test]
    fn strangers_do_not_fill_memory_and_one_host_has_one_entry() {
        let mut refused = RefusedHosts::default();
        let known = HostId::random();
        for n in 0..1000 {
            for (host, refusal) in [(HostId::random(), Refusal::OtherOverlay), (known, Refusal::Signature)] {
                refused.note(host, None, FailureReason::RefusedHere { refusal }, UnixSeconds(n));
            }
        }
        let list = refused.list();
        assert_eq!(list.len(), REFUSED_MAX);
        let entry: Vec<_> = list.iter().filter(|entry| entry.host == known).collect();
        assert_eq!(entry.len(), 1);
        assert_eq!(entry[0].failure.attempts, 1000);
        refused.forget(&known);
        assert!(refused.list().iter().all(|entry| entry.host != known));
    }
}
