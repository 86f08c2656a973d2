//! TAP queues: opened here, or passed in by whoever made the device in a machine's network namespace.
//!
//! # What it owns
//! The descriptor of one queue, non-blocking, and what its device was brought to: virtio headers of [`HEADER_BYTES`] in little-endian
//! order, and the offloads its kernel side may leave undone. It refuses to know what frames mean.
//!
//! # Offloads
//! `TUNSETOFFLOAD` tells the kernel what super-frames it may hand over: checksums, TCP over both IPs with and without ECN, UDP (since
//! Linux 6.2; USO4 only together with USO6). What a kernel refuses is asked for without, step by step; a kernel
//! that refuses everything hands over plain frames, which works the same, only slower.
//!
//! # Order
//! A device with several queues gives a flow to the queue on which its other direction was last written (`tun_flow_update`), and whoever reads the new
//! queue overtakes who still has frames of the old one. What is written to a *detached* queue moves nothing: each flow keeps the queue of its hash. So a
//! port with several queues has one that is only written to, by all workers.
//!
//! Sources: Linux `drivers/net/tun.c`, `include/uapi/linux/if_tun.h`; `Documentation/networking/tuntap.rst`.

use std::{
    ffi::CStr,
    io::{self, IoSlice},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use rustix::fs::{Mode, OFlags};

use crate::offload::{Capabilities, HEADER_BYTES};

const TUN_F_CSUM: libc::c_uint = 0x01;
const TUN_F_TSO4: libc::c_uint = 0x02;
const TUN_F_TSO6: libc::c_uint = 0x04;
const TUN_F_TSO_ECN: libc::c_uint = 0x08;
const TUN_F_USO4: libc::c_uint = 0x20;
const TUN_F_USO6: libc::c_uint = 0x40;

/// What is asked for, best first.
const LADDER: [(libc::c_uint, Capabilities); 4] = [
    (
        TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN | TUN_F_USO4 | TUN_F_USO6,
        Capabilities { tcp4: true, tcp6: true, udp: true },
    ),
    (
        TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN,
        Capabilities { tcp4: true, tcp6: true, udp: false },
    ),
    (TUN_F_CSUM, Capabilities::NONE),
    (0, Capabilities::NONE),
];

/// Queues of one device. The kernel's own bound is 256 (`MAX_TAP_QUEUES`); more than the workers of a large host serve nobody.
pub const QUEUES_MAX: usize = 64;

/// The longest interface name, without its end (`IFNAMSIZ` - 1).
const NAME_BYTES_MAX: usize = 15;

/// Why a TAP was not opened or taken over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TapError {
    /// The clone device.
    #[error("cannot open /dev/net/tun (is the tun module loaded, and may this user open it?): {0}")]
    Device(#[source] io::Error),
    /// The name.
    #[error("an interface name has 1 to {NAME_BYTES_MAX} bytes, none of them '/' or a space: {0:?}")]
    Name(String),
    /// The number of queues.
    #[error("a TAP has 1 to {QUEUES_MAX} queues, not {0}")]
    Queues(usize),
    /// `TUNSETIFF`.
    #[error("cannot attach to TAP {name:?} (CAP_NET_ADMIN in its network namespace is needed): {source}")]
    Attach {
        /// The device asked for.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// Another call.
    #[error("cannot {what}: {source}")]
    Setup {
        /// What was attempted.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A descriptor that is none of a TAP as it has to be.
    #[error("the descriptor passed is no TAP queue opened with IFF_TAP | IFF_NO_PI (its flags are {0:#x})")]
    NotTap(libc::c_int),
}

/// One queue of a TAP device.
#[derive(Debug)]
pub struct TapQueue {
    fd: OwnedFd,
    name: String,
    vnet_header: bool,
    takes: Capabilities,
}

impl TapQueue {
    /// Makes a TAP device in the calling thread's network namespace with so many queues to read, or attaches to one of that name; it is gone when
    /// all its queues are closed. With several there is one more, the last, which a port only writes to. An empty name lets the kernel choose
    /// (`tap0`, …).
    pub fn open(name: &str, queues: usize) -> Result<Vec<Self>, TapError> {
        if !(1..=QUEUES_MAX).contains(&queues) {
            return Err(TapError::Queues(queues));
        }
        let all = if queues == 1 { 1 } else { queues + 1 };
        let mut opened: Vec<Self> = Vec::with_capacity(all);
        for _ in 0..all {
            let name = opened.first().map_or(name, |first| &first.name);
            let queue = Self::adopt(attach(name)?)?;
            opened.push(queue);
        }
        Ok(opened)
    }

    /// Takes over a queue opened elsewhere with `IFF_TAP | IFF_NO_PI`, best with `IFF_VNET_HDR`, and brings it to what this module expects.
    pub fn adopt(fd: OwnedFd) -> Result<Self, TapError> {
        let setup = |what| move |source| TapError::Setup { what, source };
        let (name, flags) = interface(&fd).map_err(setup("ask a descriptor for its TAP device"))?;
        if flags & (libc::IFF_TAP | libc::IFF_NO_PI) != libc::IFF_TAP | libc::IFF_NO_PI {
            return Err(TapError::NotTap(flags));
        }
        let status = rustix::fs::fcntl_getfl(&fd).map_err(io::Error::from);
        status
            .and_then(|status| Ok(rustix::fs::fcntl_setfl(&fd, status | OFlags::NONBLOCK)?))
            .map_err(setup("make a TAP queue non-blocking"))?;
        let vnet_header = flags & libc::IFF_VNET_HDR != 0;
        let takes = if vnet_header {
            set_header(&fd).map_err(setup("set a TAP's virtio header"))?;
            climb(&fd).map_err(setup("set a TAP's offloads"))?
        } else {
            Capabilities::NONE
        };
        Ok(Self { fd, name, vnet_header, takes })
    }

    /// Lets the kernel hand over no more frames here; it can still be written to. Its device must have been opened with `IFF_MULTI_QUEUE`.
    pub(crate) fn detach(&self) -> Result<(), TapError> {
        let mut request =
            InterfaceRequest { name: [0; _], flags: truncated(libc::IFF_DETACH_QUEUE), rest: [0; _] };
        control(&self.fd, libc::TUNSETQUEUE, &mut request)
            .map_err(|source| TapError::Setup { what: "detach a TAP's queue to write to", source })
    }

    /// The device's name in its network namespace.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether each frame has a virtio header.
    pub fn has_vnet_header(&self) -> bool {
        self.vnet_header
    }

    /// The super-frames this queue's reader in the kernel takes and its writer may produce.
    pub fn takes(&self) -> Capabilities {
        self.takes
    }

    /// Gives up super-frames that this queue's device could hand over, as far as the kernel can without them: checksums too, if none is left.
    /// It counts for the whole device. Measurements use it to show what offloads are worth.
    pub fn restrict(&mut self, takes: Capabilities) -> io::Result<()> {
        let wanted = |rung: &(libc::c_uint, Capabilities)| {
            let (offloads, gives) = rung;
            let none = takes == Capabilities::NONE;
            gives.is_within(takes) && (!none || *offloads == 0)
        };
        let Some((offloads, gives)) = LADDER.iter().find(|rung| wanted(rung)) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if self.vnet_header {
            set_offloads(&self.fd, *offloads)?;
            self.takes = *gives;
        }
        Ok(())
    }

    /// Reads one frame with its virtio header. `WouldBlock` when there is none; a frame longer than the buffer is cut.
    #[inline]
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&self.fd, buffer)?)
    }

    /// Writes one frame, virtio header first, from several places.
    #[inline]
    pub fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(rustix::io::writev(&self.fd, slices)?)
    }
}

