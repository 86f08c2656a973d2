//! The child's side: from the daemon's uid to the machine's init.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::AsFd;
use std::path::Path;

use consort_guest::sysctl;
use nix::sched::CloneFlags;
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::system::sethostname;

use super::bounds::Substitutes;
use super::channel::Channel;
use super::filter::Filter;
use super::process::{close_from, place, reset_signals};
use super::tree::{Delivery, Layer, Pieces, Sources, mask_proc, show_console};
use super::{SetUpError, bounds, console, ids, tap};
use crate::driver::Uids;
use crate::spec::MachineSpec;

/// What the child is told; made by the keeper before it splits, so that the child has a copy.
#[derive(Debug)]
pub(crate) struct Inside<'a> {
    pub(crate) spec: &'a MachineSpec,
    pub(crate) sources: Sources<'a>,
    pub(crate) uids: Uids,
    pub(crate) layer: Layer,
    pub(crate) settings: &'a str,
    pub(crate) filter: &'a Filter,
    pub(crate) substitutes: Substitutes,
}

impl Inside<'_> {
    /// Becomes the machine's init; comes back only if a step fails.
    pub(crate) fn become_init(&self, keeper: &Channel) -> Result<Infallible, SetUpError> {
        let gone = |what: &str| SetUpError::at::<std::io::Error>(format!("tell the keeper of the {what}"));
        let queues = tap::make(&self.spec.nics)?;
        let descriptors: Vec<_> = queues.iter().map(AsFd::as_fd).collect();
        keeper.send("taps", &descriptors).map_err(gone("TAPs"))?;
        drop(queues);
        let delivery = Delivery::of(keeper.expect("go", None)?);
        let pieces = Pieces::open(self.sources, self.layer, delivery)?;

        ids::become_root(self.uids).map_err(SetUpError::at("become the machine's root"))?;
        // Changing users cleared it. Should the keeper have ended before, the next packet to it fails.
        set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(SetUpError::at("tie the machine to its keeper"))?;
        join_cgroup_namespace()?;
        sethostname(self.spec.hostname.as_bytes()).map_err(SetUpError::at("set the host name"))?;
        pieces.raise(self.uids, self.spec.memory_bytes, self.settings)?;
        let devices: Vec<&str> = self.spec.nics.iter().map(|nic| nic.name.as_str()).collect();
        sysctl::prepare_network(Path::new("/proc/sys"), &devices, ids::last_group(self.uids))
            .map_err(SetUpError::at("set up the machine's network"))?;

        let (holder, terminal) = console::open(None).map_err(SetUpError::at("open the console"))?;
        show_console(&terminal)?;
        mask_proc()?;
        keeper.send("console", &[holder.as_fd()]).map_err(gone("console"))?;
        place(keeper.as_fd(), 0)
            .and_then(|()| place(terminal.as_fd(), 1))
            .and_then(|()| place(terminal.as_fd(), 2))
            .map_err(SetUpError::at("place the streams"))?;
        drop((holder, terminal));

        bounds::set_resource_limits(self.spec, self.substitutes)?;
        harden(self.filter)?;
        let words = [c"/consort/guest".to_owned(), c"init".to_owned()];
        let environment = [c"CONSORT_KEEPER=stdin".to_owned(), c"PATH=/bin".to_owned()];
        Err(execute(&words, &environment))
    }
}

/// Shows the machine its own cgroups as the roots. A kernel without this namespace shows it their paths, which only name it.
fn join_cgroup_namespace() -> Result<(), SetUpError> {
    match nix::sched::unshare(CloneFlags::CLONE_NEWCGROUP) {
        Ok(()) | Err(nix::errno::Errno::EINVAL) => Ok(()),
        Err(error) => Err(SetUpError(format!("make a cgroup namespace: {error}"))),
    }
}

/// The last steps before a program, the same for init and for programs started later: fewer capabilities, fewer system calls.
pub(crate) fn harden(filter: &Filter) -> Result<(), SetUpError> {
    reset_signals().map_err(SetUpError::at("reset signals"))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    bounds::cut_capabilities()?;
    filter.apply()
}

/// Becomes the guest program, holding nothing but the three streams.
pub(crate) fn execute(words: &[CString], environment: &[CString]) -> SetUpError {
    if let Err(error) = close_from(3) {
        return SetUpError(format!("close descriptors: {error}"));
    }
    let Err(error) = nix::unistd::execve(&words[0], words, environment);
    SetUpError(format!("start {}: {error}", words[0].to_string_lossy()))
}
