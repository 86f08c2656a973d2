//! One direction of a cable: decides what happens to each frame. Pure: time and seed are arguments.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

use super::Impairment;

/// How much later a reordered frame comes: longer than a burst of frames at 10 Mb/s, shorter than a retransmission.
pub const REORDER_BY: Duration = Duration::from_millis(2);
/// Frames on their way, whatever their size: 100,000 small ones at most, a second of a fast line.
const FRAMES_MAX: usize = 100_000;
/// The Ethernet header is not part of the packet.
const ETHERNET_BYTES: usize = 14;

/// One direction. Times are counted from any fixed point.
#[derive(Debug)]
pub struct Line {
    impairment: Impairment,
    random: ChaCha8Rng,
    flying: BinaryHeap<Flying>,
    /// When the rate lets the next frame start.
    free_at: Duration,
    /// No frame that keeps the order arrives before this.
    last_arrival: Duration,
    accepted: u64,
}

#[derive(Debug, PartialEq, Eq)]
struct Flying {
    arrives: Duration,
    order: u64,
    frame: Vec<u8>,
}

impl Ord for Flying {
    /// The greatest arrives first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.arrives, other.order).cmp(&(self.arrives, self.order))
    }
}

impl PartialOrd for Flying {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Line {
    /// A line whose whole fate follows from `seed`.
    pub fn new(impairment: Impairment, seed: u64) -> Self {
        Self {
            impairment,
            random: ChaCha8Rng::seed_from_u64(seed),
            flying: BinaryHeap::new(),
            free_at: Duration::ZERO,
            last_arrival: Duration::ZERO,
            accepted: 0,
        }
    }

    /// Treats frames from now on differently.
    pub fn change(&mut self, impairment: Impairment) {
        self.impairment = impairment;
    }

    /// Takes a frame in.
    pub fn handle_frame(&mut self, now: Duration, frame: &[u8]) {
        let lost = self.happens(self.impairment.loss);
        let doubled = self.happens(self.impairment.duplicate);
        let too_long =
            self.impairment.mtu.is_some_and(|mtu| frame.len().saturating_sub(ETHERNET_BYTES) > mtu);
        if lost || too_long {
            return;
        }
        for _ in 0..=usize::from(doubled) {
            self.accept(now, frame);
        }
    }

    /// When the next frame arrives.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.flying.peek().map(|flying| flying.arrives)
    }

    /// A frame that has arrived by now.
    pub fn poll_output(&mut self, now: Duration) -> Option<Vec<u8>> {
        if self.poll_timeout()? > now {
            return None;
        }
        self.flying.pop().map(|flying| flying.frame)
    }

    fn accept(&mut self, now: Duration, frame: &[u8]) {
        if self.flying.len() >= FRAMES_MAX {
            return;
        }
        let sent = match self.impairment.rate {
            None => now,
            Some(rate) => {
                let start = self.free_at.max(now);
                if transmission(self.impairment.queue_bytes, rate) < start - now {
                    return;
                }
                self.free_at = start + transmission(frame.len(), rate);
                self.free_at
            }
        };
        let jitter = self.impairment.jitter.mul_f64(self.part());
        let mut arrives = (sent + self.impairment.delay + jitter).max(self.last_arrival);
        if self.happens(self.impairment.reorder) {
            arrives += REORDER_BY;
        } else {
            self.last_arrival = arrives;
        }
        self.accepted += 1;
        self.flying.push(Flying { arrives, order: self.accepted, frame: frame.to_vec() });
    }

    fn happens(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.part() < probability
    }

    /// Uniform in 0..1.
    fn part(&mut self) -> f64 {
        f64::from(self.random.next_u32()) / (f64::from(u32::MAX) + 1.0)
    }
}

