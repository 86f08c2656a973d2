//! What a host holds and says as the overlay grows: the directory of records at any size, in virtual time and one thread.
//!
//! The `view`, its exchange and its pace are those that run; records are signed ones, messages are encoded and counted. Simplified: hosts do
//! not leave, nothing is lost, a round trip takes no time, signatures are not checked again, and each host keeps [`NEIGHBOURS_WANTED`] connections and
//! those that others make to it, and closes what is beyond [`NEIGHBOURS_MAX`]. A search goes by views as Kademlia's does by its table, which is filled from the view: the three nearest at a time, until
//! the twenty nearest that were heard of have answered.
//!
//! What requests and pings add per message is not simulated but estimated (`CALL_BYTES`, `PING_BYTES`).

use crate::{
    clock::UnixSeconds,
    identity::{HostId, Key, Keypair, OverlayKey, pair_from_seed},
    membership::{Chain, Standing},
    peers::{NEAR_TRIED, NEAR_WANTED, NEIGHBOURS_MAX, NEIGHBOURS_WANTED, PEERS_MAX},
    pinging,
    record::{Draft, HostRecord, RECORD_REFRESH},
    view::{
        NEAREST_KEPT, Offered, View, below,
        exchange::{Exchange, Pace, RECORDS_MAX, SEQUENCE_STEP, Tag},
        place,
    },
};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

/// What a request and its answer cost beside their bodies, both ways together: negotiation, QUIC, UDP, IP and Ethernet headers, acknowledgements.
const CALL_BYTES: u64 = 700;
/// A ping with its answer and acknowledgements, all headers.
const PING_BYTES: u64 = 300;
/// What a host says of itself: an usual description.
const PAYLOAD: [u8; 120] = [7; 120];
/// When the simulation begins: any time in 2026.
const BEGIN: u32 = 1_795_000_000;
/// Hosts that join in a second.
const JOINS_PER_SECOND: usize = 200;
/// Seconds between two looks at who is near.
const NEAR_EVERY: usize = 5;
/// Searches made at the end.
const SEARCHES: usize = 200;
/// Hosts in one bucket of Kademlia's table, in one answer, and nearest that a search ends at.
const BUCKET: usize = 20;
/// Asked at once, as Kademlia does.
const PARALLEL: usize = 3;

/// What is simulated.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Hosts.
    pub hosts: usize,
    /// Seconds of virtual time after the last has joined; traffic is counted in the last third.
    pub seconds: u32,
    /// Decides everything.
    pub seed: u64,
}

/// What came out, per host.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// Records held, the mean and the least.
    pub records: f64,
    /// The least that any host holds.
    pub records_min: usize,
    /// Bytes of these records, the mean.
    pub record_bytes: f64,
    /// Connections, the mean and the most.
    pub connections: f64,
    /// The most that any host has.
    pub connections_max: usize,
    /// Records sent and received each second, the mean.
    pub records_per_s: f64,
    /// Sent and received, the mean.
    pub bytes_per_s: f64,
    /// The busiest host's.
    pub bytes_per_s_max: f64,
    /// Seconds from a record's signing to its being held, the mean over all that are held.
    pub age_s: f64,
    /// Of the searches for a host that the asking one holds no record of (if there is any), those that found it.
    pub found: f64,
    /// Hosts asked in a search, the mean.
    pub asked: f64,
}

struct Host {
    id: HostId,
    pair: Keypair,
    chain: Chain,
    record: Arc<HostRecord>,
    view: View,
    pace: Pace,
    /// With the sequence of the own record that each has.
    neighbours: BTreeMap<usize, u64>,
    /// Whom it was connected to, for when the view knows nobody it could dial.
    remembered: BTreeSet<usize>,
    near_is_next: bool,
    bytes: u64,
    records: u64,
}

struct World {
    overlay: OverlayKey,
    rng: ChaCha8Rng,
    now: u32,
    hosts: Vec<Host>,
    index: HashMap<HostId, usize>,
}

