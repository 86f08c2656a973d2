//! `init`: PID 1 of a machine.
//!
//! ```text
//! settings ─▶ name, links, addresses, /etc/hosts ─▶ ready ─▶ run the command ⇄ pause and restart ─▶ stop: TERM to all ─▶ end
//! ```
//! In a sandbox the driver has mounted everything, and standard input is a packet socket to the machine's keeper (the environment
//! says `CONSORT_KEEPER=stdin`); as PID 1 of a kernel of its own, init mounts `/proc`, `/sys` and `/dev` itself and takes its settings
//! from the kernel's command line: `consort.KEY=VALUE` is the line `KEY VALUE` of [`crate::settings`], commas standing for spaces.
//!
//! Packets to the keeper: `ready`, `error WORDS`, `run started`, `run ended CODE`. From it: `stop`.
//! Init reaps every orphan. With no command running, Enter on the console starts a shell if the image has one.
//! An end of the command never ends the machine; `stop`, `SIGTERM` and (from a VM's keyboard) `SIGINT` do, and the loss of the keeper.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::process::{DumpableBehavior, WaitOptions, set_dumpable_behavior, wait};
use rustix::system::{RebootCommand, reboot, sethostname};

use super::Failure;
use crate::netlink::Netlink;
use crate::settings::{Restart, SETTINGS_PATH, Settings};
use crate::sysctl;

const CONSOLE: &str = "/dev/console";
/// The first pause before the command is started again; doubled each time it fails soon.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// The longest pause; also how long a command must run for the pause to begin again at the first.
const PAUSE_LAST: Duration = Duration::from_secs(10);
/// In a VM nobody else counts the time of an orderly end.
const GRACE_ALONE: Duration = Duration::from_secs(10);

/// Runs the command; returns when the machine ends.
///
/// # Errors
/// The machine could not be set up; the keeper has been told as well.
pub fn run() -> Result<ExitCode, Failure> {
    let keeper = std::env::var_os("CONSORT_KEEPER").is_some();
    let outcome = set_up(keeper).and_then(|settings| Init::new(settings, keeper));
    match outcome {
        Ok(mut init) => {
            init.tell("ready");
            init.serve()?;
            init.end();
            if !keeper && Pid::this().as_raw() == 1 {
                reboot(RebootCommand::PowerOff).map_err(Failure::at("power off"))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => {
            if let (true, Failure::Failed(words)) = (keeper, &failure) {
                say(&format!("error {words}"));
            }
            Err(failure)
        }
    }
}

/// Tells the keeper; that it may be gone shows when its socket is read.
fn say(words: &str) {
    let _ = send(rustix::stdio::stdin(), words.as_bytes(), SendFlags::NOSIGNAL);
}

fn set_up(keeper: bool) -> Result<Settings, Failure> {
    let settings = if keeper {
        // Not even the machine's root may look into init: it could clear the death signal that ties it to its keeper.
        set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(Failure::at("close init's memory"))?;
        let text = fs::read_to_string(SETTINGS_PATH).map_err(Failure::at(format!("read {SETTINGS_PATH}")))?;
        Settings::decode(&text).map_err(Failure::at(SETTINGS_PATH))?
    } else {
        mount_kernel_trees()?;
        let line = fs::read_to_string("/proc/cmdline").map_err(Failure::at("read /proc/cmdline"))?;
        let settings = from_command_line(&line)?;
        let devices: Vec<&str> = settings.nics.iter().map(|nic| nic.name.as_str()).collect();
        sysctl::prepare_network(Path::new("/proc/sys"), &devices, 65_535)
            .map_err(Failure::at("set up the network"))?;
        settings
    };
    if !settings.hostname.is_empty() {
        if !keeper {
            sethostname(settings.hostname.as_bytes()).map_err(Failure::at("set the host name"))?;
        }
        write_names(&settings).map_err(Failure::at("write /etc/hosts and /etc/hostname"))?;
    }
    set_up_links(&settings)?;
    Ok(settings)
}

/// For a kernel of its own: what a driver does for a sandbox.
fn mount_kernel_trees() -> Result<(), Failure> {
    let plain = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    for (kind, place, flags) in [
        ("proc", "/proc", plain),
        ("sysfs", "/sys", plain),
        ("devtmpfs", "/dev", MountFlags::NOSUID),
        ("tmpfs", "/run", plain),
    ] {
        fs::create_dir_all(place).map_err(Failure::at(format!("make {place}")))?;
        match mount(kind, place, kind, flags, None::<&std::ffi::CStr>) {
            // A kernel may mount /dev itself.
            Ok(()) | Err(Errno::BUSY) => {}
            Err(error) => return Err(Failure::Failed(format!("mount {place}: {error}"))),
        }
    }
    Ok(())
}

fn from_command_line(line: &str) -> Result<Settings, Failure> {
    let text: String = line
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix("consort.")?.split_once('='))
        .map(|(key, value)| format!("{key} {}\n", value.replace(',', " ")))
        .collect();
    Settings::decode(&text).map_err(Failure::at("the kernel's command line"))
}

fn write_names(settings: &Settings) -> io::Result<()> {
    fs::create_dir_all("/etc")?;
    let mut hosts = "127.0.0.1 localhost\n::1 localhost\n".to_owned();
    let own = settings
        .nics
        .iter()
        .flat_map(|nic| &nic.addresses)
        .map(|(address, _)| (*address, &settings.hostname));
    for (address, name) in own.chain(settings.hosts.iter().map(|(address, name)| (*address, name))) {
        hosts.push_str(&format!("{address} {name}\n"));
    }
    fs::write("/etc/hosts", hosts)?;
    fs::write("/etc/hostname", format!("{}\n", settings.hostname))
}

fn set_up_links(settings: &Settings) -> Result<(), Failure> {
    let mut netlink = Netlink::open().map_err(Failure::at("open a netlink socket"))?;
    let loopback = netlink.index("lo").map_err(Failure::at("find lo"))?;
    netlink.up(loopback).map_err(Failure::at("bring lo up"))?;
    for nic in &settings.nics {
        let at = |what: &str| format!("{what} {}", nic.name);
        let index = netlink.index(&nic.name).map_err(Failure::at(at("find")))?;
        netlink
            .configure(index, Some(nic.mac), Some(nic.mtu.into()))
            .map_err(Failure::at(at("set address and MTU of")))?;
        netlink.up(index).map_err(Failure::at(at("bring up")))?;
        for (address, prefix) in &nic.addresses {
            match netlink.add_address(index, *address, *prefix) {
                Err(error)
                    if address.is_ipv6() && error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) =>
                {
                    eprintln!("init: {address} is left out: this kernel has no IPv6");
                }
                other => other.map_err(Failure::at(at(&format!("set {address}/{prefix} on"))))?,
            }
        }
        for (destination, prefix, gateway) in &nic.routes {
            let what = format!("route {destination}/{prefix} via {gateway} on");
            netlink.add_route(index, *destination, *prefix, *gateway).map_err(Failure::at(at(&what)))?;
        }
    }
    Ok(())
}

