//! Links against each other over a simulated network: virtual time, one seed that decides everything.

use std::{
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{route::SendState, *};
use crate::{
    offload::Checksum,
    session::{Costs, SharedSecret, StaticSecret},
    testing,
};

const NETWORK: NetworkId = NetworkId([7; 16]);
const GRANT: &[u8] = b"let me in";
const TICK: Duration = Duration::from_millis(1);

/// What the network does to datagrams.
#[derive(Debug, Clone, Copy)]
struct Weather {
    /// Per cent.
    loss: u32,
    duplicates: u32,
    /// Added to the delay, up to; datagrams overtake each other.
    jitter: Duration,
    mtu: usize,
}

const CALM: Weather = Weather { loss: 0, duplicates: 0, jitter: Duration::ZERO, mtu: 1472 };
const STORM: Weather = Weather { loss: 20, duplicates: 10, jitter: Duration::from_millis(80), mtu: 1400 };

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Travelling {
    /// Reversed, so that the heap gives the earliest.
    at: std::cmp::Reverse<(Instant, u64)>,
    to: SocketAddr,
    from: SocketAddr,
    datagram: Vec<u8>,
}

/// One host: links and the worker's halves, as a driver holds them.
#[derive(Debug)]
struct Host {
    address: SocketAddr,
    peer: PeerIndex,
    id: HostId,
    key: PublicKey,
    links: Links,
    routes: Routes,
    ingress: Ingress,
    egress: Egress,
    refusals: Arc<RefusalCounters>,
    received: Vec<Vec<u8>>,
    events: Vec<Event>,
    /// Grants node accepts, and for how long; anything else is refused.
    accepts: Option<Duration>,
}

#[derive(Debug)]
struct World {
    now: Instant,
    start: Instant,
    serial: u64,
    entropy: Entropy,
    weather: Weather,
    travelling: BinaryHeap<Travelling>,
    hosts: Vec<Host>,
    /// Every datagram that was sent, to be sent again by a hostile neighbour.
    heard: Vec<Travelling>,
    nonces: BTreeSet<(u32, u64)>,
    log: Vec<String>,
}

/// A worker's socket that gathers.
#[derive(Default)]
struct Wire(Vec<(SocketAddr, Vec<u8>)>);

impl Transmit for Wire {
    fn transmit(&mut self, to: SocketAddr, bytes: &[u8], stride: usize) -> Transmitted {
        self.0.extend(bytes.chunks(stride).map(|datagram| (to, datagram.to_vec())));
        Transmitted::Sent
    }
}

impl World {
    fn new(seed: u8, hosts: u8, limits: SessionLimits) -> Self {
        let now = testing::now();
        let mut entropy = Entropy::new([seed; 32]);
        let hosts = (1..=hosts)
            .map(|number| {
                let secret = StaticSecret::new([number; 32]);
                let key = secret.public();
                let refusals = Arc::<RefusalCounters>::default();
                let config = LinksConfig {
                    identity: Identity {
                        secret,
                        shared: SharedSecret::new([9; 32]),
                        instance: entropy.array(),
                        costs: Costs([200, 100, 300]),
                    },
                    limits,
                    datagram_limit: DATAGRAM_PROBED_MAX,
                    calm_per_second: 100,
                    lanes: 3,
                };
                Host {
                    address: SocketAddr::from(([192, 0, 2, number], 9)),
                    peer: testing::peer(number.into()),
                    id: HostId::random(),
                    key,
                    links: Links::new(config, entropy.fork(), Arc::clone(&refusals), now),
                    routes: Routes::default(),
                    ingress: Ingress::new(Arc::clone(&refusals)),
                    egress: Egress::new(0),
                    refusals,
                    received: Vec::new(),
                    events: Vec::new(),
                    accepts: Some(Duration::from_secs(600)),
                }
            })
            .collect();
        Self {
            now,
            start: now,
            serial: 0,
            entropy,
            weather: CALM,
            travelling: BinaryHeap::new(),
            hosts,
            heard: Vec::new(),
            nonces: BTreeSet::new(),
            log: Vec::new(),
        }
    }

    /// Two hosts that know each other and want a link for the network.
    fn pair(seed: u8) -> Self {
        Self::pair_with(seed, SessionLimits::default())
    }

    fn pair_with(seed: u8, limits: SessionLimits) -> Self {
        let mut world = Self::new(seed, 2, limits);
        world.introduce(0, 1);
        world.introduce(1, 0);
        world
    }

    fn introduce(&mut self, at: usize, other: usize) {
        let (peer, id, key, address) = {
            let other = &self.hosts[other];
            (other.peer, other.id, other.key, other.address)
        };
        let now = self.now;
        let links = &mut self.hosts[at].links;
        links.set_peer(now, peer, id, key, vec![address]).unwrap();
        assert!(links.offer_grant(now, NETWORK, peer, GRANT.to_vec()));
    }

    fn now(&self) -> Now {
        let nanos = (self.now - self.start).as_nanos();
        Now { at: self.now, wall_nanos: 1_000_000 + u64::try_from(nanos).unwrap() }
    }

    fn put(&mut self, from: SocketAddr, to: SocketAddr, datagram: Vec<u8>) {
        if datagram.len() > self.weather.mtu || self.entropy.below(100) < self.weather.loss {
            return;
        }
        let copies = if self.entropy.below(100) < self.weather.duplicates { 2 } else { 1 };
        for _ in 0..copies {
            let jitter = u32::try_from(self.weather.jitter.as_micros()).unwrap();
            let delay = Duration::from_micros(5_000 + u64::from(self.entropy.below(jitter + 1)));
            self.serial += 1;
            let at = std::cmp::Reverse((self.now + delay, self.serial));
            self.travelling.push(Travelling { at, to, from, datagram: datagram.clone() });
        }
    }

    /// Lets one host take what is due and say what it has to say.
    fn serve(&mut self, number: usize) {
        let now = self.now();
        self.hosts[number].links.handle_timeout(now);
        loop {
            let host = &mut self.hosts[number];
            if let Some(routes) = host.links.take_routes() {
                host.routes = routes;
            }
            let Some(output) = host.links.poll_output() else { break };
            let from = host.address;
            match output {
                Output::Send { to, datagram } => self.send(from, to, datagram),
                Output::Release { peer, network, frames } => {
                    for frame in frames {
                        assert!(
                            self.frame_to(number, peer, network, &frame),
                            "released frames have their way"
                        );
                    }
                }
                Output::Tell(event) => {
                    if let Event::ChannelRequested { request, grant, .. } = &event {
                        let answer = match host.accepts {
                            Some(valid) if grant == GRANT => Ok(valid),
                            _ => Err(GrantRefusal::Invalid),
                        };
                        host.links.answer(now.at, request, answer);
                    }
                    self.log.push(format!("{:?} host {number}: {event:?}", self.now - self.start));
                    self.hosts[number].events.push(event);
                }
            }
        }
    }

    fn send(&mut self, from: SocketAddr, to: SocketAddr, datagram: Vec<u8>) {
        if let Ok(Datagram::Data(data)) = Datagram::parse(&datagram) {
            assert!(self.nonces.insert((data.receiver(), data.counter())), "a nonce twice");
        }
        let at = std::cmp::Reverse((self.now, 0));
        self.heard.push(Travelling { at, to, from, datagram: datagram.clone() });
        self.put(from, to, datagram);
    }

    /// A frame of a local machine for a peer; true if it went out, else it was held or refused.
    fn frame_to(&mut self, number: usize, peer: PeerIndex, network: NetworkId, frame: &[u8]) -> bool {
        let (now, host) = (self.now, &mut self.hosts[number]);
        let mut wire = Wire::default();
        let route = Arc::clone(&host.routes.peers[&peer]);
        let sent = host.egress.send(now, &route, network, frame, &mut wire);
        host.egress.flush(&mut wire);
        if sent == Err(NotSent::Waiting) {
            host.links.handle_frame(now, peer, network, frame.to_vec());
        }
        let from = host.address;
        for (to, datagram) in wire.0 {
            self.send(from, to, datagram);
        }
        sent.is_ok()
    }

    fn frame(&mut self, from: usize, to: usize, frame: &[u8]) -> bool {
        self.frame_to(from, self.hosts[to].peer, NETWORK, frame)
    }

    /// A datagram arrives at a host.
    fn arrive(&mut self, number: usize, from: SocketAddr, mut datagram: Vec<u8>) {
        let now = self.now();
        let host = &mut self.hosts[number];
        let stride = datagram.len();
        let (links, received) = (&mut host.links, &mut host.received);
        host.ingress.receive(now.at, &host.routes, from, &mut datagram, stride, |arrived| match arrived {
            Arrived::Frame { frame, network, .. } | Arrived::Joined { frame, network, .. } => {
                assert_eq!(network, NETWORK);
                received.push(frame.to_vec());
            }
            Arrived::Handshake { datagram } => links.handle_datagram(now, from, datagram),
            Arrived::Control { peer, body } => links.handle_control(now, peer, body),
            Arrived::Touched { peer, index, newest } => links.handle_touched(now, peer, index, from, newest),
            Arrived::UnknownChannel { peer, channel } => links.handle_unknown_channel(now.at, peer, channel),
        });
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.turn();
        }
    }

    /// Runs until something is so.
    fn until(&mut self, what: &str, seconds: u64, done: impl Fn(&Self) -> bool) {
        let end = self.now + Duration::from_secs(seconds);
        while !done(self) {
            assert!(self.now < end, "{what} did not happen:\n{}", self.log.join("\n"));
            self.turn();
        }
    }

    fn turn(&mut self) {
        for number in 0..self.hosts.len() {
            self.serve(number);
        }
        self.now += TICK;
        while self.travelling.peek().is_some_and(|first| first.at.0.0 <= self.now) {
            let Travelling { to, from, datagram, .. } = self.travelling.pop().unwrap();
            if let Some(number) = self.hosts.iter().position(|host| host.address == to) {
                self.arrive(number, from, datagram);
            }
        }
    }

    fn snapshot(&self, at: usize, of: usize) -> LinkSnapshot {
        let id = self.hosts[of].id;
        self.hosts[at].links.snapshot(self.now).into_iter().find(|link| link.peer == id).unwrap()
    }

    fn open(&self, at: usize, to: usize) -> bool {
        let route = self.hosts[at].routes.peers.get(&self.hosts[to].peer);
        route.is_some_and(|route| Egress::channel(self.now, route, NETWORK).is_ok())
    }

    fn both_open(&self) -> bool {
        self.open(0, 1) && self.open(1, 0)
    }

    fn counts(&self, at: usize, of: usize) -> LinkCounts {
        self.snapshot(at, of).counts
    }
}

