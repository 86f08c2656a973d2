//! Networks, their members and ports: that they never mix, and what the switch is told of them.

use super::*;

#[test]
fn networks_never_mix() {
    let mut world = recorded();
    let other = HostId::random();
    world
        .switch
        .set_network(&NetworkConfig {
            id: DMZ,
            mtu: 1500,
            machines: vec![binding(C, other)],
            hosts: vec![other],
            allow_unknown: false,
        })
        .unwrap();
    let a_in_dmz = world.switch.attach(DMZ, port_config(A, Guard::Strict)).unwrap();
    world.worker.refresh();
    let other = world.switch.peer(other).unwrap();
    // The same addresses mean different machines.
    match world.worker.from_port(world.now, a_in_dmz, &frame4(C, A)) {
        Decision::Peer(DMZ, peer) => assert_eq!(peer, other),
        decision => panic!("{decision:?}"),
    }
    assert_eq!(world.sent_by_a(&frame4(C, A)), Fate::Peer(world.there));
    let reasons = [
        (other, LAN, DropReason::PeerNotMember),
        (world.there, DMZ, DropReason::PeerNotMember),
        (other, NetworkId([9; 16]), DropReason::NetworkUnknown),
    ];
    for (peer, network, reason) in reasons {
        let fate: Fate = world.worker.from_peer(world.now, peer, network, &frame4(A, C)).into();
        assert_eq!(fate, Fate::Drop(reason));
    }
    assert_eq!(world.worker.network_of(a_in_dmz), Some(DMZ));
}

#[test]
fn a_removed_network_takes_its_ports_with_it() {
    let mut world = recorded();
    assert_eq!(world.switch.remove_network(LAN), vec![world.a, world.b]);
    assert_eq!(world.switch.remove_network(LAN), vec![]);
    assert!(world.worker.refresh());
    assert!(!world.worker.refresh());
    assert_eq!(world.sent_by_a(&frame4(B, A)), Fate::Drop(DropReason::PortGone));
    assert_eq!(world.sent_by_there(&frame4(B, C)), Fate::Drop(DropReason::NetworkUnknown));
    assert!(!world.switch.detach(world.a));
}

#[test]
fn a_replaced_network_keeps_its_ports_and_what_was_learned() {
    let mut world = open();
    let machines = vec![binding(A, world.switch.host), binding(B, world.switch.host)];
    world.sent_by_there(&packet4(A, STRANGER, ip4(STRANGER)));
    let hosts = world.peers().iter().map(|peer| world.switch.host_of(*peer).unwrap()).collect();
    world
        .switch
        .set_network(&NetworkConfig { id: LAN, mtu: 9000, machines, hosts, allow_unknown: true })
        .unwrap();
    world.worker.refresh();
    assert_eq!(world.worker.mtu(LAN), Some(9000));
    assert_eq!(world.sent_by_a(&frame4(B, A)), Fate::Port(world.b));
    assert_eq!(world.sent_by_a(&frame4(STRANGER, A)), Fate::Peer(world.there));
}

#[test]
fn a_host_that_left_is_no_longer_heard_nor_sent_to() {
    let mut world = open();
    world.sent_by_there(&packet4(A, STRANGER, ip4(STRANGER)));
    let far = world.switch.host_of(world.far).unwrap();
    let network =
        NetworkConfig { id: LAN, mtu: 1500, machines: vec![], hosts: vec![far], allow_unknown: true };
    world.switch.set_network(&network).unwrap();
    world.worker.refresh();
    world.refuses_from_there(&packet4(A, STRANGER, ip4(STRANGER)), DropReason::PeerNotMember);
    let elsewhere = Fate::Many { ports: vec![world.b], peers: vec![world.far] };
    assert_eq!(world.sent_by_a(&frame4(STRANGER, A)), elsewhere);
    assert!(world.worker.is_member(LAN, world.far) && !world.worker.is_member(LAN, world.there));
}

