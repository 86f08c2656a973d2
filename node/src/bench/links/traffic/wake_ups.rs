//! What the computer alone takes for the wake-ups of a round trip through a user-space tunnel.
//!
//! Four threads that sleep are woken one after the other: the near end's (a frame came out of its TAP), the far end's (a datagram), the near
//! end's again (the answer), and the generator's. Here each only passes a byte on, through a socket pair: no frame, no cipher, no device.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

/// Rounds of one measurement, and how long it may take.
const ROUNDS: usize = 3_000;
const TAKES_MAX: Duration = Duration::from_secs(1);

/// How long each of many such rounds took.
pub(in super::super) fn wake_ups() -> io::Result<Vec<Duration>> {
    let [(mut start, first), (to_far, far), (to_near, near), (to_start, mut end)] =
        [UnixStream::pair()?, UnixStream::pair()?, UnixStream::pair()?, UnixStream::pair()?];
    thread::scope(|scope| {
        // A thread ends when the end that feeds it is closed.
        for (from, to) in [(first, to_far), (far, to_near), (near, to_start)] {
            scope.spawn(move || pass_on(from, to));
        }
        let begun = Instant::now();
        let mut rounds = Vec::with_capacity(ROUNDS);
        while rounds.len() < ROUNDS && begun.elapsed() < TAKES_MAX {
            let sent = Instant::now();
            start.write_all(&[0])?;
            end.read_exact(&mut [0])?;
            rounds.push(sent.elapsed());
        }
        drop(start);
        Ok(rounds)
    })
}

fn pass_on(mut from: UnixStream, mut to: UnixStream) {
    let mut byte = [0];
    while from.read_exact(&mut byte).is_ok() && to.write_all(&byte).is_ok() {}
}

#[cfg(test)]
mod tests {
    #[test]
    fn rounds_are_made_and_the_threads_end() {
        assert!(!super::wake_ups().unwrap().is_empty());
    }
}
