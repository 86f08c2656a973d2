//! The bodies of the API, by concern. Names follow the contract (design.md section 8); times are in milliseconds, sizes in bytes.

mod error;
mod machine;
mod net;
mod node;
mod slice;
mod topology;

pub use error::{ErrorBody, status_of};
pub use machine::{ExecBody, Machine, MachineDetail, TerminalSize};
pub use net::{
    DeviceCounters, NetCreateBody, NetJoinBody, Network, NetworkDevice, NetworkHost, NetworkMember,
    StandaloneNetwork, Traffic, TrafficHost,
};
pub use node::{
    InviteBody, JoinBody, Joined, Link, Member, Observed, Peer, Reach, RevokeBody, Revoked, SearchCost,
    ShareStatus, Status, Ticket,
};
pub use slice::{
    Advice, Event, ExtendBody, Interface, Plan, PlannedMachine, Refusal, Slice, SliceBody, SliceMachine,
    Timings,
};
pub use topology::{Operators, RefusedTopology, TopologyBody, TopologyPlan, TopologyState};

/// The word in `Upgrade:` for the streams of `exec` and `console`.
pub const STREAM_UPGRADE: &str = "consort-stream";
