//! What really happened, as seen by someone who sees every disk at once.
//!
//! A value is *chosen* when a majority of a slice's stewards have it on disk under one ballot. No engine can see that; the
//! invariants about decisions are held against it.

use std::collections::BTreeMap;

use consort_scheduler::engine::{Answer, inspect_register};
use consort_scheduler::identity::HostId;
use consort_scheduler::register::{Accepted, Ballot, majority};
use consort_scheduler::slice::id::SliceId;
use consort_scheduler::slice::record::Record;

/// A command that was given, and what came back.
#[derive(Debug, Clone)]
pub struct Asked {
    /// At which host.
    pub host: usize,
    /// When, in the world's time.
    pub at: u64,
    /// Whether the host has crashed since: then no answer can come.
    pub excused: bool,
    /// The slice it was to make, if it was to make one.
    pub creates: Option<SliceId>,
    /// What came back, and when.
    pub answers: Vec<(u64, Answer)>,
}

/// What is known of all disks.
#[derive(Debug, Default)]
pub struct Oracle {
    /// What each steward has accepted, by slice and host.
    accepted: BTreeMap<SliceId, BTreeMap<HostId, Accepted<Record>>>,
    /// The values chosen, in the order in which they were, with the time.
    pub chosen: BTreeMap<SliceId, Vec<(u64, Ballot, Record)>>,
    /// All commands.
    pub asked: BTreeMap<u64, Asked>,
}

impl Oracle {
    /// A steward wrote to its disk. Says which value that made chosen, if any.
    pub fn written(&mut self, now: u64, host: HostId, key: &str, value: &[u8]) -> Option<&Record> {
        let (slice, accepted) = inspect_register(key, value)?;
        let accepted = accepted?;
        let stewards = accepted.value.stewards.len();
        let ballot = accepted.ballot;
        let of_slice = self.accepted.entry(slice).or_default();
        of_slice.insert(host, accepted.clone());
        if of_slice.values().filter(|other| other.ballot == ballot).count() < majority(stewards) {
            return None;
        }
        let chosen = self.chosen.entry(slice).or_default();
        if chosen.iter().any(|(_, known, _)| *known == ballot) {
            return None;
        }
        chosen.push((now, ballot, accepted.value));
        chosen.last().map(|(_, _, record)| record)
    }

    /// The value a slice's register holds now.
    #[must_use]
    pub fn current(&self, slice: SliceId) -> Option<&Record> {
        self.chosen.get(&slice)?.iter().max_by_key(|(_, ballot, _)| *ballot).map(|(_, _, record)| record)
    }
}
