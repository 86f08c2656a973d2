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
            processes: processes(world),
            groups: groups(world),
            mounts: mounts.lines().map(str::to_owned).collect(),
            links: entries(Path::new("/sys/class/net")),
            files: files(&world.directory.join("machines")),
        }
    }
}

/// The names of this world's cgroups begin like this; see `group_name` of the keeper. Other worlds, and other programs of this
/// project, may be at work on the host at the same time.
fn group_names(world: &World) -> Vec<String> {
    let machines = world.directory.join("machines");
    let name = |number| {
        let place =
            blake3::hash(machines.join(format!("m-{number}")).as_os_str().as_encoded_bytes()).to_hex();
        format!("consort-{}-m-{number}", &place[..8])
    };
    (0..World::machines_so_far()).map(name).collect()
}

/// This world's keepers, by the environment they inherit, and the guests that are their children or in this world's cgroups.
fn processes(world: &World) -> BTreeSet<String> {
    let names = group_names(world);
    let mark = world.directory.display().to_string();
    let numbers =
        entries(Path::new("/proc")).into_iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
    let read = |pid: &str, file: &str| {
        fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default().replace('\0', " ")
    };
    let all: Vec<(String, String)> =
        numbers.map(|pid| (read(&pid, "cmdline"), pid)).map(|(command, pid)| (pid, command)).collect();
    let keepers: BTreeSet<&String> = all
        .iter()
        .filter(|(pid, command)| command.contains("consort-keeper") && read(pid, "environ").contains(&mark))
        .map(|(pid, _)| pid)
        .collect();
    let ours = |pid: &String, command: &str| {
        let parent = read(pid, "status")
            .lines()
            .find_map(|line| line.strip_prefix("PPid:"))
            .unwrap_or_default()
            .trim()
            .to_owned();
        let grouped = || names.iter().any(|name| read(pid, "cgroup").contains(name.as_str()));
        keepers.contains(pid)
            || (command.starts_with("/consort/guest") && (keepers.contains(&parent) || grouped()))
    };
    all.iter()
        .filter(|(pid, command)| ours(pid, command))
        .map(|(pid, command)| format!("{pid} {command}"))
        .collect()
}

fn groups(world: &World) -> BTreeSet<String> {
    let names = group_names(world);
    let mut found = BTreeSet::new();
    let mut open = vec![Path::new("/sys/fs/cgroup").to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if names.iter().any(|name| entry.file_name().to_string_lossy() == *name) {
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
pub(crate) fn nothing_new(before: &Traces, after: &Traces) -> Result<()> {
    for (what, a, b) in [
        ("processes", &before.processes, &after.processes),
        ("cgroups", &before.groups, &after.groups),
        ("mounts", &before.mounts, &after.mounts),
        ("links", &before.links, &after.links),
        ("files", &before.files, &after.files),
    ] {
        let new: Vec<_> = b.difference(a).collect();
        ensure!(new.is_empty(), "{what} are left: {new:?}");
    }
    Ok(())
}