fn fast_rekey() -> SessionLimits {
    SessionLimits {
        rekey_after: Duration::from_secs(2),
        refuse_after: Duration::from_secs(20),
        ..SessionLimits::default()
    }
}

#[test]
fn opens_in_three_round_trips() {
    let mut world = World::pair(1);
    world.until("the channel", 1, World::both_open);
    assert!(world.now - world.start <= Duration::from_millis(60), "{:?}", world.now - world.start);
    assert!(world.frame(0, 1, b"hello"));
    world.run(Duration::from_millis(10));
    assert_eq!(world.hosts[1].received, [b"hello"]);
}

#[test]
fn frames_wait_for_the_link_and_are_not_lost() {
    let mut world = World::pair(2);
    world.serve(0);
    world.serve(1);
    for number in 0..10 {
        assert!(!world.frame(0, 1, &[number; 60]));
    }
    world.run(Duration::from_secs(1));
    assert_eq!(world.hosts[1].received, (0..10).map(|number| vec![number; 60]).collect::<Vec<_>>());
}

#[test]
fn opens_and_stays_open_in_a_storm_and_two_runs_of_one_seed_are_the_same() {
    for seed in 0..12 {
        let run = || {
            let mut world = World::pair(seed);
            world.weather = STORM;
            world.until("the channel", 60, World::both_open);
            world.run(Duration::from_secs(20));
            world.weather = CALM;
            world.until("healing", 30, World::both_open);
            let before = world.hosts[1].received.len();
            assert!(world.frame(0, 1, &[1; 1000]));
            world.run(Duration::from_secs(1));
            assert_eq!(world.hosts[1].received.len(), before + 1, "seed {seed}");
            let ids = [world.hosts[0].id, world.hosts[1].id];
            let log: Vec<_> = world
                .log
                .iter()
                .map(|line| line.replace(&ids[0].to_string(), "a").replace(&ids[1].to_string(), "b"))
                .collect();
            (log, world.nonces.len())
        };
        assert_eq!(run(), run(), "seed {seed}");
    }
}

