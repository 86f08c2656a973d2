//! What users want and what breaks, drawn from a seed.
//!
//! First a phase with faults, in which the invariants hold at each step; then everything is mended, active slices become
//! whole, terms run out, and nothing is left.

use std::collections::BTreeSet;

use consort_scheduler::engine::{Advert, Answer, Candidate, Command};
use consort_scheduler::identity::HostId;
use consort_scheduler::message::{OrderKind, Selector, SignedOrder};
use consort_scheduler::request::choose_stewards;
use consort_scheduler::resources::Resources;
use consort_scheduler::slice::charter::{Charter, Founded};
use consort_scheduler::slice::file;
use consort_scheduler::units::Millis;
use libp2p_identity::Keypair;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::fault::KnownFault;
use crate::invariants::{self, Violation, gang};
use crate::net::Weather;
use crate::world::{Chances, Crash, Event, Failure, World, WorldConfig, keypair_of};
use crate::{below, chance};

/// When everything is mended.
pub const HEAL_AT: u64 = 25_000;
/// When active slices must be whole: a lease and what goes with it later, twice.
pub const WHOLE_AT: u64 = HEAL_AT + 14_000;
/// When the longest term has run out, also for a steward that was without power for a while, and hosts have noticed.
pub const END_AT: u64 = 130_000;

/// The tenant of all slices here.
#[must_use]
pub fn tenant() -> Keypair {
    Keypair::ed25519_from_bytes([200; 32]).expect("32 bytes are a key")
}

/// Resources with plenty of disk.
#[must_use]
pub const fn room(cpus: u64, memory_mib: u64, machines: u64) -> Resources {
    Resources { cpus_milli: cpus * 1000, memory_bytes: memory_mib << 20, disk_bytes: 1 << 40, machines }
}

/// Everyone may be asked, and says that everything is free: adverts are stale.
#[must_use]
pub fn candidates(world: &World) -> Vec<Candidate> {
    let advert = |limit| Some(Advert { free: limit, limit, sandbox: true, vm: false });
    world.hosts.iter().map(|host| Candidate { host: host.id, advert: advert(host.limit) }).collect()
}

/// A slice file with this machine and these top lines.
///
/// # Panics
/// When the scenario is written wrongly.
#[must_use]
pub fn found(
    world: &World,
    coordinator: usize,
    stewards: &[HostId],
    top: &str,
    machine: &str,
    rng: &mut ChaCha8Rng,
) -> Founded {
    let number = rng.next_u64() % 1_000_000;
    let term = if top.contains("term") { "" } else { "term = \"60s\"" };
    let text = format!(
        "name = \"s{number}\"\n{term}\n{top}\n[network.lan]\n[machine.m]\nimage = \"mini\"\nnetworks = [\"lan\"]\n{machine}\n"
    );
    let spec = file::parse(&text).expect("the scenario's slice file is sound");
    let coordinator = world.hosts[coordinator].id;
    Charter::found(spec, &tenant(), coordinator, stewards, rng).expect("the scenario's charter is sound")
}

/// How a run went, for tests that look at many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Commands to create that were granted.
    pub created: usize,
    /// Commands to create that were refused.
    pub refused: usize,
    /// Commands to create whose answer nobody could know.
    pub undecided: usize,
    /// Everything that happened.
    pub log: String,
}

/// Runs the world of a seed, with a known fault or none.
///
/// # Errors
/// The first violation.
pub fn run(seed: u64, fault: Option<KnownFault>) -> Result<Summary, Box<Failure>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x5ce0_a210);
    let mut world = draw_world(seed, fault, &mut rng);
    draw_slices(&mut world, fault, &mut rng);
    draw_breakdowns(&mut world, &mut rng);
    world.schedule(HEAL_AT, Event::Heal);
    let failed = |world: &World, violation: Violation| {
        Box::new(Failure { seed, at: world.now, violation, log: world.log.clone() })
    };
    world.run_until(WHOLE_AT).map_err(|violation| failed(&world, violation))?;
    gang::active_slices_are_whole(&world).map_err(|violation| failed(&world, violation))?;
    world.run_until(END_AT).map_err(|violation| failed(&world, violation))?;
    invariants::at_the_end(&world).map_err(|violation| failed(&world, violation))?;
    Ok(summary(world))
}

fn summary(world: World) -> Summary {
    let mut summary = Summary::default();
    for (_, answer) in world.oracle.asked.values().flat_map(|asked| &asked.answers) {
        match answer {
            Answer::Created { .. } => summary.created += 1,
            Answer::Refused { .. } => summary.refused += 1,
            Answer::Undecided { .. } => summary.undecided += 1,
            _ => {}
        }
    }
    summary.log = world.log;
    summary
}

