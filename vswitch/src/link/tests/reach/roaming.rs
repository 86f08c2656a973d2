//! Hosts whose addresses change while a relay's way is held beside the direct one. No node carries a meeting: the control plane is gone with the address.

use std::time::{Duration, Instant};

use super::world::World;
use crate::link::Event;
use crate::path::PathView;
use crate::wire::{PROBE_BYTES, control::NOTE_BYTES_MAX};

/// The bar: the time without any frame.
const WITHOUT: Duration = Duration::from_millis(500);

/// Two hosts with a direct path, frames passing, and a way through member 0 beside it.
fn prepared(seed: u64, a: &str, b: &str) -> World {
    let mut world = World::with(seed, &[a, b]);
    world.want(3, 4);
    assert!(world.until(Duration::from_secs(10), |world| world.direct(3, 4)), "{:#?}", world.paths(3, 4));
    talk(&mut world, Duration::from_secs(1));
    world.allow_relaying(0, 1_000_000_000);
    let ways = world.relay(3, 4, &[0]);
    for (side, (at, of)) in [(3, 4), (4, 3)].into_iter().enumerate() {
        let peer = world.hosts[of].peer;
        world.hosts[at].links.set_relayed(world.now, peer, &ways[side..=side]);
    }
    talk(&mut world, Duration::from_secs(2));
    assert!(world.direct(3, 4), "{:#?}", world.paths(3, 4));
    world
}

fn talk(world: &mut World, time: Duration) {
    let end = world.now + time;
    while world.now < end {
        world.frame(3, 4, &[3; 500]);
        world.frame(4, 3, &[4; 500]);
        world.run(Duration::from_millis(5));
    }
}

/// The longest time without a frame at a host since then, while both talk for two seconds.
fn without(world: &mut World, at: [usize; 2], since: Instant) -> Duration {
    talk(world, Duration::from_secs(2));
    let longest = |host: &usize| {
        let times = world.hosts[*host].received.iter().map(|(when, _)| *when).filter(|when| *when > since);
        let times: Vec<Instant> = [since].into_iter().chain(times).chain([world.now]).collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    };
    at.iter().map(longest).max().unwrap_or_default()
}

fn assert_no_link_went_down(world: &World) {
    for host in [3, 4] {
        let down = |(_, event): &(_, Event)| matches!(event, Event::LinkDown { .. });
        assert!(!world.hosts[host].events.iter().any(down));
    }
}

#[test]
fn a_host_that_moves_is_never_half_a_second_without_frames_whatever_nats_are_there() {
    for seed in 0..4 {
        for (from, to, other) in [
            ("public", "port-cone", "port-cone"),
            ("port-cone", "port-cone", "port-cone"),
            ("port-cone", "symmetric-random", "port-cone"),
            ("masquerade", "masquerade", "address-cone"),
            ("port-cone", "public", "masquerade"),
        ] {
            let mut world = prepared(200 + seed, from, other);
            world.meetings = false;
            let site = world.site(to);
            world.move_host(3, site);
            let since = world.now;
            let without = without(&mut world, [3, 4], since);
            assert!(without <= WITHOUT, "seed {seed}, {from} to {to} with {other}: {without:?}");
            assert_no_link_went_down(&world);
        }
    }
}

#[test]
fn a_router_that_gets_another_address_is_noticed_by_silence_at_both_ends() {
    for seed in 0..8 {
        let mut world = prepared(220 + seed, "port-cone", "port-cone");
        world.meetings = false;
        world.readdress(3);
        let since = world.now;
        let without = without(&mut world, [3, 4], since);
        assert!(without <= WITHOUT, "seed {seed}: {without:?}");
        assert_no_link_went_down(&world);
    }
}

#[test]
fn the_way_is_direct_again_once_the_two_have_met_and_loses_nothing() {
    for seed in 0..4 {
        let mut world = prepared(240 + seed, "port-cone", "port-cone");
        let site = world.site("port-cone");
        world.move_host(3, site);
        talk(&mut world, Duration::from_secs(2));
        assert!(world.direct(3, 4), "seed {seed}: {:#?} {:#?}", world.paths(3, 4), world.paths(4, 3));
        // What was under way is not counted.
        world.run(Duration::from_millis(100));
        let before = world.hosts[4].received.len();
        talk(&mut world, Duration::from_secs(1));
        world.run(Duration::from_millis(100));
        assert_eq!(world.hosts[4].received.len() - before, 200);
    }
}

