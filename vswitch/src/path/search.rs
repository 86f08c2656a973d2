//! Port search: a way between a host whose NAT gives each destination another port (hard) and one whose NAT does not (easy).
//!
//! The hard side sends from [`SOCKETS`] sockets to the easy side's address, so its NAT opens as many ports; the easy side probes ports of the hard side's
//! outside address, those that the NAT's pattern makes likely first, then all the others in an order of its own. By the birthday rule
//! one of the open ports is met after some 160 probes in the middle (measured with 256 sockets: 8 of 8 runs, 8 to 954 probes;
//! `notes/control-plane.md` section 3).
//!
//! What the hard side sends need not arrive: it opens the way for what the easy side sends, and where the easy side's NAT takes early datagrams for its own
//! ([`super::schedule`]) each that arrives spoils a port. So its probes live as many hops as its own NAT needs: one at home in the first round, one that a
//! carrier adds in the second; only then the whole way, for NATs that stand further out.
//!
//! # The budget
//! A volunteer's router must not suffer: at most [`PROBES_PER_SECOND`] probes a second, at most [`MAPPINGS_MAX`] mappings (the hard side's sockets; the easy side
//! uses one), at most [`TIME_MAX`], and one search of a host at a time. A host that slept catches up with [`BEHIND_MAX`] at most, and never beyond the rate: it is
//! held over any second, not from one probe to the next. A NAT keeps a mapping for two minutes (RFC 4787, REQ-5) though its socket is closed: the
//! host's searches together open [`MAPPINGS_PER_SECOND`] in the long run. One that cannot begin is put off, and its ends meet again when its turn comes.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use super::{nat::PortPattern, schedule::FEW_HOPS, via::SocketId};
use crate::{entropy::Entropy, switch::PeerIndex};

/// Probes a second of one search.
pub(super) const PROBES_PER_SECOND: u32 = 100;
/// Mappings one search may open at a NAT. The few that [`SOCKETS`] leaves are for the main socket.
pub(super) const MAPPINGS_MAX: u32 = 300;
/// Mappings all searches may open in the long run. In the two minutes that a NAT keeps them that makes, with one search's, fewer than the thousand that carriers
/// allow a customer.
pub(super) const MAPPINGS_PER_SECOND: u32 = 4;
/// Sockets of the hard side: nearly half a per cent of all ports.
pub(super) const SOCKETS: u16 = 288;
/// After this a search has found its way but for one in a thousand, or will not.
pub(super) const TIME_MAX: Duration = Duration::from_secs(20);
/// Hops of the hard side's second round: past a carrier's NAT behind the one at home.
const MORE_HOPS: u8 = FEW_HOPS + 1;
/// What is made up for of time that was slept through: a busy host's usual pause, and no more datagrams at once than a router has room for.
const BEHIND_MAX: Duration = Duration::from_millis(200);
/// Likely ports that are tried before the others, pass by pass: in the first the hard side may not have opened them yet, and the nearest are the likeliest.
const LIKELY: [i32; 4] = [16, 32, 64, 64];
/// The first port a NAT gives (RFC 4787 REQ-3 keeps the well-known ones apart).
const PORT_FIRST: u16 = 1024;
const PORTS: u32 = 65_536 - PORT_FIRST as u32;

/// Between two probes.
const STEP: Duration = Duration::from_millis(1_000 / PROBES_PER_SECOND as u64);
const PROBES_IN_A_SECOND: usize = PROBES_PER_SECOND as usize;

const _: () = assert!(SOCKETS as u32 <= MAPPINGS_MAX);

/// Which part a host has in a search.
#[derive(Debug)]
pub(super) enum Side {
    /// Probes ports of this address.
    Easy { address: IpAddr, ports: PortPattern, likely: Vec<u16>, guessed: u32, start: u32, stride: u32 },
    /// Probes this address from many sockets.
    Hard { target: SocketAddr, sockets: Vec<SocketId>, turn: usize },
}

