//! A machine that lives: what its keeper holds of it and can do to it.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::net::RecvFlags;
use rustix::process::pidfd_send_signal;
use rustix::time::{ClockId, clock_gettime};

use super::history::History;
use crate::cgroup::{Groups, Usage};
use crate::driver::{EndReason, LimitsReport, MachineState, MachineStatus, PausedBy, RunState};
use crate::image::remove_tree;
use crate::setup::SetUpError;
use crate::setup::bounds::Substitutes;
use crate::setup::channel::Channel;
use crate::setup::enter::{Entry, Errand};
use crate::setup::filter::Filter;
use crate::setup::process::{Side, end_now, split};
use crate::wire::message::Order;

/// How long a process may take to enter a machine; it is a handful of system calls.
const ENTER_WITHIN: Duration = Duration::from_secs(5);

/// Time since boot, counting the host's sleep: leases run on while a laptop is closed.
pub(super) fn now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Init, while it lives.
#[derive(Debug)]
pub(super) struct Init {
    pub(super) pid: Pid,
    pub(super) handle: OwnedFd,
    pub(super) channel: Channel,
}

/// A machine.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) order: Order,
    pub(super) queues: Vec<OwnedFd>,
    pub(super) console: Option<OwnedFd>,
    pub(super) init: Option<Init>,
    pub(super) limits: LimitsReport,
    pub(super) history: Option<History>,
    pub(super) lease_end: Duration,
    groups: Groups,
    filter: Filter,
    substitutes: Substitutes,
    run: RunState,
    paused: Option<PausedBy>,
    ended: Option<EndReason>,
    asked_to_end: Option<EndReason>,
    last_usage: Usage,
}

