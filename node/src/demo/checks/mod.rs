//! What the demo shows, one file for each thing. A check asks machines and daemons, and says what it saw; it changes nothing that a later
//! one needs, except [`host_loss`], which comes last.

pub(super) mod file;
pub(super) mod frames;
pub(super) mod host_loss;
pub(super) mod idle;
pub(super) mod neighbours;
pub(super) mod reach;
pub(super) mod throughput;
pub(super) mod underlay;

use crate::control::api::{Slice, SliceMachine};

/// The guest program, as machines of the mini image know it.
const GUEST: &str = "/consort/guest";

/// The name by which the API finds a machine, whatever other slices there are.
fn full_name(slice: &Slice, machine: &SliceMachine) -> String {
    format!("{}.{}", machine.name, slice.name)
}

/// Two machines on different hosts, or on one if there is but one.
fn distant_pair(slice: &Slice) -> Option<(&SliceMachine, &SliceMachine)> {
    let first = slice.machines.first()?;
    let other = slice.machines.iter().find(|machine| machine.host != first.host);
    Some((first, other.or_else(|| slice.machines.get(1))?))
}

/// A machine's first address of each IP version, without prefix lengths.
fn addresses(machine: &SliceMachine) -> Vec<String> {
    let bare = |address: &String| address.split('/').next().unwrap_or_default().to_owned();
    machine
        .interfaces
        .iter()
        .flat_map(|interface| [interface.ipv4.as_ref(), interface.ipv6.as_ref()])
        .flatten()
        .map(bare)
        .collect()
}

/// As it stands in a URL, or before a port.
fn bracketed(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}

/// "from worker-0 to worker-1, on different hosts".
fn between(from: &SliceMachine, to: &SliceMachine) -> String {
    let hosts = if from.host == to.host { "on one host" } else { "on different hosts" };
    format!("from {} to {}, {hosts}", from.name, to.name)
}

/// A figure of a command's JSON answer.
fn figure(answer: &serde_json::Value, path: &str) -> f64 {
    answer.pointer(path).and_then(serde_json::Value::as_f64).unwrap_or(f64::NAN)
}
