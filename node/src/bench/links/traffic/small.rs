//! Small datagrams: how many arrive of those sent at a rate, and the highest rate at which nearly all do.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg, setsockopt, sockopt};

use super::{Ends, SILENCE, SMALL_PAYLOAD_BYTES};

/// Datagrams given to the kernel in one call: the call costs nothing any more, and at the rates in question it is a fraction of a millisecond's.
const BATCH: usize = 32;
/// Datagrams taken from the kernel in one call.
const TAKEN_MAX: usize = 64;
/// How long datagrams are sent at each rate.
const FLOOD: Duration = Duration::from_millis(400);
/// The last datagram is there by then.
const DRAIN: Duration = Duration::from_millis(100);
/// What a receiver may lose and still be said to keep up.
const LOSS_MAX: f64 = 0.01;
/// Where the highest rate is known this well the search ends.
const PRECISION: f64 = 1.04;
/// Rates tried at most.
const RATES_MAX: usize = 9;
/// A rate far below one that was too high.
const STEP_DOWN: f64 = 0.6;
/// A path that loses every one of so many datagrams is none.
const GREETINGS_MAX: usize = 5;
/// What the kernel is asked for; it gives what `net.core.rmem_max` allows.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// Small datagrams sent and received.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Flood {
    pub(in super::super) sent: u64,
    pub(in super::super) received: u64,
    took: Duration,
}

impl Flood {
    /// Part of the datagrams that did not arrive.
    #[expect(clippy::cast_precision_loss, reason = "a part is shown with two digits")]
    pub(in super::super) fn loss(self) -> f64 {
        1.0 - self.received.min(self.sent) as f64 / (self.sent as f64).max(1.0)
    }

    fn sent_per_second(self) -> f64 {
        per_second(self.sent, self.took)
    }