impl AsFd for TapQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// An `ifreq` as far as TUN's calls read and write it: name, flags, and the rest of the union.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; NAME_BYTES_MAX + 1],
    flags: libc::c_short,
    rest: [u8; 22],
}

const _: () = assert!(size_of::<InterfaceRequest>() == size_of::<libc::ifreq>());

fn attach(name: &str) -> Result<OwnedFd, TapError> {
    let bad = |byte: u8| byte == b'/' || byte == 0 || byte.is_ascii_whitespace();
    if name.len() > NAME_BYTES_MAX || name.bytes().any(bad) {
        return Err(TapError::Name(name.to_owned()));
    }
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = rustix::fs::open("/dev/net/tun", flags, Mode::empty())
        .map_err(|errno| TapError::Device(errno.into()))?;
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;
    let mut request = InterfaceRequest { name: [0; _], flags: truncated(flags), rest: [0; _] };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    control(&fd, libc::TUNSETIFF, &mut request)
        .map_err(|source| TapError::Attach { name: name.to_owned(), source })?;
    Ok(fd)
}

/// The kernel keeps a TAP's flags in 16 bits, the highest of which is a sign here.
#[expect(clippy::cast_possible_truncation, reason = "only the low 16 bits are flags")]
const fn truncated(flags: libc::c_int) -> libc::c_short {
    flags as libc::c_short
}

