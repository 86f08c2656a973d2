//! Socket addresses as the kernel takes and gives them.

use std::{
    io,
    mem::MaybeUninit,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
};

use super::udp::size;

#[expect(clippy::cast_possible_truncation, reason = "families are small numbers")]
const INET: libc::sa_family_t = libc::AF_INET as libc::sa_family_t;
#[expect(clippy::cast_possible_truncation, reason = "families are small numbers")]
const INET6: libc::sa_family_t = libc::AF_INET6 as libc::sa_family_t;

/// Writes an address for a socket that is bound to `local` and returns its length. An IPv6 socket reaches IPv4 by
/// mapped addresses; an IPv4 socket reaches no IPv6.
pub(super) fn write_address(
    local: SocketAddr,
    to: SocketAddr,
    place: &mut MaybeUninit<libc::sockaddr_storage>,
) -> io::Result<libc::socklen_t> {
    let to = match (to, local) {
        (SocketAddr::V4(to), SocketAddr::V6(_)) => {
            SocketAddr::V6(SocketAddrV6::new(to.ip().to_ipv6_mapped(), to.port(), 0, 0))
        }
        (SocketAddr::V6(_), SocketAddr::V4(_)) => return Err(io::ErrorKind::AddrNotAvailable.into()),
        (to, _) => to,
    };
    match to {
        SocketAddr::V4(to) => {
            let value = libc::sockaddr_in {
                sin_family: INET,
                sin_port: to.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(to.ip().octets()) },
                sin_zero: [0; 8],
            };
            #[expect(unsafe_code, reason = "writes one address type into the room for all")]
            // SAFETY: sockaddr_storage is larger than every address type and as aligned.
            unsafe {
                place.as_mut_ptr().cast::<libc::sockaddr_in>().write(value);
            }
            Ok(size::<libc::sockaddr_in>())
        }
        SocketAddr::V6(to) => {
            let value = libc::sockaddr_in6 {
                sin6_family: INET6,
                sin6_port: to.port().to_be(),
                sin6_flowinfo: to.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: to.ip().octets() },
                sin6_scope_id: to.scope_id(),
            };
            #[expect(unsafe_code, reason = "writes one address type into the room for all")]
            // SAFETY: sockaddr_storage is larger than every address type and as aligned.
            unsafe {
                place.as_mut_ptr().cast::<libc::sockaddr_in6>().write(value);
            }
            Ok(size::<libc::sockaddr_in6>())
        }
    }
}

/// The address the kernel wrote; mapped ones in their own family.
pub(super) fn address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            #[expect(unsafe_code, reason = "reads the address type that the family names")]
            // SAFETY: the family says that the kernel wrote a sockaddr_in; the storage is larger and as aligned.
            let value = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(value.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, u16::from_be(value.sin_port)).into())
        }
        libc::AF_INET6 => {
            #[expect(unsafe_code, reason = "reads the address type that the family names")]
            // SAFETY: as above, for sockaddr_in6.
            let value = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(value.sin6_addr.s6_addr);
            let port = u16::from_be(value.sin6_port);
            Some(match IpAddr::V6(ip).to_canonical() {
                IpAddr::V4(ip) => SocketAddrV4::new(ip, port).into(),
                IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, value.sin6_scope_id).into(),
            })
        }
        _ => None,
    }
}
