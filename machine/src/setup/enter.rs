//! Starting a program in a machine that runs.
//!
//! ```text
//! keeper ─ fork ─▶ first: joins all namespaces of init, then makes ─ CLONE_PARENT ─▶ second: in the machine's pid namespace,
//!    ◀── pid ───── and ends                                              the keeper's child; waits until it is in the cgroups,
//!    ──────────────────────────────────────────────────────── go ─▶      opens its terminal, drops what init dropped, and
//!    ◀─────────────────────────────────────────────────── terminal ─     becomes the guest program, which becomes the tenant's
//! ```
//! Both are closed to inspection (`PR_SET_DUMPABLE`) before they enter, so that nothing inside can look into them while they still hold
//! the keeper's memory.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use nix::sched::CloneFlags;
use nix::unistd::Pid;
use rustix::process::{DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal};

use super::bounds::Substitutes;
use super::channel::Channel;
use super::filter::Filter;
use super::inside::{execute, harden};
use super::process::{Side, place, split};
use super::{SetUpError, bounds, console, ids};
use crate::driver::Uids;
use crate::session::WinSize;
use crate::spec::MachineSpec;

/// What a program in a machine does.
#[derive(Debug)]
pub(crate) enum Errand<'a> {
    /// Becomes a program.
    Become {
        /// Directory, program and arguments.
        words: &'a [String],
        /// Variables.
        environment: &'a [(String, String)],
        /// A terminal, or the three streams as they are.
        streams: Streams,
    },
    /// Sends a signal to every process but init and itself, and ends.
    SignalAll(nix::sys::signal::Signal),
}

/// A program's streams.
#[derive(Debug)]
pub(crate) enum Streams {
    /// A terminal of the machine; its other side comes back to the keeper.
    Terminal(WinSize),
    /// The far ends of the keeper's pipes.
    Pipes([OwnedFd; 3]),
}

/// All that the entering processes need.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) init: &'a OwnedFd,
    pub(crate) uids: Uids,
    pub(crate) spec: &'a MachineSpec,
    pub(crate) filter: &'a Filter,
    pub(crate) substitutes: Substitutes,
}

impl Entry<'_> {
    /// The first process: enters and makes the second. In it, never returns.
    pub(crate) fn first(&self, errand: &Errand<'_>, keeper: &Channel) -> Result<(), SetUpError> {
        set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(SetUpError::at("close memory"))?;
        let all = CloneFlags::CLONE_NEWUSER
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWCGROUP;
        nix::sched::setns(self.init, all).map_err(SetUpError::at("enter the machine"))?;
        // The namespaces' /proc is in sight now, and its own entry is in it only after the next step: count threads before.
        match split(CloneFlags::CLONE_PARENT).map_err(SetUpError::at("make a process in the machine"))? {
            Side::Parent(pid) => {
                keeper.send(&format!("pid {pid}"), &[]).map_err(SetUpError::at("tell the keeper"))
            }
            Side::Child => {
                let Err(error) = self.second(errand, keeper);
                let _ = keeper.send(&format!("error {error}"), &[]);
                super::process::end_now(126)
            }
        }
    }

    fn second(&self, errand: &Errand<'_>, keeper: &Channel) -> Result<Infallible, SetUpError> {
        keeper.expect("go", None)?;
        ids::become_root(self.uids).map_err(SetUpError::at("become the machine's root"))?;
        set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(SetUpError::at("tie the program to the keeper"))?;
        match errand {
            Errand::SignalAll(signal) => {
                let _ = nix::sys::signal::kill(Pid::from_raw(-1), *signal);
                super::process::end_now(0)
            }
            Errand::Become { words, environment, streams } => {
                rustix::process::setsid().map_err(SetUpError::at("begin a session"))?;
                place_streams(streams, keeper)?;
                bounds::set_resource_limits(self.spec, self.substitutes)?;
                harden(self.filter)?;
                let text = |text: &str| CString::new(text).map_err(SetUpError::at("pass a word"));
                let mut call = vec![c"/consort/guest".to_owned(), c"enter".to_owned()];
                for word in *words {
                    call.push(text(word)?);
                }
                let variables = environment
                    .iter()
                    .map(|(name, value)| text(&format!("{name}={value}")))
                    .collect::<Result<Vec<_>, _>>()?;
                Err(execute(&call, &variables))
            }
        }
    }
}

fn place_streams(streams: &Streams, keeper: &Channel) -> Result<(), SetUpError> {
    let at = SetUpError::at::<std::io::Error>;
    match streams {
        Streams::Terminal(size) => {
            let (holder, terminal) = console::open(Some(*size)).map_err(at("open a terminal"))?;
            rustix::process::ioctl_tiocsctty(&terminal).map_err(SetUpError::at("take the terminal"))?;
            for number in 0..=2 {
                place(terminal.as_fd(), number).map_err(at("place the terminal"))?;
            }
            keeper.send("placed", &[holder.as_fd()]).map_err(at("hand over the terminal"))
        }
        Streams::Pipes(pipes) => {
            for (number, pipe) in (0..).zip(pipes) {
                place(pipe.as_fd(), number).map_err(at("place the streams"))?;
            }
            keeper.send("placed", &[]).map_err(at("tell the keeper"))
        }
    }
}
