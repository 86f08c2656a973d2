//! What machines and peers may say of themselves, and how much.

use super::*;

#[test]
fn a_strict_port_uses_only_its_own_mac_address() {
    let world = self::world(true, Guard::Strict);
    world.refuses_from_a(&packet4(B, STRANGER, ip4(A)), DropReason::MacNotOwn);
    world.refuses_from_a(&packet4(B, C, ip4(A)), DropReason::MacSpoofed);
}

#[test]
fn a_strict_port_uses_only_its_own_ip_addresses() {
    let world = recorded();
    world.refuses_from_a(&packet4(B, A, Ipv4Addr::new(10, 9, 9, 9)), DropReason::IpNotOwn);
    world.refuses_from_a(&packet4(B, A, ip4(C)), DropReason::IpSpoofed);
    world.refuses_from_a(&packet4(B, A, Ipv4Addr::UNSPECIFIED), DropReason::IpNotOwn);
    world.refuses_from_a(&frame6(B, A, Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1)), DropReason::IpNotOwn);
    world.refuses_from_a(&frame6(B, A, ip6(C)), DropReason::IpSpoofed);
    world.refuses_from_a(&frame6(B, A, Ipv6Addr::UNSPECIFIED), DropReason::IpNotOwn);
    assert_eq!(world.sent_by_a(&frame6(B, A, ip6(A))), Fate::Port(world.b));
}

#[test]
fn link_local_addresses_are_free_except_others_derived_ones() {
    let world = recorded();
    assert_eq!(world.sent_by_a(&frame6(B, A, A.link_local())), Fate::Port(world.b));
    let own_choice = "fe80::1234:5678:9abc:def0".parse().unwrap();
    assert_eq!(world.sent_by_a(&frame6(B, A, own_choice)), Fate::Port(world.b));
    world.refuses_from_a(&frame6(B, A, C.link_local()), DropReason::IpSpoofed);
}

#[test]
fn an_open_port_uses_any_ip_address_but_others() {
    let world = open();
    assert_eq!(world.sent_by_a(&packet4(B, A, Ipv4Addr::new(10, 9, 9, 9))), Fate::Port(world.b));
    world.refuses_from_a(&packet4(B, A, ip4(C)), DropReason::IpSpoofed);
    world.refuses_from_a(&frame6(B, A, ip6(C)), DropReason::IpSpoofed);
}

#[test]
fn a_machine_without_address_may_ask_for_one() {
    let world = recorded();
    let discover = specimen::ipv4(
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::BROADCAST,
        protocol::UDP,
        &specimen::udp(68, 67, &[1; 300]),
    );
    let frame = specimen::ethernet(MacAddr::BROADCAST, A, &[], 0x0800, &discover);
    assert!(matches!(world.sent_by_a(&frame), Fate::Many { .. }));
    // A listener report without source address (RFC 3590).
    let options_and_report = [&[58, 0, 5, 2, 0, 0, 1, 0][..], &[143, 0, 0, 0, 0, 0, 0, 0]].concat();
    let report = specimen::ipv6(
        Ipv6Addr::UNSPECIFIED,
        "ff02::16".parse().unwrap(),
        protocol::HOP_BY_HOP,
        1,
        &options_and_report,
    );
    let frame = specimen::ethernet(MacAddr([0x33, 0x33, 0, 0, 0, 0x16]), A, &[], 0x86dd, &report);
    assert!(matches!(world.sent_by_a(&frame), Fate::Many { .. }));
}

