//! Order inside a flow, with more workers than processors and several peers and flows at once.
//!
//! Each way has sockets of its own. What is *not* asserted, because it does not hold: where both ends of one pair of sockets begin to send at once, the first few
//! windows of a way may come out of order, about every third run (none lost: 16 was due, 24 to 31 came, then 16 to 23). With ways of
//! their own ten of ten runs were in order. That fits the kernel's TAP, which moves a flow to the queue its other direction was written to, and so to
//! another worker, while frames still wait for the first; it is not proved.

use consort_lab::wide::Cable;

use super::{Flow, introduce};
use crate::world::{GRANT, Options, World};

/// Datagrams of each flow.
const DATAGRAMS: u64 = 20_000;
const WORKERS: usize = 4;

/// Small ones and nearly full ones by turns, so that batches begin and end everywhere. None is cut by the machine: fragments name no ports, so
/// nobody can keep them in order with whole datagrams, the kernel neither.
fn mixed(number: u64) -> usize {
    if number % 7 < 3 { 1300 } else { 64 }
}

/// Asserts that each of several flows among three hosts, which keep all workers busy, arrives in order.
pub(crate) fn order_inside_each_flow_is_kept_by_several_workers() {
    let mut options = Options::new(Cable { real_wire: true, ..Cable::default() }, 1400);
    options.grants = vec![GRANT; 3];
    options.workers = WORKERS;
    let world = World::new(&options);
    for (from, to) in [(0, 1), (0, 2), (1, 2)] {
        world.connected(from, to);
    }
    introduce(&world);
    let site = |at: usize| &world.sites[at];
    let mut flows = vec![];
    for (from, to) in [(0, 1), (2, 1), (1, 0), (0, 2)] {
        flows.push(Flow::new(site(from), site(to), mixed));
        flows.push(Flow::new(site(to), site(from), mixed));
    }
    std::thread::scope(|scope| {
        for flow in &flows {
            scope.spawn(|| flow.run(|number| number < DATAGRAMS));
        }
    });
}
