//! Data planes on emulated hosts, with emulated machines behind real TAPs.
//!
//! ```text
//!   machine (own namespace)          host (own namespace)                      router (capture)
//!   tap "eth0" ───descriptor──────▶ DataPlane ── UDP ── "wan" ── cable ──▶  … ──▶ the other host
//! ```

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use consort_lab::{
    Netlink,
    host::Host,
    wide::{Cable, Place, Wide},
};
use consort_vswitch::{
    DataPlane, DataPlaneConfig, Event, GrantRefusal, Guard, HostId, MacAddr, MachineBinding, NetworkConfig,
    NetworkId, PeerConfig, PortConfig, SessionLimits, SharedSecret, StaticSecret, tap::TapQueue,
};

pub(crate) const NETWORK: NetworkId = NetworkId([7; 16]);
pub(crate) const GRANT: &[u8] = b"let me in";
/// Waiting for something that must come; never asserted as a time.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until something is so.
#[expect(clippy::disallowed_methods, reason = "real devices take real time")]
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < DEADLINE, "{what} did not happen");
        std::thread::yield_now();
    }
}

/// An emulated host with its data plane, and one machine.
pub(crate) struct Site {
    pub(crate) host: Host,
    pub(crate) place: Place,
    pub(crate) plane: DataPlane,
    pub(crate) id: HostId,
    pub(crate) machine: Host,
    pub(crate) mac: MacAddr,
    pub(crate) ipv4: Ipv4Addr,
    pub(crate) ipv6: Ipv6Addr,
}

/// How a world is made.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) cable: Cable,
    pub(crate) machine_mtu: u16,
    pub(crate) limits: SessionLimits,
    pub(crate) workers: usize,
    /// What each host presents.
    pub(crate) grants: Vec<&'static [u8]>,
}

impl Options {
    pub(crate) fn new(cable: Cable, machine_mtu: u16) -> Self {
        Self { cable, machine_mtu, limits: SessionLimits::default(), workers: 2, grants: vec![GRANT; 2] }
    }
}

/// Hosts on one wide network, all with a machine in one network.
pub(crate) struct World {
    /// The router; the cables go with it.
    _wide: Wide,
    pub(crate) sites: Vec<Site>,
}

impl World {
    pub(crate) fn new(options: &Options) -> Self {
        let mut wide = Wide::new().unwrap();
        let sites: Vec<Site> =
            (0..options.grants.len()).map(|number| Site::new(&mut wide, number, options)).collect();
        let world = Self { _wide: wide, sites };
        world.introduce(options);
        world
    }

    /// Tells every data plane of every host and machine.
    fn introduce(&self, options: &Options) {
        let machines: Vec<_> = self
            .sites
            .iter()
            .map(|site| MachineBinding {
                mac: site.mac,
                ipv4: vec![site.ipv4],
                ipv6: vec![site.ipv6],
                host: site.id,
            })
            .collect();
        for (site, grant) in self.sites.iter().zip(&options.grants) {
            let others = || self.sites.iter().filter(|other| other.id != site.id);
            site.plane
                .set_network(NetworkConfig {
                    id: NETWORK,
                    mtu: options.machine_mtu,
                    machines: machines.clone(),
                    hosts: others().map(|other| other.id).collect(),
                    allow_unknown: false,
                })
                .unwrap();
            site.attach(options);
            for other in others() {
                let addresses = vec![
                    SocketAddr::from((other.place.ipv4, other.plane.local_addr().port())),
                    SocketAddr::from((other.place.ipv6, other.plane.local_addr().port())),
                ];
                let peer = PeerConfig::at(other.id, other.plane.static_public(), &addresses);
                site.plane.set_peer(peer).unwrap();
                site.plane.offer_grant(NETWORK, other.id, grant.to_vec()).unwrap();
            }
        }
    }

