//! What every driver of machines can be asked, and what it answers.
//!
//! ```text
//!            start                 pause
//! (nothing) ──────▶ Running ◀──────────────▶ Paused
//!     ▲                │       resume          │
//!     │ remove         ▼ stop, lease over, init ended, host's OOM killer
//!     └──────────── Stopped{why} ◀─────────────┘
//! ```
//! Each arrow may be asked for again without harm. A start that fails leaves nothing: no process, no device, no mount, no cgroup,
//! no file. A machine outlives the daemon that started it and is found again by [`Driver::recover`]; it does not outlive its lease.
//!
//! The trait is for use as `Arc<dyn Driver>`, one for each [`Category`], so its futures are boxed.

use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::session::{ExecRequest, ExecSession, WinSize};
use crate::spec::{MachineId, MachineSpec, SpecError};

/// What a driver's method gives back.
pub type Task<'a, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;

/// A way to make machines.
pub trait Driver: Send + Sync + std::fmt::Debug {
    /// Which kind of machine.
    fn category(&self) -> Category;

    /// What this driver can do beyond starting and stopping.
    fn capabilities(&self) -> Capabilities;

    /// Makes the machine and returns when its init has set its addresses. Dropping the future undoes the start.
    fn start<'a>(&'a self, spec: &'a MachineSpec) -> Task<'a, Started, StartError>;

    /// Lets the machine live this much longer, from now.
    fn renew<'a>(&'a self, id: &'a MachineId, lease: Duration) -> Task<'a, (), ControlError>;

    /// Halts every process of the machine.
    fn pause<'a>(&'a self, id: &'a MachineId) -> Task<'a, PausedBy, ControlError>;

    /// Lets them run again.
    fn resume<'a>(&'a self, id: &'a MachineId) -> Task<'a, (), ControlError>;

    /// Asks init to end, and ends everything when `grace` has passed. The machine's disk and log stay until [`Driver::remove`].
    fn stop<'a>(&'a self, id: &'a MachineId, grace: Duration) -> Task<'a, (), ControlError>;

    /// Ends the machine at once if it runs, and removes all that is left of it. A machine that is not there is removed already.
    fn remove<'a>(&'a self, id: &'a MachineId) -> Task<'a, (), ControlError>;

    /// What the machine is doing.
    fn state<'a>(&'a self, id: &'a MachineId) -> Task<'a, MachineStatus, ControlError>;

    /// Starts a program in the machine; its bytes travel on the session.
    fn exec<'a>(&'a self, id: &'a MachineId, request: ExecRequest) -> Task<'a, ExecSession, ControlError>;

    /// The machine's console: its kept output first, then live both ways.
    fn console<'a>(&'a self, id: &'a MachineId, size: Option<WinSize>)
    -> Task<'a, ExecSession, ControlError>;

    /// What the console printed and is still kept, oldest first; at most `bytes_max` bytes from its end.
    fn logs<'a>(&'a self, id: &'a MachineId, bytes_max: usize) -> Task<'a, Vec<u8>, ControlError>;

    /// Finds the machines of an earlier life of the daemon and sweeps up what dead ones left.
    fn recover(&self) -> Task<'_, Vec<Recovered>, ControlError>;
}

/// The kinds of machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Category {
    /// Namespaces and cgroups on the host's kernel.
    Sandbox,
    /// A machine with its own kernel.
    Vm,
}

/// What a driver can do: a set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Capabilities(u32);

impl Capabilities {
    /// Halting and continuing.
    pub const PAUSE: Self = Self(1);
    /// Writing a running machine to files.
    pub const CHECKPOINT: Self = Self(1 << 1);
    /// Moving a running machine to another host.
    pub const MIGRATE: Self = Self(1 << 2);
    /// Adding devices to a running machine.
    pub const HOT_PLUG: Self = Self(1 << 3);
    /// Running a program in the machine.
    pub const EXEC: Self = Self(1 << 4);
    /// A console to look at and type into.
    pub const CONSOLE: Self = Self(1 << 5);
    /// A kernel of its own.
    pub const OWN_KERNEL: Self = Self(1 << 6);

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in this set.
    #[must_use]
    pub const fn contain(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The names of the bits, for people and for the API.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        [
            (Self::PAUSE, "pause"),
            (Self::CHECKPOINT, "checkpoint"),
            (Self::MIGRATE, "migrate"),
            (Self::HOT_PLUG, "hot-plug"),
            (Self::EXEC, "exec"),
            (Self::CONSOLE, "console"),
            (Self::OWN_KERNEL, "own-kernel"),
        ]
        .into_iter()
        .filter(move |(bit, _)| self.contain(*bit))
        .map(|(_, name)| name)
    }
}

/// A machine that runs and has its addresses.
#[derive(Debug)]
pub struct Started {
    /// The machine's ends of its networks, in the order of the spec.
    pub nics: Vec<NicPort>,
    /// Which limits hold.
    pub limits: LimitsReport,
}

/// A device of a machine: reading a queue gives what the machine sent, writing one gives it frames. Every frame is preceded by a
/// `virtio_net_hdr` of 10 bytes unless the reader changes that with `TUNSETVNETHDRSZ`.
///
/// The descriptors keep the machine's network namespace in being: detach and drop them when the machine stops.
#[derive(Debug)]
pub struct NicPort {
    /// The device's name in the spec.
    pub name: String,
    /// Its TAP queues, opened with `IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE`.
    pub queues: Vec<OwnedFd>,
}

