//! The faults.

use std::time::Duration;

use super::{Ask, Before, Fault, Step, Tamper};
use crate::why::Code;

/// Two hosts in the open and the founder.
const OPEN: &str = "[host.founder]\n[host.a]\n[host.b]\n";
/// The same, and the founder relays.
const HUB: &str = "[host.founder]\nconfig = \"[data]\\nrelay = true\\n\"\n[host.a]\n[host.b]\n";
/// Two routed sites without a firewall.
const ROUTED: &str = "[site.a]\n[site.b]\n[host.founder]\n[host.a]\nsite = \"a\"\n[host.b]\nsite = \"b\"\n";
/// A home, and a host in the open.
const HOME_OPEN: &str =
    "[site.a]\nnat = \"port-cone\"\n[host.founder]\n[host.other]\n[host.a]\nsite = \"a\"\n[host.b]\n";
/// Two homes.
const HOMES: &str = "[site.a]\nnat = \"port-cone\"\n[site.b]\nnat = \"port-cone\"\nlan = \"192.168.2.0/24\"\n[host.founder]\n[host.other]\n[host.a]\nsite = \"a\"\n[host.b]\nsite = \"b\"\n";
/// Two homes with the same private addresses, down to the hosts' own.
const TWIN_HOMES: &str = "[site.a]\nnat = \"port-cone\"\n[site.b]\nnat = \"port-cone\"\n[host.founder]\n[host.other]\n[host.a]\nsite = \"a\"\n[host.b]\nsite = \"b\"\n";
/// Two hosts on one LAN.
const ONE_LAN: &str = "[site.home]\nnat = \"port-cone\"\n[host.founder]\n[host.other]\n[host.a]\nsite = \"home\"\n[host.b]\nsite = \"home\"\n";
/// Two symmetric NATs, and a relay.
const SYMMETRIC: &str = "[site.a]\nnat = \"symmetric-random\"\n[site.b]\nnat = \"symmetric-random\"\n[site.relay]\n[host.founder]\n[host.relay]\nsite = \"relay\"\nconfig = \"[data]\\nrelay = true\\n\"\n[host.a]\nsite = \"a\"\n[host.b]\nsite = \"b\"\n";
/// The same, and nobody relays.
const SYMMETRIC_ALONE: &str = "[site.a]\nnat = \"symmetric-random\"\n[site.b]\nnat = \"symmetric-random\"\n[host.founder]\n[host.other]\n[host.a]\nsite = \"a\"\n[host.b]\nsite = \"b\"\n";
/// Two homes behind one carrier that does not hairpin.
const CARRIER: &str = "[site.carrier]\nnat = { like = \"carrier\", hairpin = false }\nlan = \"100.64.0.0/24\"\n[site.a]\nnat = \"port-cone\"\nbehind = \"carrier\"\n[site.b]\nnat = \"port-cone\"\nbehind = \"carrier\"\n[host.founder]\n[host.other]\n[host.a]\nsite = \"a\"\n[host.b]\nsite = \"b\"\n";
const FAMILIES: &str = "[site.a]\nnat = \"port-cone\"\n[site.b]\nfamilies = \"ipv6\"\n[host.founder]\n[host.other]\n[host.a]\nsite = \"a\"\n[host.b]\nsite = \"b\"\n";
const NARROW: &str =
    "[site.a]\nmtu = 1200\n[site.b]\n[host.founder]\n[host.a]\nsite = \"a\"\n[host.b]\nsite = \"b\"\n";
const SLOW: &str = "[site.a]\ncable = { delay = \"300ms\" }\n[site.b]\n[host.founder]\n[host.a]\nsite = \"a\"\n[host.b]\nsite = \"b\"\n";
/// Two symmetric NATs, and a relay for two hosts alone.
const SYMMETRIC_FULL: &str = "[site.a]\nnat = \"symmetric-random\"\n[site.b]\nnat = \"symmetric-random\"\n[site.c]\nnat = \"symmetric-random\"\n[site.d]\nnat = \"symmetric-random\"\n[site.relay]\n[host.founder]\n[host.relay]\nsite = \"relay\"\nconfig = \"[data]\\nrelay = { peers = 2 }\\n\"\n[host.a]\nsite = \"a\"\n[host.b]\nsite = \"b\"\n[host.c]\nsite = \"c\"\n[host.d]\nsite = \"d\"\n";
const QUOTA: &str = "[site.a]\nnat = \"carrier-symmetric\"\n[site.b]\nnat = \"port-cone\"\n[host.founder]\n[host.other]\n[host.a]\nsite = \"a\"\n[host.b]\nsite = \"b\"\n";

