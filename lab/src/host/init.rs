//! The two processes of a host: its keeper, which makes the namespaces, and its first process, which mounts and reaps.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, sethostname};

use crate::enter::init::{make_mounts_private, mount_proc};
use crate::process::{attempted, block, follow, follow_across, pid_of, reap};
use crate::reexec::{Arguments, EXIT_FAILED, HOST_INIT, SELF_PROGRAM};
use crate::{Netlink, sysctl};

/// Whom a host asks for names (resolv.conf(5)).
const RESOLVER: &str = "/etc/resolv.conf";

/// `lab-host --name NAME --resolver FILE`: prints the process number of the host's first process, then waits for its end.
pub(crate) fn outer_main(arguments: &Arguments<'_>) -> i32 {
    report(keep(arguments))
}

fn keep(arguments: &Arguments<'_>) -> Result<i32, String> {
    follow(Signal::SIGKILL, arguments)?;
    let name = arguments.value::<String>("--name").ok_or("a host needs a name")?;
    let signals = block(&[Signal::SIGCHLD]).map_err(attempted("block signals"))?;
    unshare(
        CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC,
    )
    .map_err(attempted("make a host's namespaces"))?;
    let resolver = arguments.value::<String>("--resolver").ok_or("a host needs a resolver's file")?;
    let init = Command::new(SELF_PROGRAM)
        .args([HOST_INIT, "--name", &name, "--resolver", &resolver])
        .stdin(Stdio::piped())
        .spawn()
        .map_err(attempted("start a host's first process"))?;
    say(&init.id().to_string())?;
    init.stdin
        .as_ref()
        .map(|mut stdin| stdin.write_all(b"go\n"))
        .transpose()
        .map_err(attempted("release it"))?;
    loop {
        signals.wait().map_err(attempted("wait for a signal"))?;
        if let Some(code) = reap(pid_of(&init)) {
            return Ok(code);
        }
    }
}

/// `lab-host-init --name NAME --resolver FILE`: prints "ready", then reaps for ever.
pub(crate) fn main(arguments: &Arguments<'_>) -> i32 {
    report(start(arguments))
}

fn start(arguments: &Arguments<'_>) -> Result<i32, String> {
    follow_across(Signal::SIGKILL)?;
    let name = arguments.value::<String>("--name").ok_or("a host needs a name")?;
    let signals = block(&[Signal::SIGCHLD]).map_err(attempted("block signals"))?;
    make_mounts_private().map_err(attempted("make the mounts private"))?;
    mount_proc().map_err(attempted("mount a host's /proc"))?;
    mount_resolver(arguments)?;
    sethostname(&name).map_err(attempted("name the host"))?;
    sysctl::set_lab_defaults().map_err(|error| error.to_string())?;
    Netlink::open().and_then(|mut netlink| netlink.set_up("lo")).map_err(|error| error.to_string())?;
    // The keeper tells our number first, over the same pipe.
    std::io::stdin().read_line(&mut String::new()).map_err(attempted("wait for the keeper"))?;
    say("ready")?;
    loop {
        signals.wait().map_err(attempted("wait for a signal"))?;
        reap(Pid::this());
    }
}

/// The host's own file over the computer's, if that has one.
fn mount_resolver(arguments: &Arguments<'_>) -> Result<(), String> {
    let resolver = arguments.value::<String>("--resolver").ok_or("a host needs a resolver's file")?;
    if !Path::new(RESOLVER).exists() {
        return Ok(());
    }
    mount(Some(resolver.as_str()), RESOLVER, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(attempted("mount a host's resolv.conf"))
}

fn say(line: &str) -> Result<(), String> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(attempted("report to the lab"))
}

fn report(result: Result<i32, String>) -> i32 {
    result.unwrap_or_else(|reason| {
        eprintln!("consort: {reason}");
        EXIT_FAILED
    })
}