/// Which of a machine's limits hold, and by what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsReport {
    /// Share of the host's CPUs.
    pub cpus: Limit,
    /// Memory.
    pub memory: Limit,
    /// Processes.
    pub pids: Limit,
    /// Bytes written to the root.
    pub disk: Limit,
    /// How the machine is halted by a pause.
    pub pause: PausedBy,
    /// How the writable root is laid over the image.
    pub root: RootLayer,
    /// Whose the machine's uid 0 is on the host.
    pub uids: Uids,
}

/// One limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// The kernel holds the machine to it.
    Enforced {
        /// By what.
        by: Mechanism,
    },
    /// The kernel holds it to something weaker.
    Partial {
        /// By what.
        by: Mechanism,
        /// What the machine could still do.
        gap: String,
    },
    /// Nothing holds the machine to it.
    NotEnforced {
        /// Why, with the remedy.
        reason: String,
    },
}

/// What enforces a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mechanism {
    /// A controller of the version 1 hierarchy.
    CgroupV1,
    /// A controller of the unified hierarchy.
    CgroupV2,
    /// A resource limit of processes.
    Rlimit,
}

/// How a machine is halted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PausedBy {
    /// The version 1 freezer.
    FreezerV1,
    /// `cgroup.freeze` of the unified hierarchy.
    FreezerV2,
    /// `SIGSTOP` to every process, which a parent inside can see.
    Signals,
}

/// How the writable root stands on the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RootLayer {
    /// overlayfs, mounted in the machine's user namespace; what is written lies in the machine's directory.
    Overlay,
    /// A copy of the image in the machine's directory.
    Copy {
        /// Why no overlay could be had.
        reason: String,
    },
}

/// The host's view of the machine's users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Uids {
    /// Uids 0 to `count - 1` inside are `first` and on outside: unprivileged, and this machine's alone.
    Range {
        /// Uid 0 inside, as the daemon's user namespace counts.
        first: u32,
        /// How many.
        count: u32,
    },
    /// Only uid 0 exists inside, and outside it is the daemon's own uid (a node without root can map no other).
    Single,
}

/// What a machine is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineStatus {
    /// Its state.
    pub state: MachineState,
    /// The tenant's command.
    pub run: RunState,
    /// Processes inside now, where the host counts them.
    pub pids: Option<u64>,
    /// Bytes of memory charged now, where the host counts them.
    pub memory_bytes: Option<u64>,
    /// Microseconds of CPU used so far, where the host counts them.
    pub cpu_micros: Option<u64>,
    /// Processes that the host killed for the memory limit.
    pub oom_kills: u64,
    /// What is left of the lease.
    pub lease_left: Duration,
    /// Which limits hold.
    pub limits: LimitsReport,
}

/// The states of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineState {
    /// Its processes run.
    Running,
    /// Its processes are halted.
    Paused(PausedBy),
    /// Its processes are gone; disk and log are kept until it is removed or its lease is over.
    Stopped(EndReason),
}

/// Why a machine ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// It was asked to, and its init ended in time.
    Stopped,
    /// It was asked to, and had to be killed when the grace was over.
    Killed,
    /// Its init ended by itself, with this code, or 128 and the signal's number.
    InitEnded(i32),
}

/// The tenant's command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// There is none.
    None,
    /// It runs.
    Running,
    /// It ended with this code, or 128 and the signal's number, and will not be or has not yet been started again.
    Ended(i32),
}

/// What [`Driver::recover`] found in the place of a machine.
#[derive(Debug)]
pub struct Recovered {
    /// The machine.
    pub id: MachineId,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a machine while the daemon was away.
#[derive(Debug)]
pub enum Fate {
    /// It is there, with all it had.
    Found {
        /// What it is doing.
        status: Box<MachineStatus>,
        /// Its networks' ends.
        nics: Vec<NicPort>,
    },
    /// It is lost to this daemon: its keeper is gone, and so is the machine, and what was left of it has been removed.
    Dead {
        /// What could not be removed, in words; empty when all is gone. A keeper that lives but cannot be spoken with (it is of another
        /// version, or stuck) is named here as well, and left to end the machine with its lease; [`Driver::remove`] ends it by force.
        left: Vec<String>,
    },
}

/// Why a machine was not started. Whatever the reason, nothing of it is left.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The description breaks a rule.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A machine of this name stands already.
    #[error("machine {0} is there already")]
    Exists(MachineId),
    /// The image is not in the store.
    #[error("image {0} is not on this host")]
    NoImage(crate::image::ImageId),
    /// The host's files or processes did not do what was asked.
    #[error("{attempt}: {source}")]
    Host {
        /// What was attempted, on what.
        attempt: String,
        /// What the system answered.
        source: std::io::Error,
    },
    /// The keeper could not set the machine up.
    #[error("{0}")]
    SetUp(String),
    /// The keeper ended without a word.
    #[error("the machine's keeper ended before the machine stood ({0})")]
    KeeperGone(String),
    /// It took longer than the spec allows.
    #[error("the machine was not up within {0:?}")]
    TooLate(Duration),
    /// Every range of user ids is taken.
    #[error("no free range of user ids: {0} machines hold one")]
    NoUids(usize),
}

/// Why a running machine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// No machine of this name is here.
    #[error("no machine {0} on this host")]
    NotFound(MachineId),
    /// It is, but its keeper does not answer.
    #[error("{attempt}: {source}")]
    Keeper {
        /// What was attempted, on what.
        attempt: String,
        /// What the system answered.
        source: std::io::Error,
    },
    /// The keeper refused, in its own words.
    #[error("{0}")]
    Refused(String),
    /// The request breaks a rule.
    #[error(transparent)]
    Request(#[from] SpecError),
    /// The keeper answered something that is not in the protocol.
    #[error("the machine's keeper answered out of turn: {0}")]
    Protocol(String),
}
