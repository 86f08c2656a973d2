//! Moves, failures, rest.

use std::time::Duration;

use super::world::{Sent, World};
use crate::link::Event;

fn talk(world: &mut World, count: usize) {
    for _ in 0..count {
        world.frame(3, 4, &[3; 500]);
        world.frame(4, 3, &[4; 500]);
        world.run(Duration::from_millis(5));
    }
}

fn connected(seed: u64, a: &str, b: &str) -> World {
    let mut world = World::with(seed, &[a, b]);
    world.want(3, 4);
    assert!(world.until(Duration::from_secs(6), |world| world.direct(3, 4)), "{:#?}", world.paths(3, 4));
    world.run(Duration::from_secs(1));
    world
}

/// How long after now the first frame sent from now on arrives at a host, while both talk.
fn heard_again(world: &mut World, at: usize, count: usize) -> Duration {
    let since = world.now;
    talk(world, count);
    // What was under way is not news.
    let first = world.hosts[at].received.iter().find(|(when, _)| *when > since + Duration::from_millis(22));
    first.expect("frames come again").0 - since
}

#[test]
fn a_host_that_gets_another_address_is_found_within_half_a_second() {
    for (kind, there) in [("public", "public"), ("port-cone", "port-cone"), ("public", "masquerade")] {
        let mut world = connected(51, kind, "public");
        talk(&mut world, 100);
        let site = world.site(there);
        world.move_host(3, site);
        let after = heard_again(&mut world, 3, 300);
        assert!(after <= Duration::from_millis(500), "{kind} to {there}: {after:?}");
        assert!(!world.hosts[4].events.iter().any(|(_, event)| matches!(event, Event::LinkDown { .. })));
        assert!(world.direct(3, 4));
    }
}

#[test]
fn a_host_that_moves_behind_another_nat_is_met_again() {
    let mut world = connected(52, "port-cone", "port-cone");
    talk(&mut world, 100);
    let site = world.site("port-cone");
    world.move_host(3, site);
    let after = heard_again(&mut world, 3, 600);
    // The peer's NAT knows nothing of the new address: a meeting is needed, for which the failure must be noticed first.
    assert!(after <= Duration::from_millis(1500), "{after:?}");
    assert!(world.direct(3, 4));
}

#[test]
fn a_nat_that_forgets_everything_is_punched_again() {
    let mut world = connected(53, "port-cone", "port-cone");
    talk(&mut world, 100);
    let site = world.hosts[3].site;
    world.sites[site].nat.as_mut().unwrap().restart();
    let after = heard_again(&mut world, 4, 600);
    assert!(after <= Duration::from_millis(1500), "{after:?}");
}

#[test]
fn a_link_at_rest_sends_nothing_but_its_rekeys() {
    let mut world = connected(54, "port-cone", "masquerade");
    talk(&mut world, 10);
    world.run(Duration::from_secs(60));
    let members = [world.address(0), world.address(1), world.address(2)];
    let before = world.sent.len();
    world.run(Duration::from_secs(60));
    let sent = world.sent[before..].iter().filter(|sent| sent.host == 3);
    let (to_members, to_peer): (Vec<&Sent>, Vec<&Sent>) = sent.partition(|sent| members.contains(&sent.to));
    // A rekey is half a dozen datagrams each two minutes.
    assert!(to_peer.len() <= 12, "{to_peer:?}");
    let bytes: usize = to_members.iter().map(|sent| sent.bytes + 28).sum();
    assert!(bytes < 60 * 20, "asking what members see: {bytes} bytes in a minute");
}

#[test]
fn a_link_in_use_outlives_a_nat_that_forgets_after_twenty_seconds() {
    let mut world = connected(55, "short-timeout", "port-cone");
    for _ in 0..12 {
        world.frame(3, 4, &[3; 500]);
        world.run(Duration::from_secs(15));
    }
    assert_eq!(world.hosts[4].received.len(), 12);
    let down = |(_, event): &(_, Event)| matches!(event, Event::LinkDown { .. });
    assert!(!world.hosts[3].events.iter().any(down) && !world.hosts[4].events.iter().any(down));
}

#[test]
fn loss_reordering_and_repetition_do_not_keep_hosts_apart() {
    for seed in 0..8 {
        let mut world = World::with(60 + seed, &["port-cone", "masquerade-open"]);
        (world.loss, world.duplicates, world.jitter) = (25, 20, Duration::from_millis(60));
        world.want(3, 4);
        assert!(world.until(Duration::from_secs(30), |world| world.direct(3, 4)), "seed {seed}");
        world.run(Duration::from_secs(10));
        let before = world.hosts[4].received.len();
        for _ in 0..400 {
            world.frame(3, 4, &[1; 300]);
            world.run(Duration::from_millis(25));
        }
        let got = world.hosts[4].received.len() - before;
        assert!(got > 200, "seed {seed}: {got} of 400");
    }
}

#[test]
fn two_runs_of_one_seed_are_the_same() {
    let run = || {
        let mut world = connected(70, "symmetric-sequential", "port-cone");
        talk(&mut world, 50);
        world.sent.iter().map(|sent| (sent.at - world.start, sent.to, sent.bytes)).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}
