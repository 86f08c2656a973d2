//! The machine's tree of mounts, made with detached mounts so that no path of the host is ever resolved inside, and none of the
//! machine's outside.
//!
//! Everything that needs the host (the image, device files, the guest program, `/proc`, whose mounting the kernel allows only while
//! another whole `/proc` is in sight) is opened or made as a detached mount first; then the root is pivoted and the host's tree
//! detached; then the pieces are put in place. A hostile image that has links for `/dev` or `/proc` leads only into itself.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::Path;

use nix::libc;
use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change,
    move_mount, open_tree, unmount,
};

use super::SetUpError;
use crate::driver::Uids;

/// Devices that programs cannot do without, and that give nothing of the host away.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Files of `/proc` that tell of the host or of its kernel; covered by `/dev/null`.
const MASKED_FILES: [&str; 10] = [
    "kcore",
    "keys",
    "key-users",
    "kmsg",
    "latency_stats",
    "sched_debug",
    "timer_list",
    "kallsyms",
    "interrupts",
    "vmallocinfo",
];
/// Directories of `/proc` that do; covered by an empty one.
const MASKED_DIRECTORIES: [&str; 4] = ["acpi", "asound", "scsi", "driver"];
/// Parts of `/proc` that may be read and not written: a machine whose root is the host's root by number could otherwise set the
/// host's kernel's parameters.
const READ_ONLY: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

