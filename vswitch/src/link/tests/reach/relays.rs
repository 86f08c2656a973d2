//! Links through relays: where nothing else works, until something does, and around a relay that fails.

use std::time::Duration;

use super::world::World;
use crate::link::Event;
use crate::path::{PathReason, PathView};

/// Two hosts that only a relay brings together; members 0 and 1 relay.
fn relayed(seed: u64) -> World {
    let mut world = World::with(seed, &["symmetric-random", "symmetric-random"]);
    relay(&mut world, &[0, 1]);
    world
}

/// Waits until the two go over one of these members, each of which relays for them.
fn relay(world: &mut World, members: &[usize]) {
    let way = |member: &usize| {
        world.allow_relaying(*member, 1_000_000_000);
        world.relay(3, 4, &[*member])
    };
    let ways: Vec<_> = members.iter().map(way).collect();
    world.want(3, 4);
    give(world, &ways);
    assert!(world.until(Duration::from_secs(5), |world| world.relayed(3, 4)), "{:#?}", world.paths(3, 4));
}

fn give(world: &mut World, ways: &[[crate::path::RelayedPath; 2]]) {
    for (side, (at, of)) in [(3, 4), (4, 3)].into_iter().enumerate() {
        let peer = world.hosts[of].peer;
        let mine: Vec<_> = ways.iter().map(|way| way[side]).collect();
        world.hosts[at].links.set_relayed(world.now, peer, &mine);
    }
}

/// Sends numbered frames both ways, one each five milliseconds.
fn talk(world: &mut World, from: u32, count: u32) {
    for number in from..from + count {
        for (at, to) in [(3, 4), (4, 3)] {
            let mut frame = vec![0; 600];
            frame[..4].copy_from_slice(&number.to_le_bytes());
            world.frame(at, to, &frame);
        }
        world.run(Duration::from_millis(5));
    }
}

/// Frames go both ways now and then.
fn use_for(world: &mut World, time: Duration) {
    let end = world.now + time;
    while world.now < end {
        talk(world, 0, 1);
        world.run(Duration::from_millis(200));
    }
}

fn numbers(world: &World, at: usize) -> Vec<u32> {
    let mut numbers: Vec<u32> = world.hosts[at]
        .received
        .iter()
        .map(|(_, frame)| u32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]]))
        .collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn two_symmetric_nats_are_joined_by_a_relay_that_learns_nothing() {
    let mut world = relayed(11);
    world.run(Duration::from_secs(3));
    // What the path takes is found, with the relay's eight bytes.
    assert_eq!(world.link(3, 4).datagram_bytes, 1472);
    assert_eq!(world.link(3, 4).frame_bytes, 1472 - 36 - 8);
    talk(&mut world, 0, 100);
    world.frame(3, 4, &[9; 9000]);
    world.run(Duration::from_millis(200));
    assert_eq!(world.hosts[4].received.len(), 101);
    assert_eq!(world.hosts[3].received.len(), 100);
    let relayed: u64 = (0..2).map(|relay| world.hosts[relay].relayed.read().datagrams).sum();
    assert!(relayed >= 200, "{relayed}");
    assert!(world.hosts[0].received.is_empty() && world.hosts[1].received.is_empty());
}

#[test]
fn a_relay_that_fails_is_gone_round_within_a_second() {
    let mut world = relayed(12);
    talk(&mut world, 0, 100);
    world.run(Duration::from_secs(1));
    let Some(PathView::Relay { relay, .. }) = world.paths(3, 4).chosen else { panic!("no relay") };
    let site = (0..2).find(|host| world.hosts[*host].id == relay).unwrap();
    world.sites[site].cut = true;
    let failed = world.now;
    talk(&mut world, 100, 400);
    for at in [3, 4] {
        let first =
            world.hosts[at].received.iter().find(|(when, _)| *when > failed + Duration::from_millis(60));
        let after = first.expect("frames come again").0 - failed;
        assert!(after < Duration::from_secs(1), "{after:?}");
    }
    let reasons: Vec<_> = world.hosts[3].events.iter().filter(|(when, _)| *when > failed).collect();
    assert!(
        reasons
            .iter()
            .any(|(_, event)| matches!(event, Event::PathChanged { reason: PathReason::Failover, .. })),
        "{reasons:?}"
    );
    assert!(!reasons.iter().any(|(_, event)| matches!(event, Event::LinkDown { .. })));
}

