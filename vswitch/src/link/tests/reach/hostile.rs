//! What strangers, and peers that lie, do with probes and relays: each moves one counter.

use std::{net::SocketAddr, time::Duration};

use super::world::World;
use crate::{
    path::Origin,
    wire::{Onward, PROBE_BYTES, relayed_header},
};

fn stranger() -> Origin {
    Origin::direct(SocketAddr::from(([203, 0, 113, 1], 9)))
}

#[test]
fn a_strangers_probes_get_no_answer() {
    let mut world = World::with(81, &["public"]);
    let before = world.hosts[3].refusals.read();
    let sent = world.sent.len();
    let mut probe = vec![0; PROBE_BYTES];
    probe[..4].copy_from_slice(&[5, 1, 0, 0]);
    for number in 0..50_u8 {
        probe[4] = number;
        world.arrive(3, stranger(), probe.clone());
    }
    let after = world.hosts[3].refusals.read();
    assert_eq!(after.probe_stranger, before.probe_stranger + 50);
    assert_eq!(world.sent.len(), sent);
}

#[test]
fn a_relay_forwards_for_nobody_but_the_legs_sender() {
    let mut world = World::with(82, &["public", "public"]);
    world.allow_relaying(0, 1_000_000_000);
    let ways = world.relay(3, 4, &[0]);
    // Both ends show where they are.
    for (side, (at, of)) in [(3, 4), (4, 3)].into_iter().enumerate() {
        world.name(at, of);
        let peer = world.hosts[of].peer;
        world.hosts[at].links.set_direct(world.now, peer, false);
        world.hosts[at].links.set_relayed(world.now, peer, &[ways[side]]);
    }
    world.want(3, 4);
    assert!(world.until(Duration::from_secs(5), |world| world.relayed(3, 4)));
    world.run(Duration::from_secs(2));
    let datagram = |token: u32, len: usize| {
        let mut datagram = relayed_header(Onward::Relay, token).to_vec();
        datagram.extend([4, 1, 0, 0]);
        datagram.resize(len, 7);
        datagram
    };
    let counts = |world: &World| world.hosts[0].relayed.read();
    let sent = |world: &World| world.sent.iter().filter(|sent| sent.host == 0).count();
    let (before, left) = (counts(&world), sent(&world));
    world.arrive(0, stranger(), datagram(ways[0].token, 100));
    world.arrive(0, stranger(), datagram(ways[0].token ^ 0x55, 100));
    assert_eq!(counts(&world).wrong_hop, before.wrong_hop + 1);
    assert_eq!(counts(&world).token_unknown, before.token_unknown + 1);
    assert_eq!(sent(&world), left, "nothing is forwarded or answered");
    let from = Origin::direct(world.address(3));
    world.arrive(0, from, datagram(ways[0].token, 100));
    assert_eq!(counts(&world).datagrams, before.datagrams + 1);
    assert_eq!(sent(&world), left + 1);
    // What the end gets is no session's: one counter.
    let unknown = world.hosts[4].refusals.read().session_unknown;
    world.run(Duration::from_millis(30));
    assert_eq!(world.hosts[4].refusals.read().session_unknown, unknown + 1);
    // Relays do not stand inside relays' datagrams.
    let foreign = world.hosts[4].refusals.read().foreign;
    let mut nested = relayed_header(Onward::End, ways[1].token_back).to_vec();
    nested.extend(datagram(1, 40));
    world.arrive(4, stranger(), nested);
    assert_eq!(world.hosts[4].refusals.read().foreign, foreign + 1);
}

#[test]
fn a_peer_that_floods_probes_is_answered_at_its_rate_only() {
    let mut world = World::with(83, &["public"]);
    let before = world.hosts[0].refusals.read();
    let (now, peer) = (world.now, world.hosts[0].peer);
    // A thousand candidates in a row are a thousand probes, all of them genuine.
    for number in 0..1000_u16 {
        let there = SocketAddr::from(([198, 51, 100, 1], 7441));
        let elsewhere = SocketAddr::from(([203, 0, 113, 9], 1000 + number));
        let candidates = [there, elsewhere].map(crate::path::Candidate::local);
        let time = world.time();
        let links = &mut world.hosts[3].links;
        links.set_candidates(now, peer, &candidates, Some(crate::path::PeerNat::default()));
        links.set_observers(now, vec![]);
        links.set_observers(now, vec![peer]);
        links.handle_timeout(time);
    }
    world.run(Duration::from_secs(1));
    let after = world.hosts[0].refusals.read();
    let replies = world.sent.iter().filter(|sent| sent.host == 0 && sent.at >= now).count();
    assert!(after.probe_rate > before.probe_rate, "{after:?}");
    assert!(replies <= 300 + 150 + 20, "{replies}");
}
