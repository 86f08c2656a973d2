//! Questions that are answered here, and those that are not.

use super::*;

#[test]
fn arp_for_known_addresses_is_answered_here() {
    let world = recorded();
    for (target, mac) in [(ip4(C), C), (ip4(B), B), (ip4(D), D)] {
        let answer = specimen::arp(A, Operation::Reply, (mac, target), (A, ip4(A)));
        assert_eq!(world.sent_by_a(&arp_question(A, target)), Fate::Answer(answer));
    }
    assert_eq!(world.switch.counts().count(Happened::ArpAnswered), 3);
}

#[test]
fn a_unicast_arp_question_is_answered_here_too() {
    let world = recorded();
    let question = specimen::arp(C, Operation::Request, (A, ip4(A)), (NOBODY, ip4(C)));
    let answer = specimen::arp(A, Operation::Reply, (C, ip4(C)), (A, ip4(A)));
    assert_eq!(world.sent_by_a(&question), Fate::Answer(answer));
}

#[test]
fn arp_for_addresses_nobody_can_have_goes_nowhere() {
    recorded().refuses_from_a(&arp_question(A, Ipv4Addr::new(10, 7, 0, 99)), DropReason::TargetUnknown);
    let world = open();
    let everywhere = Fate::Many { ports: vec![world.b], peers: world.peers() };
    assert_eq!(world.sent_by_a(&arp_question(A, Ipv4Addr::new(10, 7, 0, 99))), everywhere);
}

#[test]
fn an_arp_probe_for_ones_own_address_is_not_answered() {
    let probe = |target| {
        specimen::arp(MacAddr::BROADCAST, Operation::Request, (A, Ipv4Addr::UNSPECIFIED), (NOBODY, target))
    };
    for world in [recorded(), open()] {
        world.refuses_from_a(&probe(ip4(A)), DropReason::Absorbed);
        // Another's address: the owner's answer tells the prober to refrain (RFC 5227 section 2.1.1).
        let answer = specimen::arp(A, Operation::Reply, (C, ip4(C)), (A, Ipv4Addr::UNSPECIFIED));
        assert_eq!(world.sent_by_a(&probe(ip4(C))), Fate::Answer(answer));
    }
}

#[test]
fn announcements_of_recorded_addresses_are_absorbed() {
    for world in [recorded(), open()] {
        let own = (A, ip4(A));
        let request = specimen::arp(MacAddr::BROADCAST, Operation::Request, own, (NOBODY, ip4(A)));
        world.refuses_from_a(&request, DropReason::Absorbed);
        let reply = specimen::arp(MacAddr::BROADCAST, Operation::Reply, own, own);
        world.refuses_from_a(&reply, DropReason::Absorbed);
        let advertisement = specimen::neighbour(
            (MacAddr([0x33, 0x33, 0, 0, 0, 1]), "ff02::1".parse().unwrap()),
            (A, ip6(A)),
            nd::NEIGHBOUR_ADVERTISEMENT,
            ip6(A),
            Some(A),
        );
        world.refuses_from_a(&advertisement, DropReason::Absorbed);
    }
}

#[test]
fn announcements_of_unrecorded_addresses_go_to_all() {
    let world = open();
    let address = Ipv4Addr::new(10, 9, 9, 9);
    let gratuitous = specimen::arp(MacAddr::BROADCAST, Operation::Request, (A, address), (NOBODY, address));
    assert!(matches!(world.sent_by_a(&gratuitous), Fate::Many { .. }));
}

#[test]
fn neighbour_solicitations_for_known_addresses_are_answered_here() {
    let world = recorded();
    for (target, mac) in [(ip6(C), C), (ip6(B), B), (D.link_local(), D)] {
        let Fate::Answer(answer) = world.sent_by_a(&solicitation(A, target)) else { panic!("no answer") };
        let mut expected =
            specimen::neighbour((A, ip6(A)), (mac, target), nd::NEIGHBOUR_ADVERTISEMENT, target, Some(mac));
        // Solicited and override, which change the checksum.
        expected[14 + 40 + 4] = 0x60;
        specimen::sum_ipv6(target, ip6(A), protocol::ICMPV6, &mut expected[14 + 40..]);
        assert_eq!(answer, expected);
    }
    assert_eq!(world.switch.counts().count(Happened::NeighbourAnswered), 3);
}

#[test]
fn duplicate_detection_is_not_answered_for_ones_own_address() {
    let detect = |target: Ipv6Addr| {
        specimen::neighbour(
            solicited_node(target),
            (A, Ipv6Addr::UNSPECIFIED),
            nd::NEIGHBOUR_SOLICITATION,
            target,
            None,
        )
    };
    for world in [recorded(), open()] {
        world.refuses_from_a(&detect(ip6(A)), DropReason::Absorbed);
        world.refuses_from_a(&detect(A.link_local()), DropReason::Absorbed);
        // Another's: all nodes are told, without the solicited flag (RFC 4861 section 7.2.4).
        let all_nodes: Ipv6Addr = "ff02::1".parse().unwrap();
        let mut expected = specimen::neighbour(
            (MacAddr([0x33, 0x33, 0, 0, 0, 1]), all_nodes),
            (C, ip6(C)),
            nd::NEIGHBOUR_ADVERTISEMENT,
            ip6(C),
            Some(C),
        );
        expected[14 + 40 + 4] = 0x20;
        specimen::sum_ipv6(ip6(C), all_nodes, protocol::ICMPV6, &mut expected[14 + 40..]);
        assert_eq!(world.sent_by_a(&detect(ip6(C))), Fate::Answer(expected));
    }
}

#[test]
fn duplicate_detection_for_a_link_local_address_of_ones_own_choice_reaches_all() {
    let world = recorded();
    let target = "fe80::1234:5678:9abc:def0".parse().unwrap();
    let detect = specimen::neighbour(
        solicited_node(target),
        (A, Ipv6Addr::UNSPECIFIED),
        nd::NEIGHBOUR_SOLICITATION,
        target,
        None,
    );
    assert!(matches!(world.sent_by_a(&detect), Fate::Many { .. }));
    let unknown = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x99);
    world.refuses_from_a(&solicitation(A, unknown), DropReason::TargetUnknown);
}

#[test]
fn ports_of_a_network_without_record_are_answered_for_on_their_host() {
    let switch = Switch::new(HostId::random(), Instant::now(), 1);
    let network = NetworkConfig { id: LAN, mtu: 1500, machines: vec![], hosts: vec![], allow_unknown: true };
    switch.set_network(&network).unwrap();
    let a = switch.attach(LAN, port_config(A, Guard::AllowUnknown)).unwrap();
    switch.attach(LAN, port_config(B, Guard::AllowUnknown)).unwrap();
    let worker = switch.worker();
    let answer = specimen::arp(A, Operation::Reply, (B, ip4(B)), (A, ip4(A)));
    let fate = Fate::from(worker.from_port(Instant::now(), a, &arp_question(A, ip4(B))));
    assert_eq!(fate, Fate::Answer(answer));
}
