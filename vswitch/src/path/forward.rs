//! Forwarding for others: which token goes where, who may use it, and how fast.
//!
//! Two halves, as with links: [`Relays`] (the keeper's) opens, lets run out and closes legs; [`RelayTable`] (never changed, replaced) is what workers
//! forward by. A datagram is forwarded if its token is known, has not run out, came from where the leg's sender is, and the owner's rate allows it; else
//! it moves one counter. Nothing of it is opened, and nothing is ever answered.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};

use super::{
    line::{Line, admit_both},
    relayed::{LEG_LIFE_MAX, RelayLeg, RelayPolicy, RelayRefusal, RelayTokens, TOKENS_MAX},
    via::{Origin, Via},
};
use crate::{
    entropy::Entropy,
    link::RelayCounters,
    switch::PeerIndex,
    wire::{Onward, RELAYED_BYTES, relayed_header, relayed_token},
};

/// One leg as workers see it.
#[derive(Debug)]
struct Way {
    /// Every address where the sender is: it chooses among them for itself.
    from: Vec<Via>,
    to: Option<Via>,
    header: [u8; RELAYED_BYTES],
    until: Instant,
    /// What bounds the rate of the link to `to`.
    line: Option<Arc<Line>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct RelayTable {
    ways: HashMap<u32, Way>,
    cap: Option<Arc<Line>>,
}

impl RelayTable {
    /// Makes datagrams of `stride` bytes each (the last maybe shorter), all with one token, ready to go on, and says where they go and when. None:
    /// refused and counted.
    pub(crate) fn forward(
        &self,
        now: Instant,
        origin: &Origin,
        run: &mut [u8],
        stride: usize,
        counters: &RelayCounters,
    ) -> Option<(Via, Instant)> {
        let count = run.len().div_ceil(stride.max(1)) as u64;
        let Some(way) = relayed_token(run).ok().and_then(|token| self.ways.get(&token)) else {
            counters.token_unknown.add(count);
            return None;
        };
        let refused = if now >= way.until {
            Some(&counters.expired)
        } else if !way.from.iter().any(|from| from.address == origin.address && from.socket == origin.socket)
        {
            Some(&counters.wrong_hop)
        } else if way.to.is_none() {
            Some(&counters.no_way)
        } else {
            None
        };
        let lines = [way.line.as_ref(), self.cap.as_ref()];
        let admitted = match refused {
            Some(counter) => Err(counter),
            None => admit_both(lines, now, run.len(), count)
                .map_err(|which| if which == 0 { &counters.over_link_rate } else { &counters.over_rate }),
        };
        let at = match admitted {
            Ok(at) => at,
            Err(counter) => {
                counter.add(count);
                return None;
            }
        };
        for datagram in run.chunks_mut(stride.max(1)) {
            datagram[..RELAYED_BYTES].copy_from_slice(&way.header);
        }
        counters.datagrams.add(count);
        counters.bytes.add(run.len() as u64);
        Some((way.to?, at))
    }
}

#[derive(Debug)]
struct Leg {
    from: PeerIndex,
    to: PeerIndex,
    onward: Option<u32>,
    tokens: RelayTokens,
    until: Instant,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Relays {
    policy: RelayPolicy,
    cap: Option<Arc<Line>>,
    legs: BTreeMap<u32, Leg>,
    changed: bool,
}

impl Relays {
    pub(super) fn new() -> Self {
        Self { policy: RelayPolicy::default(), cap: None, legs: BTreeMap::new(), changed: false }
    }

    pub(super) fn set_policy(&mut self, now: Instant, policy: RelayPolicy) {
        if policy.rate_bits_per_s_max != self.policy.rate_bits_per_s_max {
            self.cap = Some(Arc::new(Line::new(now, policy.rate_bits_per_s_max)));
        }
        self.policy = policy;
        if !policy.enabled {
            self.legs.clear();
        }
        self.changed = true;
    }

    /// Opens a leg, or begins its time anew.
    pub(super) fn open(
        &mut self,
        now: Instant,
        leg: &RelayLeg,
        from: PeerIndex,
        to: PeerIndex,
        entropy: &mut Entropy,
    ) -> Result<RelayTokens, RelayRefusal> {
        if !self.policy.enabled {
            return Err(RelayRefusal::Disabled);
        }
        self.expire(now);
        let until = now + leg.expires.min(LEG_LIFE_MAX);
        let same = |open: &&mut Leg| open.from == from && open.to == to && open.onward == leg.onward;
        if let Some(open) = self.legs.values_mut().find(same) {
            open.until = until;
            self.changed = true;
            return Ok(open.tokens);
        }
        if self.legs.len() >= self.policy.tokens_max.min(TOKENS_MAX) {
            return Err(RelayRefusal::TokensFull);
        }
        let mut ends: BTreeSet<PeerIndex> = self.legs.values().flat_map(|leg| [leg.from, leg.to]).collect();
        ends.extend([from, to]);
        if ends.len() > self.policy.peers_max {
            return Err(RelayRefusal::PeersFull);
        }
        let incoming = loop {
            let token = entropy.u32();
            if !self.legs.contains_key(&token) {
                break token;
            }
        };
        let tokens = RelayTokens { incoming, outgoing: leg.onward.unwrap_or_else(|| entropy.u32()) };
        self.legs.insert(incoming, Leg { from, to, onward: leg.onward, tokens, until });
        self.changed = true;
        Ok(tokens)
    }

