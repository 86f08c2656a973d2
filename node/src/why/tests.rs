//! Each set of facts has exactly one cause; where several faults meet, the first that would have to be mended is named.

use consort_overlay::HostId;

use super::*;
use consort_scheduler::bounded::List;

fn attempt(kind: CandidateKind, outcome: Outcome) -> Attempt {
    let address = if kind == CandidateKind::Local { "192.168.1.9:7441" } else { "198.51.100.9:7441" };
    Attempt { address: address.parse().unwrap(), kind, outcome, round_trip_micros: None }
}

fn tried(attempts: &[(CandidateKind, Outcome)]) -> List<Attempt, { facts::ATTEMPTS_MAX }> {
    List::first_of(attempts.iter().map(|(kind, outcome)| attempt(*kind, *outcome)))
}

fn relays(outcomes: &[RelayOutcome]) -> List<RelayAttempt, { facts::RELAYS_MAX }> {
    List::first_of(outcomes.iter().map(|outcome| RelayAttempt { relay: HostId::random(), outcome: *outcome }))
}

/// Two hosts, each behind a plain NAT, with a link that is direct and well.
fn side() -> Side {
    Side {
        unix_seconds: 1_800_000_000,
        standing: Standing::Member,
        nat: Nat::EndpointIndependent,
        observed: List::new(),
        has_ipv4: true,
        has_ipv6: false,
        dns: None,
        members_connected: 3,
        quic_somewhere: true,
        receive_drops: 0,
        others_answer: None,
        refused_by_other: false,
        control: Control::Connected { quic: true, round_trip_micros: Some(10_000) },
        link: LinkFact {
            wanted: true,
            up: true,
            path: Path::Direct,
            address: Some("198.51.100.9:7441".parse().unwrap()),
            round_trip_micros: Some(10_000),
            datagram_bytes: 1_472,
            heard: true,
            session_seconds: Some(100),
            ..LinkFact::NONE
        },
        tried: tried(&[
            (CandidateKind::Local, Outcome::Silent),
            (CandidateKind::Observed, Outcome::Answered),
        ]),
        relays: List::new(),
        relays_known: 0,
        meeting: Meeting::Answered,
        topology: TopologyFact::Allowed,
        record_age_s: Some(20),
    }
}

fn well() -> Facts {
    let names = Names { near_id: "12D3a".into(), far_id: "12D3b".into(), near: "a".into(), far: "b".into() };
    Facts { names, same: false, near: side(), far: Some(side()) }
}

/// The link is down and every candidate of both was silent, though the control plane stands.
fn no_path() -> Facts {
    let mut facts = well();
    let silent =
        tried(&[(CandidateKind::Local, Outcome::Silent), (CandidateKind::Observed, Outcome::Silent)]);
    let link = LinkFact { wanted: true, ..LinkFact::NONE };
    facts.near.tried = silent.clone();
    facts.near.link = link.clone();
    let far = facts.far.as_mut().unwrap();
    (far.tried, far.link) = (silent, link);
    facts
}

/// The same with a relay that carries.
fn relayed() -> Facts {
    let mut facts = no_path();
    for side in [&mut facts.near, facts.far.as_mut().unwrap()] {
        side.link =
            LinkFact { up: true, path: Path::Relay, hops: 1, datagram_bytes: 1_464, ..side.link.clone() };
        side.relays = relays(&[RelayOutcome::Ready]);
        side.relays_known = 1;
    }
    facts
}

/// Nothing can be asked of the other.
fn control_down(failure: ControlFailure) -> Facts {
    let mut facts = no_path();
    facts.near.control = Control::Failed(failure);
    facts.far = None;
    facts
}

fn far(facts: &mut Facts) -> &mut Side {
    facts.far.as_mut().unwrap()
}

fn with(mut facts: Facts, change: impl FnOnce(&mut Facts)) -> Facts {
    change(&mut facts);
    facts
}