const NO_UDP: &[&str] = &["deny out udp", "deny in udp"];
const NOTHING: &[&str] = &["deny out", "deny in"];
const CONTROL_CLOSED: &[&str] =
    &["deny out tcp 7440", "deny in tcp 7440", "deny out udp 7440", "deny in udp 7440"];
const DATA_CLOSED: &[&str] = &["deny out udp 7441", "deny in udp 7441"];

const fn fault(
    name: &'static str,
    about: &'static str,
    case: &'static str,
    before: Before,
    steps: &'static [Step],
    codes: &'static [Code],
) -> Fault {
    Fault { name, about, case, before, steps, ask: Ask::B, codes, beside: &[] }
}

/// All of them.
pub const ALL: &[Fault] = &[
    fault("none", "nothing is wrong", OPEN, Before::Wanted, &[], &[Code::Direct]),
    fault(
        "same-lan",
        "nothing is wrong, and both are on one LAN",
        ONE_LAN,
        Before::Wanted,
        &[],
        &[Code::DirectLocal],
    ),
    fault("behind-cones", "nothing is wrong between two homes", HOMES, Before::Wanted, &[], &[Code::Direct]),
    fault(
        "behind-twins",
        "nothing is wrong between two homes with the same private addresses",
        TWIN_HOMES,
        Before::Wanted,
        &[],
        &[Code::Direct],
    ),
    fault("not-wanted", "no network is shared", OPEN, Before::Nothing, &[], &[Code::NotWanted]),
    Fault {
        ask: Ask::A,
        ..fault("same-host", "both are one host", OPEN, Before::Nothing, &[], &[Code::SameHost])
    },
    Fault {
        ask: Ask::Nobody,
        ..fault("host-unknown", "nobody is called so", OPEN, Before::Nothing, &[], &[Code::HostUnknown])
    },
    fault(
        "no-network",
        "a's link is down",
        OPEN,
        Before::Passing,
        &[Step::LinkDown("a")],
        &[Code::NoNetwork],
    ),
    fault(
        "no-route",
        "a has lost its default route",
        OPEN,
        Before::Passing,
        &[Step::RoutesGone("a")],
        &[Code::NoRoute],
    ),
    fault(
        "isolated",
        "a's firewall lets nothing through",
        HOMES,
        Before::Passing,
        &[Step::Firewall("a", NOTHING)],
        &[Code::Isolated],
    ),
    fault(
        "node-killed",
        "b's node does not run",
        OPEN,
        Before::Passing,
        &[Step::KillNode("b")],
        &[Code::NodeNotRunning],
    ),
    fault(
        "host-silent",
        "b's firewall lets nothing through",
        ROUTED,
        Before::Passing,
        &[Step::Firewall("b", NOTHING)],
        &[Code::HostSilent],
    ),
    fault(
        "wrong-identity",
        "another host answers at b's address",
        OPEN,
        Before::Passing,
        &[Step::Reborn("b")],
        &[Code::WrongIdentity],
    ),
    fault(
        "revoked-there",
        "b was put out",
        OPEN,
        Before::Passing,
        &[Step::Revoke("b")],
        &[Code::RevokedThere],
    ),
    fault("revoked-here", "a was put out", OPEN, Before::Passing, &[Step::Revoke("a")], &[Code::RevokedHere]),
    fault(
        "families-differ",
        "a has IPv4 alone, b IPv6 alone",
        FAMILIES,
        Before::Wanted,
        &[],
        &[Code::FamiliesDiffer],
    ),
    fault(
        "udp-blocked-here",
        "a's firewall drops UDP",
        HOMES,
        Before::Members,
        &[Step::Firewall("a", NO_UDP)],
        &[Code::UdpBlockedHere],
    ),
    fault(
        "udp-blocked-there",
        "b's firewall drops UDP",
        HOMES,
        Before::Members,
        &[Step::Firewall("b", NO_UDP)],
        &[Code::UdpBlockedThere],
    ),
    fault(
        "udp-blocked-both",
        "both firewalls drop UDP",
        HOMES,
        Before::Members,
        &[Step::Firewall("a", NO_UDP), Step::Firewall("b", NO_UDP)],
        &[Code::UdpBlockedBoth],
    ),
    fault(
        "one-way-out",
        "what a sends to b's data port is dropped before b",
        ROUTED,
        Before::Members,
        &[Step::Firewall("b", &["deny in udp 7441"])],
        &[Code::OneWayOut, Code::UdpBlockedThere],
    ),
    fault(
        "one-way-in",
        "what b's data port sends is dropped",
        ROUTED,
        Before::Members,
        &[Step::Firewall("b", &["deny out udp 7441"])],
        &[Code::OneWayIn, Code::UdpBlockedThere],
    ),
    fault(
        "data-port",
        "both firewalls drop the data port, other UDP passes",
        ROUTED,
        Before::Members,
        &[Step::Firewall("a", DATA_CLOSED), Step::Firewall("b", DATA_CLOSED)],
        &[Code::DataPortBlocked, Code::UdpBlockedBoth],
    ),
    fault(
        "control-port",
        "the control port is dropped, the data port passes",
        ROUTED,
        Before::Passing,
        &[Step::Firewall("b", CONTROL_CLOSED)],
        &[Code::ControlBlocked],
    ),
    fault(
        "symmetric-both",
        "two symmetric NATs, and a relay",
        SYMMETRIC,
        Before::Wanted,
        &[],
        &[Code::SymmetricBoth],
    ),
    fault(
        "no-relay",
        "two symmetric NATs, and nobody relays",
        SYMMETRIC_ALONE,
        Before::Wanted,
        &[],
        &[Code::NoRelay, Code::SymmetricBoth],
    ),
    fault(
        "relay-killed",
        "two symmetric NATs, and the relay's node is killed",
        SYMMETRIC,
        Before::Passing,
        &[Step::KillNode("relay")],
        &[Code::RelaysUnreachable, Code::RelaySilent],
    ),
    fault(
        "relay-silent",
        "two symmetric NATs, and the relay's data port is closed",
        SYMMETRIC,
        Before::Passing,
        &[Step::Firewall("relay", DATA_CLOSED)],
        &[Code::RelaySilent, Code::RelaysUnreachable],
    ),
    fault(
        "no-hairpin",
        "two homes behind one carrier that does not hairpin",
        CARRIER,
        Before::Wanted,
        &[],
        &[Code::NoHairpin],
    ),
    fault(
        "carrier-quota",
        "a carrier's symmetric NAT and a home",
        QUOTA,
        Before::Wanted,
        &[],
        &[Code::SearchSpent, Code::Searching, Code::Direct],
    ),
    fault(
        "mtu-hole",
        "long packets begin to vanish",
        ROUTED,
        Before::Passing,
        &[Step::Cable("a", Duration::ZERO, 0.0, Some(1200))],
        &[Code::MtuHole],
    ),
    fault(
        "mtu-small",
        "a's provider takes 1200 bytes, and says so",
        NARROW,
        Before::Wanted,
        &[],
        &[Code::MtuSmall],
    ),
    fault(
        "lossy",
        "a tenth of a's packets is lost",
        ROUTED,
        Before::Passing,
        &[Step::Cable("a", Duration::ZERO, 0.1, None)],
        &[Code::Lossy],
    ),
    fault("slow", "300 ms each way", SLOW, Before::Wanted, &[], &[Code::Slow]),
    fault(
        "unsteady",
        "a's outside address changes again and again",
        HOME_OPEN,
        Before::Passing,
        &[Step::KeepReaddressing("a")],
        &[Code::Unsteady],
    ),
    fault(
        "topology-forbids",
        "the operator forbids the link",
        OPEN,
        Before::Members,
        &[Step::Topology(
            "name = \"lab\"\nshape = \"custom\"\n[hosts]\nf = \"{founder}\"\na = \"{a}\"\nb = \"{b}\"\n[[link]]\nbetween = [\"f\", \"a\"]\nrule = \"allowed\"\n[[link]]\nbetween = [\"f\", \"b\"]\nrule = \"allowed\"\n",
        )],
        &[Code::TopologyForbids],
    ),
    fault(
        "topology-routes",
        "the operator leads everything over the founder",
        HUB,
        Before::Members,
        &[Step::Topology(
            "name = \"lab\"\nshape = \"star\"\nhubs = [\"f\"]\n[hosts]\nf = \"{founder}\"\na = \"{a}\"\nb = \"{b}\"\n",
        )],
        &[Code::TopologyRoutes],
    ),
    fault(
        "asymmetric-in",
        "on the way, UDP from b to a is lost; all else passes",
        ROUTED,
        Before::Members,
        &[Step::Firewall("a", &["deny in udp with {b}"])],
        &[Code::OneWayIn],
    ),
    fault(
        "asymmetric-out",
        "on the way, UDP from a to b is lost; all else passes",
        ROUTED,
        Before::Members,
        &[Step::Firewall("a", &["deny out udp with {b}"])],
        &[Code::OneWayOut],
    ),
    fault(
        "data-port-there",
        "b's firewall drops its data port, other UDP passes",
        ROUTED,
        Before::Members,
        &[Step::Firewall("b", DATA_CLOSED)],
        &[Code::DataPortBlocked],
    ),
    fault(
        "between-closed",
        "nothing passes between a and b; both reach all others",
        ROUTED,
        Before::Members,
        &[Step::Firewall("a", &["deny out with {b}", "deny in with {b}"])],
        &[Code::DataPortBlocked],
    ),
    Fault {
        ask: Ask::Founder,
        ..fault(
            "expired-ticket",
            "a's ticket has ended before it could be used",
            OPEN,
            Before::Nothing,
            &[Step::LateNewcomer("a")],
            &[Code::Expired],
        )
    },
    fault(
        "not-a-member",
        "a has a ticket, and nobody is there who would let it in",
        OPEN,
        Before::Nothing,
        &[Step::Newcomer("a")],
        &[Code::NotAMember],
    ),
    Fault {
        ask: Ask::Founder,
        ..fault(
            "inviter-gone",
            "a has a ticket, and is asked about the inviter, whose node does not run",
            OPEN,
            Before::Nothing,
            &[Step::Newcomer("a")],
            &[Code::NodeNotRunning],
        )
    },
    fault(
        "certificate-ended",
        "b's certificate has ended",
        OPEN,
        Before::Passing,
        &[Step::Tampered("b", Tamper::Ended)],
        &[Code::Expired],
    ),
    fault(
        "clock-wrong",
        "b's certificate is dated an hour ahead, as by a wrong clock",
        OPEN,
        Before::Passing,
        &[Step::Tampered("b", Tamper::Ahead)],
        &[Code::ClockWrong],
    ),
    fault(
        "other-overlay",
        "b has lost its state, kept its key, and founded an overlay of its own",
        OPEN,
        Before::Passing,
        &[Step::Tampered("b", Tamper::NoStore)],
        &[Code::OtherOverlay],
    ),
    fault(
        "wrong-key",
        "the overlay's secret in b's state is another one",
        OPEN,
        Before::Passing,
        &[Step::Tampered("b", Tamper::OtherSecret)],
        &[Code::WrongKey],
    ),
    fault(
        "relays-full",
        "two symmetric NATs, and a relay that serves as many as its owner allows",
        SYMMETRIC_FULL,
        Before::Members,
        &[Step::Talking("c", "d")],
        &[Code::RelaysFull],
    ),
    fault(
        "relays-refuse",
        "two symmetric NATs, and the operator lets the relay relay for nobody",
        SYMMETRIC,
        Before::Members,
        &[Step::Topology(
            "name = \"lab\"\nshape = \"mesh\"\n[hosts]\nr = \"{relay}\"\n[roles]\nno-transit = [\"r\"]\n",
        )],
        &[Code::RelaysRefuse],
    ),
    fault(
        "two-members",
        "two homes, and no third member runs any more",
        HOMES,
        Before::Nothing,
        &[Step::Heard("a", "b"), Step::KillNode("other"), Step::KillNode("founder")],
        &[Code::Isolated],
    ),
    Fault {
        beside: &[Code::DnsGone],
        ..fault(
            "dns-gone",
            "a's resolver does not answer",
            OPEN,
            Before::Passing,
            &[Step::ResolverGone("a")],
            &[Code::Direct],
        )
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use consort_lab::case::Case;
    use consort_lab::firewall::Rules;

    use super::*;

    #[test]
    fn there_are_thirty_faults_and_each_makes_sense() {
        let names: BTreeSet<&str> = ALL.iter().map(|fault| fault.name).collect();
        assert!(names.len() == ALL.len() && names.len() >= 30, "{} names", names.len());
        for fault in ALL {
            let case = Case::parse(fault.case).unwrap_or_else(|faults| panic!("{}: {faults:?}", fault.name));
            for host in ["founder", "a", "b"] {
                assert!(case.hosts.iter().any(|found| found.name == host), "{}: no {host}", fault.name);
            }
            for step in fault.steps {
                if let Step::Firewall(_, rules) = step {
                    let rules: Vec<String> = rules
                        .iter()
                        .map(|rule| rule.replace("{a}", "192.0.2.1").replace("{b}", "192.0.2.2"))
                        .collect();
                    Rules::parse(rules.iter().map(String::as_str)).unwrap();
                }
            }
            assert!(!fault.codes.is_empty());
        }
    }
}
