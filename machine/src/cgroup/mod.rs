//! A machine's control groups: where its limits are enforced, its use is counted, and it is frozen.
//!
//! Owns one directory below the daemon's own group in each hierarchy that can be written, named by the daemon's directory and the
//! machine. Below one's own group, because that is what a service manager delegates and what an outer limit on the daemon must still
//! bound. Refuses to know processes beyond their numbers.
//!
//! The version 1 hierarchies (one for each controller) are preferred where they are mounted with the controller, since there the
//! unified hierarchy does not have it; otherwise the unified one. Sources: cgroups(7), the kernel's `cgroup-v1/` and `cgroup-v2.rst`.

mod hierarchy;
mod v1;
mod v2;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::driver::{Limit, PausedBy};
use crate::spec::MachineSpec;
pub(crate) use hierarchy::Hierarchies;

/// CPU time is given out in periods of this many microseconds, the kernel's default: shorter costs switches, longer stutters.
const PERIOD_MICROS: u64 = 100_000;
/// The least quota that the kernel takes.
const QUOTA_MIN_MICROS: u64 = 1_000;

/// CPU time in each period.
fn quota_micros(cpus_milli: u32) -> u64 {
    (u64::from(cpus_milli) * PERIOD_MICROS / 1000).max(QUOTA_MIN_MICROS)
}

/// The groups of one machine.
#[derive(Debug)]
pub(crate) struct Groups {
    directories: Vec<PathBuf>,
    memory: Option<Controller>,
    pids: Option<Controller>,
    cpu_time: Option<Controller>,
    freezer: Option<Controller>,
}

/// A controller's directory for this machine.
#[derive(Debug, Clone)]
enum Controller {
    V1(PathBuf),
    V2(PathBuf),
}

/// Which limits the groups hold.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) cpus: Limit,
    pub(crate) memory: Limit,
    pub(crate) pids: Limit,
    pub(crate) pause: PausedBy,
}

/// What a machine used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) pids: Option<u64>,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) cpu_micros: Option<u64>,
    pub(crate) oom_kills: u64,
}

impl Groups {
    /// The directories that [`Groups::make`] may make, to be written down before it does.
    pub(crate) fn plan(hierarchies: &Hierarchies, name: &str) -> Vec<PathBuf> {
        hierarchies.parents().map(|parent| parent.join(name)).collect()
    }

    /// Makes the groups and sets the limits. What cannot be had is in the report and is no error.
    pub(crate) fn make(hierarchies: &Hierarchies, name: &str, spec: &MachineSpec) -> (Self, Held) {
        let mut groups =
            Self { directories: Vec::new(), memory: None, pids: None, cpu_time: None, freezer: None };
        let cpus = groups.limit(hierarchies, name, "cpu", &|controller| match controller {
            Controller::V1(path) => v1::limit_cpu(path, spec.cpus_milli),
            Controller::V2(path) => v2::limit_cpu(path, spec.cpus_milli),
        });
        let memory = groups.limit(hierarchies, name, "memory", &|controller| match controller {
            Controller::V1(path) => v1::limit_memory(path, spec.memory_bytes),
            Controller::V2(path) => v2::limit_memory(path, spec.memory_bytes),
        });
        let pids = groups.limit(hierarchies, name, "pids", &|controller| match controller {
            Controller::V1(path) | Controller::V2(path) => {
                write(&path.join("pids.max"), &spec.pids_max.to_string())
            }
        });
        groups.memory = memory.1;
        groups.pids = pids.1;
        groups.cpu_time = match groups.group(hierarchies, name, "cpuacct") {
            Ok(accounting) => Some(accounting),
            Err(_) => cpus.1.filter(|controller| matches!(controller, Controller::V2(_))),
        };
        groups.freezer =
            groups.group(hierarchies, name, "freezer").or_else(|_| groups.unified(hierarchies, name)).ok();
        let pause = match &groups.freezer {
            Some(Controller::V1(_)) => PausedBy::FreezerV1,
            Some(Controller::V2(_)) => PausedBy::FreezerV2,
            None => PausedBy::Signals,
        };
        (groups, Held { cpus: cpus.0, memory: memory.0, pids: pids.0, pause })
    }

