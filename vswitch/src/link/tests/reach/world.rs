//! The simulated wide network: sites behind NATs of every kind, members beside them, a control plane that only carries meetings.
//!
//! Events are taken in order of time; one seed decides everything. The NATs are the lab's own core. What is here is who is where, and time; `network` carries
//! datagrams and meetings, `views` looks at what came of it.

mod network;
mod views;

use std::{
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::{Duration, Instant},
};

use consort_lab::nat::{Behaviour, Flow, Nat, Protocol, Side, Signal};

use super::super::super::*;
use crate::{
    HostId,
    path::{
        Candidate, Line, Origin, PathResult, PathView, PeerPaths, RelayLeg, RelayPolicy, RelayTokens,
        RelayedPath, SocketId, Via,
    },
    session::{Costs, SharedSecret, StaticSecret},
    testing,
    wire::PROBE_BYTES,
};

pub(super) const NETWORK: NetworkId = NetworkId([7; 16]);
const GRANT: &[u8] = b"let me in";
/// Every host's data port inside.
const PORT: u16 = 7441;
/// One way between two sites, and inside one.
const FAR: Duration = Duration::from_millis(20);
const NEAR: Duration = Duration::from_micros(300);
/// One way of the control plane.
const CONTROL: Duration = Duration::from_millis(45);

/// Where hosts are: behind a NAT, or on the wide network itself.
pub(super) struct Site {
    pub(super) nat: Option<Nat>,
    outside: Ipv4Addr,
    /// Nothing leaves or enters: the line is cut.
    pub(super) cut: bool,
    /// A firewall that lets in what answers: the own ports and the others' addresses that were spoken to.
    firewall: Option<BTreeSet<(u16, SocketAddrV4)>>,
}

pub(super) struct Host {
    pub(super) site: usize,
    pub(super) ip: Ipv4Addr,
    pub(super) peer: PeerIndex,
    pub(super) id: HostId,
    key: PublicKey,
    pub(super) links: Links,
    pub(super) routes: Routes,
    ingress: Ingress,
    egress: Egress,
    pub(super) refusals: Arc<RefusalCounters>,
    pub(super) relayed: RelayCounters,
    /// Ports of the sockets of port searches.
    pub(super) sockets: BTreeMap<SocketId, u16>,
    next_port: u16,
    pub(super) received: Vec<(Instant, Vec<u8>)>,
    pub(super) events: Vec<(Instant, Event)>,
    pub(super) met: u32,
    /// What its node is told of other hosts comes so much later.
    pub(super) told_late: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    Datagram {
        from: SocketAddrV4,
        to: SocketAddrV4,
        inside: Option<usize>,
        datagram: Vec<u8>,
    },
    /// `who` is told where `of` is; the answer goes back.
    Meeting {
        who: usize,
        of: usize,
        answer: bool,
    },
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Happening {
    at: std::cmp::Reverse<(Instant, u64)>,
    item: Item,
}

/// What one host sent, for budgets.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) at: Instant,
    pub(super) host: usize,
    pub(super) socket: SocketId,
    pub(super) to: SocketAddr,
    pub(super) bytes: usize,
}

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) start: Instant,
    serial: u64,
    entropy: Entropy,
    pub(super) loss: u32,
    pub(super) duplicates: u32,
    pub(super) jitter: Duration,
    pub(super) mtu: usize,
    events: BinaryHeap<Happening>,
    pub(super) sites: Vec<Site>,
    pub(super) hosts: Vec<Host>,
    pub(super) sent: Vec<Sent>,
    /// Node carries meetings.
    pub(super) meetings: bool,
}

#[derive(Default)]
struct Wire(Vec<(Via, Vec<u8>)>);

impl Transmit for Wire {
    fn transmit(&mut self, via: &Via, bytes: &[u8], stride: usize) -> Transmitted {
        self.0.extend(bytes.chunks(stride).map(|datagram| (*via, datagram.to_vec())));
        Transmitted::Sent
    }

