//! The plain tunnel: what any program between a TAP and a UDP socket spends at the least, so that it can be told what of our figures is the
//! kernel's and what is ours.
//!
//! Two threads an end, which sleep in `read` and `recv` and have nothing else to do: a super-frame that is read goes out as it is, with one
//! header and `UDP_SEGMENT`; what comes is written as it came. Nothing is cut into packets, sealed, checked, joined, counted or queued, no
//! address is looked up, and nothing can be trusted: no tunnel that anybody could use does as little.
//!
//! ```text
//! message: magic (4) │ bytes that follow (4) │ virtio header and frame, at the end a byte more where the last datagram would be a full one
//! ```

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd as _;
use std::process::ExitCode;

use consort_lab::host::Host;
use consort_lab::{Netlink, reexec};
use consort_vswitch::tap::TapQueue;
use nix::sys::socket::{setsockopt, sockopt};
use rustix::fs::OFlags;

use super::contender::{Contender, Layer, Role};
use super::plane::{self, LINKED_MTU};
use crate::failure::Failure;

/// The internal subcommand.
const FLOOR: &str = "bench-floor";
const DEVICE: &str = "plain0";
const PORT: u16 = 7442;
/// The addresses of its two ends.
const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 95, 0, 1), Ipv4Addr::new(10, 95, 0, 2)];

const MAGIC: [u8; 4] = *b"bare";
const HEAD_BYTES: usize = 8;
/// A datagram that fills the wire's packets.
const STRIDE: usize = 1500 - 20 - 8;
/// What one call takes: as many full datagrams as fit the longest UDP payload.
const CALL_BYTES: usize = 65_507 / STRIDE * STRIDE;
/// A virtio header, a super-frame of 64 KiB and its Ethernet header with tags.
const FRAME_BYTES: usize = 12 + 65_536 + 64;
/// Runs that arrived may wait while the TAP takes one; the kernel may allow less.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// Starts an end in each host.
pub(super) fn start(
    hosts: &[Host; 2],
    links: &mut [Netlink; 2],
    wire: [Ipv4Addr; 2],
) -> Result<Contender, Failure> {
    let mut daemons = Vec::with_capacity(2);
    for (side, (host, link)) in hosts.iter().zip(links).enumerate() {
        let mut command = host.command(reexec::program());
        command.args([FLOOR.to_owned(), wire[side].to_string(), wire[1 - side].to_string()]);
        daemons.push(plane::daemon(command)?);
        plane::set_up(link, DEVICE, side, LINKED_MTU, ADDRESSES[side])?;
    }
    Ok(Contender {
        name: "plain tunnel",
        role: Role::Floor,
        layer: Layer::Ethernet,
        cipher: None,
        addresses: ADDRESSES,
        daemons,
    })
}

/// Runs an end if that is what this process was started for; before any thread exists.
pub(super) fn reexec(argv: &[OsString]) -> Option<ExitCode> {
    if argv.first()? != FLOOR {
        return None;
    }
    let words: Vec<&str> = argv.iter().skip(1).filter_map(|word| word.to_str()).collect();
    let ended = match words[..] {
        [here, there] => run(here, there),
        _ => Err("the benchmark's plain tunnel is started by the benchmark".into()),
    };
    Some(match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("consort: {reason}");
            ExitCode::FAILURE
        }
    })
}

type Ended = Result<(), Box<dyn std::error::Error + Send + Sync>>;

fn run(here: &str, there: &str) -> Ended {
    let here: Ipv4Addr = here.parse()?;
    let there = SocketAddrV4::new(there.parse()?, PORT);
    let tap = TapQueue::open(DEVICE, 1)?.remove(0);
    let flags = rustix::fs::fcntl_getfl(tap.as_fd())?;
    rustix::fs::fcntl_setfl(tap.as_fd(), flags - OFlags::NONBLOCK)?;
    let [from, to] = [tap.as_fd().try_clone_to_owned()?, tap.as_fd().try_clone_to_owned()?];
    // One for each direction: what a socket has sent wakes who waits for it.
    let arriving = UdpSocket::bind((here, PORT))?;
    setsockopt(&arriving, sockopt::UdpGroSegment, &true)?;
    setsockopt(&arriving, sockopt::RcvBuf, &RECEIVE_BUFFER_BYTES)?;
    let leaving = UdpSocket::bind((here, 0))?;
    leaving.connect(there)?;
    setsockopt(&leaving, sockopt::UdpGsoSegment, &i32::try_from(STRIDE)?)?;
    let sender = std::thread::spawn(move || send(from.into(), &leaving));
    plane::say_ready()?;
    receive(&arriving, to.into())?;
    sender.join().map_err(|_panic| "the sender ended")?
}

fn send(mut tap: std::fs::File, socket: &UdpSocket) -> Ended {
    let mut message = vec![0; HEAD_BYTES + FRAME_BYTES + 1];
    message[..4].copy_from_slice(&MAGIC);
    loop {
        let frame = tap.read(&mut message[HEAD_BYTES..HEAD_BYTES + FRAME_BYTES])?;
        let unpadded = HEAD_BYTES + frame;
        let whole = unpadded + usize::from(unpadded.is_multiple_of(STRIDE));
        message[4..HEAD_BYTES].copy_from_slice(&u32::try_from(whole - HEAD_BYTES)?.to_be_bytes());
        for call in message[..whole].chunks(CALL_BYTES) {
            // Before the other end is there the kernel says so; nobody is told here.
            let _refused = socket.send(call);
        }
    }
}

fn receive(socket: &UdpSocket, mut tap: std::fs::File) -> Ended {
    let mut buffer = vec![0; 2 * (HEAD_BYTES + FRAME_BYTES)];
    let mut filled = 0;
    loop {
        let arrived = socket.recv(&mut buffer[filled..])?;
        let (start, end) = (filled, filled + arrived);
        // What began and did not end before another begins has lost a part.
        let mut rest = match buffer[start..end].starts_with(&MAGIC) {
            true => &buffer[start..end],
            false => &buffer[..end],
        };
        while let Some(message) = message(rest) {
            // A byte more at the end is no matter to the kernel: Ethernet frames may be padded.
            let _refused = tap.write(&message[HEAD_BYTES..]);
            rest = &rest[message.len()..];
        }
        let (waits, begins) = (rest.len(), rest.starts_with(&MAGIC));
        filled = if begins && waits <= HEAD_BYTES + FRAME_BYTES {
            buffer.copy_within(end - waits..end, 0);
            waits
        } else {
            0
        };
    }
}

/// The message at the beginning, if it is whole.
fn message(bytes: &[u8]) -> Option<&[u8]> {
    let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    let [m0, m1, m2, m3, length @ ..] = *head;
    let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
    ([m0, m1, m2, m3] == MAGIC && length <= rest.len()).then(|| &bytes[..HEAD_BYTES + length])
}