/// Runs it.
///
/// # Panics
/// If there are no hosts.
#[must_use]
pub fn run(scale: Scale) -> Figures {
    let founder = pair_from_seed(&[1; 32]);
    let mut world = World {
        overlay: OverlayKey(Key::of(&founder)),
        rng: ChaCha8Rng::seed_from_u64(scale.seed),
        now: 0,
        hosts: Vec::new(),
        index: HashMap::new(),
    };
    let mut joined_at = 0;
    let mut counted_from = u32::MAX;
    loop {
        for _ in 0..JOINS_PER_SECOND.min(scale.hosts - world.hosts.len()) {
            world.join(&founder);
            joined_at = world.now;
        }
        let is_full = world.hosts.len() == scale.hosts;
        if is_full && counted_from == u32::MAX && world.now >= joined_at + scale.seconds * 2 / 3 {
            counted_from = world.now;
            world.hosts.iter_mut().for_each(|host| (host.bytes, host.records) = (0, 0));
        }
        if is_full && world.now >= joined_at + scale.seconds {
            let seconds = world.now - counted_from;
            return world.figures(seconds.max(1));
        }
        world.second();
    }
}

impl World {
    fn unix(&self) -> UnixSeconds {
        UnixSeconds(BEGIN + self.now)
    }

    fn time(&self) -> Duration {
        Duration::from_secs(self.now.into())
    }

    fn record_of(&self, pair: &Keypair, chain: &Chain) -> Arc<HostRecord> {
        let number =
            u16::try_from(self.hosts.len() % usize::from(u16::MAX)).expect("below 2^16").to_be_bytes();
        let draft = Draft {
            sequence: u64::from(BEGIN + self.now) * 1000 / SEQUENCE_STEP * SEQUENCE_STEP,
            issued: self.unix(),
            addresses: &[
                ([10, 0, number[0], number[1]], 7440).into(),
                ([0xfd00, 0, 0, 0, 0, 0, 0, u16::from_be_bytes(number)], 7440).into(),
            ],
            relays: &[],
            payload: &PAYLOAD,
            chain,
        };
        Arc::new(HostRecord::issue(pair, self.overlay, &draft))
    }

    /// One more, by the ticket of one that is in.
    fn join(&mut self, founder: &Keypair) {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let pair = pair_from_seed(&seed);
        let key = Key::of(&pair);
        let id = key.host().expect("a pair's key is a key");
        let chain = Chain::found(founder, Key::of(founder), self.unix());
        let standing = Standing::Member { invitation: Some(Key::of(founder)) };
        let chain = chain
            .extended(founder, self.overlay, key, standing, self.unix(), None)
            .expect("two are not too many");
        let record = self.record_of(&pair, &chain);
        let at = self.hosts.len();
        self.index.insert(id, at);
        let (view, pace) = (View::new(&id), Pace::new(self.time()));
        self.hosts.push(Host {
            id,
            pair,
            chain,
            record,
            view,
            pace,
            neighbours: BTreeMap::new(),
            remembered: BTreeSet::new(),
            near_is_next: false,
            bytes: 0,
            records: 0,
        });
        if at > 0 {
            let inviter = below(&mut self.rng, at);
            self.connect(at, inviter);
        }
    }

    fn connect(&mut self, from: usize, to: usize) {
        for (one, other) in [(from, to), (to, from)] {
            let host = &mut self.hosts[one];
            host.neighbours.insert(other, 0);
            if host.remembered.len() < PEERS_MAX {
                host.remembered.insert(other);
            }
        }
        self.exchange(from, to);
    }

    fn second(&mut self) {
        self.now += 1;
        let (time, unix) = (self.time(), self.unix());
        for at in 0..self.hosts.len() {
            if self.hosts[at].record.issued.after(RECORD_REFRESH) <= unix {
                let renewed = self.record_of(&self.hosts[at].pair, &self.hosts[at].chain);
                self.hosts[at].record = renewed;
            }
            self.hosts[at].view.expire(unix);
            // A driver looks each second; here it would be most of the work.
            if (usize::try_from(self.now).unwrap_or_default() + at).is_multiple_of(NEAR_EVERY) {
                self.keep_near(at);
            }
            self.dial(at);
            if self.hosts[at].pace.is_due(time) && !self.hosts[at].neighbours.is_empty() {
                let up = self.whom_to_ask(at);
                let peer = up[below(&mut self.rng, up.len())];
                self.exchange(at, peer);
            }
        }
    }

    /// As the driver does.
    fn whom_to_ask(&mut self, at: usize) -> Vec<usize> {
        let host = &mut self.hosts[at];
        let up: Vec<usize> = host.neighbours.keys().copied().collect();
        host.near_is_next = !host.near_is_next;
        if host.near_is_next {
            return up;
        }
        let near = host.view.nearest(NEAR_TRIED);
        let near: Vec<usize> =
            near.iter().map(|near| self.index[near]).filter(|near| up.contains(near)).collect();
        if near.is_empty() { up } else { near }
    }

