//! Load and what comes of it: TCP flows, round trips, small packets, between two network namespaces.
//!
//! The generators are threads of this process that stand inside the namespaces; what a contender itself spends is measured apart.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use consort_lab::Netns;
use nix::sys::socket::{setsockopt, sockopt};

/// What one write or read takes: large enough that system calls do not count.
const PIECE_BYTES: usize = 128 * 1024;
/// TCP finds its rate before it is measured.
pub(super) const WARM_UP: Duration = Duration::from_millis(500);
/// The same for all; the system's default may be one that measures itself (BBR).
const CONGESTION: &str = "cubic";
/// A packet that takes longer is lost.
const SILENCE: Duration = Duration::from_secs(1);
/// UDP payload of a 64-byte Ethernet frame: what is left beside Ethernet (14, and 4 of its checksum), IPv4 (20), UDP (8).
pub(super) const SMALL_PAYLOAD_BYTES: usize = 18;

/// Two ends with their addresses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends<'a> {
    pub(super) namespaces: [&'a Netns; 2],
    pub(super) addresses: [Ipv4Addr; 2],
}

impl<'a> Ends<'a> {
    fn there(&self) -> (&'a Netns, Ipv4Addr) {
        (self.namespaces[1], self.addresses[1])
    }

    fn here(&self) -> (&'a Netns, Ipv4Addr) {
        (self.namespaces[0], self.addresses[0])
    }

    /// The same two ends, seen from the other.
    pub(super) fn reversed(self) -> Self {
        let [a, b] = self.namespaces;
        let [x, y] = self.addresses;
        Self { namespaces: [b, a], addresses: [y, x] }
    }
}

/// Sends over each of `flows` at once, and gives the bits per second that arrived over all of them; `meanwhile` runs while they do.
pub(super) fn tcp<T>(
    flows: &[Ends<'_>],
    duration: Duration,
    meanwhile: impl FnOnce() -> io::Result<T>,
) -> io::Result<(f64, T)> {
    let (arrived, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let mut streams = Vec::new();
        for flow in flows {
            let (sender, receiver) = connected(flow)?;
            streams.push(sender.try_clone()?);
            scope.spawn(|| send_until(sender, &stop));
            scope.spawn(|| count(receiver, &arrived));
        }
        thread::sleep(WARM_UP);
        let (before, start) = (arrived.load(Ordering::Relaxed), Instant::now());
        let result = meanwhile();
        thread::sleep(duration.saturating_sub(start.elapsed()));
        let (after, took) = (arrived.load(Ordering::Relaxed), start.elapsed());
        stop.store(true, Ordering::Relaxed);
        for stream in streams {
            // Wakes a sender whose peer no longer reads; an end that is closed already is what is wanted.
            let _closed_already = stream.shutdown(Shutdown::Both);
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate is shown with three digits")]
        let rate = (after - before) as f64 * 8.0 / took.as_secs_f64();
        result.map(|result| (rate, result))
    })
}

fn connected(ends: &Ends<'_>) -> io::Result<(TcpStream, TcpStream)> {
    let (namespace, address) = ends.there();
    let listener = namespace.enter(|| TcpListener::bind((address, 0)))??;
    let to = listener.local_addr()?;
    let sender = ends.here().0.enter(|| TcpStream::connect(to))??;
    setsockopt(&sender.as_fd(), sockopt::TcpCongestion, &CONGESTION.into())?;
    Ok((sender, listener.accept()?.0))
}

fn send_until(mut stream: TcpStream, stop: &AtomicBool) {
    let piece = vec![0x5a; PIECE_BYTES];
    while !stop.load(Ordering::Relaxed) && stream.write_all(&piece).is_ok() {}
}

fn count(mut stream: TcpStream, arrived: &AtomicU64) {
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(length @ 1..) = stream.read(&mut piece) {
        arrived.fetch_add(length as u64, Ordering::Relaxed);
    }
}

/// Round trips of small datagrams, one after the other; a lost one is not among them.
pub(super) fn round_trips(ends: &Ends<'_>, count: usize) -> io::Result<Vec<Duration>> {
    let bind =
        |(namespace, address): (&Netns, Ipv4Addr)| namespace.enter(|| UdpSocket::bind((address, 0)))?;
    let (here, there) = (bind(ends.here())?, bind(ends.there())?);
    here.connect(there.local_addr()?)?;
    here.set_read_timeout(Some(SILENCE))?;
    there.set_read_timeout(Some(SILENCE))?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| echo(&there, &done));
        let mut trips = Vec::with_capacity(count);
        let mut buffer = [0; SMALL_PAYLOAD_BYTES];
        for number in 0..count as u64 {
            let start = Instant::now();
            here.send(&number.to_be_bytes())?;
            // An answer to an earlier one that came late is passed over.
            while let Ok(8) = here.recv(&mut buffer) {
                if buffer[..8] == number.to_be_bytes() {
                    trips.push(start.elapsed());
                    break;
                }
            }
        }
        done.store(true, Ordering::Relaxed);
        Ok(trips)
    })
}

