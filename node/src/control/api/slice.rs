//! Slices: asked for, planned, granted.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A slice file, to be planned or created.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SliceBody {
    /// The file's text (TOML).
    pub file: String,
    /// Answer only when every machine runs and can be reached.
    #[serde(default)]
    pub wait: bool,
}

/// More time for a slice.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ExtendBody {
    /// How much longer.
    pub by_ms: u64,
}

/// A slice.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Slice {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// `forming`, `active`, `ended` or `aborted`.
    pub state: String,
    /// Why it is in that state, where there is more to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The tenant's key.
    pub tenant: String,
    /// Until its term ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in_ms: Option<u64>,
    /// The hosts that keep its record.
    pub stewards: Vec<String>,
    /// Its machines.
    pub machines: Vec<SliceMachine>,
    /// How long each step took, from the request.
    pub timings: Timings,
}

/// A machine of a slice.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SliceMachine {
    /// Its name in the slice.
    pub name: String,
    /// Where it runs.
    pub host: String,
    /// `sandbox` or `vm`.
    pub category: String,
    /// What is known of its state.
    pub state: String,
    /// Why, where there is more to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its interfaces.
    pub interfaces: Vec<Interface>,
}

/// An interface of a machine.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Interface {
    /// The network it is on.
    pub network: String,
    /// Its MAC address.
    pub mac: String,
    /// Its IPv4 address.
    pub ipv4: Option<String>,
    /// Its IPv6 address.
    pub ipv6: Option<String>,
}

/// How long each step took, from the request; none where it has not come to pass or was not seen by this node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Timings {
    /// Every machine has its host, and the record says so.
    pub placed_ms: Option<u64>,
    /// Every machine has its image and its interfaces.
    pub staged_ms: Option<u64>,
    /// Every machine runs.
    pub running_ms: Option<u64>,
    /// Every machine has said it is ready, and its host has its links.
    pub reachable_ms: Option<u64>,
}

/// What would be granted, without reserving anything.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Plan {
    /// Whether the slice would be granted.
    pub fits: bool,
    /// Whether less than the most that was asked for was found.
    pub shrunk: bool,
    /// Why it was refused as a whole, where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where its machines would go.
    pub machines: Vec<PlannedMachine>,
    /// The hosts that were asked.
    pub asked: Vec<String>,
    /// Who refused, and why.
    pub refusals: Vec<Refusal>,
    /// Changes of one field that would make it fit, the smallest first; empty when it fits.
    pub would_fit: Vec<Advice>,
}

/// Where a machine would go, and with what.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PlannedMachine {
    /// Its name in the slice.
    pub name: String,
    /// Its host.
    pub host: String,
    /// `sandbox` or `vm`.
    pub category: String,
    /// Thousandths of a CPU.
    pub cpus_milli: u64,
    /// Memory.
    pub memory_bytes: u64,
    /// Disk.
    pub disk_bytes: u64,
}

/// A host that refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Refusal {
    /// The host.
    pub host: String,
    /// A short stable word.
    pub code: String,
    /// One sentence.
    pub message: String,
}

/// A change of the slice file that would make it fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Advice {
    /// The field, as in the file.
    pub field: String,
    /// What stands there.
    pub from: String,
    /// What would fit.
    pub to: String,
}

/// Something that happened to a slice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// The version of the slice's record that it made.
    pub version: u64,
    /// How long after the slice began.
    pub after_ms: u64,
    /// What happened.
    pub what: String,
    /// The host it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}
