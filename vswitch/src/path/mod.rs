//! Paths: where a datagram to a peer is sent, found by probes, measured and chosen.

mod candidate;
mod local;
mod nat;
mod relayed;
mod view;

pub use candidate::{CANDIDATES_MAX, Candidate, CandidateKind, RELAYED_MAX, RelayedPath};
pub use local::LocalPaths;
pub use nat::{NatKind, NatView, PeerNat, PortPattern};
pub use relayed::{LEG_LIFE_MAX, RelayLeg, RelayPolicy, RelayRefusal, RelayTokens, TOKENS_MAX};
pub use view::{PathReason, PathResult, PathView, PathsSnapshot, PeerPaths, SearchSpent, TriedPath};
