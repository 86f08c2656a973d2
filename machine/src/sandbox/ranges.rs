//! Which machine's users are which of the host's: each machine of a privileged node has a range of ids that no other has.
//!
//! A machine's range begins at a place that follows from the daemon's directory and the machine's name, so that two daemons on one host
//! are unlikely to meet, and moves on from there past ranges in use. A running machine's range is told by its keeper after a restart.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::driver::{StartError, Uids};
use crate::setup::ids::{RANGE_COUNT, RANGE_FIRST, RANGES};
use crate::spec::MachineId;

/// The ranges in use.
#[derive(Debug, Clone)]
pub(super) struct Ranges {
    directory: PathBuf,
    taken: Arc<Mutex<HashMap<MachineId, u32>>>,
}

/// A range for a machine that is being started; given back on drop unless kept.
#[derive(Debug)]
pub(super) struct Reserved {
    ranges: Ranges,
    id: MachineId,
    number: u32,
    kept: bool,
}

impl Ranges {
    pub(super) fn of(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), taken: Arc::default() }
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<MachineId, u32>> {
        self.taken.lock().expect("nothing panics while it holds the table")
    }

    pub(super) fn reserve(&self, id: &MachineId) -> Result<Reserved, StartError> {
        let mut taken = self.taken();
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(self.directory.as_os_str().as_encoded_bytes())
            .update(&[0])
            .update(id.as_str().as_bytes());
        let hash = hasher.finalize();
        let [a, b, c, d, ..] = *hash.as_bytes();
        let wanted = u32::from_le_bytes([a, b, c, d]) % RANGES;
        let number = (0..RANGES)
            .map(|step| (wanted + step) % RANGES)
            .find(|number| !taken.values().any(|other| other == number))
            .ok_or(StartError::NoUids(taken.len()))?;
        taken.insert(id.clone(), number);
        Ok(Reserved { ranges: self.clone(), id: id.clone(), number, kept: false })
    }

    /// A machine found again has this range.
    pub(super) fn note(&self, id: &MachineId, first: u32) {
        if let Some(distance) = first.checked_sub(RANGE_FIRST) {
            self.taken().insert(id.clone(), distance / RANGE_COUNT);
        }
    }

    pub(super) fn release(&self, id: &MachineId) {
        self.taken().remove(id);
    }
}

impl Reserved {
    pub(super) fn uids(&self) -> Uids {
        Uids::Range { first: RANGE_FIRST + self.number * RANGE_COUNT, count: RANGE_COUNT }
    }

    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if !self.kept {
            self.ranges.release(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_machines_share_a_range_and_a_failed_start_gives_it_back() {
        let ranges = Ranges::of(Path::new("/x"));
        let mut firsts = Vec::new();
        for number in 0..1000 {
            let reserved = ranges.reserve(&format!("m-{number}").parse().unwrap()).unwrap();
            let Uids::Range { first, count } = reserved.uids() else { panic!("a range was asked for") };
            assert_eq!(count, RANGE_COUNT);
            firsts.push(first);
            reserved.keep();
        }
        firsts.sort_unstable();
        firsts.dedup();
        assert_eq!(firsts.len(), 1000);
        drop(ranges.reserve(&"one-more".parse().unwrap()).unwrap());
        assert_eq!(ranges.taken().len(), 1000);
    }

    #[test]
    fn a_machine_found_again_keeps_others_off_its_range() {
        let ranges = Ranges::of(Path::new("/x"));
        let id: MachineId = "m".parse().unwrap();
        let Uids::Range { first, .. } = ranges.reserve(&id).unwrap().uids() else {
            panic!("a range was asked for")
        };
        ranges.note(&"other".parse().unwrap(), first);
        let Uids::Range { first: second, .. } = ranges.reserve(&id).unwrap().uids() else {
            panic!("a range was asked for")
        };
        assert_ne!(first, second);
    }
}
