//! A small netlink client: links, addresses, routes, rules and offload switches of one network namespace.
//!
//! Owns: the socket, sequence numbers, and the pairing of an acknowledgement with its request. Each operation is one request and
//! its acknowledgement; an error names what was attempted on what. Refuses to know namespaces beyond the one its socket was
//! opened in, and what the links are for. No `ip` or `ethtool` program is needed.
//! Sources: rtnetlink(7), netlink(7), `Documentation/networking/ethtool-netlink.rst`.

mod address;
mod ethtool;
mod link;
mod message;
mod rule;

pub use address::Hop;
pub use link::{LinkStatistics, Vxlan};
pub use rule::{Packets, TABLES};

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};

use crate::Netns;
use message::{FLAG_ACK, KIND_DONE, KIND_ERROR, Message, answers, number_at};

/// Room for one datagram of answers; the kernel fills at most 32 KiB at a time.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Datagrams read for one request before it is given up: acknowledgements come in the first.
const ANSWERS_MAX: usize = 64;

/// The kernel, or the way to it, refused.
#[derive(Debug, thiserror::Error)]
#[error("{attempted}: {source}")]
pub struct NetlinkError {
    attempted: String,
    source: io::Error,
}

impl NetlinkError {
    fn new(attempted: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self { attempted: attempted.into(), source: source.into() }
    }
}

/// A netlink client of one namespace.
#[derive(Debug)]
pub struct Netlink {
    route: Channel,
    generic: Channel,
    ethtool_family: Option<u16>,
}

impl Netlink {
    /// A client of the calling thread's namespace.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self {
            route: Channel::open(SockProtocol::NetlinkRoute)?,
            generic: Channel::open(SockProtocol::NetlinkGeneric)?,
            ethtool_family: None,
        })
    }

    /// A client of another namespace.
    pub fn open_in(namespace: &Netns) -> Result<Self, NetlinkError> {
        namespace
            .enter(Self::open)
            .map_err(|error| NetlinkError::new("enter the network namespace", error))?
    }
}

/// One socket with its sequence numbers.
#[derive(Debug)]
struct Channel {
    socket: OwnedFd,
    sequence: u32,
}

impl Channel {
    fn open(protocol: SockProtocol) -> Result<Self, NetlinkError> {
        let attempt = || -> nix::Result<OwnedFd> {
            let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
            bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
            Ok(socket)
        };
        let socket = attempt().map_err(|errno| NetlinkError::new("open a netlink socket", errno))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends a request and waits for its acknowledgement; returns the bodies of what came before it.
    fn request(&mut self, attempted: &str, message: Message) -> Result<Vec<Vec<u8>>, NetlinkError> {
        self.exchange(message).map_err(|error| NetlinkError::new(attempted, error))
    }

    fn exchange(&mut self, message: Message) -> io::Result<Vec<Vec<u8>>> {
        self.sequence += 1;
        let bytes = message.finish(self.sequence);
        send(self.socket.as_raw_fd(), &bytes, MsgFlags::empty())?;
        let mut buffer = vec![0; ANSWER_BYTES_MAX];
        let mut bodies = Vec::new();
        for _ in 0..ANSWERS_MAX {
            let length = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            for answer in answers(&buffer[..length]).filter(|answer| answer.sequence == self.sequence) {
                match answer.kind {
                    KIND_ERROR => return acknowledged(answer.body).map(|()| bodies),
                    KIND_DONE => return Ok(bodies),
                    _ => bodies.push(answer.body.to_vec()),
                }
            }
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel did not acknowledge"))
    }
}

fn acknowledged(body: &[u8]) -> io::Result<()> {
    let code = number_at(body, 0).map(u32::cast_signed).unwrap_or_default();
    match code {
        0 => Ok(()),
        negative => Err(Errno::from_raw(negative.wrapping_neg()).into()),
    }
}

/// A request that wants to be acknowledged.
fn acknowledged_request(kind: u16, flags: u16, header: &[u8]) -> Message {
    Message::new(kind, flags | FLAG_ACK, header)
}
