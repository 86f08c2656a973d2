//! This host's own side: its addresses, what members see of it, the members that are asked, the interval of keep-alives.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, VecDeque},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use super::{
    keepalive::Interval,
    local::LocalPaths,
    nat::{NatKind, NatView, PortPattern, Seen, classify, newest_of_each, sequence},
};
use crate::{HostId, switch::PeerIndex};

/// Addresses of this host that are kept: a few interfaces with both families.
const LOCAL_MAX: usize = 32;
/// Ports mapped at routers that are kept.
const MAPPED_MAX: usize = 4;
/// Members that are asked what they see: two tell the kinds of NAT apart, more outlive members that leave.
const OBSERVERS_MAX: usize = 4;
/// Observations kept: some of each observer, and of peers.
const SEEN_MAX: usize = 32;
/// An observation that was not repeated for this long says nothing any more.
const SEEN_FOR: Duration = Duration::from_secs(180);
/// Until observers are asked again while the kind of the NAT is not known.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// The same in a network that this host has just come to, doubled each time: its routes may not be there yet.
const ASK_ANEW: Duration = Duration::from_millis(60);
/// Rounds of questions at that pace; one observer alone never tells the kind of a NAT.
const QUICK_ROUNDS: u32 = 8;
/// Rounds in which no observer answered, after which UDP is taken for blocked.
const BLOCKED_AFTER: u32 = 5;
/// Between two news of changed candidates, so that a flapping interface does not flood the overlay.
const NEWS_PAUSE: Duration = Duration::from_millis(250);
/// What news wait for, one address that goes and one that comes being one change, and what the first members see of it: peers may not reach this host meanwhile.
const GATHERED: Duration = Duration::from_millis(30);

