//! `consort doctor`: what this host needs to run a node, and what of it is missing.
//!
//! Each check is made the way the node would do it, not by looking at a version: a device is opened, a namespace is made (in a process of
//! its own), a port is bound. A warning is something the node can live without, and says what is lost. Of a node that runs, `running` asks the daemon.

mod running;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::output::{Output, table};
use crate::config::args::{DoctorArgs, NodeArgs};
use crate::config::{paths, resolved};
use crate::failure::{Exit, Failure};
use crate::privilege;

/// 2026-01-01: no computer whose clock is right shows an earlier time to this program.
const CLOCK_EARLIEST_S: u64 = 1_767_225_600;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    Warning,
    Missing,
}

#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, found: found.into(), remedy: None }
    }

    fn not(name: &'static str, verdict: Verdict, found: impl Into<String>, remedy: &str) -> Self {
        Self { name, verdict, found: found.into(), remedy: Some(remedy.to_owned()) }
    }
}

#[derive(Debug, Serialize)]
struct Report {
    healthy: bool,
    checks: Vec<Check>,
}

/// Makes every check and prints them.
///
/// # Errors
/// If the configuration file is wrong, or standard output cannot be written.
pub fn run(args: &DoctorArgs, socket: Option<&Path>, output: Output) -> Result<Exit, Failure> {
    let node_args =
        NodeArgs { state_dir: args.state_dir.clone(), config: args.config.clone(), ..NodeArgs::default() };
    let config = resolved::load(&node_args)?;
    let socket = socket.map_or_else(|| paths::socket_in(&config.state_dir), Path::to_owned);
    let running = std::os::unix::net::UnixStream::connect(&socket).is_ok();
    let mut checks = vec![
        tried(privilege::TUN_DEVICE, "can be opened", privilege::tun_device()),
        tried(
            "user namespaces",
            "can be made, with a network namespace inside",
            privilege::user_namespaces(),
        ),
        cgroups(),
        clock(),
        state_dir(&config.state_dir),
    ];
    if running {
        checks.push(Check::ok("daemon", format!("answers on {}", socket.display())));
        checks.extend(running::checks(&socket));
    } else {
        let found = format!("none answers on {}", socket.display());
        checks.push(Check::not("daemon", Verdict::Warning, found, "start one with `consort node`"));
        checks.extend(config.control.iter().map(|address| control_port(*address)));
        checks.push(data_port(config.data));
        checks.extend(config.data_second.map(data_port));
    }
    let report = Report { healthy: checks.iter().all(|check| check.verdict != Verdict::Missing), checks };
    output.document(&report, human)?;
    Ok(if report.healthy { Exit::Done } else { Exit::Failed })
}

fn human(report: &Report) -> String {
    let rows: Vec<[String; 3]> = report
        .checks
        .iter()
        .map(|check| {
            let verdict = match check.verdict {
                Verdict::Ok => "ok",
                Verdict::Warning => "warning",
                Verdict::Missing => "MISSING",
            };
            let found = match &check.remedy {
                Some(remedy) => format!("{}; {remedy}", check.found),
                None => check.found.clone(),
            };
            [check.name.to_owned(), verdict.to_owned(), found]
        })
        .collect();
    table(["CHECK", "RESULT", "FOUND"], &rows)
}

fn tried(name: &'static str, found: &str, result: Result<(), Failure>) -> Check {
    match result {
        Ok(()) => Check::ok(name, found),
        Err(failure) => {
            Check { name, verdict: Verdict::Missing, found: failure.message, remedy: failure.remedy }
        }
    }
}

fn cgroups() -> Check {
    const NAME: &str = "cgroups";
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let directories: Vec<PathBuf> = own.lines().filter_map(cgroup_directory).collect();
    let writable = |dir: &PathBuf| rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).is_ok();
    match directories.iter().find(|dir| writable(dir)) {
        Some(dir) => Check::ok(NAME, format!("{} can be written", dir.display())),
        None => Check::not(
            NAME,
            Verdict::Warning,
            "none can be written: limits of memory, CPU and processes would not be enforced",
            "run the node as root, or under systemd with Delegate=yes",
        ),
    }
}

/// Where a line of `/proc/self/cgroup` is mounted: `0::/path` under version 2, `n:memory:/path` under version 1 (cgroups(7)).
fn cgroup_directory(line: &str) -> Option<PathBuf> {
    let mut parts = line.splitn(3, ':');
    let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let root = Path::new("/sys/fs/cgroup");
    let root = match controllers {
        "" if root.join("unified").is_dir() => root.join("unified"),
        "" => root.to_owned(),
        controllers if controllers.split(',').any(|name| name == "memory") => root.join("memory"),
        _ => return None,
    };
    Some(root.join(path.trim_start_matches('/')))
}

fn clock() -> Check {
    const NAME: &str = "clock";
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if now_s >= CLOCK_EARLIEST_S {
        Check::ok(NAME, "is plausible")
    } else {
        Check::not(
            NAME,
            Verdict::Missing,
            "shows a time before this program was made: tickets and records would look expired or from the future",
            "set the clock, for example with an NTP client",
        )
    }
}

fn state_dir(path: &Path) -> Check {
    const NAME: &str = "state directory";
    let existing = path.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    match rustix::fs::access(existing, rustix::fs::Access::WRITE_OK) {
        Ok(()) => Check::ok(NAME, format!("{} can be written", path.display())),
        Err(error) => Check::not(
            NAME,
            Verdict::Missing,
            format!("{} cannot be written: {error}", path.display()),
            "give a directory of this user with --state-dir",
        ),
    }
}

fn control_port(address: SocketAddr) -> Check {
    const NAME: &str = "control port";
    let bound = TcpListener::bind(address).map(drop).and_then(|()| UdpSocket::bind(address).map(drop));
    port(NAME, address, bound)
}

fn data_port(address: SocketAddr) -> Check {
    const NAME: &str = "data port";
    port(NAME, address, UdpSocket::bind(address).map(drop))
}

fn port(name: &'static str, address: SocketAddr, bound: std::io::Result<()>) -> Check {
    match bound {
        Ok(()) => Check::ok(name, format!("{address} is free")),
        Err(error) => Check::not(
            name,
            Verdict::Missing,
            format!("{address} cannot be used: {error}"),
            "stop what uses it, or give another address with --listen",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_either_cgroup_version_names_its_directory() {
        assert_eq!(
            cgroup_directory("4:cpu,cpuacct,memory:/user/1"),
            Some(PathBuf::from("/sys/fs/cgroup/memory/user/1"))
        );
        assert_eq!(cgroup_directory("1:name=systemd:/x"), None);
        assert!(cgroup_directory("0::/init.scope").unwrap().ends_with("init.scope"));
    }

    #[test]
    fn a_port_in_use_is_missing_and_named() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let check = data_port(taken.local_addr().unwrap());
        assert_eq!(check.verdict, Verdict::Missing);
        assert!(check.found.contains(&taken.local_addr().unwrap().to_string()), "{}", check.found);
    }
}
