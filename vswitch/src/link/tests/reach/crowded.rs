//! A host that many members have seen: what it is known by must not cost its searches their rate.

use std::time::Duration;

use super::world::World;

/// A random symmetric NAT has shown each of eight members another port. A ninth host, to which these ports are of no use, does not spend on them what its search
/// may send: of two hundred probes in two seconds most are the search's.
#[test]
fn ports_that_others_have_seen_do_not_take_a_searches_rate() {
    let mut looked_at = 0;
    for seed in 0..6 {
        let mut world = World::with(4000 + seed, &["symmetric-random", "port-cone"]);
        for _ in 0..6 {
            let site = world.site("public");
            let member = world.host(site);
            world.want(3, member);
        }
        world.run(Duration::from_secs(3));
        world.want(3, 4);
        let began = |world: &World| world.paths(4, 3).search.searches > 0;
        assert!(world.until(Duration::from_secs(1), began), "seed {seed}");
        if world.until(Duration::from_secs(2), |world| world.direct(3, 4)) {
            continue;
        }
        looked_at += 1;
        let probes = world.paths(4, 3).search.probes;
        assert!(probes >= 160, "{probes} probes, seed {seed}");
    }
    assert!(looked_at >= 3, "take seeds whose searches go on for two seconds");
}
