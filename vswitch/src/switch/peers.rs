//! Short names for hosts.

use std::collections::HashMap;

use super::config::PeerIndex;
use crate::HostId;

/// Hosts one switch names at a time: more than all slices of one host have; some 12 MiB at worst.
pub const PEERS_MAX: usize = 65_536;

/// More hosts than a switch names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the switch names at most {PEERS_MAX} hosts at a time")]
pub struct PeersFull;

/// Which host has which short name. A name is never given twice, so that one kept too long names nobody.
#[derive(Debug, Default)]
pub(super) struct Peers {
    by_host: HashMap<HostId, PeerIndex>,
    by_index: HashMap<PeerIndex, HostId>,
    next: u32,
}

impl Peers {
    pub(super) fn index(&mut self, host: HostId) -> Result<PeerIndex, PeersFull> {
        if let Some(index) = self.by_host.get(&host) {
            return Ok(*index);
        }
        if self.by_host.len() == PEERS_MAX {
            return Err(PeersFull);
        }
        let index = PeerIndex(self.next);
        // Four billion hosts come and go in no life of a process; if they did, refusing is right.
        self.next = self.next.checked_add(1).ok_or(PeersFull)?;
        self.by_host.insert(host, index);
        self.by_index.insert(index, host);
        Ok(index)
    }

    pub(super) fn find(&self, host: &HostId) -> Option<PeerIndex> {
        self.by_host.get(host).copied()
    }

    pub(super) fn host(&self, index: PeerIndex) -> Option<HostId> {
        self.by_index.get(&index).copied()
    }

    pub(super) fn forget(&mut self, index: PeerIndex) {
        if let Some(host) = self.by_index.remove(&index) {
            self.by_host.remove(&host);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_never_given_twice() {
        let mut peers = Peers::default();
        let (a, b) = (HostId::random(), HostId::random());
        let first = peers.index(a).unwrap();
        assert_eq!(peers.index(a), Ok(first));
        assert_ne!(peers.index(b), Ok(first));
        peers.forget(first);
        assert_eq!((peers.host(first), peers.find(&a)), (None, None));
        assert_ne!(peers.index(a), Ok(first));
    }
}