fn transmission(bytes: usize, bits_per_second: u64) -> Duration {
    let nanos = (bytes as u128) * 8 * 1_000_000_000 / u128::from(bits_per_second.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn numbered(count: u32) -> impl Iterator<Item = Vec<u8>> {
        (0..count).map(|number| [vec![0; 60], number.to_be_bytes().to_vec()].concat())
    }

    fn drain(line: &mut Line) -> Vec<(Duration, u32)> {
        let mut seen = Vec::new();
        while let Some(at) = line.poll_timeout() {
            let frame = line.poll_output(at).unwrap();
            seen.push((at, u32::from_be_bytes(frame[60..64].try_into().unwrap())));
        }
        seen
    }

    fn through(impairment: Impairment, seed: u64) -> Vec<(Duration, u32)> {
        let mut line = Line::new(impairment, seed);
        for (number, frame) in (0u32..).zip(numbered(1000)) {
            line.handle_frame(MILLISECOND * number, &frame);
        }
        drain(&mut line)
    }

    #[test]
    fn a_clean_line_delivers_at_once_and_in_order() {
        let seen = through(Impairment::default(), 1);
        assert!((0u32..).zip(&seen).all(|(n, (at, number))| *number == n && *at == MILLISECOND * n));
        assert_eq!(seen.len(), 1000);
    }

    #[test]
    fn jitter_delays_within_its_bounds_and_keeps_the_order() {
        let impairment =
            Impairment { delay: 10 * MILLISECOND, jitter: 5 * MILLISECOND, ..Impairment::default() };
        let seen = through(impairment, 2);
        assert!(seen.windows(2).all(|pair| pair[0].1 < pair[1].1));
        assert!(seen.iter().all(|(at, number)| {
            let way = *at - MILLISECOND * *number;
            way >= 10 * MILLISECOND && way <= 15 * MILLISECOND
        }));
    }

    #[test]
    fn loss_duplication_and_reordering_come_in_their_parts() {
        let lost = 1000 - through(Impairment { loss: 0.1, ..Impairment::default() }, 3).len();
        assert!((50..150).contains(&lost), "{lost}");
        let doubled = through(Impairment { duplicate: 0.1, ..Impairment::default() }, 4).len() - 1000;
        assert!((50..150).contains(&doubled), "{doubled}");
        let seen = through(Impairment { reorder: 0.1, ..Impairment::default() }, 5);
        let overtaken = seen.windows(2).filter(|pair| pair[0].1 > pair[1].1).count();
        assert!((50..150).contains(&overtaken), "{overtaken}");
        assert_eq!(seen.len(), 1000);
    }

    #[test]
    fn one_seed_decides_everything() {
        let impairment = Impairment { loss: 0.3, reorder: 0.3, jitter: MILLISECOND, ..Impairment::default() };
        assert_eq!(through(impairment, 6), through(impairment, 6));
        assert_ne!(through(impairment, 6), through(impairment, 7));
    }

    #[test]
    fn a_rate_spreads_frames_and_a_full_queue_drops_them() {
        // 64-byte frames at 64 kb/s: 8 ms each; room for ten of them to wait.
        let impairment = Impairment { rate: Some(64_000), queue_bytes: 640, ..Impairment::default() };
        let mut line = Line::new(impairment, 8);
        numbered(100).for_each(|frame| line.handle_frame(Duration::ZERO, &frame));
        let seen = drain(&mut line);
        assert_eq!(seen.len(), 11);
        assert!((1u32..).zip(&seen).all(|(n, (at, _))| *at == 8 * MILLISECOND * n));
    }

    #[test]
    fn a_packet_as_long_as_the_mtu_passes_and_a_longer_one_vanishes() {
        let mut line = Line::new(Impairment { mtu: Some(1280), ..Impairment::default() }, 9);
        line.handle_frame(Duration::ZERO, &[0; 14 + 1280]);
        line.handle_frame(Duration::ZERO, &[0; 14 + 1281]);
        assert_eq!(line.poll_output(Duration::ZERO).map(|frame| frame.len()), Some(1294));
        assert_eq!(line.poll_output(Duration::ZERO), None);
    }
}
