//! Comparing what is there before and after: processes, cgroups, mounts, devices, files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::world::World;

/// What could be left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Traces {
    processes: BTreeSet<String>,
    groups: BTreeSet<String>,
    mounts: BTreeSet<String>,
    links: BTreeSet<String>,
    files: BTreeSet<String>,
}

impl Traces {
    pub(crate) fn of(world: &World) -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Self {
            processes: processes(),
            groups: groups(),
            mounts: mounts.lines().map(str::to_owned).collect(),
            links: entries(Path::new("/sys/class/net")),
            files: files(&world.directory.join("machines")),
        }
    }
}

/// Keepers and guests, by number: other programs come and go on a host, and are not ours.
fn processes() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let path = entry.path();
        let command = fs::read_to_string(path.join("cmdline")).unwrap_or_default();
        if command.contains("consort-keeper") || command.starts_with("/consort/guest") {
            found.insert(format!("{} {}", path.display(), command.replace('\0', " ")));
        }
    }
    found
}

fn groups() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![Path::new("/sys/fs/cgroup").to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().starts_with("consort-") {
                    found.insert(entry.path().display().to_string());
                }
                open.push(entry.path());
            }
        }
    }
    found
}

fn entries(directory: &Path) -> BTreeSet<String> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn files(directory: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            found.insert(entry.path().display().to_string());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.path());
            }
        }
    }
    found
}

/// Everything is as it was.
pub(crate) fn same(before: &Traces, after: &Traces) -> Result<()> {
    let gone_or_new =
        |a: &BTreeSet<String>, b: &BTreeSet<String>| a.symmetric_difference(b).cloned().collect::<Vec<_>>();
    for (what, a, b) in [
        ("processes", &before.processes, &after.processes),
        ("cgroups", &before.groups, &after.groups),
        ("mounts", &before.mounts, &after.mounts),
        ("links", &before.links, &after.links),
        ("files", &before.files, &after.files),
    ] {
        let difference = gone_or_new(a, b);
        ensure!(difference.is_empty(), "{what} differ: {difference:?}");
    }
    Ok(())
}