    pub(super) fn close(&mut self, incoming: u32) {
        self.changed |= self.legs.remove(&incoming).is_some();
    }

    /// A host is no peer any more.
    pub(super) fn remove_peer(&mut self, peer: PeerIndex) {
        let before = self.legs.len();
        self.legs.retain(|_, leg| leg.from != peer && leg.to != peer);
        self.changed |= self.legs.len() != before;
    }

    /// The way to a host changed, or what bounds its rate.
    pub(super) fn moved(&mut self, peer: PeerIndex) {
        self.changed |= self.legs.values().any(|leg| leg.from == peer || leg.to == peer);
    }

    /// True if any has run out.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let before = self.legs.len();
        self.legs.retain(|_, leg| leg.until > now);
        let any = self.legs.len() != before;
        self.changed |= any;
        any
    }

    /// The relays to which this one forwards: nobody but it keeps them in reach, as the ends of a way do with their own.
    pub(super) fn onward(&self) -> impl Iterator<Item = PeerIndex> + '_ {
        self.legs.values().filter(|leg| leg.onward.is_some()).map(|leg| leg.to)
    }

    pub(super) fn next_at(&self) -> Option<Instant> {
        self.legs.values().map(|leg| leg.until).min()
    }

    /// Whether anything is forwarded.
    pub(super) fn any(&self) -> bool {
        !self.legs.is_empty()
    }

