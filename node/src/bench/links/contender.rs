//! Who carries frames between the two hosts: addresses, and the processes that do it.

use std::net::Ipv4Addr;
use std::process::Child;
use std::time::{Duration, Instant};

use consort_lab::host::command_pid;
use consort_lab::usage;
use serde::Serialize;

use crate::demo::stage::lab_failure;
use crate::failure::Failure;

/// What starts is there by then, on however busy a computer.
pub(super) const START_MAX: Duration = Duration::from_secs(10);
/// How often it is looked whether it is.
pub(super) const GLANCE: Duration = Duration::from_millis(5);

/// What a contender carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Layer {
    /// Nothing: it is what the others run over.
    Underlay,
    /// Ethernet frames.
    Ethernet,
    /// IP packets only.
    Ip,
}

/// What a contender is compared as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The underlay alone.
    Bare,
    /// What the kernel does without encryption; ratios refer to it.
    Reference,
    /// What a tunnel through user space takes at the least.
    Floor,
    /// Our data planes.
    Ours,
    /// Another program.
    Peer,
}

/// A contender that is up.
#[derive(Debug)]
pub(super) struct Contender {
    pub(super) name: &'static str,
    pub(super) role: Role,
    pub(super) layer: Layer,
    /// How it seals, in its own words; `None`: it does not.
    pub(super) cipher: Option<&'static str>,
    /// The addresses of its two ends.
    pub(super) addresses: [Ipv4Addr; 2],
    pub(super) daemons: Vec<Daemon>,
}

/// What a contender's processes have used so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spent {
    /// All processes of both ends, all threads.
    pub(super) cpu: Duration,
    /// Of the process that has most.
    pub(super) resident_bytes: u64,
    /// The same, at the most.
    pub(super) resident_bytes_peak: u64,
}

impl Contender {
    /// One that needs no process.
    pub(super) fn of_the_kernel(
        name: &'static str,
        role: Role,
        layer: Layer,
        addresses: [Ipv4Addr; 2],
    ) -> Self {
        Self { name, role, layer, cipher: None, addresses, daemons: Vec::new() }
    }

    /// What its processes have used.
    pub(super) fn spent(&self) -> Result<Spent, Failure> {
        let mut spent = Spent::default();
        for daemon in &self.daemons {
            let usage = usage::of_process(daemon.pid).map_err(|error| {
                lab_failure(format!("a process of {} can not be looked at any more: {error}", self.name))
            })?;
            spent.cpu += usage.cpu;
            spent.resident_bytes = spent.resident_bytes.max(usage.resident_bytes);
            spent.resident_bytes_peak = spent.resident_bytes_peak.max(usage.resident_bytes_peak);
        }
        Ok(spent)
    }
}

/// A process of a contender; dropped, it ends.
#[derive(Debug)]
pub(super) struct Daemon {
    child: Child,
    pid: u32,
}

impl Daemon {
    /// A process started by [`consort_lab::host::Host::command`]: its stand-in's child, once it is there.
    pub(super) fn in_host(child: Child) -> std::io::Result<Self> {
        let mut daemon = Self { pid: child.id(), child };
        let began = Instant::now();
        daemon.pid = loop {
            match command_pid(&daemon.child) {
                Ok(pid) => break pid,
                Err(error) if daemon.has_ended() || began.elapsed() > START_MAX => return Err(error),
                Err(_not_yet) => std::thread::sleep(GLANCE),
            }
        };
        Ok(daemon)
    }

    /// A process started as any other.
    pub(super) fn plain(child: Child) -> Self {
        Self { pid: child.id(), child }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it has ended by itself.
    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Its host dies next, and takes along what is left.
        let _ended_already = self.child.kill();
        let _ended_already = self.child.wait();
    }
}
