//! Detached mounts: copies of the host's, fresh ones, and putting them in place.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use nix::libc;
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::setup::SetUpError;

pub(super) const QUIET: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV);
pub(super) const READ_ONLY_FILE: MountAttrFlags = QUIET.union(MountAttrFlags::MOUNT_ATTR_RDONLY);

pub(super) const ONTO: MoveMountFlags =
    MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH.union(MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH);

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
pub(super) fn copy_of(directory: impl AsFd, path: &Path, flags: MountAttrFlags) -> io::Result<OwnedFd> {
    let mount =
        open_tree(directory, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    restrict(&mount, flags)?;
    Ok(mount)
}

pub(super) fn shifted(image: &Path, user_namespace: &OwnedFd) -> io::Result<OwnedFd> {
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
pub(super) fn fresh(
    kind: &str,
    options: &[(&str, &str)],
    flags: MountAttrFlags,
) -> Result<OwnedFd, SetUpError> {
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

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
}

/// Puts a detached mount at a path of the machine, making the path if needed.
pub(super) fn put(mount: &OwnedFd, path: &str, kind: Kind) -> Result<(), SetUpError> {
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

/// Makes a mount read-only, for good where nobody may remount.
pub(super) fn close(mount: &OwnedFd) -> io::Result<()> {
    restrict(mount, MountAttrFlags::MOUNT_ATTR_RDONLY)
}
