//! What a keeper writes down before it makes it, so that another can sweep it up if the keeper is killed: `machine.json`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::driver::Uids;

const FILE: &str = "machine.json";

/// The file's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Directories of cgroups that may have been made.
    pub(crate) groups: Vec<PathBuf>,
    /// Whose its files are.
    pub(crate) uids: Uids,
    /// Init's number and start time, once it lives; the time tells it from a later process of the same number.
    pub(crate) init: Option<(i32, u64)>,
    /// The keeper's own.
    pub(crate) keeper: (i32, u64),
}

impl Record {
    pub(crate) fn write(&self, directory: &Path) -> io::Result<()> {
        let bytes = serde_json::to_vec(self)?;
        let work = directory.join("machine.json.new");
        fs::write(&work, bytes)?;
        fs::rename(work, directory.join(FILE))
    }

    pub(crate) fn read(directory: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(directory.join(FILE))?)?)
    }
}

/// When a process started, in clock ticks since boot: field 22 of `/proc/PID/stat` (proc(5)). `None` if there is no such process.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, so count from behind it: state is field 3.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_started_before_now_and_no_process_has_an_impossible_number() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(start_time(own).unwrap() >= start_time(1).unwrap());
        assert_eq!(start_time(i32::MAX), None);
    }
}
