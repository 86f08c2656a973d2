//! One test for each requirement of RFC 4787 that has a part here, and for what the kinds are told apart by.

use std::collections::BTreeSet;
use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::packet::{Transport, View, checksum, ipv4_packet, set_number, udp_packet};

const SECOND: Duration = Duration::from_secs(1);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const HOST: &str = "10.0.0.2:7441";
const PEER: &str = "203.0.113.2:7441";
const PEER_OTHER_PORT: &str = "203.0.113.2:9999";
const OTHER: &str = "192.0.2.2:7441";

fn at(endpoint: &str) -> SocketAddrV4 {
    endpoint.parse().unwrap()
}

fn udp(source: SocketAddrV4, destination: SocketAddrV4) -> Flow {
    Flow { protocol: Protocol::Udp, source, destination }
}

fn nat(behaviour: Behaviour) -> Nat {
    Nat::new(behaviour, vec![OUTSIDE], 1)
}

fn named(name: &str) -> Nat {
    nat(Behaviour::named(name).unwrap())
}

/// What the other end sees as the source of a datagram.
fn send(nat: &mut Nat, now: Duration, from: &str, to: &str) -> Result<SocketAddrV4, Refusal> {
    nat.outbound(now, udp(at(from), at(to)), Signal::Data).map(|(_, flow)| flow.source)
}

/// Which inside endpoint a datagram from outside reaches.
fn receive(nat: &mut Nat, now: Duration, from: &str, to: SocketAddrV4) -> Result<SocketAddrV4, Refusal> {
    nat.inbound(now, udp(at(from), to), Signal::Data).map(|flow| flow.destination)
}

/// REQ-1, and what the other mappings do instead.
#[test]
fn a_mapping_depends_on_as_much_of_the_other_end_as_its_kind_says() {
    use Dependence::{AddressAndPortDependent, AddressDependent, EndpointIndependent};
    for (mapping, other_port_same, other_host_same) in [
        (EndpointIndependent, true, true),
        (AddressDependent, true, false),
        (AddressAndPortDependent, false, false),
    ] {
        for ports in [Ports::Preserving, Ports::Sequential { step: 1 }, Ports::Random] {
            let mut nat = nat(Behaviour { mapping, ports, ..Behaviour::default() });
            let mut seen = |to| send(&mut nat, SECOND, HOST, to).unwrap();
            let first = seen(PEER);
            assert_eq!(seen(PEER), first, "{mapping:?} {ports:?}");
            assert_eq!(seen(PEER_OTHER_PORT) == first, other_port_same, "{mapping:?} {ports:?}");
            assert_eq!(seen(OTHER) == first, other_host_same, "{mapping:?} {ports:?}");
        }
    }
}

/// REQ-2.
#[test]
fn with_several_addresses_a_host_keeps_its_own() {
    let pool: Vec<Ipv4Addr> = (2..10).map(|last| Ipv4Addr::new(198, 51, 100, last)).collect();
    let addresses = |pooling| {
        let mut nat = Nat::new(Behaviour { pooling, ..Behaviour::default() }, pool.clone(), 1);
        let ports = 5000..5100;
        ports
            .map(|port| *send(&mut nat, SECOND, &format!("10.0.0.2:{port}"), PEER).unwrap().ip())
            .collect::<BTreeSet<_>>()
            .len()
    };
    assert_eq!(addresses(Pooling::Paired), 1);
    assert!(addresses(Pooling::Arbitrary) > 1);
}

/// REQ-3: no two inside endpoints share an outside endpoint, whatever the choice of ports; shared ports differ in the other end.
#[test]
fn outside_endpoints_are_not_overloaded() {
    for ports in [Ports::Preserving, Ports::Sequential { step: 2 }, Ports::Random] {
        let mut nat = nat(Behaviour { ports, ..Behaviour::default() });
        let hosts = 2..102;
        let seen: BTreeSet<_> =
            hosts.map(|host| send(&mut nat, SECOND, &format!("10.0.0.{host}:7441"), PEER).unwrap()).collect();
        assert_eq!(seen.len(), 100, "{ports:?}");
    }
}