    fn received_per_second(self) -> f64 {
        per_second(self.received, self.took)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate is shown with three digits")]
fn per_second(packets: u64, took: Duration) -> f64 {
    packets as f64 / took.as_secs_f64()
}

/// The highest rate at which fewer than [`LOSS_MAX`] are lost, in received datagrams per second; zero if there is none.
///
/// The first try is as fast as it goes. Where that loses too many, the answer lies below, and is searched for between the highest rate
/// that went well and the lowest that did not.
pub(in super::super) fn highest_rate(ends: &Ends<'_>) -> io::Result<f64> {
    search(|rate| flood(ends, rate, FLOOD))
}

fn search(mut attempt: impl FnMut(Option<f64>) -> io::Result<Flood>) -> io::Result<f64> {
    let flat_out = attempt(None)?;
    if flat_out.loss() < LOSS_MAX {
        return Ok(flat_out.received_per_second());
    }
    let (mut kept, mut too_high) = (0.0_f64, flat_out.sent_per_second());
    let mut next = flat_out.received_per_second();
    for _ in 0..RATES_MAX {
        let flood = attempt(Some(next))?;
        if flood.loss() < LOSS_MAX {
            kept = kept.max(flood.received_per_second());
            // A generator that does not reach the rate has shown all it can.
            if flood.sent_per_second() < next / PRECISION {
                break;
            }
        } else {
            too_high = next.min(flood.sent_per_second());
        }
        if kept * PRECISION > too_high {
            break;
        }
        next = if kept > 0.0 { (kept * too_high).sqrt() } else { too_high * STEP_DOWN };
    }
    Ok(kept)
}

/// Sends small datagrams at a rate, or as fast as it goes, and counts those that arrive.
pub(in super::super) fn flood(
    ends: &Ends<'_>,
    per_second: Option<f64>,
    duration: Duration,
) -> io::Result<Flood> {
    let [here, there] = ends.sockets()?;
    setsockopt(&there, sockopt::RcvBuf, &RECEIVE_BUFFER_BYTES)?;
    greet(&here, &there)?;
    there.set_read_timeout(Some(DRAIN))?;
    thread::scope(|scope| {
        let receiver = scope.spawn(|| receive_all(&there));
        let began = Instant::now();
        let sent = send_at(&here, per_second, duration);
        let took = began.elapsed();
        let received = receiver.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok(Flood { sent: sent?, received: received?, took })
    })
}

/// Addresses are resolved and handshakes done before anything counts; on a bad path that takes more than one datagram.
fn greet(here: &UdpSocket, there: &UdpSocket) -> io::Result<()> {
    there.set_read_timeout(Some(SILENCE))?;
    let mut result = Ok(());
    for _ in 0..GREETINGS_MAX {
        here.send(&[0; SMALL_PAYLOAD_BYTES])?;
        result = there.recv(&mut [0; SMALL_PAYLOAD_BYTES]).map(drop);
        if result.is_ok() {
            break;
        }
    }
    result
}

/// Counts what comes until nothing has come for a while.
fn receive_all(socket: &UdpSocket) -> io::Result<u64> {
    let mut received = 0;
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(TAKEN_MAX, None);
    let mut places = vec![[0; SMALL_PAYLOAD_BYTES]; TAKEN_MAX];
    loop {
        let mut slices: Vec<[IoSliceMut<'_>; 1]> =
            places.iter_mut().map(|place| [IoSliceMut::new(place)]).collect();
        match recvmmsg(socket.as_raw_fd(), &mut headers, slices.iter_mut(), MsgFlags::MSG_WAITFORONE, None) {
            Ok(taken) => received += taken.count() as u64,
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(received),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Sends in batches, each when it is due.
fn send_at(socket: &UdpSocket, per_second: Option<f64>, duration: Duration) -> io::Result<u64> {
    let payload = [0x5a; SMALL_PAYLOAD_BYTES];
    let slices = [[IoSlice::new(&payload)]; BATCH];
    let nobody = [None::<SockaddrIn>; BATCH];
    let mut headers = MultiHeaders::preallocate(BATCH, None);
    let (start, mut sent) = (Instant::now(), 0_u64);
    while start.elapsed() < duration {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52 packets")]
        let due = per_second.map(|rate| Duration::from_secs_f64(sent as f64 / rate));
        if let Some(early) = due.and_then(|due| due.checked_sub(start.elapsed())) {
            thread::sleep(early);
        }
        match sendmmsg(socket.as_raw_fd(), &mut headers, &slices, nobody, [], MsgFlags::empty()) {
            Ok(taken) => sent += taken.count() as u64,
            // A full queue of the device loses what does not fit, as it would anybody's.
            Err(Errno::EAGAIN | Errno::ENOBUFS) => sent += BATCH as u64,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A way that carries so many a second and loses a part of what is beyond, as a queue does.
    fn carrying(capacity: f64, generator: f64) -> impl FnMut(Option<f64>) -> io::Result<Flood> {
        move |rate| {
            let sent = rate.unwrap_or(generator).min(generator);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small numbers")]
            let whole = |rate: f64| rate as u64;
            Ok(Flood { sent: whole(sent), received: whole(sent.min(capacity)), took: Duration::from_secs(1) })
        }
    }

    #[test]
    fn the_search_finds_what_the_way_carries() {
        for capacity in [3e3, 50e3, 290e3, 900e3] {
            let found = search(carrying(capacity, 1e6)).unwrap();
            assert!((found / capacity - 1.0).abs() < 0.05, "{found} of {capacity}");
        }
    }

    #[test]
    fn a_way_that_keeps_up_with_the_generator_is_as_fast_as_that() {
        let found = search(carrying(5e6, 400e3)).unwrap();
        assert!((found / 400e3 - 1.0).abs() < 0.01, "{found}");
    }

    #[test]
    fn a_way_that_loses_at_every_rate_has_no_rate() {
        let lossy = |_: Option<f64>| Ok(Flood { sent: 1000, received: 900, took: Duration::from_secs(1) });
        assert!(search(lossy).unwrap() < 1.0);
    }
}
