//! Paths with real devices and sockets: through a relay and back to a direct way, from one family to the other. Each test has a lab of its own and says
//! aloud when it cannot have one. What NATs do is shown in simulation (`link/tests/reach`) and with real nodes (`docs/reach.md`).

#[path = "world/mod.rs"]
mod world;

use std::{
    ffi::OsString,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use consort_lab::{Netlink, harness, netlink::Hop, reexec, wide::Cable};
use consort_vswitch::{
    LinkState, PeerConfig,
    path::{Candidate, PathView, RelayLeg, RelayPolicy, RelayTokens, RelayedPath},
};
use world::{GRANT, Options, Site, World, until};

const TESTS: [(&str, fn()); 2] = [
    ("a_stream_goes_through_a_relay_and_over_to_a_direct_path", through_a_relay_and_back),
    ("a_host_that_loses_ipv4_goes_on_over_ipv6", from_one_family_to_the_other),
];

fn main() {
    let args: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = reexec::main(&args) {
        std::process::exit(code);
    }
    let program = std::env::current_exe().expect("a program knows its path");
    let filter = args.iter().skip(1).filter_map(|arg| arg.to_str()).find(|arg| !arg.starts_with('-'));
    let mut passed = 0;
    for (name, body) in TESTS {
        if filter.is_none_or(|filter| name.contains(filter)) {
            harness::inside(program.to_str().expect("a path in UTF-8"), name, body);
            println!("test {name} ... ok");
            passed += 1;
        }
    }
    println!("test result: ok. {passed} passed");
}

fn addresses(site: &Site) -> Vec<Candidate> {
    let port = site.plane.local_addr().port();
    let ips: [IpAddr; 2] = [site.place.ipv4.into(), site.place.ipv6.into()];
    ips.map(|ip| Candidate::local(SocketAddr::new(ip, port))).to_vec()
}

fn tell(site: &Site, other: &Site, candidates: Vec<Candidate>, via: Vec<RelayedPath>, direct: bool) {
    let (host, static_key) = (other.id, other.plane.static_public());
    site.plane.set_peer(PeerConfig { host, static_key, candidates, via, direct, keep: false }).unwrap();
}

fn chosen(site: &Site, other: &Site) -> Option<PathView> {
    let peers = site.plane.snapshot().paths.peers;
    peers.into_iter().find(|peer| peer.peer == other.id).and_then(|peer| peer.chosen)
}

/// One connection between machines, whose bytes come in portions while the path changes below.
fn stream_while(world: &World, portions: u32, mut between: impl FnMut(u32)) {
    let listener = world.sites[1].listen(false);
    let to = listener.local_addr().unwrap();
    let portion: Vec<u8> = (0..1_u32 << 20).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    std::thread::scope(|scope| {
        let receiver = scope.spawn(move || {
            let mut all = Vec::new();
            listener.accept().unwrap().0.read_to_end(&mut all).unwrap();
            all
        });
        let mut stream = world.sites[0].connect(to);
        for number in 0..portions {
            between(number);
            stream.write_all(&portion).unwrap();
        }
        drop(stream);
        let got = receiver.join().unwrap();
        assert!(got.chunks(portion.len()).all(|chunk| chunk == portion), "changed on the way");
        assert_eq!(got.len(), portion.len() * usize::try_from(portions).unwrap());
    });
}

fn through_a_relay_and_back() {
    let mut options = Options::new(Cable { real_wire: true, ..Cable::default() }, 1500);
    options.grants = vec![GRANT; 3];
    let world = World::new(&options);
    let [a, b, relay] = &world.sites[..] else { panic!("three sites") };
    relay.plane.set_relay(RelayPolicy {
        enabled: true,
        rate_bits_per_s_max: 100_000_000_000,
        peers_max: 4,
        tokens_max: 4,
    });
    let open = |from: &Site, to: &Site| -> RelayTokens {
        let expires = Duration::from_secs(600);
        relay.plane.relay_open(&RelayLeg { from: from.id, to: to.id, onward: None, expires }).unwrap()
    };
    let (forth, back) = (open(a, b), open(b, a));
    let way = |token, token_back| RelayedPath {
        relay: relay.id,
        address: addresses(relay)[0].address,
        token,
        token_back,
        cost: 0,
    };
    let ways = [way(forth.incoming, back.outgoing), way(back.incoming, forth.outgoing)];
    tell(a, b, Vec::new(), vec![ways[0]], false);
    tell(b, a, Vec::new(), vec![ways[1]], false);
    until("the relayed path", || {
        [(a, b), (b, a)].iter().all(|(at, of)| matches!(chosen(at, of), Some(PathView::Relay { .. })))
    });
    world.connected(0, 1);
    let (from, to) = (a.udp(true), b.udp(true));
    from.send_to(b"through", to.local_addr().unwrap()).unwrap();
    let mut got = [0; 16];
    let len = to.recv(&mut got).unwrap();
    assert_eq!(&got[..len], b"through");
    stream_while(&world, 8, |portion| {
        if portion == 4 {
            until("the relayed bytes", || relay.plane.snapshot().relay.counts.bytes > 2 << 20);
            let relayed = relay.plane.snapshot().relay.counts;
            // A host of several addresses may use one before the relay knows it; from then on nothing is refused.
            assert!(relayed.wrong_hop < 20, "{relayed:?}");
            assert_eq!((relayed.over_rate, relayed.send_failed), (0, 0), "{relayed:?}");
            tell(a, b, addresses(b), vec![ways[0]], true);
            tell(b, a, addresses(a), vec![ways[1]], true);
            until("the direct path", || {
                [(a, b), (b, a)]
                    .iter()
                    .all(|(at, of)| matches!(chosen(at, of), Some(PathView::Direct { .. })))
            });
        }
    });
    assert_eq!(world.link(0, 1).state, LinkState::Up);
}

fn from_one_family_to_the_other() {
    let world = World::new(&Options::new(Cable { real_wire: true, ..Cable::default() }, 1500));
    world.connected(0, 1);
    let [a, b] = &world.sites[..] else { panic!("two sites") };
    // Only the wide network's IPv4 is left to begin with.
    for (at, of) in [(a, b), (b, a)] {
        let mut first = addresses(of);
        first.retain(|candidate| candidate.address.is_ipv4());
        tell(at, of, first, Vec::new(), true);
    }
    for (at, of) in [(a, b), (b, a)] {
        tell(at, of, addresses(of), Vec::new(), true);
    }
    let before = world.link(0, 1).counts.handshakes;
    stream_while(&world, 6, |portion| {
        if portion == 2 {
            let mut netlink = Netlink::open_in(a.host.netns()).unwrap();
            let router = Ipv4Addr::from_bits(a.place.ipv4.to_bits() - 1);
            netlink.remove_route(Ipv4Addr::UNSPECIFIED.into(), 0, Hop::Via(router.into())).unwrap();
        }
    });
    let v6 = |at: &Site, of: &Site| matches!(chosen(at, of), Some(PathView::Direct { address, .. }) if address.is_ipv6());
    until("IPv6 on both sides", || v6(a, b) && v6(b, a));
    assert!(world.link(0, 1).counts.handshakes <= before + 1, "the session goes on");
}
