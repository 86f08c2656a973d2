//! Order inside a flow, with more workers than processors and several peers and flows at once, while queues change hands among workers.
//!
//! Both ends of each pair of sockets begin to send at once: by itself the kernel would move each way to the queue on which the other was first written,
//! and so to another worker, which overtakes the first (`driver::tap` says what stands against that; without it about every third run had the first few
//! windows of a way out of order).

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
        let flow = Flow::new(site(from), site(to), mixed);
        flows.push(flow.back());
        flows.push(flow);
    }
    std::thread::scope(|scope| {
        for flow in &flows {
            scope.spawn(|| flow.run(|number| number < DATAGRAMS));
        }
    });
    let given: u64 = world.sites.iter().map(|site| site.plane.snapshot().worker_counts.queues_given).sum();
    assert!(given > 0, "no queue changed hands meanwhile");
}
