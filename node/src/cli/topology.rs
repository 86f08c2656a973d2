//! `topology check|plan|apply|show|operators`.
//!
//! A file is checked here, before any daemon is asked: its faults are told all at once, each with its line and remedy.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;

use super::output::Output;
use crate::config::args::{OperatorsArgs, TopologyCommand};
use crate::control::api::{Operators, TopologyBody, TopologyPlan, TopologyState};
use crate::control::client::Client;
use crate::failure::{Exit, Failure};
use crate::topology::show::{View, changes_text, svg, text, view};
use crate::topology::{FILE_BYTES_MAX, Fault, Topology};

pub(super) async fn run(client: &Client, command: &TopologyCommand, output: Output) -> Result<Exit, Failure> {
    match command {
        TopologyCommand::Check(args) => match &args.file {
            Some(file) => check(file, output),
            None => check_held(client, output).await,
        },
        TopologyCommand::Plan(args) => {
            change(client, needed(args.file.as_deref())?, Step::Plan, output).await
        }
        TopologyCommand::Apply(args) => {
            let step = Step::Apply { force: args.force };
            change(client, needed(args.file.as_deref())?, step, output).await
        }
        TopologyCommand::Show(args) => show(client, args.file.as_deref(), args.svg, output).await,
        TopologyCommand::Operators(args) => operators(client, args, output).await,
    }
}

/// What a check found.
#[derive(Debug, Serialize)]
struct Checked<'a> {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    faults: &'a [Fault],
    cut_off: &'a [String],
}

fn check(file: &Path, output: Output) -> Result<Exit, Failure> {
    match read(file)? {
        (_, Err(faults)) => tell_faults(file, &faults, output),
        (_, Ok(topology)) => {
            let checked = Checked {
                ok: true,
                file: Some(file.display().to_string()),
                version: None,
                faults: &[],
                cut_off: &[],
            };
            output.document(&checked, |_| {
                format!(
                    "{}: in order, {} hosts, {}",
                    file.display(),
                    topology.hosts().len(),
                    topology.shape().name()
                )
            })?;
            Ok(Exit::Done)
        }
    }
}

/// What holds has passed its check; what may be wrong is that it does not fit those who are there.
async fn check_held(client: &Client, output: Output) -> Result<Exit, Failure> {
    let state: TopologyState = client.get("/v1/topology").await?;
    let ok = state.cut_off.is_empty();
    let checked = Checked { ok, file: None, version: state.version, faults: &[], cut_off: &state.cut_off };
    output.document(&checked, |_| {
        let mut said = match state.version {
            Some(version) => format!("version {version} holds and is in order\n"),
            None => "no topology holds: every two hosts may link\n".to_owned(),
        };
        for host in &state.cut_off {
            said.push_str(&format!("{host} is a member and can reach nobody\n"));
        }
        said
    })?;
    Ok(if ok { Exit::Done } else { Exit::Failed })
}

fn tell_faults(file: &Path, faults: &[Fault], output: Output) -> Result<Exit, Failure> {
    let name = file.display().to_string();
    let said = || faults.iter().map(|fault| format!("{name} {fault}\n")).collect::<String>();
    if output.json {
        eprint!("{}", said());
    }
    let checked = Checked { ok: false, file: Some(name.clone()), version: None, faults, cut_off: &[] };
    output.document(&checked, |_| said())?;
    Ok(Exit::Usage)
}

fn needed(file: Option<&Path>) -> Result<&Path, Failure> {
    file.ok_or_else(|| {
        Failure::input("no_file", "a topology file is needed").remedy("name it: consort topology apply FILE")
    })
}

/// A file's text, and what it means.
fn read(file: &Path) -> Result<(String, Result<Topology, Vec<Fault>>), Failure> {
    let cannot = |error: std::io::Error| {
        Failure::input("topology_file", format!("cannot read the topology file {}: {error}", file.display()))
            .remedy("check the path and its permissions")
    };
    let length = std::fs::metadata(file).map_err(cannot)?.len();
    if length > FILE_BYTES_MAX as u64 {
        let message = format!("{} has {length} bytes", file.display());
        return Err(Failure::input("topology_file", message).remedy(format!(
            "a topology file has at most {FILE_BYTES_MAX} bytes; patterns and attributes make it shorter"
        )));
    }
    let text = std::fs::read_to_string(file).map_err(cannot)?;
    let topology = Topology::parse(&text);
    Ok((text, topology))
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Plan,
    Apply { force: bool },
}

