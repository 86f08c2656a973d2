//! A stranger who knows everything about a slice (its id, its charter, its ballots, every byte that was ever sent) and has no part in
//! it floods all hosts. He changes nothing: every invariant holds, the slice runs its course, and tables stay bounded.

use consort_scheduler::bounded::List;
use consort_scheduler::engine::{Answer, Command};
use consort_scheduler::identity::HostId;
use consort_scheduler::limits::UNDECIDED_PER_HOST_MAX;
use consort_scheduler::message::{
    AcceptorRefusal, AskKind, Held, MachineReport, MachineState, Message, OrderKind, OrderResult, Reader,
    Selector, SignedOrder, Verdict, encode,
};
use consort_scheduler::refusal::Refusal;
use consort_scheduler::register::{Accepted, Ballot};
use consort_scheduler::resources::Resources;
use consort_scheduler::slice::charter::Founded;
use consort_scheduler::slice::grant;
use consort_scheduler::slice::record::{AbortReason, Record, State};
use consort_scheduler::units::Millis;
use consort_tests::below;
use consort_tests::invariants::{at_the_end, gang};
use consort_tests::net::Weather;
use consort_tests::scenario::{candidates, found, host_id, room};
use consort_tests::world::{Chances, Event, World, WorldConfig};
use libp2p_identity::Keypair;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

const STRANGER: usize = 4;
const MESSAGES: usize = 4000;

/// Four hosts share a slice; the fifth has no part in it.
fn world_with_slice() -> (World, Founded, Record) {
    let mut world = World::new(&WorldConfig {
        seed: 5,
        limits: vec![room(4, 4096, 4); 5],
        weather: Weather::FINE,
        chances: Chances { crash: 0, start_fails: 0 },
        start_max: 50,
        fault: None,
    });
    let stewards: Vec<HostId> = (0..3).map(host_id).collect();
    let machine = "count = 4\nmemory = \"64MiB\"\ndisk = \"1MiB\"";
    let founded = found(
        &world,
        0,
        &stewards,
        "term = \"30s\"\nlease = \"5s\"",
        machine,
        &mut ChaCha8Rng::seed_from_u64(5),
    );
    let mut asked = candidates(&world);
    asked.truncate(STRANGER);
    let create =
        Command::Create { founded: Box::new(founded.clone()), candidates: asked, hold: Millis::from_secs(5) };
    world.schedule(0, Event::Command(0, Box::new(create)));
    world.run_until(2000).unwrap();
    let record = world.oracle.current(founded.slice).expect("it was decided").clone();
    assert_eq!(record.state, State::Active);
    (world, founded, record)
}

fn ballot(rng: &mut ChaCha8Rng) -> Ballot {
    Ballot {
        round: [0, 1, 7, 1 << 30, u64::MAX][usize::try_from(below(rng, 5)).expect("few")],
        nonce: rng.next_u64(),
    }
}

/// Something a stranger may try.
fn attempt(founded: &Founded, record: &Record, rng: &mut ChaCha8Rng) -> Message {
    let slice = founded.slice;
    let charter = Box::new(founded.signed.clone());
    let aborted = Record { state: State::Aborted(AbortReason::HoldOver), version: 99, ..record.clone() };
    let thief = Keypair::ed25519_from_bytes([66; 32]).expect("32 bytes are a key");
    let order =
        SignedOrder::sign(&thief, host_id(STRANGER), Selector::Id(slice), OrderKind::Remove).expect("a key");
    let accepted = Box::new(Accepted { ballot: ballot(rng), value: aborted.clone() });
    let reports = List::first_of([MachineReport { machine: 0, state: MachineState::Stopped }]);
    let round = rng.next_u64();
    match below(rng, 22) {
        0 => Message::Ask { charter, machines: 9, kind: AskKind::Reserve(Millis(u64::MAX)) },
        1 => Message::Answer { slice, kind: AskKind::Plan, verdict: Verdict::refusing(Refusal::Policy) },
        2 => Message::Cancel { slice },
        3 => Message::Pledge { slice, machines: 1, taken: Resources { machines: 1, ..Resources::NONE } },
        4 => Message::Pledged { slice, refusal: Some(Refusal::HoldOver) },
        5 => Message::News { slice },
        6 => Message::Prepare { charter, ballot: ballot(rng) },
        7 => Message::Promise { slice, ballot: ballot(rng), accepted: Some(accepted) },
        8 => Message::Accept { ballot: ballot(rng), record: Box::new(aborted) },
        9 => Message::Accepted { slice, ballot: ballot(rng) },
        10 => {
            Message::Refused { slice, ballot: ballot(rng), refusal: AcceptorRefusal::Promised(ballot(rng)) }
        }
        11 => Message::Read { slice, round, known: None, reader: Reader::Renewing(reports) },
        12 => Message::Read { slice, round, known: None, reader: Reader::Tenant(order) },
        13 => {
            let held = Held::Value(accepted);
            let forged = grant::issue(&thief, host_id(STRANGER), record, record.networks[0].id, host_id(1))
                .expect("a key");
            let grants = List::first_of([(record.networks[0].id, forged)]);
            Message::Standing { slice, round, held, reports, grants, left: Millis(0), charter: Some(charter) }
        }
        14 => Message::Settle { charter, abort: true },
        15 => Message::Release { slice },
        16 => Message::Heard { slice, round },
        17 => Message::HeardAgo { slice, round, ages: List::first_of([(host_id(1), Millis(u64::MAX))]) },
        18 => Message::Find { round, order: Some(order), selector: Selector::All },
        19 => Message::Found { round, slices: List::new() },
        20 => Message::Order { slice, round, order },
        _ => Message::Ordered { slice, round, result: OrderResult::Done(7) },
    }
}

