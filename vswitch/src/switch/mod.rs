//! The virtual switch: which port or peer a frame goes to, or why it goes nowhere.
//!
//! # What it owns
//! Networks, ports, the peers that are members, what the record says of machines, what was learned beside it, and the counts. It
//! refuses to know sockets, devices, keys and clocks: time comes as an argument, frames as bytes, and the answer is a
//! [`Decision`].
//!
//! # How many workers share it
//! ```text
//!   set_network, attach, …           one at a time, under a lock
//!         │ makes a new View
//!         ▼
//!   Arc<View> (never changed) ◀── Worker::refresh (one atomic load; takes the new view if there is one)
//!         │
//!         ▼
//!   Worker::from_port / from_peer    no lock, no allocation; learned addresses and rates in atomics
//! ```
//!
//! # Rules
//! - Networks never mix: every lookup is made in the network of the port or channel a frame came on.
//! - An address the record or a port has is where they say; such an address is never learned and never flooded.
//! - Other addresses are learned, and asked of everybody when unknown, only in networks that allow them.
//! - Broadcast and multicast go to each member host once and to each local port, never back to where they came from.
//! - Split horizon: a frame from a link goes to local ports only. The hosts of a network are a full mesh, so nothing is lost and
//!   nothing can loop.
//! - Questions for known addresses are answered here (`crate::neighbour`); claims are checked (`crate::guard`).
//! - Whatever goes to everybody is limited by the rate of the port or peer it came from.
//!
//! Sources: IEEE 802.1Q sections 8.6–8.8 (forwarding, learning, ageing), design section 4.

mod build;
mod config;
mod decision;
mod peers;
mod reason;
mod storm;
pub(crate) mod view;
mod worker;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

pub use build::{
    ADDRESSES_MAX, AttachError, LEARNED_MAX, MACHINES_MAX, NETWORKS_MAX, PORTS_MAX, SetNetworkError,
};
pub use config::{Guard, MachineBinding, NetworkConfig, NetworkId, PeerIndex, PortConfig, PortId};
pub use decision::{Decision, Egress};
pub use peers::{PEERS_MAX, PeersFull};
pub use reason::{DropReason, Happened, SwitchCounts};
pub use worker::Worker;

use crate::{HostId, hash::Seed, mac::MacAddr};
use peers::Peers;
use reason::Counters;
use view::{Network, Port, View};

/// The switch of one host, shared by all workers. Its calls are cheap; none waits for the network.
#[derive(Debug)]
pub struct Switch {
    host: HostId,
    start: Instant,
    seed: Seed,
    control: Mutex<Control>,
    /// Held for the time of a swap only, so that a worker never waits for a view being built.
    published: Mutex<Arc<View>>,
    generation: AtomicU64,
    counts: Mutex<Counts>,
}

/// What changes one at a time.
#[derive(Debug, Default)]
struct Control {
    peers: Peers,
    next_port: u32,
}

#[derive(Debug, Default)]
struct Counts {
    working: Vec<Arc<Counters>>,
    /// What workers counted that are no more.
    retired: SwitchCounts,
}

impl Switch {
    /// A switch without networks on this host. `seed` keys the hashes of addresses.
    pub fn new(host: HostId, now: Instant, seed: u64) -> Arc<Self> {
        let seed = Seed::new(seed);
        Arc::new(Self {
            host,
            start: now,
            seed,
            control: Mutex::default(),
            published: Mutex::new(Arc::new(View::empty(seed))),
            generation: AtomicU64::new(0),
            counts: Mutex::default(),
        })
    }

    /// The short name of a host, given on first use.
    pub fn peer(&self, host: HostId) -> Result<PeerIndex, PeersFull> {
        self.control().peers.index(host)
    }

    /// The host behind a short name.
    pub fn host_of(&self, peer: PeerIndex) -> Option<HostId> {
        self.control().peers.host(peer)
    }