    /// What workers forward by, if it changed; `sources` says from where a host sends, `way` where it is reached, and `line` what bounds the link to it.
    pub(super) fn take_table(
        &mut self,
        sources: impl Fn(PeerIndex) -> Vec<Via>,
        way: impl Fn(PeerIndex) -> Option<Via>,
        line: impl Fn(PeerIndex) -> Option<Arc<Line>>,
    ) -> Option<RelayTable> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let ways = self.legs.iter().map(|(token, leg)| {
            let onward = if leg.onward.is_some() { Onward::Relay } else { Onward::End };
            let header = relayed_header(onward, leg.tokens.outgoing);
            let (from, to) = (sources(leg.from), way(leg.to));
            (*token, Way { from, to, header, until: leg.until, line: line(leg.to) })
        });
        Some(RelayTable { ways: ways.collect(), cap: self.cap.clone() })
    }

    /// Legs open, and hosts at their ends.
    pub(super) fn counts(&self) -> (usize, usize) {
        let ends: BTreeSet<PeerIndex> = self.legs.values().flat_map(|leg| [leg.from, leg.to]).collect();
        (self.legs.len(), ends.len())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{HostId, testing};

    fn leg(onward: Option<u32>) -> RelayLeg {
        RelayLeg { from: HostId::random(), to: HostId::random(), onward, expires: Duration::from_secs(60) }
    }

    fn policy() -> RelayPolicy {
        RelayPolicy { enabled: true, rate_bits_per_s_max: 8_000_000, peers_max: 3, tokens_max: 3 }
    }

    fn way(peer: PeerIndex) -> Option<Via> {
        let number = u8::try_from(peer.get()).unwrap();
        (number < 9).then(|| Via::direct(([192, 0, 2, number], 9).into()))
    }

    fn sources(peer: PeerIndex) -> Vec<Via> {
        let other = Via::direct(([198, 51, 100, 1], 9).into());
        way(peer).into_iter().chain((peer == testing::peer(1)).then_some(other)).collect()
    }

    fn run(token: u32, bytes: usize) -> Vec<u8> {
        let mut run = relayed_header(Onward::Relay, token).to_vec();
        run.resize(bytes, 4);
        run
    }

    #[test]
    fn only_a_known_token_from_its_hop_in_time_and_rate_goes_on() {
        let (now, mut entropy) = (testing::now(), Entropy::new([1; 32]));
        let (a, b, gone) = (testing::peer(1), testing::peer(2), testing::peer(9));
        let mut relays = Relays::new();
        assert_eq!(relays.open(now, &leg(None), a, b, &mut entropy), Err(RelayRefusal::Disabled));
        relays.set_policy(now, policy());
        let tokens = relays.open(now, &leg(None), a, b, &mut entropy).unwrap();
        let nowhere = relays.open(now, &leg(None), a, gone, &mut entropy).unwrap();
        let table = relays.take_table(sources, way, |_| None).unwrap();
        let counters = RelayCounters::default();
        let from = Origin::direct(([192, 0, 2, 1], 9).into());
        let elsewhere = Origin::direct(([192, 0, 2, 3], 9).into());
        let also_there = Origin::direct(([198, 51, 100, 1], 9).into());
        let mut bytes = run(tokens.incoming, 1000);
        assert_eq!(
            table.forward(now, &also_there, &mut bytes, 1000, &counters),
            way(b).map(|via| (via, now)),
            "any of its addresses"
        );
        let mut bytes = run(tokens.incoming, 1000);
        let later = now + Duration::from_millis(1);
        assert_eq!(
            table.forward(now, &from, &mut bytes, 1000, &counters),
            way(b).map(|via| (via, later)),
            "a millisecond of the owner's rate behind the first"
        );
        assert_eq!(bytes[..8], relayed_header(Onward::End, tokens.outgoing));
        assert_eq!(bytes[8..], run(tokens.incoming, 1000)[8..], "nothing else is touched");
        let refused =
            |now, origin: &Origin, token| table.forward(now, origin, &mut run(token, 100), 100, &counters);
        assert_eq!(refused(now, &from, tokens.incoming ^ 1), None);
        assert_eq!(refused(now, &elsewhere, tokens.incoming), None);
        assert_eq!(refused(now, &from, nowhere.incoming), None);
        assert_eq!(refused(now + Duration::from_secs(60), &from, tokens.incoming), None);
        let counts = counters.read();
        assert_eq!((counts.token_unknown, counts.wrong_hop, counts.no_way, counts.expired), (1, 1, 1, 1));
        assert_eq!((counts.datagrams, counts.bytes, counts.over_rate), (2, 2000, 0));
    }

    #[test]
    fn the_owners_rate_holds_over_any_second() {
        let (mut now, mut entropy) = (testing::now(), Entropy::new([1; 32]));
        let mut relays = Relays::new();
        relays.set_policy(now, policy());
        let tokens = relays.open(now, &leg(None), testing::peer(1), testing::peer(2), &mut entropy).unwrap();
        let table = relays.take_table(sources, way, |_| None).unwrap();
        let counters = RelayCounters::default();
        let from = Origin::direct(([192, 0, 2, 1], 9).into());
        let mut passed = 0;
        for _ in 0..10_000 {
            now += Duration::from_millis(1);
            for _ in 0..3 {
                if table.forward(now, &from, &mut run(tokens.incoming, 1000), 1000, &counters).is_some() {
                    passed += 1000_u64;
                }
            }
        }
        // A megabyte a second for ten seconds (the leg runs for sixty), and what waits at the end.
        assert!((9_990_000..=10_067_000).contains(&passed), "{passed}");
        assert!(counters.read().over_rate > 0);
    }

    #[test]
    fn the_rate_of_the_link_onward_holds_beside_the_owners() {
        let (now, mut entropy) = (testing::now(), Entropy::new([1; 32]));
        let mut relays = Relays::new();
        relays.set_policy(now, RelayPolicy { rate_bits_per_s_max: 8_000_000_000, ..policy() });
        let tokens = relays.open(now, &leg(None), testing::peer(1), testing::peer(2), &mut entropy).unwrap();
        let slow = Arc::new(Line::new(now, 80_000_000));
        let table = relays
            .take_table(sources, way, |peer| (peer == testing::peer(2)).then(|| Arc::clone(&slow)))
            .unwrap();
        let counters = RelayCounters::default();
        let from = Origin::direct(([192, 0, 2, 1], 9).into());
        let forward = || table.forward(now, &from, &mut run(tokens.incoming, 100_000), 1000, &counters);
        let times: Vec<_> = (0..4).filter_map(|_| forward()).map(|(_, at)| at - now).collect();
        assert_eq!(
            times,
            [0, 10, 20].map(Duration::from_millis),
            "ten milliseconds each, and no wait beyond twenty"
        );
        let counts = counters.read();
        assert_eq!((counts.datagrams, counts.over_link_rate, counts.over_rate), (300, 100, 0));
    }

    #[test]
    fn legs_are_capped_renewed_and_run_out() {
        let (now, mut entropy) = (testing::now(), Entropy::new([1; 32]));
        let peer = testing::peer;
        let mut relays = Relays::new();
        relays.set_policy(now, policy());
        let first = relays.open(now, &leg(None), peer(1), peer(2), &mut entropy).unwrap();
        let later = now + Duration::from_secs(30);
        assert_eq!(relays.open(later, &leg(None), peer(1), peer(2), &mut entropy), Ok(first), "begun anew");
        assert_eq!(
            relays.open(now, &leg(None), peer(3), peer(4), &mut entropy),
            Err(RelayRefusal::PeersFull)
        );
        let onward = relays.open(now, &leg(Some(77)), peer(1), peer(3), &mut entropy).unwrap();
        assert_eq!(onward.outgoing, 77);
        relays.open(now, &leg(None), peer(2), peer(1), &mut entropy).unwrap();
        assert_eq!(
            relays.open(now, &leg(None), peer(3), peer(1), &mut entropy),
            Err(RelayRefusal::TokensFull)
        );
        assert_eq!(relays.counts(), (3, 3));
        relays.expire(now + Duration::from_secs(60));
        assert_eq!(relays.counts(), (1, 2), "the one begun anew goes on");
        relays.remove_peer(peer(2));
        assert_eq!(relays.counts(), (0, 0));
        relays.take_table(sources, way, |_| None).unwrap();
        assert!(relays.take_table(sources, way, |_| None).is_none(), "nothing changed");
    }
}
