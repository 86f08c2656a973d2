//! How links come to be, and come back.

use std::time::Duration;

use super::{super::*, world::*};

#[test]
fn opens_in_three_round_trips() {
    let mut world = World::pair(1);
    world.until("the channel", 1, World::both_open);
    assert!(world.now - world.start <= Duration::from_millis(60), "{:?}", world.now - world.start);
    assert!(world.frame(0, 1, b"hello"));
    world.run(Duration::from_millis(10));
    assert_eq!(world.hosts[1].received, [b"hello"]);
}

#[test]
fn frames_wait_for_the_link_and_are_not_lost() {
    let mut world = World::pair(2);
    world.serve(0);
    world.serve(1);
    for number in 0..10 {
        assert!(!world.frame(0, 1, &[number; 60]));
    }
    world.run(Duration::from_secs(1));
    assert_eq!(world.hosts[1].received, (0..10).map(|number| vec![number; 60]).collect::<Vec<_>>());
}

#[test]
fn opens_and_stays_open_in_a_storm_and_two_runs_of_one_seed_are_the_same() {
    for seed in 0..12 {
        let run = || {
            let mut world = World::pair(seed);
            world.weather = STORM;
            world.until("the channel", 60, World::both_open);
            world.run(Duration::from_secs(20));
            world.weather = CALM;
            world.until("healing", 30, World::both_open);
            let before = world.hosts[1].received.len();
            assert!(world.frame(0, 1, &[1; 1000]));
            world.run(Duration::from_secs(1));
            assert_eq!(world.hosts[1].received.len(), before + 1, "seed {seed}");
            let ids = [world.hosts[0].id, world.hosts[1].id];
            let log: Vec<_> = world
                .log
                .iter()
                .map(|line| line.replace(&ids[0].to_string(), "a").replace(&ids[1].to_string(), "b"))
                .collect();
            (log, world.nonces.len())
        };
        assert_eq!(run(), run(), "seed {seed}");
    }
}

#[test]
fn simultaneous_opening_makes_one_session() {
    for seed in 0..20 {
        let mut world = World::pair(seed);
        world.until("the channel", 5, World::both_open);
        world.run(Duration::from_secs(3));
        let (a, b) = (world.counts(0, 1), world.counts(1, 0));
        assert_eq!((a.handshakes, b.handshakes), (1, 1), "seed {seed}");
        assert_eq!(a.initiations_crossed + b.initiations_crossed, 1, "seed {seed}");
    }
}

#[test]
fn a_lost_response_and_a_lost_first_datagram_are_healed() {
    // Each of the first eight datagrams is lost in turn.
    for lost in 0..8 {
        let mut world = World::pair(6);
        let mut count = 0;
        while count < 40 {
            world.serve(0);
            world.serve(1);
            let fresh: Vec<_> = std::mem::take(&mut world.travelling).into_vec();
            for datagram in fresh {
                if datagram.at.0.0 > world.now + TICK {
                    world.travelling.push(datagram);
                } else {
                    count += 1;
                    if count != lost + 1 {
                        world.travelling.push(datagram);
                    }
                }
            }
            world.turn();
        }
        world.until("the channel", 10, World::both_open);
        world.frame(0, 1, b"hello");
        world.run(Duration::from_millis(20));
        assert_eq!(world.hosts[1].received, [b"hello"], "lost {lost}");
    }
}

#[test]
fn a_peer_that_goes_silent_is_down_and_comes_back() {
    let mut world = World::pair(7);
    world.until("the channel", 5, World::both_open);
    world.weather.loss = 100;
    world.until("silence is noticed", 20, |world| {
        (0..2).all(|host| {
            world.hosts[host]
                .events
                .iter()
                .any(|event| matches!(event, Event::LinkDown { reason: LinkDownReason::Silent, .. }))
        })
    });
    world.weather.loss = 0;
    world.until("the channel again", 20, World::both_open);
}

#[test]
fn a_host_that_lost_its_state_is_taken_back_at_once() {
    let mut world = World::pair(8);
    world.until("the channel", 5, World::both_open);
    // The host starts anew: other instance, no sessions, channels numbered from the start.
    let mut fresh = World::new(99, 2, SessionLimits::default());
    let (id, key) = (world.hosts[1].id, world.hosts[1].key);
    std::mem::swap(&mut world.hosts[1], &mut fresh.hosts[1]);
    world.hosts[1].id = id;
    assert_eq!(world.hosts[1].key, key);
    // Its wall clock goes on.
    world.run(Duration::from_millis(10));
    world.introduce(1, 0);
    world.until("the channel again", 10, World::both_open);
    world.frame(0, 1, b"to the new one");
    world.frame(1, 0, b"and back");
    world.run(Duration::from_millis(20));
    assert_eq!(world.hosts[1].received, [b"to the new one"]);
    assert_eq!(world.hosts[0].received, [b"and back"]);
}

#[test]
fn a_host_that_is_no_peer_or_of_another_overlay_gets_nothing() {
    let mut world = World::new(11, 3, SessionLimits::default());
    world.introduce(0, 1);
    world.introduce(1, 0);
    world.introduce(2, 0);
    world.run(Duration::from_secs(3));
    assert!(world.both_open());
    assert!(world.hosts[0].refusals.read().peer_unknown > 0);
    assert!(matches!(world.snapshot(2, 0).state, LinkState::Connecting));
    assert!(world.hosts[2].events.iter().all(|event| matches!(event, Event::MeetWanted { .. })));
}
