//! Emulated hosts: each has its own network, mount, process, host-name and IPC namespaces; killing its first process kills all in it.
//!
//! Owns: the namespaces (through `init`), the commands inside (`spawn`), and the state directory that survives a host's death, as
//! a disk would. Refuses to know how the host is cabled ([`crate::wide`]) and what runs in it.

pub(crate) mod init;
pub(crate) mod spawn;

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::subcommand;
use crate::{Netns, enter, reexec, usage};

/// A host could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartHostError {
    /// This process is not inside a lab.
    #[error("not inside a lab: a host needs the namespaces of lab-enter")]
    OutsideLab,
    /// The system refused a step.
    #[error("start the emulated host {name}: {source}")]
    System {
        /// The host.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// Its first process gave up; what it said is on standard error.
    #[error("the emulated host {0} did not come up")]
    DidNotComeUp(String),
}

/// An emulated host. Dropped, it dies with all that runs in it.
#[derive(Debug)]
pub struct Host {
    name: String,
    keeper: Child,
    init: Pid,
    netns: Netns,
    state: PathBuf,
    resolver: PathBuf,
}

impl Host {
    /// Starts a host with a loopback link and an empty or, under a name used before, the former state directory.
    pub fn start(name: &str) -> Result<Self, StartHostError> {
        let state = enter::directory().ok_or(StartHostError::OutsideLab)?.join(name);
        let system = |source| StartHostError::System { name: name.to_owned(), source };
        std::fs::create_dir_all(&state).map_err(system)?;
        let resolver = state.with_extension("resolv");
        std::fs::write(&resolver, "").map_err(system)?;
        let mut keeper = subcommand(reexec::program(), reexec::HOST)
            .args(["--name", name, "--resolver"])
            .arg(&resolver)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(system)?;
        let mut lines = BufReader::new(keeper.stdout.take().expect("its output is piped")).lines();
        let mut line = || lines.next().transpose().map_err(system);
        let init = line()?.and_then(|pid| pid.parse::<u32>().ok());
        let (Some(init), Some("ready")) = (init, line()?.as_deref()) else {
            let _ = keeper.kill();
            let _ = keeper.wait();
            return Err(StartHostError::DidNotComeUp(name.to_owned()));
        };
        let netns = Netns::of_process(init).map_err(system)?;
        Ok(Self {
            name: name.to_owned(),
            keeper,
            init: Pid::from_raw(init.cast_signed()),
            netns,
            state,
            resolver,
        })
    }

    /// The host's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host's network namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The host's disk: a directory that outlives it within the lab.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Writes the host's `/etc/resolv.conf`, which is empty at first: whom it asks for names is not the computer's own business. On a computer that has no
    /// such file, hosts have none either.
    pub fn set_resolver(&self, text: &str) -> io::Result<()> {
        std::fs::write(&self.resolver, text)
    }

    /// A command inside the host, to which arguments and standard streams may be added as to any other. Killing the started child
    /// kills the command; `SIGTERM`, `SIGINT`, `SIGHUP` and `SIGUSR1` to the child are passed on; its exit code is the command's.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = subcommand(reexec::program(), reexec::SPAWN);
        command.args(["--init", &self.init.to_string(), "--"]).arg(program).stdin(Stdio::null());
        command
    }

    /// Pulls the plug: every process of the host ends now.
    pub fn kill(&mut self) -> io::Result<()> {
        match kill(self.init, Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => self.keeper.wait().map(drop),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // The keeper takes the init along, if it still lives.
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// The process number of the command that a child of [`Host::command`] runs, as this process sees it.
pub fn command_pid(child: &Child) -> io::Result<u32> {
    let inside = usage::children(child.id())?;
    inside.first().copied().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the command has ended"))
}
