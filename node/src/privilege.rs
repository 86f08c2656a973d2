//! Whether machines can be made on this host: tried, not guessed from versions.
//!
//! Owns: the two things a machine cannot do without (the TUN device, a user namespace) and how each is tried. A node that lacks one
//! still is a member and asks for slices; it offers no machines, and says why.

use std::process::{Command, ExitCode, Stdio};

use nix::sched::CloneFlags;

use crate::failure::Failure;

/// The first argument of the process that tries to make a user namespace.
pub const NAMESPACE_PROBE: &str = "namespace-probe";

/// The device machines' interfaces are made with.
pub const TUN_DEVICE: &str = "/dev/net/tun";

/// Tries all that machines need; each of the failures names its remedy.
///
/// # Errors
/// The first thing that is missing.
pub fn for_machines() -> Result<(), Failure> {
    tun_device()?;
    user_namespaces()
}

/// Opens the TUN device.
///
/// # Errors
/// If it cannot be opened.
pub fn tun_device() -> Result<(), Failure> {
    match std::fs::OpenOptions::new().read(true).write(true).open(TUN_DEVICE) {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::failed("privilege", format!("{TUN_DEVICE} cannot be opened: {error}"))
            .remedy(
                "load the module `tun` and let this user read and write the device (mode 0666 is usual)",
            )),
    }
}

/// Has a process of its own make a user namespace with a network namespace inside.
///
/// # Errors
/// If it cannot be made.
pub fn user_namespaces() -> Result<(), Failure> {
    let why = match Command::new("/proc/self/exe").arg(NAMESPACE_PROBE).stderr(Stdio::piped()).output() {
        Ok(probe) if probe.status.success() => return Ok(()),
        Ok(probe) => String::from_utf8_lossy(&probe.stderr).trim().to_owned(),
        Err(error) => format!("cannot be tried: {error}"),
    };
    Err(Failure::failed("privilege", format!("user namespaces {why}")).remedy(
        "allow them (sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces>0, \
         kernel.apparmor_restrict_unprivileged_userns=0), or run the node as root",
    ))
}

/// The process that tries: it is single-threaded, as the kernel demands of whoever makes a user namespace.
#[must_use]
pub fn namespace_probe() -> ExitCode {
    match nix::sched::unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot be made: {error}");
            ExitCode::FAILURE
        }
    }
}
