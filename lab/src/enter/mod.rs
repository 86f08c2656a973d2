//! The way into a lab: from an ordinary process, root or not, to a body that runs as uid 0 in namespaces of its own.
//!
//! Owns: the caller's side (this file), the janitor that makes the namespaces and cleans up (`janitor`, and `cgroup` for control
//! groups), the first process inside (`init`), and the reasons why a machine does not let us (`reasons`). Refuses to know what the body does.
//!
//! A story of the end: Ctrl-C reaches the caller, which sends the janitor `SIGTERM`; the janitor passes it to the init and that to
//! the body, which may finish in its own way; after [`GRACE_SECONDS`] the janitor kills the init, and with it the kernel kills
//! every process of the pid namespace. Killed with `-9`, the caller takes the janitor along by the death signal, to the same end;
//! a killed janitor takes the init. All state lives in a tmpfs of the lab's own mount namespace and vanishes with the last process;
//! what stands outside is one directory of symbolic links and one control group, removed by the janitor, or by the next one if ours was killed.
//!
//! Sources: user_namespaces(7), pid_namespaces(7), mount_namespaces(7), prctl(2) `PR_SET_PDEATHSIG`.

mod cgroup;
pub(crate) mod init;
pub(crate) mod janitor;
mod reasons;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};

use crate::process::{block, pid_of, reap, subcommand};
use crate::reexec;

/// How long a body may take to end in its own way after Ctrl-C. Longer keeps the terminal waiting; shorter cuts last words off.
pub const GRACE_SECONDS: u32 = 5;

/// Tells the body where the lab's state directory is; the path is the same outside, where it holds links to what was exposed.
pub(crate) const DIRECTORY_VARIABLE: &str = "CONSORT_LAB_DIR";

/// A body to run in a lab.
#[derive(Debug)]
pub struct Entry {
    /// The program that has the internal subcommands: [`reexec::program`] except for test binaries.
    pub program: PathBuf,
    /// The body: a program and its arguments.
    pub body: Vec<OsString>,
    /// Names in the state directory that shall be reachable from outside at the same path.
    pub expose: Vec<String>,
}

impl Entry {
    /// The command that runs the body in a lab, with its output streams; it has no input.
    pub fn command(&self) -> Command {
        let mut command = subcommand(&self.program, reexec::ENTER);
        for name in &self.expose {
            command.args(["--expose", name]);
        }
        command.arg("--").args(&self.body).stdin(Stdio::null());
        command
    }

    /// Runs the body with the caller's output streams and returns its exit code; Ctrl-C ends it and all that it started.
    /// To be called by a process with one thread.
    pub fn run(&self) -> io::Result<i32> {
        let ends = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];
        let signals = block(&[ends.as_slice(), &[Signal::SIGCHLD]].concat())?;
        let janitor = self.command().spawn()?;
        let pid = pid_of(&janitor);
        loop {
            match signals.wait()? {
                Signal::SIGCHLD => {
                    if let Some(code) = reap(pid) {
                        return Ok(code);
                    }
                }
                _ => kill(pid, Signal::SIGTERM)?,
            }
        }
    }
}

/// The state directory of the lab that this process runs in; `None` outside.
pub fn directory() -> Option<PathBuf> {
    std::env::var_os(DIRECTORY_VARIABLE).map(PathBuf::from)
}