/// The name and flags of the device behind a descriptor.
fn interface(fd: &OwnedFd) -> io::Result<(String, libc::c_int)> {
    let mut request = InterfaceRequest { name: [0; _], flags: 0, rest: [0; _] };
    control(fd, libc::TUNGETIFF, &mut request)?;
    let name = CStr::from_bytes_until_nul(&request.name).map_or_else(|_| "".into(), CStr::to_string_lossy);
    Ok((name.into_owned(), libc::c_int::from(request.flags) & 0xffff))
}

/// Headers of [`HEADER_BYTES`], little-endian whatever the host is.
fn set_header(fd: &OwnedFd) -> io::Result<()> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "ten")]
    let mut size = HEADER_BYTES as libc::c_int;
    control(fd, libc::TUNSETVNETHDRSZ, &mut size)?;
    control(fd, libc::TUNSETVNETLE, &mut 1)
}

/// The highest rung of the ladder that this kernel takes.
fn climb(fd: &OwnedFd) -> io::Result<Capabilities> {
    let mut outcome = Err(io::ErrorKind::Unsupported.into());
    for (offloads, takes) in LADDER {
        match set_offloads(fd, offloads) {
            Ok(()) => return Ok(takes),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => outcome = Err(error),
            Err(error) => return Err(error),
        }
    }
    outcome
}

/// What the `ioctl`s below read or write through their pointer.
trait Argument {}
impl Argument for InterfaceRequest {}
impl Argument for libc::c_int {}

/// One of TUN's calls whose argument is a pointer to an `ifreq` or an `int`.
#[expect(unsafe_code, reason = "these calls have no safe wrapper")]
fn control<T: Argument>(fd: &OwnedFd, request: libc::Ioctl, argument: &mut T) -> io::Result<()> {
    // SAFETY: The descriptor is open. The requests used in this file (TUNSETIFF, TUNGETIFF, TUNSETQUEUE with an `ifreq`; TUNSETVNETHDRSZ,
    // TUNSETVNETLE with an `int`) read and write at most the object behind the pointer, which is exclusively borrowed for the
    // call, and whose every bit pattern is valid. Sent to a descriptor of another kind they fail with ENOTTY or EBADFD.
    let outcome = unsafe { libc::ioctl(fd.as_raw_fd(), request, std::ptr::from_mut(argument)) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `TUNSETOFFLOAD`, whose argument is the number itself.
#[expect(unsafe_code, reason = "this call has no safe wrapper")]
fn set_offloads(fd: &OwnedFd, offloads: libc::c_uint) -> io::Result<()> {
    // SAFETY: The descriptor is open, and the argument is passed by value: no memory is touched.
    let outcome = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(offloads)) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_tap_is_refused() {
        let file = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty()).unwrap();
        assert!(matches!(TapQueue::adopt(file), Err(TapError::Setup { .. })));
    }

    #[test]
    fn bad_names_and_numbers_are_refused_before_anything_is_opened() {
        assert!(matches!(TapQueue::open("a name with spaces", 1), Err(TapError::Name(_))));
        assert!(matches!(TapQueue::open("sixteen-bytes-xx", 1), Err(TapError::Name(_))));
        assert!(matches!(TapQueue::open("", 0), Err(TapError::Queues(0))));
        assert!(matches!(TapQueue::open("", QUEUES_MAX + 1), Err(TapError::Queues(_))));
    }
}