async fn change(client: &Client, file: &Path, step: Step, output: Output) -> Result<Exit, Failure> {
    let text = match read(file)? {
        (_, Err(faults)) => return tell_faults(file, &faults, output),
        (text, Ok(_)) => text,
    };
    let (path, force) = match step {
        Step::Plan => ("/v1/topology/plan", false),
        Step::Apply { force } => ("/v1/topology/apply", force),
    };
    let plan: TopologyPlan = client.post(path, &TopologyBody { file: text, force }).await?;
    output.document(&plan, |plan| {
        let from = plan
            .from_version
            .map_or_else(|| "no topology".to_owned(), |version| format!("version {version}"));
        let verb = if plan.applied { "holds from now on, instead of" } else { "would replace" };
        format!("version {} {verb} {from}\n{}", plan.to_version, changes_text(&plan.changes))
    })?;
    let refused = matches!(step, Step::Plan) && !plan.changes.cut_off.is_empty();
    Ok(if refused { Exit::Refused } else { Exit::Done })
}

/// What is shown of a file that nobody applied.
#[derive(Debug, Serialize)]
struct FileShown {
    file: String,
    view: View,
}

async fn show(client: &Client, file: Option<&Path>, as_svg: bool, output: Output) -> Result<Exit, Failure> {
    let Some(file) = file else {
        let state: TopologyState = client.get("/v1/topology").await?;
        if as_svg {
            return drawn(&state.view);
        }
        output.document(&state, state_text)?;
        return Ok(Exit::Done);
    };
    let topology = match read(file)? {
        (_, Err(faults)) => return tell_faults(file, &faults, output),
        (_, Ok(topology)) => topology,
    };
    let shown = FileShown { file: file.display().to_string(), view: view(&topology, &BTreeSet::new(), None) };
    if as_svg {
        return drawn(&shown.view);
    }
    output.document(&shown, |shown| text(&shown.view))?;
    Ok(Exit::Done)
}

fn drawn(view: &View) -> Result<Exit, Failure> {
    super::output::write_out(svg(view).as_bytes())?;
    Ok(Exit::Done)
}

fn state_text(state: &TopologyState) -> String {
    let mut said = match (&state.version, &state.signer) {
        (Some(version), Some(signer)) => format!("version {version}, signed by {signer}\n"),
        _ => "no operator has said anything\n".to_owned(),
    };
    said.push_str(&text(&state.view));
    for way in &state.ways {
        said.push_str(&format!("way {} - {} over {}\n", way.from, way.to, way.via.join(", ")));
    }
    for host in &state.cut_off {
        said.push_str(&format!("{host} is a member and can reach nobody\n"));
    }
    if let Some(refused) = &state.refused {
        let from = refused.from.as_ref().map_or_else(String::new, |from| format!(" from {from}"));
        said.push_str(&format!("version {}{from} was refused here: {}\n", refused.version, refused.reason));
    }
    said
}

async fn operators(client: &Client, args: &OperatorsArgs, output: Output) -> Result<Exit, Failure> {
    let mut held: Operators = client.get("/v1/topology/operators").await?;
    if !args.add.is_empty() || !args.remove.is_empty() {
        let missing = args.remove.iter().find(|gone| !held.operators.contains(gone));
        if let Some(gone) = missing {
            return Err(Failure::not_found("no_operator", format!("`{gone}` is no operator"))
                .remedy("look at `consort topology operators`"));
        }
        held.operators.retain(|operator| !args.remove.contains(operator));
        held.operators.extend(args.add.iter().cloned());
        held = client.post("/v1/topology/operators", &held).await?;
    }
    output.document(&held, |held| {
        if held.operators.is_empty() {
            "only the founder's node may apply a topology".to_owned()
        } else {
            held.operators.iter().map(|operator| format!("{operator}\n")).collect()
        }
    })?;
    Ok(Exit::Done)
}
