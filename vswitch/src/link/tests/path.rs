//! Frames and datagrams of all sizes.

use std::time::Duration;

use super::{super::*, world::*};

#[test]
fn frames_of_every_size_cross_a_narrow_path_that_reorders_and_loses() {
    let mut world = World::pair(15);
    world.weather = Weather { mtu: 1252, jitter: Duration::from_millis(20), duplicates: 20, ..CALM };
    world.until("the channel", 10, World::both_open);
    world.run(Duration::from_secs(3));
    let mut sent = BTreeMap::new();
    for len in (60..9238).step_by(61) {
        let frame: Vec<u8> = (0..len).map(|i| u8::try_from((i * 31 + len) % 256).unwrap()).collect();
        assert!(world.frame(0, 1, &frame));
        sent.insert(frame, 1);
        world.run(Duration::from_millis(5));
    }
    world.run(Duration::from_secs(1));
    let mut got = BTreeMap::new();
    for frame in &world.hosts[1].received {
        *got.entry(frame.clone()).or_insert(0) += 1;
    }
    assert!(got == sent, "{} of {}", got.len(), sent.len());
    assert!(world.counts(0, 1).frames_split > 100 && world.counts(1, 0).frames_joined > 100);
    assert!(world.frame(0, 1, &vec![0; 9239]) || world.counts(0, 1).frame_too_large == 1);
}

#[test]
fn finds_what_the_path_takes_and_survives_its_narrowing() {
    let mut world = World::pair(16);
    world.until("the channel", 5, World::both_open);
    world.until("the size", 5, |world| world.snapshot(0, 1).datagram_bytes == 1472);
    world.weather.mtu = 1300;
    world.until("the narrower path", 20, |world| {
        world.snapshot(0, 1).counts.black_holes > 0
            || {
                // Traffic goes on.
                false
            }
            || world.now - world.start > Duration::from_secs(19)
    });
    for _ in 0..200 {
        world.frame(0, 1, &[1; 1400]);
        world.run(Duration::from_millis(50));
    }
    assert!(world.counts(0, 1).black_holes >= 1);
    assert!(
        (1288..=1300).contains(&world.snapshot(0, 1).datagram_bytes),
        "{}",
        world.snapshot(0, 1).datagram_bytes
    );
    let before = world.hosts[1].received.len();
    world.frame(0, 1, &[2; 1400]);
    world.run(Duration::from_millis(50));
    assert_eq!(world.hosts[1].received.len(), before + 1);
}
