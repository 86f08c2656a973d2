//! UDP sockets: segmentation on send (`UDP_SEGMENT`), joined receive (`UDP_GRO`), "don't fragment" always.
//!
//! - `IP_PMTUDISC_PROBE`: datagrams carry DF, and the kernel's own idea of the path, which forged ICMP can lower, is not asked; what
//!   the path takes is found by [`crate::link`]'s probes. Only the local interface still refuses (EMSGSIZE).
//! - A kernel or interface that cannot segment refuses the first such call (EIO, EINVAL for want of checksum offload); from then on
//!   datagrams are sent one by one.
//! - Several sockets share the port, one for each worker. Which one a datagram goes to is said by its fifth byte, the lowest of the
//!   receiver index, which this host chose itself: all of one session comes to one worker in order, whatever its address, and
//!   another peer's to another worker.
//! - Datagrams leave by another socket on the same port, which nobody waits for: the kernel wakes whoever waits for a socket each time
//!   it has freed a datagram that was sent by it, and that is once for each segment. It comes last in the group, so that no datagram
//!   goes to it.
//! - An IPv6 socket on `[::]` serves IPv4 too, unless another one does; addresses are shown in their own family.
//!
//! Sources: udp(7), ip(7), Linux `Documentation/networking/segmentation-offloads.rst`, `net/ipv4/udp.c`.

use std::{
    io,
    mem::{MaybeUninit, size_of},
    net::{SocketAddr, UdpSocket},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    net::{AddressFamily, SocketFlags, SocketType, sockopt},
};

use super::address::{address, write_address};
use crate::link::Transmitted;

/// Bytes for the largest datagram or joined run of datagrams.
pub(crate) const RECEIVE_BYTES: usize = 65_536;
/// Datagrams, or joined runs of them, taken with one call. Where the kernel does not join, they are what the frames of one delivery
/// come from; pages of the arena that are never reached cost nothing.
pub(crate) const RECEIVE_MAX: usize = 32;
/// The arena of one receive call: a slot for each.
pub(crate) const ARENA_BYTES: usize = RECEIVE_MAX * RECEIVE_BYTES;
/// Asked of the kernel for each direction: 2 ms of 10 Gb/s; it may give less (net.core.rmem_max).
const SOCKET_BYTES: usize = 4 << 20;
const SOCKET_INT: libc::c_int = 4 << 20;
/// How long a full send queue is waited for before a batch is dropped: a full queue drains at line speed.
const SEND_WAIT_NANOS: i64 = 20_000_000;
/// The byte of a datagram that says which worker's it is: the lowest of the receiver index.
const LANE_BYTE: u32 = 4;
/// Room for one control message with an `int` or `u16`, aligned.
const CONTROL_BYTES: usize = 64;

/// One worker's socket.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    /// What datagrams leave by; the first where there is none.
    outgoing: Option<OwnedFd>,
    local: SocketAddr,
    /// Whether the kernel segments for us.
    segments: AtomicBool,
    /// Whether it joins for us.
    joins: bool,
    /// Whether it serves both IP versions.
    both: bool,
}

/// Which IP versions an IPv6 socket on all addresses serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Serves {
    Both,
    Ipv6,
}

/// What one receive call gave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    pub(crate) from: SocketAddr,
    /// The length of each datagram but the last.
    pub(crate) stride: usize,
    /// The kernel cut it: it was longer than the buffer.
    pub(crate) cut: bool,
}

impl Socket {
    /// Binds `count` sockets to one address; datagram byte [`LANE_BYTE`] modulo `count` says to which one a datagram goes.
    pub(crate) fn bind(listen: SocketAddr, count: usize) -> io::Result<Vec<Self>> {
        Self::bind_as(listen, count, Serves::Both)
    }

    /// The same, beside others that serve the other IP version.
    pub(crate) fn bind_beside(listen: SocketAddr, count: usize) -> io::Result<Vec<Self>> {
        Self::bind_as(listen, count, Serves::Ipv6)
    }

