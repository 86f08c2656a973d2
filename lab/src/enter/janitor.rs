//! The janitor: makes the namespaces, starts the first process inside, and cleans up when it has ended.
//!
//! It stays in the caller's mount namespace (to remove what stands outside) and in a session of its own (the terminal's Ctrl-C
//! reaches the caller alone, which decides).

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::fcntl::{Flock, FlockArg};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{alarm, getegid, geteuid, mkdtemp, setsid};

use super::cgroup::{self, Groups};
use super::{DIRECTORY_VARIABLE, GRACE_SECONDS, reasons};
use crate::process::{attempted, block, follow, pid_of, reap};
use crate::reexec::{Arguments, EXIT_FAILED, EXIT_UNAVAILABLE, INIT, PROGRAM_VARIABLE, SELF_PROGRAM};

/// Short on purpose: the path of a socket has at most 107 bytes.
const DIRECTORY_PARENT: &str = "/tmp";
const DIRECTORY_PREFIX: &str = "consort-lab-";

/// `lab-enter [--expose NAME]... -- BODY`.
pub(crate) fn main(arguments: &Arguments<'_>) -> i32 {
    if let Err(reason) = reasons::check_tun() {
        return refuse(&reason, EXIT_UNAVAILABLE);
    }
    let directory = match Directory::make() {
        Ok(directory) => directory,
        Err(reason) => return refuse(&reason, EXIT_FAILED),
    };
    let groups = Groups::make(&directory.name());
    if let Err(reason) = enter_namespaces() {
        return refuse(&reason, EXIT_UNAVAILABLE);
    }
    match watch(arguments, &directory, &groups) {
        Ok(code) => code,
        Err(reason) => refuse(&reason, EXIT_FAILED),
    }
}

fn refuse(reason: &str, code: i32) -> i32 {
    eprintln!("consort: {reason}");
    code
}

fn enter_namespaces() -> Result<(), String> {
    let (uid, gid) = (geteuid(), getegid());
    // A process that leads its group already is its own session's leader or has no terminal's session to leave.
    let _ = setsid();
    let user = CloneFlags::CLONE_NEWUSER;
    let others = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    unshare(user).map_err(reasons::no_user_namespace)?;
    fs::write("/proc/self/setgroups", "deny").map_err(attempted("write /proc/self/setgroups"))?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1")).map_err(attempted("write /proc/self/uid_map"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1")).map_err(attempted("write /proc/self/gid_map"))?;
    unshare(others).map_err(reasons::no_other_namespace)
}

fn watch(arguments: &Arguments<'_>, directory: &Directory, groups: &Groups) -> Result<i32, String> {
    // After the change of credentials, which clears the death signal.
    follow(Signal::SIGTERM, arguments)?;
    let signals = block(&[Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGALRM])
        .map_err(attempted("block signals"))?;
    let program = fs::read_link(SELF_PROGRAM).map_err(attempted("find the own program"))?;
    let init = Command::new(SELF_PROGRAM)
        .arg(INIT)
        .arg("--")
        .args(arguments.command)
        .env(DIRECTORY_VARIABLE, &directory.path)
        .env(PROGRAM_VARIABLE, program)
        .stdin(Stdio::piped())
        .spawn()
        .map_err(attempted("start the first process of the lab"))?;
    let pid = pid_of(&init);
    groups.take(init.id())?;
    init.stdin
        .as_ref()
        .map(|mut stdin| stdin.write_all(b"go\n"))
        .transpose()
        .map_err(attempted("release the lab"))?;
    for name in arguments.all("--expose") {
        directory.expose(name, init.id()).map_err(attempted("make a link to a host's state"))?;
    }
    loop {
        match signals.wait().map_err(attempted("wait for a signal"))? {
            Signal::SIGCHLD => {
                if let Some(code) = reap(pid) {
                    return Ok(code);
                }
            }
            Signal::SIGALRM => {
                kill(pid, Signal::SIGKILL).map_err(attempted("kill the lab"))?;
                // Whoever is frozen cannot die, and the first process waits for all others.
                groups.thaw();
            }
            _ => {
                kill(pid, Signal::SIGTERM).map_err(attempted("end the lab"))?;
                alarm::set(GRACE_SECONDS);
            }
        }
    }
}

/// Directories that are made until one is not swept away by another lab before it is locked.
const TRIES: u32 = 16;

/// The directory outside: a mount point for the lab's tmpfs and links for those who look from outside. Locked while its janitor
/// lives; removed with it.
struct Directory {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Directory {
    fn make() -> Result<Self, String> {
        sweep();
        cgroup::sweep(DIRECTORY_PREFIX, |name| Path::new(DIRECTORY_PARENT).join(name).exists());
        let template = Path::new(DIRECTORY_PARENT).join(format!("{DIRECTORY_PREFIX}XXXXXX"));
        let mut tries = 0;
        loop {
            let path = mkdtemp(&template).map_err(attempted("make a directory in /tmp"))?;
            tries += 1;
            // Another lab that begins just now may take it for one whose janitor was killed.
            match lock(&path) {
                Ok(lock) if path.exists() => return Ok(Self { path, _lock: lock }),
                Err(error) if tries == TRIES => {
                    return Err(attempted("lock the lab's directory")(error));
                }
                _ => remove(&path),
            }
        }
    }

    /// The lab's name, wherever it needs one.
    fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Inside, the path is in the tmpfs; outside, a link leads through the first process to it.
    fn expose(&self, name: &str, init: u32) -> io::Result<()> {
        let outside = self.path.join(name);
        let inside = Path::new("/proc").join(init.to_string()).join("root");
        symlink(inside.join(outside.strip_prefix("/").unwrap_or(&outside)), &outside)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn lock(path: &Path) -> io::Result<Flock<File>> {
    Flock::lock(File::open(path)?, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno.into())
}

/// Removes directories whose janitor was killed: their lock is free.
fn sweep() {
    let Ok(entries) = fs::read_dir(DIRECTORY_PARENT) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(DIRECTORY_PREFIX) && lock(&entry.path()).is_ok() {
            remove(&entry.path());
        }
    }
}

/// Removes a directory that holds nothing but links; anything else is not ours and stays.
fn remove(path: &Path) {
    if let Ok(entries) = fs::read_dir(path) {
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
    let _ = fs::remove_dir(path);
}
