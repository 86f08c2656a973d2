//! What a machine's root is furnished with: devices, terminals, the guest program, and what may be seen of `/proc` and `/sys`.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};

use super::mount::{Kind, READ_ONLY_FILE, close, copy_of, fresh, put};
use crate::driver::Uids;
use crate::setup::SetUpError;
use crate::setup::bounds::count_kernel_objects;

/// What of `/proc`, beside the processes' own directories and links, may be seen: what tools need to say how busy the kernel is and what
/// it can do. All of it can only be read. Everything else is covered, also what a later kernel adds: on a host where the machine's root
/// is root by number, some of it would obey him (`sysrq-trigger`, `dynamic_debug`, `irq`), and the rest tells of the host.
const SHOWN: [&str; 14] = [
    "cgroups",
    "consoles",
    "cpuinfo",
    "devices",
    "diskstats",
    "filesystems",
    "loadavg",
    "meminfo",
    "partitions",
    "stat",
    "swaps",
    "uptime",
    "version",
    "vmstat",
];

pub(super) fn raise_dev(
    devices: &[(&'static str, OwnedFd)],
    uids: Uids,
    memory_bytes: u64,
) -> Result<(), SetUpError> {
    let no_programs = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    put(
        &fresh("tmpfs", &[("mode", "755"), ("size", "1m"), ("nr_inodes", "1024")], no_programs)?,
        "/dev",
        Kind::Directory,
    )?;
    for (name, mount) in devices {
        put(mount, &format!("/dev/{name}"), Kind::File)?;
    }
    let mut pts = vec![("ptmxmode", "0666"), ("mode", "0620")];
    if matches!(uids, Uids::Range { .. }) {
        // The group tty, which the kernel gives every terminal; with a single group it cannot exist.
        pts.push(("gid", "5"));
    }
    put(&fresh("devpts", &pts, no_programs)?, "/dev/pts", Kind::Directory)?;
    // Shared memory is memory: half of the machine's, as Linux itself takes half of the host's.
    let size = (memory_bytes / 2).to_string();
    let no_devices = no_programs | MountAttrFlags::MOUNT_ATTR_NODEV;
    put(&fresh("tmpfs", &[("mode", "1777"), ("size", &size)], no_devices)?, "/dev/shm", Kind::Directory)?;
    // A kernel may be built without message queues.
    if fs::read_to_string("/proc/filesystems").is_ok_and(|known| known.contains("\tmqueue\n")) {
        put(&fresh("mqueue", &[], no_devices)?, "/dev/mqueue", Kind::Directory)?;
    }
    let links = [
        ("pts/ptmx", "ptmx"),
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
    ];
    for (target, name) in links {
        symlink(target, Path::new("/dev").join(name)).map_err(SetUpError::at(format!("link /dev/{name}")))?;
    }
    Ok(())
}

/// A file system of devices would show the host's; programs find an empty one.
pub(super) fn cover_sys() -> Result<(), SetUpError> {
    let nothing = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    put(&fresh("tmpfs", &[("mode", "555"), ("size", "4k")], nothing)?, "/sys", Kind::Directory)
}

/// `/consort`: the guest program and the settings, read-only for ever, since nothing inside may remount.
pub(super) fn raise_consort(guest: &OwnedFd, settings: &str) -> Result<(), SetUpError> {
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let mount = fresh("tmpfs", &[("mode", "755"), ("size", "1m"), ("nr_inodes", "16")], flags)?;
    put(&mount, "/consort", Kind::Directory)?;
    fs::write("/consort/settings", settings).map_err(SetUpError::at("write /consort/settings"))?;
    put(guest, "/consort/guest", Kind::File)?;
    close(&mount).map_err(SetUpError::at("close /consort"))
}

/// Covers what of `/proc` is not the machine's, sets what the kernel counts, and closes the kernel's settings to writing. The last step, because what was set up before
/// writes to `/proc/sys`.
pub(crate) fn mask_proc() -> Result<(), SetUpError> {
    let read_only = READ_ONLY_FILE | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let copy = |path: &str, flags| {
        copy_of(CWD, Path::new(path), flags).map_err(SetUpError::at(format!("take {path}")))
    };
    let settings = copy("/proc/sys", read_only)?;
    let empty = fresh("tmpfs", &[("mode", "555"), ("size", "4k")], read_only)?;
    for entry in fs::read_dir("/proc").map_err(SetUpError::at("read /proc"))? {
        let entry = entry.map_err(SetUpError::at("read /proc"))?;
        let kind = entry.file_type().map_err(SetUpError::at("read /proc"))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if kind.is_symlink()
            || name == "sys"
            || SHOWN.contains(&name.as_str())
            || name.bytes().all(|b| b.is_ascii_digit())
        {
            continue;
        }
        let path = format!("/proc/{name}");
        if kind.is_dir() {
            let cover = open_tree(
                &empty,
                c"",
                OpenTreeFlags::OPEN_TREE_CLONE
                    | OpenTreeFlags::OPEN_TREE_CLOEXEC
                    | OpenTreeFlags::AT_EMPTY_PATH,
            );
            put(&cover.map_err(SetUpError::at("take an empty directory"))?, &path, Kind::Directory)?;
        } else {
            put(&copy("/dev/null", MountAttrFlags::MOUNT_ATTR_NOSUID)?, &path, Kind::File)?;
        }
    }
    // From here on not even a detached mount can be made, since it is a namespace to the kernel; the one that is left is at hand.
    count_kernel_objects()?;
    put(&settings, "/proc/sys", Kind::Directory)
}

/// Shows a terminal of the machine as its console.
pub(crate) fn show_console(terminal: &OwnedFd) -> Result<(), SetUpError> {
    let by_number = format!("/proc/self/fd/{}", terminal.as_raw_fd());
    let mount = copy_of(CWD, Path::new(&by_number), MountAttrFlags::MOUNT_ATTR_NOSUID)
        .map_err(SetUpError::at("take the console"))?;
    put(&mount, "/dev/console", Kind::File)
}
