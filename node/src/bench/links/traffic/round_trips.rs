//! Round trips of small datagrams.

use std::io;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Ends, SILENCE, SMALL_PAYLOAD_BYTES};

/// Room made before the first; more is made as it is needed.
const KEPT_AT_FIRST: usize = 4096;

/// Round trips, one after the other with `pause` between, until there are `count` or `duration` is over; a lost one is not among them.
pub(in super::super) fn round_trips(
    ends: &Ends<'_>,
    count: usize,
    duration: Duration,
    pause: Duration,
) -> io::Result<Vec<Duration>> {
    let [here, there] = ends.sockets()?;
    here.set_read_timeout(Some(SILENCE))?;
    there.set_read_timeout(Some(SILENCE))?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| echo(&there, &done));
        let trips = trips(&here, count, duration, pause);
        done.store(true, Ordering::Relaxed);
        trips
    })
}

fn trips(here: &UdpSocket, count: usize, duration: Duration, pause: Duration) -> io::Result<Vec<Duration>> {
    let mut trips = Vec::with_capacity(count.min(KEPT_AT_FIRST));
    let mut buffer = [0; SMALL_PAYLOAD_BYTES];
    let began = Instant::now();
    for number in 0..count as u64 {
        let start = Instant::now();
        if start.duration_since(began) > duration {
            break;
        }
        here.send(&number.to_be_bytes())?;
        // An answer to an earlier one that came late is passed over.
        while let Ok(8) = here.recv(&mut buffer) {
            if buffer[..8] == number.to_be_bytes() {
                trips.push(start.elapsed());
                break;
            }
        }
        if !pause.is_zero() {
            thread::sleep(pause);
        }
    }
    Ok(trips)
}

fn echo(socket: &UdpSocket, done: &AtomicBool) {
    let mut buffer = [0; SMALL_PAYLOAD_BYTES];
    while !done.load(Ordering::Relaxed) {
        if let Ok(length) = socket.recv(&mut buffer) {
            // A way back that is gone shows as a lost round trip.
            let _lost = socket.send(&buffer[..length]);
        }
    }
}
