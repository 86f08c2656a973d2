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
//!
//! However long it is, somewhere a message takes longer. So it doubles with each round in which nothing was answered, up to eight seconds; and since what was spoiled
//! stays so, such a round is made from another port ([`super::fresh`]). A host whose own NAT gives each destination another port need not be gentle: nobody
//! waits for it on the port that it would spoil.

use std::time::{Duration, Instant};

/// Hops the first probes live: past the router at home, seldom as far as the other end's.
pub(crate) const FEW_HOPS: u8 = 2;
const GENTLE: [u16; 9] = [0, 40, 120, 250, 350, 550, 950, 1750, 3100];
/// Of [`GENTLE`], those with few hops to live.
const GENTLE_SHORT: usize = 3;
const PLAIN: [u16; 6] = [0, 100, 300, 700, 1500, 3000];

/// The pause before the others is doubled so often at most.
const DOUBLED_MAX: u32 = 5;

/// How a round of probes goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Nothing can be spoiled.
    Plain,
    /// The way leads through the wide network, nothing has come by it lately, and so many rounds before were in vain.
    Gentle { in_vain: u32 },
}

/// What the pause before the first long-lived probe is longer by after so many rounds in vain.
pub(super) fn more_pause(in_vain: u32) -> Duration {
    let pause = Duration::from_millis(GENTLE[GENTLE_SHORT].into());
    pause * (2_u32.pow(in_vain.min(DOUBLED_MAX)) - 1)
}

/// One round of probes of one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Burst {
    began: Instant,
    manner: Manner,
    step: usize,
}

impl Burst {
    pub(super) fn new(now: Instant, manner: Manner) -> Self {
        Self { began: now, manner, step: 0 }
    }

    /// When the next probe is due; none: all have been sent.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let (steps, more) = match self.manner {
            Manner::Plain => (&PLAIN[..], Duration::ZERO),
            Manner::Gentle { .. } if self.step < GENTLE_SHORT => (&GENTLE[..], Duration::ZERO),
            Manner::Gentle { in_vain } => (&GENTLE[..], more_pause(in_vain)),
        };
        steps.get(self.step).map(|after| self.began + Duration::from_millis((*after).into()) + more)
    }

    /// Takes the probe that is due, if one is: how many hops it lives.
    pub(super) fn take(&mut self, now: Instant) -> Option<Option<u8>> {
        if self.next_at().is_none_or(|at| at > now) {
            return None;
        }
        let few = self.manner != Manner::Plain && self.step < GENTLE_SHORT;
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
        let mut burst = Burst::new(now, Manner::Gentle { in_vain: 0 });
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
        assert_eq!(Burst::new(now, Manner::Plain).take(now), Some(None));
    }

    #[test]
    fn each_round_in_vain_doubles_the_pause_before_the_probes_that_arrive() {
        let now = testing::now();
        for (in_vain, pause) in
            [(0, 250), (1, 500), (2, 1_000), (3, 2_000), (4, 4_000), (5, 8_000), (9, 8_000)]
        {
            let mut burst = Burst::new(now, Manner::Gentle { in_vain });
            let (mut at, mut first) = (now, None);
            while let Some(next) = burst.next_at() {
                at = at.max(next);
                if burst.take(at) == Some(None) && first.is_none() {
                    first = Some(at);
                }
            }
            assert_eq!(first, Some(now + Duration::from_millis(pause)));
        }
    }
}