#[test]
fn masquerading_shares_a_port_between_different_ends_and_leads_each_back() {
    let mut nat = named("masquerade");
    let seen = send(&mut nat, SECOND, HOST, PEER).unwrap();
    assert_eq!(seen, SocketAddrV4::new(OUTSIDE, 7441));
    assert_eq!(send(&mut nat, SECOND, HOST, OTHER).unwrap(), seen);
    assert_eq!(send(&mut nat, SECOND, "10.0.0.3:7441", "192.0.2.9:1").unwrap(), seen);
    let clash = send(&mut nat, SECOND, "10.0.0.3:7441", PEER).unwrap();
    assert_ne!(clash, seen, "the same other end cannot tell them apart");
    assert_eq!(receive(&mut nat, SECOND, PEER, seen), Ok(at(HOST)));
    assert_eq!(receive(&mut nat, SECOND, "192.0.2.9:1", seen), Ok(at("10.0.0.3:7441")));
    assert_eq!(receive(&mut nat, SECOND, PEER, clash), Ok(at("10.0.0.3:7441")));
    assert_eq!(receive(&mut nat, SECOND, PEER_OTHER_PORT, seen), Err(Refusal::NotMapped));
}

/// REQ-4.
#[test]
fn a_preserving_nat_keeps_parity_when_it_cannot_keep_the_port() {
    let mut nat = named("port-cone");
    let hosts = 2..20;
    assert!(
        hosts
            .map(|host| send(&mut nat, SECOND, &format!("10.0.0.{host}:7441"), PEER).unwrap())
            .all(|seen| seen.port() % 2 == 1)
    );
}

/// REQ-5: two minutes, where nothing else is said.
#[test]
fn a_mapping_lives_for_its_timeout_and_no_longer() {
    let mut nat = named("full-cone");
    let seen = send(&mut nat, Duration::ZERO, HOST, PEER).unwrap();
    assert_eq!(receive(&mut nat, 119 * SECOND, PEER, seen), Ok(at(HOST)));
    assert_eq!(receive(&mut nat, 120 * SECOND, PEER, seen), Err(Refusal::NotMapped));
    let mut nat = named("short-timeout");
    let seen = send(&mut nat, Duration::ZERO, HOST, PEER).unwrap();
    assert_eq!(receive(&mut nat, 19 * SECOND, PEER, seen), Ok(at(HOST)));
    assert_eq!(receive(&mut nat, 20 * SECOND, PEER, seen), Err(Refusal::NotMapped));
}

/// REQ-6.
#[test]
fn what_goes_out_refreshes_and_what_comes_in_only_where_said() {
    for (refresh, lives) in [(Refresh::Outbound, false), (Refresh::Both, true)] {
        let mut nat = nat(Behaviour { refresh, ..Behaviour::default() });
        let seen = send(&mut nat, Duration::ZERO, HOST, PEER).unwrap();
        assert!(receive(&mut nat, 100 * SECOND, PEER, seen).is_ok());
        assert_eq!(receive(&mut nat, 130 * SECOND, PEER, seen).is_ok(), lives);
        assert_eq!(send(&mut nat, 130 * SECOND, HOST, PEER).unwrap(), seen);
        assert!(receive(&mut nat, 249 * SECOND, PEER, seen).is_ok());
    }
}

/// REQ-8, and the filters it does not recommend.
#[test]
fn a_filter_lets_in_whom_its_kind_lets_in() {
    use Dependence::{AddressAndPortDependent, AddressDependent, EndpointIndependent};
    for (filtering, other_port, other_host) in [
        (EndpointIndependent, true, true),
        (AddressDependent, true, false),
        (AddressAndPortDependent, false, false),
    ] {
        let mut nat = nat(Behaviour { filtering, ..Behaviour::default() });
        let seen = send(&mut nat, SECOND, HOST, PEER).unwrap();
        assert!(receive(&mut nat, SECOND, PEER, seen).is_ok());
        assert_eq!(receive(&mut nat, SECOND, PEER_OTHER_PORT, seen).is_ok(), other_port, "{filtering:?}");
        assert_eq!(receive(&mut nat, SECOND, OTHER, seen).is_ok(), other_host, "{filtering:?}");
    }
}

/// REQ-9: with the outside address and port as the source.
#[test]
fn hosts_inside_meet_by_their_outside_addresses_where_hairpins_are_allowed() {
    let neighbour = "10.0.0.3:5000";
    let mut nat = named("full-cone");
    let theirs = send(&mut nat, SECOND, neighbour, PEER).unwrap();
    let flow = udp(at(HOST), theirs);
    let (side, met) = nat.outbound(SECOND, flow, Signal::Data).unwrap();
    assert_eq!((side, met.destination), (Side::Inside, at(neighbour)));
    assert_eq!(met.source, SocketAddrV4::new(OUTSIDE, 7441));
    let mut nat = named("port-cone");
    let theirs = send(&mut nat, SECOND, neighbour, PEER).unwrap();
    assert_eq!(nat.outbound(SECOND, udp(at(HOST), theirs), Signal::Data), Err(Refusal::NoHairpin));
}

