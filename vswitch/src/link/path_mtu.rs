//! How large a datagram the path takes: searched with probes that the peer confirms (RFC 8899, DPLPMTUD).
//!
//! ```text
//!            start / lost                 all answered or tried            gap ≤ STEP
//!   base ───────────────▶ sweep(sizes) ───────────────────▶ bisect ───────────────────▶ settled
//!    ▲                                                                                      │ every RAISE_AFTER: sweep
//!    └──── black hole: VERIFY_TRIES verifications of the size in use lost ◀────────────────┘ while large ones are sent
//! ```
//! - Data is sent at [`BASE`] until something larger is confirmed; hence nothing is ever silently too large.
//! - Probes are sealed datagrams of the probed size with "don't fragment" set; a confirmation is sealed too, so nobody beside the
//!   path can raise or lower anything. Messages of routers ("packet too big") are not needed and not trusted.
//! - Losing a probe says little, so each size is tried [`TRIES`] times.
//! - While large datagrams are being sent, the size in use is verified every [`VERIFY_EVERY`]; a path that became narrower is found
//!   within that and [`VERIFY_TRIES`] more waits.

use std::time::{Duration, Instant};

/// Bytes of UDP payload that every path takes: 1280 (the least of IPv6), its header, UDP's, and room for a tunnel below.
pub(crate) const BASE: u16 = 1200;
/// The first sweep: usual paths less the headers of IPv6 or IPv4 and UDP (1280, 1400, PPPoE, tunnels, 1500).
const COMMON: [u16; 8] = [1232, 1252, 1352, 1372, 1412, 1432, 1452, 1472];
/// What most paths take: Ethernet's 1500 less the headers of IPv4 and UDP.
pub(super) const USUAL: usize = 1472;
/// The second sweep, if the first reached its end: jumbo frames of 4352, 9000 and 9216 less the headers.
const JUMBO: [u16; 5] = [4304, 4324, 8952, 8972, 9188];
/// The largest size that is ever probed.
pub(crate) const LARGEST: u16 = JUMBO[JUMBO.len() - 1];
/// The search ends when less than this can be gained: under 1 % of a full datagram.
const STEP: u16 = 12;
/// How often a size is tried before it counts as too large.
const TRIES: u8 = 3;
/// How long until the search is repeated (RFC 8899 section 5.1.1, PMTU_RAISE_TIMER).
const RAISE_AFTER: Duration = Duration::from_secs(600);
/// How often the size in use is verified while it is used.
const VERIFY_EVERY: Duration = Duration::from_secs(4);
/// Lost verifications in a row that mean a black hole.
const VERIFY_TRIES: u8 = 3;
/// How long a probe may take at least, whatever the round trip.
const WAIT_MIN: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Probes of these sizes are out; the deadline ends the round.
    Sweep { sizes: &'static [u16], tries: u8, deadline: Instant },
    /// One size between what is confirmed and `too_large` is out.
    Bisect { size: u16, too_large: u16, tries: u8, deadline: Instant },
    /// Nothing is searched.
    Settled { raise_at: Instant },
}

#[derive(Debug, Clone, Copy)]
struct Verification {
    tries: u8,
    deadline: Instant,
}

/// The search over the path of one link.
#[derive(Debug)]
pub(super) struct PathMtu {
    confirmed: u16,
    /// Never probed above it: what the driver's configuration or the local interface allows.
    limit: u16,
    phase: Phase,
    verification: Option<Verification>,
    verified_at: Instant,
    large_sent: u64,
}

/// What the search did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    None,
    /// Another size is to be used for data.
    Size,
}

impl PathMtu {
    /// Before the first session: data at the base, no search.
    pub(super) fn new(now: Instant, limit: u16) -> Self {
        Self {
            confirmed: BASE,
            limit: limit.clamp(BASE, LARGEST),
            phase: Phase::Settled { raise_at: now },
            verification: None,
            verified_at: now,
            large_sent: 0,
        }
    }

    /// The size for data.
    pub(super) fn datagram_bytes(&self) -> u16 {
        self.confirmed
    }

    /// Searches anew: a new path, or the old one has failed.
    pub(super) fn restart(&mut self, now: Instant) {
        self.confirmed = BASE;
        self.verification = None;
        self.verified_at = now;
        self.phase = Phase::Settled { raise_at: now };
    }

    /// The local interface refused a datagram of this size.
    pub(super) fn too_large_here(&mut self, now: Instant, size: u16) -> Change {
        if size > self.confirmed {
            return Change::None;
        }
        self.restart(now);
        Change::Size
    }