#[test]
fn no_frame_is_lost_at_a_rekey_and_order_is_kept() {
    let mut world = World::pair_with(3, fast_rekey());
    world.until("the channel", 5, World::both_open);
    let mut sent = Vec::new();
    for number in 0_u32..20_000 {
        if number % 2 == 0 {
            world.frame(0, 1, &number.to_le_bytes());
            sent.push(number.to_le_bytes().to_vec());
        } else {
            world.frame(1, 0, &number.to_le_bytes());
        }
        world.turn();
    }
    world.run(Duration::from_secs(1));
    assert!(world.hosts[1].received == sent, "{} of {}", world.hosts[1].received.len(), sent.len());
    assert_eq!(world.hosts[0].received.len(), 10_000);
    let counts = world.counts(0, 1);
    assert!(counts.rekeys >= 8, "{counts:?}");
    assert_eq!(
        world.hosts[0].events.iter().filter(|event| matches!(event, Event::LinkDown { .. })).count(),
        0
    );
}

#[test]
fn rekey_by_count() {
    let limits = SessionLimits { rekey_datagrams: 500, ..SessionLimits::default() };
    let mut world = World::pair_with(4, limits);
    world.until("the channel", 5, World::both_open);
    // Only the responder of the first handshake sends: either end may begin.
    for number in 0_u32..12_000 {
        world.frame(usize::from(number % 2 == 0), usize::from(number % 2 == 1), &number.to_le_bytes());
        world.turn();
    }
    assert!(world.counts(0, 1).rekeys >= 2, "{:?}", world.counts(0, 1));
    world.run(Duration::from_millis(50));
    assert_eq!(world.hosts[0].received.len() + world.hosts[1].received.len(), 12_000);
}