    fn keep_near(&mut self, at: usize) {
        let near = self.hosts[at].view.nearest(NEAREST_KEPT);
        let near: Vec<usize> = near.iter().map(|host| self.index[host]).collect();
        self.close(at, &near);
        let tried = &near[..NEAR_TRIED.min(near.len())];
        let neighbours = &self.hosts[at].neighbours;
        if tried.iter().filter(|near| neighbours.contains_key(near)).count() < NEAR_WANTED
            && let Some(peer) = tried.iter().copied().find(|near| !neighbours.contains_key(near))
        {
            self.connect(at, peer);
        }
    }

    /// One connection that is too many and not to a host that is near, if there is such.
    fn close(&mut self, at: usize, near: &[usize]) {
        let neighbours = &self.hosts[at].neighbours;
        if neighbours.len() <= NEIGHBOURS_MAX {
            return;
        }
        let free: Vec<usize> = neighbours.keys().copied().filter(|peer| !near.contains(peer)).collect();
        if !free.is_empty() {
            let peer = free[below(&mut self.rng, free.len())];
            self.hosts[at].neighbours.remove(&peer);
            self.hosts[peer].neighbours.remove(&at);
        }
    }

    /// One dial a second, while there are too few connections and somebody else is known. Whom it dials takes it, and closes another if need be.
    fn dial(&mut self, at: usize) {
        let host = &self.hosts[at];
        if host.neighbours.len() >= NEIGHBOURS_WANTED {
            return;
        }
        let viewed = host.view.iter().filter_map(|record| self.index.get(&record.host).copied());
        let known: BTreeSet<usize> = viewed.chain(host.remembered.iter().copied()).collect();
        let free: Vec<usize> = known.into_iter().filter(|peer| !host.neighbours.contains_key(peer)).collect();
        if !free.is_empty() {
            let peer = free[below(&mut self.rng, free.len())];
            self.connect(at, peer);
        }
    }

    /// As the driver does: the own record if the peer lacks it, and an answer with what the asker lacks.
    fn exchange(&mut self, from: usize, to: usize) {
        let own = Arc::clone(&self.hosts[from].record);
        let is_told = self.hosts[from].neighbours.get(&to) == Some(&own.sequence);
        let asking: Vec<Arc<HostRecord>> = (!is_told).then(|| Arc::clone(&own)).into_iter().collect();
        let question = Exchange::new([0; 16], [0; 16], self.hosts[from].view.tags(), &asking);
        self.hosts[from].neighbours.insert(to, own.sequence);
        let question_bytes = question.encode().len();
        self.take(to, &asking);
        let asker = self.hosts[from].id;
        let answering = &self.hosts[to];
        let is_known = question.known.iter().any(|tag| tag.covers(Tag::of(&answering.record)));
        let mut lacking: Vec<Arc<HostRecord>> =
            (!is_known).then(|| Arc::clone(&answering.record)).into_iter().collect();
        let room = RECORDS_MAX - lacking.len();
        lacking.extend(answering.view.sample(room, &mut self.rng, &asker, &question.known));
        let answer_bytes = Exchange::new([0; 16], [0; 16], Vec::new(), &lacking).encode().len();
        let new_hosts = self.take(from, &lacking);
        let time = self.time();
        let held = self.hosts[from].view.len();
        self.hosts[from].pace.learned(new_hosts, held, time);
        let bytes = u64::try_from(question_bytes + answer_bytes).unwrap_or(u64::MAX) + CALL_BYTES;
        let records = u64::try_from(asking.len() + lacking.len()).unwrap_or(u64::MAX);
        for host in [from, to] {
            self.hosts[host].bytes += bytes;
            self.hosts[host].records += records;
        }
    }

    fn take(&mut self, at: usize, records: &[Arc<HostRecord>]) -> usize {
        let unix = self.unix();
        let host = &mut self.hosts[at];
        let mut new_hosts = 0;
        for record in records.iter().filter(|record| record.host != host.id && !record.is_expired(unix)) {
            let is_pinned =
                |held: &HostId| self.index.get(held).is_some_and(|held| host.neighbours.contains_key(held));
            let offered = host.view.offer(Arc::clone(record), &mut self.rng, is_pinned);
            new_hosts += usize::from(matches!(offered, Offered::New { .. }));
        }
        new_hosts
    }