fn draw_world(seed: u64, fault: Option<KnownFault>, rng: &mut ChaCha8Rng) -> World {
    let hosts = 3 + below(rng, 4);
    let limits =
        (0..hosts).map(|_| room(2 + below(rng, 6), 512 + below(rng, 3500), 2 + below(rng, 6))).collect();
    let calm = chance(rng, 200);
    let weather = Weather {
        loss: below(rng, Weather::BAD.loss + 1),
        repeat: below(rng, Weather::BAD.repeat + 1),
        delay_min: 1,
        delay_max: 2 + below(rng, Weather::BAD.delay_max),
        straggle: below(rng, Weather::BAD.straggle + 1),
    };
    World::new(&WorldConfig {
        seed,
        limits,
        weather: match fault {
            Some(KnownFault::ForgottenPromises) => Weather { delay_max: 250, ..Weather::FINE },
            _ if calm => Weather::FINE,
            _ => weather,
        },
        chances: Chances { crash: if calm { 0 } else { below(rng, 4) }, start_fails: below(rng, 50) },
        start_max: 300,
        fault,
    })
}

fn draw_slices(world: &mut World, fault: Option<KnownFault>, rng: &mut ChaCha8Rng) {
    let hosts = u64::try_from(world.hosts.len()).expect("few");
    let pick = |rng: &mut ChaCha8Rng| usize::try_from(below(rng, hosts)).expect("few");
    for _ in 0..2 + below(rng, 3) {
        let coordinator = pick(rng);
        let everyone = candidates(world);
        let mut stewards = choose_stewards(world.hosts[coordinator].id, &everyone, rng);
        if fault == Some(KnownFault::ForgottenPromises) || chance(rng, 300) {
            stewards = vec![world.hosts[pick(rng)].id];
        }
        if fault == Some(KnownFault::ForgottenPromises) {
            let others = world.hosts.iter().filter(|host| host.id != world.hosts[coordinator].id).take(3);
            stewards = others.map(|host| host.id).collect();
            stewards.truncate(if stewards.len() == 3 { 3 } else { 1 });
        }
        let min = 1 + below(rng, 4);
        let top = format!("term = \"{}s\"\nlease = \"{}s\"", 15 + below(rng, 15), 2 + below(rng, 4));
        let machine = format!(
            "count = {{ min = {min}, max = {} }}\ncpus = {{ min = 0.5, max = {} }}\nmemory = \"{}MiB\"\ndisk = \"1MiB\"",
            min + below(rng, 4),
            1 + below(rng, 2),
            128 + below(rng, 512),
        );
        let founded = Box::new(found(world, coordinator, &stewards, &top, &machine, rng));
        let selector = Selector::Id(founded.slice);
        let at = below(rng, 9000);
        let mut hold = Millis(500 + below(rng, 6000));
        if fault == Some(KnownFault::ForgottenPromises) {
            // The decision and the end of the hold at the same time: a race is wanted.
            hold = Millis(500 + below(rng, 500));
        }
        let create = Command::Create { founded, candidates: everyone, hold };
        world.schedule(at, Event::Command(coordinator, Box::new(create)));
        draw_orders(world, &selector, at, pick(rng), rng);
    }
}

/// Someone looks, removes or extends, from any host.
fn draw_orders(world: &mut World, selector: &Selector, created_at: u64, asker: usize, rng: &mut ChaCha8Rng) {
    let host_ids: Vec<HostId> = world.hosts.iter().map(|host| host.id).collect();
    for kind in [OrderKind::See, OrderKind::Extend(Millis::from_secs(35)), OrderKind::Remove] {
        if !chance(rng, 400) {
            continue;
        }
        let at = created_at + 500 + below(rng, 12_000);
        let order =
            SignedOrder::sign(&tenant(), host_ids[asker], selector.clone(), kind).expect("an Ed25519 key");
        let command =
            Command::Order { order: Some(order), selector: selector.clone(), candidates: host_ids.clone() };
        world.schedule(at, Event::Command(asker, Box::new(command)));
    }
    if chance(rng, 300) {
        let command = Command::List { order: None, candidates: host_ids };
        world.schedule(created_at + below(rng, 12_000), Event::Command(asker, Box::new(command)));
    }
}

fn draw_breakdowns(world: &mut World, rng: &mut ChaCha8Rng) {
    let hosts = u64::try_from(world.hosts.len()).expect("few");
    for _ in 0..below(rng, 3) {
        let host = usize::try_from(below(rng, hosts)).expect("few");
        let at = below(rng, 20_000);
        let crash = if chance(rng, 500) { Crash::Daemon } else { Crash::Power };
        world.schedule(at, Event::Crash(host, crash));
        world.schedule(at + 200 + below(rng, 15_000), Event::Restart(host));
    }
    for _ in 0..below(rng, 3) {
        let at = below(rng, 18_000);
        let some: BTreeSet<usize> = (0..world.hosts.len()).filter(|_| chance(rng, 350)).collect();
        world.schedule(at, Event::CutOff(some));
        world.schedule(at + 500 + below(rng, 9000), Event::CutOff(BTreeSet::new()));
    }
}

/// The name of the host at `index`.
#[must_use]
pub fn host_id(index: usize) -> HostId {
    keypair_of(index).public().to_peer_id()
}
