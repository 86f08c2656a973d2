//! Whether the other is there, and may be reached at all.

use super::Rule;
use super::holds::{
    any_control, control_failed, dead, detour, failure, families_differ, far, nothing_known, tried_in_vain,
};
use crate::why::Code;
use crate::why::facts::{ControlFailure, Path, Standing, TopologyFact};

pub(super) const RULES: &[Rule] = &[
    Rule {
        code: Code::HostUnknown,
        holds: |facts| dead(facts) && nothing_known(facts) && facts.near.standing != Standing::NotYet,
        cause: "nothing is known of {far}: no record, no address",
        remedy: "check the name (`consort members` lists whom {near} knows); if it is right, {far} has not been in reach for {record_life} minutes",
    },
    Rule {
        code: Code::NoRoute,
        holds: |facts| dead(facts) && failure(&facts.near) == Some(ControlFailure::NetworkUnreachable),
        cause: "{near} has no way to any address of {far}: its system refuses to send there",
        remedy: "check the routes of {near} (`ip route`: is there a default route?), or give {far} an address that {near} can reach",
    },
    Rule {
        code: Code::Isolated,
        holds: |facts| {
            let alone = facts.near.members_connected == 0 && tried_in_vain(&facts.near);
            dead(facts)
                && control_failed(&facts.near)
                && (facts.near.others_answer == Some(false) || alone && facts.near.others_answer.is_none())
        },
        cause: "no member at all answers {near}: not only {far} is out of reach",
        remedy: "check the network and firewall of {near}: TCP and UDP must get out to the members' control ports (`consort peers` lists them)",
    },
    Rule {
        code: Code::FamiliesDiffer,
        holds: |facts| detour(facts) && far(facts, |far| families_differ(&facts.near, far)),
        cause: "one of the two has only IPv4 and the other only IPv6, so nothing can go between them directly",
        remedy: "a member with both that relays (`[data] relay = true`) joins them; or give one of the two the other family",
    },
    Rule {
        code: Code::NodeNotRunning,
        holds: |facts| dead(facts) && failure(&facts.near) == Some(ControlFailure::ConnectionRefused),
        cause: "the computer of {far} answers, but no node listens at its address",
        remedy: "start `consort node` on {far}; if it runs, it listens elsewhere than its record says",
    },
    Rule {
        code: Code::ConnectionsFull,
        holds: |facts| dead(facts) && any_control(facts, ControlFailure::Full),
        cause: "one of the two has as many connections as it allows",
        remedy: "wait: unused connections close by themselves; if it stays so, ask its owner",
    },
    Rule {
        code: Code::HostSilent,
        holds: |facts| {
            dead(facts)
                && facts.far.is_none()
                && matches!(failure(&facts.near), Some(ControlFailure::NoAnswer | ControlFailure::Lost))
                && facts.near.others_answer != Some(false)
        },
        cause: "nothing of {far} answers, neither its control port nor its data port{record}",
        remedy: "see whether {far} is on and has a network, and whether its firewall lets TCP and UDP to its ports in",
    },
    Rule {
        code: Code::NotAMember,
        holds: |facts| facts.near.standing == Standing::NotYet,
        cause: "{near} belongs to no overlay yet",
        remedy: "get a ticket with `consort invite` on a member, and give it to `consort join` on {near}",
    },
    Rule {
        code: Code::TopologyForbids,
        holds: |facts| dead(facts) && facts.near.topology == TopologyFact::NoRoute,
        cause: "the operator's topology forbids a link between {near} and {far}, and leads no other way",
        remedy: "see `consort topology show`; the operator can allow the link or a route with `consort topology apply`",
    },
    Rule {
        code: Code::TopologyRoutes,
        holds: |facts| {
            detour(facts)
                && matches!(facts.near.topology, TopologyFact::Routed(_))
                && facts.path() != Path::None
        },
        cause: "the operator's topology leads from {near} to {far} over other hosts, so the link is not direct",
        remedy: "nothing is wrong; `consort topology show` shows the way, and the operator can change it",
    },
];
