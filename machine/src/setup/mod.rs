//! Making the inside of a sandbox: what happens between the keeper's `clone` and the machine's init.
//!
//! ```text
//! keeper                                       child: PID 1 of new namespaces, still with the daemon's kernel uid
//!   clone(USER|NS|PID|NET|UTS|IPC) ──────────▶ opens its TAPs (the uid may open /dev/net/tun; the namespaces are its own)
//!                                  ◀─ taps ───
//!   writes uid and gid maps, joins the cgroups;
//!   if privileged, takes the image's mount with
//!   shifted ids, and the machine's directory ─ go ─▶ opens by path what was not delivered; becomes uid 0 of the machine: no
//!                                              capability on the host from here on; mounts the root, pivots, detaches the host's tree; /proc, /dev, masks
//!                                  ◀ console ─ opens its console on its own devpts
//!                                              drops capabilities, filters system calls, becomes the guest program
//!                                  ◀─ ready ── init has set names and addresses
//! ```
//! Owns the namespaces, mounts, devices, capabilities and the system call filter. Refuses to know the daemon, requests, and time. Every
//! step that fails is reported with what was attempted; the child then ends, and with it every namespace and mount.
//!
//! This is the only room with `unsafe`, in [`process`], [`tap`] and [`tree`]: `clone`, `close_range`, `mount_setattr` and the
//! `TUNSETIFF` control have no safe wrapper in rustix or nix. Forking is sound here because a keeper has one thread.
//!
//! Sources: user_namespaces(7), pid_namespaces(7), mount_setattr(2), the kernel's `Documentation/networking/tuntap.rst` and
//! `Documentation/filesystems/{overlayfs,idmappings}.rst`.

pub(crate) mod bounds;
pub(crate) mod channel;
pub(crate) mod console;
pub(crate) mod enter;
pub(crate) mod filter;
pub(crate) mod ids;
pub(crate) mod inside;
pub(crate) mod process;
pub(crate) mod tap;
pub(crate) mod tree;

use std::fmt::Display;

/// A step that failed, as words: what was attempted and what the system answered. It crosses from the child to the keeper and from
/// there to whoever asked, so it is text from the start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct SetUpError(pub(crate) String);

impl SetUpError {
    /// For `map_err`.
    pub(crate) fn at<E: Display>(attempt: impl Display) -> impl FnOnce(E) -> Self {
        move |error| Self(format!("{attempt}: {error}"))
    }
}
