//! A machine's Ethernet devices: TAPs made in its own network namespace, whose other end the switch holds.
//!
//! `/dev/net/tun` belongs to the network namespace in which it was opened, so the child opens it: there it may (the namespace's user
//! namespace is its own), and the device appears there and nowhere else.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use consort_guest::netlink::Netlink;
use nix::libc;

use super::SetUpError;
use crate::spec::Nic;

const DEVICE: &str = "/dev/net/tun";

/// Makes every device with its queues, in the order of the spec, and sets address and MTU.
pub(crate) fn make(nics: &[Nic]) -> Result<Vec<OwnedFd>, SetUpError> {
    let mut queues = Vec::new();
    for nic in nics {
        for _ in 0..nic.queues {
            queues.push(open_queue(&nic.name)?);
        }
    }
    if !nics.is_empty() {
        let mut netlink = Netlink::open().map_err(SetUpError::at("open a netlink socket"))?;
        for nic in nics {
            let at = format!("set address and MTU of {}", nic.name);
            let index = netlink.index(&nic.name).map_err(SetUpError::at(&at))?;
            netlink.configure(index, Some(nic.mac), Some(nic.mtu.into())).map_err(SetUpError::at(&at))?;
        }
    }
    Ok(queues)
}

fn open_queue(name: &str) -> Result<OwnedFd, SetUpError> {
    let file = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(DEVICE)
        .map_err(|error| SetUpError(format!("open {DEVICE}: {error}{}", remedy(&error))))?;
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;
    set_interface(&file, name, flags).map_err(SetUpError::at(format!("make the TAP {name}")))?;
    Ok(file.into())
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => " (load the module tun: modprobe tun)",
        io::ErrorKind::PermissionDenied => {
            " (let this user open it: chmod 0666 /dev/net/tun, as most distributions have it)"
        }
        _ => "",
    }
}

#[expect(unsafe_code, reason = "TUNSETIFF has no safe wrapper")]
fn set_interface(file: &File, name: &str, flags: i32) -> io::Result<()> {
    assert!(name.len() < libc::IFNAMSIZ, "the spec bounds a device's name");
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_flags: i16::try_from(flags).expect("the flags used are below 2^15"),
        },
    };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::try_from(from).expect("a device's name is of a-z and 0-9");
    }
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which lives on this stack for the call; the descriptor is open.
    let outcome = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
