//! What a machine's root may do: capabilities inside its own namespaces, and resource limits of its processes.

use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities};

use super::SetUpError;
use crate::spec::MachineSpec;

/// What root needs to be root inside: its users' files and processes, and its own network. All of it counts only against things that
/// belong to the machine's user namespace. Not among them: `SYS_ADMIN` (mounts, and most of the kernel's attack surface), `SYS_PTRACE`
/// (init must stay closed), `MKNOD`, `SYS_MODULE`, `SYS_RAWIO`, `SYS_TIME`, `SYS_BOOT`, `SYS_RESOURCE`, `DAC_READ_SEARCH`, `BPF`,
/// `PERFMON`, `SYSLOG`.
pub(crate) const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_ADMIN)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SYS_CHROOT);

/// Capabilities that a kernel could have: 64 bits in the interface, 41 known.
const NUMBERS: u32 = 64;

/// Cuts every set of this process to what a machine's root keeps.
pub(crate) fn cut_capabilities() -> Result<(), SetUpError> {
    for number in 0..NUMBERS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if KEPT.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // The kernel knows no capability of this number, nor of any above.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(SetUpError(format!("drop capability {number}: {error}"))),
        }
    }
    let sets = CapabilitySets { effective: KEPT, permitted: KEPT, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).map_err(SetUpError::at("cut the capabilities"))
}

/// What the kernel counts for each user namespace, and what a machine may have of it: no namespaces at all, so that a hole in the system
/// call filter would not be enough; and file watches as a desktop has them, so that one machine does not use up those of the daemon's user.
const COUNTED: [(&str, u32); 10] = [
    ("max_user_namespaces", 0),
    ("max_mnt_namespaces", 0),
    ("max_pid_namespaces", 0),
    ("max_net_namespaces", 0),
    ("max_ipc_namespaces", 0),
    ("max_uts_namespaces", 0),
    ("max_cgroup_namespaces", 0),
    ("max_time_namespaces", 0),
    ("max_inotify_instances", 128),
    ("max_inotify_watches", 65_536),
];

/// Sets the counts of this user namespace (`/proc/sys/user`, namespaces(7)); a kernel that counts less has fewer files.
pub(crate) fn count_kernel_objects() -> Result<(), SetUpError> {
    for (name, most) in COUNTED {
        let path = format!("/proc/sys/user/{name}");
        match std::fs::write(&path, most.to_string()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            other => other.map_err(SetUpError::at(format!("write {most} to {path}")))?,
        }
    }
    Ok(())
}

/// What resource limits must do because cgroups do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Substitutes {
    /// Count the machine's processes.
    pub(crate) pids: bool,
    /// Bound the memory of each process.
    pub(crate) memory: bool,
}

/// The limits that a process carries with it, whatever the cgroups do: no core files on the host, a bounded number of descriptors, no
/// single file larger than the disk; and in the place of cgroups, the number of processes and the memory of each.
pub(crate) fn set_resource_limits(spec: &MachineSpec, substitutes: Substitutes) -> Result<(), SetUpError> {
    let hard = |value: u64| Rlimit { current: Some(value), maximum: Some(value) };
    let at = SetUpError::at::<rustix::io::Errno>;
    setrlimit(Resource::Core, hard(0)).map_err(at("limit core files"))?;
    setrlimit(Resource::Fsize, hard(spec.disk_bytes)).map_err(at("limit the size of files"))?;
    let most = rustix::process::getrlimit(Resource::Nofile).maximum.unwrap_or(DESCRIPTORS).min(DESCRIPTORS);
    setrlimit(Resource::Nofile, Rlimit { current: Some(most.min(1024)), maximum: Some(most) })
        .map_err(at("limit descriptors"))?;
    if substitutes.memory {
        setrlimit(Resource::Data, hard(spec.memory_bytes)).map_err(at("limit the memory of a process"))?;
    }
    if substitutes.pids {
        setrlimit(Resource::Nproc, hard(spec.pids_max.into())).map_err(at("limit processes"))?;
    }
    Ok(())
}

/// Open files of one process at most: what servers ask for, far below what strains a host.
const DESCRIPTORS: u64 = 65_536;
