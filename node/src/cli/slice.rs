//! `slice plan|create|ls|show|events|extend|rm`.

use std::path::PathBuf;
use std::time::Duration;

use super::output::{Output, or_dash, table};
use super::overlay::{duration_argument, milliseconds};
use super::read_slice_file;
use crate::config::args::{ExtendArgs, SliceCreate};
use consort_scheduler::units::cpus_text;

use crate::config::units::{show_duration, show_size};
use crate::control::api::{Event, ExtendBody, Plan, Slice, SliceBody};
use crate::control::client::{Client, segment};
use crate::failure::{Exit, Failure};

pub(super) async fn plan(client: &Client, file: &PathBuf, output: Output) -> Result<Exit, Failure> {
    let body = SliceBody { file: read_slice_file(file)?, wait: false };
    let plan: Plan = client.post("/v1/plan", &body).await?;
    output.document(&plan, show_plan)?;
    Ok(if plan.fits { Exit::Done } else { Exit::Refused })
}

fn show_plan(plan: &Plan) -> String {
    let mut text = format!(
        "{}; {} hosts asked, {} refused\n",
        if plan.fits { "it fits" } else { "it does not fit" },
        plan.asked.len(),
        plan.refusals.len()
    );
    if !plan.machines.is_empty() {
        let rows: Vec<[String; 5]> = plan
            .machines
            .iter()
            .map(|machine| {
                [
                    machine.name.clone(),
                    machine.host.clone(),
                    cpus_text(machine.cpus_milli),
                    show_size(machine.memory_bytes),
                    show_size(machine.disk_bytes),
                ]
            })
            .collect();
        text.push_str(&table(["MACHINE", "HOST", "CPUS", "MEMORY", "DISK"], &rows));
    }
    for refusal in &plan.refusals {
        text.push_str(&format!("refused by {}: {} ({})\n", refusal.host, refusal.message, refusal.code));
    }
    for advice in &plan.would_fit {
        text.push_str(&format!(
            "it would fit with {} {} instead of {}\n",
            advice.field, advice.to, advice.from
        ));
    }
    text
}

pub(super) async fn create(client: &Client, args: &SliceCreate, output: Output) -> Result<Exit, Failure> {
    let body = SliceBody { file: read_slice_file(&args.file)?, wait: args.wait };
    let slice: Slice = client.post("/v1/slices", &body).await?;
    output.document(&slice, show_slice)?;
    Ok(Exit::Done)
}

pub(super) async fn list(client: &Client, output: Output) -> Result<Exit, Failure> {
    let slices: Vec<Slice> = client.get("/v1/slices").await?;
    output.document(&slices, |slices| {
        let rows: Vec<[String; 4]> = slices
            .iter()
            .map(|slice| {
                [
                    slice.name.clone(),
                    slice.state.clone(),
                    slice.machines.len().to_string(),
                    or_dash(slice.expires_in_ms.map(|ms| show_duration(Duration::from_millis(ms)))),
                ]
            })
            .collect();
        table(["SLICE", "STATE", "MACHINES", "LEFT"], &rows)
    })?;
    Ok(Exit::Done)
}

pub(super) async fn show(client: &Client, name: &str, output: Output) -> Result<Exit, Failure> {
    let slice: Slice = client.get(&format!("/v1/slices/{}", segment(name))).await?;
    output.document(&slice, show_slice)?;
    Ok(Exit::Done)
}

fn show_slice(slice: &Slice) -> String {
    let reason = slice.reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
    let left = slice
        .expires_in_ms
        .map_or(String::new(), |ms| format!(", {} left", show_duration(Duration::from_millis(ms))));
    let mut text = format!("{} {}: {}{reason}{left}\n", slice.name, slice.id, slice.state);
    let rows: Vec<[String; 5]> = slice
        .machines
        .iter()
        .map(|machine| {
            let addresses: Vec<&str> = machine
                .interfaces
                .iter()
                .flat_map(|interface| [interface.ipv4.as_deref(), interface.ipv6.as_deref()])
                .flatten()
                .collect();
            let state = match &machine.reason {
                Some(reason) => format!("{} ({reason})", machine.state),
                None => machine.state.clone(),
            };
            [machine.name.clone(), state, machine.category.clone(), addresses.join(" "), machine.host.clone()]
        })
        .collect();
    text.push_str(&table(["MACHINE", "STATE", "CATEGORY", "ADDRESSES", "HOST"], &rows));
    let timings = [
        ("placed", slice.timings.placed_ms),
        ("staged", slice.timings.staged_ms),
        ("running", slice.timings.running_ms),
        ("reachable", slice.timings.reachable_ms),
    ];
    let known: Vec<String> =
        timings.iter().filter_map(|(step, ms)| ms.map(|ms| format!("{step} after {ms} ms"))).collect();
    if !known.is_empty() {
        text.push_str(&format!("{}\n", known.join(", ")));
    }
    text
}

pub(super) async fn events(client: &Client, name: &str, output: Output) -> Result<Exit, Failure> {
    let events: Vec<Event> = client.get(&format!("/v1/slices/{}/events", segment(name))).await?;
    if output.json {
        for event in &events {
            output.document(event, |_| String::new())?;
        }
        return Ok(Exit::Done);
    }
    output.document(&events, |events| {
        let rows: Vec<[String; 3]> = events
            .iter()
            .map(|event| {
                [
                    show_duration(Duration::from_millis(event.after_ms)),
                    event.what.clone(),
                    or_dash(event.host.as_ref()),
                ]
            })
            .collect();
        table(["AFTER", "WHAT", "HOST"], &rows)
    })?;
    Ok(Exit::Done)
}

pub(super) async fn extend(client: &Client, args: &ExtendArgs, output: Output) -> Result<Exit, Failure> {
    let body = ExtendBody { by_ms: milliseconds(duration_argument("--by", &args.by)?) };
    let slice: Slice = client.post(&format!("/v1/slices/{}/extend", segment(&args.name)), &body).await?;
    output.document(&slice, show_slice)?;
    Ok(Exit::Done)
}

pub(super) async fn remove(client: &Client, name: &str, output: Output) -> Result<Exit, Failure> {
    let slice: Slice = client.delete(&format!("/v1/slices/{}", segment(name))).await?;
    output.document(&slice, |slice| format!("{} is {}", slice.name, slice.state))?;
    Ok(Exit::Done)
}
