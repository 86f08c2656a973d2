//! What this host has promised, to whom.
//!
//! The ledger is the sole authority on the host: whatever adverts, plans and coordinators believe, only an
//! entry here gives a slice room, and no entry is made that would take the sum over the owner's limit. An entry is
//! freed only when nothing of the slice is left on the host. When the owner lowers the limit below what is
//! promised, promises stand and nothing new is promised until enough has ended.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::resources::{Resource, Resources};
use crate::slice::id::SliceId;

/// The host's promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    limit: Resources,
    entries: BTreeMap<SliceId, Resources>,
    promised: Resources,
}

/// Too little is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{} of {resource} missing", resource.text(*missing))]
pub struct Shortage {
    /// Of what.
    pub resource: Resource,
    /// How much is missing.
    pub missing: u64,
}

impl Ledger {
    /// An empty ledger with the owner's limit.
    #[must_use]
    pub const fn new(limit: Resources) -> Self {
        Self { limit, entries: BTreeMap::new(), promised: Resources::NONE }
    }

    /// The owner's limit.
    #[must_use]
    pub const fn limit(&self) -> Resources {
        self.limit
    }

    /// The owner changed his mind.
    pub const fn set_limit(&mut self, limit: Resources) {
        self.limit = limit;
    }

    /// The sum of all promises.
    #[must_use]
    pub const fn promised(&self) -> Resources {
        self.promised
    }

    /// What can still be promised.
    #[must_use]
    pub fn free(&self) -> Resources {
        self.limit.minus(&self.promised)
    }

    /// What is promised to a slice.
    #[must_use]
    pub fn entry(&self, slice: SliceId) -> Option<Resources> {
        self.entries.get(&slice).copied()
    }

    /// Promises `amount` to a slice that has no promise yet, or makes its promise smaller.
    ///
    /// # Errors
    /// When what is free, together with what the slice has already, is less.
    pub fn promise(&mut self, slice: SliceId, amount: Resources) -> Result<(), Shortage> {
        let had = self.entry(slice).unwrap_or_default();
        let others = self.promised.minus(&had);
        let shrinks = amount.fits(&had) && self.entries.contains_key(&slice);
        if !shrinks && let Some((resource, missing)) = others.plus(&amount).shortage(&self.limit) {
            return Err(Shortage { resource, missing });
        }
        self.promised = others.plus(&amount);
        self.entries.insert(slice, amount);
        Ok(())
    }

    /// Takes up a promise made before a restart. It stands even if the owner has lowered the limit since.
    pub(crate) fn restore(&mut self, slice: SliceId, amount: Resources) {
        self.free_entry(slice);
        self.promised = self.promised.plus(&amount);
        self.entries.insert(slice, amount);
    }

    /// Frees what a slice had.
    pub fn free_entry(&mut self, slice: SliceId) {
        if let Some(amount) = self.entries.remove(&slice) {
            self.promised = self.promised.minus(&amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: Resources = Resources { cpus_milli: 4000, memory_bytes: 100, disk_bytes: 100, machines: 6 };

    #[derive(Debug, Clone)]
    enum Step {
        Promise(u8, Resources),
        Free(u8),
        Limit(Resources),
    }

    fn amount() -> impl Strategy<Value = Resources> {
        (0u64..3000, 0u64..60, 0u64..60, 0u64..4).prop_map(
            |(cpus_milli, memory_bytes, disk_bytes, machines)| Resources {
                cpus_milli,
                memory_bytes,
                disk_bytes,
                machines,
            },
        )
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            5 => (0u8..5, amount()).prop_map(|(slice, amount)| Step::Promise(slice, amount)),
            2 => (0u8..5).prop_map(Step::Free),
            1 => amount().prop_map(|more| Step::Limit(LIMIT.minus(&more))),
        ]
    }

    proptest! {
        /// Against a plain list that is summed anew each time.
        #[test]
        fn the_ledger_is_a_sum_that_never_passes_the_limit(steps in prop::collection::vec(step(), 0..60)) {
            let mut ledger = Ledger::new(LIMIT);
            let mut list: Vec<(SliceId, Resources)> = Vec::new();
            let sum = |list: &[(SliceId, Resources)]| {
                list.iter().fold(Resources::NONE, |sum, (_, amount)| sum.plus(amount))
            };
            for step in steps {
                match step {
                    Step::Promise(slice, amount) => {
                        let slice = SliceId([slice; 16]);
                        let others: Vec<_> = list.iter().filter(|(other, _)| *other != slice).copied().collect();
                        let had = list.iter().find(|(other, _)| *other == slice).map(|(_, had)| *had);
                        let fits = sum(&others).plus(&amount).fits(&ledger.limit());
                        let shrinks = had.is_some_and(|had| amount.fits(&had));
                        let promised = ledger.promise(slice, amount);
                        prop_assert_eq!(promised.is_ok(), fits || shrinks);
                        if promised.is_ok() {
                            list = others;
                            list.push((slice, amount));
                        }
                        if promised.is_ok() && !shrinks {
                            prop_assert!(ledger.promised().fits(&ledger.limit()));
                        }
                    }
                    Step::Free(slice) => {
                        let slice = SliceId([slice; 16]);
                        ledger.free_entry(slice);
                        list.retain(|(other, _)| *other != slice);
                    }
                    Step::Limit(limit) => ledger.set_limit(limit),
                }
                prop_assert_eq!(ledger.promised(), sum(&list));
                prop_assert_eq!(ledger.free(), ledger.limit().minus(&sum(&list)));
            }
        }
    }

    #[test]
    fn a_shortage_says_of_what_and_how_much() {
        let mut ledger = Ledger::new(LIMIT);
        let all_memory = Resources { memory_bytes: 90, ..Resources::NONE };
        ledger.promise(SliceId([1; 16]), all_memory).unwrap();
        let short = ledger.promise(SliceId([2; 16]), all_memory).unwrap_err();
        assert_eq!(short, Shortage { resource: Resource::Memory, missing: 80 });
    }
}
