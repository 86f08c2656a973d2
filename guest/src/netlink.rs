//! Links, addresses, routes and neighbours of this network namespace, by rtnetlink (RFC 3549, `linux/rtnetlink.h`).
//!
//! | message | offset | size | field |
//! |---|---|---|---|
//! | header | 0 | 4 | length of the whole message |
//! | header | 4, 6 | 2, 2 | type, flags (1 request, 4 acknowledge, 0x300 dump) |
//! | header | 8, 12 | 4, 4 | sequence number, port (0: the kernel) |
//! | link | 16 | 16 | family, pad, type (2), index (4), flags (4), change (4) |
//! | address | 16 | 8 | family, prefix length, flags, scope, index (4) |
//! | route | 16 | 12 | family, destination and source length, tos, table, protocol, scope, type, flags (4) |
//! | neighbour | 16 | 12 | family, pad (3), index (4), state (2), flags, type |
//! | attribute | 0, 2 | 2, 2 | length with these four bytes, type; then the value, padded to 4 |
//!
//! One request is in flight at a time, and its answer is read to the end before the next; the kernel is trusted to answer. Lengths
//! in its answers are checked all the same.

use std::io;
use std::net::IpAddr;

use rustix::fd::OwnedFd;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, sendto, socket_with,
};

/// The kernel's answers come in parts of at most 32 KiB (`NLMSG_GOODSIZE` and dump buffers).
const ANSWER_BYTES: usize = 32 * 1024;

const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
const NEW_NEIGHBOUR: u16 = 28;
const GET_NEIGHBOUR: u16 = 30;
const ERROR: u16 = 2;
const DONE: u16 = 3;

const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const DUMP: u16 = 0x300;
const REPLACE: u16 = 0x100;
const CREATE_OR_REPLACE: u16 = 0x400 | REPLACE;

/// Nobody has answered yet, or nobody did (`NUD_INCOMPLETE`, `NUD_FAILED`).
const UNANSWERED: u16 = 0x01 | 0x20;
/// Known, and to be checked when it is used next (`NUD_STALE`).
const STALE: u16 = 0x04;

/// The IPv6 address is taken as unique (`IFA_F_NODAD`).
const NO_DUPLICATE_DETECTION: u8 = 2;
/// The interface is up (`IFF_UP`).
const UP: u32 = 1;

/// A socket to the kernel.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

/// A link as the kernel tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its hardware address, if it is Ethernet's length.
    pub mac: Option<[u8; 6]>,
    /// The largest payload.
    pub mtu: u32,
    /// Whether it is up.
    pub up: bool,
    /// Its addresses with prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
}

struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let mut bytes = vec![0; 16];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(REQUEST | flags).to_ne_bytes());
        bytes.extend_from_slice(body);
        Self(bytes)
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len() + 4).expect("our attributes are short");
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }
}

fn link_body(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend_from_slice(&index.to_ne_bytes());
    body.extend_from_slice(&flags.to_ne_bytes());
    body.extend_from_slice(&change.to_ne_bytes());
    body
}

fn neighbour_body(index: u32, address: IpAddr, state: u16) -> Vec<u8> {
    let mut body = vec![family(address), 0, 0, 0];
    body.extend_from_slice(&index.to_ne_bytes());
    body.extend_from_slice(&state.to_ne_bytes());
    body.extend_from_slice(&[0; 2]);
    body
}

fn read_neighbour_state(body: &[u8]) -> Option<u16> {
    Some(u16::from_ne_bytes(body.get(8..10)?.try_into().ok()?))
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { 2 } else { 10 }
}

impl Netlink {
    /// Opens a socket in this thread's network namespace.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> io::Result<Self> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// The number of a link.
    ///
    /// # Errors
    /// There is no such link.
    pub fn index(&mut self, name: &str) -> io::Result<u32> {
        let message = Message::new(GET_LINK, 0, &link_body(0, 0, 0)).attribute(3, &zero_ended(name));
        let mut index = None;
        self.ask(message, |kind, body| {
            if kind == NEW_LINK {
                index = body.get(4..8).map(|bytes| u32::from_ne_bytes(bytes.try_into().expect("four bytes")));
            }
        })?;
        index.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the kernel told no index"))
    }

