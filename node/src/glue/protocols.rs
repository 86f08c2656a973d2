//! What nodes ask each other, by name, with the limits the overlay enforces on each.

use consort_overlay::{Rate, RpcProtocol};
use consort_scheduler::limits::MESSAGE_BYTES_MAX;

use super::standalone::message;
use super::{adapting, describe, meet, progress, relay, traffic};

/// Messages between the schedulers' engines. One way: the answer is empty and only says that the message came.
pub const SCHEDULER: &str = "scheduler/1";

/// A host's description of itself, for who has no record of it yet.
pub const DESCRIBE: &str = "describe/1";

/// How far a host is with its part of a slice.
pub const PROGRESS: &str = "progress/1";

/// What is known of networks by themselves: comparisons and news.
pub const NETWORKS: &str = "networks/1";

/// Where the two are, each to the other, so that both probe at once.
pub const MEET: &str = "meet/1";

/// Ways through other members.
pub const RELAY: &str = "relay/1";

/// Why the way between two hosts is as it is.
pub const WHY: &str = "why/1";

/// What a host's switch sends the others on a network.
pub const TRAFFIC: &str = "traffic/1";

/// A link that follows the traffic is wanted by one of its ends.
pub const ADAPT: &str = "adapt/1";

/// Streams of a link's datagrams, where UDP does not pass.
pub const DATAGRAMS: &str = "datagrams/1";

/// Streams to a machine: programs, console, log.
pub const MACHINE: &str = "machine/1";

/// The request protocols. A coordinator sends a host a handful of messages per slice and a steward's host a few per lease, so the
/// rates leave room for dozens of slices starting together and stop a flood.
#[must_use]
pub fn requests() -> Vec<RpcProtocol> {
    vec![
        RpcProtocol {
            name: SCHEDULER,
            request_bytes_max: MESSAGE_BYTES_MAX,
            response_bytes_max: 0,
            rate: Rate { per_second: 200, burst: 1_000 },
        },
        RpcProtocol {
            name: DESCRIBE,
            request_bytes_max: 0,
            response_bytes_max: describe::BYTES_MAX,
            rate: Rate { per_second: 2, burst: 20 },
        },
        RpcProtocol {
            name: PROGRESS,
            request_bytes_max: progress::REQUEST_BYTES,
            response_bytes_max: progress::RESPONSE_BYTES_MAX,
            rate: Rate { per_second: 50, burst: 200 },
        },
        // News waits 100 ms for more, so one host tells another ten times a second at the most; whoever joins compares a few times beside.
        RpcProtocol {
            name: NETWORKS,
            request_bytes_max: message::BYTES_MAX,
            response_bytes_max: message::BYTES_MAX,
            rate: Rate { per_second: 20, burst: 200 },
        },
        // A link that has no path asks some times in its first seconds and ever more seldom; each answer costs the asked host a dozen probes.
        RpcProtocol {
            name: MEET,
            request_bytes_max: meet::message::BYTES_MAX,
            response_bytes_max: meet::message::BYTES_MAX,
            rate: Rate { per_second: 1, burst: 20 },
        },
        // One for each leg of each way, when it is opened and every 40 s.
        RpcProtocol {
            name: RELAY,
            request_bytes_max: relay::message::BYTES_MAX,
            response_bytes_max: relay::message::BYTES_MAX,
            rate: Rate { per_second: 10, burst: 100 },
        },
        // A person asks.
        RpcProtocol {
            name: WHY,
            request_bytes_max: meet::facts::REQUEST_BYTES_MAX,
            response_bytes_max: meet::facts::RESPONSE_BYTES_MAX,
            rate: Rate { per_second: 2, burst: 20 },
        },
        // A person asks, or a program that looks once a second; each answer takes a second.
        RpcProtocol {
            name: TRAFFIC,
            request_bytes_max: traffic::REQUEST_BYTES,
            response_bytes_max: traffic::RESPONSE_BYTES_MAX,
            rate: Rate { per_second: 2, burst: 20 },
        },
        // A pair's link is tried every ten seconds at the most.
        RpcProtocol {
            name: ADAPT,
            request_bytes_max: adapting::MESSAGE_BYTES,
            response_bytes_max: adapting::MESSAGE_BYTES,
            rate: Rate { per_second: 1, burst: 10 },
        },
    ]
}

/// The stream protocols.
#[must_use]
pub fn streams() -> Vec<&'static str> {
    vec![MACHINE, DATAGRAMS]
}
