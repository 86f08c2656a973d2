//! Where frames go: by the record, by what was learned, behind tags.

use super::*;

#[test]
fn known_addresses_go_where_the_record_says() {
    let world = recorded();
    assert_eq!(world.sent_by_a(&frame4(B, A)), Fate::Port(world.b));
    assert_eq!(world.sent_by_a(&frame4(C, A)), Fate::Peer(world.there));
    assert_eq!(world.sent_by_a(&frame4(D, A)), Fate::Peer(world.far));
    assert_eq!(world.sent_by_there(&frame4(A, C)), Fate::Port(world.a));
    assert_eq!(world.sent_by_a(&frame6(C, A, ip6(A))), Fate::Peer(world.there));
}

#[test]
fn a_super_frame_is_decided_like_any_frame() {
    let world = recorded();
    let packet = specimen::ipv4(ip4(A), ip4(C), protocol::TCP, &vec![0; 60_000]);
    assert_eq!(world.sent_by_a(&specimen::ethernet(C, A, &[], 0x0800, &packet)), Fate::Peer(world.there));
    let packet = specimen::ipv4(ip4(A), ip4(B), protocol::TCP, &vec![0; 60_000]);
    assert_eq!(world.sent_by_a(&specimen::ethernet(B, A, &[], 0x0800, &packet)), Fate::Port(world.b));
}

#[test]
fn broadcast_and_multicast_go_to_each_member_host_and_port_once_and_never_back() {
    let world = recorded();
    let everywhere_else = Fate::Many { ports: vec![world.b], peers: world.peers() };
    assert_eq!(world.sent_by_a(&frame4(MacAddr::BROADCAST, A)), everywhere_else);
    assert_eq!(world.sent_by_a(&frame4(MacAddr([1, 0, 0x5e, 0, 0, 0xfb]), A)), everywhere_else);
}

#[test]
fn split_horizon_a_frame_from_a_link_never_goes_to_a_link() {
    let world = recorded();
    let local = Fate::Many { ports: vec![world.a, world.b], peers: vec![] };
    assert_eq!(world.sent_by_there(&frame4(MacAddr::BROADCAST, C)), local);
    world.refuses_from_there(&frame4(D, C), DropReason::SplitHorizon);
}

#[test]
fn unknown_destinations_go_nowhere_where_all_are_known() {
    let world = recorded();
    world.refuses_from_a(&frame4(STRANGER, A), DropReason::DestinationUnknown);
    world.refuses_from_there(&frame4(STRANGER, C), DropReason::DestinationUnknown);
}

#[test]
fn a_machine_of_this_host_that_is_not_attached_gets_nothing_and_is_flooded_to_nobody() {
    let mut world = recorded();
    assert!(world.switch.detach(world.b));
    world.worker.refresh();
    world.refuses_from_a(&frame4(B, A), DropReason::MachineAbsent);
    world.refuses_from_there(&frame4(B, C), DropReason::MachineAbsent);
    assert_eq!(
        Fate::from(world.worker.from_port(world.now, world.b, &frame4(A, B))),
        Fate::Drop(DropReason::PortGone)
    );
}

#[test]
fn nothing_returns_to_its_own_port() {
    let world = recorded();
    world.refuses_from_a(&frame4(A, A), DropReason::DestinationIsSource);
}

#[test]
fn what_bridges_never_forward_is_refused() {
    let world = recorded();
    world.refuses_from_a(&frame4(MacAddr([1, 0x80, 0xc2, 0, 0, 0]), A), DropReason::DestinationReserved);
    world.refuses_from_a(&frame4(NOBODY, A), DropReason::DestinationReserved);
}

#[test]
fn a_source_is_one_station() {
    let world = open();
    world.refuses_from_a(&packet4(B, MacAddr::BROADCAST, ip4(A)), DropReason::SourceNotStation);
    world.refuses_from_a(&packet4(B, NOBODY, ip4(A)), DropReason::SourceNotStation);
    world.refuses_from_there(&packet4(B, MacAddr::BROADCAST, ip4(C)), DropReason::SourceNotStation);
}

#[test]
fn cut_frames_are_refused_wherever_they_are_cut() {
    let world = recorded();
    for frame in [frame4(B, A), frame6(B, A, ip6(A)), arp_question(A, ip4(C)), solicitation(A, ip6(C))] {
        for length in 0..frame.len() {
            assert!(matches!(world.sent_by_a(&frame[..length]), Fate::Drop(_)), "{length} of {frame:02x?}");
        }
    }
}

