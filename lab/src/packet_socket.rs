//! Raw frames of one link: `AF_PACKET` without `unsafe`.
//!
//! The address to bind to is taken from the system's own list of links, which holds one ready made for each. Source: packet(7).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recvfrom, send, setsockopt,
    socket, sockopt,
};

/// Asked of the kernel as receive buffer; it gives what `net.core.rmem_max` allows.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;
/// `PACKET_OUTGOING` of packet(7): a frame this host sent over the link.
const OUTGOING: u8 = 4;

/// All frames that come in over one link.
#[derive(Debug)]
pub(crate) struct PacketSocket {
    socket: OwnedFd,
}

impl PacketSocket {
    /// Opens a socket on a link of the calling thread's network namespace.
    pub(crate) fn open(link: &str) -> io::Result<Self> {
        let address = link_address(link)?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
        setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER_BYTES)?;
        bind(socket.as_raw_fd(), &address)?;
        Ok(Self { socket })
    }

    /// The next frame that came in, its length; `None` when none waits. Frames this host sends over the link are passed over.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), buffer) {
                Ok((_, Some(from))) if from.pkttype() == OUTGOING => {}
                Ok((length, _)) => return Ok(Some(length)),
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Sends a frame; a full queue of the link loses it, as a cable would.
    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<()> {
        match send(self.socket.as_raw_fd(), frame, MsgFlags::empty()) {
            Ok(_) | Err(Errno::ENOBUFS | Errno::EAGAIN | Errno::EMSGSIZE) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn link_address(link: &str) -> io::Result<LinkAddr> {
    getifaddrs()?
        .filter(|interface| interface.interface_name == link)
        .find_map(|interface| interface.address?.as_link_addr().copied())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no link {link} in this namespace")))
}