/// One search.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) peer: PeerIndex,
    side: Side,
    ends: Instant,
    /// When the next is due by the rate; time that was slept through is owed, as long as it is not longer than [`BEHIND_MAX`].
    next: Instant,
    /// When the probes of the last second went out.
    recent: VecDeque<Instant>,
}

/// What a search does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// A probe to there, from this socket; it lives so many hops, if that is said.
    Probe(SocketId, SocketAddr, Option<u8>),
    /// A new socket is needed; then [`Search::opened`]. Its probe lives so many hops.
    Open(SocketAddr, u8),
}

impl Search {
    /// The easy side's part.
    pub(super) fn easy(
        now: Instant,
        peer: PeerIndex,
        address: IpAddr,
        ports: PortPattern,
        known: &[u16],
        entropy: &mut Entropy,
    ) -> Self {
        let likely = likely(ports, known);
        // Any odd stride that does not share a factor with the number of ports visits each once: PORTS is 2^10 · 3^2 · 7.
        let stride = loop {
            let stride = entropy.below(PORTS) | 1;
            if !stride.is_multiple_of(3) && !stride.is_multiple_of(7) {
                break stride;
            }
        };
        let side = Side::Easy { address, ports, likely, guessed: 0, start: entropy.below(PORTS), stride };
        Self::new(now, peer, side)
    }

    /// The hard side's part.
    pub(super) fn hard(now: Instant, peer: PeerIndex, target: SocketAddr) -> Self {
        let side = Side::Hard { target, sockets: Vec::new(), turn: 0 };
        Self::new(now, peer, side)
    }

    fn new(now: Instant, peer: PeerIndex, side: Side) -> Self {
        Self { peer, side, ends: now + TIME_MAX, next: now, recent: VecDeque::new() }
    }

    /// What is known of the hard side's ports now, if this is the easy side.
    pub(super) fn hint(&mut self, ports: PortPattern) {
        if let Side::Easy { ports: known, likely, .. } = &mut self.side
            && matches!(ports, PortPattern::Sequential { .. })
            && ports != *known
        {
            *known = ports;
            *likely = self::likely(ports, &[]);
        }
    }

    /// When [`Self::take`] has something.
    pub(super) fn next_at(&self) -> Instant {
        self.allowed_at().min(self.ends)
    }

    /// When the next one is due and no second would see too many. What the last second holds up stays due: a probe that went out late keeps the same place of the
    /// next second waiting, and if each such wait moved all that follow, the rate would be lower by the latest of every second.
    fn allowed_at(&self) -> Instant {
        let full = self.recent.len() >= PROBES_IN_A_SECOND;
        let free = self.recent.front().filter(|_| full).map(|oldest| *oldest + Duration::from_secs(1));
        free.map_or(self.next, |free| free.max(self.next))
    }

    pub(super) fn over(&self, now: Instant) -> bool {
        now >= self.ends
    }

    /// Other probes went out meanwhile; the rate is for all.
    pub(super) fn put_off(&mut self, now: Instant, probes: u32) {
        self.next += STEP * probes;
        for _ in 0..probes.min(PROBES_PER_SECOND) {
            self.sent(now);
        }
    }