    fn bind_as(listen: SocketAddr, count: usize, serves: Serves) -> io::Result<Vec<Self>> {
        // A socket without SO_REUSEPORT finds out whether another program has the port: with it, two nodes of one user would
        // share a port without noticing.
        let listen = Self::bind_one(listen, false, serves)?.local;
        let mut sockets =
            (0..count).map(|_| Self::bind_one(listen, count > 1, serves)).collect::<io::Result<Vec<_>>>()?;
        if let [first, _, ..] = &sockets[..] {
            // It holds for the whole group. Sockets are numbered in order of binding.
            steer(&first.fd, u32::try_from(count).expect("workers are few"))?;
            for socket in &mut sockets {
                socket.outgoing = Some(Self::bind_one(listen, true, serves)?.fd);
            }
        }
        Ok(sockets)
    }

    fn bind_one(listen: SocketAddr, shared: bool, serves: Serves) -> io::Result<Self> {
        let both = listen.is_ipv6() && listen.ip().is_unspecified() && serves == Serves::Both;
        let family = if listen.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(family, SocketType::DGRAM, flags, None)?;
        if shared {
            sockopt::set_socket_reuseport(&fd, true)?;
        }
        if listen.is_ipv6() {
            sockopt::set_ipv6_v6only(&fd, !both)?;
            set_option(&fd, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE)?;
        }
        if listen.is_ipv4() || both {
            set_option(&fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)?;
        }
        // Beyond the system's limit only root may go; without that, the limit it is.
        sockopt::set_socket_recv_buffer_size_force(&fd, SOCKET_BYTES)
            .or_else(|_| sockopt::set_socket_recv_buffer_size(&fd, SOCKET_BYTES))?;
        if set_option(&fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, SOCKET_INT).is_err() {
            sockopt::set_socket_send_buffer_size(&fd, SOCKET_BYTES)?;
        }
        let joins = set_option(&fd, libc::SOL_UDP, libc::UDP_GRO, 1).is_ok();
        rustix::net::bind(&fd, &listen)?;
        let socket = UdpSocket::from(fd);
        let local = socket.local_addr()?;
        Ok(Self { fd: socket.into(), outgoing: None, local, segments: AtomicBool::new(true), joins, both })
    }

    /// Whether a datagram to this address can leave by it.
    #[inline]
    pub(crate) fn reaches(&self, to: SocketAddr) -> bool {
        self.both || self.local.is_ipv4() == to.is_ipv4()
    }

    /// Whether it serves both IP versions.
    pub(crate) fn serves_both(&self) -> bool {
        self.both
    }

    /// The address it is bound to.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Whether the kernel segments and joins for us.
    pub(crate) fn offloads(&self) -> (bool, bool) {
        (self.segments.load(Relaxed), self.joins)
    }

    /// Bytes of memory that wait in the socket's queue, and datagrams the kernel dropped because it was full.
    pub(crate) fn queue(&self) -> (u64, u64) {
        /// Of `SO_MEMINFO`'s numbers, those for what is queued and for drops (`linux/sock_diag.h`), and how many there are.
        const QUEUED: usize = 0;
        const DROPS: usize = 8;
        const NUMBERS: usize = 9;
        let mut numbers = [0_u32; NUMBERS];
        let mut len = size::<[u32; NUMBERS]>();
        #[expect(unsafe_code, reason = "rustix has no such option")]
        // SAFETY: the kernel writes at most `len` bytes to the array, and the length to `len`.
        let result = unsafe {
            let place = numbers.as_mut_ptr().cast();
            libc::getsockopt(self.fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MEMINFO, place, &raw mut len)
        };
        if result == 0 { (numbers[QUEUED].into(), numbers[DROPS].into()) } else { (0, 0) }
    }