/// REQ-12: nor does one about a stranger's packet pass.
#[test]
fn an_error_reaches_the_sender_and_ends_no_mapping() {
    let mut nat = named("port-cone");
    let mut packet = udp_packet(at(HOST), at(PEER), &[7; 100]);
    assert_eq!(nat.translate_out(SECOND, &mut packet), Verdict::Forward(Side::Outside));
    let view = View::of(&packet).unwrap();
    let router = "192.0.2.254".parse().unwrap();
    let mut error =
        crate::packet::icmp::Complaint::TooBig { mtu: 1280 }.packet(&packet, &view, router).unwrap();
    assert_eq!(nat.translate_in(SECOND, &mut error), Verdict::Forward(Side::Inside));
    let view = View::of(&error).unwrap();
    assert_eq!(view.destination, IpAddr::from(*at(HOST).ip()));
    assert_eq!((checksum::of(&[&error[..20]]), checksum::of(&[&error[20..]])), (0, 0));
    let (start, quoted) = View::quoted(&error, &view).unwrap();
    assert_eq!(quoted.source, IpAddr::from(*at(HOST).ip()));
    assert_eq!(checksum::of(&[&error[start..start + 20]]), 0, "the quoted header too");
    assert!(receive(&mut nat, 2 * SECOND, PEER, SocketAddrV4::new(OUTSIDE, 7441)).is_ok());

    let stranger = udp_packet(SocketAddrV4::new(OUTSIDE, 7441), at(OTHER), b"never sent");
    let view = View::of(&stranger).unwrap();
    let mut error = crate::packet::icmp::Complaint::HopsUsedUp.packet(&stranger, &view, router).unwrap();
    assert_eq!(nat.translate_in(SECOND, &mut error), Verdict::Refused(Refusal::NotMapped));
}

/// REQ-14.
#[test]
fn later_parts_follow_the_first_and_lone_ones_are_dropped() {
    let mut nat = named("port-cone");
    let part = |offset: u16, more: bool| {
        let mut packet = udp_packet(at(HOST), at(PEER), &[7; 100]);
        set_number(&mut packet, 6, offset | if more { 0x2000 } else { 0 });
        set_number(&mut packet, 10, 0);
        let sum = checksum::of(&[&packet[..20]]);
        set_number(&mut packet, 10, sum);
        packet
    };
    let (mut first, mut later) = (part(0, true), part(16, false));
    assert_eq!(nat.translate_out(SECOND, &mut later.clone()), Verdict::Refused(Refusal::LoneFragment));
    assert_eq!(nat.translate_out(SECOND, &mut first), Verdict::Forward(Side::Outside));
    assert_eq!(nat.translate_out(SECOND, &mut later), Verdict::Forward(Side::Outside));
    assert_eq!(View::of(&later).unwrap().source, IpAddr::from(OUTSIDE));
    assert_eq!(checksum::of(&[&later[..20]]), 0);
    let mut late = part(32, false);
    assert_eq!(nat.translate_out(7 * SECOND, &mut late), Verdict::Refused(Refusal::LoneFragment));
}

/// The rule without which no hole can be punched.
#[test]
fn what_nobody_asked_for_makes_no_entry() {
    for (name, _) in NAMED {
        let mut nat = named(name);
        for port in 1..2000 {
            let unasked = receive(&mut nat, SECOND, PEER, SocketAddrV4::new(OUTSIDE, port));
            assert_eq!(unasked, Err(Refusal::NotMapped), "{name}");
        }
        assert_eq!(nat.mappings(), 0, "{name}");
        assert_eq!(nat.counters().refused(Refusal::NotMapped), 1999);
    }
}

/// The pitfall that probes with a small TTL avoid.
#[test]
fn an_open_router_gives_the_port_away_to_an_early_packet() {
    let outside = SocketAddrV4::new(OUTSIDE, 7441);
    for (name, kept) in [("masquerade", true), ("masquerade-reject", true), ("masquerade-open", false)] {
        let mut nat = named(name);
        assert_eq!(send(&mut nat, SECOND, HOST, OTHER).unwrap(), outside);
        assert!(receive(&mut nat, SECOND, PEER, outside).is_err());
        assert_eq!(send(&mut nat, SECOND, HOST, PEER).unwrap() == outside, kept, "{name}");
        // What spoiled it is forgotten.
        let later = Duration::from_secs(200);
        assert_eq!(send(&mut nat, later, HOST, PEER).unwrap(), outside, "{name}");
    }
}

