//! Port searches beside each other: whose turn it is, and when one is over.

use std::time::Duration;

use super::world::{NETWORK, World};

/// A way through member 0 to start with, as node asks for one where a search is to be expected.
fn relay(world: &mut World, a: usize, b: usize) {
    let ways = world.relay(a, b, &[0]);
    for ((at, of), way) in [(a, b), (b, a)].into_iter().zip(ways) {
        let peer = world.hosts[of].peer;
        world.hosts[at].links.set_relayed(world.now, peer, &[way]);
    }
}

/// Two hosts want links to one behind a random symmetric NAT at once: its searches go one after the other, within what the NAT bears, and both ends of the
/// second one begin it together.
#[test]
fn a_search_that_must_wait_is_made_up_for() {
    let mut went = 0;
    for seed in 0..4 {
        let mut world = World::with(2000 + seed, &["symmetric-random", "port-cone", "port-cone-random"]);
        world.allow_relaying(0, 1_000_000_000);
        for other in [4, 5] {
            world.want(3, other);
            relay(&mut world, 3, other);
        }
        let start = world.now;
        let both = |world: &World| world.direct(3, 4) && world.direct(3, 5);
        while !both(&world) && world.now < start + Duration::from_secs(400) {
            for other in [4, 5] {
                world.frame(3, other, &[7; 60]);
                world.frame(other, 3, &[7; 60]);
            }
            world.run(Duration::from_secs(1));
            let opened = world.mappings_at_once(3, Duration::from_secs(120));
            assert!(opened <= 300 + 4 * 120, "{opened} mappings in two minutes");
        }
        went += u32::from(both(&world));
    }
    assert!(went >= 3, "{went} of 4");
}

/// A link that nobody wants any more does not keep others waiting, nor its NAT busy.
#[test]
fn a_search_ends_when_nobody_wants_the_link_any_more() {
    let mut world = World::with(11, &["symmetric-random", "port-cone"]);
    world.want(3, 4);
    world.run(Duration::from_millis(1_500));
    let spent = world.paths(3, 4).search;
    assert!(spent.searches == 1 && spent.probes > 10, "{spent:?}");
    assert!(!world.direct(3, 4), "take a seed that does not find its port so soon");
    world.hosts[3].links.remove_network(world.now, NETWORK);
    world.run(Duration::from_secs(1));
    let then = world.paths(3, 4).search;
    world.run(Duration::from_secs(5));
    assert_eq!(world.paths(3, 4).search, then);
}
