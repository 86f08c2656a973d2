//! Keys change, and nobody notices.

use std::time::Duration;

use super::{super::*, world::*};

#[test]
fn no_frame_is_lost_at_a_rekey_and_order_is_kept() {
    let mut world = World::pair_with(3, fast_rekey());
    world.until("the channel", 5, World::both_open);
    let mut sent = Vec::new();
    for number in 0_u32..20_000 {
        if number % 2 == 0 {
            world.frame(0, 1, &number.to_le_bytes());
            sent.push(number.to_le_bytes().to_vec());
        } else {
            world.frame(1, 0, &number.to_le_bytes());
        }
        world.turn();
    }
    world.run(Duration::from_secs(1));
    assert!(world.hosts[1].received == sent, "{} of {}", world.hosts[1].received.len(), sent.len());
    assert_eq!(world.hosts[0].received.len(), 10_000);
    let counts = world.counts(0, 1);
    assert!(counts.rekeys >= 8, "{counts:?}");
    assert_eq!(
        world.hosts[0].events.iter().filter(|event| matches!(event, Event::LinkDown { .. })).count(),
        0
    );
}

#[test]
fn rekey_by_count() {
    let limits = SessionLimits { rekey_datagrams: 500, ..SessionLimits::default() };
    let mut world = World::pair_with(4, limits);
    world.until("the channel", 5, World::both_open);
    // Only the responder of the first handshake sends: either end may begin.
    for number in 0_u32..12_000 {
        world.frame(usize::from(number % 2 == 0), usize::from(number % 2 == 1), &number.to_le_bytes());
        world.turn();
    }
    assert!(world.counts(0, 1).rekeys >= 2, "{:?}", world.counts(0, 1));
    world.run(Duration::from_millis(50));
    assert_eq!(world.hosts[0].received.len() + world.hosts[1].received.len(), 12_000);
}

#[test]
fn exhausted_counters_send_nothing_until_new_keys_are_there() {
    let limits =
        SessionLimits { rekey_datagrams: u64::MAX, refuse_datagrams: 50, ..SessionLimits::default() };
    let mut world = World::pair_with(5, limits);
    world.until("the channel", 5, World::both_open);
    for number in 0..60 {
        world.frame(0, 1, &[number]);
    }
    assert!(world.counts(0, 1).session_exhausted >= 10);
    world.until("a new session", 30, |world| world.counts(0, 1).handshakes >= 2 && world.both_open());
    let before = world.hosts[1].received.len();
    world.frame(0, 1, b"again");
    world.run(Duration::from_millis(50));
    assert_eq!(world.hosts[1].received.len(), before + 1);
}

#[test]
fn all_sessions_of_a_peer_are_of_one_lane() {
    let mut world = World::pair_with(23, fast_rekey());
    world.until("the channel", 5, World::both_open);
    let mut seen = BTreeSet::new();
    for _ in 0..300 {
        world.run(Duration::from_millis(100));
        seen.extend(world.hosts[0].routes.sessions.keys().copied());
    }
    assert!(seen.len() >= 10, "{seen:?}");
    let lane = u8::try_from((world.hosts[1].peer.get() + 1) % 3).unwrap();
    assert!(seen.iter().all(|index| index.to_le_bytes()[0] % 3 == lane), "{seen:?}");
}