#[test]
fn a_stranger_changes_nothing() {
    let (mut world, founded, record) = world_with_slice();
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    for _ in 0..MESSAGES {
        let (to, at) = (usize::try_from(below(&mut rng, 4)).unwrap(), below(&mut rng, 10_000));
        let body = encode(&attempt(&founded, &record, &mut rng));
        world.schedule(at, Event::Arrive { from: STRANGER, to, body });
    }
    world.run_until(13_000).unwrap_or_else(|violation| panic!("{violation}\n{}", world.log));
    assert_eq!(world.oracle.current(founded.slice), Some(&record), "not even the version has changed");
    gang::active_slices_are_whole(&world).unwrap();
    world.run_until(40_000).unwrap();
    at_the_end(&world).unwrap();
}

/// A member host that is no steward harms its own machines at the most.
#[test]
fn a_rogue_member_harms_only_itself() {
    let (mut world, founded, record) = world_with_slice();
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    for _ in 0..MESSAGES {
        let (to, at) = (usize::try_from(below(&mut rng, 3)).unwrap(), below(&mut rng, 10_000));
        let body = encode(&attempt(&founded, &record, &mut rng));
        world.schedule(at, Event::Arrive { from: 3, to, body });
    }
    world.run_until(13_000).unwrap_or_else(|violation| panic!("{violation}\n{}", world.log));
    let current = world.oracle.current(founded.slice).unwrap();
    assert_eq!(current.state, State::Active);
    assert!((0..3).all(|host| current.has_member(host_id(host))), "the others are still in it");
    gang::active_slices_are_whole(&world).unwrap();
    world.run_until(40_000).unwrap();
    at_the_end(&world).unwrap();
}

#[test]
fn a_stranger_who_founds_slices_without_end_fills_nobodys_table() {
    let (mut world, _, _) = world_with_slice();
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for _ in 0..500 {
        let founded =
            found(&world, STRANGER, &[host_id(0)], "", "memory = \"8MiB\"\ndisk = \"1MiB\"", &mut rng);
        let charter = Box::new(founded.signed.clone());
        let ask =
            Message::Ask { charter: charter.clone(), machines: 64, kind: AskKind::Reserve(Millis(u64::MAX)) };
        for message in [ask, Message::Prepare { charter, ballot: ballot(&mut rng) }] {
            let body = encode(&message);
            world.schedule(below(&mut rng, 5000), Event::Arrive { from: STRANGER, to: 0, body });
        }
    }
    world.run_until(8000).unwrap();
    let engine = world.hosts[0].engine.as_ref().unwrap();
    assert!(engine.registers() <= 1 + UNDECIDED_PER_HOST_MAX, "{}", engine.registers());
    assert!(engine.counters()["registers_full"] > 400);
    assert!(engine.promised().machines <= 4);
}

#[test]
fn messages_per_request_do_not_grow_with_the_number_of_hosts() {
    let asks = |hosts: usize| {
        let mut world = World::new(&WorldConfig {
            seed: 8,
            limits: vec![room(4, 4096, 4); hosts],
            weather: Weather::FINE,
            chances: Chances { crash: 0, start_fails: 0 },
            start_max: 50,
            fault: None,
        });
        let stewards: Vec<HostId> = (0..3).map(host_id).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        for coordinator in 0..10 {
            let machine = "count = 8\nmemory = \"64MiB\"\ndisk = \"1MiB\"";
            let founded = Box::new(found(&world, coordinator, &stewards, "", machine, &mut rng));
            let create =
                Command::Create { founded, candidates: candidates(&world), hold: Millis::from_secs(5) };
            world.schedule(0, Event::Command(coordinator, Box::new(create)));
        }
        world.run_until(3000).unwrap();
        let created = |answer: &Answer| matches!(answer, Answer::Created { .. });
        assert!(world.oracle.asked.values().all(|asked| created(&asked.answers[0].1)), "{hosts} hosts");
        world.log.lines().filter(|line| line.contains(" ask ")).count()
    };
    let (few, many) = (asks(40), asks(200));
    assert!(many <= few * 2, "{few} asks among 40 hosts, {many} among 200");
}

/// The fuzz target's body, for a moment: what engines wrote, flipped and cut.
#[test]
fn a_spoiled_disk_is_refused_or_taken_up_and_nothing_else() {
    let (world, _, _) = world_with_slice();
    let mut rng = ChaCha8Rng::seed_from_u64(10);
    let entries: Vec<&Vec<u8>> = world.hosts.iter().flat_map(|host| host.disk.values()).collect();
    for round in 0..600 {
        let mut bytes = entries[round % entries.len()].clone();
        for _ in 0..below(&mut rng, 4) {
            let at = usize::try_from(below(&mut rng, bytes.len() as u64)).unwrap();
            bytes[at] ^= 1 << below(&mut rng, 8);
        }
        if round % 5 == 0 {
            bytes.truncate(usize::try_from(below(&mut rng, bytes.len() as u64)).unwrap());
        }
        consort_scheduler::engine::fuzz_entry(&bytes);
    }
}
