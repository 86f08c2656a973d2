//! The handle on the data plane: what node does with it, and what it shows.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Release},
    thread::JoinHandle,
    time::Duration,
};

use zeroize::Zeroizing;

use crate::{
    HostId,
    config::{AttachError, DataPlaneConfig, PeerConfig, PeerError, StartError, WORKERS_MAX},
    driver::{
        clock,
        counters::{WorkerCounters, WorkerCounts},
        events::{self, EventReceiver},
        inbox::Inbox,
        keeper::{Keeper, KeeperShared},
        poll::Waker,
        published::Published,
        readers::Readers,
        tap::{QUEUES_MAX, TapQueue},
        udp::Socket,
        worker::{Port, Ports, Worker, WorkersShared},
    },
    entropy::Entropy,
    link::{
        ChannelRequest, LinkSnapshot, Links, LinksConfig, LinksFull, RefusalCounters, RefusalCounts,
        RelayCounters, Routes,
    },
    path::{
        Candidate, LineSnapshot, LocalPaths, PathsSnapshot, PeerNat, RelayLeg, RelayPolicy, RelayRefusal,
        RelaySnapshot, RelayTokens, RelayedPath, SocketId,
    },
    session::{CALM_PER_SECOND, Costs, Identity, PublicKey, SUITES},
    switch::{NetworkConfig, NetworkId, PortConfig, PortId, SetNetworkError, Switch, SwitchSnapshot},
    wire::control::GrantRefusal,
};

/// Everything worth showing.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Snapshot {
    /// Where datagrams come in.
    pub listen: SocketAddr,
    /// The same, of the second IP version.
    pub listen_second: Option<SocketAddr>,
    /// Whether the kernel segments what is sent, and joins what is received.
    pub udp_offloads: (bool, bool),
    /// Threads that move frames.
    pub workers: usize,
    /// Nanoseconds per kilobyte of each [`Suite`](crate::session::Suite), in order of their numbers, as measured at start.
    pub cipher_costs: [u16; SUITES],
    /// Networks, ports, and why frames went nowhere.
    pub switch: SwitchSnapshot,
    /// Links, by peer.
    pub links: Vec<LinkSnapshot>,
    /// Where this host can be reached, and every way to each peer.
    pub paths: PathsSnapshot,
    /// What is forwarded for others.
    pub relay: RelaySnapshot,
    /// Links with a rate.
    pub lines: Vec<LineSnapshot>,
    /// Datagrams that did nothing but move one of these.
    pub refused: RefusalCounts,
    /// Bytes of memory taken by datagrams that wait for workers now.
    pub receive_queue_bytes: u64,
    /// Datagrams the kernel dropped because workers did not keep up: net.core.rmem_max bounds the queue, and the processor the rate.
    pub receive_queue_drops: u64,
    /// What else workers counted.
    pub worker_counts: WorkerCounts,
    /// Events node had no room for.
    pub events_lost: u64,
}