    fn transmit_over(&mut self, _: &Line, via: &Via, bytes: &[u8], stride: usize) -> Transmitted {
        self.transmit(via, bytes, stride)
    }
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let now = testing::now();
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        Self {
            now,
            start: now,
            serial: 0,
            entropy: Entropy::new(key),
            loss: 0,
            duplicates: 0,
            jitter: Duration::ZERO,
            mtu: 1472,
            events: BinaryHeap::new(),
            sites: Vec::new(),
            hosts: Vec::new(),
            sent: Vec::new(),
            meetings: true,
        }
    }

    /// Members on the wide network (three), and one host behind a NAT of each kind ("public": none; "stateful": a firewall). The first two of `kinds` are hosts 3 and 4.
    pub(super) fn with(seed: u64, kinds: &[&str]) -> Self {
        let mut world = Self::new(seed);
        for _ in 0..3 {
            let site = world.site("public");
            world.host(site);
        }
        for kind in kinds {
            let site = world.site(kind);
            world.host(site);
        }
        world.know_observers();
        world.run(Duration::from_secs(3));
        world
    }

    pub(super) fn site(&mut self, kind: &str) -> usize {
        let number = u8::try_from(self.sites.len() + 1).unwrap();
        let outside = Ipv4Addr::new(198, 51, 100, number);
        let has_nat = !["public", "stateful"].contains(&kind);
        let behaviour = has_nat.then(|| Behaviour::named(kind).expect(kind));
        let seed = u64::from_le_bytes(self.entropy.array());
        let nat = behaviour.map(|behaviour| Nat::new(behaviour, vec![outside], seed));
        let firewall = (kind == "stateful").then(BTreeSet::new);
        self.sites.push(Site { nat, outside, cut: false, firewall });
        self.sites.len() - 1
    }

    pub(super) fn host(&mut self, site: usize) -> usize {
        let number = u8::try_from(self.hosts.len() + 1).unwrap();
        let ip = self.ip_in(site, number);
        let secret = StaticSecret::new([number; 32]);
        let key = secret.public();
        let refusals = Arc::<RefusalCounters>::default();
        let config = LinksConfig {
            identity: Identity {
                secret,
                shared: SharedSecret::new([9; 32]),
                instance: self.entropy.array(),
                costs: Costs([200, 100, 300, 150]),
            },
            limits: SessionLimits::default(),
            datagram_limit: 1472,
            calm_per_second: 100,
            lanes: 2,
        };
        let mut links = Links::new(config, self.entropy.fork(), Arc::clone(&refusals), self.time());
        links.set_local(self.now, vec![SocketAddr::from((ip, PORT))]);
        self.hosts.push(Host {
            site,
            ip,
            peer: testing::peer(number.into()),
            id: HostId::random(),
            key,
            links,
            routes: Routes::default(),
            ingress: Ingress::new(Arc::clone(&refusals)),
            egress: Egress::new(0),
            refusals,
            relayed: RelayCounters::default(),
            sockets: BTreeMap::new(),
            next_port: 40_000,
            received: Vec::new(),
            events: Vec::new(),
            met: 0,
            told_late: Duration::ZERO,
        });
        self.hosts.len() - 1
    }

    fn ip_in(&self, site: usize, number: u8) -> Ipv4Addr {
        let place = &self.sites[site];
        let site = u8::try_from(site + 1).unwrap();
        if place.nat.is_some() { Ipv4Addr::new(10, 0, site, number) } else { place.outside }
    }

    pub(super) fn address(&self, host: usize) -> SocketAddr {
        SocketAddr::from((self.hosts[host].ip, PORT))
    }

    /// Everybody knows the first three hosts by their addresses, and is known to them; the first two are asked what they see.
    fn know_observers(&mut self) {
        let now = self.now;
        for host in 0..self.hosts.len() {
            for member in 0..3_usize.min(self.hosts.len()) {
                if host != member {
                    self.name(host, member);
                    self.name(member, host);
                    let candidate = Candidate::local(self.address(member));
                    let peer = self.hosts[member].peer;
                    self.hosts[host].links.set_candidates(now, peer, &[candidate], None);
                }
            }
            let observers =
                (0..3).filter(|member| *member != host).map(|member| self.hosts[member].peer).collect();
            self.hosts[host].links.set_observers(now, observers);
        }
    }

    pub(super) fn name(&mut self, at: usize, other: usize) {
        let (peer, id, key) = (self.hosts[other].peer, self.hosts[other].id, self.hosts[other].key);
        self.hosts[at].links.set_peer(self.now, peer, id, key).unwrap();
    }

    /// Both want a link.
    pub(super) fn want(&mut self, a: usize, b: usize) {
        for (at, other) in [(a, b), (b, a)] {
            self.name(at, other);
            let peer = self.hosts[other].peer;
            assert!(self.hosts[at].links.offer_grant(self.now, NETWORK, peer, GRANT.to_vec()));
        }
    }

    /// A way from `a` to `b` and back through relays, one after the other, opened as their nodes would.
    pub(super) fn relay(&mut self, a: usize, b: usize, relays: &[usize]) -> [RelayedPath; 2] {
        let forth = self.legs(a, b, relays);
        let back: Vec<usize> = relays.iter().rev().copied().collect();
        let back = self.legs(b, a, &back);
        let way = |first: usize, token: u32, token_back: u32| RelayedPath {
            relay: self.hosts[first].id,
            address: self.address(first),
            token,
            token_back,
            cost: 0,
        };
        let (first, last) = (relays[0], relays[relays.len() - 1]);
        [way(first, forth.incoming, back.outgoing), way(last, back.incoming, forth.outgoing)]
    }

    fn legs(&mut self, from: usize, to: usize, relays: &[usize]) -> RelayTokens {
        let hops: Vec<usize> = [from].into_iter().chain(relays.iter().copied()).chain([to]).collect();
        let (mut onward, mut last) = (None, 0);
        let mut first = 0;
        for place in (1..hops.len() - 1).rev() {
            let (before, relay, after) = (hops[place - 1], hops[place], hops[place + 1]);
            self.name(relay, before);
            self.name(relay, after);
            let leg = RelayLeg {
                from: self.hosts[before].id,
                to: self.hosts[after].id,
                onward,
                expires: Duration::from_secs(600),
            };
            let tokens = self.hosts[relay].links.relay_open(self.now, &leg).unwrap();
            if onward.is_none() {
                last = tokens.outgoing;
            }
            first = tokens.incoming;
            onward = Some(tokens.incoming);
        }
        RelayTokens { incoming: first, outgoing: last }
    }

    pub(super) fn allow_relaying(&mut self, relay: usize, rate_bits_per_s_max: u64) {
        let policy = RelayPolicy { enabled: true, rate_bits_per_s_max, peers_max: 10, tokens_max: 20 };
        self.hosts[relay].links.set_relay(self.now, policy);
    }

    /// A host goes to another site; its interfaces say so.
    pub(super) fn move_host(&mut self, host: usize, site: usize) {
        self.hosts[host].site = site;
        self.hosts[host].ip = self.ip_in(site, u8::try_from(host + 1).unwrap());
        // The cable is pulled before another is put in.
        self.hosts[host].links.set_local(self.now, Vec::new());
        let address = self.address(host);
        self.hosts[host].links.set_local(self.now, vec![address]);
    }

    /// The provider gives a host's router another address; the host does not notice.
    pub(super) fn readdress(&mut self, host: usize) {
        let site = &mut self.sites[self.hosts[host].site];
        let [a, b, c, d] = site.outside.octets();
        site.outside = Ipv4Addr::new(a, b, c, d + 100);
        site.nat.as_mut().expect("a home").readdress(vec![site.outside]);
    }

    pub(super) fn time(&self) -> Now {
        let nanos = u64::try_from((self.now - self.start).as_nanos()).unwrap();
        Now { at: self.now, wall_nanos: 1_000_000_000 + nanos }
    }

    // ── time ──

    fn next(&self) -> Option<Instant> {
        let event = self.events.peek().map(|event| event.at.0.0);
        let hosts = self.hosts.iter().filter_map(|host| host.links.poll_timeout());
        event.into_iter().chain(hosts).min()
    }

    /// Runs until then, or until something is so; whether it came to be.
    pub(super) fn until(&mut self, time: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + time;
        loop {
            for number in 0..self.hosts.len() {
                self.serve(number);
            }
            if done(self) {
                return true;
            }
            match self.next() {
                Some(next) if next < end => self.now = self.now.max(next),
                _ => {
                    self.now = end;
                    return done(self);
                }
            }
            while self.events.peek().is_some_and(|event| event.at.0.0 <= self.now) {
                let item = self.events.pop().expect("it was just seen").item;
                self.happen(item);
            }
        }
    }

    pub(super) fn run(&mut self, time: Duration) {
        self.until(time, |_| false);
    }
}
