//! Cutting and joining against the kernel's own GSO and GRO, on devices of a network namespace made for it.
//!
//! - Cut: a super-frame is sent from a packet socket with `PACKET_VNET_HDR` out of a TAP whose reader takes no super-frames, so that the
//!   kernel cuts it; what the TAP gives is compared with what [`Segments`] writes.
//! - Join: frames are written to a TAP opened with `IFF_NAPI`, whose GRO holds them for `gro_flush_timeout`; what a packet socket with
//!   `PACKET_VNET_HDR` then receives is compared with what [`Joiner`] delivers. The kernel also lets go of what it holds when
//!   its clock ticks meanwhile, so of several attempts the one with the fewest pieces counts.
//!
//! Each test runs itself again in a child process with namespaces of its own, and says so when it may not: the first needs to open
//! `/dev/net/tun`, the second also real privilege (the kernel lets nobody else hold packets).

#![expect(
    unsafe_code,
    reason = "packet sockets and interface flags have no safe wrapper, nor has a child's set-up"
)]

use std::{
    fs,
    io::{self, IoSlice},
    mem,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::Command,
    time::Duration,
};

use super::{
    tests::{Recipe, Twist, cut, join, next, plain, twisted},
    *,
};
use crate::driver::tap::TapQueue;

const IN_NAMESPACES: &str = "CONSORT_KERNEL_OFFLOAD_TEST";
const SKIPPED: i32 = 77;

/// Runs a test again in a child with user, network and mount namespaces of its own.
fn in_namespaces(test: &str, body: impl FnOnce() -> io::Result<()>) {
    if std::env::var_os(IN_NAMESPACES).is_some() {
        match body() {
            Ok(()) => return,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => std::process::exit(SKIPPED),
            Err(error) => panic!("{error}"),
        }
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "--nocapture", "--test-threads=1", &format!("offload::kernel::{test}")])
        .env(IN_NAMESPACES, "1");
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    let maps = [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {} 1", uid.as_raw())),
        ("/proc/self/gid_map", format!("0 {} 1", gid.as_raw())),
    ];
    // SAFETY: Between fork and exec the child makes system calls only; short paths are passed from the stack, so that nothing is
    // allocated and no lock is taken.
    unsafe {
        command.pre_exec(move || {
            let user = if uid.is_root() { 0 } else { libc::CLONE_NEWUSER };
            if libc::unshare(user | libc::CLONE_NEWNET | libc::CLONE_NEWNS) != 0 {
                return Err(io::Error::last_os_error());
            }
            if !uid.is_root() {
                // Without a map the next exec would drop what the new namespace gave.
                maps.iter().try_for_each(|(file, map)| fs::write(file, map))?;
            }
            Ok(())
        });
    }
    match command.output() {
        Ok(output) if output.status.code() == Some(SKIPPED) => {
            eprintln!("SKIPPED {test}: this user may not make TAP devices in a namespace");
        }
        Ok(output) => assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => eprintln!("SKIPPED {test}: this user may not make namespaces: {error}"),
    }
}

/// A descriptor, or what went wrong.
fn descriptor(outcome: libc::c_int) -> io::Result<OwnedFd> {
    if outcome < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: The call that gave it succeeded, and nobody else knows the number.
    Ok(unsafe { OwnedFd::from_raw_fd(outcome) })
}

