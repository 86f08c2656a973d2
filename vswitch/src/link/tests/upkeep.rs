//! Links at rest, and their end.

use std::time::Duration;

use super::{super::*, world::*};
use crate::{HostId, testing};

#[test]
fn an_unused_link_is_left_and_the_peer_told() {
    let mut world = World::pair(18);
    world.until("the channel", 5, World::both_open);
    let now = world.now;
    for host in &mut world.hosts {
        host.links.remove_network(now, NETWORK);
    }
    world.until("both are down", 90, |world| {
        (0..2).all(|host| matches!(world.snapshot(host, 1 - host).state, LinkState::Down(_)))
    });
    let serial = world.serial;
    world.run(Duration::from_secs(60));
    assert_eq!(world.serial, serial, "an idle host says nothing");
}

/// As one of the operator's static links: there is no network on it, and no frame passes.
#[test]
fn a_link_that_is_kept_is_there_without_a_network_and_comes_back() {
    let mut world = World::pair(23);
    world.until("the channel", 5, World::both_open);
    let now = world.now;
    let peers = [world.hosts[1].peer, world.hosts[0].peer];
    for (host, peer) in world.hosts.iter_mut().zip(peers) {
        host.links.set_kept(now, peer, true);
        host.links.remove_network(now, NETWORK);
    }
    world.run(Duration::from_secs(120));
    let is_up = |world: &World| (0..2).all(|host| world.snapshot(host, 1 - host).state == LinkState::Up);
    assert!(is_up(&world), "it is kept");
    let mut wakes = 0;
    for _ in 0..60_000 {
        wakes += world
            .hosts
            .iter()
            .filter(|host| host.links.poll_timeout().is_some_and(|at| at <= world.now))
            .count();
        world.turn();
    }
    assert!(wakes < 400, "{wakes} in a minute");
    let now = world.now;
    world.hosts[0].links.remove_peer(now, peers[0]);
    world.introduce(0, 1);
    world.hosts[0].links.set_kept(now, peers[0], true);
    world.until("it is there again", 30, is_up);
    let now = world.now;
    for (host, peer) in world.hosts.iter_mut().zip(peers) {
        host.links.set_kept(now, peer, false);
        host.links.remove_network(now, NETWORK);
    }
    world.until("nobody keeps it", 90, |world| !is_up(world));
}

/// A deadline that is always in the past would keep the keeper's thread spinning.
#[test]
fn a_link_at_rest_wakes_its_host_seldom() {
    let mut world = World::pair(21);
    world.until("the channel", 5, World::both_open);
    world.run(Duration::from_secs(10));
    let mut wakes = 0;
    for _ in 0..60_000 {
        let due = |host: &Host| host.links.poll_timeout().is_some_and(|at| at <= world.now);
        wakes += world.hosts.iter().filter(|host| due(host)).count();
        world.turn();
    }
    assert!(wakes < 200, "{wakes} in a minute");
}

#[test]
fn held_frames_are_bounded_over_all_links() {
    let mut world = World::new(22, 2, SessionLimits::default());
    let now = world.now;
    for number in 10..200 {
        let (peer, key) = (testing::peer(number), PublicKey([u8::try_from(number).unwrap(); 32]));
        let links = &mut world.hosts[0].links;
        links.set_peer(now, peer, HostId::random(), key).unwrap();
        assert!(links.offer_grant(now, NETWORK, peer, GRANT.to_vec()));
        (0..20).for_each(|_| links.handle_frame(now, peer, NETWORK, vec![0; 9000]));
    }
    let held: usize = world.hosts[0].links.links.values().map(|entry| entry.link.held_bytes()).sum();
    assert_eq!(held, world.hosts[0].links.shared.held_bytes);
    assert!((HELD_BYTES_MAX - 9000..=HELD_BYTES_MAX).contains(&held), "{held}");
    world.run(Duration::from_secs(4));
    assert_eq!(world.hosts[0].links.shared.held_bytes, 0);
}

#[test]
fn a_removed_peer_is_told_and_its_keys_are_gone() {
    let mut world = World::pair(19);
    world.until("the channel", 5, World::both_open);
    let peer = world.hosts[1].peer;
    let now = world.now;
    world.hosts[0].links.remove_peer(now, peer);
    world.run(Duration::from_millis(50));
    assert!(world.hosts[0].routes.sessions.is_empty());
    assert!(
        world.hosts[1]
            .events
            .iter()
            .any(|event| matches!(event, Event::LinkDown { reason: LinkDownReason::PeerLeft, .. }))
    );
}