/// The first meeting after a move may come to nothing: another follows soon, not after the time that a spoiled port takes.
#[test]
fn where_the_first_meeting_after_a_loss_fails_another_follows_soon() {
    for seed in 0..4 {
        let mut world = prepared(245 + seed, "public", "port-cone");
        world.meetings = false;
        let site = world.site("port-cone");
        world.move_host(3, site);
        talk(&mut world, Duration::from_millis(1_500));
        assert!(world.relayed(3, 4), "seed {seed}");
        world.meetings = true;
        talk(&mut world, Duration::from_secs(6));
        assert!(world.direct(3, 4), "seed {seed}: {:#?} {:#?}", world.paths(3, 4), world.paths(4, 3));
        assert_no_link_went_down(&world);
    }
}

/// A record that was signed before the move comes after the meeting that told of it: what is being tried is tried to the end.
#[test]
fn a_record_that_is_older_than_a_meeting_takes_nothing_of_it_back() {
    for seed in 0..4 {
        let mut world = prepared(248 + seed, "public", "port-cone");
        let site = world.site("port-cone");
        world.move_host(3, site);
        let before_the_move = [crate::path::Candidate::local("203.0.113.77:7441".parse().unwrap())];
        // For as long as a control connection needs to be there again.
        for _ in 0..20 {
            talk(&mut world, Duration::from_millis(50));
            let (now, peer) = (world.now, world.hosts[3].peer);
            world.hosts[4].links.set_candidates(now, peer, &before_the_move, None);
        }
        talk(&mut world, Duration::from_millis(500));
        assert!(world.direct(3, 4), "seed {seed}: {:#?} {:#?}", world.paths(3, 4), world.paths(4, 3));
    }
}

#[test]
fn a_host_that_moves_twice_and_comes_back_keeps_its_link() {
    let mut world = prepared(250, "port-cone", "port-cone");
    let home = world.hosts[3].site;
    let away = world.site("masquerade");
    for site in [away, home, away] {
        world.move_host(3, site);
        let since = world.now;
        let without = without(&mut world, [3, 4], since);
        assert!(without <= WITHOUT, "{without:?}");
    }
    assert_no_link_went_down(&world);
}

#[test]
fn a_path_that_works_is_not_left_for_a_relay_by_loss_and_jitter() {
    for seed in 0..4 {
        let mut world = prepared(260 + seed, "port-cone", "port-cone");
        (world.loss, world.jitter) = (10, Duration::from_millis(30));
        let (mut relayed, mut looks) = (0, 0);
        for _ in 0..100 {
            talk(&mut world, Duration::from_millis(50));
            looks += 1;
            let path = world.paths(3, 4).chosen;
            relayed += u32::from(matches!(path, Some(PathView::Relay { .. })));
        }
        assert!(relayed * 20 <= looks, "seed {seed}: relayed at {relayed} of {looks} looks");
    }
}

#[test]
fn frames_that_nobody_answers_cost_few_probes() {
    let mut world = prepared(270, "port-cone", "port-cone");
    let (before, time) = (world.sent.len(), Duration::from_secs(20));
    let end = world.now + time;
    while world.now < end {
        world.frame(3, 4, &[3; 500]);
        world.run(Duration::from_millis(10));
    }
    let probes = world.sent[before..].iter().filter(|sent| sent.host == 3 && sent.bytes <= PROBE_BYTES + 8);
    let per_second = probes.count() as u64 / time.as_secs();
    assert!(per_second <= 15, "{per_second} probes and replies a second beside a hundred frames");
}

#[test]
fn what_a_node_says_comes_sealed_over_whatever_way_there_is_and_not_too_often() {
    let mut world = prepared(280, "port-cone", "port-cone");
    world.meetings = false;
    let site = world.site("port-cone");
    world.move_host(3, site);
    talk(&mut world, Duration::from_millis(500));
    assert!(world.relayed(3, 4));
    let (now, peer) = (world.now, world.hosts[4].peer);
    assert!(!world.hosts[3].links.say(now, peer, &[]), "nothing to say");
    assert!(!world.hosts[3].links.say(now, peer, &[7; NOTE_BYTES_MAX + 1]), "too much");
    for _ in 0..100 {
        assert!(world.hosts[3].links.say(now, peer, &[7; NOTE_BYTES_MAX]));
    }
    world.run(Duration::from_millis(200));
    let said = |(_, event): &&(_, Event)| matches!(event, Event::Said { body, .. } if body[..] == [7; NOTE_BYTES_MAX]);
    let heard = world.hosts[4].events.iter().filter(said).count();
    assert_eq!(heard, 8, "of a hundred in a second");
    assert_eq!(world.link(4, 3).counts.notes_dropped, 92);
}
