//! A control group for a lab, in each hierarchy that may be written: so that groups made by what runs inside can be found and removed,
//! whatever was killed.
//!
//! Owns one directory of the lab's name below the janitor's own group in each hierarchy. Where none may be made, nothing inside can make
//! any either. Refuses to know limits. Sources: cgroups(7), `Documentation/admin-guide/cgroup-v2.rst`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::process::attempted;

/// How often a group that is still busy is tried again: the kernel lets go of the dead a moment after they are gone.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(10);
/// Deeper trees are not ours.
const DEPTH_MAX: u32 = 8;

/// The lab's groups. Dropped, they are removed with all below them.
#[derive(Debug)]
pub(super) struct Groups {
    directories: Vec<PathBuf>,
}

impl Groups {
    /// Makes a group of this name in every hierarchy that takes one.
    pub(super) fn make(name: &str) -> Self {
        let made = parents().into_iter().map(|parent| parent.join(name));
        let directories = made.filter(|directory| make_group(directory).is_ok()).collect();
        Self { directories }
    }

    /// Lets everything go on that was frozen in them.
    pub(super) fn thaw(&self) {
        self.directories.iter().for_each(|directory| thaw(directory, DEPTH_MAX));
    }

    /// Puts a process, and what it will start, into the groups.
    pub(super) fn take(&self, pid: u32) -> Result<(), String> {
        for directory in &self.directories {
            fs::write(directory.join("cgroup.procs"), pid.to_string())
                .map_err(attempted("move the lab into its control group"))?;
        }
        Ok(())
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for directory in &self.directories {
            for _ in 0..TRIES {
                if remove(directory, DEPTH_MAX).is_ok() {
                    break;
                }
                std::thread::sleep(PAUSE);
            }
        }
    }
}

/// Lets everything go on that was frozen in the groups below this process' own, so that it can die: a dead pid namespace waits for all
/// its processes.
pub(super) fn thaw_own() {
    parents().iter().for_each(|directory| thaw(directory, DEPTH_MAX));
}

fn thaw(directory: &Path, depth: u32) {
    for (file, value) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
        if directory.join(file).exists() {
            // The kernel refuses it only for what cannot be frozen either.
            let _ = fs::write(directory.join(file), value);
        }
    }
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            thaw(&entry.path(), depth - 1);
        }
    }
}

/// Removes groups whose lab is gone; a group with processes stays.
pub(super) fn sweep(prefix: &str, lives: impl Fn(&str) -> bool) {
    for parent in parents() {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(prefix) && !lives(&name) {
                // Busy means that somebody is in it.
                let _ = remove(&entry.path(), DEPTH_MAX);
            }
        }
    }
}

/// A group of version 1's `cpuset` takes no process before it has processors and memory: those of its parent.
fn make_group(directory: &Path) -> io::Result<()> {
    fs::create_dir(directory)?;
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let of_parent = directory.parent().map(|parent| parent.join(file));
        if let Some(values) = of_parent.and_then(|path| fs::read_to_string(path).ok()) {
            // The unified hierarchy inherits by itself, and may refuse.
            let _ = fs::write(directory.join(file), values.trim());
        }
    }
    Ok(())
}

fn remove(directory: &Path, depth: u32) -> io::Result<()> {
    if depth == 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path(), depth - 1)?;
        }
    }
    fs::remove_dir(directory)
}

/// This process' own group in each hierarchy, as directories.
fn parents() -> Vec<PathBuf> {
    let read = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
    own_groups(&read("cgroup"), &read("mountinfo"))
}

fn own_groups(groups: &str, mounts: &str) -> Vec<PathBuf> {
    groups
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let (root, mount_point) = mounts.lines().find_map(|mount| mounted(mount, controllers))?;
            let below = Path::new(path).strip_prefix(root).ok()?;
            Some(Path::new(mount_point).join(below))
        })
        .collect()
}

/// The root and the place of a mount, if it is the hierarchy of these controllers. Format: proc(5), `/proc/pid/mountinfo`.
fn mounted<'a>(mount: &'a str, controllers: &str) -> Option<(&'a str, &'a str)> {
    let (place, kind) = mount.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, mount_point) = (place.next()?, place.next()?);
    let mut kind = kind.split(' ');
    let (filesystem, _, options) = (kind.next()?, kind.next()?, kind.next()?);
    let is_it = match controllers {
        "" => filesystem == "cgroup2",
        // Named hierarchies are the service manager's.
        named if named.starts_with("name=") => false,
        wanted => {
            let has = |controller| options.split(',').any(|option| option == controller);
            filesystem == "cgroup" && wanted.split(',').all(has)
        }
    };
    is_it.then_some((root, mount_point))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_groups_are_found_in_both_versions_and_below_a_bound_root() {
        let groups = "5:memory:/outer/own\n4:cpu,cpuacct:/\n1:name=systemd:/user\n0::/session\n";
        let mounts = "30 29 0:25 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      31 29 0:26 /outer /sys/fs/cgroup/memory rw,relatime shared:4 - cgroup cgroup rw,memory\n\
                      32 29 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                      33 29 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let found = own_groups(groups, mounts);
        let wanted =
            ["/sys/fs/cgroup/memory/own", "/sys/fs/cgroup/cpu,cpuacct/", "/sys/fs/cgroup/unified/session"];
        assert_eq!(found, wanted.map(PathBuf::from));
    }
}