#[test]
fn exhausted_counters_send_nothing_until_new_keys_are_there() {
    let limits =
        SessionLimits { rekey_datagrams: u64::MAX, refuse_datagrams: 50, ..SessionLimits::default() };
    let mut world = World::pair_with(5, limits);
    world.until("the channel", 5, World::both_open);
    for number in 0..60 {
        world.frame(0, 1, &[number]);
    }
    assert!(world.counts(0, 1).session_exhausted >= 10);
    world.until("a new session", 30, |world| world.counts(0, 1).handshakes >= 2 && world.both_open());
    let before = world.hosts[1].received.len();
    world.frame(0, 1, b"again");
    world.run(Duration::from_millis(50));
    assert_eq!(world.hosts[1].received.len(), before + 1);
}

#[test]
fn simultaneous_opening_makes_one_session() {
    for seed in 0..20 {
        let mut world = World::pair(seed);
        world.until("the channel", 5, World::both_open);
        world.run(Duration::from_secs(3));
        let (a, b) = (world.counts(0, 1), world.counts(1, 0));
        assert_eq!((a.handshakes, b.handshakes), (1, 1), "seed {seed}");
        assert_eq!(a.initiations_crossed + b.initiations_crossed, 1, "seed {seed}");
    }
}

#[test]
fn a_lost_response_and_a_lost_first_datagram_are_healed() {
    // Each of the first eight datagrams is lost in turn.
    for lost in 0..8 {
        let mut world = World::pair(6);
        let mut count = 0;
        while count < 40 {
            world.serve(0);
            world.serve(1);
            let fresh: Vec<_> = std::mem::take(&mut world.travelling).into_vec();
            for datagram in fresh {
                if datagram.at.0.0 > world.now + TICK {
                    world.travelling.push(datagram);
                } else {
                    count += 1;
                    if count != lost + 1 {
                        world.travelling.push(datagram);
                    }
                }
            }
            world.turn();
        }
        world.until("the channel", 10, World::both_open);
        world.frame(0, 1, b"hello");
        world.run(Duration::from_millis(20));
        assert_eq!(world.hosts[1].received, [b"hello"], "lost {lost}");
    }
}

#[test]
fn a_peer_that_goes_silent_is_down_and_comes_back() {
    let mut world = World::pair(7);
    world.until("the channel", 5, World::both_open);
    world.weather.loss = 100;
    world.until("silence is noticed", 20, |world| {
        (0..2).all(|host| {
            world.hosts[host]
                .events
                .iter()
                .any(|event| matches!(event, Event::LinkDown { reason: LinkDownReason::Silent, .. }))
        })
    });
    world.weather.loss = 0;
    world.until("the channel again", 20, World::both_open);
}

#[test]
fn a_host_that_lost_its_state_is_taken_back_at_once() {
    let mut world = World::pair(8);
    world.until("the channel", 5, World::both_open);
    // The host starts anew: other instance, no sessions, channels numbered from the start.
    let mut fresh = World::new(99, 2, SessionLimits::default());
    let (id, key) = (world.hosts[1].id, world.hosts[1].key);
    std::mem::swap(&mut world.hosts[1], &mut fresh.hosts[1]);
    world.hosts[1].id = id;
    assert_eq!(world.hosts[1].key, key);
    // Its wall clock goes on.
    world.run(Duration::from_millis(10));
    world.introduce(1, 0);
    world.until("the channel again", 10, World::both_open);
    world.frame(0, 1, b"to the new one");
    world.frame(1, 0, b"and back");
    world.run(Duration::from_millis(20));
    assert_eq!(world.hosts[1].received, [b"to the new one"]);
    assert_eq!(world.hosts[0].received, [b"and back"]);
}

