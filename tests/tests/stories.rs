//! Stories told once each, in fine weather: what users see when things go as they should, or break in one plain way.

use consort_scheduler::engine::{Allow, Answer, Capabilities, Command, Images, OrderFailure, Share};
use consort_scheduler::identity::HostId;
use consort_scheduler::limits::{FORMING_MAX, loss_notice};
use consort_scheduler::message::{OrderKind, Selector, SignedOrder};
use consort_scheduler::refusal::RequestRefusal;
use consort_scheduler::resources::Resources;
use consort_scheduler::slice::charter::{Charter, Founded};
use consort_scheduler::slice::grant::GrantRefusal;
use consort_scheduler::slice::id::SliceId;
use consort_scheduler::slice::record::{AbortReason, State};
use consort_scheduler::slice::spec::Category;
use consort_scheduler::slice::view::SliceView;
use consort_scheduler::units::Millis;
use consort_tests::machines::Life;
use consort_tests::net::Weather;
use consort_tests::scenario::{candidates, found, host_id, room, tenant};
use consort_tests::world::{Chances, Crash, Event, TERM_MAX, World, WorldConfig};
use libp2p_identity::Keypair;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

const LEASE: Millis = Millis::from_secs(5);

fn world(limits: Vec<Resources>) -> World {
    World::new(&WorldConfig {
        seed: 4,
        limits,
        weather: Weather::FINE,
        chances: Chances { crash: 0, start_fails: 0 },
        start_max: 50,
        fault: None,
    })
}

fn founded(world: &World, top: &str, machine: &str) -> Founded {
    let stewards: Vec<HostId> = (0..3.min(world.hosts.len())).map(host_id).collect();
    let stewards = if stewards.len() == 3 { &stewards[..] } else { &stewards[..1] };
    found(world, 0, stewards, top, machine, &mut ChaCha8Rng::seed_from_u64(4))
}

/// Gives a command and runs until it is answered.
fn ask(world: &mut World, host: usize, command: Command) -> Answer {
    let number = world.oracle.asked.len() as u64;
    world.schedule(0, Event::Command(host, Box::new(command)));
    for _ in 0..4000 {
        world.run_until(world.now + 5).unwrap();
        let asked = world.oracle.asked.get(&number);
        if let Some((_, answer)) = asked.and_then(|asked| asked.answers.first()) {
            return answer.clone();
        }
    }
    panic!("no answer\n{}", world.log);
}

fn create(world: &mut World, founded: &Founded) -> Answer {
    let command = Command::Create {
        founded: Box::new(founded.clone()),
        candidates: candidates(world),
        hold: Millis::from_secs(5),
    };
    ask(world, 0, command)
}

fn order(world: &mut World, host: usize, name: &str, kind: OrderKind, signer: Option<&Keypair>) -> Answer {
    let selector = Selector::Name(name.parse().unwrap());
    let order = signer.map(|key| SignedOrder::sign(key, host_id(host), selector.clone(), kind).unwrap());
    let hosts = world.hosts.iter().map(|host| host.id).collect();
    ask(world, host, Command::Order { order, selector, candidates: hosts })
}

