//! What strangers and liars can do: nothing.

use std::{net::SocketAddr, time::Duration};

use super::{super::*, world::*};
use crate::testing;

#[test]
fn roams_to_the_address_of_the_newest_authenticated_datagram() {
    let mut world = World::pair(9);
    world.until("the channel", 5, World::both_open);
    let (from, to) = (world.hosts[1].address, SocketAddr::from(([198, 51, 100, 7], 77)));
    world.hosts[1].address = to;
    world.frame(1, 0, b"from elsewhere");
    world.run(Duration::from_millis(20));
    assert_eq!(world.snapshot(0, 1).address, Some(to));
    assert!(world.hosts[0].events.iter().any(
        |event| matches!(event, Event::Roamed { from: old, to: new, .. } if *old == from && *new == to)
    ));
    assert!(world.frame(0, 1, b"follows"));
    world.run(Duration::from_millis(20));
    assert_eq!(world.hosts[1].received, [b"follows"]);
    // An old datagram that comes again from anywhere moves nothing.
    let heard: Vec<_> = world
        .heard
        .iter()
        .filter(|old| old.to == world.hosts[0].address)
        .map(|old| old.datagram.clone())
        .collect();
    for datagram in heard {
        world.arrive(0, SocketAddr::from(([203, 0, 113, 1], 1)), datagram);
    }
    assert_eq!(world.snapshot(0, 1).address, Some(to));
}

/// The rule of the issue: a replayed, cut, bit-flipped or foreign datagram changes nothing but a counter.
#[test]
fn hostile_datagrams_move_counters_and_nothing_else() {
    let mut world = World::pair(10);
    world.until("the channel", 5, World::both_open);
    world.run(Duration::from_secs(2));
    for number in 0..20 {
        world.frame(0, 1, &[number; 900]);
        world.frame(1, 0, &[number; 3000]);
    }
    world.run(Duration::from_secs(1));
    let state = |world: &World, at: usize| {
        let link = world.snapshot(at, 1 - at);
        let channels: Vec<_> =
            link.channels.iter().map(|channel| (channel.outbound, channel.inbound)).collect();
        let passed = (link.counts.frames_received, link.counts.datagrams_received, link.counts.handshakes);
        (link.state, link.address, link.datagram_bytes, channels, passed, world.hosts[at].events.len())
    };
    let before = [state(&world, 0), state(&world, 1)];
    let received = [world.hosts[0].received.len(), world.hosts[1].received.len()];
    let sum = |world: &World| -> u64 {
        (0..2)
            .map(|at| {
                let counts = world.counts(at, 1 - at);
                let refused = world.hosts[at].refusals.read();
                let refused = serde_sum(&refused) + world.hosts[at].relayed.read().token_unknown;
                counts.forged
                    + counts.repeated
                    + counts.initiations_stale
                    + counts.initiations_too_soon
                    + refused
            })
            .sum()
    };
    // What is still under way is not a replay yet.
    let arrived = world.now - Duration::from_millis(100);
    let mut heard = std::mem::take(&mut world.heard);
    heard.retain(|sent| sent.at.0.0 < arrived && sent.datagram.len() <= CALM.mtu);
    let stranger = SocketAddr::from(([203, 0, 113, 1], 1));
    let mut refused = sum(&world);
    let mut hostile = 0;
    for Travelling { to, datagram, .. } in heard.iter().rev().take(150).chain(heard.iter().take(20)) {
        let at = world.hosts.iter().position(|host| host.address == *to).unwrap();
        let bit = usize::try_from(world.entropy.below(u32::try_from(datagram.len() * 8).unwrap())).unwrap();
        let mut flipped = datagram.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let cut = datagram
            [..usize::try_from(world.entropy.below(u32::try_from(datagram.len()).unwrap())).unwrap()]
            .to_vec();
        let mut longer = datagram.clone();
        longer.push(0);
        let mut foreign = vec![0; datagram.len()];
        world.entropy.fill(&mut foreign);
        for bytes in [datagram.clone(), flipped, cut, longer, foreign] {
            if bytes.is_empty() {
                continue;
            }
            world.arrive(at, stranger, bytes);
            hostile += 1;
            // Each moves exactly one counter: none was taken, none went unnoticed.
            assert_eq!(sum(&world), refused + 1, "datagram {hostile}: {:?}", &datagram[..8]);
            refused += 1;
        }
    }
    assert_eq!([state(&world, 0), state(&world, 1)], before);
    assert_eq!([world.hosts[0].received.len(), world.hosts[1].received.len()], received);
    assert!(hostile > 500);
    world.run(Duration::from_secs(1));
    assert!(world.both_open());
    assert!(world.heard.iter().all(|sent| sent.to != stranger), "nothing is answered");
}