/// A running data plane. Clones are handles on the same one; no method waits for the network.
#[derive(Debug, Clone)]
pub struct DataPlane {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    switch: Arc<Switch>,
    keeper: Arc<KeeperShared>,
    ports: Arc<Published<Ports>>,
    wakers: Vec<Arc<Waker>>,
    counters: Vec<Arc<WorkerCounters>>,
    refusals: Arc<RefusalCounters>,
    relayed: Arc<RelayCounters>,
    sockets: Vec<Arc<Socket>>,
    costs: Costs,
    public: PublicKey,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl DataPlane {
    /// Binds the UDP port and starts the threads. The receiver gives what node must judge or know.
    pub fn start(config: DataPlaneConfig) -> Result<(Self, EventReceiver), StartError> {
        let resource = |what| move |source| StartError::Resource { what, source };
        let workers = match config.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX),
            workers if workers <= WORKERS_MAX => workers,
            workers => return Err(StartError::Workers(workers)),
        };
        let (sockets, second) = bind(&config, workers)?;
        let mut entropy = mixed(config.seed).map_err(resource("draw entropy"))?;
        let now = clock::both();
        let costs = Costs::measure(clock::time);
        let public = config.static_secret.public();
        let identity =
            Identity { secret: config.static_secret, shared: config.psk, instance: entropy.array(), costs };
        let links_config = LinksConfig {
            identity,
            limits: config.limits,
            datagram_limit: config.datagram_bytes_max,
            calm_per_second: CALM_PER_SECOND,
            lanes: u8::try_from(workers).expect("workers are few"),
        };
        let refusals = Arc::<RefusalCounters>::default();
        let links = Links::new(links_config, entropy.fork(), Arc::clone(&refusals), now);
        let switch = Switch::new(config.host, now.at, u64::from_le_bytes(entropy.array()));
        let (sender, receiver) = events::channel();
        let inbox = Inbox::new(Waker::new().map_err(resource("make an eventfd"))?);
        let routes = Arc::new(Published::new(Routes::default()));
        let keeper = Arc::new(KeeperShared::new(links, inbox, routes, sender));
        keeper.change_sockets(|sockets| {
            let numbered = second.into_iter().enumerate();
            sockets.extend(numbered.map(|(worker, socket)| (SocketId::second(worker), Arc::new(socket))));
        });
        let ports = Arc::new(Published::new(HashMap::new()));
        let mut inner = Inner {
            switch,
            keeper,
            ports,
            wakers: Vec::new(),
            counters: Vec::new(),
            refusals,
            relayed: Arc::default(),
            sockets,
            costs,
            public,
            threads: Mutex::default(),
        };
        let threads = inner.spawn(config.busy_poll).map_err(resource("start a worker"));
        if threads.is_err() {
            inner.stop();
        }
        threads?;
        Ok((Self { inner: Arc::new(inner) }, receiver))
    }

    /// The address datagrams come in at; with two IP versions, the first that was given.
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.sockets[0].local_addr()
    }

    /// The address of the second IP version, if there is one.
    pub fn local_addr_second(&self) -> Option<SocketAddr> {
        self.inner.keeper.sockets.read().get(&SocketId::SECOND).map(|socket| socket.local_addr())
    }

    /// The public half of the static key, for the host's record.
    pub fn static_public(&self) -> [u8; 32] {
        self.inner.public.0
    }

    /// Creates or replaces a network; its ports, and what was learned, stay. Channels to hosts that are no members any more are closed.
    pub fn set_network(&self, network: NetworkConfig) -> Result<(), SetNetworkError> {
        let switch = &self.inner.switch;
        switch.set_network(&network)?;
        let members = network.hosts.iter().map(|host| switch.peer(*host)).collect::<Result<_, _>>()?;
        let now = clock::now();
        self.inner.keeper.with_links(|links| links.keep_members(now, network.id, &members));
        Ok(())
    }

    /// Removes a network: its ports are let go, its channels closed.
    pub fn remove_network(&self, network: NetworkId) {
        let ports = self.inner.switch.remove_network(network);
        self.inner.forget_ports(&ports);
        let now = clock::now();
        self.inner.keeper.with_links(|links| links.remove_network(now, network));
    }

    /// Attaches a machine by its TAP's queues, which were opened with `IFF_TAP | IFF_NO_PI | IFF_VNET_HDR` (and `IFF_MULTI_QUEUE` if
    /// there are several: then the last is only written to, so that order inside a flow holds, and the others are read).
    pub fn attach(
        &self,
        network: NetworkId,
        port: PortConfig,
        queues: Vec<OwnedFd>,
    ) -> Result<PortId, AttachError> {
        if !(1..=QUEUES_MAX + 1).contains(&queues.len()) {
            return Err(AttachError::Queues(queues.len()));
        }
        let mut queues = queues.into_iter().map(TapQueue::adopt).collect::<Result<Vec<_>, _>>()?;
        if let Some(queue) = queues.iter().find(|queue| !queue.has_vnet_header()) {
            return Err(AttachError::NoVnetHeader(queue.name().to_owned()));
        }
        let writer = if queues.len() > 1 { queues.pop() } else { None };
        writer.as_ref().map_or(Ok(()), TapQueue::detach)?;
        let id = self.inner.switch.attach(network, port)?;
        let readers = Readers::new(id, queues.len(), self.inner.wakers.len());
        let port = Arc::new(Port { id, queues, writer, readers });
        self.inner.change_ports(|ports| {
            ports.insert(id, port);
        });
        Ok(id)
    }

    /// Detaches a machine; its TAP's descriptors are closed soon after.
    pub fn detach(&self, port: PortId) {
        self.inner.switch.detach(port);
        self.inner.forget_ports(&[port]);
    }

    /// Names a peer, or gives it other ways: those given here take the place of those given before.
    pub fn set_peer(&self, peer: PeerConfig) -> Result<(), PeerError> {
        let index = self.inner.switch.peer(peer.host)?;
        let now = clock::now();
        let key = PublicKey(peer.static_key);
        Ok(self.inner.keeper.with_links(|links| {
            links.set_peer(now, index, peer.host, key)?;
            links.set_direct(now, index, peer.direct);
            links.set_candidates(now, index, &peer.candidates, None);
            links.set_relayed(now, index, &peer.via);
            links.set_kept(now, index, peer.keep);
            Ok::<_, LinksFull>(())
        })?)
    }

    /// A peer's candidates and NAT, as its node told them just now: both sides probe at once.
    pub fn set_candidates(
        &self,
        host: HostId,
        candidates: &[Candidate],
        nat: PeerNat,
    ) -> Result<(), PeerError> {
        let index = self.inner.switch.peer(host)?;
        let now = clock::now();
        self.inner.keeper.with_links(|links| links.set_candidates(now, index, candidates, Some(nat)));
        Ok(())
    }

    /// The ways to a peer through relays; they take the place of those given before.
    pub fn set_relayed(&self, host: HostId, relayed: &[RelayedPath]) -> Result<(), PeerError> {
        let index = self.inner.switch.peer(host)?;
        let now = clock::now();
        self.inner.keeper.with_links(|links| links.set_relayed(now, index, relayed));
        Ok(())
    }

    /// Peers that are asked what they see of this host, so that its outside addresses and NAT are known: two at least, on two addresses.
    pub fn set_observers(&self, hosts: &[HostId]) -> Result<(), PeerError> {
        let observers = hosts.iter().map(|host| self.inner.switch.peer(*host)).collect::<Result<_, _>>()?;
        let now = clock::now();
        self.inner.keeper.with_links(|links| links.set_observers(now, observers));
        Ok(())
    }

    /// Addresses that node had mapped to the data plane's port at routers.
    pub fn set_mapped(&self, mapped: Vec<SocketAddr>) {
        let now = clock::now();
        self.inner.keeper.with_links(|links| links.set_mapped(now, mapped));
    }

    /// Addresses, as prefixes, that this host reaches through its own switch: on networks it has a device on. They are no ways to anybody, neither
    /// this host's nor a peer's. To be said before the device has an address; at most [`INSIDE_MAX`](crate::path::INSIDE_MAX) prefixes count.
    pub fn set_inside(&self, prefixes: Vec<(IpAddr, u8)>) {
        let now = clock::now();
        self.inner.keeper.with_links(|links| links.set_inside(now, prefixes));
    }

    /// Whether an address is on a network that [`Self::set_inside`] named.
    #[must_use]
    pub fn is_inside(&self, ip: IpAddr) -> bool {
        self.inner.keeper.read_links(|links| links.is_inside(ip))
    }

    /// Where this host can be reached, as far as is known now: [`LocalPaths::candidates`] are to be published.
    pub fn own_paths(&self) -> LocalPaths {
        self.inner.keeper.read_links(Links::own_paths)
    }

    /// What the owner lets others send through this host.
    pub fn set_relay(&self, policy: RelayPolicy) {
        let now = clock::now();
        self.inner.keeper.with_links(|links| links.set_relay(now, policy));
    }

    /// The most, in bits a second, that this host sends over its direct link to a peer, for itself and for others: what would be more waits shortly or is
    /// dropped. None: whatever the link carries.
    pub fn set_link_rate(&self, host: HostId, bits_per_second: Option<u64>) -> Result<(), PeerError> {
        let index = self.inner.switch.peer(host)?;
        let now = clock::now();
        self.inner.keeper.with_links(|links| links.set_rate(now, index, bits_per_second));
        Ok(())
    }

    /// Opens a leg through this host, or begins its time anew: the same hosts get the same numbers. Whether they may is node's to judge.
    pub fn relay_open(&self, leg: &RelayLeg) -> Result<RelayTokens, RelayRefusal> {
        let now = clock::now();
        self.inner.keeper.with_links(|links| links.relay_open(now, leg))
    }

    /// Closes a leg.
    pub fn relay_close(&self, incoming: u32) {
        let now = clock::now();
        self.inner.keeper.with_links(|links| links.relay_close(now, incoming));
    }

    /// Forgets a peer: its link ends at once.
    pub fn remove_peer(&self, host: HostId) {
        if let Ok(index) = self.inner.switch.peer(host) {
            let now = clock::now();
            self.inner.keeper.with_links(|links| links.remove_peer(now, index));
            self.inner.switch.forget_peer(host);
        }
    }

    /// The grant to present to a peer for a network. The link to the peer is wanted from now on; a newer grant replaces an older.
    pub fn offer_grant(&self, network: NetworkId, peer: HostId, grant: Vec<u8>) -> Result<(), PeerError> {
        let index = self.inner.switch.peer(peer)?;
        let now = clock::now();
        let taken = self.inner.keeper.with_links(|links| links.offer_grant(now, network, index, grant));
        if taken { Ok(()) } else { Err(PeerError::Grant) }
    }

    /// Says something to a peer's node, sealed, over whatever way the link has: there an [`Event::Said`](crate::Event::Said). False where there
    /// is no link, or nothing or more than [`NOTE_BYTES_MAX`](crate::NOTE_BYTES_MAX) bytes to say. It may be lost.
    pub fn say(&self, peer: HostId, body: &[u8]) -> bool {
        let Ok(index) = self.inner.switch.peer(peer) else { return false };
        let now = clock::now();
        self.inner.keeper.with_links(|links| links.say(now, index, body))
    }

    /// Answers an [`Event::ChannelRequested`](crate::Event::ChannelRequested): for how long the peer's grant holds, or why not.
    pub fn answer_channel(&self, request: ChannelRequest, answer: Result<Duration, GrantRefusal>) {
        let now = clock::now();
        self.inner.keeper.with_links(|links| links.answer(now, &request, answer));
    }

    /// Everything worth showing.
    pub fn snapshot(&self) -> Snapshot {
        let inner = &*self.inner;
        let now = clock::now();
        let mut worker_counts = WorkerCounts::default();
        inner.counters.iter().for_each(|counters| counters.add_to(&mut worker_counts));
        let others = inner.keeper.sockets.read();
        let second = others.iter().filter(|(id, _)| id.second_of().is_some()).map(|(_, socket)| socket);
        let queues: Vec<_> = inner.sockets.iter().chain(second).map(|socket| socket.queue()).collect();
        Snapshot {
            listen: self.local_addr(),
            listen_second: self.local_addr_second(),
            udp_offloads: inner.sockets[0].offloads(),
            workers: inner.wakers.len(),
            cipher_costs: inner.costs.0,
            switch: inner.switch.snapshot(now),
            links: inner.keeper.read_links(|links| links.snapshot(now)),
            paths: inner.keeper.read_links(|links| links.paths(now)),
            relay: inner.keeper.read_links(|links| links.relay_snapshot(&inner.relayed)),
            lines: inner.keeper.read_links(Links::lines),
            refused: inner.refusals.read(),
            receive_queue_bytes: queues.iter().map(|queue| queue.0).sum(),
            receive_queue_drops: queues.iter().map(|queue| queue.1).sum(),
            worker_counts,
            events_lost: inner.keeper.events.lost(),
        }
    }

    /// Says farewell to the peers and ends the threads; returns when they have ended.
    pub fn shutdown(self) {
        self.inner.stop();
    }
}

