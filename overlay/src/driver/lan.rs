//! The sockets of [`lan`](crate::lan): one for each IP version, on every interface this host listens on, in a task of its own.
//!
//! Owns: UDP port 5353 (shared with whatever else speaks multicast DNS here), group memberships, the time. The [`Driver`] tells it by a watch what to
//! look for and what to answer, and hears what was found. Where a socket cannot be had, the local link is left alone and the log says why.

use super::{Driver, transport::from_multiaddr};
use crate::{
    clock::since_start,
    counters::count,
    identity::{HostId, Key, OverlayKey},
    lan::{Heard, Pace, SOUGHT_MAX, Service, packet::PACKET_BYTES_MAX},
    limit::Rate,
};
use nix::{
    ifaddrs::getifaddrs,
    net::if_::{InterfaceFlags, if_nametoindex},
};
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::{
    collections::BTreeMap,
    future::pending,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    time::Duration,
};
use tokio::{
    net::UdpSocket,
    sync::{mpsc, watch},
};

const PORT: u16 = 5353;
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
/// Most interfaces spoken on; a host with more of them is a router, and its links are not homes.
const INTERFACES_MAX: usize = 8;
/// News for the driver that wait. What does not fit is said again at the next answer.
const NEWS_MAX: usize = 16;
/// Members found on the link in a second, and at once: a hall full of hosts that start together, and a bound for one that invents others.
const FOUND: Rate = Rate { per_second: 16, burst: 256 };
/// How long a join waits for somebody on the link after the inviter itself could not be reached: two questions and their answers.
pub(super) const JOIN_PATIENCE: Duration = Duration::from_secs(3);

/// What the task is to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Where this host listens, each with its port.
    listen: Vec<SocketAddr>,
    /// The overlay for which it answers.
    member_of: Option<OverlayKey>,
    /// The overlays whose members it looks for.
    sought: Vec<OverlayKey>,
    /// Whether it has no connection.
    alone: bool,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum News {
    Found { overlay: OverlayKey, host: HostId, addresses: Vec<SocketAddr> },
    Refused(&'static str),
}

/// The driver's ends of the task.
pub(super) struct Link {
    wanted: watch::Sender<Wanted>,
    news: mpsc::Receiver<News>,
}

impl Link {
    /// Starts the task; it ends with this.
    pub(super) fn start(own: Key, rng: ChaCha8Rng) -> Self {
        let (wanted, orders) = watch::channel(Wanted::default());
        let (sender, news) = mpsc::channel(NEWS_MAX);
        tokio::spawn(
            Task { own, rng, news: sender, sockets: BTreeMap::new(), interfaces: Vec::new() }.run(orders),
        );
        Self { wanted, news }
    }

    /// The next news; waits for ever where the local link is off.
    pub(super) async fn next(link: &mut Option<Self>) -> News {
        match link {
            Some(link) => match link.news.recv().await {
                Some(news) => news,
                None => pending().await,
            },
            None => pending().await,
        }
    }
}

impl Driver {
    /// Tells the task what is wanted now.
    pub(super) fn tell_link(&mut self) {
        let Some(link) = &self.link else { return };
        let listen =
            self.swarm.listeners().filter_map(|address| from_multiaddr(address).map(|(address, _)| address));
        let mut listen: Vec<SocketAddr> = listen.filter(|address| !address.ip().is_loopback()).collect();
        listen.sort_unstable();
        listen.dedup();
        let door = self.door.lock();
        let member_of = door.overlay().filter(|_| !self.entering);
        let tickets = door.tickets.iter().map(|ticket| ticket.overlay());
        let mut sought: Vec<OverlayKey> = member_of.into_iter().chain(tickets).collect();
        drop(door);
        sought.dedup();
        sought.truncate(SOUGHT_MAX);
        let wanted = Wanted { listen, member_of, sought, alone: self.peers.connected() == 0 };
        link.wanted.send_if_modified(|held| {
            let changed = *held != wanted;
            *held = wanted;
            changed
        });
    }

    /// Somebody on the link says that he is a member.
    pub(super) fn on_link_news(&mut self, news: News) {
        let (overlay, host, addresses) = match news {
            News::Refused(why) => return count(&mut self.counters.link_refused, why),
            News::Found { overlay, host, addresses } => (overlay, host, addresses),
        };
        let (local, now) = (*self.swarm.local_peer_id(), self.now());
        if host == local || self.entering {
            return;
        }
        if !self.buckets.allows((local, "overlay/link"), FOUND, now) {
            return count(&mut self.counters.link_refused, "rate");
        }
        let own = {
            let mut door = self.door.lock();
            let own = door.overlay() == Some(overlay);
            if !own && !door.found_on_link(host, overlay) {
                return;
            }
            own
        };
        self.counters.link_found += 1;
        let fresh = self.peers.learn_more(host, &addresses);
        if self.peers.is_up(&host) || (own && !fresh && self.peers.connected() > 0) {
            return;
        }
        if fresh {
            tracing::info!(%host, ?addresses, "a member is on the local link");
        }
        self.peers.retry_now(&host);
        self.upkeep_connections();
    }
}

/// An interface that this host listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Interface {
    index: u32,
    /// Its address of the socket's version, to choose it by.
    address: IpAddr,
    /// Where this host is found on it.
    listen: Vec<SocketAddr>,
}