fn echo(socket: &UdpSocket, done: &AtomicBool) {
    let mut buffer = [0; SMALL_PAYLOAD_BYTES];
    while !done.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            // A way back that is gone shows as a lost round trip.
            let _lost = socket.send_to(&buffer[..length], from);
        }
    }
}

/// Small datagrams sent and received in a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flood {
    pub(super) sent: u64,
    pub(super) received: u64,
}

impl Flood {
    /// Part of the datagrams that did not arrive.
    #[expect(clippy::cast_precision_loss, reason = "a part is shown with two digits")]
    pub(super) fn loss(self) -> f64 {
        1.0 - self.received.min(self.sent) as f64 / (self.sent as f64).max(1.0)
    }
}

/// Sends small datagrams at a rate and counts those that arrive.
pub(super) fn flood(ends: &Ends<'_>, packets_per_second: f64, duration: Duration) -> io::Result<Flood> {
    let bind =
        |(namespace, address): (&Netns, Ipv4Addr)| namespace.enter(|| UdpSocket::bind((address, 0)))?;
    let (here, there) = (bind(ends.here())?, bind(ends.there())?);
    setsockopt(&there, sockopt::RcvBuf, &(4 << 20))?;
    let to: SocketAddr = there.local_addr()?;
    here.connect(to)?;
    // Addresses are resolved and handshakes done before anything counts.
    here.send(&[0; SMALL_PAYLOAD_BYTES])?;
    there.set_read_timeout(Some(SILENCE))?;
    there.recv(&mut [0; SMALL_PAYLOAD_BYTES])?;
    there.set_read_timeout(Some(Duration::from_millis(200)))?;
    thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let mut buffer = [0; SMALL_PAYLOAD_BYTES];
            let mut received = 0;
            while there.recv(&mut buffer).is_ok() {
                received += 1;
            }
            received
        });
        let sent = send_at(&here, packets_per_second, duration)?;
        let received = receiver.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok(Flood { sent, received })
    })
}

/// Paced in small bursts: a sleep for each packet would be the measurement.
fn send_at(socket: &UdpSocket, packets_per_second: f64, duration: Duration) -> io::Result<u64> {
    const BURST: u64 = 16;
    let payload = [0x5a; SMALL_PAYLOAD_BYTES];
    let (start, mut sent) = (Instant::now(), 0_u64);
    while start.elapsed() < duration {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52 packets")]
        let due = Duration::from_secs_f64(sent as f64 / packets_per_second);
        if let Some(early) = due.checked_sub(start.elapsed()) {
            thread::sleep(early);
        }
        for _ in 0..BURST {
            match socket.send(&payload) {
                Ok(_) => sent += 1,
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(ENOBUFS) =>
                {
                    sent += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(sent)
}

const ENOBUFS: i32 = nix::errno::Errno::ENOBUFS as i32;
