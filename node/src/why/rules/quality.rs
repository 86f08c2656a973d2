//! A link that stands and is not as good as it could be.

use super::Rule;
use super::holds::{control_failed, failure, far, lossy, roamed};
use crate::why::Code;
use crate::why::facts::{ControlFailure, Path};

/// A round trip worth a word: around the world and back is below it.
const SLOW_MICROS: u64 = 400_000;

/// Datagrams below it do not take a whole IPv6 packet of the least size (1280 less IPv6 and UDP).
const DATAGRAM_SMALL: u16 = 1_232;

/// Changes of address worth a word, if they come quicker than one in [`UNSTEADY_S`].
const ROAMED: u32 = 5;

/// See [`ROAMED`]: a walking person's phone changes less often.
const UNSTEADY_S: u64 = 60;

pub(super) const RULES: &[Rule] = &[
    Rule {
        code: Code::GrantRefused,
        holds: |facts| facts.near.link.up && facts.near.link.grants_refused > 0,
        cause: "the link stands, but {far} does not let {near} into {grants} of their networks: it holds no grant of the slice's stewards for it, or an old one",
        remedy: "see `consort slice show` on both; a slice's own record renews grants within seconds",
    },
    Rule {
        code: Code::ControlBlocked,
        holds: |facts| {
            facts.near.link.up
                && control_failed(&facts.near)
                && failure(&facts.near) != Some(ControlFailure::NotTried)
        },
        cause: "the link of the data plane stands, but the control plane gets no connection: its port is blocked or its address wrong",
        remedy: "allow TCP and UDP to the control port of {far}",
    },
    Rule {
        code: Code::MtuHole,
        holds: |facts| {
            facts.near.link.up
                && (facts.near.link.black_holes > 0 || far(facts, |far| far.link.black_holes > 0))
        },
        cause: "the path has become narrower without anybody saying so (messages about it are eaten on the way); it was found by probes, and frames are cut to {datagram} bytes",
        remedy: "nothing has to be done; for full speed let ICMP \"packet too big\" through, or lower the MTU of the narrow link's neighbour",
    },
    Rule {
        code: Code::MtuSmall,
        holds: |facts| facts.near.link.up && (1..DATAGRAM_SMALL).contains(&facts.near.link.datagram_bytes),
        cause: "the path takes only datagrams of {datagram} bytes; larger frames are cut and joined",
        remedy: "nothing has to be done; a wider path is faster",
    },
    // Before loss: at each change some datagrams go to where nobody is any more.
    Rule {
        code: Code::Unsteady,
        holds: |facts| {
            let link = &facts.near.link;
            let (times, _) = roamed(facts);
            link.up
                && times >= ROAMED
                && link.session_seconds.is_some_and(|age| age < u64::from(times) * UNSTEADY_S)
        },
        cause: "the address of {mover} changes again and again ({roamed} times): its NAT forgets quickly, or it moves between networks",
        remedy: "raise the UDP timeout of the router of {mover} (RFC 4787 wants two minutes), or open a port for it",
    },
    Rule {
        code: Code::Overrun,
        holds: |facts| {
            facts.near.link.up
                && lossy(facts)
                && (facts.near.receive_drops > 0 || far(facts, |far| far.receive_drops > 0))
        },
        cause: "a computer does not keep up with the datagrams that arrive: its system has dropped some",
        remedy: "raise net.core.rmem_max to 8 MiB or more there, or give its node more CPUs (`[data] workers`)",
    },
    Rule {
        code: Code::Lossy,
        holds: |facts| facts.near.link.up && lossy(facts),
        cause: "{loss} % of the datagrams between {near} and {far} are lost on the way",
        remedy: "look at the radio or the line between them; if it is a relay, at its rate cap",
    },
    Rule {
        code: Code::Slow,
        holds: |facts| {
            facts.near.link.up && facts.near.link.round_trip_micros.is_some_and(|micros| micros > SLOW_MICROS)
        },
        cause: "the way to {far} and back takes {rtt} ms",
        remedy: "a full queue before one of them is the usual cause: see what else loads its line",
    },
    Rule {
        code: Code::RelayedForNow,
        holds: |facts| facts.near.link.up && matches!(facts.path(), Path::Relay | Path::RelayStream),
        cause: "the link goes {detour}, though nothing that was measured forbids a direct path",
        remedy: "a direct path is tried again by itself; look again in a minute",
    },
];