impl Inner {
    fn spawn(&mut self, busy_poll: Duration) -> io::Result<()> {
        let workers = self.sockets.len();
        let mut threads = Vec::with_capacity(workers + 1);
        let keeper = Keeper::new(Arc::clone(&self.keeper), Arc::clone(&self.sockets[0]))?;
        threads.push(std::thread::Builder::new().name("vswitch-keeper".into()).spawn(move || keeper.run())?);
        for (number, socket) in (0_u8..).zip(&self.sockets) {
            let counters = Arc::<WorkerCounters>::default();
            let waker = Arc::new(Waker::new()?);
            self.counters.push(Arc::clone(&counters));
            self.wakers.push(Arc::clone(&waker));
            let shared = WorkersShared {
                keeper: Arc::clone(&self.keeper),
                ports: Arc::clone(&self.ports),
                refusals: Arc::clone(&self.refusals),
                relayed: Arc::clone(&self.relayed),
                counters,
                busy_poll,
            };
            let worker = Worker::new(
                Arc::new(shared),
                number,
                workers,
                self.switch.worker(),
                Arc::clone(socket),
                waker,
            )?;
            let name = format!("vswitch-{number}");
            threads.push(std::thread::Builder::new().name(name).spawn(move || worker.run())?);
        }
        self.keeper.workers.set(self.wakers.clone()).expect("threads are started once");
        *self.threads.lock().unwrap_or_else(PoisonError::into_inner) = threads;
        Ok(())
    }

