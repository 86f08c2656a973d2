//! The first process of a lab: mounts, the loopback link, the body, and collecting what ends.

use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::sethostname;

use super::{cgroup, directory, reasons};
use crate::process::{attempted, block, follow_across, pid_of, reap};
use crate::reexec::{Arguments, EXEC, EXIT_FAILED, EXIT_UNAVAILABLE, SELF_PROGRAM};
use crate::{Netlink, sysctl};

/// All state of all emulated hosts: node stores, images, machine layers. Sparse until written; a runaway stops here.
const STATE_OPTIONS: &str = "mode=0755,size=4g";

/// `lab-init -- BODY`.
pub(crate) fn main(arguments: &Arguments<'_>) -> i32 {
    let result = prepare()
        .map_err(|reason| (reason, EXIT_UNAVAILABLE))
        .and_then(|()| run(arguments).map_err(|reason| (reason, EXIT_FAILED)));
    result.unwrap_or_else(|(reason, code)| {
        eprintln!("consort: {reason}");
        code
    })
}

fn prepare() -> Result<(), String> {
    follow_across(Signal::SIGKILL)?;
    // The janitor puts this process where its children shall be.
    std::io::stdin().read_line(&mut String::new()).map_err(attempted("wait for the janitor"))?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(reasons::no_other_namespace)?;
    make_mounts_private().map_err(attempted("make the mounts private"))?;
    mount_proc().map_err(reasons::no_proc)?;
    let state = directory().ok_or("the janitor named no directory")?;
    mount(
        Some("consort-lab"),
        &state,
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some(STATE_OPTIONS),
    )
    .map_err(attempted("mount the lab's tmpfs"))?;
    sethostname("consort-lab").map_err(attempted("name the lab"))?;
    sysctl::set_lab_defaults().map_err(|error| error.to_string())?;
    Netlink::open().and_then(|mut netlink| netlink.set_up("lo")).map_err(|error| error.to_string())
}

fn run(arguments: &Arguments<'_>) -> Result<i32, String> {
    let signals =
        block(&[Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT]).map_err(attempted("block signals"))?;
    let body = Command::new(SELF_PROGRAM)
        .args([EXEC, "--"])
        .args(arguments.command)
        .stdin(Stdio::piped())
        .spawn()
        .map_err(attempted("start the lab's command"))?;
    let pid = pid_of(&body);
    loop {
        match signals.wait().map_err(attempted("wait for a signal"))? {
            Signal::SIGCHLD => {
                if let Some(code) = reap(pid) {
                    cgroup::thaw_own();
                    return Ok(code);
                }
            }
            signal => kill(pid, signal).map_err(attempted("pass a signal on"))?,
        }
    }
}

/// No mount made here shows elsewhere.
pub(crate) fn make_mounts_private() -> nix::Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
}

/// The processes of the own pid namespace, and no others.
pub(crate) fn mount_proc() -> nix::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>)
}
