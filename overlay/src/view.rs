//! What this host knows of the others: a bounded, sampled set of their records.
//!
//! No host knows all hosts. Each keeps at most [`VIEW_MAX`] records, renews them by swapping a few with random peers ([`exchange`]), and so
//! holds a changing sample of the overlay at a cost that does not grow with it (notes/control-plane.md, 5). The newest sequence wins; a full
//! view replaces a random entry, so that whoever talks most does not fill it at once; entries that the caller pins (hosts it is connected to)
//! are not replaced, nor are the [`NEAREST_KEPT`] hosts nearest to the own one by Kademlia's metric, which exchanges bring first: searches by
//! name end at hosts that know all their neighbours (T-Man, Jelasity and Babaoglu 2005). Everything in it was verified before.

pub(crate) mod exchange;

use crate::{clock::UnixSeconds, identity::HostId, record::HostRecord};
use exchange::Tag;
use libp2p::kad::KBucketKey;
use rand_core::Rng;
use std::{collections::HashMap, sync::Arc};

/// Most records kept: enough to choose 1.5 times a gang of a hundred by free capacity, under 1 MiB when all are as large as they may be.
pub const VIEW_MAX: usize = 256;
/// Nearest hosts that are never replaced. A sample of some hundred leaves the near parts of Kademlia's table empty; with these, no part of it is empty
/// among ten thousand ([`simulation`](crate::simulation)).
pub(crate) const NEAREST_KEPT: usize = 64;
/// Above so many records a host knows but a sample, and has connections to its nearest beside those at random: neighbours tell of neighbours.
pub(crate) const SAMPLE_FROM: usize = VIEW_MAX / 2;

/// What became of a record that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offered {
    /// A host that was not in the view, and the one whose place it took.
    New {
        /// Whose record went.
        replaced: Option<HostId>,
    },
    /// Newer than what was held.
    Newer,
    /// Not newer than what is held.
    Stale,
    /// Every entry is pinned.
    Full,
}

/// Where a host is in Kademlia's space: the first half of its key there, which no two hosts of an overlay share.
type Place = u128;

pub(crate) fn place(host: &HostId) -> Place {
    KBucketKey::from(*host).hashed_bytes().first_chunk().map_or(0, |bytes| Place::from_be_bytes(*bytes))
}

#[derive(Debug)]
struct Held {
    record: Arc<HostRecord>,
    place: Place,
}

/// The sample.
#[derive(Debug)]
pub(crate) struct View {
    own: Place,
    held: Vec<Held>,
    index: HashMap<HostId, usize>,
}

/// A number below `bound`, which is not 0. The bias of one part in 2^32 and less does not matter to a sample.
pub(crate) fn below(rng: &mut impl Rng, bound: usize) -> usize {
    let bound = u64::try_from(bound).expect("usize fits 64 bits");
    usize::try_from((u64::from(rng.next_u32()) * bound) >> 32).expect("below a usize")
}

impl View {
    /// The view of `own`, which is not in it.
    pub(crate) fn new(own: &HostId) -> Self {
        Self { own: place(own), held: Vec::new(), index: HashMap::new() }
    }

    /// The sequence number held for `host`.
    pub(crate) fn sequence(&self, host: &HostId) -> Option<u64> {
        self.get(host).map(|record| record.sequence)
    }