#[test]
fn roams_to_the_address_of_the_newest_authenticated_datagram() {
    let mut world = World::pair(9);
    world.until("the channel", 5, World::both_open);
    let (from, to) = (world.hosts[1].address, SocketAddr::from(([198, 51, 100, 7], 77)));
    world.hosts[1].address = to;
    world.frame(1, 0, b"from elsewhere");
    world.run(Duration::from_millis(20));
    assert_eq!(world.snapshot(0, 1).address, Some(to));
    assert!(world.hosts[0].events.iter().any(
        |event| matches!(event, Event::Roamed { from: old, to: new, .. } if *old == from && *new == to)
    ));
    assert!(world.frame(0, 1, b"follows"));
    world.run(Duration::from_millis(20));
    assert_eq!(world.hosts[1].received, [b"follows"]);
    // An old datagram that comes again from anywhere moves nothing.
    let heard: Vec<_> = world
        .heard
        .iter()
        .filter(|old| old.to == world.hosts[0].address)
        .map(|old| old.datagram.clone())
        .collect();
    for datagram in heard {
        world.arrive(0, SocketAddr::from(([203, 0, 113, 1], 1)), datagram);
    }
    assert_eq!(world.snapshot(0, 1).address, Some(to));
}

/// The rule of the issue: a replayed, cut, bit-flipped or foreign datagram changes nothing but a counter.
#[test]
fn hostile_datagrams_move_counters_and_nothing_else() {
    let mut world = World::pair(10);
    world.until("the channel", 5, World::both_open);
    world.run(Duration::from_secs(2));
    for number in 0..20 {
        world.frame(0, 1, &[number; 900]);
        world.frame(1, 0, &[number; 3000]);
    }
    world.run(Duration::from_secs(1));
    let state = |world: &World, at: usize| {
        let link = world.snapshot(at, 1 - at);
        let channels: Vec<_> =
            link.channels.iter().map(|channel| (channel.outbound, channel.inbound)).collect();
        let passed = (link.counts.frames_received, link.counts.datagrams_received, link.counts.handshakes);
        (link.state, link.address, link.datagram_bytes, channels, passed, world.hosts[at].events.len())
    };
    let before = [state(&world, 0), state(&world, 1)];
    let received = [world.hosts[0].received.len(), world.hosts[1].received.len()];
    let sum = |world: &World| -> u64 {
        (0..2)
            .map(|at| {
                let counts = world.counts(at, 1 - at);
                let refused = world.hosts[at].refusals.read();
                let refused = serde_sum(&refused);
                counts.forged
                    + counts.repeated
                    + counts.initiations_stale
                    + counts.initiations_too_soon
                    + refused
            })
            .sum()
    };
    // What is still under way is not a replay yet.
    let arrived = world.now - Duration::from_millis(100);
    let mut heard = std::mem::take(&mut world.heard);
    heard.retain(|sent| sent.at.0.0 < arrived && sent.datagram.len() <= CALM.mtu);
    let stranger = SocketAddr::from(([203, 0, 113, 1], 1));
    let mut refused = sum(&world);
    let mut hostile = 0;
    for Travelling { to, datagram, .. } in heard.iter().rev().take(150).chain(heard.iter().take(20)) {
        let at = world.hosts.iter().position(|host| host.address == *to).unwrap();
        let bit = usize::try_from(world.entropy.below(u32::try_from(datagram.len() * 8).unwrap())).unwrap();
        let mut flipped = datagram.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let cut = datagram
            [..usize::try_from(world.entropy.below(u32::try_from(datagram.len()).unwrap())).unwrap()]
            .to_vec();
        let mut longer = datagram.clone();
        longer.push(0);
        let mut foreign = vec![0; datagram.len()];
        world.entropy.fill(&mut foreign);
        for bytes in [datagram.clone(), flipped, cut, longer, foreign] {
            if bytes.is_empty() {
                continue;
            }
            world.arrive(at, stranger, bytes);
            hostile += 1;
            // Each moves exactly one counter: none was taken, none went unnoticed.
            assert_eq!(sum(&world), refused + 1, "datagram {hostile}");
            refused += 1;
        }
    }
    assert_eq!([state(&world, 0), state(&world, 1)], before);
    assert_eq!([world.hosts[0].received.len(), world.hosts[1].received.len()], received);
    assert!(hostile > 500);
    world.run(Duration::from_secs(1));
    assert!(world.both_open());
    assert!(world.heard.iter().all(|sent| sent.to != stranger), "nothing is answered");
}

fn serde_sum(counts: &RefusalCounts) -> u64 {
    let RefusalCounts {
        foreign,
        version,
        length,
        session_unknown,
        mac1_wrong,
        cookie_replies,
        address_rate,
        handshake_forged,
        peer_unknown,
        no_common_suite,
        unexpected,
        cut_by_kernel,
        queue_full,
    } = *counts;
    foreign
        + version
        + length
        + session_unknown
        + mac1_wrong
        + cookie_replies
        + address_rate
        + handshake_forged
        + peer_unknown
        + no_common_suite
        + unexpected
        + cut_by_kernel
        + queue_full
}