fn serde_sum(counts: &RefusalCounts) -> u64 {
    let RefusalCounts {
        foreign,
        version,
        length,
        session_unknown,
        mac1_wrong,
        cookie_replies,
        address_rate,
        handshake_forged,
        peer_unknown,
        no_common_suite,
        unexpected,
        cut_by_kernel,
        queue_full,
        probe_stranger,
        probe_forged,
        probe_repeated,
        probe_rate,
        way_unknown,
    } = *counts;
    foreign
        + version
        + length
        + session_unknown
        + mac1_wrong
        + cookie_replies
        + address_rate
        + handshake_forged
        + peer_unknown
        + no_common_suite
        + unexpected
        + cut_by_kernel
        + queue_full
        + probe_stranger
        + probe_forged
        + probe_repeated
        + probe_rate
        + way_unknown
}

/// Beyond the calm rate a first message is answered by a cookie and costs no public-key work; who proves its address gets in.
#[test]
fn a_flood_of_initiations_is_answered_by_cookies_and_a_real_peer_gets_in() {
    let mut world = World::new(17, 2, SessionLimits::default());
    // The flood: a stranger who knows the host's public key.
    let stranger = SocketAddr::from(([203, 0, 113, 1], 1));
    let identity = testing::identity(77);
    let mut entropy = Entropy::new([1; 32]);
    let victim = world.hosts[0].key;
    let (_, mut datagram) = crate::session::Initiator::start(&identity, &victim, 1, 1, &mut entropy);
    crate::session::CookieJar::default().stamp(world.now, &victim, &mut datagram);
    for millisecond in 0..5000 {
        if millisecond == 100 {
            world.introduce(0, 1);
            world.introduce(1, 0);
        }
        for _ in 0..3 {
            world.arrive(0, stranger, datagram.to_vec());
        }
        world.turn();
        if world.both_open() {
            break;
        }
    }
    let refused = world.hosts[0].refusals.read();
    assert!(refused.cookie_replies > 100, "{refused:?}");
    // At most the calm rate in each second begun.
    let seconds = (world.now - world.start).as_secs() + 1;
    assert!(refused.peer_unknown <= 100 * seconds, "public-key work is bounded: {refused:?}");
    assert!(world.both_open(), "the real peer got in: {:?}\n{}", world.counts(1, 0), world.log.join("\n"));
}

/// Whatever order node calls in, and whatever comes from the network, nothing panics and the invariants hold.
#[test]
fn random_operations_keep_the_invariants() {
    for seed in 0..20 {
        let mut world = World::pair_with(seed, fast_rekey());
        world.serve(0);
        world.serve(1);
        for _ in 0..1500 {
            let (at, now) = (usize::try_from(world.entropy.below(2)).unwrap(), world.now);
            let other = 1 - at;
            let peer = world.hosts[other].peer;
            match world.entropy.below(12) {
                0 if world.entropy.below(10) == 0 => world.hosts[at].links.remove_peer(now, peer),
                1 => world.introduce(at, other),
                2 if world.entropy.below(10) == 0 => world.hosts[at].links.remove_network(now, NETWORK),
                3 => world.weather.loss = world.entropy.below(60),
                4 => {
                    world.hosts[at].accepts =
                        [None, Some(Duration::from_secs(5))][usize::from(world.entropy.below(3) > 0)]
                }
                5 => {
                    let mut body = vec![0; 40];
                    world.entropy.fill(&mut body);
                    body[0] %= 12;
                    let now = world.now();
                    world.hosts[at].links.handle_control(now, peer, &body);
                }
                6 => {
                    let mut junk = vec![0; 170];
                    world.entropy.fill(&mut junk);
                    junk[..4].copy_from_slice(&[u8::try_from(world.entropy.below(5)).unwrap(), 1, 0, 0]);
                    world.arrive(at, SocketAddr::from(([203, 0, 113, 9], 9)), junk);
                }
                _ => {
                    if world.hosts[at].routes.peers.contains_key(&peer) {
                        world.frame(at, other, &[9; 2000]);
                    }
                }
            }
            world.run(Duration::from_millis(20));
            for host in &world.hosts {
                assert!(host.routes.sessions.len() <= 3, "seed {seed}");
                assert_eq!(host.links.links.len(), host.links.by_key.len());
                assert!(
                    host.links.shared.indices.len() <= 6,
                    "seed {seed}: {}",
                    host.links.shared.indices.len()
                );
            }
        }
        // Without faults all heals.
        world.weather = CALM;
        for at in 0..2 {
            world.hosts[at].accepts = Some(Duration::from_secs(600));
            world.introduce(at, 1 - at);
        }
        world.until(&format!("healing, seed {seed}"), 120, |world| {
            (0..2).all(|at| world.hosts[at].routes.peers.contains_key(&world.hosts[1 - at].peer))
                && world.both_open()
        });
    }
}