    /// Takes what waits in the socket, at most `most` and [`RECEIVE_MAX`]; calls back with each and its bytes, whose slots begin at
    /// multiples of [`RECEIVE_BYTES`] in the arena. Gives how many there were.
    pub(crate) fn receive(
        &self,
        arena: &mut [u8],
        most: usize,
        mut take: impl FnMut(usize, Received, &mut [u8]),
    ) -> io::Result<usize> {
        // Only what this call may fill is prepared: where one datagram comes at a time, the rest would be most of the call's cost.
        let mut names = [const { MaybeUninit::<libc::sockaddr_storage>::uninit() }; RECEIVE_MAX];
        let mut controls = [const { MaybeUninit::<Control>::uninit() }; RECEIVE_MAX];
        let mut pieces = [const { MaybeUninit::<libc::iovec>::uninit() }; RECEIVE_MAX];
        let mut messages = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; RECEIVE_MAX];
        let slots = arena.chunks_exact_mut(RECEIVE_BYTES);
        let rooms = names.iter_mut().zip(&mut controls).zip(&mut pieces);
        let mut count: libc::c_uint = 0;
        for ((slot, message), ((name, control), piece)) in slots.zip(&mut messages).zip(rooms).take(most) {
            let piece = piece.write(libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() });
            *name = MaybeUninit::zeroed();
            let mut header = header(piece);
            header.msg_name = name.as_mut_ptr().cast();
            header.msg_namelen = size::<libc::sockaddr_storage>();
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = CONTROL_BYTES as _;
            message.write(libc::mmsghdr { msg_hdr: header, msg_len: 0 });
            count += 1;
        }
        #[expect(unsafe_code, reason = "no safe wrapper receives control messages without allocating")]
        // SAFETY: the first `count` messages were written above; every pointer in them points to memory that outlives the call, is
        // used by no other message, and has the length beside it. The kernel writes only there.
        let taken = unsafe {
            libc::recvmmsg(self.fd.as_raw_fd(), messages.as_mut_ptr().cast(), count, 0, std::ptr::null_mut())
        };
        let Ok(taken) = usize::try_from(taken) else {
            let error = io::Error::last_os_error();
            // Errors that earlier datagrams met on their way (ICMP) are reported by the next call; they are none of ours.
            return match error.raw_os_error() {
                Some(
                    libc::EAGAIN | libc::EINTR | libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH,
                ) => Ok(0),
                _ => Err(error),
            };
        };
        for (number, (message, name)) in messages.iter().zip(&names).take(taken).enumerate() {
            #[expect(unsafe_code, reason = "the kernel filled what was written above")]
            // SAFETY: messages below `taken` were written; a zeroed sockaddr_storage is a value, and the kernel only overwrites it.
            let (message, name) = unsafe { (message.assume_init_ref(), name.assume_init_ref()) };
            let Some(from) = address(name) else { continue };
            let len = message.msg_len as usize;
            let stride = stride(&message.msg_hdr).filter(|stride| *stride > 0).unwrap_or(len);
            let cut = message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            let start = number * RECEIVE_BYTES;
            take(start, Received { from, stride, cut }, &mut arena[start..start + len]);
        }
        Ok(taken)
    }

    /// Sends one datagram, whatever comes of it.
    pub(crate) fn send(&self, to: SocketAddr, datagram: &[u8]) -> Transmitted {
        self.transmit_all(to, datagram, datagram.len().max(1))
    }

    /// Sends `bytes` as datagrams of `stride` bytes each, the last one maybe shorter.
    pub(super) fn transmit_all(&self, to: SocketAddr, bytes: &[u8], stride: usize) -> Transmitted {
        if bytes.len() <= stride {
            return outcome(self.send_message(to, bytes, None), false);
        }
        if self.segments.load(Relaxed) {
            let result = self.send_message(to, bytes, u16::try_from(stride).ok());
            match &result {
                Err(error) if error.raw_os_error() == Some(libc::EIO) => self.segments.store(false, Relaxed),
                _ => return outcome(result, true),
            }
        }
        let mut last = Transmitted::Sent;
        for datagram in bytes.chunks(stride) {
            match outcome(self.send_message(to, datagram, None), false) {
                Transmitted::Sent => {}
                other => last = other,
            }
        }
        last
    }

    fn send_message(&self, to: SocketAddr, bytes: &[u8], stride: Option<u16>) -> io::Result<()> {
        let mut name = MaybeUninit::<libc::sockaddr_storage>::zeroed();
        let name_len = write_address(self.local, to, &mut name)?;
        let mut control = Control([0; CONTROL_BYTES]);
        let mut piece = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let mut message = header(&mut piece);
        message.msg_name = name.as_mut_ptr().cast();
        message.msg_namelen = name_len;
        if let Some(stride) = stride {
            message.msg_control = control.0.as_mut_ptr().cast();
            write_segment(&mut message, stride);
        }
        loop {
            #[expect(unsafe_code, reason = "no safe wrapper sends control messages without allocating")]
            // SAFETY: every pointer in `message` points to memory that outlives the call and has the length beside it; the
            // kernel only reads.
            let sent = unsafe { libc::sendmsg(self.outgoing().as_raw_fd(), &raw const message, 0) };
            if sent >= 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::EAGAIN) => self.wait_writable()?,
                // Left by an earlier datagram; this one was not tried.
                Some(libc::ECONNREFUSED) => {}
                _ => return Err(error),
            }
        }
    }

    fn outgoing(&self) -> &OwnedFd {
        self.outgoing.as_ref().unwrap_or(&self.fd)
    }

    fn wait_writable(&self) -> io::Result<()> {
        let mut fds = [PollFd::new(self.outgoing(), PollFlags::OUT)];
        let wait = Timespec { tv_sec: 0, tv_nsec: SEND_WAIT_NANOS };
        match rustix::event::poll(&mut fds, Some(&wait)) {
            Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Tells the kernel which socket of the group a datagram is for.
fn steer(fd: &OwnedFd, count: u32) -> io::Result<()> {
    let step = |code: u32, k: u32| libc::sock_filter {
        code: u16::try_from(code).expect("classic BPF has small codes"),
        jt: 0,
        jf: 0,
        k,
    };
    // A datagram too short to have the byte goes to the first socket: such is the value of a failed load.
    let mut program = [
        step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, LANE_BYTE),
        step(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, count),
        step(libc::BPF_RET | libc::BPF_A, 0),
    ];
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).expect("three steps"),
        filter: program.as_mut_ptr(),
    };
    #[expect(unsafe_code, reason = "rustix has no such option")]
    // SAFETY: the program's address and length are given, and it lives until the call returns; the kernel copies it.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            size::<libc::sock_fprog>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The size of a C type, as C functions take it.