#[test]
fn a_host_that_is_no_peer_or_of_another_overlay_gets_nothing() {
    let mut world = World::new(11, 3, SessionLimits::default());
    world.introduce(0, 1);
    world.introduce(1, 0);
    world.introduce(2, 0);
    world.run(Duration::from_secs(3));
    assert!(world.both_open());
    assert!(world.hosts[0].refusals.read().peer_unknown > 0);
    assert!(matches!(world.snapshot(2, 0).state, LinkState::Connecting));
    assert!(world.hosts[2].events.is_empty());
}

#[test]
fn a_refused_grant_opens_nothing_either_way() {
    let mut world = World::pair(12);
    world.hosts[0].accepts = None;
    world.run(Duration::from_secs(5));
    assert!(!world.open(0, 1) && !world.open(1, 0));
    assert!(
        world.hosts[1]
            .events
            .iter()
            .any(|event| { matches!(event, Event::ChannelRefused { reason: GrantRefusal::Invalid, .. }) })
    );
    assert!(!world.frame(1, 0, b"in") && !world.frame(0, 1, b"out"));
    world.run(Duration::from_secs(5));
    assert!(world.hosts[0].received.is_empty() && world.hosts[1].received.is_empty());
    assert!(world.counts(1, 0).no_grant_sent > 0);
    // Node learns better: the channel opens without anybody asking for it.
    world.hosts[0].accepts = Some(Duration::from_secs(600));
    world.until("the channel", 60, World::both_open);
}

/// A peer that goes on sending on a channel whose time is over: its frames are dropped and counted.
#[test]
fn a_channel_that_is_not_renewed_ends_by_itself() {
    let mut world = World::pair(13);
    world.hosts[0].accepts = Some(Duration::from_secs(20));
    world.until("the channel", 5, World::both_open);
    world.hosts[0].accepts = None;
    let stale = Arc::clone(&world.hosts[1].routes.peers[&world.hosts[0].peer]);
    world.run(Duration::from_secs(25));
    assert!(!world.open(1, 0) && !world.open(0, 1));
    let Some(SendState::Open { channel, .. }) = stale.send_state(NETWORK) else { panic!("it was open") };
    let current = Arc::clone(&world.hosts[1].routes.peers[&world.hosts[0].peer]);
    let mut wire = Wire::default();
    let egress = &mut world.hosts[1].egress;
    egress.whole(&current, channel, Checksum::Complete, 5, &mut wire).copy_from_slice(b"sneak");
    egress.flush(&mut wire);
    let before = world.counts(0, 1).no_grant_received;
    let from = world.hosts[1].address;
    for (_, datagram) in wire.0 {
        world.arrive(0, from, datagram);
    }
    assert!(world.hosts[0].received.is_empty());
    assert_eq!(world.counts(0, 1).no_grant_received, before + 1);
}

#[test]
fn a_channel_is_renewed_while_node_accepts_it() {
    let mut world = World::pair(14);
    world.hosts[0].accepts = Some(Duration::from_secs(10));
    world.hosts[1].accepts = Some(Duration::from_secs(10));
    world.until("the channel", 5, World::both_open);
    for _ in 0..600 {
        assert!(world.both_open(), "at {:?}", world.now - world.start);
        world.run(Duration::from_millis(100));
    }
}

#[test]
fn frames_of_every_size_cross_a_narrow_path_that_reorders_and_loses() {
    let mut world = World::pair(15);
    world.weather = Weather { mtu: 1252, jitter: Duration::from_millis(20), duplicates: 20, ..CALM };
    world.until("the channel", 10, World::both_open);
    world.run(Duration::from_secs(3));
    let mut sent = BTreeMap::new();
    for len in (60..9238).step_by(61) {
        let frame: Vec<u8> = (0..len).map(|i| u8::try_from((i * 31 + len) % 256).unwrap()).collect();
        assert!(world.frame(0, 1, &frame));
        sent.insert(frame, 1);
        world.run(Duration::from_millis(5));
    }
    world.run(Duration::from_secs(1));
    let mut got = BTreeMap::new();
    for frame in &world.hosts[1].received {
        *got.entry(frame.clone()).or_insert(0) += 1;
    }
    assert!(got == sent, "{} of {}", got.len(), sent.len());
    assert!(world.counts(0, 1).frames_split > 100 && world.counts(1, 0).frames_joined > 100);
    assert!(world.frame(0, 1, &vec![0; 9239]) || world.counts(0, 1).frame_too_large == 1);
}

