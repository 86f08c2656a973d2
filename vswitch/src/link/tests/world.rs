//! The simulated network: virtual time, one seed that decides everything.

use std::{
    collections::{BTreeSet, BinaryHeap},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::super::*;
use crate::{
    HostId,
    path::{Candidate, Line, Origin, Via},
    session::{Costs, SharedSecret, StaticSecret},
    testing,
    wire::control::GrantRefusal,
};

pub(super) const NETWORK: NetworkId = NetworkId([7; 16]);
pub(super) const GRANT: &[u8] = b"let me in";
pub(super) const TICK: Duration = Duration::from_millis(1);

/// What the network does to datagrams.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weather {
    /// Per cent.
    pub(super) loss: u32,
    pub(super) duplicates: u32,
    /// Added to the delay, up to; datagrams overtake each other.
    pub(super) jitter: Duration,
    pub(super) mtu: usize,
}

pub(super) const CALM: Weather = Weather { loss: 0, duplicates: 0, jitter: Duration::ZERO, mtu: 1472 };
pub(super) const STORM: Weather =
    Weather { loss: 20, duplicates: 10, jitter: Duration::from_millis(80), mtu: 1400 };

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Travelling {
    /// Reversed, so that the heap gives the earliest.
    pub(super) at: std::cmp::Reverse<(Instant, u64)>,
    pub(super) to: SocketAddr,
    pub(super) from: SocketAddr,
    pub(super) datagram: Vec<u8>,
}

/// One host: links and the worker's halves, as a driver holds them.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) address: SocketAddr,
    pub(super) peer: PeerIndex,
    pub(super) id: HostId,
    pub(super) key: PublicKey,
    pub(super) links: Links,
    pub(super) routes: Routes,
    pub(super) ingress: Ingress,
    pub(super) egress: Egress,
    pub(super) refusals: Arc<RefusalCounters>,
    pub(super) relayed: RelayCounters,
    pub(super) received: Vec<Vec<u8>>,
    pub(super) events: Vec<Event>,
    /// Grants node accepts, and for how long; anything else is refused.
    pub(super) accepts: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) now: Instant,
    pub(super) start: Instant,
    pub(super) serial: u64,
    pub(super) entropy: Entropy,
    pub(super) weather: Weather,
    pub(super) travelling: BinaryHeap<Travelling>,
    pub(super) hosts: Vec<Host>,
    /// Every datagram that was sent, to be sent again by a hostile neighbour.
    pub(super) heard: Vec<Travelling>,
    pub(super) nonces: BTreeSet<(u32, u64)>,
    pub(super) log: Vec<String>,
}

/// A worker's socket that gathers.
#[derive(Default)]
pub(super) struct Wire(pub(super) Vec<(SocketAddr, Vec<u8>)>);

impl Transmit for Wire {
    fn transmit(&mut self, via: &Via, bytes: &[u8], stride: usize) -> Transmitted {
        self.0.extend(bytes.chunks(stride).map(|datagram| (via.address, datagram.to_vec())));
        Transmitted::Sent
    }

    fn transmit_over(&mut self, _: &Line, via: &Via, bytes: &[u8], stride: usize) -> Transmitted {
        self.transmit(via, bytes, stride)
    }
}

