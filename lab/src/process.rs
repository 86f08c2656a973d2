//! What all lab processes do alike: die with their parent, wait for signals, pass on exit codes.
//!
//! Every lab process is single-threaded and waits by `sigwait` with its signals blocked, so no handler runs and none is missed.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::process::{Child, Command};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getppid};

use crate::reexec::Arguments;

/// Names the starting process to a subcommand.
const PARENT_OPTION: &str = "--parent";
/// A shell's convention: killed by signal n reads as exit code 128 + n.
const KILLED_BASE: i32 = 128;

/// Asks the kernel for `signal` when the parent dies, and fails if it already has. `--parent` names it as this pid namespace does.
pub(crate) fn follow(signal: Signal, arguments: &Arguments<'_>) -> Result<(), String> {
    set_pdeathsig(signal).map_err(attempted("follow the process that started this one"))?;
    if arguments.value::<i32>(PARENT_OPTION) != Some(getppid().as_raw()) {
        return Err("the process that started this one is gone".to_owned());
    }
    Ok(())
}

/// The same across a border of pid namespaces, where the parent has no number: it holds the other end of our standard input.
pub(crate) fn follow_across(signal: Signal) -> Result<(), String> {
    set_pdeathsig(signal).map_err(attempted("follow the process that started this one"))?;
    let stdin = io::stdin();
    let mut watched = [PollFd::new(stdin.as_fd(), PollFlags::empty())];
    poll(&mut watched, PollTimeout::ZERO).map_err(attempted("look at the process that started this one"))?;
    if watched[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP)) {
        return Err("the process that started this one is gone".to_owned());
    }
    Ok(())
}

/// A command that runs one of the internal subcommands of `program`, which then can [`follow`].
pub(crate) fn subcommand(program: impl AsRef<OsStr>, name: &str) -> Command {
    let mut command = Command::new(program);
    command.args([name, PARENT_OPTION, &std::process::id().to_string()]);
    command
}

/// Blocks signals, so that they wait for [`SigSet::wait`]. Programs started later inherit that; `lab-exec` undoes it for those that are not ours.
pub(crate) fn block(signals: &[Signal]) -> io::Result<SigSet> {
    let set: SigSet = signals.iter().copied().collect();
    set.thread_block()?;
    Ok(set)
}

/// Collects every child that has ended; returns the exit code of `watched` if it is among them.
pub(crate) fn reap(watched: Pid) -> Option<i32> {
    let mut code = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == watched => code = Some(status),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == watched => {
                code = Some(KILLED_BASE + signal as i32);
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return code,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return code,
        }
    }
}

/// The kernel's number of a started process.
pub(crate) fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

/// Attaches to an error what was attempted, in the words of a one-line message.
pub(crate) fn attempted<E: std::fmt::Display>(what: &str) -> impl FnOnce(E) -> String {
    move |error| format!("{what}: {error}")
}
