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
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change,
    move_mount, open_tree, unmount,
};

use super::SetUpError;
use crate::driver::Uids;

/// Devices that programs cannot do without, and that give nothing of the host away.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
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

/// What of the host a machine is made of, by path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sources<'a> {
    /// The machine's directory.
    pub(crate) directory: &'a Path,
    /// The image's tree.
    pub(crate) image: &'a Path,
    /// The guest program's file.
    pub(crate) guest: &'a Path,
}

/// The same as detached mounts, from a privileged keeper. The child could not open the paths itself: it has lost root's right to pass
/// directories that belong to others, such as a user's home.
#[derive(Debug)]
pub(crate) struct Delivery {
    directory: OwnedFd,
    guest: OwnedFd,
    /// Read-only, and its users are the machine's; absent where a copy takes its place.
    image: Option<OwnedFd>,
}

impl Delivery {
    /// For the keeper: takes the mounts.
    pub(crate) fn take(
        sources: Sources<'_>,
        layer: Layer,
        user_namespace: &OwnedFd,
    ) -> Result<Self, SetUpError> {
        let take = |path: &Path, flags| {
            copy_of(CWD, path, flags).map_err(SetUpError::at(format!("take {}", path.display())))
        };
        let image = match layer {
            Layer::Overlay => {
                Some(shifted(sources.image, user_namespace).map_err(SetUpError::at(LAYER_FAILED))?)
            }
            Layer::Copy => None,
        };
        Ok(Self {
            directory: take(sources.directory, QUIET)?,
            guest: take(sources.guest, READ_ONLY_FILE)?,
            image,
        })
    }

    /// In the order in which [`Delivery::of`] takes them.
    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        [&self.directory, &self.guest].into_iter().chain(&self.image).map(AsFd::as_fd).collect()
    }

    /// For the child: from what came with the keeper's packet, if it delivers.
    pub(crate) fn of(descriptors: Vec<OwnedFd>) -> Option<Self> {
        let mut descriptors = descriptors.into_iter();
        Some(Self { directory: descriptors.next()?, guest: descriptors.next()?, image: descriptors.next() })
    }
}

const QUIET: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV);
const READ_ONLY_FILE: MountAttrFlags = QUIET.union(MountAttrFlags::MOUNT_ATTR_RDONLY);

fn shifted(image: &Path, user_namespace: &OwnedFd) -> io::Result<OwnedFd> {
    let mount = open_tree(CWD, image, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    let descriptor = u64::try_from(user_namespace.as_raw_fd()).expect("a descriptor is not negative");
    let set = u64::from((READ_ONLY_FILE | MountAttrFlags::MOUNT_ATTR_IDMAP).bits());
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

/// What lies over the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layer {
    /// overlayfs, with the machine's own directories above the image.
    Overlay,
    /// Nothing: the root is a copy in the machine's directory.
    Copy,
}

/// What the root is made of.
#[derive(Debug)]
enum Root {
    Overlay { lower: OwnedFd, upper: OwnedFd, work: OwnedFd },
    Copy(OwnedFd),
}

/// Everything of the host that a machine is made of, in the child's hands.
#[derive(Debug)]
pub(crate) struct Pieces {
    root: Root,
    /// Where the root is mounted before it becomes the root.
    place: OwnedFd,
    guest: OwnedFd,
    devices: Vec<(&'static str, OwnedFd)>,
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

const ONTO: MoveMountFlags =
    MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH.union(MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH);

impl Pieces {
    /// Opens everything, in the child, while it still has the daemon's uid: by path, or from what the keeper delivered.
    pub(crate) fn open(
        sources: Sources<'_>,
        layer: Layer,
        delivery: Option<Delivery>,
    ) -> Result<Self, SetUpError> {
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).map_err(SetUpError::at("make mounts private"))?;
        let devices =
            DEVICES.iter().map(|name| Ok((*name, device(name)?))).collect::<Result<_, SetUpError>>()?;
        let (directory, guest, shifted) = match delivery {
            Some(Delivery { directory, guest, image }) => {
                // Its mounts count only once they stand in this mount namespace; the host's /dev has served here.
                put(&directory, "/dev", Kind::Directory)?;
                (directory, guest, image)
            }
            None => {
                let directory = open_path(CWD, sources.directory)?;
                let guest = copy_of(CWD, sources.guest, READ_ONLY_FILE)
                    .map_err(SetUpError::at(format!("take {}", sources.guest.display())))?;
                (directory, guest, None)
            }
        };
        let part = |name: &str| open_path(&directory, Path::new(name));
        let root = match (layer, shifted) {
            (Layer::Copy, _) => {
                let copy = copy_of(&directory, Path::new(COPY), QUIET);
                Root::Copy(copy.map_err(SetUpError::at("take the copied image"))?)
            }
            (Layer::Overlay, None) => Root::Overlay {
                lower: open_path(CWD, sources.image)?,
                upper: part(UPPER)?,
                work: part(WORK)?,
            },
            (Layer::Overlay, Some(image)) => {
                move_mount(&image, c"", part(LOWER)?, c"", ONTO)
                    .map_err(SetUpError::at("put the image in place"))?;
                Root::Overlay { lower: image, upper: part(UPPER)?, work: part(WORK)? }
            }
        };
        Ok(Self { root, place: part(PLACE)?, guest, devices })
    }

    /// Makes the tree and makes it this process's root. After this nothing of the host is in sight.
    pub(crate) fn raise(self, uids: Uids, memory_bytes: u64, settings: &str) -> Result<(), SetUpError> {
        let root = match self.root {
            Root::Overlay { lower, upper, work } => overlay(&lower, &upper, &work)?,
            Root::Copy(mount) => mount,
        };
        let plain = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let proc = fresh("proc", &[], plain)?;
        pivot(&root, &self.place)?;
        drop(root);
        put(&proc, "/proc", Kind::Directory)?;
        raise_dev(&self.devices, uids, memory_bytes)?;
        cover_sys()?;
        raise_consort(&self.guest, settings)
    }
}

fn open_path(directory: impl AsFd, path: &Path) -> Result<OwnedFd, SetUpError> {
    openat(directory, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(SetUpError::at(format!("open {}", path.display())))
}

fn device(name: &str) -> Result<OwnedFd, SetUpError> {
    let path = Path::new("/dev").join(name);
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    copy_of(CWD, &path, flags).map_err(SetUpError::at(format!("take {}", path.display())))
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
    move_mount(root, c"", place, c"", ONTO).map_err(SetUpError::at("put the root in place"))?;
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

/// Covers what of `/proc` is not the machine's, and closes the kernel's settings to writing. The last step, because what was set up before
/// writes to `/proc/sys`.
pub(crate) fn mask_proc() -> Result<(), SetUpError> {
    let read_only = READ_ONLY_FILE | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let copy = |path: &str, flags| {
        copy_of(CWD, Path::new(path), flags).map_err(SetUpError::at(format!("take {path}")))
    };
    put(&copy("/proc/sys", read_only)?, "/proc/sys", Kind::Directory)?;
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
    Ok(())
}

/// Shows a terminal of the machine as its console.
pub(crate) fn show_console(terminal: &OwnedFd) -> Result<(), SetUpError> {
    let by_number = format!("/proc/self/fd/{}", terminal.as_raw_fd());
    let mount = copy_of(CWD, Path::new(&by_number), MountAttrFlags::MOUNT_ATTR_NOSUID)
        .map_err(SetUpError::at("take the console"))?;
    put(&mount, "/dev/console", Kind::File)
}