/// The tenant's command, or what became of it.
#[derive(Debug)]
enum Run {
    None,
    Running { child: Child, since: Instant },
    Pausing { until: Instant },
    Ended,
}

struct Init {
    settings: Settings,
    keeper: bool,
    signals: SignalFd,
    console: Option<File>,
    run: Run,
    pause: Duration,
    shell: Option<Child>,
    stopping: bool,
}

impl Init {
    fn new(settings: Settings, keeper: bool) -> Result<Self, Failure> {
        let mut set = SigSet::empty();
        [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGPWR]
            .into_iter()
            .for_each(|signal| set.add(signal));
        set.thread_block().map_err(Failure::at("block signals"))?;
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(Failure::at("take signals"))?;
        let console = File::options()
            .read(true)
            .write(true)
            .custom_flags(
                rustix::fs::OFlags::NOCTTY.bits().cast_signed()
                    | rustix::fs::OFlags::NONBLOCK.bits().cast_signed(),
            )
            .open(CONSOLE)
            .ok();
        let run = if settings.run.is_empty() { Run::None } else { Run::Pausing { until: Instant::now() } };
        Ok(Self { settings, keeper, signals, console, run, pause: PAUSE_FIRST, shell: None, stopping: false })
    }

    fn tell(&self, words: &str) {
        if self.keeper {
            say(words);
        } else {
            println!("init: {words}");
        }
    }

    /// Until the machine is to end.
    fn serve(&mut self) -> Result<(), Failure> {
        while !self.stopping {
            if let Run::Pausing { until } = self.run
                && until <= Instant::now()
            {
                self.start();
            }
            let [signal, keeper, console] = self.wait_for_something()?;
            if signal {
                self.take_signals()?;
            }
            if keeper {
                self.take_packet();
            }
            if console {
                self.take_console();
            }
        }
        Ok(())
    }