/// Every cause, by facts that have it alone.
fn single_faults() -> Vec<(Code, Facts)> {
    use ControlFailure as Failure;
    let hard = Nat::AddressAndPortDependent;
    vec![
        (Code::SameHost, with(no_path(), |facts| facts.same = true)),
        (Code::NoNetwork, with(control_down(Failure::NoAnswer), |facts| facts.near.has_ipv4 = false)),
        (Code::ClockWrong, with(well(), |facts| far(facts).unix_seconds += 121)),
        (Code::ClockWrong, control_down(Failure::FromTheFuture)),
        (
            Code::NotAMember,
            with(control_down(Failure::NoAddress), |facts| {
                facts.near.standing = Standing::NotYet;
                facts.near.record_age_s = None;
            }),
        ),
        (
            Code::RevokedHere,
            with(control_down(Failure::Revoked), |facts| facts.near.standing = Standing::Revoked),
        ),
        (Code::RevokedHere, with(control_down(Failure::Revoked), |facts| facts.near.refused_by_other = true)),
        (Code::RevokedHere, with(no_path(), |facts| far(facts).control = Control::Failed(Failure::Revoked))),
        (Code::RevokedThere, control_down(Failure::Revoked)),
        (Code::Expired, control_down(Failure::Expired)),
        (Code::Expired, with(control_down(Failure::Expired), |facts| facts.near.standing = Standing::NotYet)),
        (Code::OtherOverlay, control_down(Failure::OtherOverlay)),
        (Code::MembershipForged, control_down(Failure::Forged)),
        (Code::WrongIdentity, control_down(Failure::WrongIdentity)),
        (Code::VersionDiffers, control_down(Failure::Version)),
        (Code::WrongKey, with(no_path(), |facts| far(facts).link.key_refused = true)),
        (
            Code::HostUnknown,
            with(control_down(Failure::NoAddress), |facts| {
                facts.near.record_age_s = None;
                facts.near.tried = List::new();
            }),
        ),
        (Code::Isolated, with(control_down(Failure::NoAnswer), |facts| facts.near.members_connected = 0)),
        // Connections that stand say nothing: nobody opens.
        (
            Code::Isolated,
            with(control_down(Failure::NoAnswer), |facts| facts.near.others_answer = Some(false)),
        ),
        (
            Code::HostSilent,
            with(control_down(Failure::NoAnswer), |facts| {
                facts.near.others_answer = Some(true);
                facts.near.members_connected = 0;
            }),
        ),
        (
            Code::NoRoute,
            with(control_down(Failure::NetworkUnreachable), |facts| facts.near.others_answer = Some(false)),
        ),
        (
            Code::FamiliesDiffer,
            with(relayed(), |facts| {
                far(facts).has_ipv4 = false;
                far(facts).has_ipv6 = true;
            }),
        ),
        (Code::NodeNotRunning, control_down(Failure::ConnectionRefused)),
        (Code::ConnectionsFull, control_down(Failure::Full)),
        (Code::HostSilent, control_down(Failure::NoAnswer)),
        (Code::TopologyForbids, with(no_path(), |facts| facts.near.topology = TopologyFact::NoRoute)),
        (Code::TopologyRoutes, with(relayed(), |facts| facts.near.topology = TopologyFact::Routed(2))),
        (
            Code::UdpBlockedBoth,
            with(relayed(), |facts| {
                facts.near.link.path = Path::RelayStream;
                block_udp(&mut facts.near);
                block_udp(far(facts));
            }),
        ),
        (Code::UdpBlockedHere, with(relayed(), |facts| block_udp(&mut facts.near))),
        (Code::UdpBlockedThere, with(no_path(), |facts| block_udp(far(facts)))),
        (
            Code::UdpBlockedHere,
            with(no_path(), |facts| {
                facts.near.nat = Nat::Unknown;
                facts.near.quic_somewhere = false;
            }),
        ),
        (Code::OneWayIn, with(relayed(), |facts| far(facts).link.heard = true)),
        (Code::OneWayOut, with(no_path(), |facts| facts.near.link.heard = true)),
        (
            Code::NoHairpin,
            with(relayed(), |facts| {
                let outside = |port| List::first_of([std::net::SocketAddr::from(([198, 51, 100, 1], port))]);
                facts.near.observed = outside(1_000);
                far(facts).observed = outside(2_000);
            }),
        ),
        (
            Code::SymmetricBoth,
            with(relayed(), |facts| {
                facts.near.nat = hard;
                far(facts).nat = Nat::AddressDependent;
            }),
        ),
        (
            Code::SearchSpent,
            with(relayed(), |facts| {
                facts.near.nat = hard;
                facts.near.link.search_spent = true;
            }),
        ),
        (
            Code::Searching,
            with(no_path(), |facts| {
                far(facts).nat = hard;
                facts.near.link.searching = true;
            }),
        ),
        (Code::MeetTooOften, with(no_path(), |facts| facts.near.meeting = Meeting::TooOften)),
        (
            Code::MeetUnanswered,
            with(no_path(), |facts| {
                facts.near.meeting = Meeting::Unanswered;
                facts.far = None;
            }),
        ),
        (Code::MeetUnanswered, control_down(Failure::Unresponsive)),
        (Code::DataPortBlocked, no_path()),
        (Code::DataPortBlocked, with(relayed(), |facts| facts.near.nat = Nat::Blocked)),
        // Nobody ever answered either data port, so neither knows a NAT.
        (
            Code::DataPortBlocked,
            with(relayed(), |facts| {
                for side in [&mut facts.near, facts.far.as_mut().unwrap()] {
                    side.nat = Nat::Unknown;
                    side.link.path = Path::RelayStream;
                    side.relays = List::new();
                    side.relays_known = 0;
                }
            }),
        ),
        // What the other sends arrives, and nothing comes back to it from anybody: it is not that UDP is blocked there altogether.
        (
            Code::OneWayOut,
            with(no_path(), |facts| {
                facts.near.link.heard = true;
                block_udp(far(facts));
            }),
        ),
        (
            Code::NatUnknown,
            with(no_path(), |facts| {
                facts.near.nat = Nat::Unknown;
                facts.near.tried = List::new();
            }),
        ),
        (Code::RelaySilent, with(no_path(), |facts| blocked_unasked(facts, RelayOutcome::Silent))),
        (Code::RelaysFull, with(no_path(), |facts| blocked_unasked(facts, RelayOutcome::Full))),
        (
            Code::RelaysFull,
            with(no_path(), |facts| {
                // The far end has asked, and this one found a stream of the control plane standing before it had to.
                facts.near.nat = hard;
                let far = facts.far.as_mut().unwrap();
                (far.nat, far.relays) = (hard, relays(&[RelayOutcome::Full]));
            }),
        ),
        (Code::RelaysRefuse, with(no_path(), |facts| blocked_unasked(facts, RelayOutcome::Refused))),
        (Code::RelaysUnreachable, with(no_path(), |facts| blocked_unasked(facts, RelayOutcome::Unreachable))),
        (
            Code::NoRelay,
            with(no_path(), |facts| {
                facts.near.nat = hard;
                far(facts).nat = hard;
            }),
        ),
        (Code::GrantRefused, with(well(), |facts| facts.near.link.grants_refused = 1)),
        (Code::ControlBlocked, with(well(), |facts| facts.near.control = Control::Failed(Failure::NoAnswer))),
        (Code::MtuHole, with(well(), |facts| facts.near.link.black_holes = 1)),
        (Code::MtuSmall, with(well(), |facts| facts.near.link.datagram_bytes = 1_200)),
        (
            Code::Overrun,
            with(well(), |facts| {
                facts.near.link.loss_permille = 50;
                facts.near.receive_drops = 9;
            }),
        ),
        (Code::Lossy, with(well(), |facts| far(facts).link.loss_permille = 20)),
        (Code::Unsteady, with(well(), |facts| facts.near.link.roamed = 6)),
        (Code::Unsteady, with(well(), |facts| far(facts).link.roamed = 6)),
        (Code::Slow, with(well(), |facts| facts.near.link.round_trip_micros = Some(900_000))),
        (
            Code::RelayedForNow,
            with(relayed(), |facts| {
                facts.near.tried = tried(&[(CandidateKind::Observed, Outcome::Answered)]);
            }),
        ),
        (
            Code::Connecting,
            with(no_path(), |facts| {
                facts.near.tried = tried(&[(CandidateKind::Observed, Outcome::Waiting)]);
            }),
        ),
        (
            Code::DirectLocal,
            with(well(), |facts| {
                facts.near.link.address = Some("192.168.1.9:7441".parse().unwrap());
            }),
        ),
        (Code::Direct, well()),
        (
            Code::NotWanted,
            with(no_path(), |facts| {
                facts.near.link.wanted = false;
                far(facts).link.wanted = false;
                facts.near.tried = List::new();
            }),
        ),
        (Code::Unexplained, with(no_path(), |facts| facts.near.tried = List::new())),
    ]
}

