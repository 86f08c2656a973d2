//! Tries, inside a machine, what a machine may not do, and prints one line for each attempt. For this crate's tests; it is copied into
//! a machine by its tenant's means.
//!
//! The attempts are wrong in their arguments on purpose: a call that the filter lets pass fails with something else than `EPERM` or,
//! where the filter says so, `ENOSYS`.

use std::process::ExitCode;

use nix::libc;

/// Name, number, arguments, expected error.
type Attempt = (&'static str, libc::c_long, [libc::c_long; 4], i32);

/// An address that cannot be read: a call that gets as far as its arguments says `EFAULT`.
const NOWHERE: libc::c_long = 8;
const EPERM: i32 = libc::EPERM;

fn attempts() -> Vec<Attempt> {
    let bit = |flag: i32| libc::c_long::from(flag);
    vec![
        ("mount", libc::SYS_mount, [NOWHERE; 4], EPERM),
        ("umount2", libc::SYS_umount2, [NOWHERE, 0, 0, 0], EPERM),
        ("pivot_root", libc::SYS_pivot_root, [NOWHERE; 4], EPERM),
        ("move_mount", libc::SYS_move_mount, [0; 4], EPERM),
        ("open_tree", libc::SYS_open_tree, [0, NOWHERE, 0, 0], EPERM),
        ("fsopen", libc::SYS_fsopen, [NOWHERE, 0, 0, 0], EPERM),
        ("mount_setattr", libc::SYS_mount_setattr, [0; 4], EPERM),
        ("unshare user", libc::SYS_unshare, [bit(libc::CLONE_NEWUSER), 0, 0, 0], EPERM),
        ("unshare mount", libc::SYS_unshare, [bit(libc::CLONE_NEWNS), 0, 0, 0], EPERM),
        ("unshare net", libc::SYS_unshare, [bit(libc::CLONE_NEWNET), 0, 0, 0], EPERM),
        ("clone user", libc::SYS_clone, [bit(libc::CLONE_NEWUSER | libc::SIGCHLD), 0, 0, 0], EPERM),
        ("clone net", libc::SYS_clone, [bit(libc::CLONE_NEWNET | libc::SIGCHLD), 0, 0, 0], EPERM),
        ("clone3", libc::SYS_clone3, [NOWHERE, 88, 0, 0], libc::ENOSYS),
        ("setns", libc::SYS_setns, [0; 4], EPERM),
        ("init_module", libc::SYS_init_module, [NOWHERE, 1, NOWHERE, 0], EPERM),
        ("finit_module", libc::SYS_finit_module, [0, NOWHERE, 0, 0], EPERM),
        ("delete_module", libc::SYS_delete_module, [NOWHERE, 0, 0, 0], EPERM),
        ("kexec_load", libc::SYS_kexec_load, [0; 4], EPERM),
        ("bpf", libc::SYS_bpf, [0, NOWHERE, 128, 0], EPERM),
        ("perf_event_open", libc::SYS_perf_event_open, [NOWHERE, 0, -1, -1], EPERM),
        ("userfaultfd", libc::SYS_userfaultfd, [1, 0, 0, 0], EPERM),
        ("keyctl", libc::SYS_keyctl, [0; 4], EPERM),
        ("add_key", libc::SYS_add_key, [NOWHERE; 4], EPERM),
        ("request_key", libc::SYS_request_key, [NOWHERE; 4], EPERM),
        ("ptrace", libc::SYS_ptrace, [0; 4], EPERM),
        ("process_vm_readv", libc::SYS_process_vm_readv, [1, 0, 0, 0], EPERM),
        ("pidfd_getfd", libc::SYS_pidfd_getfd, [0; 4], EPERM),
        ("io_uring_setup", libc::SYS_io_uring_setup, [1, NOWHERE, 0, 0], EPERM),
        ("open_by_handle_at", libc::SYS_open_by_handle_at, [0, NOWHERE, 0, 0], EPERM),
        ("reboot", libc::SYS_reboot, [0; 4], EPERM),
        ("settimeofday", libc::SYS_settimeofday, [0, 0, 0, 0], EPERM),
        ("clock_settime", libc::SYS_clock_settime, [0, NOWHERE, 0, 0], EPERM),
        ("syslog", libc::SYS_syslog, [3, NOWHERE, 10, 0], EPERM),
        ("swapon", libc::SYS_swapon, [NOWHERE, 0, 0, 0], EPERM),
        ("quotactl", libc::SYS_quotactl, [0, 0, 0, 0], EPERM),
        ("sethostname", libc::SYS_sethostname, [NOWHERE, 1, 0, 0], EPERM),
        ("socket vsock", libc::SYS_socket, [bit(libc::AF_VSOCK), bit(libc::SOCK_STREAM), 0, 0], EPERM),
        ("socket alg", libc::SYS_socket, [bit(libc::AF_ALG), bit(libc::SOCK_SEQPACKET), 0, 0], EPERM),
        ("an unknown call", 100_000, [0; 4], libc::ENOSYS),
    ]
}

#[expect(unsafe_code, reason = "the point is to make calls that no safe wrapper makes")]
fn try_call(number: libc::c_long, [a, b, c, d]: [libc::c_long; 4]) -> i32 {
    // SAFETY: Every call is refused by the filter, or fails on its arguments: addresses that cannot be read, descriptors and flags
    // that mean nothing. A clone that was let through would continue here as a second process, which only prints and ends.
    let outcome = unsafe { libc::syscall(number, a, b, c, d, 0, 0) };
    if outcome == -1 { std::io::Error::last_os_error().raw_os_error().unwrap_or(0) } else { 0 }
}

fn main() -> ExitCode {
    let mut all_refused = true;
    for (name, number, arguments, expected) in attempts() {
        let error = try_call(number, arguments);
        if error == expected {
            println!("{name} refused");
        } else {
            println!("{name}: error {error} and not {expected}");
            all_refused = false;
        }
    }
    if all_refused { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