    fn sent(&mut self, now: Instant) {
        if self.recent.len() >= PROBES_IN_A_SECOND {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
    }

    /// What is to be done now.
    pub(super) fn take(&mut self, now: Instant) -> Option<Act> {
        if self.allowed_at() > now || self.over(now) {
            return None;
        }
        self.sent(now);
        self.next = (self.next + STEP).max(now.checked_sub(BEHIND_MAX).unwrap_or(now));
        match &mut self.side {
            Side::Easy { address, likely, guessed, start, stride, .. } => {
                let port = match likely.pop() {
                    Some(port) => port,
                    None => {
                        let place =
                            (u64::from(*start) + u64::from(*guessed) * u64::from(*stride)) % u64::from(PORTS);
                        *guessed += 1;
                        PORT_FIRST + u16::try_from(place).expect("below PORTS")
                    }
                };
                Some(Act::Probe(SocketId::MAIN, SocketAddr::new(*address, port), None))
            }
            Side::Hard { target, sockets, .. } if sockets.len() < usize::from(SOCKETS) => {
                Some(Act::Open(*target, FEW_HOPS))
            }
            // Each once more, and then in turn: a quarter of the rate keeps them all open.
            Side::Hard { target, sockets, turn, .. } => {
                let is_second = *turn < sockets.len();
                if !is_second {
                    self.next = now + STEP * 4;
                }
                let socket = *sockets.get(*turn % sockets.len().max(1))?;
                *turn += 1;
                Some(Act::Probe(socket, *target, is_second.then_some(MORE_HOPS)))
            }
        }
    }

    /// A socket was opened for [`Act::Open`]; the probe goes out with it.
    pub(super) fn opened(&mut self, socket: SocketId) {
        if let Side::Hard { sockets, .. } = &mut self.side {
            sockets.push(socket);
        }
    }

    /// The sockets to be closed, but for those in use.
    pub(super) fn into_sockets(self) -> Vec<SocketId> {
        match self.side {
            Side::Easy { .. } => Vec::new(),
            Side::Hard { sockets, .. } => sockets,
        }
    }
}

/// Ports that are more likely than others, the likeliest last.
fn likely(ports: PortPattern, known: &[u16]) -> Vec<u16> {
    let following = |count| {
        let next = move |last: u16, step: i16| {
            (1..=count).filter_map(move |turn| u16::try_from(i32::from(last) + i32::from(step) * turn).ok())
        };
        match ports {
            PortPattern::Sequential { last, step } => Some(next(last, step)),
            PortPattern::Preserving | PortPattern::Random => None,
        }
    };
    // Where ports are drawn at random, those that are known are no likelier than others a second time.
    let passes = if ports == PortPattern::Random { &LIKELY[..1] } else { &LIKELY[..] };
    let passes = passes.iter().flat_map(|count| {
        following(*count).into_iter().flatten().chain(known.iter().copied()).collect::<Vec<u16>>()
    });
    let mut likely: Vec<u16> = passes.filter(|port| *port >= PORT_FIRST).collect();
    likely.reverse();
    likely
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::testing;

    fn ports(search: &mut Search, now: Instant, seconds: u64) -> Vec<u16> {
        let (mut at, end, mut ports) = (now, now + Duration::from_secs(seconds), Vec::new());
        while at < end {
            if let Some(Act::Probe(SocketId::MAIN, address, None)) = search.take(at) {
                ports.push(address.port());
            }
            at += Duration::from_millis(1);
        }
        ports
    }

    #[test]
    fn the_easy_side_guesses_no_port_twice_and_keeps_its_rate_and_time() {
        let now = testing::now();
        let mut entropy = Entropy::new([4; 32]);
        let address = "198.51.100.1".parse().unwrap();
        let mut search = Search::easy(now, testing::peer(1), address, PortPattern::Random, &[], &mut entropy);
        let guessed = ports(&mut search, now, 30);
        assert_eq!(guessed.len(), 2000);
        assert_eq!(guessed.iter().collect::<BTreeSet<_>>().len(), guessed.len());
        assert!(search.over(now + TIME_MAX));
    }

    #[test]
    fn likely_ports_go_first() {
        let now = testing::now();
        let mut entropy = Entropy::new([4; 32]);
        let address = "198.51.100.1".parse().unwrap();
        let pattern = PortPattern::Sequential { last: 5000, step: 2 };
        let mut search = Search::easy(now, testing::peer(1), address, pattern, &[7441], &mut entropy);
        let guessed = ports(&mut search, now, 2);
        assert_eq!(guessed[..4], [5002, 5004, 5006, 5008]);
        // By then the hard side has opened them.
        assert_eq!(guessed[16..21], [7441, 5002, 5004, 5006, 5008]);
    }

    #[test]
    fn ports_that_become_known_meanwhile_go_before_those_that_are_left() {
        let now = testing::now();
        let mut entropy = Entropy::new([4; 32]);
        let address = "198.51.100.1".parse().unwrap();
        let mut search = Search::easy(now, testing::peer(1), address, PortPattern::Random, &[], &mut entropy);
        ports(&mut search, now, 1);
        search.hint(PortPattern::Sequential { last: 5000, step: 1 });
        assert_eq!(ports(&mut search, now + Duration::from_secs(1), 1)[..2], [5001, 5002]);
    }

    #[test]
    fn sleep_is_made_up_for_within_the_rate_of_any_second() {
        let now = testing::now();
        let mut entropy = Entropy::new([4; 32]);
        let address = "198.51.100.1".parse().unwrap();
        let mut search = Search::easy(now, testing::peer(1), address, PortPattern::Random, &[], &mut entropy);
        // It wakes every 90 ms only, once after a second.
        let (mut at, mut sent) = (now, Vec::new());
        for turn in 0..100 {
            at += Duration::from_millis(if turn == 50 { 1_000 } else { 90 });
            let before = sent.len();
            while search.take(at).is_some() {
                sent.push(at);
            }
            assert!(sent.len() - before <= 22, "{} at once", sent.len() - before);
        }
        for (last, one) in sent.iter().enumerate() {
            let within = sent[..=last].iter().filter(|other| **other + Duration::from_secs(1) > *one).count();
            assert!(within <= PROBES_IN_A_SECOND, "{within} in a second");
        }
        let seconds = (at - now).as_secs_f64();
        assert!(f64::from(u32::try_from(sent.len()).unwrap()) > (seconds - 1.5) * 95.0, "{}", sent.len());
    }

    #[test]
    fn the_rate_is_kept_though_every_probe_is_late() {
        let now = testing::now();
        let mut entropy = Entropy::new([4; 32]);
        let address = "198.51.100.1".parse().unwrap();
        let mut search = Search::easy(now, testing::peer(1), address, PortPattern::Random, &[], &mut entropy);
        let mut sent = 0_u32;
        // As on a busy computer: seldom much, mostly a little.
        while !search.over(search.next_at()) {
            let late = if entropy.below(10) == 0 { entropy.below(80) } else { entropy.below(4) };
            let at = search.next_at() + Duration::from_millis(late.into());
            while search.take(at).is_some() {
                sent += 1;
            }
        }
        assert!(sent >= 20 * PROBES_PER_SECOND * 96 / 100, "{sent} in 20 s");
    }

    #[test]
    fn the_hard_side_opens_its_sockets_within_the_rate_and_no_more() {
        let now = testing::now();
        let target = "192.0.2.1:9".parse().unwrap();
        let mut search = Search::hard(now, testing::peer(1), target);
        let (mut at, mut opened, mut probes) = (now, 0_u16, 0_u32);
        while at < now + TIME_MAX {
            match search.take(at) {
                Some(Act::Open(to, FEW_HOPS)) => {
                    assert_eq!(to, target);
                    opened += 1;
                    search.opened(SocketId(opened));
                }
                Some(Act::Probe(socket, _, hops)) => {
                    assert!((1..=opened).contains(&socket.0));
                    let round = probes / u32::from(SOCKETS);
                    assert_eq!(
                        hops,
                        (round == 0).then_some(MORE_HOPS),
                        "the first to arrive are the last to go"
                    );
                    probes += 1;
                }
                Some(other) => panic!("{other:?}"),
                None => {}
            }
            at += Duration::from_millis(1);
        }
        assert_eq!(opened, SOCKETS);
        assert!(probes + u32::from(opened) <= 20 * PROBES_PER_SECOND);
        assert_eq!(search.into_sockets().len(), usize::from(SOCKETS));
    }
}