#[test]
fn finds_what_the_path_takes_and_survives_its_narrowing() {
    let mut world = World::pair(16);
    world.until("the channel", 5, World::both_open);
    world.until("the size", 5, |world| world.snapshot(0, 1).datagram_bytes == 1472);
    world.weather.mtu = 1300;
    world.until("the narrower path", 20, |world| {
        world.snapshot(0, 1).counts.black_holes > 0
            || {
                // Traffic goes on.
                false
            }
            || world.now - world.start > Duration::from_secs(19)
    });
    for _ in 0..200 {
        world.frame(0, 1, &[1; 1400]);
        world.run(Duration::from_millis(50));
    }
    assert!(world.counts(0, 1).black_holes >= 1);
    assert!(
        (1288..=1300).contains(&world.snapshot(0, 1).datagram_bytes),
        "{}",
        world.snapshot(0, 1).datagram_bytes
    );
    let before = world.hosts[1].received.len();
    world.frame(0, 1, &[2; 1400]);
    world.run(Duration::from_millis(50));
    assert_eq!(world.hosts[1].received.len(), before + 1);
}

/// Beyond the calm rate a first message is answered by a cookie and costs no public-key work; who proves its address gets in.
#[test]
fn a_flood_of_initiations_is_answered_by_cookies_and_a_real_peer_gets_in() {
    let mut world = World::new(17, 2, SessionLimits::default());
    // The flood: a stranger who knows the host's public key.
    let stranger = SocketAddr::from(([203, 0, 113, 1], 1));
    let identity = testing::identity(77);
    let mut entropy = Entropy::new([1; 32]);
    let victim = world.hosts[0].key;
    let (_, mut datagram) = crate::session::Initiator::start(&identity, &victim, 1, 1, &mut entropy);
    crate::session::CookieJar::default().stamp(world.now, &victim, &mut datagram);
    for millisecond in 0..5000 {
        if millisecond == 100 {
            world.introduce(0, 1);
            world.introduce(1, 0);
        }
        for _ in 0..3 {
            world.arrive(0, stranger, datagram.to_vec());
        }
        world.turn();
        if world.both_open() {
            break;
        }
    }
    let refused = world.hosts[0].refusals.read();
    assert!(refused.cookie_replies > 100, "{refused:?}");
    // At most the calm rate in each second begun.
    let seconds = (world.now - world.start).as_secs() + 1;
    assert!(refused.peer_unknown <= 100 * seconds, "public-key work is bounded: {refused:?}");
    assert!(world.both_open(), "the real peer got in: {:?}\n{}", world.counts(1, 0), world.log.join("\n"));
}

#[test]
fn an_unused_link_is_left_and_the_peer_told() {
    let mut world = World::pair(18);
    world.until("the channel", 5, World::both_open);
    let now = world.now;
    for host in &mut world.hosts {
        host.links.remove_network(now, NETWORK);
    }
    world.until("both are down", 90, |world| {
        (0..2).all(|host| matches!(world.snapshot(host, 1 - host).state, LinkState::Down(_)))
    });
    let serial = world.serial;
    world.run(Duration::from_secs(60));
    assert_eq!(world.serial, serial, "an idle host says nothing");
}

#[test]
fn all_sessions_of_a_peer_are_of_one_lane() {
    let mut world = World::pair_with(23, fast_rekey());
    world.until("the channel", 5, World::both_open);
    let mut seen = BTreeSet::new();
    for _ in 0..300 {
        world.run(Duration::from_millis(100));
        seen.extend(world.hosts[0].routes.sessions.keys().copied());
    }
    assert!(seen.len() >= 10, "{seen:?}");
    let lane = u8::try_from((world.hosts[1].peer.get() + 1) % 3).unwrap();
    assert!(seen.iter().all(|index| index.to_le_bytes()[0] % 3 == lane), "{seen:?}");
}

/// A deadline that is always in the past would keep the keeper's thread spinning.
#[test]
fn a_link_at_rest_wakes_its_host_seldom() {
    let mut world = World::pair(21);
    world.until("the channel", 5, World::both_open);
    world.run(Duration::from_secs(10));
    let mut wakes = 0;
    for _ in 0..60_000 {
        let due = |host: &Host| host.links.poll_timeout().is_some_and(|at| at <= world.now);
        wakes += world.hosts.iter().filter(|host| due(host)).count();
        world.turn();
    }
    assert!(wakes < 200, "{wakes} in a minute");
}