#[test]
fn a_rejecting_router_tells_the_sender() {
    let mut nat = named("masquerade-reject");
    let mut packet = udp_packet(at(PEER), SocketAddrV4::new(OUTSIDE, 7441), b"hello");
    let Verdict::Rejected(Refusal::NotMapped, said) = nat.translate_in(SECOND, &mut packet) else {
        panic!("not rejected");
    };
    let view = View::of(&said).unwrap();
    assert_eq!((view.destination, view.transport), (IpAddr::from(*at(PEER).ip()), Transport::IcmpError));
}

#[test]
fn a_customer_has_his_quota_and_gets_ports_back_as_they_expire() {
    let mut nat = named("carrier-symmetric");
    let mut made = 0;
    let refused = (1u16..)
        .find_map(|port| {
            let to = format!("203.0.113.2:{port}");
            send(&mut nat, SECOND, HOST, &to).inspect(|_| made += 1).err()
        })
        .unwrap();
    assert_eq!((made, refused), (1000, Refusal::HostFull));
    assert!(send(&mut nat, SECOND, "10.0.0.3:1", PEER).is_ok(), "others are not touched");
    assert!(send(&mut nat, 200 * SECOND, HOST, OTHER).is_ok());
    assert_eq!(nat.mappings(), 1);
}

#[test]
fn tcp_lives_long_once_answered_and_goes_soon_once_closed() {
    let mut nat = named("port-cone");
    let out = Flow { protocol: Protocol::Tcp, source: at(HOST), destination: at(PEER) };
    let back =
        Flow { protocol: Protocol::Tcp, source: at(PEER), destination: SocketAddrV4::new(OUTSIDE, 7441) };
    let minute = 60 * SECOND;
    nat.outbound(Duration::ZERO, out, Signal::Open).unwrap();
    assert!(nat.inbound(5 * minute, back, Signal::Data).is_err(), "never answered");
    nat.outbound(6 * minute, out, Signal::Open).unwrap();
    nat.inbound(6 * minute, back, Signal::Open).unwrap();
    nat.inbound(100 * minute, back, Signal::Data).unwrap();
    nat.inbound(200 * minute, back, Signal::Close).unwrap();
    nat.outbound(200 * minute, out, Signal::Close).unwrap();
    assert!(nat.inbound(203 * minute, back, Signal::Data).is_ok());
    assert!(nat.inbound(205 * minute, back, Signal::Data).is_err());
}

#[test]
fn an_echo_finds_its_way_back() {
    let mut nat = named("port-cone-random");
    let echo = |kind: u8, id: u16| {
        let [high, low] = id.to_be_bytes();
        let mut message = vec![kind, 0, 0, 0, high, low, 0, 1, 42];
        let sum = checksum::of(&[&message]);
        set_number(&mut message, 2, sum);
        message
    };
    let mut asked = ipv4_packet(1, *at(HOST).ip(), *at(PEER).ip(), &echo(8, 77));
    assert_eq!(nat.translate_out(SECOND, &mut asked), Verdict::Forward(Side::Outside));
    assert_eq!(checksum::of(&[&asked[20..]]), 0);
    let Transport::EchoRequest { id } = View::of(&asked).unwrap().transport else { panic!("not an echo") };
    let mut answer = ipv4_packet(1, *at(PEER).ip(), OUTSIDE, &echo(0, id));
    assert_eq!(nat.translate_in(SECOND, &mut answer), Verdict::Forward(Side::Inside));
    assert_eq!(View::of(&answer).unwrap().transport, Transport::EchoReply { id: 77 });
    assert_eq!(checksum::of(&[&answer[20..]]), 0);
}

fn any_behaviour() -> impl Strategy<Value = Behaviour> {
    use Dependence::{AddressAndPortDependent, AddressDependent, EndpointIndependent};
    let dependence =
        || prop::sample::select(vec![EndpointIndependent, AddressDependent, AddressAndPortDependent]);
    let ports = prop::sample::select(vec![
        Ports::Preserving,
        Ports::Shared,
        Ports::Sequential { step: 1 },
        Ports::Random,
    ]);
    let unsolicited = prop::sample::select(vec![Unsolicited::Drop, Unsolicited::Remember]);
    (dependence(), dependence(), ports, unsolicited, any::<bool>()).prop_map(
        |(mapping, filtering, ports, unsolicited, hairpin)| Behaviour {
            mapping,
            filtering,
            ports,
            unsolicited,
            hairpin: if hairpin { Hairpin::Yes } else { Hairpin::No },
            ..Behaviour::default()
        },
    )
}

