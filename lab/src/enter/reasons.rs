//! Why a machine does not let us in, each with its remedy, in one line.

use std::fs::{self, OpenOptions};

use nix::errno::Errno;
use nix::unistd::geteuid;

const TUN: &str = "/dev/net/tun";

/// TAP devices are the machines' network cards; without them there is nothing to show.
pub(crate) fn check_tun() -> Result<(), String> {
    let Err(error) = OpenOptions::new().read(true).write(true).open(TUN) else { return Ok(()) };
    Err(match Errno::from_raw(error.raw_os_error().unwrap_or_default()) {
        Errno::ENOENT | Errno::ENODEV | Errno::ENXIO => {
            format!("{TUN} is not there; as root: modprobe tun (in a container: --device {TUN})")
        }
        Errno::EACCES | Errno::EPERM => {
            format!("{TUN} may not be opened by uid {}; as root: chmod 0666 {TUN}", geteuid())
        }
        errno => format!("{TUN} cannot be opened: {errno}"),
    })
}

/// Why a user namespace was refused.
pub(crate) fn no_user_namespace(errno: Errno) -> String {
    let setting =
        |name: &str| fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default().trim().to_owned();
    let remedy = if setting("kernel/unprivileged_userns_clone") == "0" {
        "as root: sysctl kernel.unprivileged_userns_clone=1"
    } else if setting("user/max_user_namespaces") == "0" {
        "as root: sysctl user.max_user_namespaces=10000"
    } else if setting("kernel/apparmor_restrict_unprivileged_userns") == "1" {
        "as root: sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    } else {
        match errno {
            Errno::ENOSPC | Errno::EUSERS => "too many namespaces, or too deep; leave some",
            Errno::EINVAL => "the kernel was built without them, or this process has threads",
            _ => "a container's seccomp profile forbids them; run with one that allows unshare and mount",
        }
    };
    format!("no user namespace to be had ({errno}); {remedy}")
}

/// Why a namespace inside the user namespace was refused.
pub(crate) fn no_other_namespace(errno: Errno) -> String {
    if fs::read_to_string("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
        .is_ok_and(|value| value.trim() == "1")
    {
        return no_user_namespace(errno);
    }
    format!(
        "no network, mount or process namespace to be had ({errno}); the kernel lacks one, or its limit in /proc/sys/user is reached"
    )
}

/// Why the lab has no `/proc` of its own.
pub(crate) fn no_proc(errno: Errno) -> String {
    format!(
        "/proc cannot be mounted in a namespace ({errno}); a container that hides parts of /proc forbids it: run with --security-opt systempaths=unconfined"
    )
}