    /// Forgets a host's short name unless a network has the host as member; the name is never given again.
    pub fn forget_peer(&self, host: HostId) {
        let mut control = self.control();
        if let Some(index) = control.peers.find(&host)
            && !self.view().networks.values().any(|network| network.member(index).is_some())
        {
            control.peers.forget(index);
        }
    }

    /// Creates or replaces a network; its ports stay, and so does what was learned.
    pub fn set_network(&self, config: &NetworkConfig) -> Result<(), SetNetworkError> {
        let mut control = self.control();
        let view = self.view();
        let old = view.network(config.id);
        if old.is_none() && view.networks.len() == NETWORKS_MAX {
            return Err(SetNetworkError::NetworksFull);
        }
        let network = Network::build(config, old.map(AsRef::as_ref), self.seed, |host| {
            if host == self.host { Ok(None) } else { control.peers.index(host).map(Some) }
        })?;
        let ports = view.ports_of(config.id);
        self.publish(view.with_network(network, ports, self.seed));
        Ok(())
    }

    /// Removes a network with its ports, which are returned so that their devices can be let go.
    pub fn remove_network(&self, network: NetworkId) -> Vec<PortId> {
        let _control = self.control();
        let view = self.view();
        let Some(gone) = view.network(network) else { return Vec::new() };
        self.publish(view.without_network(network));
        gone.ports.to_vec()
    }

    /// Attaches a machine to a network.
    pub fn attach(&self, network: NetworkId, config: PortConfig) -> Result<PortId, AttachError> {
        let mut control = self.control();
        let view = self.view();
        let home = view.network(network).ok_or(AttachError::NetworkUnknown(network))?;
        if view.ports.len() == PORTS_MAX {
            return Err(AttachError::PortsFull);
        }
        home.check_port(&config)?;
        let id = PortId(control.next_port);
        control.next_port = control.next_port.checked_add(1).ok_or(AttachError::PortsFull)?;
        let mut ports = view.ports_of(network);
        ports.push(Arc::new(Port::build(id, config)));
        self.publish(view.with_network(Network::clone(home), ports, self.seed));
        Ok(id)
    }

    /// Detaches a machine; `false` if the port was gone already.
    pub fn detach(&self, port: PortId) -> bool {
        let _control = self.control();
        let view = self.view();
        let Some((_, home)) = view.ports.get(&port.0) else { return false };
        let mut ports = view.ports_of(home.id);
        ports.retain(|other| other.id != port);
        self.publish(view.with_network(Network::clone(home), ports, self.seed));
        true
    }

    /// Another thread's own part of the switch.
    pub fn worker(self: &Arc<Self>) -> Worker {
        let counters = Arc::<Counters>::default();
        lock(&self.counts).working.push(Arc::clone(&counters));
        Worker::new(Arc::clone(self), counters)
    }

    /// Everything worth showing.
    pub fn snapshot(&self, now: Instant) -> SwitchSnapshot {
        let view = self.view();
        let mut networks: Vec<_> = view
            .networks
            .values()
            .map(|network| NetworkSnapshot {
                id: network.id,
                mtu: network.mtu,
                machines: network.record.by_mac.len(),
                peers: network.peers.len(),
                learned: network.learned.as_ref().map(|table| table.known(self.since_start(now))),
                ports: view.ports_of(network.id).iter().map(|port| PortSnapshot::of(port)).collect(),
            })
            .collect();
        networks.sort_unstable_by_key(|network| network.id);
        SwitchSnapshot { counts: self.counts(), networks }
    }

    /// The counts of all workers, those that are no more included.
    pub fn counts(&self) -> SwitchCounts {
        let counts = lock(&self.counts);
        let mut sum = counts.retired.clone();
        counts.working.iter().for_each(|counters| counters.add_to(&mut sum));
        sum
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        lock(&self.control)
    }

    fn view(&self) -> Arc<View> {
        Arc::clone(&lock(&self.published))
    }