    /// Sets a link's hardware address and MTU, leaving what is `None`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn configure(&mut self, index: u32, mac: Option<[u8; 6]>, mtu: Option<u32>) -> io::Result<()> {
        let mut message = Message::new(NEW_LINK, ACKNOWLEDGE, &link_body(index, 0, 0));
        if let Some(mac) = mac {
            message = message.attribute(1, &mac);
        }
        if let Some(mtu) = mtu {
            message = message.attribute(4, &mtu.to_ne_bytes());
        }
        self.ask(message, |_, _| {})
    }

    /// Brings a link up.
    ///
    /// # Errors
    /// The kernel's.
    pub fn up(&mut self, index: u32) -> io::Result<()> {
        self.ask(Message::new(NEW_LINK, ACKNOWLEDGE, &link_body(index, UP, UP)), |_, _| {})
    }

    /// Puts an address on a link; an IPv6 one is usable at once.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add_address(&mut self, index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
        let flags = if address.is_ipv6() { NO_DUPLICATE_DETECTION } else { 0 };
        let mut body = vec![family(address), prefix, flags, 0];
        body.extend_from_slice(&index.to_ne_bytes());
        let octets = octets(address);
        let message = Message::new(NEW_ADDRESS, ACKNOWLEDGE | CREATE_OR_REPLACE, &body)
            .attribute(1, &octets)
            .attribute(2, &octets);
        self.ask(message, |_, _| {})
    }

    /// Takes an address off a link.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove_address(&mut self, index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
        let mut body = vec![family(address), prefix, 0, 0];
        body.extend_from_slice(&index.to_ne_bytes());
        let octets = octets(address);
        let message =
            Message::new(DELETE_ADDRESS, ACKNOWLEDGE, &body).attribute(1, &octets).attribute(2, &octets);
        self.ask(message, |_, _| {})
    }

    /// Sets a route through a gateway on a link.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add_route(
        &mut self,
        index: u32,
        destination: IpAddr,
        prefix: u8,
        gateway: IpAddr,
    ) -> io::Result<()> {
        // Main table, protocol boot, scope universe, unicast.
        let body = [family(destination), prefix, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0];
        let mut message = Message::new(NEW_ROUTE, ACKNOWLEDGE | CREATE_OR_REPLACE, &body)
            .attribute(5, &octets(gateway))
            .attribute(4, &index.to_ne_bytes());
        if prefix > 0 {
            message = message.attribute(1, &octets(destination));
        }
        self.ask(message, |_, _| {})
    }

    /// Tells the kernel where a neighbour is, if it has asked and nobody has answered: what waits for the answer goes out at once, where the kernel itself would
    /// ask again a second later. False if it has not asked, or knows already.
    ///
    /// # Errors
    /// The kernel's.
    pub fn answer_for(&mut self, index: u32, address: IpAddr, mac: [u8; 6]) -> io::Result<bool> {
        let octets = octets(address);
        let question =
            Message::new(GET_NEIGHBOUR, 0, &neighbour_body(index, address, 0)).attribute(1, &octets);
        let mut state = 0;
        let asked = self.ask(question, |kind, body| {
            if kind == NEW_NEIGHBOUR {
                state = read_neighbour_state(body).unwrap_or(0);
            }
        });
        match asked {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            asked => asked?,
        }
        if state & UNANSWERED == 0 {
            return Ok(false);
        }
        let answer =
            Message::new(NEW_NEIGHBOUR, ACKNOWLEDGE | REPLACE, &neighbour_body(index, address, STALE))
                .attribute(1, &octets)
                .attribute(2, &mac);
        match self.ask(answer, |_, _| {}) {
            // Nobody waits for it any more.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            answered => answered.map(|()| true),
        }
    }

    /// Every link with its addresses.
    ///
    /// # Errors
    /// The kernel's.
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        let mut links = Vec::new();
        self.ask(Message::new(GET_LINK, DUMP, &link_body(0, 0, 0)), |kind, body| {
            if kind == NEW_LINK {
                links.extend(read_link(body));
            }
        })?;
        self.ask(Message::new(GET_ADDRESS, DUMP, &[0; 8]), |kind, body| {
            if kind == NEW_ADDRESS
                && let Some((index, address, prefix)) = read_address(body)
                && let Some(link) = links.iter_mut().find(|link| link.index == index)
            {
                link.addresses.push((address, prefix));
            }
        })?;
        Ok(links)
    }

    /// Sends one request and reads its answers to the end.
    fn ask(&mut self, message: Message, mut answer: impl FnMut(u16, &[u8])) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = message.0;
        let length = u32::try_from(bytes.len()).expect("our requests are short");
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.sequence.to_ne_bytes());
        let dump = u16::from_ne_bytes([bytes[6], bytes[7]]) & DUMP == DUMP;
        let acknowledged = u16::from_ne_bytes([bytes[6], bytes[7]]) & ACKNOWLEDGE != 0;
        sendto(&self.socket, &bytes, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let mut buffer = vec![0; ANSWER_BYTES];
        loop {
            let (length, _) = recv(&self.socket, &mut buffer[..], RecvFlags::empty())?;
            let mut rest = &buffer[..length.min(ANSWER_BYTES)];
            while let Some((kind, sequence, body, after)) = split_message(rest) {
                rest = after;
                if sequence != self.sequence {
                    continue;
                }
                match kind {
                    DONE => return Ok(()),
                    ERROR => {
                        let code = body
                            .get(..4)
                            .map_or(0, |b| i32::from_ne_bytes(b.try_into().expect("four bytes")));
                        return if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) };
                    }
                    _ => answer(kind, body),
                }
                if !dump && !acknowledged {
                    return Ok(());
                }
            }
        }
    }
}