#[test]
fn from_relay_to_direct_not_a_frame_is_lost() {
    for seed in 0..5 {
        let mut world = World::with(20 + seed, &["port-cone", "masquerade"]);
        world.meetings = false;
        relay(&mut world, &[0]);
        talk(&mut world, 0, 100);
        world.meetings = true;
        for (at, of) in [(3, 4), (4, 3)] {
            let peer = world.hosts[of].peer;
            let local = world.hosts[of].links.own_paths();
            world.hosts[at].links.set_candidates(world.now, peer, &local.candidates(), Some(local.nat));
        }
        talk(&mut world, 100, 300);
        world.run(Duration::from_millis(200));
        assert!(world.direct(3, 4), "seed {seed} {:#?} {:#?}", world.paths(3, 4), world.paths(4, 3));
        for at in [3, 4] {
            assert_eq!(numbers(&world, at), (0..400).collect::<Vec<_>>(), "seed {seed}");
        }
    }
}

/// Homes whose first meeting came to nothing stay on the relay no longer than until the next, however often its way is probed meanwhile; and those that cannot do
/// better meet ever more seldom.
#[test]
fn a_relay_is_left_at_the_next_meeting_and_meetings_go_on_while_it_is_not() {
    let mut world = World::with(60, &["port-cone", "masquerade"]);
    world.meetings = false;
    relay(&mut world, &[0]);
    world.meetings = true;
    use_for(&mut world, Duration::from_secs(50));
    assert!(world.direct(3, 4), "{:#?} {:#?}", world.paths(3, 4), world.paths(4, 3));

    let mut world = World::with(61, &["symmetric-random", "symmetric-random"]);
    relay(&mut world, &[0]);
    use_for(&mut world, Duration::from_secs(600));
    let start = world.start;
    for host in [3, 4] {
        let events = world.hosts[host].events.iter();
        let wanted: Vec<u64> = events
            .filter(|(_, event)| matches!(event, Event::MeetWanted { .. }))
            .map(|(at, _)| (*at - start).as_secs())
            .collect();
        assert!((3..8).contains(&wanted.len()), "in ten minutes: {wanted:?}");
    }
}

/// One end is told before the other that a direct path is allowed, whichever end it is that chooses for both.
#[test]
fn a_direct_path_is_taken_by_both_though_one_was_allowed_it_later() {
    for (seed, order) in [(15, [(3, 4), (4, 3)]), (16, [(4, 3), (3, 4)])] {
        let mut world = World::with(seed, &["public", "public"]);
        world.allow_relaying(0, 1_000_000_000);
        let ways = world.relay(3, 4, &[0]);
        for (at, of) in order {
            world.name(at, of);
            let peer = world.hosts[of].peer;
            world.hosts[at].links.set_direct(world.now, peer, false);
        }
        give(&mut world, &[ways]);
        world.want(3, 4);
        assert!(world.until(Duration::from_secs(5), |world| world.relayed(3, 4)));
        talk(&mut world, 0, 200);
        for (at, of) in order {
            let (peer, theirs) = (world.hosts[of].peer, world.hosts[of].links.own_paths());
            world.hosts[at].links.set_direct(world.now, peer, true);
            world.hosts[at].links.set_candidates(world.now, peer, &theirs.candidates(), None);
            talk(&mut world, 0, 40);
        }
        let both = world.until(Duration::from_secs(5), |world| world.direct(3, 4));
        assert!(both, "{order:?} {:#?} {:#?}", world.paths(3, 4), world.paths(4, 3));
    }
}

/// Lets these two relay and opens a way over both, one after the other. They know each other's address.
fn chain(world: &mut World, relays: [usize; 2]) -> [crate::path::RelayedPath; 2] {
    let [one, other] = relays;
    for (at, of) in [(one, other), (other, one)] {
        world.allow_relaying(at, 1_000_000_000);
        let candidate = crate::path::Candidate::local(world.address(of));
        let peer = world.hosts[of].peer;
        world.name(at, of);
        world.hosts[at].links.set_candidates(world.now, peer, &[candidate], None);
    }
    world.relay(3, 4, &relays)
}