    fn published(&self) -> (u64, Arc<View>) {
        let published = lock(&self.published);
        // Raised under the same lock, so that number and view belong together.
        (self.generation.load(Ordering::Acquire), Arc::clone(&published))
    }

    fn publish(&self, view: View) {
        let view = Arc::new(view);
        let old = {
            let mut published = lock(&self.published);
            self.generation.fetch_add(1, Ordering::Release);
            std::mem::replace(&mut *published, view)
        };
        // A large view takes its time to fall apart: not while workers wait for the lock.
        drop(old);
    }

    fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.start)
    }

    fn retire(&self, counters: &Arc<Counters>) {
        let mut counts = lock(&self.counts);
        counts.working.retain(|other| !Arc::ptr_eq(other, counters));
        counters.add_to(&mut counts.retired);
    }
}

/// What the locks hold is replaced whole, never half changed: a panic elsewhere spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// State of the switch for people and programs.
#[derive(Debug, Clone, serde::Serialize)]
pub struct SwitchSnapshot {
    /// Counts of all workers.
    pub counts: SwitchCounts,
    /// Networks, by id.
    pub networks: Vec<NetworkSnapshot>,
}

/// State of one network.
#[derive(Debug, Clone, serde::Serialize)]
pub struct NetworkSnapshot {
    /// Which one.
    pub id: NetworkId,
    /// Largest payload of a frame.
    pub mtu: u16,
    /// Machines the record names.
    pub machines: usize,
    /// Other hosts with members.
    pub peers: usize,
    /// Addresses learned, where the network allows unknown ones.
    pub learned: Option<usize>,
    /// Ports on this host.
    pub ports: Vec<PortSnapshot>,
}

/// State of one port.
#[derive(Debug, Clone, serde::Serialize)]
pub struct PortSnapshot {
    /// Which one.
    pub id: PortId,
    /// Its own MAC address.
    pub mac: MacAddr,
    /// What it may send.
    pub guard: Guard,
}

impl PortSnapshot {
    fn of(port: &Port) -> Self {
        Self { id: port.id, mac: port.mac, guard: port.guard }
    }
}

/// Fuzz entry: the bytes come as a frame from a port and from a peer, in a network where all is known and in one that learns.
pub fn fuzz(frame: &[u8]) {
    const MACHINE: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    let (here, there) = (HostId::random(), HostId::random());
    let binding = |number: u8, host| MachineBinding {
        mac: MacAddr([2, 0, 0, 0, 0, number]),
        ipv4: vec![[10, 7, 0, number].into()],
        ipv6: vec![[0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number)].into()],
        host,
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant can be made in no other way; it is used once and passed on"
    )]
    let now = Instant::now();
    for (allow_unknown, guard) in [(false, Guard::Strict), (true, Guard::AllowUnknown)] {
        let switch = Switch::new(here, now, 1);
        let id = NetworkId([1; 16]);
        let machines = vec![binding(1, here), binding(2, there)];
        let network = NetworkConfig { id, mtu: 1500, machines, hosts: vec![there], allow_unknown };
        switch.set_network(&network).expect("a small network without contradictions");
        let own = binding(1, here);
        let config = PortConfig { mac: MACHINE, ipv4: own.ipv4, ipv6: own.ipv6, guard, vnet_hdr: true };
        let port = switch.attach(id, config).expect("its machine is in the record");
        let peer = switch.peer(there).expect("the second host");
        let worker = switch.worker();
        if let Decision::Many(egress) = worker.from_port(now, port, frame) {
            assert!(!egress.ports().any(|other| other == port), "nothing returns to its port");
        }
        match worker.from_peer(now, peer, id, frame) {
            Decision::Peer(..) => panic!("split horizon: a link's frame went to a link"),
            Decision::Many(egress) => assert!(egress.peers.is_empty(), "split horizon"),
            Decision::Port(_) | Decision::Answer(_) | Decision::Drop(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
