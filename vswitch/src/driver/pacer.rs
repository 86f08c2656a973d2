//! Datagrams that wait for their line, on one worker.
//!
//! A line says when something may leave ([`crate::path::Line`]); what may not leave now waits here. Of one line everything is asked for in order,
//! and what waits goes first, so it leaves in order. Nothing is here, and nothing is asked, where no line has a rate.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{counters::WorkerCounters, underlay::Out};
use crate::{link::Transmitted, path::Via};

/// What may leave so soon leaves now: waking up for it would cost more than it evens out.
const SLACK: Duration = Duration::from_millis(1);
/// Bytes that wait on one worker, whatever the rates: 20 ms of 3 Gbit/s.
const BYTES_MAX: usize = 8 << 20;

/// A run of datagrams that waits.
#[derive(Debug)]
struct Waiting {
    via: Via,
    stride: usize,
    bytes: Vec<u8>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pacer {
    waiting: BTreeMap<(Instant, u64), Waiting>,
    bytes: usize,
    serial: u64,
}

impl Pacer {
    /// When the first may leave.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|((at, _), _)| *at)
    }

    /// When the last of what waits may leave.
    pub(super) fn last_at(&self) -> Option<Instant> {
        self.waiting.last_key_value().map(|((at, _), _)| *at)
    }

    /// Whether what may leave at `at` leaves now.
    pub(super) fn is_due(now: Instant, at: Instant) -> bool {
        at <= now + SLACK
    }

    /// Keeps a run until then; false if there is no room.
    pub(super) fn keep(&mut self, at: Instant, via: &Via, bytes: &[u8], stride: usize) -> bool {
        if self.bytes + bytes.len() > BYTES_MAX {
            return false;
        }
        self.bytes += bytes.len();
        self.serial += 1;
        self.waiting.insert((at, self.serial), Waiting { via: *via, stride, bytes: bytes.to_vec() });
        true
    }

    /// Sends what may leave by now.
    pub(super) fn send_due(&mut self, now: Instant, out: &Out<'_>, counters: &WorkerCounters) {
        while let Some(first) = self.waiting.first_entry() {
            if !Self::is_due(now, first.key().0) {
                break;
            }
            let Waiting { via, stride, bytes } = first.remove();
            self.bytes -= bytes.len();
            if out.transmit_now(&via, &bytes, stride) != Transmitted::Sent {
                counters.paced_failed.add(bytes.len().div_ceil(stride.max(1)) as u64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        driver::{udp::Socket, underlay::Sockets},
        testing,
    };

    #[test]
    fn what_waits_leaves_in_its_time_and_in_order() {
        let local = "127.0.0.1:0".parse().unwrap();
        let own = Socket::bind(local, 1).unwrap().remove(0);
        let to = std::net::UdpSocket::bind(local).unwrap();
        to.set_nonblocking(true).unwrap();
        let (via, others, counters) =
            (Via::direct(to.local_addr().unwrap()), Sockets::new(), WorkerCounters::default());
        let out = Out::plain(&own, &others);
        let now = testing::now();
        let at = |millis| now + Duration::from_millis(millis);
        let mut pacer = Pacer::default();
        for (millis, word) in [(10, b"b"), (5, b"a"), (10, b"c")] {
            assert!(pacer.keep(at(millis), &via, word, 1));
        }
        assert_eq!(pacer.next_at(), Some(at(5)));
        pacer.send_due(at(3), &out, &counters);
        let mut word = [0; 8];
        assert!(to.recv(&mut word).is_err(), "nothing is due");
        pacer.send_due(at(20), &out, &counters);
        let mut came = Vec::new();
        to.set_nonblocking(false).unwrap();
        for _ in 0..3 {
            to.recv(&mut word).unwrap();
            came.push(word[0]);
        }
        assert_eq!((came, pacer.next_at()), (b"abc".to_vec(), None));
    }

    #[test]
    fn no_more_waits_than_there_is_room_for() {
        let via = Via::direct("192.0.2.1:9".parse().unwrap());
        let (mut pacer, now) = (Pacer::default(), testing::now());
        let run = vec![0; 65_536];
        let kept = (0..1000).filter(|_| pacer.keep(now, &via, &run, 1400)).count();
        assert_eq!(kept, BYTES_MAX / run.len());
    }
}