#[expect(clippy::cast_possible_truncation, reason = "C types here have a few bytes")]
pub(super) const fn size<T>() -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t
}

/// Room for control messages, as aligned as their header.
#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

fn header(piece: &mut libc::iovec) -> libc::msghdr {
    #[expect(unsafe_code, reason = "msghdr has private padding on some targets")]
    // SAFETY: msghdr is plain data for which all zero bytes mean "nothing".
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = piece;
    message.msg_iovlen = 1;
    message
}

/// EINVAL for segments means that one is larger than the interface's MTU (`udp_send_skb`).
fn outcome(result: io::Result<()>, segmented: bool) -> Transmitted {
    match result {
        Ok(()) => Transmitted::Sent,
        Err(error) => match error.raw_os_error() {
            Some(libc::EMSGSIZE) => Transmitted::TooLarge,
            Some(libc::EINVAL) if segmented => Transmitted::TooLarge,
            _ => Transmitted::Failed,
        },
    }
}

fn write_segment(message: &mut libc::msghdr, stride: u16) {
    #[expect(unsafe_code, reason = "the C macros for control messages")]
    // SAFETY: `msg_control` points to CONTROL_BYTES aligned bytes, more than one header and a u16 take; CMSG_FIRSTHDR then gives
    // a valid header inside them, and CMSG_DATA the place behind it.
    unsafe {
        message.msg_controllen = libc::CMSG_SPACE(size::<u16>()) as _;
        let place = libc::CMSG_FIRSTHDR(message);
        (*place).cmsg_level = libc::SOL_UDP;
        (*place).cmsg_type = libc::UDP_SEGMENT;
        (*place).cmsg_len = libc::CMSG_LEN(size::<u16>()) as _;
        libc::CMSG_DATA(place).cast::<u16>().write_unaligned(stride);
    }
}

fn stride(message: &libc::msghdr) -> Option<usize> {
    #[expect(unsafe_code, reason = "the C macros for control messages")]
    // SAFETY: the kernel filled `msg_control` and set its length; CMSG_FIRSTHDR and CMSG_NXTHDR stay inside it, and the length of
    // the data is checked before it is read.
    unsafe {
        let mut place = libc::CMSG_FIRSTHDR(message);
        while !place.is_null() {
            if (*place).cmsg_level == libc::SOL_UDP
                && (*place).cmsg_type == libc::UDP_GRO
                && (*place).cmsg_len as usize >= libc::CMSG_LEN(size::<libc::c_int>()) as usize
            {
                let stride = libc::CMSG_DATA(place).cast::<libc::c_int>().read_unaligned();
                return usize::try_from(stride).ok();
            }
            place = libc::CMSG_NXTHDR(message, place);
        }
    }
    None
}

