//! Storm control: a token bucket in one atomic word, shared by the workers of a port or peer.
//!
//! It is the generic cell rate algorithm (ITU-T I.371): the word holds the time at which the bucket will be full again. A frame conforms
//! if that time is less than the burst ahead of now, and pushes it back by one frame's share.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Broadcasts and multicasts a port or a peer may send in a second. ARP is answered locally, so this serves discovery protocols and
/// multicast applications (a 50 Mb/s stream of 1400-byte frames); each costs every member host a datagram, hence not more.
pub(super) const GROUP_PER_SECOND: u64 = 5_000;

/// Frames to silent unknown addresses, asked for a moment ago, that still go to everybody in a second.
pub(super) const ASKED_AGAIN_PER_SECOND: u64 = 500;

/// Addresses a port or peer may make the table learn in a second; a rack of nested guests starting at once stays below it.
pub(super) const LEARN_PER_SECOND: u64 = 1_000;

/// A bucket holds what its rate gives in this time.
const BURST: Duration = Duration::from_millis(500);

/// What a frame counts as one of: as much as one Ethernet frame of 1500 bytes carries. A super-frame counts as the frames it becomes, a jumbo
/// frame as what it weighs.
const FRAME_BYTES: usize = 1_514;

/// A rate that is either kept or exceeded.
#[derive(Debug)]
pub(super) struct Rate {
    full_again: AtomicU64,
    nanos_each: u64,
}

impl Rate {
    pub(super) const fn per_second(frames: u64) -> Self {
        Self { full_again: AtomicU64::new(0), nanos_each: 1_000_000_000 / frames }
    }

    /// Takes the share of a frame of so many bytes; `false` if the bucket has not got it. `now` is the time since any fixed instant.
    #[expect(clippy::cast_possible_truncation, reason = "64 bits of nanoseconds last for 584 years")]
    pub(super) fn allows(&self, now: Duration, bytes: usize) -> bool {
        let now = now.as_nanos() as u64;
        let limit = now + BURST.as_nanos() as u64;
        let share = self.nanos_each * bytes.div_ceil(FRAME_BYTES).max(1) as u64;
        self.full_again
            .try_update(Relaxed, Relaxed, |full_again| {
                let next = full_again.max(now) + share;
                (next <= limit).then_some(next)
            })
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_holds() {
        let rate = Rate::per_second(1_000);
        let start = Duration::from_secs(9);
        assert_eq!((0..2_000).filter(|_| rate.allows(start, 60)).count(), 500);
        let later = start + Duration::from_millis(100);
        assert_eq!((0..2_000).filter(|_| rate.allows(later, 60)).count(), 100);
        let rested = start + Duration::from_secs(60);
        assert_eq!((0..2_000).filter(|_| rate.allows(rested, 60)).count(), 500);
    }

    #[test]
    fn a_super_frame_counts_as_the_frames_it_becomes() {
        let rate = Rate::per_second(1_000);
        let start = Duration::from_secs(9);
        assert_eq!((0..2_000).filter(|_| rate.allows(start, 10 * FRAME_BYTES)).count(), 50);
    }
}