#[expect(unsafe_code, reason = "mount_setattr has no safe wrapper")]
fn set_attributes(mount: BorrowedFd<'_>, attributes: &MountAttributes) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: The path is an empty C string and the structure is of the size given; the kernel reads both during the call and keeps
    // nothing of them.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<MountAttributes>(),
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn restrict(mount: &OwnedFd, flags: MountAttrFlags) -> io::Result<()> {
    set_attributes(
        mount.as_fd(),
        &MountAttributes { set: flags.bits().into(), clear: 0, propagation: 0, user_namespace: 0 },
    )
}

/// A detached copy of a host's mount, restricted.
fn copy_of(directory: impl AsFd, path: &Path, flags: MountAttrFlags) -> io::Result<OwnedFd> {
    let mount =
        open_tree(directory, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    restrict(&mount, flags)?;
    Ok(mount)
}

/// For the keeper: a detached, read-only copy of the image's mount on which the machine's users are the image's.
pub(crate) fn shifted_image(image: &Path, user_namespace: &OwnedFd) -> io::Result<OwnedFd> {
    let mount = open_tree(CWD, image, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    let flags = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    let descriptor = u64::try_from(user_namespace.as_raw_fd()).expect("a descriptor is not negative");
    let set = u64::from((flags | MountAttrFlags::MOUNT_ATTR_IDMAP).bits());
    set_attributes(
        mount.as_fd(),
        &MountAttributes { set, clear: 0, propagation: 0, user_namespace: descriptor },
    )?;
    Ok(mount)
}

/// A new file system of a kind, detached.
fn fresh(kind: &str, options: &[(&str, &str)], flags: MountAttrFlags) -> Result<OwnedFd, SetUpError> {
    let make = || {
        let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (key, value) in options {
            if value.is_empty() {
                fsconfig_set_flag(&context, *key)?;
            } else {
                fsconfig_set_string(&context, *key, *value)?;
            }
        }
        fsconfig_create(&context)?;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)
    };
    make().map_err(SetUpError::at(format!("make a {kind} file system")))
}

/// What the root is made of; opened before the child becomes the machine's root, which may not walk the daemon's directories.
#[derive(Debug)]
pub(crate) enum Layers {
    /// overlayfs over the image, with the machine's own directories above it.
    Overlay {
        /// The image, if its mount needs no shift; else the place for the mount that comes from the keeper.
        lower: OwnedFd,
        upper: OwnedFd,
        work: OwnedFd,
    },
    /// A copy in the machine's directory, as a detached mount.
    Copy(OwnedFd),
}

/// What of the host a machine is made of.
#[derive(Debug)]
pub(crate) struct Pieces {
    layers: Layers,
    /// Where the root is mounted before it becomes the root.
    place: OwnedFd,
    guest: OwnedFd,
    devices: Vec<(&'static str, OwnedFd)>,
}

/// Which layers to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Overlay; the image's mount as it is.
    Plain,
    /// Overlay; the image's mount shifted by the keeper.
    Shifted,
    /// The copy in the machine's directory.
    Copy,
}

/// Begins the words of a failure for which a copy of the image is the remedy: this kernel, or the file system of the machine's directory,
/// has no overlay, or no mounts with shifted users.
pub(crate) const LAYER_FAILED: &str = "lay a writable layer over the image";

/// Names in a machine's directory.
pub(crate) const UPPER: &str = "upper";
pub(crate) const WORK: &str = "work";
pub(crate) const COPY: &str = "copy";
pub(crate) const PLACE: &str = "root";
pub(crate) const LOWER: &str = "lower";

impl Pieces {
    /// Opens everything, in the child, while it still has the daemon's uid.
    pub(crate) fn open(plan: Plan, directory: &Path, image: &Path, guest: &Path) -> Result<Self, SetUpError> {
        let path = |path: &Path| {
            open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
                .map_err(SetUpError::at(format!("open {}", path.display())))
        };
        let quiet = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        let layers = match plan {
            Plan::Plain | Plan::Shifted => Layers::Overlay {
                lower: if plan == Plan::Plain { path(image)? } else { path(&directory.join(LOWER))? },
                upper: path(&directory.join(UPPER))?,
                work: path(&directory.join(WORK))?,
            },
            Plan::Copy => {
                let copy = directory.join(COPY);
                Layers::Copy(
                    copy_of(CWD, &copy, quiet).map_err(SetUpError::at(format!("take {}", copy.display())))?,
                )
            }
        };
        let read_only = quiet | MountAttrFlags::MOUNT_ATTR_RDONLY;
        let guest =
            copy_of(CWD, guest, read_only).map_err(SetUpError::at(format!("take {}", guest.display())))?;
        let devices = DEVICES
            .iter()
            .map(|name| {
                let device = Path::new("/dev").join(name);
                let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
                let mount = copy_of(CWD, &device, flags)
                    .map_err(SetUpError::at(format!("take {}", device.display())))?;
                Ok((*name, mount))
            })
            .collect::<Result<_, SetUpError>>()?;
        Ok(Self { layers, place: path(&directory.join(PLACE))?, guest, devices })
    }

    /// Makes the tree and makes it this process's root. After this nothing of the host is in sight.
    pub(crate) fn raise(
        self,
        shifted: Option<OwnedFd>,
        uids: Uids,
        memory_bytes: u64,
        settings: &str,
    ) -> Result<(), SetUpError> {
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).map_err(SetUpError::at("make mounts private"))?;
        let root = match &self.layers {
            Layers::Overlay { lower, upper, work } => {
                if let Some(image) = &shifted {
                    // overlayfs takes a lower tree only from a mount namespace that is the mounter's own.
                    let whole =
                        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
                    move_mount(image, c"", lower, c"", whole)
                        .map_err(SetUpError::at("put the image in place"))?;
                }
                overlay(shifted.as_ref().unwrap_or(lower), upper, work)?
            }
            Layers::Copy(mount) => mount.try_clone().map_err(SetUpError::at("take the copied image"))?,
        };
        let plain = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let proc = fresh("proc", &[], plain)?;
        pivot(&root, &self.place)?;
        drop((root, shifted));
        put(&proc, "/proc", Kind::Directory)?;
        raise_dev(&self.devices, uids, memory_bytes)?;
        cover_sys()?;
        raise_consort(&self.guest, settings)
    }
}

fn overlay(lower: &OwnedFd, upper: &OwnedFd, work: &OwnedFd) -> Result<OwnedFd, SetUpError> {
    // Through these links overlayfs sees the very directories that were opened, and /proc/mounts inside shows no path of the host.
    let by_number = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    fresh(
        "overlay",
        &[
            ("lowerdir", &by_number(lower)),
            ("upperdir", &by_number(upper)),
            ("workdir", &by_number(work)),
            ("userxattr", ""),
        ],
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV,
    )
    .map_err(SetUpError::at(LAYER_FAILED))
}

fn pivot(root: &OwnedFd, place: &OwnedFd) -> Result<(), SetUpError> {
    let whole = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(root, c"", place, c"", whole).map_err(SetUpError::at("put the root in place"))?;
    rustix::process::fchdir(root).map_err(SetUpError::at("enter the root"))?;
    // Both names are the new root: the old one is stacked upon it and then taken away (pivot_root(2), NOTES).
    rustix::process::pivot_root(c".", c".").map_err(SetUpError::at("pivot the root"))?;
    unmount(c".", UnmountFlags::DETACH).map_err(SetUpError::at("detach the host's tree"))?;
    rustix::process::chdir(c"/").map_err(SetUpError::at("enter the root"))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Directory,
}

/// Puts a detached mount at a path of the machine, making the path if needed.
fn put(mount: &OwnedFd, path: &str, kind: Kind) -> Result<(), SetUpError> {
    let made = match kind {
        Kind::Directory => fs::DirBuilder::new().recursive(true).mode(0o755).create(path),
        Kind::File if Path::new(path).exists() => Ok(()),
        Kind::File => fs::File::options().write(true).create_new(true).open(path).map(drop),
    };
    made.map_err(SetUpError::at(format!("make {path} in the machine")))?;
    let target = CString::new(path).expect("paths of the machine are fixed");
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    move_mount(mount, c"", CWD, &*target, flags)
        .map_err(SetUpError::at(format!("mount {path} in the machine")))
}

fn raise_dev(devices: &[(&'static str, OwnedFd)], uids: Uids, memory_bytes: u64) -> Result<(), SetUpError> {
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
fn cover_sys() -> Result<(), SetUpError> {
    let nothing = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    put(&fresh("tmpfs", &[("mode", "555"), ("size", "4k")], nothing)?, "/sys", Kind::Directory)
}

/// `/consort`: the guest program and the settings, read-only for ever, since nothing inside may remount.
fn raise_consort(guest: &OwnedFd, settings: &str) -> Result<(), SetUpError> {
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let mount = fresh("tmpfs", &[("mode", "755"), ("size", "1m"), ("nr_inodes", "16")], flags)?;
    put(&mount, "/consort", Kind::Directory)?;
    fs::write("/consort/settings", settings).map_err(SetUpError::at("write /consort/settings"))?;
    put(guest, "/consort/guest", Kind::File)?;
    let read_only = MountAttributes {
        set: MountAttrFlags::MOUNT_ATTR_RDONLY.bits().into(),
        clear: 0,
        propagation: 0,
        user_namespace: 0,
    };
    set_attributes(mount.as_fd(), &read_only).map_err(SetUpError::at("close /consort"))
}

/// Covers what of `/proc` is not the machine's. The last step, because what was set up before writes to `/proc/sys`.
pub(crate) fn mask_proc() -> Result<(), SetUpError> {
    let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    for name in READ_ONLY {
        let path = format!("/proc/{name}");
        if Path::new(&path).exists() {
            let mount =
                copy_of(CWD, Path::new(&path), read_only).map_err(SetUpError::at(format!("close {path}")))?;
            put(&mount, &path, if Path::new(&path).is_dir() { Kind::Directory } else { Kind::File })?;
        }
    }
    for name in MASKED_FILES {
        let path = format!("/proc/{name}");
        if Path::new(&path).exists() {
            let null = copy_of(CWD, Path::new("/dev/null"), MountAttrFlags::MOUNT_ATTR_NOSUID)
                .map_err(SetUpError::at("take /dev/null"))?;
            put(&null, &path, Kind::File)?;
        }
    }
    for name in MASKED_DIRECTORIES {
        let path = format!("/proc/{name}");
        if Path::new(&path).is_dir() {
            put(&fresh("tmpfs", &[("mode", "555"), ("size", "4k")], read_only)?, &path, Kind::Directory)?;
        }
    }
    Ok(())
}

/// Shows a terminal of the machine as its console.
pub(crate) fn show_console(terminal: &OwnedFd) -> Result<(), SetUpError> {
    let by_number = format!("/proc/self/fd/{}", terminal.as_raw_fd());
    let mount = copy_of(CWD, Path::new(&by_number), MountAttrFlags::MOUNT_ATTR_NOSUID)
        .map_err(SetUpError::at("take the console"))?;
    put(&mount, "/dev/console", Kind::File)
}