fn block_udp(side: &mut Side) {
    side.nat = Nat::Blocked;
    side.quic_somewhere = false;
}

/// The other cannot be asked, so only the relays' answers are known.
fn blocked_unasked(facts: &mut Facts, outcome: RelayOutcome) {
    facts.far = None;
    facts.near.relays_known = 2;
    facts.near.relays = relays(&[outcome]);
}

#[test]
fn each_set_of_facts_has_exactly_its_cause() {
    for (number, (code, facts)) in single_faults().into_iter().enumerate() {
        let said = explain(&facts);
        assert_eq!(said.code, code, "case {number}: {said:?}");
        assert!(!said.cause.contains('{') && !said.remedy.contains('{'), "{said:?}");
    }
}

#[test]
fn every_code_has_facts_that_lead_to_it_and_a_text_of_its_own() {
    let noted = explain(&with(well(), |facts| facts.near.dns = Some(false)));
    assert_eq!(noted.code, Code::Direct, "a note is no cause");
    let notes = noted.also.into_iter().map(|finding| finding.code);
    let reached: std::collections::BTreeSet<Code> =
        single_faults().into_iter().map(|(code, _)| code).chain(notes).collect();
    for code in Code::ALL {
        assert!(reached.contains(code), "{code} is never said");
    }
    let texts: std::collections::BTreeSet<&str> = Code::ALL.iter().map(|code| code.text()).collect();
    assert_eq!(texts.len(), Code::ALL.len());
    assert!(Code::ALL.len() >= 30);
}