    fn wait_for_something(&self) -> Result<[bool; 3], Failure> {
        let timeout = match self.run {
            Run::Pausing { until } => {
                let left = until.saturating_duration_since(Instant::now());
                Some(Timespec {
                    tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                    tv_nsec: left.subsec_nanos().into(),
                })
            }
            _ => None,
        };
        let stdin = rustix::stdio::stdin();
        let idle = self.shell.is_none() && !matches!(self.run, Run::Running { .. });
        let mut watched = vec![PollFd::new(&self.signals, PollFlags::IN)];
        if self.keeper {
            watched.push(PollFd::new(&stdin, PollFlags::IN));
        }
        let console_at = watched.len();
        if let Some(console) = self.console.as_ref().filter(|_| idle) {
            watched.push(PollFd::new(console, PollFlags::IN));
        }
        match poll(&mut watched, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Failure::Failed(format!("wait: {error}"))),
        }
        let happened = |at: usize| watched.get(at).is_some_and(|fd| !fd.revents().is_empty());
        Ok([happened(0), self.keeper && happened(1), happened(console_at)])
    }

    fn take_signals(&mut self) -> Result<(), Failure> {
        while let Some(info) = self.signals.read_signal().map_err(Failure::at("read signals"))? {
            match Signal::try_from(info.ssi_signo.cast_signed()) {
                Ok(Signal::SIGCHLD) => {}
                _ => self.stopping = true,
            }
        }
        self.reap();
        Ok(())
    }

    /// Collects every child that ended; strangers among them are orphans that came to PID 1.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let code = status
                .exit_status()
                .or_else(|| status.terminating_signal().map(|signal| 128 + signal))
                .unwrap_or(-1);
            let pid = pid.as_raw_nonzero().get().unsigned_abs();
            if self.shell.as_ref().is_some_and(|shell| shell.id() == pid) {
                self.shell = None;
            }
            if let Run::Running { child, since } = &self.run
                && child.id() == pid
            {
                let lasted = since.elapsed();
                self.ended(code, lasted);
            }
        }
    }

    fn ended(&mut self, code: i32, lasted: Duration) {
        self.tell(&format!("run ended {code}"));
        let again = match self.settings.restart {
            Restart::Never => false,
            Restart::OnFailure => code != 0,
            Restart::Always => true,
        };
        if lasted >= PAUSE_LAST {
            self.pause = PAUSE_FIRST;
        }
        self.run = if again { Run::Pausing { until: Instant::now() + self.pause } } else { Run::Ended };
        self.pause = (self.pause * 2).min(PAUSE_LAST);
    }

    fn take_packet(&mut self) {
        let mut packet = [0; 256];
        match recv(rustix::stdio::stdin(), &mut packet[..], RecvFlags::DONTWAIT) {
            Ok((length, _)) if length > 0 => self.stopping |= packet[..length].starts_with(b"stop"),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // The keeper is gone, and with it everything that could ever stop this machine in an orderly way.
            Ok(_) | Err(_) => self.stopping = true,
        }
    }

    fn take_console(&mut self) {
        let mut line = [0; 256];
        match self.console.as_mut().map(|console| console.read(&mut line)) {
            Some(Ok(length)) if length > 0 => {
                if line[..length].contains(&b'\n') && Path::new("/bin/sh").exists() {
                    self.shell = self.spawn(&["/bin/sh".to_owned(), "-l".to_owned()]).ok();
                }
            }
            Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
            // The console hung up; without it there is nothing to wait for on it.
            _ => self.console = None,
        }
    }

    fn start(&mut self) {
        match self.spawn(&self.settings.run) {
            Ok(child) => {
                self.run = Run::Running { child, since: Instant::now() };
                self.tell("run started");
            }
            Err(error) => {
                eprintln!("init: start {}: {error}", self.settings.run[0]);
                self.ended(127, Duration::ZERO);
            }
        }
    }

    /// Starts a program on the console, in a session of its own.
    fn spawn(&self, words: &[String]) -> io::Result<Child> {
        Command::new("/proc/self/exe")
            .args(["session", CONSOLE])
            .args(words)
            .env_clear()
            .envs([
                ("PATH", "/bin:/usr/bin:/sbin:/usr/sbin:/usr/local/bin:/usr/local/sbin:/consort"),
                ("HOME", "/root"),
                ("TERM", "linux"),
                ("HOSTNAME", &self.settings.hostname),
            ])
            .current_dir("/")
            .stdin(Stdio::null())
            .spawn()
    }

    /// Asks every process to end and waits until none is left; a keeper ends the wait when its grace is over.
    fn end(&mut self) {
        let everyone = Pid::from_raw(-1);
        let _ = kill(everyone, Signal::SIGTERM);
        if let Some(shell) = &self.shell {
            // A shell at a terminal ignores TERM.
            let _ = kill(Pid::from_raw(shell.id().cast_signed()), Signal::SIGHUP);
        }
        let _ = kill(everyone, Signal::SIGCONT);
        let deadline = Instant::now() + GRACE_ALONE;
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some(_)) => continue,
                Err(_) => return,
                Ok(None) => {}
            }
            if !self.keeper && Instant::now() >= deadline {
                return;
            }
            // SIGCHLD is blocked and comes as a readable descriptor, so this wakes at once when a process ends.
            let timeout = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            let _ = poll(&mut [PollFd::new(&self.signals, PollFlags::IN)], Some(&timeout));
            while let Ok(Some(_)) = self.signals.read_signal() {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vms_settings_come_by_the_kernels_command_line() {
        let line = "console=ttyS0 consort.hostname=vm-1 consort.nic=eth0,02:00:00:00:00:01,1400 consort.address=eth0,10.7.0.2/24 quiet\n";
        let settings = from_command_line(line).unwrap();
        assert_eq!(settings.hostname, "vm-1");
        assert_eq!(settings.nics[0].addresses, [("10.7.0.2".parse().unwrap(), 24)]);
        assert!(from_command_line("consort.colour=red").is_err());
    }
}