struct Task {
    own: Key,
    rng: ChaCha8Rng,
    news: mpsc::Sender<News>,
    /// By whether it is one for IPv6.
    sockets: BTreeMap<bool, UdpSocket>,
    interfaces: Vec<Interface>,
}

impl Task {
    async fn run(mut self, mut orders: watch::Receiver<Wanted>) {
        let mut pace = Pace::new(since_start());
        // What was said before this task began is news too.
        let mut wanted = Wanted::default();
        orders.mark_changed();
        let mut services: Vec<Service> = Vec::new();
        let (mut buffer_v4, mut buffer_v6) = ([0; PACKET_BYTES_MAX], [0; PACKET_BYTES_MAX]);
        loop {
            let wait = if services.is_empty() || self.interfaces.is_empty() {
                None
            } else {
                Some(pace.next().saturating_sub(since_start()))
            };
            let len = tokio::select! {
                changed = orders.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let before = std::mem::replace(&mut wanted, orders.borrow_and_update().clone());
                    if (&before.listen, &before.sought) != (&wanted.listen, &wanted.sought) {
                        services = wanted.sought.iter().map(|overlay| Service::of(*overlay)).collect();
                        self.listen_on(&wanted);
                        pace.restart(since_start());
                    }
                    None
                }
                () = sleep(wait) => None,
                len = receive(self.sockets.get(&false), &mut buffer_v4) => len.map(|len| (false, len)),
                len = receive(self.sockets.get(&true), &mut buffer_v6) => len.map(|len| (true, len)),
            };
            if let Some((v6, len)) = len {
                let bytes = if v6 { &buffer_v6[..len] } else { &buffer_v4[..len] };
                self.hear(bytes, &services, &wanted, &mut pace);
            }
            let now = since_start();
            if services.is_empty() || self.interfaces.is_empty() {
                continue;
            }
            if pace.asks(now, wanted.alone) {
                for service in &services {
                    self.say(|_| service.question());
                }
            }
            if pace.answers(now)
                && let Some(service) =
                    services.iter().find(|service| Some(service.overlay) == wanted.member_of)
            {
                let mut nonce = [0; 8];
                self.rng.fill_bytes(&mut nonce);
                let own = self.own;
                self.say(|interface| service.answer(nonce, own, &interface.listen));
            }
        }
    }

    fn hear(&mut self, bytes: &[u8], services: &[Service], wanted: &Wanted, pace: &mut Pace) {
        for service in services {
            let news = match service.hear(bytes) {
                Heard::Other => continue,
                Heard::Question => {
                    if wanted.member_of == Some(service.overlay) {
                        pace.asked(since_start(), &mut self.rng);
                    }
                    return;
                }
                // An own answer comes back.
                Heard::Found { host, .. } if Some(host) == self.own.host() => return,
                Heard::Found { host, addresses } => News::Found { overlay: service.overlay, host, addresses },
                Heard::Refused(why) => News::Refused(why),
            };
            // A driver that is behind hears of it at the next answer.
            self.news.try_send(news).ok();
            return;
        }
    }

    /// Sends on every interface what `packet` makes for it.
    fn say(&self, packet: impl Fn(&Interface) -> Vec<u8>) {
        for interface in &self.interfaces {
            let v6 = interface.address.is_ipv6();
            let Some(socket) = self.sockets.get(&v6) else { continue };
            let reference = SockRef::from(socket);
            let (chosen, group) = match interface.address {
                IpAddr::V4(address) => {
                    (reference.set_multicast_if_v4(&address), SocketAddr::from((GROUP_V4, PORT)))
                }
                IpAddr::V6(_) => (
                    reference.set_multicast_if_v6(interface.index),
                    SocketAddr::V6(SocketAddrV6::new(GROUP_V6, PORT, 0, interface.index)),
                ),
            };
            if let Err(error) = chosen.and_then(|()| socket.try_send_to(&packet(interface), group).map(drop))
            {
                // An interface that just went down; it is said again later.
                tracing::debug!(address = %interface.address, %error, "the local link takes no packet");
            }
        }
    }

    /// Opens the sockets that are needed and joins the groups on each interface.
    fn listen_on(&mut self, wanted: &Wanted) {
        self.sockets.clear();
        self.interfaces = if wanted.sought.is_empty() { Vec::new() } else { interfaces(&wanted.listen) };
        for v6 in [false, true] {
            let of_version: Vec<Interface> = self
                .interfaces
                .iter()
                .filter(|interface| interface.address.is_ipv6() == v6)
                .cloned()
                .collect();
            if of_version.is_empty() {
                continue;
            }
            match open(v6, &of_version) {
                Ok(socket) => drop(self.sockets.insert(v6, socket)),
                Err(error) => {
                    tracing::warn!(%error, ipv6 = v6, "members on the local link are not looked for");
                    self.interfaces.retain(|interface| interface.address.is_ipv6() != v6);
                }
            }
        }
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => pending().await,
    }
}

