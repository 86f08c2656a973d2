//! NATs that let nothing through, and relays.

use super::Rule;
use super::holds::{any_relay, detour, far, needs_relay, one_hard, unrelayed, waiting, wanted};
use crate::why::Code;
use crate::why::facts::{Nat, RelayOutcome};

pub(super) const RULES: &[Rule] = &[
    Rule {
        code: Code::RelaySilent,
        holds: |facts| unrelayed(facts) && wanted(facts) && any_relay(facts, RelayOutcome::Silent),
        cause: "there is no direct path, and nothing comes through the relays that gave a leg",
        remedy: "see the relays' own state with `consort why RELAY`; another one is tried by itself",
    },
    Rule {
        code: Code::RelaysFull,
        holds: |facts| unrelayed(facts) && wanted(facts) && any_relay(facts, RelayOutcome::Full),
        cause: "there is no direct path, and every relay in reach carries as much as its owner allows",
        remedy: "raise the caps (`[data] relay`) of one of them, or let another member relay (`[data] relay = true`)",
    },
    Rule {
        code: Code::RelaysRefuse,
        holds: |facts| unrelayed(facts) && wanted(facts) && any_relay(facts, RelayOutcome::Refused),
        cause: "there is no direct path, and the relays in reach do not relay for these two",
        remedy: "let a member that both reach relay (`[data] relay = true`), and see that the topology allows it",
    },
    Rule {
        code: Code::RelaysUnreachable,
        holds: |facts| unrelayed(facts) && wanted(facts) && any_relay(facts, RelayOutcome::Unreachable),
        cause: "there is no direct path, and no relay could be asked",
        remedy: "see with `consort peers` why the relays are out of reach",
    },
    Rule {
        code: Code::NoRelay,
        holds: |facts| {
            unrelayed(facts)
                && wanted(facts)
                && needs_relay(facts)
                && facts.near.relays_known == 0
                && !facts.near.link.searching
        },
        cause: "there is no direct path (the NATs of {near} and {far} do not let one through), and no member relays",
        remedy: "set `[data] relay = true` on a member with a reachable address",
    },
    Rule {
        code: Code::SymmetricBoth,
        holds: |facts| detour(facts) && facts.near.nat.is_hard() && far(facts, |far| far.nat.is_hard()),
        cause: "both NATs choose another outside address for each destination ({near}: {nat}; {far}: {nat_far}), so neither can tell the other where to send",
        remedy: "open a port for one of them: NAT-PMP or PCP in its router (the node asks by itself), or forward the data port by hand",
    },
    Rule {
        code: Code::SearchSpent,
        holds: |facts| detour(facts) && one_hard(facts) && facts.near.link.search_spent,
        cause: "one NAT chooses another outside address for each destination, and the search for it ended without success within its budget",
        remedy: "it is tried again by itself; a port opened in that router (NAT-PMP, PCP or by hand) makes it certain",
    },
    Rule {
        code: Code::NatUnknown,
        holds: |facts| {
            detour(facts)
                && facts.near.nat == Nat::Unknown
                && wanted(facts)
                && !facts.near.link.searching
                && !waiting(&facts.near)
        },
        cause: "{near} does not know yet how its NAT behaves: fewer than two members answered its probes",
        remedy: "wait some seconds; a second member with a public address helps",
    },
];