#[test]
fn unknown_addresses_are_learned_where_the_network_allows() {
    let world = open();
    let everywhere = Fate::Many { ports: vec![world.b], peers: world.peers() };
    assert_eq!(world.sent_by_a(&frame4(STRANGER, A)), everywhere);
    let local = Fate::Many { ports: vec![world.a, world.b], peers: vec![] };
    assert_eq!(world.sent_by_there(&packet4(MacAddr::BROADCAST, STRANGER, ip4(STRANGER))), local);
    assert_eq!(world.sent_by_a(&frame4(STRANGER, A)), Fate::Peer(world.there));
    world.refuses_from_there(&frame4(STRANGER, C), DropReason::SplitHorizon);
    assert_eq!(world.switch.counts().count(Happened::Learned), 1);
    // Nested guests behind a port, too.
    let guest = MacAddr([2, 0, 0, 0, 8, 8]);
    world.sent_by_a(&packet4(B, guest, ip4(guest)));
    assert_eq!(world.sent_by_there(&frame4(guest, C)), Fate::Port(world.a));
}

#[test]
fn a_learned_address_is_forgotten_when_it_has_aged() {
    let mut world = open();
    world.sent_by_there(&packet4(A, STRANGER, ip4(STRANGER)));
    assert_eq!(world.sent_by_a(&frame4(STRANGER, A)), Fate::Peer(world.there));
    world.now += crate::table::AGE;
    assert!(matches!(world.sent_by_a(&frame4(STRANGER, A)), Fate::Many { .. }));
}

#[test]
fn known_addresses_are_never_learned_elsewhere() {
    let world = open();
    // D is bound to the far host: neither another host nor a port can take it.
    world.refuses_from_there(&frame4(A, D), DropReason::MacSpoofed);
    world.refuses_from_there(&frame4(A, B), DropReason::MacSpoofed);
    world.refuses_from_a(&frame4(C, D), DropReason::MacSpoofed);
    world.refuses_from_a(&frame4(C, B), DropReason::MacSpoofed);
    assert_eq!(world.sent_by_a(&frame4(D, A)), Fate::Peer(world.far));
}

#[test]
fn unknown_sources_are_refused_where_all_are_known() {
    let world = recorded();
    world.refuses_from_there(&packet4(A, STRANGER, ip4(STRANGER)), DropReason::MacUnknown);
    world.refuses_from_a(&packet4(B, STRANGER, ip4(STRANGER)), DropReason::MacNotOwn);
    let world = self::world(false, Guard::AllowUnknown);
    world.refuses_from_a(&packet4(B, STRANGER, ip4(STRANGER)), DropReason::MacUnknown);
}

#[test]
fn tags_are_carried_and_addresses_looked_up_behind_them() {
    let world = recorded();
    let packet = specimen::ipv4(ip4(A), ip4(C), protocol::UDP, &specimen::udp(1, 2, b""));
    for tags in [&[5][..], &[7, 5]] {
        let frame = specimen::ethernet(C, A, tags, 0x0800, &packet);
        assert_eq!(world.sent_by_a(&frame), Fate::Peer(world.there));
    }
}

#[test]
fn a_vlan_of_a_machines_own_has_its_own_addresses_but_nobody_elses() {
    let world = recorded();
    let own = Ipv4Addr::new(192, 168, 5, 1);
    let packet = |source| specimen::ipv4(source, ip4(C), protocol::UDP, &specimen::udp(1, 2, b""));
    assert_eq!(
        world.sent_by_a(&specimen::ethernet(C, A, &[5], 0x0800, &packet(own))),
        Fate::Peer(world.there)
    );
    world.refuses_from_a(&specimen::ethernet(C, A, &[0], 0x0800, &packet(own)), DropReason::IpNotOwn);
    world.refuses_from_a(&specimen::ethernet(C, A, &[5], 0x0800, &packet(ip4(B))), DropReason::IpSpoofed);
    // Questions in it are asked of the others, not of the record.
    let question = Arp {
        operation: Operation::Request,
        sender_mac: A,
        sender_ip: own,
        target_mac: NOBODY,
        target_ip: Ipv4Addr::new(192, 168, 5, 2),
    };
    let frame = specimen::ethernet(MacAddr::BROADCAST, A, &[5], 0x0806, &question.encode());
    assert!(matches!(world.sent_by_a(&frame), Fate::Many { .. }));
}

#[test]
fn a_priority_tagged_question_is_answered_with_the_same_tag() {
    let world = recorded();
    let mut question = arp_question(A, ip4(C));
    question.splice(12..12, [0x81, 0x00, 0xa0, 0x00]);
    let Fate::Answer(answer) = world.sent_by_a(&question) else { panic!("no answer") };
    assert_eq!(answer[12..16], [0x81, 0x00, 0xa0, 0x00]);
    let header = Ethernet::parse(&answer).unwrap();
    assert_eq!(Arp::parse(header.payload(&answer)).unwrap().sender_mac, C);
}
