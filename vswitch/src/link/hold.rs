//! Frames that wait for their link or channel to open, so that the first packets of a conversation are not lost.
//!
//! Bounded in number, bytes and time; the oldest gives way, as it is the least likely to be still wanted.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::switch::NetworkId;

/// Frames held for one link: a few conversations' first packets.
const FRAMES_MAX: usize = 64;
/// Bytes held for one link.
const BYTES_MAX: usize = 128 * 1024;
/// How long a frame is held: a handshake that takes longer has lost a message, and senders have sent again by then.
const HOLD_MAX: Duration = Duration::from_secs(3);

#[derive(Debug)]
struct Held {
    network: NetworkId,
    since: Instant,
    frame: Vec<u8>,
}

/// The frames held for one link.
#[derive(Debug, Default)]
pub(super) struct Hold {
    frames: VecDeque<Held>,
    bytes: usize,
}

impl Hold {
    /// Holds a frame; gives how many others had to go.
    pub(super) fn push(&mut self, now: Instant, network: NetworkId, frame: Vec<u8>) -> u64 {
        let mut dropped = 0;
        while self.frames.len() >= FRAMES_MAX
            || (self.bytes + frame.len() > BYTES_MAX && !self.frames.is_empty())
        {
            self.pop();
            dropped += 1;
        }
        self.bytes += frame.len();
        self.frames.push_back(Held { network, since: now, frame });
        dropped
    }

    /// Takes out the frames of a network, oldest first.
    pub(super) fn take(&mut self, network: NetworkId) -> Vec<Vec<u8>> {
        let (taken, kept) =
            std::mem::take(&mut self.frames).into_iter().partition(|held| held.network == network);
        self.frames = kept;
        self.bytes = self.frames.iter().map(|held| held.frame.len()).sum();
        let taken: VecDeque<Held> = taken;
        taken.into_iter().map(|held| held.frame).collect()
    }

    /// Drops what was held too long; gives how many.
    pub(super) fn expire(&mut self, now: Instant) -> u64 {
        let mut dropped = 0;
        while self.frames.front().is_some_and(|held| held.since + HOLD_MAX <= now) {
            self.pop();
            dropped += 1;
        }
        dropped
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.frames.front().map(|held| held.since + HOLD_MAX)
    }

    fn pop(&mut self) {
        if let Some(held) = self.frames.pop_front() {
            self.bytes -= held.frame.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn holds_in_order_by_network_and_within_its_bounds() {
        let (now, a, b) = (testing::now(), NetworkId([1; 16]), NetworkId([2; 16]));
        let mut hold = Hold::default();
        for i in 0..FRAMES_MAX {
            assert_eq!(hold.push(now, if i % 2 == 0 { a } else { b }, vec![u8::try_from(i).unwrap()]), 0);
        }
        assert_eq!(hold.push(now, a, vec![200]), 1, "the oldest gives way");
        let taken = hold.take(a);
        assert_eq!((taken[0][0], taken.last().unwrap()[0], taken.len()), (2, 200, FRAMES_MAX / 2));
        assert_eq!(hold.push(now, a, vec![0; BYTES_MAX - 5]), u64::try_from(FRAMES_MAX).unwrap() / 2 - 5);
        assert_eq!(hold.expire(now + HOLD_MAX), 6);
        assert_eq!((hold.bytes, hold.poll_timeout()), (0, None));
    }
}
