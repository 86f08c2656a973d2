//! The topology.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::topology::changes::Changes;
use crate::topology::show::{RouteView, View};

/// The topology that holds.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TopologyState {
    /// Its number; absent: no operator has said anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The key that signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
    /// When, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_unix_s: Option<u64>,
    /// The file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Hosts, links, routes and adaptation.
    #[schema(value_type = Object)]
    pub view: View,
    /// The ways over others that this node uses now.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    pub ways: Vec<RouteView>,
    /// Members that reach nobody by it.
    pub cut_off: Vec<String>,
    /// The last document that this node was offered and did not take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<RefusedTopology>,
}

/// A document that was not taken.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RefusedTopology {
    /// Its number.
    pub version: u64,
    /// The host that offered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Why it was not taken.
    pub reason: String,
}

/// A topology file to plan or apply.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TopologyBody {
    /// The file's text.
    pub file: String,
    /// Apply it although members could reach nobody.
    #[serde(default)]
    pub force: bool,
}

/// What a file changes.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TopologyPlan {
    /// The number of what holds now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_version: Option<u64>,
    /// The number the file would have.
    pub to_version: u64,
    /// Whether it holds now.
    pub applied: bool,
    /// What changes.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub changes: Changes,
}

/// Who may apply a topology beside the founder of the overlay.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Operators {
    /// Their host ids.
    pub operators: Vec<String>,
}