#[test]
fn no_machine_plays_dhcp_server() {
    let offer = specimen::udp(67, 68, &[2; 300]);
    let v4 = specimen::ipv4(ip4(A), ip4(B), protocol::UDP, &offer);
    let v4 = specimen::ethernet(B, A, &[], 0x0800, &v4);
    let v6 = specimen::ipv6(ip6(A), ip6(B), protocol::UDP, 64, &specimen::udp(547, 546, &[2; 30]));
    let v6 = specimen::ethernet(B, A, &[], 0x86dd, &v6);
    let world = recorded();
    world.refuses_from_a(&v4, DropReason::DhcpServer);
    world.refuses_from_a(&v6, DropReason::DhcpServer);
    let from_c = specimen::ipv4(ip4(C), ip4(B), protocol::UDP, &offer);
    world.refuses_from_there(&specimen::ethernet(B, C, &[], 0x0800, &from_c), DropReason::DhcpServer);
    let world = open();
    assert_eq!(world.sent_by_a(&v4), Fate::Port(world.b));
}

#[test]
fn no_machine_plays_router() {
    let all_nodes = (MacAddr([0x33, 0x33, 0, 0, 0, 1]), "ff02::1".parse().unwrap());
    for kind in [nd::ROUTER_ADVERTISEMENT, nd::REDIRECT] {
        let claim = |from: MacAddr| {
            specimen::neighbour(all_nodes, (from, from.link_local()), kind, ip6(from), Some(from))
        };
        recorded().refuses_from_a(&claim(A), DropReason::RouterClaim);
        recorded().refuses_from_there(&claim(C), DropReason::RouterClaim);
        assert!(matches!(open().sent_by_a(&claim(A)), Fate::Many { .. }));
    }
}