#[test]
fn the_text_names_the_host_that_has_to_mend_it() {
    let says = |facts: Facts| explain(&facts).cause;
    assert!(says(with(well(), |facts| facts.near.link.roamed = 6)).contains("address of b changes"));
    assert!(says(with(well(), |facts| far(facts).link.roamed = 6)).contains("address of a changes"));
    assert!(says(control_down(ControlFailure::Expired)).contains("certificate of b"));
    let own = with(control_down(ControlFailure::Expired), |facts| facts.near.refused_by_other = true);
    assert!(says(own).contains("certificate of a"));
}

#[test]
fn what_is_not_well_has_a_remedy() {
    for (code, facts) in single_faults() {
        if !rules::is_well(code) {
            assert!(!explain(&facts).remedy.is_empty(), "{code}");
        }
    }
}

#[test]
fn of_several_faults_the_first_to_be_mended_is_named_and_the_others_beside_it() {
    let mut facts = relayed();
    block_udp(&mut facts.near);
    far(&mut facts).unix_seconds -= 1_000;
    facts.near.link.loss_permille = 300;
    let said = explain(&facts);
    assert_eq!(said.code, Code::ClockWrong);
    let also: Vec<Code> = said.also.iter().map(|finding| finding.code).collect();
    assert!(also.contains(&Code::UdpBlockedHere) && also.contains(&Code::Lossy), "{also:?}");
    facts.near.has_ipv4 = false;
    assert_eq!(explain(&facts).code, Code::NoNetwork);
}

#[test]
fn an_address_that_changes_is_named_before_the_loss_it_brings() {
    let mut facts = well();
    facts.near.link.loss_permille = 80;
    facts.near.link.roamed = 12;
    let said = explain(&facts);
    assert_eq!(said.code, Code::Unsteady);
    assert!(said.also.iter().any(|finding| finding.code == Code::Lossy));
}

#[test]
fn a_well_path_is_not_spoiled_by_what_does_not_matter() {
    let said = explain(&well());
    assert_eq!((said.path, said.also.len(), said.remedy.as_str()), (Path::Direct, 0, ""));
    assert_eq!(said.rtt_ms, Some(10.0));
    assert!(said.other_asked && said.tried.len() == 2);
}

#[test]
fn a_side_comes_out_as_it_went_in() {
    let mut side = relayed().near;
    side.relays = relays(&[RelayOutcome::Ready; 20]);
    let bytes = postcard::to_stdvec(&side).unwrap();
    assert_eq!(postcard::from_bytes::<Side>(&bytes).unwrap(), side);
    for length in 0..bytes.len() {
        assert!(postcard::from_bytes::<Side>(&bytes[..length]).is_err(), "{length}");
    }
}

#[test]
fn the_operators_page_lists_every_code() {
    let page = include_str!("../../../docs/operators.md");
    for code in Code::ALL {
        assert!(page.contains(&format!("| `{code}` |")), "{code} is not in docs/operators.md");
    }
}
