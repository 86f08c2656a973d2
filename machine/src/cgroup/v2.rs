//! The unified hierarchy.

use std::fs;
use std::io;
use std::path::Path;

use super::{PERIOD_MICROS, field, quota_micros, write};

pub(super) fn limit_cpu(group: &Path, cpus_milli: u32) -> io::Result<()> {
    write(&group.join("cpu.max"), &format!("{} {PERIOD_MICROS}", quota_micros(cpus_milli)))
}

/// Memory, and no swap, so that a machine cannot fill the owner's.
pub(super) fn limit_memory(group: &Path, bytes: u64) -> io::Result<()> {
    write(&group.join("memory.max"), &bytes.to_string())?;
    let swap = group.join("memory.swap.max");
    if swap.exists() { write(&swap, "0") } else { Ok(()) }
}

/// Times to look whether all processes are frozen, a millisecond apart.
const FREEZE_ATTEMPTS: u32 = 1000;

pub(super) fn freeze(group: &Path, frozen: bool) -> io::Result<()> {
    write(&group.join("cgroup.freeze"), if frozen { "1" } else { "0" })?;
    if !frozen {
        return Ok(());
    }
    for _ in 0..FREEZE_ATTEMPTS {
        if field(&group.join("cgroup.events"), "frozen") == Some(1) {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    write(&group.join("cgroup.freeze"), "0")?;
    Err(io::Error::other("the machine did not freeze within a second"))
}

/// Makes a controller available to the children of a group; fails where the group itself has processes, as the kernel demands.
pub(super) fn give_to_children(group: &Path, controller: &str) -> io::Result<()> {
    let given = fs::read_to_string(group.join("cgroup.subtree_control"))?;
    if given.split_whitespace().any(|word| word == controller) {
        return Ok(());
    }
    write(&group.join("cgroup.subtree_control"), &format!("+{controller}"))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    use super::*;
    use crate::cgroup::{Controller, Hierarchies, kill_all, remove_directories};

    #[test]
    fn a_real_group_is_frozen() {
        let Ok(Controller::V2(own)) = Hierarchies::find().unified() else {
            println!("SKIPPED: no unified hierarchy is mounted");
            return;
        };
        let group = own.join(format!("consort-test-{}", std::process::id()));
        if let Err(error) = fs::create_dir(&group) {
            println!("SKIPPED: {} cannot be written: {error}", own.display());
            return;
        }
        let mut cat = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        write(&group.join("cgroup.procs"), &cat.id().to_string()).unwrap();
        freeze(&group, true).unwrap();
        assert_eq!(field(&group.join("cgroup.events"), "frozen"), Some(1));
        cat.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        freeze(&group, false).unwrap();
        let mut byte = [0];
        cat.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
        // A frozen group is emptied and removed as well.
        freeze(&group, true).unwrap();
        kill_all(std::slice::from_ref(&group));
        cat.wait().unwrap();
        assert_eq!(remove_directories(&[group]), Vec::<String>::new());
    }
}
