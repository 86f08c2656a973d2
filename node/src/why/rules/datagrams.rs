//! What stands before the data plane: firewalls, and the exchange of addresses.

use super::Rule;
use super::holds::{
    data_port_blocked, detour, failure, far, is_connected, locals_silent, one_hard, share_outside,
    tried_in_vain, udp_blocked,
};
use crate::why::Code;
use crate::why::facts::{ControlFailure, Facts, Meeting, Nat, Path, Side, TopologyFact};

pub(super) const RULES: &[Rule] = &[
    Rule {
        code: Code::OneWayIn,
        holds: |facts| {
            detour(facts)
                && far(facts, |far| far.link.heard && !facts.near.link.heard)
                && tried_in_vain(&facts.near)
        },
        cause: "what {near} sends arrives at {far}, but nothing of what {far} sends arrives at {near}",
        remedy: "look at the firewalls before {near} and on the way: answers to its own UDP datagrams must come in (stateful), from the address they were sent to",
    },
    Rule {
        code: Code::OneWayOut,
        holds: |facts| {
            detour(facts) && far(facts, |far| !far.link.heard && facts.near.link.heard && tried_in_vain(far))
        },
        cause: "what {far} sends arrives at {near}, but nothing of what {near} sends arrives at {far}",
        remedy: "look at the firewalls before {far} and on the way: answers to its own UDP datagrams must come in (stateful), from the address they were sent to",
    },
    Rule {
        code: Code::UdpBlockedBoth,
        holds: |facts| detour(facts) && udp_blocked(&facts.near) && far(facts, udp_blocked),
        cause: "UDP does not pass at {near} nor at {far}: no member's datagram comes back to either",
        remedy: "allow outgoing UDP in both firewalls; until then the link goes inside the control plane, slower",
    },
    Rule {
        code: Code::UdpBlockedHere,
        holds: |facts| detour(facts) && udp_blocked(&facts.near),
        cause: "UDP does not pass at {near}: no member's datagram comes back to it",
        remedy: "allow outgoing UDP in the firewall of {near}; until then the link goes inside the control plane, slower",
    },
    Rule {
        code: Code::UdpBlockedThere,
        holds: |facts| detour(facts) && far(facts, udp_blocked),
        cause: "UDP does not pass at {far}: no member's datagram comes back to it",
        remedy: "allow outgoing UDP in the firewall of {far}; until then the link goes inside the control plane, slower",
    },
    Rule {
        code: Code::NoHairpin,
        holds: |facts| {
            detour(facts) && far(facts, |far| share_outside(&facts.near, far)) && locals_silent(&facts.near)
        },
        cause: "{near} and {far} share one outside address, but do not reach each other inside: their network keeps its hosts apart, and its NAT does not send their datagrams back in",
        remedy: "switch off client isolation between the two, or hairpin translation on in their router",
    },
    Rule {
        code: Code::MeetTooOften,
        holds: |facts| detour(facts) && facts.near.meeting == Meeting::TooOften,
        cause: "{far} has been asked for its addresses more often than it allows",
        remedy: "wait a minute",
    },
    Rule {
        code: Code::MeetUnanswered,
        holds: |facts| {
            let is_mute = failure(&facts.near) == Some(ControlFailure::Unresponsive);
            detour(facts) && facts.far.is_none() && (facts.near.meeting == Meeting::Unanswered || is_mute)
        },
        cause: "{far} is there but does not answer what {near} asks it, so both cannot open their NATs at once",
        remedy: "see whether {far} is overloaded (`consort status` there); if its node hangs, restart it: its machines go on",
    },
    Rule {
        code: Code::DataPortBlocked,
        holds: |facts| {
            detour(facts)
                && is_connected(&facts.near)
                && facts.near.topology == TopologyFact::Allowed
                && (data_port_blocked(&facts.near)
                    || far(facts, data_port_blocked)
                    || no_datagram_passes(facts))
        },
        cause: "the control plane connects, but no datagram to or from the data ports passes between {near} and {far} in either direction",
        remedy: "allow UDP to the data port (that of the control plane plus one, unless configured) in the firewalls between them",
    },
    Rule {
        code: Code::Searching,
        holds: |facts| detour(facts) && one_hard(facts) && facts.near.link.searching,
        cause: "one NAT chooses another outside address for each destination, and the right port is being searched",
        remedy: "wait some seconds",
    },
];

/// Neither hears the other, though nothing before either would have to keep datagrams away.
fn no_datagram_passes(facts: &Facts) -> bool {
    let open = |side: &Side| matches!(side.nat, Nat::None | Nat::EndpointIndependent) || nobody_answers(side);
    far(facts, |far| !far.link.heard && open(far))
        && !facts.near.link.heard
        && tried_in_vain(&facts.near)
        && open(&facts.near)
}

/// Its data port never had an answer from anybody, though others than the far end are connected, some of them over UDP, and all else was tried before the stream.
/// Such a host knows no NAT, and of whom it would ask, each may take itself for blocked because this one does not answer.
fn nobody_answers(side: &Side) -> bool {
    side.nat == Nat::Unknown
        && side.observed.is_empty()
        && side.quic_somewhere
        && side.members_connected > 1
        && side.link.up
        && side.link.path == Path::RelayStream
}