fn zero_ended(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

fn split_message(bytes: &[u8]) -> Option<(u16, u32, &[u8], &[u8])> {
    let header = bytes.get(..16)?;
    let length = usize::try_from(u32::from_ne_bytes(header[..4].try_into().ok()?)).ok()?;
    let body = bytes.get(16..length)?;
    let after = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    let kind = u16::from_ne_bytes(header[4..6].try_into().ok()?);
    let sequence = u32::from_ne_bytes(header[8..12].try_into().ok()?);
    Some((kind, sequence, body, after))
}

fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

fn read_link(body: &[u8]) -> Option<Link> {
    let index = u32::from_ne_bytes(body.get(4..8)?.try_into().ok()?);
    let flags = u32::from_ne_bytes(body.get(8..12)?.try_into().ok()?);
    let mut link =
        Link { index, name: String::new(), mac: None, mtu: 0, up: flags & UP != 0, addresses: Vec::new() };
    for (kind, value) in attributes(body.get(16..)?) {
        match kind {
            1 => link.mac = value.try_into().ok(),
            3 => link.name = String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned(),
            4 => link.mtu = u32::from_ne_bytes(value.try_into().ok()?),
            _ => {}
        }
    }
    Some(link)
}

fn read_address(body: &[u8]) -> Option<(u32, IpAddr, u8)> {
    let prefix = *body.get(1)?;
    let index = u32::from_ne_bytes(body.get(4..8)?.try_into().ok()?);
    // The local address where there is one (point to point), else the address.
    let found: Vec<_> = attributes(body.get(8..)?).collect();
    let value = [2, 1]
        .iter()
        .find_map(|want| found.iter().find(|(kind, _)| kind == want).map(|(_, value)| *value))?;
    let address = match value.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(value).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(value).ok()?),
        _ => return None,
    };
    Some((index, address, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_found_with_its_number() {
        let mut netlink = Netlink::open().unwrap();
        let links = netlink.links().unwrap();
        let lo = links.iter().find(|link| link.name == "lo").unwrap();
        assert_eq!(netlink.index("lo").unwrap(), lo.index);
        assert_eq!(netlink.index("no-such-link").unwrap_err().raw_os_error(), Some(19));
    }

    #[test]
    fn a_neighbour_that_nobody_asked_for_is_not_told() {
        let mut netlink = Netlink::open().unwrap();
        let lo = netlink.index("lo").unwrap();
        for address in ["192.0.2.1", "2001:db8::1"] {
            assert!(
                !netlink.answer_for(lo, address.parse().unwrap(), [2, 0, 0, 0, 0, 1]).unwrap(),
                "{address}"
            );
        }
        let body = neighbour_body(7, IpAddr::from([192, 0, 2, 1]), UNANSWERED);
        assert_eq!((body.len(), read_neighbour_state(&body)), (12, Some(UNANSWERED)));
        assert_eq!(read_neighbour_state(&body[..9]), None);
    }

    #[test]
    fn lengths_that_lie_end_the_reading() {
        assert!(split_message(&[255; 16]).is_none());
        assert!(split_message(&[0; 16]).is_none());
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0);
        assert_eq!(attributes(&[5, 0, 1, 0, 9]).collect::<Vec<_>>(), [(1, &[9][..])]);
        assert_eq!(attributes(&[0; 8]).count(), 0);
    }
}