#[test]
fn contradictory_networks_are_refused_and_change_nothing() {
    let world = recorded();
    let host = HostId::random();
    let set = |machines: Vec<MachineBinding>| {
        world.switch.set_network(&NetworkConfig {
            id: LAN,
            mtu: 1500,
            machines,
            hosts: vec![],
            allow_unknown: false,
        })
    };
    let with_ip = |mac, ip: Ipv4Addr| MachineBinding { ipv4: vec![ip], ..binding(mac, host) };
    assert_eq!(set(vec![binding(A, host), binding(A, host)]), Err(SetNetworkError::MacTwice(A)));
    assert_eq!(
        set(vec![binding(A, host), with_ip(B, ip4(A))]),
        Err(SetNetworkError::AddressTwice(ip4(A).into()))
    );
    assert_eq!(set(vec![binding(NOBODY, host)]), Err(SetNetworkError::NotStation(NOBODY)));
    let group = Ipv4Addr::new(224, 0, 0, 1);
    assert_eq!(set(vec![with_ip(A, group)]), Err(SetNetworkError::NotAssignable(group.into())));
    assert_eq!(
        set(vec![MachineBinding { ipv4: vec![ip4(A); 65], ..binding(A, host) }]),
        Err(SetNetworkError::TooManyAddresses(A))
    );
    assert_eq!(world.sent_by_a(&frame4(C, A)), Fate::Peer(world.there));
}

#[test]
fn ports_that_contradict_the_record_are_not_attached() {
    let world = recorded();
    let attach = |config| world.switch.attach(LAN, config);
    assert_eq!(attach(port_config(A, Guard::Strict)), Err(AttachError::MacInUse(A)));
    assert_eq!(attach(port_config(C, Guard::Strict)), Err(AttachError::MacElsewhere(C)));
    let thief = PortConfig { ipv4: vec![ip4(C)], ..port_config(STRANGER, Guard::Strict) };
    assert_eq!(attach(thief), Err(AttachError::AddressInUse(ip4(C).into())));
    assert_eq!(
        world.switch.attach(DMZ, port_config(A, Guard::Strict)),
        Err(AttachError::NetworkUnknown(DMZ))
    );
}

#[test]
fn a_port_id_is_never_given_twice() {
    let world = recorded();
    assert!(world.switch.detach(world.b));
    assert!(!world.switch.detach(world.b));
    let again = world.switch.attach(LAN, port_config(B, Guard::Strict)).unwrap();
    assert_ne!(again, world.b);
}

#[test]
fn what_a_worker_counted_outlives_it() {
    let world = recorded();
    world.sent_by_a(&frame4(C, A));
    let World { switch, worker, .. } = world;
    drop(worker);
    assert_eq!(switch.counts().count(Happened::ToPeer), 1);
    let snapshot = switch.snapshot(Instant::now() + Duration::from_secs(1));
    assert_eq!(snapshot.networks.len(), 1);
    assert_eq!((snapshot.networks[0].machines, snapshot.networks[0].ports.len()), (4, 2));
}

#[test]
fn a_peer_is_forgotten_only_when_no_network_has_it() {
    let world = recorded();
    let there = world.switch.host_of(world.there).unwrap();
    world.switch.forget_peer(there);
    assert_eq!(world.switch.host_of(world.there), Some(there));
    world.switch.remove_network(LAN);
    world.switch.forget_peer(there);
    assert_eq!(world.switch.host_of(world.there), None);
}

#[test]
fn no_bytes_make_the_switch_panic() {
    specimen::hostile(300, fuzz);
}

#[test]
fn workers_see_the_old_or_the_new_configuration_and_nothing_between() {
    let world = recorded();
    let machines = |c_host: PeerIndex| {
        let c_host = world.switch.host_of(c_host).unwrap();
        vec![binding(A, world.switch.host), binding(B, world.switch.host), binding(C, c_host)]
    };
    let hosts: Vec<HostId> = world.peers().iter().map(|peer| world.switch.host_of(*peer).unwrap()).collect();
    let network =
        |machines| NetworkConfig { id: LAN, mtu: 1500, machines, hosts: hosts.clone(), allow_unknown: false };
    let (one, other) = (network(machines(world.there)), network(machines(world.far)));
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut worker = world.switch.worker();
                let fate = |worker: &Worker| Fate::from(worker.from_port(world.now, world.a, &frame4(C, A)));
                while !done.load(Ordering::Acquire) {
                    worker.refresh();
                    let fate = fate(&worker);
                    assert!(fate == Fate::Peer(world.there) || fate == Fate::Peer(world.far), "{fate:?}");
                }
                worker.refresh();
                assert_eq!(fate(&worker), Fate::Peer(world.there));
            });
        }
        for _ in 0..200 {
            world.switch.set_network(&other).unwrap();
            world.switch.set_network(&one).unwrap();
        }
        done.store(true, Ordering::Release);
    });
}
