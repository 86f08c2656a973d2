//! Each rule of the switch, its guards and its neighbour answers, by name. Three hosts see one network `LAN`:
//! ```text
//!   here:  A (10.7.0.1), B (10.7.0.2)      there: C (10.7.0.3)      far: D (10.7.0.4)
//! ```

#![expect(
    clippy::disallowed_methods,
    reason = "a test drives the core: it reads the clock once and passes it on"
)]

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use super::*;
use crate::{
    frame::{
        arp::{Arp, Operation},
        ethernet::Ethernet,
        ip::protocol,
        neighbour_discovery as nd,
    },
    specimen::{self, solicited_node},
};

const LAN: NetworkId = NetworkId([1; 16]);
const DMZ: NetworkId = NetworkId([2; 16]);

const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xa]);
const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xb]);
const C: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xc]);
const D: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xd]);
const STRANGER: MacAddr = MacAddr([2, 0, 0, 0, 9, 9]);
const NOBODY: MacAddr = MacAddr([0; 6]);

fn ip4(mac: MacAddr) -> Ipv4Addr {
    Ipv4Addr::new(10, 7, mac.0[4], mac.0[5])
}

fn ip6(mac: MacAddr) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, u16::from(mac.0[4]), u16::from(mac.0[5]))
}

struct World {
    switch: Arc<Switch>,
    worker: Worker,
    now: Instant,
    there: PeerIndex,
    far: PeerIndex,
    a: PortId,
    b: PortId,
}

fn binding(mac: MacAddr, host: HostId) -> MachineBinding {
    MachineBinding { mac, ipv4: vec![ip4(mac)], ipv6: vec![ip6(mac)], host }
}

fn port_config(mac: MacAddr, guard: Guard) -> PortConfig {
    PortConfig { mac, ipv4: vec![ip4(mac)], ipv6: vec![ip6(mac)], guard, vnet_hdr: true }
}

/// The network of the module doc: every address in the record, strict guards.
fn recorded() -> World {
    world(false, Guard::Strict)
}

/// The same, but unknown addresses are allowed.
fn open() -> World {
    world(true, Guard::AllowUnknown)
}

fn world(allow_unknown: bool, guard: Guard) -> World {
    let (here, there, far) = (HostId::random(), HostId::random(), HostId::random());
    let now = Instant::now();
    let switch = Switch::new(here, now, 42);
    switch
        .set_network(&NetworkConfig {
            id: LAN,
            mtu: 1500,
            machines: vec![binding(A, here), binding(B, here), binding(C, there), binding(D, far)],
            hosts: vec![there, far],
            allow_unknown,
        })
        .unwrap();
    let a = switch.attach(LAN, port_config(A, guard)).unwrap();
    let b = switch.attach(LAN, port_config(B, guard)).unwrap();
    World {
        worker: switch.worker(),
        now,
        there: switch.peer(there).unwrap(),
        far: switch.peer(far).unwrap(),
        a,
        b,
        switch,
    }
}

/// What a decision says, in a form that compares.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Port(PortId),
    Peer(PeerIndex),
    Many { ports: Vec<PortId>, peers: Vec<PeerIndex> },
    Answer(Vec<u8>),
    Drop(DropReason),
}

impl From<Decision<'_>> for Fate {
    fn from(decision: Decision<'_>) -> Self {
        match decision {
            Decision::Port(port) => Self::Port(port),
            Decision::Peer(network, peer) => {
                assert_eq!(network, LAN);
                Self::Peer(peer)
            }
            Decision::Many(egress) => {
                Self::Many { ports: egress.ports().collect(), peers: egress.peers.to_vec() }
            }
            Decision::Answer(answer) => Self::Answer(answer.frame().to_vec()),
            Decision::Drop(reason) => Self::Drop(reason),
        }
    }
}

impl World {
    fn sent_by_a(&self, frame: &[u8]) -> Fate {
        self.worker.from_port(self.now, self.a, frame).into()
    }

    fn sent_by_there(&self, frame: &[u8]) -> Fate {
        self.worker.from_peer(self.now, self.there, LAN, frame).into()
    }

    fn peers(&self) -> Vec<PeerIndex> {
        let mut peers = vec![self.there, self.far];
        peers.sort_unstable();
        peers
    }

    /// The switch drops the frame and its counter moves by one.
    #[track_caller]
    fn refuses_from_a(&self, frame: &[u8], reason: DropReason) {
        let before = self.switch.counts().dropped(reason);
        assert_eq!(self.sent_by_a(frame), Fate::Drop(reason));
        assert_eq!(self.switch.counts().dropped(reason), before + 1);
    }

    #[track_caller]
    fn refuses_from_there(&self, frame: &[u8], reason: DropReason) {
        let before = self.switch.counts().dropped(reason);
        assert_eq!(self.sent_by_there(frame), Fate::Drop(reason));
        assert_eq!(self.switch.counts().dropped(reason), before + 1);
    }
}

/// An IPv4 frame between machines, with their own addresses.
fn frame4(to: MacAddr, from: MacAddr) -> Vec<u8> {
    packet4(to, from, ip4(from))
}

fn packet4(to: MacAddr, from: MacAddr, source: Ipv4Addr) -> Vec<u8> {
    let packet = specimen::ipv4(source, ip4(to), protocol::UDP, &specimen::udp(1000, 2000, b"hello"));
    specimen::ethernet(to, from, &[], 0x0800, &packet)
}

fn frame6(to: MacAddr, from: MacAddr, source: Ipv6Addr) -> Vec<u8> {
    let packet = specimen::ipv6(source, ip6(to), protocol::UDP, 64, &specimen::udp(1000, 2000, b"hello"));
    specimen::ethernet(to, from, &[], 0x86dd, &packet)
}

fn arp_question(from: MacAddr, target: Ipv4Addr) -> Vec<u8> {
    specimen::arp(MacAddr::BROADCAST, Operation::Request, (from, ip4(from)), (NOBODY, target))
}

fn solicitation(from: MacAddr, target: Ipv6Addr) -> Vec<u8> {
    specimen::neighbour(
        solicited_node(target),
        (from, ip6(from)),
        nd::NEIGHBOUR_SOLICITATION,
        target,
        Some(from),
    )
}

// ---- forwarding ----

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

// ---- networks ----

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

// ---- learning ----

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

// ---- guards ----

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

// ---- neighbours ----

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

// ---- tags ----

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

// ---- what the switch is told ----

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
