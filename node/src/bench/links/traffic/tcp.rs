//! TCP flows, and what is spent while they run.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, setsockopt, socket, sockopt};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

use super::Ends;
use crate::bench::CONGESTION;

/// What one write or read takes: large enough that system calls do not count.
const PIECE_BYTES: usize = 128 * 1024;
/// TCP finds its rate before it is measured.
const WARM_UP: Duration = Duration::from_millis(500);

/// What happened while it was measured.
#[derive(Debug)]
pub(in super::super) struct Window<P, T> {
    /// Bytes that arrived, over all flows.
    pub(in super::super) bytes: u64,
    /// How long it was measured.
    pub(in super::super) took: Duration,
    /// What the probe said at the beginning and at the end.
    pub(in super::super) probed: [P; 2],
    /// What came of the work meanwhile.
    pub(in super::super) meanwhile: T,
}

impl<P, T> Window<P, T> {
    pub(in super::super) fn bits_per_second(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a rate is shown with three digits")]
        let bits = self.bytes as f64 * 8.0;
        bits / self.took.as_secs_f64()
    }

    pub(in super::super) fn gigabytes(&self) -> f64 {
        self.bits_per_second() * self.took.as_secs_f64() / 8e9
    }
}

/// Sends over each of `flows` at once for so long; `meanwhile` runs while they do, `probe` before and after.
pub(in super::super) fn tcp<P, T>(
    flows: &[Ends<'_>],
    duration: Duration,
    probe: impl Fn() -> io::Result<P>,
    meanwhile: impl FnOnce() -> io::Result<T>,
) -> io::Result<Window<P, T>> {
    let (arrived, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let mut streams = Vec::new();
        let connecting = flows.iter().try_for_each(|flow| {
            let (sender, receiver) = connected(flow)?;
            streams.push(sender.try_clone()?);
            scope.spawn(|| send_until(sender, &stop));
            scope.spawn(|| count(receiver, &arrived));
            Ok(())
        });
        let window = connecting.and_then(|()| observed(duration, &arrived, probe, meanwhile));
        stop.store(true, Ordering::Relaxed);
        for stream in streams {
            // Wakes a sender whose peer no longer reads; an end that is closed already is what is wanted.
            let _closed_already = stream.shutdown(Shutdown::Both);
        }
        window
    })
}

fn observed<P, T>(
    duration: Duration,
    arrived: &AtomicU64,
    probe: impl Fn() -> io::Result<P>,
    meanwhile: impl FnOnce() -> io::Result<T>,
) -> io::Result<Window<P, T>> {
    thread::sleep(WARM_UP);
    let (earlier, before, start) = (probe()?, arrived.load(Ordering::Relaxed), Instant::now());
    let meanwhile = meanwhile()?;
    thread::sleep(duration.saturating_sub(start.elapsed()));
    let (took, after, later) = (start.elapsed(), arrived.load(Ordering::Relaxed), probe()?);
    Ok(Window { bytes: after - before, took, probed: [earlier, later], meanwhile })
}

/// The sending and the receiving end of a flow.
fn connected(ends: &Ends<'_>) -> io::Result<(TcpStream, TcpStream)> {
    let (namespace, address) = ends.there();
    let listener = namespace.enter(|| TcpListener::bind((address, 0)))??;
    let to = SocketAddrV4::new(address, listener.local_addr()?.port());
    let sender = ends.here().0.enter(|| dial(to, ends.segment_bytes))??;
    Ok((sender, listener.accept()?.0))
}

fn dial(to: SocketAddrV4, segment_bytes: Option<u32>) -> io::Result<TcpStream> {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket.as_fd(), sockopt::TcpCongestion, &CONGESTION.into())?;
    if let Some(bytes) = segment_bytes {
        setsockopt(&socket.as_fd(), sockopt::TcpMaxSeg, &bytes)?;
    }
    connect(socket.as_raw_fd(), &SockaddrIn::from(to))?;
    Ok(socket.into())
}

fn send_until(mut stream: TcpStream, stop: &AtomicBool) {
    let mut piece = vec![0; PIECE_BYTES];
    ChaCha8Rng::seed_from_u64(1).fill_bytes(&mut piece);
    while !stop.load(Ordering::Relaxed) && stream.write_all(&piece).is_ok() {}
}

fn count(mut stream: TcpStream, arrived: &AtomicU64) {
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(length @ 1..) = stream.read(&mut piece) {
        arrived.fetch_add(length as u64, Ordering::Relaxed);
    }
}
