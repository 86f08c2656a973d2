//! Removing what a machine left whose keeper was killed. Its mounts and devices went with its namespaces; left are, for a moment,
//! its processes, and its cgroups and files.

use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::cgroup::{kill_all, remove_directories};
use crate::image::remove_tree;
use crate::keeper::{Record, start_time};
use crate::setup::channel::timespec;

/// A killed process is gone within milliseconds unless the kernel is stuck.
const DEATH_WITHIN: Duration = Duration::from_secs(5);

/// Ends and removes all of it; says what could not be removed. What is not there is removed.
pub(super) fn sweep(directory: &Path) -> Vec<String> {
    let mut left = Vec::new();
    if let Ok(record) = Record::read(directory) {
        // The keeper first: a living one that does not answer would go on making things.
        for (what, process) in [("keeper", Some(record.keeper)), ("init", record.init)] {
            if let Some((pid, started)) = process
                && let Err(words) = end(pid, started)
            {
                left.push(format!("{what} {pid}: {words}"));
            }
        }
        kill_all(&record.groups);
        left.extend(remove_directories(&record.groups));
    }
    if let Err(error) = remove_tree(directory) {
        left.push(format!("{}: {error}", directory.display()));
    }
    left
}

/// Kills a process that is still the one that was meant, and waits until it is gone.
fn end(pid: i32, started: u64) -> Result<(), String> {
    let Some(number) = Pid::from_raw(pid) else { return Ok(()) };
    let Ok(handle) = pidfd_open(number, PidfdFlags::empty()) else { return Ok(()) };
    // The handle is held now, so the number cannot become another's between this look and the signal.
    if start_time(pid) != Some(started) {
        return Ok(());
    }
    match pidfd_send_signal(&handle, Signal::KILL) {
        Ok(()) => {}
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(error) => return Err(format!("cannot be killed: {error}")),
    }
    match poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&timespec(DEATH_WITHIN))) {
        Ok(0) => Err("does not die".to_owned()),
        Ok(_) | Err(_) => Ok(()),
    }
}
