//! When a path that is not known to work is probed: both ends begin at about the same time, so that each opens its own NAT for the other.
//!
//! | ways | probes at (milliseconds) |
//! |---|---|
//! | of the wide network | 0, 40, 120 with few hops to live, then 250, 350, 550, 950, 1750, 3100 |
//! | of interfaces, through relays, heard of by a datagram | 0, 100, 300, 700, 1500, 3000 |
//!
//! The first probes open the way out and die before they reach the other end's NAT: one that keeps connections (Linux conntrack) and accepts
//! datagrams for itself would take an early one for a connection of its own, and give the other end's answer another port
//! (measured: `notes/control-plane.md` section 3). The pause before the others is longer than one end usually begins before the other: the
//! time a message of the control plane takes, also over a circuit and between busy hosts (with 150 ms a pair of the matrix was spoiled on a busy computer).

use std::time::{Duration, Instant};

/// Hops the first probes live: past the router at home, seldom as far as the other end's.
pub(crate) const FEW_HOPS: u8 = 2;
const GENTLE: [u16; 9] = [0, 40, 120, 250, 350, 550, 950, 1750, 3100];
/// Of [`GENTLE`], those with few hops to live.
const GENTLE_SHORT: usize = 3;
const PLAIN: [u16; 6] = [0, 100, 300, 700, 1500, 3000];

/// One round of probes of one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Burst {
    began: Instant,
    gentle: bool,
    step: usize,
}

impl Burst {
    /// `gentle`: the way leads through the wide network and nothing has come by it yet.
    pub(super) fn new(now: Instant, gentle: bool) -> Self {
        Self { began: now, gentle, step: 0 }
    }

    fn steps(&self) -> &'static [u16] {
        if self.gentle { &GENTLE } else { &PLAIN }
    }

    /// When the next probe is due; none: all have been sent.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.steps().get(self.step).map(|after| self.began + Duration::from_millis((*after).into()))
    }

    /// Takes the probe that is due, if one is: how many hops it lives.
    pub(super) fn take(&mut self, now: Instant) -> Option<Option<u8>> {
        if self.next_at().is_none_or(|at| at > now) {
            return None;
        }
        let few = self.gentle && self.step < GENTLE_SHORT;
        self.step += 1;
        Some(few.then_some(FEW_HOPS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn the_first_probes_into_the_wide_network_live_few_hops() {
        let now = testing::now();
        let mut burst = Burst::new(now, true);
        let mut hops = Vec::new();
        let mut at = now;
        while let Some(next) = burst.next_at() {
            at = next;
            assert_eq!(burst.take(at - Duration::from_micros(1)), None);
            hops.push(burst.take(at).unwrap());
        }
        assert_eq!(hops[..3], [Some(FEW_HOPS); 3]);
        assert_eq!(hops[3..], [None; 6]);
        assert_eq!(at, now + Duration::from_millis(3_100));
        assert_eq!(Burst::new(now, false).take(now), Some(None));
    }
}