/// One step of a conversation: who inside or outside, to whom, how long after the last.
fn any_steps() -> impl Strategy<Value = Vec<(bool, u8, u8, u16, u64)>> {
    prop::collection::vec((any::<bool>(), 2u8..5, 2u8..5, 1030u16..1034, 0u64..40), 1..200)
}

proptest! {
    /// Whoever is answered is the one who asked: a datagram let in reaches the endpoint whose mapping it is for, its source was allowed, and no
    /// two live mappings can be mistaken for each other. The model is the list of all that ever went out.
    #[test]
    fn answers_reach_who_asked(behaviour in any_behaviour(), steps in any_steps()) {
        let mut nat = nat(behaviour);
        let mut sent: Vec<(Duration, SocketAddrV4, SocketAddrV4, SocketAddrV4)> = Vec::new();
        let mut now = Duration::ZERO;
        for (outward, host, peer, port, wait) in steps {
            now += SECOND * u32::try_from(wait).unwrap();
            let inside = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, host), port);
            let remote = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, peer), port);
            if outward {
                let (_, flow) = nat.outbound(now, udp(inside, remote), Signal::Data).unwrap();
                prop_assert_eq!(flow.destination, remote);
                sent.push((now, inside, remote, flow.source));
                continue;
            }
            // From a peer to some outside endpoint that was ever seen.
            let Some(seen) = sent.get(usize::from(host) * 7 % sent.len().max(1)).map(|(_, _, _, seen)| *seen) else { continue };
            let alive = |at: &Duration| *at + behaviour.timeouts.udp > now;
            if let Ok(flow) = nat.inbound(now, udp(remote, seen), Signal::Data) {
                let allowed = sent.iter().any(|(at, inside, to, source)| {
                    let known = match behaviour.filtering {
                        Dependence::EndpointIndependent => true,
                        Dependence::AddressDependent => to.ip() == remote.ip(),
                        Dependence::AddressAndPortDependent => *to == remote,
                    };
                    alive(at) && *inside == flow.destination && *source == seen && known
                });
                prop_assert!(allowed, "{flow:?} was let in");
            } else {
                let owed = sent.iter().any(|(at, _, to, source)| alive(at) && *to == remote && *source == seen);
                prop_assert!(!owed, "an answer of {remote} to {seen} was dropped");
            }
        }
    }

    /// Sums are right after any translation, there and back, and the way back restores the packet.
    #[test]
    fn packets_survive_both_ways(behaviour in any_behaviour(), payload in prop::collection::vec(any::<u8>(), 0..100)) {
        let mut nat = nat(behaviour);
        let mut packet = udp_packet(at(HOST), at(PEER), &payload);
        prop_assert_eq!(nat.translate_out(SECOND, &mut packet), Verdict::Forward(Side::Outside));
        let view = View::of(&packet).unwrap();
        prop_assert_eq!(checksum::of(&[&packet[..20]]), 0);
        prop_assert_eq!(checksum::with_pseudo_header(view.source, view.destination, 17, &packet[20..]), 0);
        let Transport::Udp { source, .. } = view.transport else { panic!("no longer UDP") };
        let mut answer = udp_packet(at(PEER), SocketAddrV4::new(OUTSIDE, source), &payload);
        prop_assert_eq!(nat.translate_in(SECOND, &mut answer), Verdict::Forward(Side::Inside));
        prop_assert_eq!(answer, udp_packet(at(PEER), at(HOST), &payload));
    }

    #[test]
    fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..120), first in prop::sample::select(vec![0x45u8, 0x60, 0])) {
        if let Some(byte) = bytes.first_mut() {
            *byte = first;
        }
        let mut nat = named("full-cone");
        let _ = nat.translate_out(SECOND, &mut bytes.clone());
        let _ = nat.translate_in(SECOND, &mut bytes);
    }

    #[test]
    fn one_seed_decides_everything(seed in any::<u64>()) {
        let run = |seed| {
            let mut nat = Nat::new(Behaviour::named("symmetric-random").unwrap(), vec![OUTSIDE], seed);
            (1..50).map(|port| send(&mut nat, SECOND, HOST, &format!("203.0.113.2:{port}")).unwrap()).collect::<Vec<_>>()
        };
        prop_assert_eq!(run(seed), run(seed));
    }
}
