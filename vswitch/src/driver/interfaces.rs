//! The addresses of this computer, and when they change (rtnetlink(7), getifaddrs(3)).

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use super::{
    address::address,
    udp::{Socket, size},
};

/// Readable when addresses, links or routes of this network namespace change. A new address is of no use before its route is there.
#[derive(Debug)]
pub(crate) struct Changes {
    fd: OwnedFd,
}

impl Changes {
    pub(crate) fn new() -> io::Result<Self> {
        #[expect(unsafe_code, reason = "rustix binds no netlink groups")]
        // SAFETY: socket() gives a descriptor of our own or -1; bind() reads the address whose size is given.
        unsafe {
            let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
            let fd = libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            let fd = OwnedFd::from_raw_fd(fd);
            let mut name: libc::sockaddr_nl = std::mem::zeroed();
            name.nl_family = u16::try_from(libc::AF_NETLINK).expect("families are small numbers");
            let groups = libc::RTMGRP_LINK
                | libc::RTMGRP_IPV4_IFADDR
                | libc::RTMGRP_IPV6_IFADDR
                | libc::RTMGRP_IPV4_ROUTE
                | libc::RTMGRP_IPV6_ROUTE;
            name.nl_groups = u32::try_from(groups).expect("low bits");
            if libc::bind(fd.as_raw_fd(), (&raw const name).cast(), size::<libc::sockaddr_nl>()) < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self { fd })
        }
    }

    /// Takes what waits; that something came is all that counts. An overrun is news as well.
    pub(crate) fn clear(&self) {
        let mut news = [0_u8; 8192];
        while rustix::io::read(&self.fd, &mut news[..]).is_ok_and(|len| len > 0) {}
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Where a socket is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) local: SocketAddr,
    /// Bound to all addresses of IPv6, it serves IPv4 too.
    pub(crate) serves_both: bool,
}

impl Bound {
    pub(crate) fn of(socket: &Socket) -> Self {
        Self { local: socket.local_addr(), serves_both: socket.serves_both() }
    }

    fn serves(&self, ip: IpAddr) -> bool {
        let is_told = match ip {
            IpAddr::V4(ip) => !ip.is_link_local(),
            IpAddr::V6(ip) => !ip.is_unicast_link_local(),
        };
        is_told && (self.serves_both || self.local.is_ipv4() == ip.is_ipv4())
    }
}

/// Where sockets are reached: where they are bound to; and those that are bound to all addresses, at each of this computer's, with loopback only where there
/// is nothing else. Link-local addresses mean nothing without an interface and are left out.
pub(crate) fn addresses(sockets: &[Bound]) -> Vec<SocketAddr> {
    let (open, mut told): (Vec<Bound>, Vec<Bound>) =
        sockets.iter().partition(|socket| socket.local.ip().is_unspecified());
    let mut all: Vec<SocketAddr> = told.drain(..).map(|socket| socket.local).collect();
    let own = if open.is_empty() { Vec::new() } else { list().unwrap_or_default() };
    let mut found: Vec<SocketAddr> = open
        .iter()
        .flat_map(|socket| {
            own.iter().filter(|ip| socket.serves(**ip)).map(|ip| (*ip, socket.local.port()).into())
        })
        .collect();
    found.sort();
    found.dedup();
    if all.iter().chain(&found).any(|address| !address.ip().is_loopback()) {
        found.retain(|address| !address.ip().is_loopback());
    }
    all.extend(found);
    all
}

fn list() -> io::Result<Vec<IpAddr>> {
    let mut first: *mut libc::ifaddrs = std::ptr::null_mut();
    let mut found = Vec::new();
    #[expect(unsafe_code, reason = "the C list of addresses")]
    // SAFETY: getifaddrs() gives a list whose entries, and the addresses in them that are not null, are valid until freeifaddrs(); an address has the size
    // its family says, and only families whose size is known here are read, by copying that many bytes into room for the largest.
    unsafe {
        if libc::getifaddrs(&raw mut first) < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut entry = first;
        while !entry.is_null() {
            let name = (*entry).ifa_addr;
            if !name.is_null() && (*entry).ifa_flags & UP != 0 {
                let len = match libc::c_int::from((*name).sa_family) {
                    libc::AF_INET => size_of::<libc::sockaddr_in>(),
                    libc::AF_INET6 => size_of::<libc::sockaddr_in6>(),
                    _ => 0,
                };
                let mut room: libc::sockaddr_storage = std::mem::zeroed();
                std::ptr::copy_nonoverlapping(name.cast::<u8>(), (&raw mut room).cast::<u8>(), len);
                if len > 0 {
                    found.extend(address(&room).map(|address| address.ip()));
                }
            }
            entry = (*entry).ifa_next;
        }
        libc::freeifaddrs(first);
    }
    Ok(found)
}

const UP: libc::c_uint = libc::IFF_UP as libc::c_uint;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_address_is_the_only_one_and_an_unbound_socket_has_some() {
        let bound = |local: &str| Bound { local: local.parse().unwrap(), serves_both: false };
        let one = bound("192.0.2.1:7");
        assert_eq!(addresses(&[one]), [one.local]);
        let other = bound("[2001:db8::1]:9");
        assert_eq!(addresses(&[one, other]), [one.local, other.local], "one of each version");
        assert!(list().unwrap().iter().any(IpAddr::is_loopback));
        let any = addresses(&[bound("0.0.0.0:7")]);
        assert!(any.iter().all(|address| address.port() == 7 && address.is_ipv4()));
        let both = addresses(&[bound("0.0.0.0:7"), bound("[::]:9")]);
        assert!(both.iter().all(|address| address.is_ipv4() == (address.port() == 7)), "{both:?}");
        Changes::new().unwrap().clear();
    }
}