    /// The peer saw a probe of this size.
    pub(super) fn seen(&mut self, now: Instant, size: u16) -> Change {
        if size >= self.confirmed {
            self.verification = None;
            self.verified_at = now;
        }
        if size <= self.confirmed || size > self.limit {
            return Change::None;
        }
        self.confirmed = size;
        match self.phase {
            Phase::Sweep { sizes, .. } if self.sizes(sizes).all(|open| open <= size) => {
                self.sweep_done(now, sizes, None)
            }
            Phase::Bisect { too_large, .. } if size < too_large => self.bisect(now, too_large),
            Phase::Sweep { .. } | Phase::Bisect { .. } | Phase::Settled { .. } => {}
        }
        Change::Size
    }

    /// Sends what is due: `probe` is called with each size. `wait` is how long an answer may take, `large_sent` how many datagrams
    /// above the base were sent so far.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        round_trip: Option<Duration>,
        large_sent: u64,
        mut probe: impl FnMut(u16),
    ) -> Change {
        let deadline = now + round_trip.map_or(WAIT_MIN * 2, |rtt| (rtt * 2).max(WAIT_MIN));
        let mut change = Change::None;
        if let Some(Verification { tries, deadline: due }) = self.verification
            && due <= now
        {
            if tries >= VERIFY_TRIES {
                self.restart(now);
                change = Change::Size;
            } else {
                probe(self.confirmed);
                self.verification = Some(Verification { tries: tries + 1, deadline });
            }
        } else if self.verification.is_none()
            && self.confirmed > BASE
            && now >= self.verified_at + VERIFY_EVERY
        {
            if large_sent == self.large_sent {
                // Nothing depends on it now.
                self.verified_at = now;
            } else {
                self.large_sent = large_sent;
                probe(self.confirmed);
                self.verification = Some(Verification { tries: 1, deadline });
            }
        }
        match self.phase {
            Phase::Settled { raise_at } if raise_at <= now => {
                let sizes = if self.confirmed < COMMON[COMMON.len() - 1] { &COMMON[..] } else { &JUMBO[..] };
                self.sweep(sizes, 1, deadline, &mut probe);
            }
            Phase::Sweep { sizes, tries, deadline: due } if due <= now => {
                if tries < TRIES && self.sizes(sizes).any(|size| size > self.confirmed) {
                    self.sweep(sizes, tries + 1, deadline, &mut probe);
                } else {
                    let too_large = self.sizes(sizes).find(|size| *size > self.confirmed);
                    self.sweep_done(now, sizes, too_large);
                }
            }
            Phase::Bisect { size, too_large, tries, deadline: due } if due <= now => {
                if tries < TRIES {
                    probe(size);
                    self.phase = Phase::Bisect { size, too_large, tries: tries + 1, deadline };
                } else {
                    self.bisect(now, size);
                }
            }
            Phase::Settled { .. } | Phase::Sweep { .. } | Phase::Bisect { .. } => {}
        }
        change
    }

    /// When [`Self::handle_timeout`] has something to do, at the latest.
    pub(super) fn poll_timeout(&self) -> Instant {
        let phase = match self.phase {
            Phase::Settled { raise_at } => raise_at,
            Phase::Sweep { deadline, .. } | Phase::Bisect { deadline, .. } => deadline,
        };
        let verify = match self.verification {
            Some(Verification { deadline, .. }) => deadline,
            None if self.confirmed > BASE => self.verified_at + VERIFY_EVERY,
            None => phase,
        };
        phase.min(verify)
    }

    fn sizes(&self, sizes: &'static [u16]) -> impl Iterator<Item = u16> + use<> {
        let limit = self.limit;
        sizes.iter().copied().filter(move |size| *size <= limit)
    }

    fn sweep(&mut self, sizes: &'static [u16], tries: u8, deadline: Instant, probe: &mut impl FnMut(u16)) {
        let confirmed = self.confirmed;
        self.sizes(sizes).filter(|size| *size > confirmed).for_each(probe);
        self.phase = Phase::Sweep { sizes, tries, deadline };
    }

    fn sweep_done(&mut self, now: Instant, sizes: &'static [u16], too_large: Option<u16>) {
        match too_large {
            Some(too_large) => self.bisect(now, too_large),
            None if sizes[0] == COMMON[0] && self.limit > COMMON[COMMON.len() - 1] => {
                self.phase = Phase::Sweep { sizes: &JUMBO, tries: 0, deadline: now };
            }
            None => self.bisect(now, self.limit.saturating_add(1)),
        }
    }

    fn bisect(&mut self, now: Instant, too_large: u16) {
        let gap = too_large.saturating_sub(self.confirmed);
        self.phase = if gap <= STEP {
            Phase::Settled { raise_at: now + RAISE_AFTER }
        } else {
            Phase::Bisect { size: self.confirmed + gap / 2, too_large, tries: 0, deadline: now }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    /// Runs the search over a path that takes up to `path` bytes and loses each `lose`-th probe; gives the size and probes sent.
    fn search(mtu: &mut PathMtu, mut now: Instant, path: u16, lose: usize) -> (Instant, u16, usize) {
        let mut sent = 0;
        for _ in 0..300 {
            now = now.max(mtu.poll_timeout());
            let mut probes = Vec::new();
            mtu.handle_timeout(now, Some(Duration::from_millis(50)), 0, |size| probes.push(size));
            for size in probes {
                sent += 1;
                if size <= path && sent % lose != 0 {
                    mtu.seen(now + Duration::from_millis(50), size);
                }
            }
            if matches!(mtu.phase, Phase::Settled { .. }) {
                break;
            }
        }
        (now, mtu.datagram_bytes(), sent)
    }

    #[test]
    fn finds_what_the_path_takes_within_a_step() {
        let now = testing::now();
        for path in [1200, 1201, 1232, 1252, 1300, 1400, 1472, 1473, 1500, 4000, 8972, 9188, 65000] {
            for lose in [usize::MAX, 7, 5] {
                let mut mtu = PathMtu::new(now, u16::MAX);
                let (_, found, sent) = search(&mut mtu, now, path, lose);
                assert!(found <= path, "{found} over a path of {path}");
                if lose == usize::MAX {
                    assert!(found + STEP >= path.min(LARGEST), "{found} over a path of {path}");
                }
                assert!(sent < 90, "{sent} probes over a path of {path}");
            }
        }
    }

    #[test]
    fn usual_paths_are_found_in_one_round() {
        let now = testing::now();
        for path in COMMON {
            let mut mtu = PathMtu::new(now, 1472);
            let mut probes = Vec::new();
            mtu.handle_timeout(now, None, 0, |size| probes.push(size));
            for size in probes.into_iter().filter(|size| *size <= path) {
                mtu.seen(now, size);
            }
            assert_eq!(mtu.datagram_bytes(), path);
        }
    }

    #[test]
    fn never_probes_above_the_limit() {
        let now = testing::now();
        let mut mtu = PathMtu::new(now, 1400);
        let (_, found, _) = search(&mut mtu, now, u16::MAX, usize::MAX);
        assert!((1400 - STEP..=1400).contains(&found), "{found}");
        assert_eq!(mtu.seen(now, 1401), Change::None);
    }

    #[test]
    fn a_black_hole_is_found_while_large_datagrams_are_sent_and_only_then() {
        let now = testing::now();
        let mut mtu = PathMtu::new(now, 1472);
        let (mut now, found, _) = search(&mut mtu, now, 1472, usize::MAX);
        assert_eq!(found, 1472);
        // Nothing large is sent: nothing is verified.
        now += Duration::from_secs(60);
        mtu.handle_timeout(now, None, 0, |_| panic!("nothing to probe"));
        let start = now;
        let mut probes = Vec::new();
        while mtu.datagram_bytes() != BASE {
            mtu.handle_timeout(now, None, 9, |size| probes.push(size));
            now = now.max(mtu.poll_timeout()) + Duration::from_millis(1);
            assert!(now < start + VERIFY_EVERY + Duration::from_secs(3), "not found");
        }
        assert_eq!(probes[..3], [1472; 3]);
        let (_, found, _) = search(&mut mtu, now, 1400, usize::MAX);
        assert!((1388..=1400).contains(&found), "{found}");
    }

    #[test]
    fn one_lost_verification_changes_nothing() {
        let now = testing::now();
        let mut mtu = PathMtu::new(now, 1472);
        let (now, ..) = search(&mut mtu, now, 1472, usize::MAX);
        let mut at = now + VERIFY_EVERY;
        let mut sent = 0;
        while sent < 2 {
            mtu.handle_timeout(at, None, 1, |_| sent += 1);
            at += WAIT_MIN * 2;
        }
        mtu.seen(at, 1472);
        mtu.handle_timeout(at + WAIT_MIN * 3, None, 1, |_| panic!("verified already"));
        assert_eq!(mtu.datagram_bytes(), 1472);
    }

    #[test]
    fn a_refusal_of_the_local_interface_falls_back_at_once() {
        let now = testing::now();
        let mut mtu = PathMtu::new(now, 1472);
        mtu.handle_timeout(now, None, 0, |_| ());
        mtu.seen(now, 1472);
        assert_eq!(mtu.too_large_here(now, 1472), Change::Size);
        assert_eq!(mtu.datagram_bytes(), BASE);
        assert_eq!(mtu.too_large_here(now, 1472), Change::None, "a late report");
    }
}
