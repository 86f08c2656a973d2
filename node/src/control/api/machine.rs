//! Machines, and what is done in them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::slice::Interface;

/// A machine of one of this node's slices, or one that runs here.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Machine {
    /// Its name in its slice.
    pub name: String,
    /// Its slice's name, or id where this node only hosts it.
    pub slice: String,
    /// Where it runs.
    pub host: String,
    /// Whether that is this host.
    pub here: bool,
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

/// One machine with what only its host knows.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct MachineDetail {
    /// What every node of the slice knows.
    #[serde(flatten)]
    pub machine: Machine,
    /// Each limit, and how it is enforced or why not; only where the machine is here.
    #[serde(default)]
    pub limits: std::collections::BTreeMap<String, String>,
}

/// A command to run in a machine.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ExecBody {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Added to its environment.
    #[serde(default)]
    pub env: Vec<(String, String)>,
    /// The terminal it gets, if any.
    #[serde(default)]
    pub tty: Option<TerminalSize>,
}

/// The size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}
