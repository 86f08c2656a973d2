//! Which hosts the data plane should know: those that slices' networks and networks by themselves want, together.
//!
//! Each part says its whole set whenever that changes; [`super::peers`] reads the union. Owns: what each said last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use consort_overlay::HostId;
use tokio::sync::watch;

/// Who wants hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanter {
    /// Networks of slices.
    Slices,
    /// Networks by themselves.
    Standalone,
    /// Ways of others through this host.
    Relayed,
}

/// Where each part says which hosts it wants. Clones share it.
#[derive(Debug, Clone)]
pub struct Wanted {
    by: Arc<Mutex<BTreeMap<Wanter, BTreeSet<HostId>>>>,
    all: watch::Sender<BTreeSet<HostId>>,
}

impl Wanted {
    /// Nobody wants anybody yet; the receiver gives the union.
    #[must_use]
    pub fn new() -> (Self, watch::Receiver<BTreeSet<HostId>>) {
        let (all, union) = watch::channel(BTreeSet::new());
        (Self { by: Arc::default(), all }, union)
    }

    /// What one part wants from now on.
    pub fn set(&self, wanter: Wanter, hosts: BTreeSet<HostId>) {
        let mut by = self.by.lock().unwrap_or_else(PoisonError::into_inner);
        by.insert(wanter, hosts);
        let union: BTreeSet<HostId> = by.values().flatten().copied().collect();
        // Under the lock, so that the latest union is the last one told.
        self.all.send_if_modified(|told| {
            let changed = *told != union;
            *told = union;
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_wanted_while_anybody_wants_it() {
        let (wanted, mut union) = Wanted::new();
        let (one, other) = (HostId::random(), HostId::random());
        wanted.set(Wanter::Slices, BTreeSet::from([one]));
        wanted.set(Wanter::Standalone, BTreeSet::from([one, other]));
        assert_eq!(*union.borrow_and_update(), BTreeSet::from([one, other]));
        wanted.set(Wanter::Slices, BTreeSet::new());
        assert!(!union.has_changed().unwrap(), "the other part wants it still");
        wanted.set(Wanter::Standalone, BTreeSet::from([other]));
        assert_eq!(*union.borrow(), BTreeSet::from([other]));
    }
}