#[test]
fn a_router_claim_does_not_hide_in_extensions_fragments_or_priority_tags() {
    let world = recorded();
    let to: Ipv6Addr = "ff02::1".parse().unwrap();
    let to_mac = MacAddr([0x33, 0x33, 0, 0, 0, 1]);
    let claim = [134, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let send = |next: u8, headers: &[u8], tags: &[u16]| {
        let payload = [headers, &claim].concat();
        let packet = specimen::ipv6(A.link_local(), to, next, 255, &payload);
        specimen::ethernet(to_mac, A, tags, 0x86dd, &packet)
    };
    let options = [58, 0, 1, 4, 0, 0, 0, 0];
    world.refuses_from_a(&send(protocol::DESTINATION_OPTIONS, &options, &[]), DropReason::RouterClaim);
    world.refuses_from_a(&send(protocol::ICMPV6, &[], &[0]), DropReason::RouterClaim);
    world.refuses_from_a(&send(protocol::ICMPV6, &[], &[0, 0]), DropReason::RouterClaim);
    world.refuses_from_a(&send(protocol::ICMPV6, &[], &[0, 0, 0]), DropReason::TooManyTags);
    let first_fragment = [58, 0, 0, 1, 0, 0, 0, 1];
    world.refuses_from_a(&send(protocol::FRAGMENT, &first_fragment, &[]), DropReason::NeighbourMalformed);
    // The header chain continues in the next fragment: what it is cannot be judged.
    let chain_cut = specimen::ipv6(
        A.link_local(),
        to,
        protocol::FRAGMENT,
        255,
        &[60, 0, 0, 1, 0, 0, 0, 1, 58, 1, 1, 4, 0, 0, 0, 0],
    );
    world.refuses_from_a(&specimen::ethernet(to_mac, A, &[], 0x86dd, &chain_cut), DropReason::IpMalformed);
}

#[test]
fn arp_says_inside_what_it_says_outside() {
    let world = open();
    let mut lie = arp_question(A, ip4(STRANGER));
    lie[22..28].copy_from_slice(&B.0);
    world.refuses_from_a(&lie, DropReason::ArpSpoofed);
    let foreign_ip = specimen::arp(B, Operation::Reply, (A, ip4(C)), (B, ip4(B)));
    world.refuses_from_a(&foreign_ip, DropReason::ArpSpoofed);
    let by_peer = specimen::arp(B, Operation::Reply, (C, ip4(D)), (B, ip4(B)));
    world.refuses_from_there(&by_peer, DropReason::ArpSpoofed);
    let claim_all = specimen::arp(MacAddr::BROADCAST, Operation::Reply, (A, ip4(C)), (NOBODY, ip4(C)));
    world.refuses_from_a(&claim_all, DropReason::ArpSpoofed);
    recorded().refuses_from_a(
        &specimen::arp(B, Operation::Reply, (A, Ipv4Addr::new(10, 9, 9, 9)), (B, ip4(B))),
        DropReason::ArpSpoofed,
    );
}

#[test]
fn neighbour_discovery_says_inside_what_it_says_outside() {
    let world = open();
    let advertise = |from: MacAddr, target: Ipv6Addr, link| {
        specimen::neighbour((B, ip6(B)), (from, ip6(from)), nd::NEIGHBOUR_ADVERTISEMENT, target, link)
    };
    world.refuses_from_a(&advertise(A, ip6(A), Some(B)), DropReason::NeighbourSpoofed);
    world.refuses_from_a(&advertise(A, ip6(C), Some(A)), DropReason::NeighbourSpoofed);
    world.refuses_from_there(&advertise(C, ip6(D), Some(C)), DropReason::NeighbourSpoofed);
    let ask =
        specimen::neighbour(solicited_node(ip6(C)), (A, ip6(A)), nd::NEIGHBOUR_SOLICITATION, ip6(C), Some(B));
    world.refuses_from_a(&ask, DropReason::NeighbourSpoofed);
}

#[test]
fn a_peer_uses_no_ip_address_of_another_hosts_machine() {
    let world = recorded();
    world.refuses_from_there(&packet4(A, C, ip4(D)), DropReason::IpSpoofed);
    world.refuses_from_there(&packet4(A, C, ip4(B)), DropReason::IpSpoofed);
    world.refuses_from_there(&frame6(A, C, ip6(D)), DropReason::IpSpoofed);
}

#[test]
fn a_peer_uses_no_mac_address_of_another_host() {
    let world = recorded();
    world.refuses_from_there(&frame4(A, D), DropReason::MacSpoofed);
    world.refuses_from_there(&frame4(A, B), DropReason::MacSpoofed);
}

#[test]
fn storms_are_limited_per_port_and_per_peer() {
    let world = recorded();
    let send = |from: PortId, mac: MacAddr, n: usize| {
        (0..n)
            .map(|_| Fate::from(world.worker.from_port(world.now, from, &frame4(MacAddr::BROADCAST, mac))))
            .filter(|fate| *fate == Fate::Drop(DropReason::Storm))
            .count()
    };
    assert_eq!(send(world.a, A, 2_000), 0);
    assert!(send(world.a, A, 2_000) > 0);
    assert_eq!(send(world.b, B, 2_000), 0, "another port is not affected");
    let from_peer = |peer: PeerIndex, mac: MacAddr, n: usize| {
        (0..n)
            .map(|_| {
                Fate::from(world.worker.from_peer(world.now, peer, LAN, &frame4(MacAddr::BROADCAST, mac)))
            })
            .filter(|fate| *fate == Fate::Drop(DropReason::Storm))
            .count()
    };
    assert!(from_peer(world.there, C, 4_000) > 0);
    assert_eq!(from_peer(world.far, D, 2_000), 0, "another peer is not affected");
    assert_eq!(
        world.sent_by_a(&frame4(C, A)),
        Fate::Peer(world.there),
        "known destinations are not affected"
    );
}

#[test]
fn a_stream_to_a_silent_address_is_not_flooded_at_full_rate() {
    let world = open();
    let fates = |mac: MacAddr, n: usize| {
        (0..n).filter(|_| matches!(world.sent_by_a(&frame4(mac, A)), Fate::Many { .. })).count()
    };
    assert!(fates(STRANGER, 10_000) < 1_000);
    assert_eq!(fates(MacAddr([2, 0, 0, 0, 7, 7]), 1), 1, "a new address is asked for at once");
}
