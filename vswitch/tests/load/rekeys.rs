//! A soak of traffic with a rekey each second.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use consort_lab::wide::Cable;

use super::{Flow, given_up, hush, introduce};
use crate::world::{Options, World, until};

/// As many as fit into some twenty seconds: both ends count each.
const REKEYS: u64 = 36;
const REKEY_AFTER: Duration = Duration::from_secs(1);

/// Asserts that every frame handed to a tunnel that is busy in both directions comes out of it, through many changes of keys.
pub(crate) fn busy_links_lose_no_frame_while_keys_change() {
    let mut options = Options::new(Cable { real_wire: true, ..Cable::default() }, 1400);
    options.limits.rekey_after = REKEY_AFTER;
    let world = World::new(&options);
    world.connected(0, 1);
    hush(&world);
    introduce(&world);
    let none = given_up(&world);
    let rekeys = || world.link(0, 1).counts.rekeys + world.link(1, 0).counts.rekeys;
    let counts = |from, to| {
        let counts = world.link(from, to).counts;
        (counts.frames_sent, counts.frames_received)
    };
    let before = [counts(0, 1), counts(1, 0)];
    let enough = AtomicBool::new(false);
    let flows: Vec<Flow> = (0..2)
        .flat_map(|_| {
            let flow = Flow::new(
                &world.sites[0],
                &world.sites[1],
                |number| if number % 2 == 0 { 1200 } else { 100 },
            );
            [flow.back(), flow]
        })
        .collect();
    let sent: u64 = std::thread::scope(|scope| {
        let running: Vec<_> =
            flows.iter().map(|flow| scope.spawn(|| flow.run(|_| !enough.load(Relaxed)))).collect();
        // Each rekey has a deadline of its own: twenty seconds of them are more than one may take.
        let start = rekeys();
        for number in 1..=REKEYS {
            until("the next rekey", || {
                rekeys() >= start + number || running.iter().any(std::thread::ScopedJoinHandle::is_finished)
            });
        }
        enough.store(true, Relaxed);
        running
            .into_iter()
            .map(|flow| flow.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .sum()
    });
    let after = [counts(0, 1), counts(1, 0)];
    let frames_sent: u64 = (0..2).map(|at| after[at].0 - before[at].0).sum();
    let frames_received: u64 = (0..2).map(|at| after[at].1 - before[at].1).sum();
    assert_eq!((frames_sent, frames_received), (sent, sent), "{before:?} {after:?}");
    assert!(rekeys() >= REKEYS);
    assert_eq!(given_up(&world), none);
}
