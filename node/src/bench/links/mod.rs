//! `consort bench links`: two hosts, what lies between them, and who carries frames over it how fast.
//!
//! ```text
//!  outside: run ──▶ lab (own namespaces) ──▶ inside: run
//!                                              args         what was asked for, checked
//!                                              field        hosts, wire or middle box, contenders: the kernel, a plain tunnel (floor), us (plane), others (peers)
//!                                              calibration  what the middle box does by itself
//!                                              turn         one contender measured, by the generators in traffic
//!                                              report, bar  medians, ratios, where we stand
//! ```
//! All contenders are up at once and take turns in one run on the same hosts, in an order that moves on each round; figures are medians over
//! the rounds. By default the wire carries only finished frames of its MTU, as a real one does; a plain veth pair hands whole super-frames
//! across and flatters whoever uses them.

pub(super) mod args;
mod bar;
mod calibration;
mod contender;
mod field;
mod figures;
mod floor;
mod peers;
mod plane;
mod report;
mod traffic;
mod turn;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use consort_lab::enter::{self, Entry};
use consort_lab::{reexec, usage};

use crate::cli::output::Output;
use crate::demo::stage::lab_failure;
use crate::failure::{Exit, Failure};
use args::{LinksArgs, Measure, Plan};
use contender::Role;
use field::{Absent, Field};
use report::Report;

/// Runs a process of the benchmark if that is what this one was started for; before any thread exists.
pub fn reexec(argv: &[OsString]) -> Option<ExitCode> {
    plane::reexec(argv).or_else(|| floor::reexec(argv))
}

/// Runs the measurement, in a lab of its own.
pub(super) fn run(args: &LinksArgs, json: bool) -> Result<Exit, Failure> {
    let plan = args.plan()?;
    if enter::directory().is_some() {
        return measure(&plan, json);
    }
    // Inside it is the same command again.
    let words = std::env::args_os().skip(1);
    let body: Vec<OsString> = std::iter::once("/proc/self/exe".into()).chain(words).collect();
    let code = Entry { program: reexec::program(), body, expose: Vec::new() }.run().map_err(lab_failure)?;
    match code {
        0 => Ok(Exit::Done),
        reexec::EXIT_UNAVAILABLE => {
            Err(Failure::failed("lab_unavailable", "there are no emulated hosts to be had here")
                .remedy("the line above says why and what to do"))
        }
        _ => Ok(Exit::Failed),
    }
}

fn measure(plan: &Plan, json: bool) -> Result<Exit, Failure> {
    let mut field = Field::build(plan)?;
    let mut report = Report { calibration: calibration::calibrate(plan, &mut field)?, ..Report::default() };
    for contender in &field.contenders {
        let version =
            plan.peers.iter().find(|peer| peer.name == contender.name).and_then(|peer| peer.version());
        let mut entry = report::Entry::new(contender, version);
        entry.resident_idle_bytes = resident(contender, |spent| spent.resident_bytes)?;
        report.entries.push(entry);
    }
    let (machine, own) = (usage::of_machine().map_err(lab_failure)?, own_cpu(&field)?);
    for round in 0..plan.rounds {
        take_turns(plan, round, &mut field, &mut report)?;
    }
    report.machine = usage::of_machine().map_err(lab_failure)?.since(machine);
    report.own_cpu = own_cpu(&field)?.saturating_sub(own);
    for (contender, entry) in field.contenders.iter().zip(&mut report.entries) {
        entry.resident_peak_bytes = resident(contender, |spent| spent.resident_bytes_peak)?;
    }
    report.absent = std::mem::take(&mut field.absent);
    Output { json }.document(&report.finished(plan), report::Finished::for_people)?;
    Ok(Exit::Done)
}

/// Processor time of the generators and of all contenders so far.
fn own_cpu(field: &Field) -> Result<Duration, Failure> {
    let generators = usage::of_process(std::process::id()).map_err(lab_failure)?.cpu;
    field.contenders.iter().try_fold(generators, |sum, contender| Ok(sum + contender.spent()?.cpu))
}

/// One round: each contender once, beginning with another each time.
fn take_turns(plan: &Plan, round: u32, field: &mut Field, report: &mut Report) -> Result<(), Failure> {
    if plan.measures.contains(&Measure::Idle) {
        report.wake_ups.push(turn::wake_ups()?);
    }
    let count = field.contenders.len();
    let mut fallen = Vec::new();
    for index in (0..count).map(|turn| (turn + round as usize) % count) {
        let contender = &field.contenders[index];
        eprintln!("round {} of {}: {}", round + 1, plan.rounds, contender.name);
        match turn::turn(plan, contender, &field.ends(contender)) {
            Ok(values) => report.entries[index].add(values),
            Err(failure) if contender.role == Role::Peer && !plan.peers_required => {
                eprintln!("{} drops out: {failure}", contender.name);
                fallen.push((index, failure));
            }
            Err(failure) => return Err(failure),
        }
    }
    fallen.sort_by_key(|(index, _)| std::cmp::Reverse(*index));
    for (index, failure) in fallen {
        let reason = format!("it fell out in round {}: {failure}", round + 1);
        field.absent.push(Absent { contender: field.contenders.remove(index).name, reason });
        report.entries.remove(index);
    }
    Ok(())
}

/// What a contender's processes hold, where it has any.
fn resident(
    contender: &contender::Contender,
    which: impl Fn(contender::Spent) -> u64,
) -> Result<Option<u64>, Failure> {
    Ok(if contender.daemons.is_empty() { None } else { Some(which(contender.spent()?)) })
}
