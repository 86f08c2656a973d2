//! `consort demo`: emulated hosts in namespaces, real nodes, one slice, and the proof that it works.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::failure::{Exit, Failure};

/// `consort demo`
#[derive(Debug, clap::Args)]
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
pub fn run(_args: &DemoArgs, _json: bool) -> Result<Exit, Failure> {
    Err(Failure::not_yet_supported("`consort demo`"))
}

/// The demo's own re-executions of this program, recognised by their first argument; before any thread exists.
pub fn reexec(_argv: &[OsString]) -> Option<ExitCode> {
    None
}
