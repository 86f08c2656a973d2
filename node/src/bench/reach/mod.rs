//! `consort bench reach`: who reaches whom behind which gateway, how, and how soon, with real nodes in the network lab.
//!
//! ```text
//!  kinds (or a case file) ─▶ world: gateways, hosts ─▶ crew: a real `consort node` on each, joined by ticket
//!                                                        │
//!  matrix: for each pair of hosts a network of its own ◀─┘   time to the first frame, the path, time to the direct path
//!  idle:   N nodes that want nothing of each other           bytes and CPU time of each, once they have settled
//! ```
//! | file | owns |
//! |---|---|
//! | [`args`] | what was asked for |
//! | [`kinds`] | the kinds of gateway of the matrix, as text of a case |
//! | `order` | in which order pairs are measured, so that each search finds a host that may search |
//! | [`crew`] | nodes on the hosts of a [`World`] |
//! | [`pair`] | one pair, measured |
//! | `pairs` | many pairs of the same two kinds at once, for what happens in parts of all cases |
//! | [`roam`] | a host that changes its network under a TCP connection |
//! | `report` | the table for people and the document for programs |
//! | [`faults`] | faults put in on purpose, and what `consort why` must say |
//! | `idle` | what nodes cost that have nothing to do |
//! | [`upheaval`] | nodes that end and come again, and a network in two halves |
//! | `grown` | what a host holds and says in a large overlay, simulated |
//!
//! Refuses to know how paths are found: it asks the daemons as any user would, and sends frames through the hosts' own sockets.

pub mod args;
pub mod crew;
pub mod faults;
mod grown;
mod idle;
pub mod kinds;
mod order;
pub mod pair;
mod pairs;
mod report;
pub mod roam;
pub mod upheaval;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use consort_lab::case::{Case, World};
use consort_lab::enter::{self, Entry};
use consort_lab::reexec;

use crate::bench::lab;
use crate::cli::output::Output;
use crate::demo::stage::lab_failure;
use crate::failure::{Exit, Failure};

use args::ReachArgs;
use crew::Crew;
use kinds::Side;
use order::{Next, Order};
use pair::{Measured, Patience};
use report::Report;

/// How long a pair of a matrix that searches for a port has at least: as long as a search may take, and the meeting before it.
const SEARCH: Duration = Duration::from_secs(22);

/// Labs with a fault that run at once: three keep two cores busy while nodes start, and leave them room while they wait.
const FAULTS_AT_ONCE: usize = 3;

/// Runs the measurement: outside a lab it enters one.
pub(super) fn run(args: &ReachArgs, json: bool) -> Result<Exit, Failure> {
    let plan = args.plan()?;
    if let args::Plan::Grown { hosts } = plan {
        Output { json }.document(&grown::simulate(hosts), grown::Grown::for_people)?;
        return Ok(Exit::Done);
    }
    if enter::directory().is_none() {
        return match &plan {
            args::Plan::Faults { names, .. } => all_faults(names, args, json),
            _ => lab::enter_again("reach", args.again(), json),
        };
    }
    lab::runtime()?.block_on(async {
        match &plan {
            args::Plan::Idle { nodes, seconds } => {
                let cost = idle::measure(*nodes, *seconds).await?;
                Output { json }.document(&cost, idle::Cost::for_people)?;
            }
            args::Plan::Upheaval { nodes, partition } => {
                let upheavals = upheaval::measure(*nodes, *partition).await?;
                Output { json }.document(&upheavals, upheaval::Upheavals::for_people)?;
                if !upheavals.all_well() {
                    return Ok(Exit::Failed);
                }
            }
            args::Plan::Grown { hosts } => {
                Output { json }.document(&grown::simulate(*hosts), grown::Grown::for_people)?;
            }
            args::Plan::Faults { names, within } => {
                let one =
                    names.first().ok_or_else(|| Failure::input("no_fault", "a lab is for one fault"))?;
                let outcome = faults::run(faults::named(one)?, *within).await?;
                Output { json: true }.document(&outcome, |_| String::new())?;
            }
            args::Plan::Matrix { kinds, with, lans, patience } => {
                let crew = crew_of(&parse(&kinds::case(kinds, *lans))?, args.logs.as_deref()).await?;
                let report = matrix(crew, kinds, with, *patience).await?;
                Output { json }.document(&report, Report::for_people)?;
            }
            args::Plan::Roam(relay) => {
                let all = roam::measure(&roam::CHANGES, roam::SETTLED, *relay, args.logs.as_deref()).await?;
                Output { json }.document(&all, |all| roam::for_people(all))?;
            }
            args::Plan::Pairs { kinds, pairs, patience } => {
                let case = parse(&kinds::case_of_many(kinds, *pairs))?;
                let crowd = pairs::measure(
                    &mut crew_of(&case, args.logs.as_deref()).await?,
                    kinds,
                    *pairs,
                    *patience,
                )
                .await?;
                Output { json }.document(&crowd, pairs::Crowd::for_people)?;
            }
            args::Plan::Case { case, patience } => {
                let crew = crew_of(case, args.logs.as_deref()).await?;
                let report = whole_case(crew, *patience).await?;
                Output { json }.document(&report, Report::for_people)?;
            }
        }
        Ok(Exit::Done)
    })
}

