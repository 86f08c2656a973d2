//! Processes: making them in new namespaces, and the few calls without a safe wrapper.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;
use nix::sched::CloneFlags;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::Pid;

/// On which side of a fork this is.
#[derive(Debug)]
pub(crate) enum Side {
    /// The new process.
    Child,
    /// The old one, with the child's number.
    Parent(Pid),
}

/// Makes a process in new namespaces; it begins as a copy of this one, as after `fork`.
///
/// `CLONE_PARENT` makes it the caller's sibling. Must be called while the process has one thread.
#[expect(unsafe_code, reason = "clone has no safe wrapper; it is called in single-threaded processes only")]
pub(crate) fn split(namespaces: CloneFlags) -> io::Result<Side> {
    assert_single_threaded()?;
    let flags = libc::c_long::from(namespaces.bits()) | libc::c_long::from(libc::SIGCHLD);
    // SAFETY: With a null stack and none of VM, VFORK, SETTLS or the tid flags, clone behaves as fork: the child runs on its own copy of
    // the memory. The one thread of the caller is the child's one thread, so no lock is held by a thread that does not exist there.
    // Both architectures take flags and stack as the first two arguments; the others are ignored for these flags.
    let outcome = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match outcome {
        0 => Ok(Side::Child),
        pid if pid > 0 => {
            Ok(Side::Parent(Pid::from_raw(i32::try_from(pid).expect("process numbers have 22 bits"))))
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// Forking with several threads would copy locks that nobody can release: refuse.
fn assert_single_threaded() -> io::Result<()> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads == 1 { Ok(()) } else { Err(io::Error::other(format!("{threads} threads run where one must"))) }
}

/// Ends this process without running anything that its parent registered.
#[expect(unsafe_code, reason = "_exit has no safe wrapper")]
pub(crate) fn end_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions; nothing is unwound or flushed, which is what a copy of the parent wants.
    unsafe { libc::_exit(code) }
}

/// Closes every descriptor from `first` on.
#[expect(unsafe_code, reason = "close_range has no safe wrapper")]
pub(crate) fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: Called at the very beginning of a keeper, before anything is opened, or directly before exec: no owner of one of these
    // descriptors uses it afterwards.
    let outcome = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives signals back the meaning that a fresh program expects: nothing blocked, nothing ignored. What the daemon ignores (`SIGPIPE`, as every Rust
/// program; `SIGHUP` under nohup(1)) would be ignored by every program of the machine otherwise: a disposition of "ignore" survives exec.
#[expect(
    unsafe_code,
    reason = "setting a signal's disposition is unsafe in nix because of handlers; none is set here"
)]
pub(crate) fn reset_signals() -> nix::Result<()> {
    // Nobody can ignore these two, and the kernel refuses to be asked.
    let settable = |signal: &Signal| !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP);
    for signal in Signal::iterator().filter(settable) {
        // SAFETY: The default disposition involves no handler.
        unsafe { nix::sys::signal::signal(signal, nix::sys::signal::SigHandler::SigDfl)? };
    }
    SigSet::empty().thread_set_mask()
}

/// Places a descriptor at 0, 1 or 2.
#[expect(unsafe_code, reason = "dup2 onto a number has no safe wrapper that takes any number")]
pub(crate) fn place(descriptor: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    assert!((0..=2).contains(&number), "only the standard streams are placed");
    // SAFETY: The standard streams are owned by nobody in these processes, and the copy is meant to outlive its original.
    let outcome = unsafe { libc::dup2(descriptor.as_raw_fd(), number) };
    if outcome == number { Ok(()) } else { Err(io::Error::last_os_error()) }
}
