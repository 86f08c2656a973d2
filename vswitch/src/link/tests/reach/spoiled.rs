//! NATs that take an early datagram for their own, and what hosts do about it: whatever the control plane's delays, they reach each other by themselves.

use std::time::Duration;

use super::world::World;

/// Kinds that a router with its own input open can be punched to.
const OTHERS: [&str; 6] =
    ["masquerade-open", "masquerade", "port-cone", "port-cone-random", "address-cone", "short-timeout"];

/// Two hosts, one of which hears so much later than the other where its peer is; how long they take to be direct.
fn connect(seed: u64, kinds: [&str; 2], late: usize, by: Duration) -> (World, Option<Duration>) {
    let mut world = World::with(seed, &kinds);
    world.allow_relaying(0, 1_000_000_000);
    world.hosts[late].told_late = by;
    world.want(3, 4);
    let ways = world.relay(3, 4, &[0]);
    for ((at, of), way) in [(3, 4), (4, 3)].into_iter().zip(ways) {
        let peer = world.hosts[of].peer;
        world.hosts[at].links.set_relayed(world.now, peer, &[way]);
    }
    let start = world.now;
    let direct = |world: &World| world.direct(3, 4);
    while !direct(&world) && world.now < start + Duration::from_secs(60) {
        world.frame(3, 4, &[7; 60]);
        world.frame(4, 3, &[7; 60]);
        world.until(Duration::from_millis(200), direct);
    }
    let took = direct(&world).then(|| world.now - start);
    (world, took)
}

#[test]
fn a_spoiled_port_is_given_up_for_another_whatever_the_delays() {
    let mut times = Vec::new();
    for (seed, other) in OTHERS.into_iter().enumerate() {
        for late in [3, 4] {
            for by in [0, 100, 200, 300, 600, 1_200, 2_500, 4_000] {
                for kinds in [["masquerade-open", other], [other, "masquerade-open"]] {
                    let by = Duration::from_millis(by);
                    let seed = 3000 + u64::try_from(seed).unwrap();
                    let (world, took) = connect(seed, kinds, late, by);
                    let Some(took) = took else {
                        panic!(
                            "{kinds:?}, {late} late by {by:?}: {:#?}\n{:#?}",
                            world.paths(3, 4),
                            world.paths(4, 3)
                        );
                    };
                    times.push((took, by, kinds));
                }
            }
        }
    }
    // Nobody waits for what a NAT forgets only after two minutes of silence.
    times.sort();
    let last = times[times.len() - 1];
    assert!(last.0 < Duration::from_secs(50), "{last:?}");
    for by in [0, 100].map(Duration::from_millis) {
        let most = times.iter().filter(|time| time.1 == by).max();
        assert!(most.is_some_and(|most| most.0 < Duration::from_secs(1)), "{most:?}");
    }
    for by in [300, 600, 1_200, 2_500, 4_000].map(Duration::from_millis) {
        let most = times.iter().filter(|time| time.1 == by).map(|time| time.0).max();
        eprintln!("late by {by:?}: direct after {most:?} at most");
    }
}

/// The port of a way that works stays, others are closed; the router has little to remember.
#[test]
fn the_port_that_works_is_kept_and_no_other() {
    let (mut world, took) =
        connect(3100, ["masquerade-open", "masquerade-open"], 4, Duration::from_millis(700));
    assert!(
        took.is_some_and(|took| took > Duration::from_secs(1)),
        "take a delay that spoils the port: {took:?}"
    );
    for _ in 0..60 {
        world.frame(3, 4, &[7; 60]);
        world.frame(4, 3, &[7; 60]);
        world.run(Duration::from_millis(500));
    }
    assert!(world.direct(3, 4), "{:#?}", world.paths(3, 4));
    let sockets = world.hosts[3].sockets.len() + world.hosts[4].sockets.len();
    assert!(sockets <= 1, "{sockets} sockets");
    for host in [3, 4] {
        assert!(world.mappings_at_once(host, Duration::from_secs(60)) <= 25);
    }
}

/// Where a sequence is now is told before the search, though the NAT has given many ports since it was looked at first.
#[test]
fn a_sequence_that_has_gone_on_is_met_within_a_second() {
    for seed in 0..4 {
        let mut world = World::with(3200 + seed, &["symmetric-sequential", "port-cone"]);
        let site = world.hosts[3].site;
        let flow = |port: u16| consort_lab::nat::Flow {
            protocol: consort_lab::nat::Protocol::Udp,
            source: "10.0.4.77:5".parse().unwrap(),
            destination: std::net::SocketAddrV4::new("192.0.2.9".parse().unwrap(), port),
        };
        let now = world.elapsed();
        if let Some(nat) = &mut world.sites[site].nat {
            (1..=400).for_each(|port| {
                nat.outbound(now, flow(port), consort_lab::nat::Signal::Data).unwrap();
            });
        }
        world.want(3, 4);
        let is_direct = world.until(Duration::from_millis(1_500), |world| world.direct(3, 4));
        assert!(is_direct, "{:#?}\n{:#?}", world.paths(3, 4), world.paths(4, 3));
        assert!(world.paths(3, 4).search.mappings < 100);
    }
}