impl World {
    pub(super) fn new(seed: u8, hosts: u8, limits: SessionLimits) -> Self {
        let now = testing::now();
        let start = Now { at: now, wall_nanos: 1_000_000 };
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
                        costs: Costs([200, 100, 300, 150]),
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
                    links: Links::new(config, entropy.fork(), Arc::clone(&refusals), start),
                    routes: Routes::default(),
                    ingress: Ingress::new(Arc::clone(&refusals)),
                    egress: Egress::new(0),
                    refusals,
                    relayed: RelayCounters::default(),
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
    pub(super) fn pair(seed: u8) -> Self {
        Self::pair_with(seed, SessionLimits::default())
    }

    pub(super) fn pair_with(seed: u8, limits: SessionLimits) -> Self {
        let mut world = Self::new(seed, 2, limits);
        world.introduce(0, 1);
        world.introduce(1, 0);
        world
    }

    pub(super) fn introduce(&mut self, at: usize, other: usize) {
        let (peer, id, key, address) = {
            let other = &self.hosts[other];
            (other.peer, other.id, other.key, other.address)
        };
        let now = self.now;
        let links = &mut self.hosts[at].links;
        links.set_peer(now, peer, id, key).unwrap();
        links.set_candidates(now, peer, &[Candidate::local(address)], None);
        assert!(links.offer_grant(now, NETWORK, peer, GRANT.to_vec()));
    }

    pub(super) fn now(&self) -> Now {
        let nanos = (self.now - self.start).as_nanos();
        Now { at: self.now, wall_nanos: 1_000_000 + u64::try_from(nanos).unwrap() }
    }

    pub(super) fn put(&mut self, from: SocketAddr, to: SocketAddr, datagram: Vec<u8>) {
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
    pub(super) fn serve(&mut self, number: usize) {
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
                Output::Send { via, datagram, .. } => self.send(from, via.address, datagram),
                Output::OpenSocket(_) | Output::CloseSocket(_) => panic!("no NAT, no search"),
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

    pub(super) fn send(&mut self, from: SocketAddr, to: SocketAddr, datagram: Vec<u8>) {
        if let Ok(Datagram::Data(data)) = Datagram::parse(&datagram) {
            assert!(self.nonces.insert((data.receiver(), data.counter())), "a nonce twice");
        }
        let at = std::cmp::Reverse((self.now, 0));
        self.heard.push(Travelling { at, to, from, datagram: datagram.clone() });
        self.put(from, to, datagram);
    }

    /// A frame of a local machine for a peer; true if it went out, else it was held or refused.
    pub(super) fn frame_to(
        &mut self,
        number: usize,
        peer: PeerIndex,
        network: NetworkId,
        frame: &[u8],
    ) -> bool {
        let (now, host) = (self.now, &mut self.hosts[number]);
        let mut wire = Wire::default();
        let route = Arc::clone(&host.routes.peers[&peer]);
        let sent = host.egress.send(now, &route, network, frame, &mut wire);
        host.egress.flush(&mut wire);
        for (route, report) in host.egress.take_reports() {
            if report == Report::Woken {
                host.links.handle_woken(now, route.peer);
            }
        }
        if sent == Err(NotSent::Waiting) {
            host.links.handle_frame(now, peer, network, frame.to_vec());
        }
        let from = host.address;
        for (to, datagram) in wire.0 {
            self.send(from, to, datagram);
        }
        sent.is_ok()
    }

    pub(super) fn frame(&mut self, from: usize, to: usize, frame: &[u8]) -> bool {
        self.frame_to(from, self.hosts[to].peer, NETWORK, frame)
    }

    /// A datagram arrives at a host.
    pub(super) fn arrive(&mut self, number: usize, from: SocketAddr, mut datagram: Vec<u8>) {
        let now = self.now();
        let host = &mut self.hosts[number];
        let stride = datagram.len();
        let (links, received) = (&mut host.links, &mut host.received);
        let from = Origin::direct(from);
        host.ingress.receive(now.at, &host.routes, from, &mut datagram, stride, |arrived| match arrived {
            Arrived::Frame { frame, network, .. } | Arrived::Joined { frame, network, .. } => {
                assert_eq!(network, NETWORK);
                received.push(frame.to_vec());
            }
            Arrived::Handshake { origin, datagram } => links.handle_datagram(now, origin, datagram),
            Arrived::Probe { peer, origin, datagram } => links.handle_probe(now.at, peer, origin, datagram),
            Arrived::Relayed { run, stride } => {
                let via = host.routes.relay.forward(now.at, &from, run, stride, &host.relayed);
                assert_eq!(via, None, "nobody relays here");
            }
            Arrived::Control { peer, body } => links.handle_control(now, peer, body),
            Arrived::Touched { peer, index, origin, newest } => {
                links.handle_touched(now, peer, index, origin, newest);
            }
            Arrived::UnknownChannel { peer, channel } => links.handle_unknown_channel(now.at, peer, channel),
        });
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.turn();
        }
    }

    /// Runs until something is so.
    pub(super) fn until(&mut self, what: &str, seconds: u64, done: impl Fn(&Self) -> bool) {
        let end = self.now + Duration::from_secs(seconds);
        while !done(self) {
            assert!(self.now < end, "{what} did not happen:\n{}", self.log.join("\n"));
            self.turn();
        }
    }

    pub(super) fn turn(&mut self) {
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

    pub(super) fn snapshot(&self, at: usize, of: usize) -> LinkSnapshot {
        let id = self.hosts[of].id;
        self.hosts[at].links.snapshot(self.now).into_iter().find(|link| link.peer == id).unwrap()
    }

    pub(super) fn open(&self, at: usize, to: usize) -> bool {
        let route = self.hosts[at].routes.peers.get(&self.hosts[to].peer);
        route.is_some_and(|route| Egress::channel(self.now, route, NETWORK, 0).is_ok())
    }

    pub(super) fn both_open(&self) -> bool {
        self.open(0, 1) && self.open(1, 0)
    }

    pub(super) fn counts(&self, at: usize, of: usize) -> LinkCounts {
        self.snapshot(at, of).counts
    }
}

pub(super) fn fast_rekey() -> SessionLimits {
    SessionLimits {
        rekey_after: Duration::from_secs(2),
        refuse_after: Duration::from_secs(20),
        ..SessionLimits::default()
    }
}
