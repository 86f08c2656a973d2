//! A command inside a host: `lab-spawn` joins the host's namespaces and stays outside as the command's stand-in; `lab-exec` is born
//! inside and becomes the command. A lab's body is begun by `lab-exec` too.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SigSet, Signal, kill};

use crate::process::{attempted, block, follow, follow_across, pid_of, reap};
use crate::reexec::{Arguments, EXEC, EXIT_FAILED, SELF_PROGRAM};

/// Joined in this order: the mounts last, because the others are found through the present `/proc`.
const NAMESPACES: [(&str, CloneFlags); 5] = [
    ("pid", CloneFlags::CLONE_NEWPID),
    ("net", CloneFlags::CLONE_NEWNET),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("mnt", CloneFlags::CLONE_NEWNS),
];

/// `lab-spawn --init PID -- COMMAND`.
pub(crate) fn main(arguments: &Arguments<'_>) -> i32 {
    stand_in(arguments).unwrap_or_else(|reason| {
        eprintln!("consort: {reason}");
        EXIT_FAILED
    })
}

fn stand_in(arguments: &Arguments<'_>) -> Result<i32, String> {
    follow(Signal::SIGKILL, arguments)?;
    let init = arguments.value::<u32>("--init").ok_or("a command needs a host")?;
    let signals = block(&[Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1])
        .map_err(attempted("block signals"))?;
    join(init).map_err(attempted("enter the emulated host"))?;
    let child = Command::new(SELF_PROGRAM)
        .args([EXEC, "--"])
        .args(arguments.command)
        .current_dir("/")
        .stdin(Stdio::piped())
        .spawn()
        .map_err(attempted("start a command in the emulated host"))?;
    let pid = pid_of(&child);
    loop {
        match signals.wait().map_err(attempted("wait for a signal"))? {
            Signal::SIGCHLD => {
                if let Some(code) = reap(pid) {
                    return Ok(code);
                }
            }
            signal => kill(pid, signal).map_err(attempted("pass a signal on"))?,
        }
    }
}

fn join(init: u32) -> std::io::Result<()> {
    let mut files = Vec::with_capacity(NAMESPACES.len());
    for (name, kind) in NAMESPACES {
        files.push((File::open(format!("/proc/{init}/ns/{name}"))?, kind));
    }
    for (file, kind) in files {
        setns(file, kind)?;
    }
    Ok(())
}

/// `lab-exec -- COMMAND`: returns only if the command could not be started.
pub(crate) fn exec_main(arguments: &Arguments<'_>) -> i32 {
    // Whoever waits for signals by `sigwait` has them blocked, and a child inherits that.
    let ready = SigSet::all()
        .thread_unblock()
        .map_err(attempted("unblock signals"))
        .and_then(|()| follow_across(Signal::SIGKILL));
    let reason = match (ready, arguments.command.split_first()) {
        (Err(reason), _) => reason,
        (Ok(()), None) => "no command was given".to_owned(),
        (Ok(()), Some((program, args))) => {
            let error = Command::new(program).args(args).stdin(Stdio::null()).exec();
            format!("start {}: {error}", program.display())
        }
    };
    eprintln!("consort: {reason}");
    EXIT_FAILED
}
