//! Who the two are: clocks, memberships, identities, keys.

use super::Rule;
use super::holds::{any_control, clock_difference, dead, far, is_about_near};
use crate::why::Code;
use crate::why::facts::{CLOCK_DIFFERENCE_MAX_S, ControlFailure, Facts, Standing};

pub(super) const RULES: &[Rule] = &[
    Rule {
        code: Code::SameHost,
        holds: |facts| facts.same,
        cause: "both are one host: frames between its machines do not leave it",
        remedy: "",
    },
    Rule {
        code: Code::NoNetwork,
        holds: |facts| !facts.near.has_ipv4 && !facts.near.has_ipv6,
        cause: "{near} has no network: no address but its own",
        remedy: "connect {near} to a network (cable, wireless, or its address: `ip address` shows them)",
    },
    Rule {
        code: Code::ClockWrong,
        holds: clocks_differ,
        cause: "the clocks of {near} and {far} differ by {clock} s, more than two minutes: what the one signs is not valid yet for the other",
        remedy: "set both clocks, for example with an NTP client (`date` shows them)",
    },
    Rule {
        code: Code::ClockWrong,
        holds: |facts| any_control(facts, ControlFailure::FromTheFuture) && !clocks_differ(facts),
        cause: "the membership of {whose} is dated in the future: a clock is wrong here or there, or was when {whose} was let in",
        remedy: "set the clocks (`date` shows them), for example with an NTP client; if both are right, let {whose} join again with a new ticket",
    },
    Rule {
        code: Code::RevokedHere,
        holds: |facts| {
            facts.near.standing == Standing::Revoked
                || any_control(facts, ControlFailure::Revoked) && is_about_near(facts)
        },
        cause: "{near}, or whoever vouched for it, was put out of the overlay",
        remedy: "ask who runs the overlay; if it was a mistake, join again with a new ticket and a new state directory",
    },
    Rule {
        code: Code::RevokedThere,
        holds: |facts| {
            any_control(facts, ControlFailure::Revoked) && !is_about_near(facts)
                || far(facts, |far| far.standing == Standing::Revoked)
        },
        cause: "{far}, or whoever vouched for it, was put out of the overlay",
        remedy: "if that was a mistake, invite {far} again with a new ticket; it needs a new state directory",
    },
    Rule {
        code: Code::Expired,
        holds: |facts| any_control(facts, ControlFailure::Expired),
        cause: "the ticket or certificate of {whose} has ended",
        remedy: "make a new ticket with `consort invite` on a member, and give it to `consort join` on {whose}; if it is new already, a clock runs ahead",
    },
    Rule {
        code: Code::OtherOverlay,
        holds: |facts| any_control(facts, ControlFailure::OtherOverlay),
        cause: "{near} and {far} belong to different overlays",
        remedy: "compare `overlay` in `consort status` on both; join one of them to the other's, with a state directory of its own",
    },
    Rule {
        code: Code::MembershipForged,
        holds: |facts| any_control(facts, ControlFailure::Forged),
        cause: "the membership of {whose} does not hold: it is signed by nobody of this overlay, or made out to another host",
        remedy: "restore identity.key and state.redb of {whose} together, or let it join again with a new ticket",
    },
    Rule {
        code: Code::WrongIdentity,
        holds: |facts| any_control(facts, ControlFailure::WrongIdentity),
        cause: "another host answers at the address of {far}: the address was given to somebody else, or the state directory of {far} was replaced",
        remedy: "if {far} has moved, start its node there and it will be found; if its identity is lost, revoke the old one (`consort revoke`)",
    },
    Rule {
        code: Code::VersionDiffers,
        holds: |facts| any_control(facts, ControlFailure::Version),
        cause: "what answers at the address of {far} does not speak this version of consort",
        remedy: "run the same version on both (`consort status` shows it), and see that no other program has the port",
    },
    Rule {
        code: Code::WrongKey,
        holds: |facts| dead(facts) && (facts.near.link.key_refused || far(facts, |far| far.link.key_refused)),
        cause: "the two cannot open each other's datagrams: a key or the overlay's secret on one of them is not the one it was let in with",
        remedy: "restart the node whose state directory was changed or restored; if that does not help, let it join again with a new ticket",
    },
];

fn clocks_differ(facts: &Facts) -> bool {
    clock_difference(facts) > CLOCK_DIFFERENCE_MAX_S
}