    fn limit(
        &mut self,
        hierarchies: &Hierarchies,
        name: &str,
        controller: &str,
        set: &dyn Fn(&Controller) -> io::Result<()>,
    ) -> (Limit, Option<Controller>) {
        let made = self.group(hierarchies, name, controller).and_then(|group| match set(&group) {
            Ok(()) => Ok(group),
            Err(error) => Err(format!("the {controller} controller took no limit: {error}")),
        });
        match made {
            Ok(group) => (Limit::Enforced { by: group.mechanism() }, Some(group)),
            Err(reason) => (Limit::NotEnforced { reason }, None),
        }
    }

    /// The machine's directory for a controller, made if needed.
    fn group(
        &mut self,
        hierarchies: &Hierarchies,
        name: &str,
        controller: &str,
    ) -> Result<Controller, String> {
        let group = hierarchies.parent_for(controller)?.child(name);
        self.make_directory(group)
    }

    fn unified(&mut self, hierarchies: &Hierarchies, name: &str) -> Result<Controller, String> {
        let group = hierarchies.unified()?.child(name);
        let group = self.make_directory(group)?;
        match &group {
            Controller::V2(path) if path.join("cgroup.freeze").exists() => Ok(group),
            _ => Err("this kernel cannot freeze groups".to_owned()),
        }
    }

    fn make_directory(&mut self, group: Controller) -> Result<Controller, String> {
        let path = group.path();
        if !self.directories.iter().any(|directory| directory == path) {
            fs::create_dir(path).map_err(|error| {
                let parent = path.parent().unwrap_or(path).display();
                format!("{parent} cannot be written ({error}); run the node as root, or under systemd with Delegate=yes")
            })?;
            self.directories.push(path.to_owned());
        }
        Ok(group)
    }

    /// Puts a process, with all it will start, into every group.
    pub(crate) fn add(&self, pid: Pid) -> io::Result<()> {
        self.directories
            .iter()
            .try_for_each(|directory| write(&directory.join("cgroup.procs"), &pid.to_string()))
    }

    /// Freezes or thaws; false if there is no freezer. Returns when the kernel has begun; a frozen process runs no more code of its own.
    pub(crate) fn freeze(&self, frozen: bool) -> io::Result<bool> {
        match &self.freezer {
            Some(Controller::V1(path)) => v1::freeze(path, frozen)?,
            Some(Controller::V2(path)) => v2::freeze(path, frozen)?,
            None => return Ok(false),
        }
        Ok(true)
    }

    /// What the machine used so far.
    pub(crate) fn usage(&self) -> Usage {
        let (memory_bytes, oom_kills) = match &self.memory {
            Some(Controller::V1(path)) => (
                number(&path.join("memory.usage_in_bytes")),
                field(&path.join("memory.oom_control"), "oom_kill"),
            ),
            Some(Controller::V2(path)) => {
                (number(&path.join("memory.current")), field(&path.join("memory.events"), "oom_kill"))
            }
            None => (None, None),
        };
        let cpu_micros = match &self.cpu_time {
            Some(Controller::V1(path)) => number(&path.join("cpuacct.usage")).map(|nanos| nanos / 1000),
            Some(Controller::V2(path)) => field(&path.join("cpu.stat"), "usage_usec"),
            None => None,
        };
        let pids = self.pids.as_ref().and_then(|controller| number(&controller.path().join("pids.current")));
        Usage { pids, memory_bytes, cpu_micros, oom_kills: oom_kills.unwrap_or(0) }
    }

    /// Removes the groups; their processes must have ended. What cannot be removed is returned.
    pub(crate) fn remove(&mut self) -> Vec<String> {
        remove_directories(&std::mem::take(&mut self.directories))
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        self.remove();
    }
}

impl Controller {
    fn path(&self) -> &Path {
        match self {
            Self::V1(path) | Self::V2(path) => path,
        }
    }

    fn child(&self, name: &str) -> Self {
        match self {
            Self::V1(path) => Self::V1(path.join(name)),
            Self::V2(path) => Self::V2(path.join(name)),
        }
    }

    fn mechanism(&self) -> crate::driver::Mechanism {
        match self {
            Self::V1(_) => crate::driver::Mechanism::CgroupV1,
            Self::V2(_) => crate::driver::Mechanism::CgroupV2,
        }
    }
}

/// Times to look again whether a group has emptied, 5 ms apart: two seconds, far above what a killed process takes to be gone.
const REMOVE_ATTEMPTS: u32 = 400;