fn set_option(fd: &OwnedFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    #[expect(unsafe_code, reason = "rustix has no such option")]
    // SAFETY: the value's address and size are given; the kernel only reads it.
    let result = unsafe {
        let size = size::<libc::c_int>();
        libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), size)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn receive(socket: &Socket) -> Vec<(usize, Received)> {
        let mut fds = [PollFd::new(&socket.fd, PollFlags::IN)];
        rustix::event::poll(&mut fds, None).unwrap();
        let (mut arena, mut all) = (vec![0; ARENA_BYTES], Vec::new());
        let count = socket.receive(&mut arena, RECEIVE_MAX, |start, received, bytes| {
            assert_eq!((start % RECEIVE_BYTES, received.cut), (0, false));
            all.push((bytes.len(), received));
        });
        assert_eq!(count.unwrap(), all.len());
        all
    }

    fn receive_all(socket: &Socket, want: usize) -> Vec<(usize, usize)> {
        let (mut got, mut bytes) = (Vec::new(), 0);
        while bytes < want {
            for (len, received) in receive(socket) {
                bytes += len;
                got.push((len, received.stride));
            }
        }
        got
    }

    #[test]
    fn segments_arrive_as_datagrams_of_their_stride() {
        let a = Socket::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap().remove(0);
        let b = Socket::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap().remove(0);
        assert_eq!(a.transmit_all(b.local_addr(), &[7; 3500], 1000), Transmitted::Sent);
        let got = receive_all(&b, 3500);
        assert!(got.iter().all(|(len, stride)| *stride == 1000 || (len == stride && *len == 500)), "{got:?}");
        assert_eq!(a.send(b.local_addr(), &[1; 10]), Transmitted::Sent);
        assert_eq!(receive_all(&b, 10), [(10, 10)]);
    }

    #[test]
    fn a_dual_stack_socket_shows_ipv4_addresses_as_ipv4() {
        let Ok(mut a) = Socket::bind("[::]:0".parse().unwrap(), 1) else { return };
        let a = a.remove(0);
        let b = Socket::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap().remove(0);
        assert_eq!(a.send(b.local_addr(), &[1]), Transmitted::Sent);
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, a.local_addr().port()));
        assert_eq!(receive(&b)[0].1.from, to);
        assert_eq!(b.send(to, &[2]), Transmitted::Sent);
        assert_eq!(receive(&a)[0].1.from, b.local_addr());
    }

    #[test]
    fn many_datagrams_of_many_sizes_come_with_one_call() {
        let a = Socket::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap().remove(0);
        let b = Socket::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap().remove(0);
        for len in 1..=20 {
            assert_eq!(a.send(b.local_addr(), &vec![7; len]), Transmitted::Sent);
        }
        let got = receive_all(&b, 20 * 21 / 2);
        assert_eq!(got.iter().map(|(len, _)| *len).collect::<Vec<_>>(), (1..=20).collect::<Vec<_>>());
    }

    #[test]
    fn the_fifth_byte_says_which_socket_a_datagram_goes_to() {
        let sockets = Socket::bind("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let a = Socket::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap().remove(0);
        for byte in [0, 1, 2, 3, 100, 255_u8] {
            assert_eq!(a.send(sockets[0].local_addr(), &[9, 9, 9, 9, byte, 9]), Transmitted::Sent);
            assert_eq!(receive(&sockets[usize::from(byte % 3)]).len(), 1);
        }
        assert_eq!(a.send(sockets[0].local_addr(), &[9; 3]), Transmitted::Sent);
        assert_eq!(receive(&sockets[0]).len(), 1);
    }

    #[test]
    fn datagrams_beyond_the_queue_are_counted() {
        let a = Socket::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap().remove(0);
        let b = Socket::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap().remove(0);
        assert_eq!(b.queue(), (0, 0));
        for _ in 0..20_000 {
            assert_eq!(a.send(b.local_addr(), &[0; 1400]), Transmitted::Sent);
        }
        let (queued, drops) = b.queue();
        assert!(queued > 0 && drops > 0);
    }

    #[test]
    fn a_port_in_use_is_an_error_also_for_several_workers() {
        let a = Socket::bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        assert_eq!(a[0].local_addr(), a[1].local_addr());
        assert_eq!(Socket::bind(a[0].local_addr(), 2).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