fn done(outcome: libc::c_int) -> io::Result<()> {
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets an interface up. It speaks no IPv6 of its own, so that only what the test sends is seen.
fn bring_up(name: &str) -> io::Result<()> {
    fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1")?;
    // SAFETY: All-zero bytes are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte.cast_signed();
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP).unwrap();
    // SAFETY: Arguments are plain numbers.
    let socket =
        descriptor(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`, which lives on this stack.
    done(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) })
}

/// A packet socket bound to an interface, with virtio headers.
struct PacketSocket(OwnedFd);

impl PacketSocket {
    fn bind(name: &str) -> io::Result<Self> {
        const PACKET_VNET_HDR: libc::c_int = 15;
        let protocol = u16::try_from(libc::ETH_P_ALL).unwrap().to_be();
        // SAFETY: Arguments are plain numbers.
        let socket = descriptor(unsafe {
            libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
                i32::from(protocol),
            )
        })?;
        let set = |option: libc::c_int, value: libc::c_int| {
            // SAFETY: The option's value is one `int`, which lives on this stack.
            done(unsafe {
                libc::setsockopt(
                    socket.as_raw_fd(),
                    libc::SOL_PACKET,
                    option,
                    (&raw const value).cast(),
                    libc::socklen_t::try_from(size_of_val(&value)).unwrap(),
                )
            })
        };
        set(PACKET_VNET_HDR, 1)?;
        set(libc::PACKET_IGNORE_OUTGOING, 1)?;
        let index = fs::read_to_string(format!("/sys/class/net/{name}/ifindex"))?;
        // SAFETY: All-zero bytes are a valid `sockaddr_ll`.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET).unwrap();
        address.sll_protocol = protocol;
        address.sll_ifindex = index.trim().parse().unwrap();
        // SAFETY: The address is a `sockaddr_ll` on this stack, given with its length.
        done(unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                libc::socklen_t::try_from(size_of_val(&address)).unwrap(),
            )
        })?;
        Ok(Self(socket))
    }

    fn send(&self, header: &VnetHeader, frame: &[u8]) -> io::Result<()> {
        let sent = rustix::io::writev(&self.0, &[IoSlice::new(&header.encode()), IoSlice::new(frame)])?;
        assert_eq!(sent, HEADER_BYTES + frame.len());
        Ok(())
    }

    fn receive(&self) -> io::Result<Option<(VnetHeader, Vec<u8>)>> {
        let mut buffer = vec![0; 80_000];
        match rustix::io::read(&self.0, &mut buffer) {
            Ok(length) => {
                Ok(Some((VnetHeader::parse(&buffer).unwrap(), buffer[HEADER_BYTES..length].to_vec())))
            }
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// This namespace's devices instead of the parent's.
fn mount_sys() -> io::Result<()> {
    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    Ok(mount("sysfs", "/sys", "sysfs", MountFlags::empty(), None)?)
}

/// Super-frames of all kinds that the kernel may be asked to cut.
fn super_frames() -> Vec<(Recipe, u16, bool)> {
    let mut all = Vec::new();
    for v6 in [false, true] {
        for udp in [false, true] {
            for tags in [vec![], vec![5], vec![7, 5]] {
                for extension in [None, Some(0), Some(2)] {
                    if extension.is_some() && !v6 {
                        continue;
                    }
                    let base = Recipe { v6, udp, tags: tags.clone(), extension, ..plain() };
                    let payload =
                        |length: usize| (0..length).map(|n| (n * 7 % 251).to_le_bytes()[0]).collect();
                    let mut add = |recipe, size| all.push((recipe, size, false));
                    add(Recipe { payload: payload(4000), ..base.clone() }, 1448);
                    add(Recipe { payload: payload(2896), ..base.clone() }, 1448);
                    add(
                        Recipe {
                            payload: payload(40_000),
                            id: 0xfff0,
                            sequence: 0xffff_0000,
                            ..base.clone()
                        },
                        1200,
                    );
                    add(
                        Recipe {
                            payload: payload(1501),
                            dont_fragment: false,
                            traffic_class: 3,
                            ..base.clone()
                        },
                        700,
                    );
                    add(Recipe { payload: payload(1449), hop_limit: 1, ..base.clone() }, 1448);
                    if !udp {
                        let options = vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
                        // FIN, PSH, ECE, each with ACK.
                        for flags in [0x11, 0x18, 0x19, 0x50] {
                            add(
                                Recipe {
                                    payload: payload(4000),
                                    flags,
                                    options: options.clone(),
                                    ..base.clone()
                                },
                                1448,
                            );
                        }
                        all.insert(
                            0,
                            (Recipe { payload: payload(4000), flags: 0x90, ..base.clone() }, 1448, true),
                        );
                        all.insert(0, (Recipe { payload: payload(4000), flags: 0x90, ..base }, 1448, false));
                    }
                }
            }
        }
    }
    all
}

#[test]
fn what_we_cut_is_what_the_kernel_cuts() {
    in_namespaces("what_we_cut_is_what_the_kernel_cuts", || {
        mount_sys()?;
        let mut tap = open("cut0")?;
        tap.restrict(Capabilities::NONE)?;
        bring_up("cut0")?;
        let socket = PacketSocket::bind("cut0")?;
        let mut buffer = vec![0; 80_000];
        let mut frame = || match tap.read(&mut buffer) {
            Ok(length) => {
                assert_eq!(
                    buffer[..HEADER_BYTES],
                    VnetHeader::PLAIN.encode(),
                    "the kernel left nothing undone"
                );
                Ok(Some(buffer[HEADER_BYTES..length].to_vec()))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        };
        let mut compared = 0;
        for (recipe, size, ecn) in super_frames() {
            let (header, whole) = (recipe.header(size, ecn), recipe.partial());
            socket.send(&header, &whole)?;
            let mut kernels = Vec::new();
            while let Some(frame) = frame()? {
                kernels.push(frame);
            }
            let ours = cut(&header, &whole, Checksum::Complete);
            let shape = Recipe { payload: vec![], ..recipe };
            assert!(ours == kernels, "{shape:?}\nsize {size}\n{}", differences(&ours, &kernels));
            compared += ours.len();
        }
        println!("{compared} segments are the kernel's, bit for bit");
        Ok(())
    });
}

#[test]
fn what_we_complete_is_what_the_kernel_completes() {
    in_namespaces("what_we_complete_is_what_the_kernel_completes", || {
        mount_sys()?;
        let mut tap = open("sum0")?;
        tap.restrict(Capabilities::NONE)?;
        bring_up("sum0")?;
        let socket = PacketSocket::bind("sum0")?;
        let mut buffer = vec![0; 80_000];
        for (v6, udp) in [(false, false), (true, false), (false, true), (true, true)] {
            for length in [0, 1, 2, 99, 1300] {
                let recipe = Recipe { v6, udp, payload: vec![0x5b; length], tags: vec![5], ..plain() };
                let header = VnetHeader { gso: Gso::None, gso_size: 0, ..recipe.header(1, false) };
                // The frame itself, and the same inside a tunnel of the machine's own, behind 50 bytes of other headers.
                let plain = recipe.partial();
                let mut tunnelled =
                    Recipe { payload: vec![0; 22], udp: true, v6: false, ..recipe.clone() }.frame();
                let outer = u16::try_from(tunnelled.len()).unwrap();
                tunnelled.extend(&plain);
                let inner = header.needs_checksum.unwrap();
                let place = vnet::ChecksumPlace { start: inner.start + outer, ..inner };
                let tunnel = VnetHeader { needs_checksum: Some(place), ..header };
                for (header, frame) in [(header, plain), (tunnel, tunnelled)] {
                    socket.send(&header, &frame)?;
                    let length = tap.read(&mut buffer)?;
                    let mut ours = frame.clone();
                    split::complete(header.needs_checksum.unwrap(), &mut ours).unwrap();
                    assert!(ours == buffer[HEADER_BYTES..length], "{recipe:?}");
                }
            }
        }
        Ok(())
    });
}

/// Where two lists of frames differ, for a reader of a failed test.
fn differences(ours: &[Vec<u8>], kernels: &[Vec<u8>]) -> String {
    let mut text = format!("ours {} frames, the kernel's {}\n", ours.len(), kernels.len());
    for (n, (a, b)) in ours.iter().zip(kernels).enumerate() {
        if a != b {
            let places: Vec<_> = a
                .iter()
                .zip(b)
                .enumerate()
                .filter(|(_, (a, b))| a != b)
                .map(|(at, (a, b))| (at, *a, *b))
                .collect();
            text += &format!(
                "frame {n}: {} and {} bytes, (place, ours, the kernel's): {:?}\n",
                a.len(),
                b.len(),
                places.get(..20.min(places.len()))
            );
        }
    }
    text
}

fn open(name: &str) -> io::Result<TapQueue> {
    let queues = TapQueue::open(name, 1).map_err(|error| match error {
        crate::driver::tap::TapError::Device(source) => source,
        other => io::Error::other(other),
    })?;
    Ok(queues.into_iter().next().unwrap())
}

/// A TAP whose frames go through GRO, which holds them until asked again.
fn open_with_gro(name: &str) -> io::Result<OwnedFd> {
    const IFF_NAPI: libc::c_int = 0x0010;
    let tun = fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: All-zero bytes are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte.cast_signed();
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | IFF_NAPI;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).unwrap();
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which lives on this stack.
    done(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    Ok(tun.into())
}

/// What the kernel's GRO makes of these frames, each with an open checksum or not.
fn kernel_joins(
    tap: &OwnedFd,
    socket: &PacketSocket,
    frames: &[(Vec<u8>, bool)],
) -> io::Result<Vec<(VnetHeader, Vec<u8>)>> {
    for (frame, partial) in frames {
        let header = join(&[(frame.clone(), *partial)], Capabilities::NONE)[0].0;
        rustix::io::writev(tap, &[IoSlice::new(&header.encode()), IoSlice::new(frame)])?;
    }
    let payload =
        |frames: &[(VnetHeader, Vec<u8>)]| frames.iter().map(|(_, frame)| frame.len()).sum::<usize>();
    let total: usize = frames.iter().map(|(frame, _)| frame.len()).sum();
    let mut came = Vec::new();
    // All has come when the bytes have, less the headers that joining saves.
    let headers = |came: &[(VnetHeader, Vec<u8>)]| {
        came.iter()
            .map(|(header, frame)| match header.gso {
                Gso::None => 0,
                _ => {
                    let layout = layout::Layout::of(frame).unwrap();
                    let segments = (layout.end - layout.payload).div_ceil(usize::from(header.gso_size));
                    (segments - 1) * layout.payload
                }
            })
            .sum::<usize>()
    };
    while payload(&came) + headers(&came) < total {
        let mut ready = [rustix::event::PollFd::new(&socket.0, rustix::event::PollFlags::IN)];
        let patience = rustix::time::Timespec { tv_sec: 2, tv_nsec: 0 };
        if rustix::event::poll(&mut ready, Some(&patience))? == 0 {
            break;
        }
        while let Some(frame) = socket.receive()? {
            came.push(frame);
        }
    }
    Ok(came)
}

#[test]
fn what_we_join_is_what_the_kernel_joins() {
    in_namespaces("what_we_join_is_what_the_kernel_joins", || {
        mount_sys()?;
        let tap = open_with_gro("gro0")?;
        bring_up("gro0")?;
        let hold = Duration::from_millis(20).as_nanos();
        fs::write("/sys/class/net/gro0/gro_flush_timeout", hold.to_string())?;
        let socket = PacketSocket::bind("gro0")?;
        // UDP is joined only for those who ask.
        let listener = listen_with_gro()?;
        let mut compared = 0;
        for (name, frames) in streams() {
            let mut ours = join(&frames, Capabilities::ALL);
            let mut kernels = kernel_joins(&tap, &socket, &frames)?;
            for _ in 0..12 {
                if kernels.len() <= ours.len() {
                    break;
                }
                let again = kernel_joins(&tap, &socket, &frames)?;
                if again.len() < kernels.len() {
                    kernels = again;
                }
            }
            if name.contains("Broken") {
                // The kernel lets a damaged frame overtake what it holds of its flow; we do not.
                ours.sort_by(|(_, a), (_, b)| a.cmp(b));
                kernels.sort_by(|(_, a), (_, b)| a.cmp(b));
            }
            let shapes = |pieces: &[(VnetHeader, Vec<u8>)]| -> Vec<(Gso, u16, usize)> {
                pieces.iter().map(|(header, frame)| (header.gso, header.gso_size, frame.len())).collect()
            };
            assert_eq!(shapes(&ours), shapes(&kernels), "{name}: ours, the kernel's");
            for ((our_header, ours), (header, kernels)) in ours.iter().zip(&kernels) {
                if our_header.gso != Gso::None {
                    assert_eq!(our_header.needs_checksum, header.needs_checksum, "{name}");
                    assert!(
                        ours == kernels,
                        "{name}\n{}",
                        differences(std::slice::from_ref(ours), std::slice::from_ref(kernels))
                    );
                }
            }
            compared += 1;
        }
        drop(listener);
        println!("{compared} streams are joined as the kernel joins them");
        Ok(())
    });
}

/// A socket for the test's datagrams over both IPs that takes them joined.
fn listen_with_gro() -> io::Result<std::net::UdpSocket> {
    const UDP_GRO: libc::c_int = 104;
    let socket = std::net::UdpSocket::bind("[::]:53")?;
    let on: libc::c_int = 1;
    // SAFETY: The option's value is one `int`, which lives on this stack.
    done(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_UDP,
            UDP_GRO,
            (&raw const on).cast(),
            libc::socklen_t::try_from(size_of_val(&on)).unwrap(),
        )
    })?;
    Ok(socket)
}

/// Frames, each with an open checksum or not.
type Stream = Vec<(Vec<u8>, bool)>;

/// Short streams in which one frame does not simply continue the one before.
fn streams() -> Vec<(String, Stream)> {
    use Twist::*;
    let twists = [
        Nothing,
        Short,
        Push,
        Fin,
        Gap,
        Acknowledgement,
        Window,
        Congestion,
        IdJump,
        Empty,
        Urgent,
        Syn,
        Cwr,
        Options,
        Broken,
    ];
    let mut all = Vec::new();
    for (v6, udp) in [(false, false), (true, false), (false, true), (true, true)] {
        for partial in [false, true] {
            for twist in twists {
                // TCP's own; and damaged or empty datagrams, which the kernel lets overtake their flow and goes on joining: here order counts.
                let not_udp = !matches!(twist, Nothing | Short | Congestion | IdJump);
                if udp && not_udp || v6 && matches!(twist, IdJump) || partial && matches!(twist, Broken) {
                    continue;
                }
                for at in [0, 1, 3] {
                    let mut last = Recipe { v6, udp, ..plain() };
                    let mut frames = Vec::new();
                    for n in 0..6 {
                        let (recipe, frame) = twisted(&last, if n == at { twist } else { Nothing });
                        frames.push(if partial { (recipe.partial(), true) } else { (frame, false) });
                        last = recipe;
                    }
                    all.push((format!("v6 {v6}, udp {udp}, partial {partial}, {twist:?} at {at}"), frames));
                }
            }
        }
    }
    let fixed_ids: Vec<_> =
        std::iter::successors(Some(plain()), |last| Some(Recipe { id: last.id, ..next(last) }))
            .take(5)
            .map(|recipe| (recipe.frame(), false))
            .collect();
    all.push(("fixed ids".to_owned(), fixed_ids));
    let extended: Vec<_> =
        std::iter::successors(Some(Recipe { v6: true, extension: Some(1), ..plain() }), |last| {
            Some(next(last))
        })
        .take(5)
        .map(|recipe| (recipe.frame(), false))
        .collect();
    all.push(("extension headers".to_owned(), extended));
    all
}