    fn change_ports(&self, change: impl FnOnce(&mut Ports)) {
        self.ports.update(|ports| {
            let mut ports = ports.clone();
            change(&mut ports);
            ports
        });
        self.wakers.iter().for_each(|waker| waker.wake());
    }

    fn forget_ports(&self, gone: &[PortId]) {
        if !gone.is_empty() {
            self.change_ports(|ports| gone.iter().for_each(|port| drop(ports.remove(port))));
        }
    }

    fn stop(&self) {
        self.keeper.stop.store(true, Release);
        self.keeper.inbox.waker().wake();
        self.wakers.iter().for_each(|waker| waker.wake());
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the data plane had panicked");
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The workers' sockets, and those of the second IP version, if there is one.
fn bind(config: &DataPlaneConfig, workers: usize) -> Result<(Vec<Arc<Socket>>, Vec<Socket>), StartError> {
    let failed = |listen| move |source| StartError::Listen { listen, source };
    let Some(second) = config.listen_second else {
        let sockets = Socket::bind(config.listen, workers).map_err(failed(config.listen))?;
        return Ok((sockets.into_iter().map(Arc::new).collect(), Vec::new()));
    };
    let first = Socket::bind_beside(config.listen, workers).map_err(failed(config.listen))?;
    let is_absent =
        |error: &io::Error| matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL));
    let second = match Socket::bind_beside(second, workers) {
        Err(error) if second.ip().is_unspecified() && is_absent(&error) => {
            tracing::warn!(listen = %second, %error, "this computer has one IP version only");
            Vec::new()
        }
        bound => bound.map_err(failed(second))?,
    };
    Ok((first.into_iter().map(Arc::new).collect(), second))
}

/// The caller's seed and the system's entropy together.
fn mixed(seed: [u8; 32]) -> io::Result<Entropy> {
    let mut system = Zeroizing::new([0_u8; 32]);
    let mut filled = 0;
    while filled < system.len() {
        filled += rustix::rand::getrandom(&mut system[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    let mut hasher = blake3::Hasher::new_derive_key("consort vswitch seed v1");
    hasher.update(&seed).update(&*system);
    Ok(Entropy::new(*hasher.finalize().as_bytes()))
}