/// Each kind against each: the first of a pair is on side a, the second on side b, so that none is its own neighbour.
async fn matrix(
    mut crew: Crew,
    kinds: &[&'static str],
    with: &[&'static str],
    patience: Patience,
) -> Result<Report, Failure> {
    let mut report = Report::new(kinds.iter().map(ToString::to_string).collect());
    let (mut order, begun) = (Order::new(kinds, with), Instant::now());
    loop {
        let (row, column) = match order.next(begun.elapsed()) {
            Next::Pair(place) => place,
            Next::Wait(time) => {
                tokio::time::sleep(time).await;
                continue;
            }
            Next::Done => break,
        };
        let (first, second) = (kinds[row], kinds[column]);
        let names = (kinds::host(Side::A, first), kinds::host(Side::B, second));
        // How long a search took is told by the table; one that goes on is not cut off.
        let patience = match kinds::searching_side(first, second) {
            Some(_) => Patience::until_direct(patience.direct.max(SEARCH)),
            None => patience,
        };
        let measured = pair::measure(&mut crew, &names.0, &names.1, patience).await?;
        eprintln!("{first} to {second}: {}", measured.in_words());
        order.measured(kinds, (row, column), begun.elapsed());
        report.add(row, column, measured);
    }
    Ok(report)
}

/// Each host of a case with each that comes after it.
async fn whole_case(mut crew: Crew, patience: Patience) -> Result<Report, Failure> {
    let names = crew.names();
    let mut report = Report::new(names.clone());
    for (row, first) in names.iter().enumerate() {
        for (column, second) in names.iter().enumerate().skip(row + 1) {
            let measured: Measured = pair::measure(&mut crew, first, second, patience).await?;
            eprintln!("{first} to {second}: {}", measured.in_words());
            report.add(row, column, measured);
        }
    }
    Ok(report)
}

/// Each fault in a lab of its own, a few at a time: most of a fault's time is waiting.
fn all_faults(names: &[String], args: &ReachArgs, json: bool) -> Result<Exit, Failure> {
    let waiting = Mutex::new(names.iter().enumerate());
    let outcomes = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..FAULTS_AT_ONCE.min(names.len()) {
            scope.spawn(|| {
                loop {
                    let next = locked(&waiting).next();
                    let Some((place, name)) = next else { return };
                    let outcome = one_fault(name, args);
                    if let Ok(outcome) = &outcome {
                        eprintln!("{}", outcome.in_words());
                    }
                    locked(&outcomes).insert(place, outcome);
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    let outcomes: Vec<faults::Outcome> = outcomes.into_values().collect::<Result<_, Failure>>()?;
    let all_right = outcomes.iter().all(|outcome| outcome.right);
    Output { json }.document(&outcomes, |outcomes| report::faults(outcomes))?;
    Ok(if all_right { Exit::Done } else { Exit::Failed })
}

fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn one_fault(name: &str, args: &ReachArgs) -> Result<faults::Outcome, Failure> {
    let body = ["/proc/self/exe", "bench", "reach", "--faults", name, "--seconds", &args.seconds.to_string()]
        .map(OsString::from)
        .to_vec();
    let entry = Entry { program: reexec::program(), body, expose: Vec::new() };
    let output = entry.command().stderr(Stdio::inherit()).output().map_err(lab_failure)?;
    match serde_json::from_slice(&output.stdout) {
        Ok(outcome) => Ok(outcome),
        Err(_) => Ok(faults::Outcome::failed(faults::named(name)?)),
    }
}

async fn crew_of(case: &Case, logs: Option<&Path>) -> Result<Crew, Failure> {
    eprintln!("{} hosts: starting their nodes", case.hosts.len());
    let mut crew = Crew::new(World::build(case).map_err(lab_failure)?);
    if let Some(directory) = logs {
        crew.keep_logs(directory).map_err(lab_failure)?;
    }
    crew.start_overlay().await?;
    Ok(crew)
}

fn parse(text: &str) -> Result<Case, Failure> {
    Case::parse(text).map_err(|faults| {
        let all: Vec<String> = faults.iter().map(ToString::to_string).collect();
        Failure::input("bad_case", all.join("; "))
    })
}