#[test]
fn held_frames_are_bounded_over_all_links() {
    let mut world = World::new(22, 2, SessionLimits::default());
    let now = world.now;
    for number in 10..200 {
        let (peer, key) = (testing::peer(number), PublicKey([u8::try_from(number).unwrap(); 32]));
        let links = &mut world.hosts[0].links;
        links.set_peer(now, peer, HostId::random(), key, Vec::new()).unwrap();
        assert!(links.offer_grant(now, NETWORK, peer, GRANT.to_vec()));
        (0..20).for_each(|_| links.handle_frame(now, peer, NETWORK, vec![0; 9000]));
    }
    let held: usize = world.hosts[0].links.links.values().map(|entry| entry.link.held_bytes()).sum();
    assert_eq!(held, world.hosts[0].links.shared.held_bytes);
    assert!((HELD_BYTES_MAX - 9000..=HELD_BYTES_MAX).contains(&held), "{held}");
    world.run(Duration::from_secs(4));
    assert_eq!(world.hosts[0].links.shared.held_bytes, 0);
}

#[test]
fn a_host_that_is_no_member_any_more_has_no_channel() {
    let mut world = World::pair(20);
    world.until("the channel", 5, World::both_open);
    let now = world.now;
    let peer = world.hosts[1].peer;
    world.hosts[0].links.keep_members(now, NETWORK, &BTreeSet::from([peer]));
    assert!(world.both_open(), "a member keeps it");
    world.hosts[0].links.keep_members(now, NETWORK, &BTreeSet::new());
    world.run(Duration::from_secs(1));
    assert!(!world.open(0, 1) && !world.open(1, 0));
}

#[test]
fn a_removed_peer_is_told_and_its_keys_are_gone() {
    let mut world = World::pair(19);
    world.until("the channel", 5, World::both_open);
    let peer = world.hosts[1].peer;
    world.hosts[0].links.remove_peer(peer);
    world.run(Duration::from_millis(50));
    assert!(world.hosts[0].routes.sessions.is_empty());
    assert!(
        world.hosts[1]
            .events
            .iter()
            .any(|event| matches!(event, Event::LinkDown { reason: LinkDownReason::PeerLeft, .. }))
    );
}

/// Whatever order node calls in, and whatever comes from the network, nothing panics and the invariants hold.
#[test]
fn random_operations_keep_the_invariants() {
    for seed in 0..20 {
        let mut world = World::pair_with(seed, fast_rekey());
        world.serve(0);
        world.serve(1);
        for _ in 0..1500 {
            let (at, now) = (usize::try_from(world.entropy.below(2)).unwrap(), world.now);
            let other = 1 - at;
            let peer = world.hosts[other].peer;
            match world.entropy.below(12) {
                0 if world.entropy.below(10) == 0 => world.hosts[at].links.remove_peer(peer),
                1 => world.introduce(at, other),
                2 if world.entropy.below(10) == 0 => world.hosts[at].links.remove_network(now, NETWORK),
                3 => world.weather.loss = world.entropy.below(60),
                4 => {
                    world.hosts[at].accepts =
                        [None, Some(Duration::from_secs(5))][usize::from(world.entropy.below(3) > 0)]
                }
                5 => {
                    let mut body = vec![0; 40];
                    world.entropy.fill(&mut body);
                    body[0] %= 12;
                    let now = world.now();
                    world.hosts[at].links.handle_control(now, peer, &body);
                }
                6 => {
                    let mut junk = vec![0; 170];
                    world.entropy.fill(&mut junk);
                    junk[..4].copy_from_slice(&[u8::try_from(world.entropy.below(5)).unwrap(), 1, 0, 0]);
                    world.arrive(at, SocketAddr::from(([203, 0, 113, 9], 9)), junk);
                }
                _ => {
                    if world.hosts[at].routes.peers.contains_key(&peer) {
                        world.frame(at, other, &[9; 2000]);
                    }
                }
            }
            world.run(Duration::from_millis(20));
            for host in &world.hosts {
                assert!(host.routes.sessions.len() <= 3, "seed {seed}");
                assert_eq!(host.links.links.len(), host.links.by_key.len());
                assert!(
                    host.links.shared.indices.len() <= 6,
                    "seed {seed}: {}",
                    host.links.shared.indices.len()
                );
            }
        }
        // Without faults all heals.
        world.weather = CALM;
        for at in 0..2 {
            world.hosts[at].accepts = Some(Duration::from_secs(600));
            world.introduce(at, 1 - at);
        }
        world.until(&format!("healing, seed {seed}"), 120, |world| {
            (0..2).all(|at| world.hosts[at].routes.peers.contains_key(&world.hosts[1 - at].peer))
                && world.both_open()
        });
    }
}