    pub(crate) fn get(&self, host: &HostId) -> Option<&Arc<HostRecord>> {
        self.index.get(host).map(|at| &self.held[*at].record)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<HostRecord>> {
        self.held.iter().map(|held| &held.record)
    }

    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// The hosts nearest to this one, the nearest first; none where the view holds all there are, as far as it knows.
    pub(crate) fn nearest(&self, count: usize) -> Vec<HostId> {
        if self.held.len() < SAMPLE_FROM {
            return Vec::new();
        }
        let mut all: Vec<&Held> = self.held.iter().collect();
        let distance = |held: &&Held| held.place ^ self.own;
        if count < all.len() {
            all.select_nth_unstable_by_key(count, distance);
            all.truncate(count);
        }
        all.sort_unstable_by_key(distance);
        all.into_iter().map(|held| held.record.host).collect()
    }

    /// Takes in a verified record.
    pub(crate) fn offer(
        &mut self,
        record: Arc<HostRecord>,
        rng: &mut impl Rng,
        is_pinned: impl Fn(&HostId) -> bool,
    ) -> Offered {
        if let Some(at) = self.index.get(&record.host) {
            let held = &mut self.held[*at].record;
            if held.sequence >= record.sequence {
                return Offered::Stale;
            }
            *held = record;
            return Offered::Newer;
        }
        let mut replaced = None;
        if self.held.len() >= VIEW_MAX {
            let Some(victim) = self.victim(rng, is_pinned) else { return Offered::Full };
            replaced = Some(self.remove_at(victim).host);
        }
        self.index.insert(record.host, self.held.len());
        let place = place(&record.host);
        self.held.push(Held { record, place });
        Offered::New { replaced }
    }

    fn victim(&self, rng: &mut impl Rng, is_pinned: impl Fn(&HostId) -> bool) -> Option<usize> {
        let mut distances: Vec<Place> = self.held.iter().map(|held| held.place ^ self.own).collect();
        let (_, farthest_kept, _) = distances.select_nth_unstable(NEAREST_KEPT - 1);
        let farthest_kept = *farthest_kept;
        let start = below(rng, self.held.len());
        (0..self.held.len()).map(|step| (start + step) % self.held.len()).find(|at| {
            let held = &self.held[*at];
            held.place ^ self.own > farthest_kept && !is_pinned(&held.record.host)
        })
    }

    fn remove_at(&mut self, at: usize) -> Arc<HostRecord> {
        let removed = self.held.swap_remove(at).record;
        self.index.remove(&removed.host);
        if let Some(moved) = self.held.get(at) {
            self.index.insert(moved.record.host, at);
        }
        removed
    }

    /// Drops what `goes` names; gives back whose records went.
    pub(crate) fn remove_if(&mut self, goes: impl Fn(&HostRecord) -> bool) -> Vec<HostId> {
        let mut removed = Vec::new();
        let mut at = 0;
        while at < self.held.len() {
            if goes(&self.held[at].record) {
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
        self.held.clear();
        self.index.clear();
    }

    /// Up to `count` records that `reader`, which holds those that `known` names, lacks: half of them the nearest to it, the others at random.
    pub(crate) fn sample(
        &self,
        count: usize,
        rng: &mut impl Rng,
        reader: &HostId,
        known: &[Tag],
    ) -> Vec<Arc<HostRecord>> {
        let known: HashMap<u16, Vec<Tag>> = known.iter().fold(HashMap::new(), |mut known, tag| {
            known.entry(tag.host).or_insert_with(Vec::new).push(*tag);
            known
        });
        let lacks = |record: &HostRecord| {
            let own = Tag::of(record);
            !known.get(&own.host).is_some_and(|tags| tags.iter().any(|theirs| theirs.covers(own)))
        };
        let mut lacking: Vec<&Held> =
            self.held.iter().filter(|held| held.record.host != *reader && lacks(&held.record)).collect();
        let reader = place(reader);
        lacking.sort_unstable_by_key(|held| held.place ^ reader);
        // A shuffle of what is behind the nearest, as far as it is wanted.
        for at in (count / 2).min(lacking.len())..count.min(lacking.len()) {
            let drawn = at + below(rng, lacking.len() - at);
            lacking.swap(at, drawn);
        }
        lacking.into_iter().take(count).map(|held| Arc::clone(&held.record)).collect()
    }

    /// The records held, for those who would send what is lacking.
    pub(crate) fn tags(&self) -> Vec<Tag> {
        self.iter().map(|record| Tag::of(record)).collect()
    }
}

#[cfg(test)]
mod tests;
