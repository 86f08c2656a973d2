//! Datagrams that live a few hops only: they open the way out through our own NAT and do not reach another.
//!
//! The limit goes with the one datagram (`IP_TTL`, `IPV6_HOPLIMIT` as control messages, ip(7), ipv6(7)); the socket's own stays as it is.

use std::{
    io,
    mem::MaybeUninit,
    net::SocketAddr,
    os::fd::{AsFd as _, AsRawFd as _},
};

use super::{
    address::write_address,
    udp::{Socket, size},
};
use crate::link::Transmitted;

/// Room for one control message with an `int`, aligned as its header.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Sends one datagram that lives `hops` hops.
pub(super) fn send(socket: &Socket, to: SocketAddr, datagram: &[u8], hops: u8) -> Transmitted {
    match try_send(socket, to, datagram, hops) {
        Ok(()) => Transmitted::Sent,
        Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => Transmitted::TooLarge,
        Err(_) => Transmitted::Failed,
    }
}

fn try_send(socket: &Socket, to: SocketAddr, datagram: &[u8], hops: u8) -> io::Result<()> {
    let mut name = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let name_len = write_address(socket.local_addr(), to, &mut name)?;
    let mut control = Control([0; 64]);
    let mut piece = libc::iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: datagram.len() };
    // An IPv6 socket sends to IPv4 through the IPv4 code, which reads IPv4's control messages.
    let (level, kind) =
        if to.is_ipv4() { (libc::SOL_IP, libc::IP_TTL) } else { (libc::SOL_IPV6, libc::IPV6_HOPLIMIT) };
    #[expect(unsafe_code, reason = "no safe wrapper sends a hop limit with a datagram")]
    // SAFETY: msghdr is plain data for which zero means "nothing"; every pointer put into it points to memory that outlives the call and
    // has the length beside it. `control` has room for a header and an int and is aligned for it; CMSG_FIRSTHDR gives a valid header
    // inside it as the length is set, and CMSG_DATA the place behind it. The kernel only reads.
    let sent = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut piece;
        message.msg_iovlen = 1;
        message.msg_name = name.as_mut_ptr().cast();
        message.msg_namelen = name_len;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(size::<libc::c_int>()) as _;
        let place = libc::CMSG_FIRSTHDR(&raw const message);
        (*place).cmsg_level = level;
        (*place).cmsg_type = kind;
        (*place).cmsg_len = libc::CMSG_LEN(size::<libc::c_int>()) as _;
        libc::CMSG_DATA(place).cast::<libc::c_int>().write_unaligned(hops.into());
        libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const message, libc::MSG_DONTWAIT)
    };
    if sent >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn also_a_dual_stack_socket_sends_with_few_hops_to_both_families() {
        let Ok(mut sockets) = Socket::bind("[::]:0".parse().unwrap(), 1) else { return };
        let from = sockets.remove(0);
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(to) = std::net::UdpSocket::bind(local) else { continue };
            assert_eq!(send(&from, to.local_addr().unwrap(), &[7; 64], 1), Transmitted::Sent);
            assert_eq!(to.recv(&mut [0; 100]).unwrap(), 64);
        }
    }
}
