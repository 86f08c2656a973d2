//! Every pair of machines reaches each other over IPv4 and IPv6: each machine pings all others.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{GUEST, addresses, full_name};
use crate::control::api::Slice;
use crate::control::client::Client;
use crate::demo::exec::exec;
use crate::demo::report::Check;
use crate::failure::Failure;

const NAME: &str = "every pair, IPv4 and IPv6";
/// Machines that ping at once: each is a connection to the daemon, which takes 256.
const PINGING_MAX: usize = 64;
/// How long a machine goes on pinging what does not answer.
const PATIENCE_MS: &str = "20000";

/// Pings until all have answered.
pub(in crate::demo) async fn all_pairs(client: &Client, slice: &Slice) -> Result<Check, Failure> {
    let places = Arc::new(Semaphore::new(PINGING_MAX));
    let mut pinging = JoinSet::new();
    for machine in &slice.machines {
        let targets: Vec<String> =
            slice.machines.iter().filter(|other| other.name != machine.name).flat_map(addresses).collect();
        let (client, name, places) = (client.clone(), full_name(slice, machine), Arc::clone(&places));
        pinging.spawn(async move {
            let _place = places.acquire_owned().await.expect("never closed");
            ping(&client, &name, &targets).await.map(|missing| (targets.len(), missing))
        });
    }
    let (mut tried, mut missing) = (0, Vec::new());
    while let Some(done) = pinging.join_next().await {
        let (targets, silent) = done.map_err(|error| Failure::failed("demo", error.to_string()))??;
        tried += targets;
        missing.extend(silent);
    }
    let detail = match missing.first() {
        None => format!("{tried} of {tried} ways answered"),
        Some(first) => format!("{} of {tried} ways did not answer, {first} among them", missing.len()),
    };
    Ok(Check::promised(NAME, missing.is_empty(), detail, json!({ "tried": tried, "missing": missing })))
}

/// Which of the targets did not answer this machine.
async fn ping(client: &Client, machine: &str, targets: &[String]) -> Result<Vec<String>, Failure> {
    if targets.is_empty() {
        return Ok(Vec::new());
    }
    let mut argv = vec![GUEST, "ping", "--until-answer", "-i", "100", "-w", PATIENCE_MS, "--json"];
    argv.extend(targets.iter().map(String::as_str));
    let said = exec(client, machine, &argv).await?;
    let answer = said.json()?;
    let silent = answer["targets"].as_array().into_iter().flatten().filter(|target| target["received"] == 0);
    let silent = silent.map(|target| format!("{machine} to {}", target["address"].as_str().unwrap_or("?")));
    Ok(silent.collect())
}