    /// Waits until the channel between two hosts is open both ways.
    pub(crate) fn connected(&self, a: usize, b: usize) {
        until("the channel", || {
            [(a, b), (b, a)].into_iter().all(|(from, to)| {
                self.link(from, to)
                    .channels
                    .iter()
                    .any(|channel| (channel.outbound, channel.inbound) == ("open", "open"))
            })
        });
    }

    /// What a host shows of its link to another.
    pub(crate) fn link(&self, from: usize, to: usize) -> consort_vswitch::LinkSnapshot {
        let links = self.sites[from].plane.snapshot().links;
        links.into_iter().find(|link| link.peer == self.sites[to].id).expect("the peer was set")
    }
}

impl Site {
    fn new(wide: &mut Wide, number: usize, options: &Options) -> Self {
        let host = Host::start(&format!("host{number}")).unwrap();
        let place = wide.attach(&host, options.cable).unwrap();
        let machine = Host::start(&format!("machine{number}")).unwrap();
        let octet = u8::try_from(number + 1).unwrap();
        let id = HostId::random();
        let listen = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let secret = StaticSecret::new([octet; 32]);
        let mut config = DataPlaneConfig::new(id, secret, SharedSecret::new([42; 32]), listen, [octet; 32]);
        config.limits = options.limits;
        config.workers = options.workers;
        let (plane, mut events) = host.netns().enter(|| DataPlane::start(config)).unwrap().unwrap();
        let node = plane.clone();
        std::thread::spawn(move || {
            while let Some(event) = events.recv_blocking() {
                if let Event::ChannelRequested { request, grant, .. } = event {
                    let answer = if grant == GRANT {
                        Ok(Duration::from_secs(600))
                    } else {
                        Err(GrantRefusal::Invalid)
                    };
                    node.answer_channel(request, answer);
                }
            }
        });
        Self {
            host,
            place,
            plane,
            id,
            machine,
            mac: MacAddr([2, 0, 0, 0, 0, octet]),
            ipv4: Ipv4Addr::new(10, 7, 0, octet),
            ipv6: Ipv6Addr::new(0xfd07, 0, 0, 0, 0, 0, 0, octet.into()),
        }
    }

    fn attach(&self, options: &Options) {
        let queues =
            self.machine.netns().enter(|| TapQueue::open("eth0", options.workers.max(1))).unwrap().unwrap();
        let mut netlink = Netlink::open_in(self.machine.netns()).unwrap();
        netlink.set_link_address("eth0", self.mac.0).unwrap();
        netlink.set_mtu("eth0", options.machine_mtu.into()).unwrap();
        netlink.set_up("eth0").unwrap();
        netlink.add_address("eth0", self.ipv4.into(), 24).unwrap();
        netlink.add_address("eth0", self.ipv6.into(), 64).unwrap();
        let port = PortConfig {
            mac: self.mac,
            ipv4: vec![self.ipv4],
            ipv6: vec![self.ipv6],
            guard: Guard::Strict,
            vnet_hdr: true,
        };
        let queues = queues.iter().map(|queue| queue.as_fd().try_clone_to_owned().unwrap()).collect();
        self.plane.attach(NETWORK, port, queues).unwrap();
    }

    /// The machine's address of a family.
    pub(crate) fn address(&self, v6: bool) -> IpAddr {
        if v6 { self.ipv6.into() } else { self.ipv4.into() }
    }

    /// A UDP socket of the machine.
    pub(crate) fn udp(&self, v6: bool) -> UdpSocket {
        let address = self.address(v6);
        let socket = self.machine.netns().enter(|| UdpSocket::bind((address, 0))).unwrap().unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket
    }

    /// A TCP listener of the machine.
    pub(crate) fn listen(&self, v6: bool) -> TcpListener {
        let address = self.address(v6);
        self.machine.netns().enter(|| TcpListener::bind((address, 0))).unwrap().unwrap()
    }

    /// A TCP connection of the machine.
    pub(crate) fn connect(&self, to: SocketAddr) -> TcpStream {
        self.machine.netns().enter(|| TcpStream::connect_timeout(&to, DEADLINE)).unwrap().unwrap()
    }
}