fn shown(world: &mut World, host: usize, name: &str) -> SliceView {
    match order(world, host, name, OrderKind::See, Some(&tenant())) {
        Answer::Shown(view) => *view,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_slice_is_made_seen_from_everywhere_and_removed_from_anywhere() {
    let mut world = world(vec![room(4, 4096, 4); 5]);
    let wish = founded(&world, "lease = \"5s\"", "count = 4\nmemory = \"64MiB\"\ndisk = \"1MiB\"");
    let name = wish.charter.spec.name.to_string();
    let Answer::Created { slice, plan } = create(&mut world, &wish) else { panic!("{}", world.log) };
    assert_eq!((slice.state, slice.machines.len(), plan.fits, plan.shrunk), ("active", 4, true, false));
    world.run_until(world.now + 500).unwrap();
    for host in 0..5 {
        let view = shown(&mut world, host, &name);
        assert!(view.machines.iter().all(|machine| machine.state == "running"), "{view:?}");
        let hosts: std::collections::BTreeSet<_> = view.machines.iter().map(|machine| machine.host).collect();
        assert_eq!(hosts.len(), 4, "spread over as many hosts as it has machines");
        assert!(view.machines.iter().all(|machine| machine.interfaces[0].ipv4.is_some()));
    }
    let stranger = Keypair::ed25519_from_bytes([77; 32]).unwrap();
    let foreign = order(&mut world, 4, &name, OrderKind::Remove, Some(&stranger));
    // A host that takes part knows that the slice exists; any other is not even told that.
    assert!(
        matches!(foreign, Answer::Failed(OrderFailure::NotFound | OrderFailure::Forbidden)),
        "{foreign:?}"
    );
    let Answer::Done { .. } = order(&mut world, 4, &name, OrderKind::Remove, Some(&tenant())) else {
        panic!()
    };
    world.run_until(world.now + 500).unwrap();
    for host in &world.hosts {
        assert_eq!(host.engine.as_ref().unwrap().promised(), Resources::NONE);
        assert!(host.machines.all.is_empty());
    }
    let view = shown(&mut world, 3, &name);
    assert_eq!((view.state, view.reason.as_deref()), ("ended", Some("removed")));
    assert_eq!(view.events.last().unwrap().what, "ended: removed");
}

#[test]
fn a_host_that_dies_is_seen_to_be_lost_within_the_promised_time() {
    for victim in 0..4 {
        let mut world = world(vec![room(4, 4096, 4); 4]);
        let wish = founded(&world, "lease = \"5s\"", "count = 4\nmemory = \"64MiB\"\ndisk = \"1MiB\"");
        let name = wish.charter.spec.name.to_string();
        let Answer::Created { .. } = create(&mut world, &wish) else { panic!("{}", world.log) };
        world.run_until(10_000).unwrap();
        world.schedule(0, Event::Crash(victim, Crash::Power));
        world.run_until(world.now + loss_notice(LEASE).0).unwrap();
        let view = shown(&mut world, (victim + 1) % 4, &name);
        assert_eq!(view.state, "active");
        for machine in &view.machines {
            let wanted = if machine.host == host_id(victim) { "lost" } else { "running" };
            assert_eq!(machine.state, wanted, "victim {victim}: {machine:?}\n{}", world.log);
        }
        let event = view.events.last().unwrap();
        assert_eq!(event.host, Some(host_id(victim)));
        assert_eq!(event.what, "host lost: it did not renew its lease");
    }
}

#[test]
fn a_daemon_that_comes_back_in_time_keeps_its_machines() {
    let mut world = world(vec![room(4, 4096, 4); 4]);
    let wish = founded(&world, "lease = \"5s\"", "count = 4\nmemory = \"64MiB\"\ndisk = \"1MiB\"");
    let Answer::Created { .. } = create(&mut world, &wish) else { panic!("{}", world.log) };
    world.run_until(10_000).unwrap();
    for host in 0..4 {
        world.schedule(0, Event::Crash(host, Crash::Daemon));
        world.schedule(1500, Event::Restart(host));
    }
    world.run_until(40_000).unwrap();
    let view = shown(&mut world, 3, wish.charter.spec.name.as_str());
    assert_eq!(view.version, 2, "formed and activated, and nothing since");
    assert!(view.machines.iter().all(|machine| machine.state == "running"), "{view:?}");
}

#[test]
fn a_host_that_is_cut_off_keeps_its_machines_until_its_lease_ends_and_then_stops_them() {
    let mut world = world(vec![room(4, 4096, 4); 4]);
    let wish = founded(&world, "lease = \"5s\"", "count = 4\nmemory = \"64MiB\"\ndisk = \"1MiB\"");
    let Answer::Created { .. } = create(&mut world, &wish) else { panic!("{}", world.log) };
    world.run_until(10_000).unwrap();
    world.schedule(0, Event::CutOff([3].into()));
    world.run_until(10_000 + LEASE.0 / 2).unwrap();
    assert!(world.hosts[3].machines.all.values().all(|machine| machine.life == Life::Running));
    world.run_until(10_000 + loss_notice(LEASE).0).unwrap();
    assert!(world.hosts[3].machines.all.is_empty());
    assert_eq!(world.hosts[3].engine.as_ref().unwrap().promised(), Resources::NONE);
}

#[test]
fn a_term_runs_out_and_can_be_extended_before() {
    let mut world = world(vec![room(4, 4096, 4); 3]);
    let wish = founded(&world, "term = \"20s\"\nlease = \"5s\"", "memory = \"64MiB\"\ndisk = \"1MiB\"");
    let name = wish.charter.spec.name.to_string();
    let Answer::Created { .. } = create(&mut world, &wish) else { panic!("{}", world.log) };
    world.run_until(10_000).unwrap();
    let longer = OrderKind::Extend(Millis::from_secs(40));
    let Answer::Done { .. } = order(&mut world, 2, &name, longer, Some(&tenant())) else {
        panic!("{}", world.log)
    };
    world.run_until(30_000).unwrap();
    let view = shown(&mut world, 1, &name);
    assert_eq!((view.state, view.term_ms), ("active", Millis::from_secs(40)));
    world.run_until(42_000).unwrap();
    let view = shown(&mut world, 1, &name);
    assert_eq!((view.state, view.reason.as_deref()), ("ended", Some("term_over")));
}

#[test]
fn a_plan_has_no_side_effects_and_says_what_would_fit() {
    let mut world = world(vec![room(4, 1024, 4), room(4, 512, 4), room(1, 128, 1)]);
    let wish = founded(&world, "", "count = 6\nmemory = \"512MiB\"\ndisk = \"1MiB\"\ncpus = 0.5");
    let command = Command::Plan { founded: Box::new(wish.clone()), candidates: candidates(&world) };
    let Answer::Planned(plan) = ask(&mut world, 0, command) else { panic!() };
    for host in &world.hosts {
        assert_eq!(host.engine.as_ref().unwrap().promised(), Resources::NONE);
        assert!(host.disk.is_empty());
    }
    assert!(!plan.fits && plan.machines.is_empty());
    assert_eq!(plan.hosts.len(), 3, "each host that was asked says something");
    let small = plan.hosts.iter().find(|said| said.host == host_id(2)).unwrap();
    assert_eq!(small.codes, ["no_capacity"]);
    assert!(small.texts[0].contains("384MiB"), "what is missing: {:?}", small.texts);
    let advice: Vec<_> =
        plan.advice.iter().map(|advice| (advice.field.as_str(), advice.to.as_str())).collect();
    // Three machines of 512 MiB fit; six fit at 204 MiB: five of 204 into 1024, two into 512.
    assert_eq!(advice[0].0, "machine.m.count", "{advice:?}");
    assert!(
        advice.contains(&("machine.m.count", "3")) && advice.contains(&("machine.m.memory", "256MiB")),
        "{advice:?}"
    );
    let Answer::Refused { reason, .. } = create(&mut world, &wish) else { panic!() };
    assert_eq!(reason, RequestRefusal::NoCapacity);
    world.run_until(world.now + 100).unwrap();
    assert!(world.hosts.iter().all(|host| host.engine.as_ref().unwrap().promised() == Resources::NONE));
}

#[test]
fn what_is_not_there_yet_is_refused_and_not_ignored() {
    let mut world = world(vec![room(4, 1024, 4)]);
    let wish = founded(&world, "priority = 3", "memory = \"64MiB\"");
    let Answer::Refused { reason, .. } = create(&mut world, &wish) else { panic!() };
    assert_eq!(reason.code(), "not_yet");
    let wish = founded(&world, "", "category = \"vm\"");
    let Answer::Refused { reason, plan } = create(&mut world, &wish) else { panic!() };
    assert_eq!((reason, plan.hosts[0].codes[0]), (RequestRefusal::NoCapacity, "category_unsupported"));
}

#[test]
fn a_gang_shrinks_before_it_is_refused() {
    let mut world = world(vec![room(2, 4096, 8), room(1, 4096, 8)]);
    let wish = founded(
        &world,
        "",
        "count = { min = 2, max = 8 }\ncpus = { min = 0.5, max = 2 }\nmemory = \"64MiB\"\ndisk = \"1MiB\"",
    );
    let Answer::Created { slice, plan } = create(&mut world, &wish) else { panic!("{}", world.log) };
    assert!(plan.shrunk);
    assert_eq!(slice.machines.len(), 6, "as many as fit at the least size");
}

#[test]
fn two_who_want_the_same_room_do_not_both_get_it() {
    let mut world = world(vec![room(4, 4096, 4); 3]);
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let stewards: Vec<HostId> = (0..3).map(host_id).collect();
    for coordinator in 0..3 {
        let machine = "count = 8\nmemory = \"64MiB\"\ndisk = \"1MiB\"\ncpus = 0.1";
        let founded = Box::new(found(&world, coordinator, &stewards, "", machine, &mut rng));
        let candidates = candidates(&world);
        let command = Command::Create { founded, candidates, hold: Millis::from_secs(2) };
        world.schedule(0, Event::Command(coordinator, Box::new(command)));
    }
    world.run_until(20_000).unwrap();
    let answers: Vec<_> = world.oracle.asked.values().map(|asked| &asked.answers[0].1).collect();
    let created = answers.iter().filter(|answer| matches!(answer, Answer::Created { .. })).count();
    assert!(created <= 1, "12 places are enough for one gang of 8");
    consort_tests::invariants::gang::active_slices_are_whole(&world).unwrap();
}

#[test]
fn an_owner_gives_no_longer_than_he_said_however_long_the_term_is_made() {
    let mut world = world(vec![room(4, 4096, 4); 3]);
    let wish = founded(&world, "term = \"20s\"\nlease = \"5s\"", "memory = \"64MiB\"\ndisk = \"1MiB\"");
    let name = wish.charter.spec.name.to_string();
    let Answer::Created { .. } = create(&mut world, &wish) else { panic!("{}", world.log) };
    let longer = OrderKind::Extend(Millis::from_secs(600));
    let Answer::Done { .. } = order(&mut world, 2, &name, longer, Some(&tenant())) else {
        panic!("{}", world.log)
    };
    world.run_until(TERM_MAX.0).unwrap();
    assert_eq!(shown(&mut world, 1, &name).state, "active");
    world.run_until(TERM_MAX.0 + 2 * LEASE.0).unwrap();
    let view = shown(&mut world, 1, &name);
    assert_eq!((view.state, view.reason.as_deref()), ("ended", Some("all_lost")));
    assert!(world.hosts.iter().all(|host| host.machines.all.is_empty()));
}

#[test]
fn a_slice_that_nobody_decides_is_abandoned_by_its_stewards() {
    let mut world = world(vec![room(4, 4096, 4); 5]);
    world.net.weather = Weather { delay_min: 5, delay_max: 5, ..Weather::FINE };
    let wish = founded(&world, "", "count = 4\nmemory = \"64MiB\"\ndisk = \"1MiB\"");
    let mut asked = candidates(&world);
    asked.drain(..3);
    let create =
        Command::Create { founded: Box::new(wish.clone()), candidates: asked, hold: Millis::from_secs(2) };
    world.schedule(0, Event::Command(0, Box::new(create)));
    // The offers are on their way back, and no pledge will come; then the coordinator is gone for good.
    world.schedule(8, Event::CutOff([3, 4].into()));
    world.schedule(100, Event::Crash(0, Crash::Daemon));
    world.run_until(5000).unwrap();
    assert_eq!(world.oracle.current(wish.slice).unwrap().state, State::Forming);
    assert!(world.hosts[3..].iter().all(|host| host.engine.as_ref().unwrap().promised() == Resources::NONE));
    world.run_until(FORMING_MAX.0 + 2000).unwrap();
    assert_eq!(world.oracle.current(wish.slice).unwrap().state, State::Aborted(AbortReason::Abandoned));
}

#[test]
fn a_name_is_given_once_while_its_slice_lives() {
    let mut world = world(vec![room(4, 4096, 4); 4]);
    let wish = founded(&world, "", "memory = \"64MiB\"\ndisk = \"1MiB\"");
    let Answer::Created { .. } = create(&mut world, &wish) else { panic!("{}", world.log) };
    // The same wish, founded anew: another slice of the same name.
    let again = |seed| {
        let (charter, mut rng) = (&wish.charter, ChaCha8Rng::seed_from_u64(seed));
        Charter::found(charter.spec.clone(), &tenant(), charter.coordinator, &charter.stewards, &mut rng)
            .unwrap()
    };
    let Answer::Refused { reason, .. } = create(&mut world, &again(98)) else { panic!("{}", world.log) };
    assert_eq!(reason, RequestRefusal::NameTaken);
    let name = wish.charter.spec.name.to_string();
    let Answer::Done { .. } = order(&mut world, 1, &name, OrderKind::Remove, Some(&tenant())) else {
        panic!()
    };
    world.run_until(world.now + 500).unwrap();
    let Answer::Created { .. } = create(&mut world, &again(99)) else { panic!("{}", world.log) };
}

#[test]
fn what_an_owner_takes_back_is_not_promised_again_and_what_he_promised_stands() {
    let mut world = world(vec![room(4, 4096, 4); 2]);
    let wish = founded(&world, "", "count = 4\nmemory = \"64MiB\"\ndisk = \"1MiB\"");
    let Answer::Created { .. } = create(&mut world, &wish) else { panic!("{}", world.log) };
    world.run_until(world.now + 500).unwrap();
    for host in &mut world.hosts {
        let share = Share { limit: room(2, 4096, 2), term_max: TERM_MAX, allow: Allow::Everyone };
        host.engine.as_mut().unwrap().handle_share(share);
    }
    let promised = |world: &World| {
        world.hosts.iter().map(|host| host.engine.as_ref().unwrap().promised().machines).sum::<u64>()
    };
    assert_eq!(promised(&world), 4);
    let mut rng = ChaCha8Rng::seed_from_u64(55);
    let another = found(&world, 0, &[host_id(0)], "", "memory = \"64MiB\"\ndisk = \"1MiB\"", &mut rng);
    let Answer::Refused { reason, .. } = create(&mut world, &another) else { panic!("{}", world.log) };
    assert_eq!(reason, RequestRefusal::NoCapacity);
    assert_eq!(promised(&world), 4);
}

#[test]
fn a_host_that_learns_to_run_a_category_offers_it() {
    let mut world = world(vec![room(4, 4096, 4)]);
    let wish = |world: &World, seed| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        found(world, 0, &[host_id(0)], "", "category = \"vm\"\nmemory = \"64MiB\"\ndisk = \"1MiB\"", &mut rng)
    };
    let before = wish(&world, 1);
    let Answer::Refused { .. } = create(&mut world, &before) else { panic!("{}", world.log) };
    let categories = Category::ALL.into();
    let able = Capabilities { categories, images: Images::Any };
    world.hosts[0].engine.as_mut().unwrap().handle_capabilities(able);
    let after = wish(&world, 2);
    let Answer::Created { slice, .. } = create(&mut world, &after) else { panic!("{}", world.log) };
    assert_eq!(slice.machines[0].category, Category::Vm);
}

/// What `verifier` says to the grant that `presenter` holds for the slice's network.
fn judged(world: &World, slice: SliceId, presenter: usize, verifier: usize) -> Result<Millis, GrantRefusal> {
    let network = &world.hosts[presenter].networks[&slice].networks[0];
    let grant = network.grant.as_ref().expect("a steward gave a grant");
    let engine = world.hosts[verifier].engine.as_ref().expect("the verifier lives");
    engine.verify_grant(world.time_at(verifier), host_id(presenter), network.id, grant)
}

#[test]
fn members_hold_grants_that_open_channels_to_each_other_and_to_nobody_else() {
    let mut world = world(vec![room(4, 4096, 4); 5]);
    let wish = founded(&world, "lease = \"5s\"", "count = 4\nmemory = \"64MiB\"\ndisk = \"1MiB\"");
    let Answer::Created { slice, .. } = create(&mut world, &wish) else { panic!("{}", world.log) };
    world.run_until(10_000).unwrap();
    let hosts: Vec<HostId> = slice.machines.iter().map(|machine| machine.host).collect();
    let members: Vec<usize> = (0..5).filter(|host| hosts.contains(&host_id(*host))).collect();
    for (presenter, verifier) in members.iter().flat_map(|a| members.iter().map(move |b| (*a, *b))) {
        let valid = judged(&world, slice.id, presenter, verifier).unwrap();
        assert!(valid > Millis::ZERO && valid <= LEASE);
    }
    let outsider = (0..5).find(|host| !members.contains(host)).unwrap();
    assert_eq!(judged(&world, slice.id, members[0], outsider), Err(GrantRefusal::NotForThis));
    // A host that is cut off and declared lost is refused, although its grant is as good as ever.
    let victim = members[3];
    let network = world.hosts[victim].networks[&slice.id].networks[0].clone();
    world.schedule(0, Event::CutOff([victim].into()));
    world.run_until(world.now + loss_notice(LEASE).0 + LEASE.0).unwrap();
    let engine = world.hosts[members[0]].engine.as_ref().unwrap();
    let grant = network.grant.unwrap();
    let verdict = engine.verify_grant(world.time_at(members[0]), host_id(victim), network.id, &grant);
    assert_eq!(verdict, Err(GrantRefusal::NotAMember));
    assert!(world.hosts[victim].networks.is_empty(), "its own switch has forgotten the slice");
    let survivor = &world.hosts[members[0]].networks[&slice.id].networks[0];
    assert!(!survivor.hosts.contains(&host_id(victim)) && survivor.machines.len() == 3);
}