#[test]
fn a_chain_of_relays_is_one_path_and_stays_sealed() {
    let mut world = World::with(31, &["symmetric-random", "carrier-symmetric"]);
    let way = chain(&mut world, [0, 1]);
    world.want(3, 4);
    give(&mut world, &[way]);
    assert!(world.until(Duration::from_secs(8), |world| world.relayed(3, 4)), "{:#?}", world.paths(3, 4));
    talk(&mut world, 0, 50);
    world.run(Duration::from_millis(300));
    assert_eq!((world.hosts[3].received.len(), world.hosts[4].received.len()), (50, 50));
    for relay in 0..2 {
        assert!(world.hosts[relay].relayed.read().datagrams >= 100);
    }
}

/// Members ask some of the others where they are seen, which opens ways between them; two relays that follow each other may not be among each other's.
#[test]
fn relays_of_a_chain_keep_each_other_in_reach_though_neither_asks_the_other() {
    let mut world = World::with(32, &["symmetric-random", "carrier-symmetric", "public", "public"]);
    let way = chain(&mut world, [5, 6]);
    for (end, relay) in [(3, 5), (4, 6)] {
        let candidate = crate::path::Candidate::local(world.address(relay));
        let peer = world.hosts[relay].peer;
        world.name(end, relay);
        world.hosts[end].links.set_candidates(world.now, peer, &[candidate], None);
    }
    world.want(3, 4);
    give(&mut world, &[way]);
    assert!(world.until(Duration::from_secs(2), |world| world.relayed(3, 4)), "{:#?}", world.paths(3, 4));
    // Longer than a way counts that nobody uses.
    use_for(&mut world, Duration::from_secs(240));
    let before = numbers(&world, 4).len();
    talk(&mut world, 0, 50);
    world.run(Duration::from_millis(300));
    assert_eq!(numbers(&world, 4).len(), before + 50);
}

#[test]
fn the_topologys_word_keeps_a_link_off_direct_ways() {
    let mut world = World::with(41, &["public", "public"]);
    world.allow_relaying(0, 1_000_000_000);
    let way = world.relay(3, 4, &[0]);
    for (at, of) in [(3, 4), (4, 3)] {
        world.name(at, of);
        let peer = world.hosts[of].peer;
        world.hosts[at].links.set_direct(world.now, peer, false);
    }
    world.want(3, 4);
    give(&mut world, &[way]);
    assert!(world.until(Duration::from_secs(5), |world| world.relayed(3, 4)));
    world.run(Duration::from_secs(60));
    let between = [world.address(3), world.address(4)];
    let direct = |sent: &&super::world::Sent| sent.host >= 3 && between.contains(&sent.to);
    assert_eq!(world.sent.iter().filter(direct).count(), 0);
    let peer = world.hosts[4].peer;
    world.frame(3, 4, &[0; 100]);
    world.run(Duration::from_millis(10));
    world.hosts[3].links.set_relayed(world.now, peer, &[]);
    world.run(Duration::from_millis(10));
    assert_eq!(world.paths(3, 4).chosen, None);
    assert!(matches!(
        world.hosts[3].events.last(),
        Some((_, Event::PathChanged { path: None, reason: PathReason::Withdrawn, .. }))
    ));
}

/// Node would ask relays for a way, and their owners let few hosts at once use them.
#[test]
fn the_path_of_a_link_at_rest_is_withdrawn_in_silence() {
    let mut world = World::with(42, &["public", "public"]);
    world.want(3, 4);
    assert!(world.until(Duration::from_secs(5), |world| world.direct(3, 4)));
    world.run(Duration::from_secs(300));
    let peer = world.hosts[4].peer;
    let withdrawn = |world: &World| {
        world.hosts[3]
            .events
            .iter()
            .filter(|(_, event)| matches!(event, Event::PathChanged { reason: PathReason::Withdrawn, .. }))
            .count()
    };
    assert!(world.paths(3, 4).chosen.is_some());
    world.hosts[3].links.set_direct(world.now, peer, false);
    world.run(Duration::from_millis(10));
    assert_eq!((world.paths(3, 4).chosen, withdrawn(&world)), (None, 0));
    // A frame waits for the next one, which is looked for because it does.
    world.frame(3, 4, &[7; 100]);
    world.run(Duration::from_millis(500));
    assert!(world.hosts[4].received.is_empty());
    world.hosts[3].links.set_direct(world.now, peer, true);
    assert!(world.until(Duration::from_secs(2), |world| !world.hosts[4].received.is_empty()));
    assert_eq!(world.hosts[4].received[0].1, [7; 100]);
    // One that is used is told of.
    world.hosts[3].links.set_direct(world.now, peer, false);
    world.run(Duration::from_millis(10));
    assert_eq!(withdrawn(&world), 1);
}
