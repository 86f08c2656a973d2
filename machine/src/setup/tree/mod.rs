//! The machine's tree of mounts, made with detached mounts so that no path of the host is ever resolved inside, and none of the
//! machine's outside.
//!
//! Everything that needs the host (the image, device files, the guest program, `/proc`, whose mounting the kernel allows only while
//! another whole `/proc` is in sight) is opened or made as a detached mount first; then the root is pivoted and the host's tree
//! detached; then the pieces are put in place. A hostile image that has links for `/dev` or `/proc` leads only into itself.

mod furnish;
mod mount;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{MountAttrFlags, MountPropagationFlags, UnmountFlags, mount_change, move_mount, unmount};

use super::SetUpError;
use crate::driver::Uids;
use furnish::{cover_sys, raise_consort, raise_dev};
pub(crate) use furnish::{mask_proc, show_console};
use mount::{Kind, ONTO, QUIET, READ_ONLY_FILE, copy_of, fresh, put, shifted};

/// Devices that programs cannot do without, and that give nothing of the host away.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
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
        let proc = fresh("proc", &[], plain).map_err(|error| {
            // The kernel shows nobody more of /proc than he sees already.
            SetUpError(format!(
                "{error} (the /proc of this node must be whole; containers cover parts of it)"
            ))
        })?;
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