impl Machine {
    #[expect(
        clippy::too_many_arguments,
        reason = "called once, with what birth made; a structure of them would be this one"
    )]
    pub(super) fn new(
        order: Order,
        pid: Pid,
        handle: OwnedFd,
        channel: Channel,
        console: OwnedFd,
        queues: Vec<OwnedFd>,
        groups: Groups,
        limits: LimitsReport,
        filter: Filter,
        substitutes: Substitutes,
    ) -> Self {
        let history = History::begin(&order.directory)
            .inspect_err(|error| eprintln!("keeper: keep the console's output: {error}"))
            .ok();
        let run = RunState::None;
        let lease_end = now() + order.spec.lease;
        Self {
            queues,
            console: Some(console),
            init: Some(Init { pid, handle, channel }),
            limits,
            history,
            lease_end,
            groups,
            filter,
            substitutes,
            run,
            paused: None,
            ended: None,
            asked_to_end: None,
            last_usage: Usage::default(),
            order,
        }
    }

    pub(super) fn status(&self) -> MachineStatus {
        let state = match (&self.ended, self.paused) {
            (Some(reason), _) => MachineState::Stopped(reason.clone()),
            (None, Some(by)) => MachineState::Paused(by),
            (None, None) => MachineState::Running,
        };
        let usage = if self.ended.is_some() { self.last_usage } else { self.groups.usage() };
        MachineStatus {
            state,
            run: self.run,
            pids: usage.pids,
            memory_bytes: usage.memory_bytes,
            cpu_micros: usage.cpu_micros,
            oom_kills: usage.oom_kills,
            lease_left: self.lease_end.saturating_sub(now()),
            limits: self.limits.clone(),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.ended.is_some()
    }

    /// Reads what init says.
    pub(super) fn hear_init(&mut self) {
        let Some(init) = &self.init else { return };
        while let Ok((words, _)) = init.channel.take(RecvFlags::DONTWAIT) {
            match words.strip_prefix("run ") {
                Some("started") => self.run = RunState::Running,
                Some(rest) => {
                    if let Some(code) = rest.strip_prefix("ended ").and_then(|code| code.parse().ok()) {
                        self.run = RunState::Ended(code);
                    }
                }
                // An empty packet is the end of the socket; that init ended comes by its signal.
                None => return,
            }
        }
    }

    /// Adds to the console's past.
    pub(super) fn remember(&mut self, bytes: &[u8]) {
        let kept = self.history.as_mut().map_or(Ok(()), |history| history.add(bytes));
        if let Err(error) = kept {
            eprintln!("keeper: keep the console's output: {error}");
            self.history = None;
        }
    }

    pub(super) fn pause(&mut self) -> Result<PausedBy, SetUpError> {
        if self.init.is_none() {
            return Err(SetUpError("the machine is not running".to_owned()));
        }
        if let Some(by) = self.paused {
            return Ok(by);
        }
        let frozen = self.groups.freeze(true).map_err(SetUpError::at("freeze the machine"))?;
        if !frozen {
            self.signal_all(Signal::SIGSTOP)?;
            self.signal_init(rustix::process::Signal::STOP)?;
        }
        self.paused = Some(self.limits.pause);
        Ok(self.limits.pause)
    }

    pub(super) fn resume(&mut self) -> Result<(), SetUpError> {
        if self.init.is_none() {
            return Err(SetUpError("the machine is not running".to_owned()));
        }
        if self.paused.is_none() {
            return Ok(());
        }
        let thawed = self.groups.freeze(false).map_err(SetUpError::at("thaw the machine"))?;
        if !thawed {
            self.signal_init(rustix::process::Signal::CONT)?;
            self.signal_all(Signal::SIGCONT)?;
        }
        self.paused = None;
        Ok(())
    }

    fn signal_all(&self, signal: Signal) -> Result<(), SetUpError> {
        let pid = self.enter(&Errand::SignalAll(signal), &mut |_| Ok(()))?;
        waitpid(pid, None).map_err(SetUpError::at("wait for the signaller"))?;
        Ok(())
    }

    fn signal_init(&self, signal: rustix::process::Signal) -> Result<(), SetUpError> {
        let Some(init) = &self.init else { return Ok(()) };
        pidfd_send_signal(&init.handle, signal).map_err(SetUpError::at("signal init"))
    }

    /// Asks init to end everything. A paused machine is resumed for it.
    pub(super) fn ask_to_end(&mut self) -> Result<(), SetUpError> {
        self.resume()?;
        if self.asked_to_end.replace(EndReason::Stopped).is_some() {
            return Ok(());
        }
        match &self.init {
            Some(init) => init.channel.send("stop", &[]).map_err(SetUpError::at("ask init to end")),
            None => Ok(()),
        }
    }

    /// Ends every process of the machine now; that they have ended comes by a signal.
    pub(super) fn kill(&mut self) {
        self.asked_to_end = Some(EndReason::Killed);
        if let Some(init) = &self.init {
            // Init's end ends its pid namespace. A machine that is not there any more is what is wanted.
            let _ = pidfd_send_signal(&init.handle, rustix::process::Signal::KILL);
        }
        if let Err(error) = self.groups.freeze(false) {
            eprintln!("keeper: thaw the machine: {error}");
        }
    }

    /// Init was collected: lets go of all that belonged to it.
    pub(super) fn init_ended(&mut self, code: i32) {
        self.last_usage = self.groups.usage();
        self.ended = Some(self.asked_to_end.take().unwrap_or(EndReason::InitEnded(code)));
        self.paused = None;
        self.init = None;
        self.queues.clear();
        for left in self.groups.remove() {
            eprintln!("keeper: {left}");
        }
    }

    /// Starts an errand in the machine and returns its process, which is this keeper's child; `placed` hears what it says on its way.
    pub(super) fn enter(
        &self,
        errand: &Errand<'_>,
        placed: &mut dyn FnMut(&Channel) -> Result<(), SetUpError>,
    ) -> Result<Pid, SetUpError> {
        let init = self.init.as_ref().ok_or_else(|| SetUpError("the machine is not running".to_owned()))?;
        let entry = Entry {
            init: &init.handle,
            uids: self.order.uids,
            spec: &self.order.spec,
            filter: &self.filter,
            substitutes: self.substitutes,
        };
        let (ours, theirs) = Channel::pair().map_err(SetUpError::at("open a channel"))?;
        let first = match split(nix::sched::CloneFlags::empty()).map_err(SetUpError::at("make a process"))? {
            Side::Parent(pid) => pid,
            Side::Child => {
                drop(ours);
                let code = match entry.first(errand, &theirs) {
                    Ok(()) => 0,
                    Err(error) => {
                        let _ = theirs.send(&format!("error {error}"), &[]);
                        1
                    }
                };
                end_now(code)
            }
        };
        drop(theirs);
        let outcome = self.lead(&ours, placed);
        if outcome.is_err() {
            let _ = nix::sys::signal::kill(first, Signal::SIGKILL);
        }
        // It ends as soon as it has told the second's number, or failed.
        waitpid(first, None).map_err(SetUpError::at("collect a process"))?;
        outcome
    }

    fn lead(
        &self,
        channel: &Channel,
        placed: &mut dyn FnMut(&Channel) -> Result<(), SetUpError>,
    ) -> Result<Pid, SetUpError> {
        let (words, _) = channel
            .receive(Some(Instant::now() + ENTER_WITHIN))
            .map_err(SetUpError::at("wait for a process"))?;
        if let Some(error) = words.strip_prefix("error ") {
            return Err(SetUpError(error.to_owned()));
        }
        let pid = words.strip_prefix("pid ").and_then(|pid| pid.parse().ok()).map(Pid::from_raw);
        let pid = pid.ok_or_else(|| SetUpError("a process could not enter the machine".to_owned()))?;
        let joined = self.groups.add(pid).map_err(SetUpError::at("put a process into the machine's cgroups"));
        let outcome = joined
            .and_then(|()| channel.send("go", &[]).map_err(SetUpError::at("let a process go on")))
            .and_then(|()| placed(channel));
        if outcome.is_err() {
            let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, None);
        }
        outcome.map(|()| pid)
    }

    /// Ends the machine and removes everything of it, the directory included.
    pub(super) fn destroy(mut self) {
        self.kill();
        // All children, not only init: the kernel holds back the end of a pid namespace's init until every process of the namespace
        // has been collected, and programs that were started later are this process's children.
        while let Some(init) = &self.init {
            match waitpid(None::<Pid>, None) {
                Ok(status) if status.pid() == Some(init.pid) => self.init_ended(exit_code(status)),
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(_) => self.init_ended(-1),
            }
        }
        self.console = None;
        self.history = None;
        let directory = &self.order.directory;
        if let Err(error) = remove_tree(directory) {
            eprintln!("keeper: remove {}: {error}", directory.display());
        }
    }
}

/// A collected process's code: as it ended, or 128 and the signal.
pub(super) fn exit_code(status: WaitStatus) -> i32 {
    match status {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        _ => -1,
    }
}
