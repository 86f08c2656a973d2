//! What this host knows of the others: a bounded, sampled set of their records.
//!
//! No host knows all hosts. Each keeps at most [`VIEW_MAX`] records, renews them by swapping a few with random peers ([`exchange`]), and so
//! holds a changing sample of the overlay at a cost that does not grow with it (notes/control-plane.md, 5). The newest sequence wins; a full
//! view replaces a random entry, so that whoever talks most does not fill it at once; entries that the caller pins (hosts it is connected to)
//! are not replaced. Everything in it was verified before.

pub(crate) mod exchange;

use crate::{clock::UnixSeconds, identity::HostId, record::HostRecord};
use exchange::{Tag, tag};
use rand_core::Rng;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// Most records kept: enough to choose 1.5 times a gang of a hundred by free capacity, under 1 MiB when all are as large as they may be.
pub const VIEW_MAX: usize = 256;

/// What became of a record that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offered {
    /// A host that was not in the view.
    New,
    /// Newer than what was held.
    Newer,
    /// Not newer than what is held.
    Stale,
    /// Every entry is pinned.
    Full,
}

/// The sample.
#[derive(Debug, Default)]
pub(crate) struct View {
    records: Vec<Arc<HostRecord>>,
    index: HashMap<HostId, usize>,
}

/// A number below `bound`, which is not 0. The bias of one part in 2^32 and less does not matter to a sample.
pub(crate) fn below(rng: &mut impl Rng, bound: usize) -> usize {
    let bound = u64::try_from(bound).expect("usize fits 64 bits");
    usize::try_from((u64::from(rng.next_u32()) * bound) >> 32).expect("below a usize")
}

impl View {
    /// The sequence number held for `host`.
    pub(crate) fn sequence(&self, host: &HostId) -> Option<u64> {
        self.get(host).map(|record| record.sequence)
    }

    pub(crate) fn get(&self, host: &HostId) -> Option<&Arc<HostRecord>> {
        self.index.get(host).map(|at| &self.records[*at])
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<HostRecord>> {
        self.records.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Takes in a verified record.
    pub(crate) fn offer(
        &mut self,
        record: HostRecord,
        rng: &mut impl Rng,
        is_pinned: impl Fn(&HostId) -> bool,
    ) -> Offered {
        if let Some(at) = self.index.get(&record.host) {
            let held = &mut self.records[*at];
            if held.sequence >= record.sequence {
                return Offered::Stale;
            }
            *held = Arc::new(record);
            return Offered::Newer;
        }
        if self.records.len() >= VIEW_MAX {
            let Some(victim) = self.victim(rng, is_pinned) else { return Offered::Full };
            self.remove_at(victim);
        }
        self.index.insert(record.host, self.records.len());
        self.records.push(Arc::new(record));
        Offered::New
    }

    fn victim(&self, rng: &mut impl Rng, is_pinned: impl Fn(&HostId) -> bool) -> Option<usize> {
        let start = below(rng, self.records.len());
        (0..self.records.len())
            .map(|step| (start + step) % self.records.len())
            .find(|at| !is_pinned(&self.records[*at].host))
    }

    fn remove_at(&mut self, at: usize) -> Arc<HostRecord> {
        let removed = self.records.swap_remove(at);
        self.index.remove(&removed.host);
        if let Some(moved) = self.records.get(at) {
            self.index.insert(moved.host, at);
        }
        removed
    }

    /// Drops what `goes` names; gives back whose records went.
    pub(crate) fn remove_if(&mut self, goes: impl Fn(&HostRecord) -> bool) -> Vec<HostId> {
        let mut removed = Vec::new();
        let mut at = 0;
        while at < self.records.len() {
            if goes(&self.records[at]) {
                removed.push(self.remove_at(at).host);
            } else {
                at += 1;
            }
        }
        removed
    }

    /// Drops what has expired; gives back whose records went.
    pub(crate) fn expire(&mut self, now: UnixSeconds) -> Vec<HostId> {
        self.remove_if(|record| record.is_expired(now))
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Up to `count` different records for `reader`, which holds those that `known` names: first what it lacks, then others; each at random.
    pub(crate) fn sample(
        &self,
        count: usize,
        rng: &mut impl Rng,
        reader: &HostId,
        known: &[Tag],
    ) -> Vec<Arc<HostRecord>> {
        let known: HashSet<Tag> = known.iter().copied().collect();
        let mut order: Vec<(bool, u32, &Arc<HostRecord>)> = self
            .records
            .iter()
            .filter(|record| record.host != *reader)
            .map(|record| (known.contains(&tag(&record.host)), rng.next_u32(), record))
            .collect();
        order.sort_unstable_by_key(|(is_known, shuffled, _)| (*is_known, *shuffled));
        order.into_iter().take(count).map(|(.., record)| Arc::clone(record)).collect()
    }

    /// The hosts held, for those who would send what is lacking.
    pub(crate) fn tags(&self) -> Vec<Tag> {
        self.records.iter().map(|record| tag(&record.host)).collect()
    }
}

#[cfg(test)]
mod tests;
