//! Cases built with real processes: what gateways let through, in which form, and what changes under the hosts do.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use consort_lab::case::{Case, Home, World};
use consort_lab::firewall::Rules;
use consort_lab::harness;

const PROGRAM: &str = env!("CARGO_BIN_EXE_consort-lab");
/// Waiting for something that must come; never asserted as a time.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long an answer may take before it is asked again, and how long one that must not come is waited for.
const PATIENCE: Duration = Duration::from_millis(200);

fn world(case: &str) -> World {
    World::build(&Case::parse(case).unwrap_or_else(|faults| panic!("{faults:?}"))).unwrap()
}

fn inside(test: &str, body: impl FnOnce()) {
    harness::inside(PROGRAM, test, body);
}

/// A socket of a host, on a free port of any address of this IP version.
fn socket(world: &mut World, host: &str, any: &str) -> UdpSocket {
    let host = world.host(host).unwrap();
    let socket = host.host.netns().enter(|| UdpSocket::bind(any)).unwrap().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn ipv4(world: &mut World, host: &str) -> IpAddr {
    world.host(host).unwrap().ipv4.unwrap().into()
}

fn ipv6(world: &mut World, host: &str) -> IpAddr {
    world.host(host).unwrap().ipv6.unwrap().into()
}

/// Where the receiver sees the sender, once a datagram gets there; a gateway that has to ask who is where loses some.
fn seen(sender: &UdpSocket, receiver: &UdpSocket, to: SocketAddr) -> SocketAddr {
    let start = Instant::now();
    let mut buffer = [0; 100];
    loop {
        assert!(start.elapsed() < DEADLINE, "nothing arrives at {to}");
        if sender.send_to(b"hello", to).is_ok()
            && let Ok((5, from)) = receiver.recv_from(&mut buffer)
        {
            return from;
        }
    }
}

/// Whether a datagram gets there within a moment, of several.
fn arrives(sender: &UdpSocket, receiver: &UdpSocket, to: SocketAddr) -> bool {
    let mut buffer = [0; 100];
    (0..3).any(|_| sender.send_to(b"hello", to).is_ok() && receiver.recv_from(&mut buffer).is_ok())
}

/// Sends bytes by TCP from one host to another; how many arrived.
fn transfer(world: &mut World, from: &str, to: (&str, IpAddr), bytes: usize) -> usize {
    let listener =
        world.host(to.0).unwrap().host.netns().enter(|| TcpListener::bind((to.1, 0))).unwrap().unwrap();
    let address = listener.local_addr().unwrap();
    let from = world.host(from).unwrap();
    std::thread::scope(|scope| {
        let receiver = scope.spawn(move || {
            let mut all = Vec::new();
            listener.accept().unwrap().0.read_to_end(&mut all).unwrap();
            all.len()
        });
        let mut stream = from.host.netns().enter(|| TcpStream::connect(address)).unwrap().unwrap();
        stream.write_all(&vec![7; bytes]).unwrap();
        drop(stream);
        receiver.join().unwrap()
    })
}

const HOME: &str = "[site.home]\nnat = \"port-cone\"\n[host.public]\n[host.other]\n[host.a]\nsite = \"home\"\n[host.b]\nsite = \"home\"\n";

#[test]
fn a_host_behind_a_nat_is_seen_from_its_outside_address_and_answered_there() {
    inside("a_host_behind_a_nat_is_seen_from_its_outside_address_and_answered_there", || {
        let mut world = world(HOME);
        let (a, public) = (socket(&mut world, "a", "0.0.0.0:0"), socket(&mut world, "public", "0.0.0.0:0"));
        let to = SocketAddr::new(ipv4(&mut world, "public"), public.local_addr().unwrap().port());
        let from = seen(&a, &public, to);
        assert_eq!(from.ip(), IpAddr::from(world.gateway("home").unwrap().outside()));
        assert_eq!(from.port(), a.local_addr().unwrap().port(), "ports are preserved");
        assert!(arrives(&public, &a, from));
        let other = socket(&mut world, "other", "0.0.0.0:0");
        assert!(!arrives(&other, &a, from), "nobody asked the other");
        let target = ipv4(&mut world, "public");
        assert_eq!(transfer(&mut world, "a", ("public", target), 4 << 20), 4 << 20);
    });
}

#[test]
fn a_detour_goes_over_the_host_in_between_both_ways_and_nothing_else_does() {
    inside("a_detour_goes_over_the_host_in_between_both_ways_and_nothing_else_does", || {
        let mut world = world("[host.a]\n[host.b]\n[host.between]\n");
        let around = IpAddr::from(world.detour("a", "b", "between").unwrap());
        let straight = ipv4(&mut world, "b");
        let bytes = 1 << 20;
        let mut crossed = |to: IpAddr| {
            let before = world.carried("between").unwrap();
            assert_eq!(transfer(&mut world, "a", ("b", to), bytes), bytes);
            let after = world.carried("between").unwrap();
            [after.rx_bytes - before.rx_bytes, after.tx_bytes - before.tx_bytes]
        };
        assert!(
            crossed(straight).into_iter().all(|count| count < 10_000),
            "the addresses that it had lead straight"
        );
        assert!(crossed(around).into_iter().all(|count| count > bytes as u64), "in and out by the one cable");
        // The answers as well: the host in between sees both ends.
        let (a, b) = (socket(&mut world, "a", "0.0.0.0:0"), socket(&mut world, "b", "0.0.0.0:0"));
        let to = SocketAddr::new(around, b.local_addr().unwrap().port());
        assert_eq!(seen(&a, &b, to).ip(), ipv4(&mut world, "a"));
        // What is counted is what a wire carries: Ethernet, IPv4, UDP and payload, and little beside it.
        let (before, datagrams) = (world.carried("b").unwrap(), 100);
        for _ in 0..datagrams {
            a.send_to(&[0; 1472], to).unwrap();
            while b.recv(&mut [0; 1500]).unwrap() != 1472 {}
        }
        let each = (world.carried("b").unwrap().rx_bytes - before.rx_bytes) / datagrams;
        assert!((1514..1530).contains(&each), "{each}");
    });
}

#[test]
fn hosts_on_one_lan_meet_there() {
    inside("hosts_on_one_lan_meet_there", || {
        let mut world = world(HOME);
        let (a, b) = (socket(&mut world, "a", "0.0.0.0:0"), socket(&mut world, "b", "0.0.0.0:0"));
        let to = SocketAddr::new(ipv4(&mut world, "b"), b.local_addr().unwrap().port());
        assert_eq!(seen(&a, &b, to).ip(), ipv4(&mut world, "a"));
    });
}

#[test]
fn behind_two_nats_both_translate() {
    inside("behind_two_nats_both_translate", || {
        let mut world = world(include_str!("../cases/carrier.toml"));
        let (a, public) = (socket(&mut world, "a", "0.0.0.0:0"), socket(&mut world, "public", "0.0.0.0:0"));
        let to = SocketAddr::new(ipv4(&mut world, "public"), public.local_addr().unwrap().port());
        let from = seen(&a, &public, to);
        assert_eq!(from.ip(), IpAddr::from(world.gateway("carrier").unwrap().outside()));
        assert!(arrives(&public, &a, from));
        let home = world.gateway("left").unwrap().outside();
        assert_eq!(home.octets()[0], 100, "{home} is the carrier's");
        // By a hairpin at the carrier, once both home routers expect it.
        let b = socket(&mut world, "b", "0.0.0.0:0");
        let theirs = seen(&b, &public, to);
        let _ = b.send_to(b"hello", from);
        assert_eq!(seen(&a, &b, theirs).ip(), from.ip());
    });
}

#[test]
fn ipv6_is_routed_and_a_stateful_firewall_keeps_strangers_out() {
    inside("ipv6_is_routed_and_a_stateful_firewall_keeps_strangers_out", || {
        let mut world = world(include_str!("../cases/only-ipv6.toml"));
        let (a, public) = (socket(&mut world, "a", "[::]:0"), socket(&mut world, "public", "[::]:0"));
        let own = SocketAddr::new(ipv6(&mut world, "a"), a.local_addr().unwrap().port());
        assert!(!arrives(&public, &a, own), "a was not asked for yet");
        let to = SocketAddr::new(ipv6(&mut world, "public"), public.local_addr().unwrap().port());
        assert_eq!(seen(&a, &public, to), own);
        assert!(arrives(&public, &a, own));
        assert_eq!(world.host("a").unwrap().ipv4, None);
    });
}

#[test]
fn a_firewall_changes_under_a_conversation() {
    inside("a_firewall_changes_under_a_conversation", || {
        let mut world = world(HOME);
        let (a, public) = (socket(&mut world, "a", "0.0.0.0:0"), socket(&mut world, "public", "0.0.0.0:0"));
        let to = SocketAddr::new(ipv4(&mut world, "public"), public.local_addr().unwrap().port());
        let from = seen(&a, &public, to);
        world.gateway("home").unwrap().set_firewall(Rules::parse(["deny out udp"]).unwrap()).unwrap();
        let start = Instant::now();
        while arrives(&a, &public, to) {
            assert!(start.elapsed() < DEADLINE, "the firewall does not change");
        }
        world.gateway("home").unwrap().set_firewall(Rules::default()).unwrap();
        assert_eq!(seen(&a, &public, to), from, "the mapping is the same");
    });
}

#[test]
fn a_host_that_moves_and_a_nat_that_is_readdressed_are_seen_elsewhere() {
    inside("a_host_that_moves_and_a_nat_that_is_readdressed_are_seen_elsewhere", || {
        let mut world = world(include_str!("../cases/home-and-office.toml"));
        let (a, public) = (socket(&mut world, "a", "0.0.0.0:0"), socket(&mut world, "public", "0.0.0.0:0"));
        let to = SocketAddr::new(ipv4(&mut world, "public"), public.local_addr().unwrap().port());
        let first = seen(&a, &public, to).ip();
        let new = world.readdress("home").unwrap();
        assert_ne!(first, IpAddr::from(new));
        let start = Instant::now();
        while seen(&a, &public, to).ip() != IpAddr::from(new) {
            assert!(start.elapsed() < DEADLINE, "the old address stays");
        }
        let newer = world.readdress("home").unwrap();
        while seen(&a, &public, to).ip() != IpAddr::from(newer) {
            assert!(start.elapsed() < DEADLINE, "the second address stays");
        }
        world.move_host("a", Home::Site("other-home".to_owned())).unwrap();
        let moved = world.gateway("other-home").unwrap().outside();
        assert_eq!(seen(&a, &public, to).ip(), IpAddr::from(moved));
        world.move_host("a", Home::Open).unwrap();
        assert_eq!(seen(&a, &public, to).ip(), ipv4(&mut world, "a"));
    });
}

#[test]
fn a_cable_is_slow_and_has_a_hole_as_its_case_says() {
    inside("a_cable_is_slow_and_has_a_hole_as_its_case_says", || {
        let mut world = world(
            "[site.home]\nnat = \"full-cone\"\ncable = { delay = \"20ms\", hole = 1000 }\n[host.public]\n[host.a]\nsite = \"home\"\n",
        );
        let (a, public) = (socket(&mut world, "a", "0.0.0.0:0"), socket(&mut world, "public", "0.0.0.0:0"));
        let to = SocketAddr::new(ipv4(&mut world, "public"), public.local_addr().unwrap().port());
        let start = Instant::now();
        let from = seen(&a, &public, to);
        assert!(start.elapsed() >= Duration::from_millis(20), "a lower bound holds on any computer");
        let mut buffer = [0; 2000];
        a.send_to(&[1; 1200], to).unwrap();
        a.send_to(&[1; 900], to).unwrap();
        assert_eq!(public.recv(&mut buffer).unwrap(), 900);
        public.send_to(&[1; 1200], from).unwrap();
        public.send_to(&[1; 900], from).unwrap();
        assert_eq!(a.recv(&mut buffer).unwrap(), 900);
    });
}

#[test]
fn a_probe_with_a_small_time_to_live_opens_its_own_nat_and_reaches_no_other() {
    inside("a_probe_with_a_small_time_to_live_opens_its_own_nat_and_reaches_no_other", || {
        let mut world = world(include_str!("../cases/home-and-office.toml"));
        let (a, b) = (socket(&mut world, "a", "0.0.0.0:7000"), socket(&mut world, "b", "0.0.0.0:7000"));
        let outside = |world: &mut World, site: &str| -> Ipv4Addr { world.gateway(site).unwrap().outside() };
        let (left, right) = (outside(&mut world, "home"), outside(&mut world, "other-home"));
        let (to_left, to_right) = (SocketAddr::from((left, 7000)), SocketAddr::from((right, 7000)));
        // Two routers stand between the gateways' insides: the own gateway and the wide network's.
        a.set_ttl(2).unwrap();
        assert!(!arrives(&a, &b, to_right));
        b.set_ttl(64).unwrap();
        assert_eq!(seen(&b, &a, to_left), to_right, "opened by the probe that died");
    });
}
