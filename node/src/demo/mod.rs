//! `consort demo`: emulated hosts in namespaces, real nodes, one slice, and the proof that it works.
//!
//! ```text
//!  outside: run ──▶ lab (own namespaces) ──▶ inside: run
//!                                              stage    hosts, cables, a real `consort node` on each, joined by ticket
//!                                              request  one slice, through the API of host 0
//!                                              checks   what was promised, one by one
//!                                              report   progress while it works, a table or a JSON document at the end
//! ```
//! Owns: the order of the proof. Refuses to know: how anything is done; it asks the daemons as any user would, through
//! [`crate::control::client`], and looks at the underlay from outside. A check that fails does not hide those after it.

mod checks;
pub mod exec;
mod proof;
mod report;
pub mod stage;

use std::ffi::OsString;
use std::process::ExitCode;

use consort_lab::enter::{self, Entry};
use consort_lab::{reexec, wide};

use crate::failure::{Exit, Failure};

/// The most machines: each is a process tree, and every pair is tried over both IP versions.
const MACHINES_MAX: u32 = 200;

/// `consort demo`
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// How many hosts to emulate
    #[arg(long, default_value_t = 3)]
    pub hosts: u32,
    /// How many machines to ask for
    #[arg(long, default_value_t = 4)]
    pub machines: u32,
    /// Leave everything running until interrupted
    #[arg(long)]
    pub keep: bool,
}

/// Runs the demo. Called on the main thread, before any other thread exists.
///
/// # Errors
/// If the demo could not be run at all; a check that failed is an [`Exit`].
pub fn run(args: &DemoArgs, json: bool) -> Result<Exit, Failure> {
    check(args)?;
    match enter::directory() {
        Some(_) => run_inside(args, json),
        None => run_outside(args, json),
    }
}

/// The processes of the lab and of the benches, which are this program again, recognised by their first argument; before any thread
/// exists.
pub fn reexec(argv: &[OsString]) -> Option<ExitCode> {
    if let Some(exit) = crate::bench::reexec(argv) {
        return Some(exit);
    }
    let args: Vec<OsString> = std::iter::once(OsString::new()).chain(argv.iter().cloned()).collect();
    let code = reexec::main(&args)?;
    Some(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

fn check(args: &DemoArgs) -> Result<(), Failure> {
    let hosts_max = u32::try_from(wide::HOSTS_MAX).unwrap_or(u32::MAX);
    if !(1..=hosts_max).contains(&args.hosts) {
        return Err(Failure::input("out_of_range", format!("--hosts {}", args.hosts))
            .remedy(format!("emulate between 1 and {hosts_max} hosts")));
    }
    if !(1..=MACHINES_MAX).contains(&args.machines) {
        return Err(Failure::input("out_of_range", format!("--machines {}", args.machines))
            .remedy(format!("ask for between 1 and {MACHINES_MAX} machines")));
    }
    Ok(())
}

fn run_outside(args: &DemoArgs, json: bool) -> Result<Exit, Failure> {
    let mut body: Vec<OsString> = ["/proc/self/exe", "demo"].map(OsString::from).to_vec();
    for (name, value) in [("--hosts", args.hosts), ("--machines", args.machines)] {
        body.extend([name.into(), value.to_string().into()]);
    }
    body.extend(args.keep.then(|| "--keep".into()));
    body.extend(json.then(|| "--json".into()));
    let expose = (0..args.hosts as usize).map(stage::host_name).collect();
    let code = Entry { program: reexec::program(), body, expose }
        .run()
        .map_err(|error| Failure::failed("lab", format!("cannot start the emulated hosts: {error}")))?;
    match code {
        0 => Ok(Exit::Done),
        reexec::EXIT_UNAVAILABLE => {
            Err(Failure::failed("lab_unavailable", "there are no emulated hosts to be had here")
                .remedy("the line above says why and what to do"))
        }
        _ => Ok(Exit::Failed),
    }
}

fn run_inside(args: &DemoArgs, json: bool) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed("runtime", format!("cannot start the demo's runtime: {error}")))?;
    runtime.block_on(proof::run(args, json))
}