/// Removes groups whose processes end or have ended; says which it could not.
pub(crate) fn remove_directories(directories: &[PathBuf]) -> Vec<String> {
    let mut left = Vec::new();
    for directory in directories {
        let mut attempts = 0;
        loop {
            match fs::remove_dir(directory) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                // A dead process leaves its group a moment after its parent has heard of it, and nothing tells when.
                Err(error)
                    if error.raw_os_error() == Some(nix::libc::EBUSY) && attempts < REMOVE_ATTEMPTS =>
                {
                    attempts += 1;
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                Err(error) => {
                    left.push(format!("{}: {error}", directory.display()));
                    break;
                }
            }
        }
    }
    left
}

/// Kills whatever is still in these groups: what a keeper that was killed could not.
pub(crate) fn kill_all(directories: &[PathBuf]) {
    for directory in directories {
        // A frozen process dies when it thaws; a group of another kind has no such file.
        let _ = fs::write(directory.join("freezer.state"), "THAWED");
        let _ = fs::write(directory.join("cgroup.freeze"), "0");
        let Ok(processes) = fs::read_to_string(directory.join("cgroup.procs")) else { continue };
        for pid in processes.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 1) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

fn write(path: &Path, value: &str) -> io::Result<()> {
    fs::write(path, value).map_err(|error| {
        io::Error::new(error.kind(), format!("write {value} to {}: {error}", path.display()))
    })
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn field(path: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Mechanism;
    use crate::test_dir::TestDir;

    /// Plain files in the place of the kernel's: what is written where. That the kernel obeys is tested on real hierarchies, by
    /// `tests/sandbox` with version 1 or 2 as the host has it, and by `a_real_group_is_frozen` of `v2`.
    #[test]
    fn the_unified_hierarchy_is_told_every_limit() {
        let dir = TestDir::new("cgroup2");
        let own = dir.path().join("service");
        fs::create_dir(&own).unwrap();
        fs::write(own.join("cgroup.controllers"), "cpuset cpu io memory pids\n").unwrap();
        fs::write(own.join("cgroup.subtree_control"), "cpu memory pids\n").unwrap();
        let mounts = format!("34 22 0:30 / {} rw - cgroup2 cgroup2 rw\n", dir.path().display());
        let hierarchies = Hierarchies::parse(&mounts, "0::/service\n");
        let spec = crate::spec::tests::example();
        let plan = Groups::plan(&hierarchies, "m");
        let (groups, held) = Groups::make(&hierarchies, "m", &spec);
        let by = Mechanism::CgroupV2;
        assert_eq!([&held.cpus, &held.memory, &held.pids], [&Limit::Enforced { by }; 3]);
        let told = |file: &str| fs::read_to_string(own.join("m").join(file)).unwrap();
        assert_eq!(told("cpu.max"), "50000 100000");
        assert_eq!(told("memory.max"), (64 << 20).to_string());
        assert_eq!(told("pids.max"), "64");
        assert!(plan.contains(&own.join("m")), "what is made was written down before: {plan:?}");
        fs::write(own.join("m/memory.current"), "4096\n").unwrap();
        fs::write(own.join("m/memory.events"), "low 0\noom 3\noom_kill 2\n").unwrap();
        fs::write(own.join("m/cpu.stat"), "usage_usec 77\nuser_usec 7\n").unwrap();
        fs::write(own.join("m/pids.current"), "5\n").unwrap();
        let usage = Usage { pids: Some(5), memory_bytes: Some(4096), cpu_micros: Some(77), oom_kills: 2 };
        assert_eq!(groups.usage(), usage);
    }

    #[test]
    fn a_hierarchy_that_cannot_be_written_is_reported_with_a_remedy() {
        let none = Hierarchies::parse("", "");
        let (_, held) = Groups::make(&none, "m", &crate::spec::tests::example());
        let Limit::NotEnforced { reason } = held.memory else { panic!("nothing can enforce it") };
        assert_eq!(reason, "no hierarchy with the memory controller is mounted in sight");
        assert_eq!(held.pause, PausedBy::Signals);
    }

    #[test]
    fn quotas_are_proportional_and_never_below_the_kernels_least() {
        assert_eq!(quota_micros(1000), 100_000);
        assert_eq!(quota_micros(2500), 250_000);
        assert_eq!(quota_micros(1), 1_000);
    }
}
