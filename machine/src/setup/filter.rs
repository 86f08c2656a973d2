//! The system calls a machine cannot make.
//!
//! Two filters, of which the stricter answer counts. The first refuses by name, with `EPERM`, what a machine never needs and what has
//! let sandboxes down: mounts and everything that makes new namespaces (a new user namespace would give back all capabilities inside
//! it), kernel code and images, `bpf`, `perf_event_open`, key rings (they are not divided by namespaces), `ptrace` and its kin across
//! the processes that enter the machine, io_uring (it would pass by this filter), devices, clocks, and sockets of families that no
//! network namespace divides (`AF_VSOCK`) or no machine needs. It also ends a process that makes calls of another architecture.
//! The second answers `ENOSYS` to `clone3`, whose flags a filter cannot read (libraries then use `clone`), and to every number that was
//! unknown when this was written, so that a new kernel does not silently give machines new calls.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition as Condition,
    SeccompFilter, SeccompRule as Rule, sock_filter,
};

use super::SetUpError;

/// The last call known here: `mseal` of Linux 6.10. Both architectures number new calls alike since 5.1.
const LAST_KNOWN: u32 = 462;

/// Refused whatever the arguments.
const REFUSED: &[i64] = &[
    // Mounts.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_acct,
    libc::SYS_fanotify_init,
    libc::SYS_open_by_handle_at,
    // Namespaces.
    libc::SYS_setns,
    // Kernel code and images.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
    // Key rings.
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    // Other processes' memory.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_process_madvise,
    // What would pass by this filter, or move memory between the host's nodes.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    // Clocks and identity of the host.
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_sysfs,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ustat,
];

/// Socket families that a machine has: its own, its network's, and raw frames on its own devices.
const FAMILIES: [i32; 5] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_PACKET];

/// The two filters.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    refused: BpfProgram,
    unknown: BpfProgram,
}

impl Filter {
    /// Writes the filters' programs.
    pub(crate) fn new() -> Result<Self, SetUpError> {
        let at =
            |error: seccompiler::BackendError| SetUpError(format!("write the system call filter: {error}"));
        let mut rules: BTreeMap<i64, Vec<Rule>> = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
        let any_new = [
            libc::CLONE_NEWUSER,
            libc::CLONE_NEWNS,
            libc::CLONE_NEWPID,
            libc::CLONE_NEWNET,
            libc::CLONE_NEWUTS,
            libc::CLONE_NEWIPC,
            libc::CLONE_NEWCGROUP,
            libc::CLONE_NEWTIME,
        ];
        let has = |argument: u8, bit: i32| {
            let bit = u64::from(bit.cast_unsigned());
            Rule::new(vec![Condition::new(argument, Len::Qword, Op::MaskedEq(bit), bit)?])
        };
        // CLONE_NEWTIME shares its bit with clone's exit signal and means a namespace for unshare only.
        let clone = any_new.iter().filter(|bit| **bit != libc::CLONE_NEWTIME).map(|bit| has(0, *bit));
        rules.insert(libc::SYS_clone, clone.collect::<Result<_, _>>().map_err(at)?);
        rules.insert(
            libc::SYS_unshare,
            any_new.iter().map(|bit| has(0, *bit)).collect::<Result<_, _>>().map_err(at)?,
        );
        let foreign = FAMILIES
            .iter()
            .map(|family| Condition::new(0, Len::Dword, Op::Ne, u64::from(family.cast_unsigned())));
        let foreign: Vec<_> = foreign.collect::<Result<_, _>>().map_err(at)?;
        rules.insert(libc::SYS_socket, vec![Rule::new(foreign).map_err(at)?]);
        // Typing into another's terminal.
        let inject = [libc::TIOCSTI, libc::TIOCLINUX]
            .into_iter()
            .map(|control| Rule::new(vec![Condition::new(1, Len::Dword, Op::Eq, control & 0xffff_ffff)?]));
        rules.insert(libc::SYS_ioctl, inject.collect::<Result<_, _>>().map_err(at)?);
        let architecture = std::env::consts::ARCH.try_into().map_err(at)?;
        let refuse = SeccompAction::Errno(libc::EPERM.cast_unsigned());
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, architecture).map_err(at)?;
        Ok(Self { refused: filter.try_into().map_err(at)?, unknown: unknown_calls() })
    }

    /// Puts this process and all it starts under the filters; also sets `no_new_privs`.
    pub(crate) fn apply(&self) -> Result<(), SetUpError> {
        seccompiler::apply_filter(&self.unknown).map_err(SetUpError::at("filter unknown system calls"))?;
        seccompiler::apply_filter(&self.refused).map_err(SetUpError::at("filter system calls"))
    }
}

/// Load the number; if it is `clone3` or beyond the last known, answer `ENOSYS`; else allow.
fn unknown_calls() -> BpfProgram {
    let instruction = |code: u32, jt, jf, k| sock_filter {
        code: u16::try_from(code).expect("a code has 16 bits"),
        jt,
        jf,
        k,
    };
    let refuse = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();
    let clone3 = u32::try_from(libc::SYS_clone3).expect("call numbers are small");
    vec![
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 2, 0, clone3),
        instruction(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, 1, 0, LAST_KNOWN),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, refuse),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_can_be_written() {
        let filter = Filter::new().unwrap();
        assert!(filter.refused.len() < 4096, "the kernel takes no longer program (BPF_MAXINSNS)");
        assert_eq!(filter.unknown.len(), 5);
    }

    #[test]
    fn no_call_is_listed_twice() {
        let mut calls = REFUSED.to_vec();
        calls.sort_unstable();
        calls.dedup();
        assert_eq!(calls.len(), REFUSED.len());
    }
}