#[derive(Debug)]
struct Observation {
    at: Instant,
    by: HostId,
    seen: Seen,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Own {
    local: Vec<SocketAddr>,
    mapped: Vec<SocketAddr>,
    observers: Vec<PeerIndex>,
    ask_at: Instant,
    asked_at: Option<Instant>,
    /// When the addresses became those they are, and the pause after the next question while nobody has answered since.
    moved_at: Instant,
    anew: Duration,
    silent_rounds: u32,
    rounds: u32,
    seen: VecDeque<Observation>,
    /// What members saw of a socket that was new, and which ports come next by that.
    fresh: Option<(SocketAddr, HostId)>,
    next_ports: Option<PortPattern>,
    pub(super) interval: Interval,
    told: LocalPaths,
    told_at: Option<Instant>,
    news_at: Option<Instant>,
}

impl Own {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            local: Vec::new(),
            mapped: Vec::new(),
            observers: Vec::new(),
            ask_at: now,
            asked_at: None,
            moved_at: now,
            anew: ASK_AGAIN,
            silent_rounds: 0,
            rounds: 0,
            seen: VecDeque::new(),
            fresh: None,
            next_ports: None,
            interval: Interval::default(),
            told: LocalPaths::default(),
            told_at: None,
            news_at: None,
        }
    }

    /// The addresses of the interfaces, as the driver finds them; true if they are others than before.
    pub(super) fn set_local(&mut self, now: Instant, mut local: Vec<SocketAddr>) -> bool {
        local.truncate(LOCAL_MAX);
        if local == self.local {
            return false;
        }
        self.local = local;
        // What was seen of the old addresses says nothing of the new.
        self.seen.clear();
        (self.fresh, self.next_ports) = (None, None);
        (self.silent_rounds, self.rounds) = (0, 0);
        (self.ask_at, self.moved_at, self.anew) = (now, now, ASK_ANEW);
        self.changed(now);
        true
    }

    pub(super) fn set_mapped(&mut self, now: Instant, mut mapped: Vec<SocketAddr>) {
        mapped.truncate(MAPPED_MAX);
        self.mapped = mapped;
        self.changed(now);
    }

    pub(super) fn set_observers(&mut self, now: Instant, mut observers: Vec<PeerIndex>) {
        observers.truncate(OBSERVERS_MAX);
        if observers != self.observers {
            self.observers = observers;
            // That none of the others answered is not forgotten: one answer of these is what shows that UDP passes.
            if self.silent_rounds <= BLOCKED_AFTER {
                self.silent_rounds = 0;
            }
            self.rounds = 0;
            self.ask_at = now;
        }
    }

    /// Those to ask now, if it is time.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<PeerIndex> {
        if self.observers.is_empty() || self.ask_at > now {
            return Vec::new();
        }
        self.asked_at = Some(now);
        self.seen.retain(|old| old.at + SEEN_FOR > now);
        if self.anew < ASK_AGAIN / 2 {
            // All of these together are one round.
            self.silent_rounds = 1;
            self.ask_at = now + self.anew;
            self.anew *= 2;
            return self.observers.clone();
        }
        let answered = self.seen.iter().any(|seen| seen.at + self.interval.get() * 2 > now);
        self.silent_rounds = if answered { 0 } else { self.silent_rounds.saturating_add(1) };
        let known = self.nat().kind != NatKind::Unknown && answered;
        self.rounds = self.rounds.saturating_add(1);
        let patient = known || self.rounds > QUICK_ROUNDS;
        self.ask_at = now + if patient { self.interval.get() } else { ASK_AGAIN };
        self.changed(now);
        self.observers.clone()
    }

    /// What is sent to a peer is not answered: it may be this host that is elsewhere, as where its router was given another address.
    pub(super) fn ask_soon(&mut self, now: Instant) {
        let soonest = self.asked_at.map_or(now, |asked| now.max(asked + ASK_AGAIN));
        self.ask_at = self.ask_at.min(soonest);
    }

    /// Whether this host was where it is now at that time: ways that worked before that say nothing.
    pub(super) fn was_here(&self, at: Instant) -> bool {
        at >= self.moved_at
    }

    /// A reply says from where a probe of the main socket came.
    pub(super) fn note(&mut self, now: Instant, by: HostId, seen: Seen) {
        // Nobody else sees a loopback address: it is the end of a stream of the control plane, before that is known to be one.
        if seen.outside.ip().is_loopback() && !self.local.iter().any(|own| own.ip().is_loopback()) {
            return;
        }
        let before = self.seen.iter().rev().find(|old| old.by == by && old.seen.target == seen.target);
        if let Some(before) = before
            && now.saturating_duration_since(before.at) * 4 >= self.interval.get() * 3
        {
            if before.seen.outside == seen.outside { self.interval.kept() } else { self.interval.forgotten() }
        }
        self.seen.retain(|old| old.by != by || old.seen != seen);
        if self.seen.len() == SEEN_MAX {
            self.seen.pop_front();
        }
        self.seen.push_back(Observation { at: now, by, seen });
        self.silent_rounds = 0;
        self.anew = ASK_AGAIN;
        self.changed(now);
    }

    /// Members that are asked.
    pub(super) fn observers(&self) -> &[PeerIndex] {
        &self.observers
    }

    /// How a fresh port is seen, as long as it is to be told.
    pub(super) fn set_fresh(&mut self, now: Instant, fresh: Option<(SocketAddr, HostId)>) {
        if self.fresh != fresh {
            self.fresh = fresh;
            self.changed(now);
        }
    }

    /// What members saw of a new socket, in the order in which its probes went out.
    pub(super) fn note_ports(&mut self, now: Instant, ports: &[u16]) {
        self.next_ports = Some(match (ports, self.next_ports) {
            // Where the sequence is now; its step was seen before.
            ([last], Some(PortPattern::Sequential { step, .. })) => {
                PortPattern::Sequential { last: *last, step }
            }
            _ => sequence(ports),
        });
        self.changed(now);
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.iter().map(|old| old.seen).collect()
    }

    pub(super) fn nat(&self) -> NatView {
        if self.silent_rounds > BLOCKED_AFTER {
            return NatView { kind: NatKind::Blocked, ..NatView::default() };
        }
        let view = classify(&self.local, &self.seen());
        match self.next_ports {
            Some(ports) if view.kind.is_hard() && view.ports != PortPattern::Preserving => {
                NatView { ports, ..view }
            }
            _ => view,
        }
    }

    /// What is known of where this host can be reached.
    pub(super) fn paths(&self) -> LocalPaths {
        let mut observed: Vec<(SocketAddr, HostId)> = Vec::new();
        for Observation { by, seen, .. } in self.seen.iter().rev() {
            if observed.iter().all(|(address, _)| *address != seen.outside)
                && !self.local.contains(&seen.outside)
            {
                observed.push((seen.outside, *by));
            }
        }
        // What most see, and then the newest: one member alone may see a port that is for its eyes only.
        let newest = newest_of_each(&self.seen());
        let seen_by = |outside| newest.iter().filter(|seen| seen.outside == outside).count();
        observed.sort_by_cached_key(|(outside, _)| Reverse(seen_by(*outside)));
        if let Some(fresh) = self.fresh {
            // Not the first, which is where everybody else is to probe.
            observed.insert(observed.len().min(1), fresh);
        }
        let (local, mapped, nat) = (self.local.clone(), self.mapped.clone(), self.nat());
        LocalPaths { local, observed, mapped, nat, outside: self.outside() }
    }

    /// The NAT's address, as the last members that answered agree on it: two of them if there are as many, or one that saw another before. A NAT with several
    /// addresses may show each member another, but each the same.
    fn outside(&self) -> Option<IpAddr> {
        let is_beyond = |old: &&Observation| {
            let outside = old.seen.outside.ip();
            outside.is_ipv4() && self.local.iter().all(|own| own.ip() != outside)
        };
        let mut seen = self.seen.iter().rev().filter(is_beyond).peekable();
        let newest = seen.peek()?.seen.outside.ip();
        let mut agree: Vec<&Observation> = Vec::new();
        while let Some(old) = seen.next_if(|old| old.seen.outside.ip() == newest) {
            agree.push(old);
        }
        let members: BTreeSet<HostId> = agree.iter().map(|old| old.by).collect();
        let saw_another = |before: &Observation| {
            agree.iter().any(|old| old.by == before.by && old.seen.target == before.seen.target)
        };
        (members.len() >= self.observers.len().clamp(1, 2) || seen.any(saw_another)).then_some(newest)
    }

    fn changed(&mut self, now: Instant) {
        if self.news_at.is_none() && self.paths() != self.told {
            let told = self.told_at.filter(|_| self.told != LocalPaths::default());
            self.news_at = Some(told.map_or(now, |told| (now + GATHERED).max(told + NEWS_PAUSE)));
        }
    }

    /// Whether node is to be told that candidates have changed; asked when [`Self::next_at`] says so.
    pub(super) fn take_news(&mut self, now: Instant) -> bool {
        if self.news_at.is_none_or(|at| at > now) {
            return false;
        }
        self.news_at = None;
        let paths = self.paths();
        let news = paths.candidates() != self.told.candidates() || paths.nat != self.told.nat;
        if news {
            self.told_at = Some(now);
        }
        self.told = paths;
        news
    }

    pub(super) fn next_at(&self) -> Option<Instant> {
        let ask = (!self.observers.is_empty()).then_some(self.ask_at);
        ask.into_iter().chain(self.news_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{path::CandidateKind, testing};

    #[test]
    fn what_members_see_becomes_candidates_and_a_kind_of_nat() {
        let now = testing::now();
        let mut own = Own::new(now);
        own.set_local(now, vec!["10.0.0.2:7".parse().unwrap()]);
        assert!(own.take_news(now));
        own.set_observers(now, vec![testing::peer(1), testing::peer(2)]);
        assert_eq!(own.take_due(now).len(), 2);
        let outside = "198.51.100.1:7".parse().unwrap();
        for (number, target) in ["192.0.2.1:1", "192.0.2.2:1"].into_iter().enumerate() {
            let later = now + Duration::from_millis(number as u64);
            own.note(later, HostId::random(), Seen { target: target.parse().unwrap(), outside });
        }
        assert_eq!(own.nat().kind, NatKind::EndpointIndependent);
        let candidates = own.paths().candidates();
        assert!(candidates.iter().any(|own| own.kind == CandidateKind::Observed && own.address == outside));
        assert!(!own.take_news(now), "not at once again");
        assert!(own.take_news(now + Duration::from_secs(1)));
        assert!(!own.take_news(now + Duration::from_secs(2)), "nothing new");
    }

    #[test]
    fn a_port_that_one_alone_sees_is_told_behind_the_one_that_most_see() {
        let now = testing::now();
        let mut own = Own::new(now);
        own.set_local(now, vec!["10.0.0.2:7".parse().unwrap()]);
        let outside = |port| SocketAddr::from(([198, 51, 100, 1], port));
        for (target, port) in [(1, 7), (2, 7), (3, 900)] {
            let seen = Seen { target: SocketAddr::from(([192, 0, 2, target], 1)), outside: outside(port) };
            own.note(now, HostId::random(), seen);
        }
        let observed = |own: &Own| own.paths().observed.into_iter().map(|(at, _)| at).collect::<Vec<_>>();
        assert_eq!(observed(&own), [outside(7), outside(900)]);
        // The NAT has forgotten all and gives another.
        for target in [1, 2] {
            let seen = Seen { target: SocketAddr::from(([192, 0, 2, target], 1)), outside: outside(8) };
            own.note(now, HostId::random(), seen);
        }
        assert_eq!(observed(&own), [outside(8), outside(900), outside(7)]);
    }

    #[test]
    fn the_outside_address_is_what_the_last_members_agree_on() {
        let now = testing::now();
        let mut own = Own::new(now);
        own.set_local(now, vec!["10.0.0.2:7".parse().unwrap()]);
        own.set_observers(now, vec![testing::peer(1), testing::peer(2)]);
        let members = [HostId::random(), HostId::random()];
        let mut see = |member: usize, outside: [u8; 4]| {
            let target = SocketAddr::from(([192, 0, 2, u8::try_from(member).unwrap()], 1));
            own.note(now, members[member], Seen { target, outside: (outside, 7).into() });
            own.paths().outside.map(|outside| outside.to_string())
        };
        let (before, after) = ([198, 51, 100, 1], [198, 51, 100, 2]);
        assert_eq!(see(0, before), None, "one alone");
        assert_eq!(see(1, before).as_deref(), Some("198.51.100.1"));
        assert_eq!(see(0, after).as_deref(), Some("198.51.100.2"), "it saw another before");
        assert_eq!(see(1, after).as_deref(), Some("198.51.100.2"));
        // One with several addresses.
        own.set_local(now, vec!["10.0.1.2:7".parse().unwrap()]);
        let mut see = |member: usize, outside: [u8; 4]| {
            let target = SocketAddr::from(([192, 0, 2, u8::try_from(member).unwrap()], 1));
            own.note(now, members[member], Seen { target, outside: (outside, 7).into() });
            own.paths().outside
        };
        for _ in 0..3 {
            assert_eq!(see(0, before), None);
            assert_eq!(see(1, after), None);
        }
    }

    #[test]
    fn observers_are_asked_at_once_and_once_in_a_second_where_nothing_answers() {
        let now = testing::now();
        let mut own = Own::new(now);
        own.set_observers(now, vec![testing::peer(1)]);
        for round in 0..=QUICK_ROUNDS {
            assert_eq!(own.take_due(now + ASK_AGAIN * round).len(), 1);
        }
        let last = now + ASK_AGAIN * QUICK_ROUNDS;
        let half = last + ASK_AGAIN / 2;
        own.ask_soon(half);
        assert_eq!(own.take_due(half).len(), 0, "a moment ago");
        assert_eq!(own.take_due(last + ASK_AGAIN).len(), 1);
        let later = last + ASK_AGAIN * 3;
        assert_eq!(own.take_due(later).len(), 0);
        own.ask_soon(later);
        assert_eq!(own.take_due(later).len(), 1);
    }

    #[test]
    fn in_a_new_network_observers_are_asked_again_soon_until_one_answers() {
        let begin = testing::now();
        let asked = |answered_after: u64| {
            let mut own = Own::new(begin);
            own.set_observers(begin, vec![testing::peer(1)]);
            own.set_local(begin, vec!["10.0.0.2:7".parse().unwrap()]);
            let mut asked = Vec::new();
            for millis in (0..2500).step_by(20) {
                let now = begin + Duration::from_millis(millis);
                if !own.take_due(now).is_empty() {
                    asked.push(millis);
                }
                if millis == answered_after {
                    let (target, outside) =
                        ("192.0.2.1:1".parse().unwrap(), "198.51.100.1:7".parse().unwrap());
                    own.note(now, HostId::random(), Seen { target, outside });
                }
            }
            (asked, own.nat().kind)
        };
        let (all, kind) = asked(9999);
        assert_eq!(all, [0, 60, 180, 420, 900, 1900]);
        assert_ne!(kind, NatKind::Blocked, "after a second and a half");
        assert_eq!(asked(80).0, [0, 60, 180, 1180, 2180]);
    }

    #[test]
    fn nobody_sees_a_loopback_address_but_of_a_host_that_is_there() {
        let now = testing::now();
        for (local, observed) in [("10.0.0.2:7", 0), ("127.0.0.1:7", 1)] {
            let mut own = Own::new(now);
            own.set_local(now, vec![local.parse().unwrap()]);
            let (target, outside) = ("127.0.0.1:9".parse().unwrap(), "127.0.0.1:8".parse().unwrap());
            own.note(now, HostId::random(), Seen { target, outside });
            assert_eq!(own.paths().observed.len(), observed, "{local}");
        }
    }

    #[test]
    fn where_a_sequence_is_now_is_told_and_not_where_it_was_when_members_were_asked() {
        let now = testing::now();
        let mut own = Own::new(now);
        own.set_local(now, vec!["10.0.0.2:7".parse().unwrap()]);
        for (target, outside) in [("192.0.2.1:1", "198.51.100.1:5000"), ("192.0.2.2:1", "198.51.100.1:5001")]
        {
            let seen = Seen { target: target.parse().unwrap(), outside: outside.parse().unwrap() };
            own.note(now, HostId::random(), seen);
        }
        assert_eq!(own.nat().ports, PortPattern::Sequential { last: 5001, step: 1 });
        own.note_ports(now, &[5300, 5301]);
        assert_eq!(own.nat().ports, PortPattern::Sequential { last: 5301, step: 1 });
        own.note_ports(now, &[5400]);
        assert_eq!(own.nat().ports, PortPattern::Sequential { last: 5400, step: 1 });
    }

    #[test]
    fn a_fresh_port_is_told_behind_the_one_that_all_know() {
        let now = testing::now();
        let mut own = Own::new(now);
        own.set_local(now, vec!["10.0.0.2:7".parse().unwrap()]);
        let (target, outside) = ("192.0.2.1:1".parse().unwrap(), "198.51.100.1:7".parse().unwrap());
        own.note(now, HostId::random(), Seen { target, outside });
        assert!(own.take_news(now));
        let fresh = "198.51.100.1:9".parse().unwrap();
        own.set_fresh(now, Some((fresh, HostId::random())));
        assert!(own.take_news(now + NEWS_PAUSE));
        let told: Vec<SocketAddr> = own.paths().observed.iter().map(|(address, _)| *address).collect();
        assert_eq!(told, [outside, fresh]);
        own.set_fresh(now + NEWS_PAUSE, None);
        assert_eq!(own.paths().observed.len(), 1);
    }

    #[test]
    fn other_addresses_are_told_at_once_and_not_in_a_storm() {
        let mut now = testing::now();
        let mut own = Own::new(now);
        let mut told = 0;
        own.set_local(now, vec!["10.0.0.2:7".parse().unwrap()]);
        assert!(own.take_news(now));
        now += Duration::from_secs(1);
        own.set_local(now, vec!["10.0.9.2:7".parse().unwrap()]);
        assert!(own.take_news(now + GATHERED));
        for turn in 0..100_u8 {
            now += Duration::from_millis(10);
            own.set_local(now, vec![SocketAddr::from(([10, 0, 1, turn], 7))]);
            told += u32::from(own.take_news(now));
        }
        assert!((2..=5).contains(&told), "{told} in a second");
    }

    #[test]
    fn observers_that_never_answer_mean_that_udp_is_blocked() {
        let mut now = testing::now();
        let mut own = Own::new(now);
        own.set_local(now, vec!["10.0.0.2:7".parse().unwrap()]);
        own.set_observers(now, vec![testing::peer(1), testing::peer(2)]);
        let begin = now;
        while own.nat().kind != NatKind::Blocked {
            now += Duration::from_millis(10);
            own.take_due(now);
        }
        assert!((4..6).contains(&(now - begin).as_secs()), "after {:?}", now - begin);
        own.set_observers(now, vec![testing::peer(1), testing::peer(3)]);
        assert_eq!(own.nat().kind, NatKind::Blocked, "others are no reason to hope");
        let seen = Seen { target: "192.0.2.1:1".parse().unwrap(), outside: "10.0.0.2:7".parse().unwrap() };
        own.note(now, HostId::random(), seen);
        assert_eq!(own.nat().kind, NatKind::None);
    }
}
