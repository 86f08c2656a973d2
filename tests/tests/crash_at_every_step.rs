//! One request, and one breakdown: before every single output that any host acts on while the slice is made, in fine weather.
//!
//! Before the decision everything reserved is free within the deadline and nothing is left; after it the slice stands, whoever
//! died, the coordinator included.

use consort_scheduler::engine::Command;
use consort_scheduler::resources::Resources;
use consort_scheduler::slice::record::State;
use consort_scheduler::units::Millis;
use consort_tests::net::Weather;
use consort_tests::scenario::{self, candidates, found, room};
use consort_tests::world::{Chances, Crash, Event, World, WorldConfig};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

const HOLD: u64 = 1500;
/// The request is given at this time.
const ASKED_AT: u64 = 10;
/// By now whatever was held for a request that nobody decided is free: the hold, and the time a host needs to have the
/// register settled and to read it, when a majority of stewards lives.
const FREE_BY: u64 = ASKED_AT + HOLD + 1500;
/// By now hosts that died are declared lost, the term is over, and everything has ended.
const END_AT: u64 = 40_000;

/// Four hosts; the first coordinates, the first three are stewards, so the coordinator is a steward and a host as well.
fn world(stewards: usize) -> World {
    let mut world = World::new(&WorldConfig {
        seed: 1,
        limits: vec![room(4, 4096, 4); 4],
        weather: Weather::FINE,
        chances: Chances { crash: 0, start_fails: 0 },
        start_max: 50,
        fault: None,
    });
    let stewards: Vec<_> = (0..stewards).map(|index| scenario::host_id(3 - index)).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let machine = "count = 4\nmemory = \"64MiB\"\ndisk = \"1MiB\"";
    let founded = Box::new(found(&world, 0, &stewards, "term = \"15s\"\nlease = \"2s\"", machine, &mut rng));
    let candidates = candidates(&world);
    let create = Command::Create { founded, candidates, hold: Millis(HOLD) };
    world.schedule(ASKED_AT, Event::Command(0, Box::new(create)));
    world
}

fn state(world: &World) -> Option<State> {
    let slice = world.oracle.asked.values().find_map(|asked| asked.creates)?;
    world.oracle.current(slice).map(|record| record.state)
}

/// Breaks a host down before output `number` and checks what must come of it. Says whether the slice came to be.
fn break_down(number: u64, crash: Crash, restart: bool, stewards: usize) -> bool {
    let mut world = world(stewards);
    world.crash_before = Some((number, crash));
    let case =
        format!("{crash:?} before output {number}, {}", if restart { "restarted" } else { "for good" });
    let step = |world: &mut World, until: u64| {
        if let Err(violation) = world.run_until(until) {
            panic!("{case}: {violation}\n{}", world.log);
        }
    };
    step(&mut world, 900);
    if restart && let Some(host) = world.crashed_by_plan {
        world.schedule(0, Event::Restart(host));
    }
    step(&mut world, FREE_BY);
    let one_steward_dead = stewards == 1 && world.crashed_by_plan == Some(3) && !restart;
    let active = state(&world) == Some(State::Active);
    for (index, host) in world.hosts.iter().enumerate() {
        let Some(engine) = &host.engine else { continue };
        let idle = engine.promised() == Resources::NONE && host.machines.all.is_empty();
        assert!(active || idle || one_steward_dead, "{case}: host {index} still holds\n{}", world.log);
    }
    step(&mut world, END_AT - 15_000);
    if !world.hosts.iter().all(|host| host.engine.is_some()) {
        world.schedule(0, Event::Heal);
    }
    step(&mut world, END_AT);
    if let Err(violation) = consort_tests::invariants::at_the_end(&world) {
        panic!("{case}: {violation}\n{}", world.log);
    }
    active
}

/// The output before which nothing was decided, and the one by which all machines run.
fn outputs_of_a_whole_run(stewards: usize) -> u64 {
    let mut world = world(stewards);
    world.run_until(600).unwrap();
    assert_eq!(state(&world), Some(State::Active));
    consort_tests::invariants::gang::active_slices_are_whole(&world).unwrap();
    world.outputs
}

fn every_step(crash: Crash, restart: bool, stewards: usize) {
    let outputs = outputs_of_a_whole_run(stewards);
    let stood = (1..=outputs).filter(|number| break_down(*number, crash, restart, stewards)).count();
    println!(
        "{crash:?}, restart {restart}, {stewards} stewards: {outputs} steps, the slice stood after {stood}"
    );
    assert!(stood > 0 && (stood as u64) < outputs, "some breakdowns come before the decision and some after");
}

#[test]
fn a_daemon_killed_for_good() {
    every_step(Crash::Daemon, false, 3);
}

#[test]
fn a_daemon_killed_and_restarted() {
    every_step(Crash::Daemon, true, 3);
}

#[test]
fn a_power_failure() {
    every_step(Crash::Power, true, 3);
}

#[test]
fn a_daemon_killed_with_one_steward() {
    every_step(Crash::Daemon, true, 1);
}