    /// Whether `from` finds `sought`, and how many it asks.
    fn search(&self, from: usize, sought: HostId) -> (bool, usize) {
        let target = place(&sought);
        let near = |at: usize| {
            let own = place(&self.hosts[at].id);
            let mut buckets = [0_usize; 129];
            let mut all: Vec<(u128, HostId)> = self.hosts[at]
                .view
                .iter()
                .map(|record| (place(&record.host), record.host))
                .filter(|(place, _)| {
                    let bucket = &mut buckets[usize::try_from((place ^ own).leading_zeros()).unwrap_or(128)];
                    *bucket += 1;
                    *bucket <= BUCKET
                })
                .map(|(place, host)| (place ^ target, host))
                .collect();
            all.sort_unstable();
            all.truncate(BUCKET);
            all
        };
        let mut heard: BTreeSet<(u128, HostId)> = near(from).into_iter().collect();
        let mut asked: BTreeSet<HostId> = BTreeSet::new();
        loop {
            if heard.first().is_some_and(|(distance, _)| *distance == 0) {
                return (true, asked.len());
            }
            let next: Vec<HostId> = heard
                .iter()
                .take(BUCKET)
                .map(|(_, host)| *host)
                .filter(|host| !asked.contains(host))
                .take(PARALLEL)
                .collect();
            if next.is_empty() {
                return (false, asked.len());
            }
            for host in next {
                asked.insert(host);
                heard.extend(near(self.index[&host]));
            }
        }
    }

    fn figures(&mut self, seconds: u32) -> Figures {
        let count = self.hosts.len();
        let mean = |of: &dyn Fn(&Host) -> f64| {
            self.hosts.iter().map(of).sum::<f64>() / f64::from(u32::try_from(count).unwrap_or(u32::MAX))
        };
        let pings = |host: &Host| {
            let per_s = |interval: Duration| 1.0 / interval.as_secs_f64();
            let each = per_s(pinging::INTERVAL) + per_s(pinging::INTERVAL_DIALLED);
            approximately(PING_BYTES) * each * length(host.neighbours.len())
        };
        let bytes = |host: &Host| approximately(host.bytes) / f64::from(seconds) + pings(host);
        let age = |host: &Host| {
            let ages = host.view.iter().map(|record| f64::from(BEGIN + self.now - record.issued.0));
            ages.sum::<f64>() / length(host.view.len()).max(1.0)
        };
        let mut figures = Figures {
            records: mean(&|host| length(host.view.len())),
            records_min: self.hosts.iter().map(|host| host.view.len()).min().expect("there are hosts"),
            record_bytes: mean(&|host| host.view.iter().map(|record| length(record.bytes().len())).sum()),
            connections: mean(&|host| length(host.neighbours.len())),
            connections_max: self.hosts.iter().map(|host| host.neighbours.len()).max().unwrap_or_default(),
            records_per_s: mean(&|host| approximately(host.records) / f64::from(seconds)),
            bytes_per_s: mean(&bytes),
            bytes_per_s_max: self.hosts.iter().map(bytes).fold(0.0, f64::max),
            age_s: mean(&age),
            found: 1.0,
            asked: 0.0,
        };
        let (mut found, mut asked, mut searches) = (0, 0, 0);
        for _ in 0..SEARCHES {
            let (from, to) = (below(&mut self.rng, count), below(&mut self.rng, count));
            let sought = self.hosts[to].id;
            if from == to || self.hosts[from].view.get(&sought).is_some() {
                continue;
            }
            let (is_found, hosts) = self.search(from, sought);
            searches += 1;
            found += usize::from(is_found);
            asked += hosts;
        }
        if searches > 0 {
            figures.found = length(found) / length(searches);
            figures.asked = length(asked) / length(searches);
        }
        figures
    }
}

fn length(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Counters of a simulation stay far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "counters of a simulation stay far below 2^53")]
fn approximately(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::VIEW_MAX;

    #[test]
    fn where_all_fit_into_a_view_each_comes_to_know_all() {
        let figures = run(Scale { hosts: 60, seconds: 120, seed: 1 });
        assert_eq!(figures.records_min, 59);
        assert!(figures.bytes_per_s < 1000.0, "{figures:?}");
    }

    #[test]
    fn what_a_host_holds_and_says_does_not_grow_with_the_overlay_and_searches_end_well() {
        let figures = run(Scale { hosts: 500, seconds: 300, seed: 2 });
        assert!(figures.records <= length(VIEW_MAX) && figures.records_min > VIEW_MAX / 4, "{figures:?}");
        assert!(figures.bytes_per_s < 1000.0, "{figures:?}");
        assert!(figures.found > 0.99, "{figures:?}");
    }

    #[test]
    fn one_seed_gives_one_run() {
        let scale = Scale { hosts: 20, seconds: 30, seed: 3 };
        assert_eq!(run(scale), run(scale));
    }
}