/// The next packet; `None`: the system reported something else. Waits for ever without a socket.
async fn receive(socket: Option<&UdpSocket>, buffer: &mut [u8]) -> Option<usize> {
    match socket {
        Some(socket) => socket.recv_from(buffer).await.map(|(len, _)| len).ok(),
        None => pending().await,
    }
}

fn open(v6: bool, interfaces: &[Interface]) -> io::Result<UdpSocket> {
    let (domain, any) = if v6 {
        (Domain::IPV6, IpAddr::V6(Ipv6Addr::UNSPECIFIED))
    } else {
        (Domain::IPV4, IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    if v6 {
        socket.set_only_v6(true)?;
        socket.set_multicast_hops_v6(255)?;
    } else {
        socket.set_multicast_ttl_v4(255)?;
    }
    socket.bind(&SocketAddr::new(any, PORT).into())?;
    for interface in interfaces {
        match interface.address {
            IpAddr::V4(address) => socket.join_multicast_v4(&GROUP_V4, &address)?,
            IpAddr::V6(_) => socket.join_multicast_v6(&GROUP_V6, interface.index)?,
        }
    }
    UdpSocket::from_std(socket.into())
}

/// The interfaces that have one of these addresses and carry multicast, one for each IP version.
fn interfaces(listen: &[SocketAddr]) -> Vec<Interface> {
    let Ok(all) = getifaddrs() else { return Vec::new() };
    let mut found: Vec<Interface> = Vec::new();
    for entry in all {
        let wanted = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_MULTICAST;
        let (Some(address), true) = (entry.address, entry.flags.contains(wanted)) else { continue };
        let ip: IpAddr = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
            (Some(v4), _) => v4.ip().into(),
            (_, Some(v6)) => v6.ip().into(),
            _ => continue,
        };
        let here: Vec<SocketAddr> =
            listen.iter().filter(|address| address.ip() == ip && is_told(ip)).copied().collect();
        let Ok(index) = if_nametoindex(entry.interface_name.as_str()) else { continue };
        if here.is_empty() || entry.flags.contains(InterfaceFlags::IFF_LOOPBACK) {
            continue;
        }
        let same =
            found.iter().position(|known| known.index == index && known.address.is_ipv6() == ip.is_ipv6());
        match same {
            Some(at) => found[at].listen.extend(here),
            None if found.len() < INTERFACES_MAX => {
                found.push(Interface { index, address: ip, listen: here })
            }
            None => {}
        }
    }
    found
}

/// A link-local IPv6 address means nothing to who reads it on another interface.
fn is_told(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => true,
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    }
}
