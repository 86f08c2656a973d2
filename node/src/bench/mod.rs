//! `consort bench`: the project's own measurements, each with its baseline in the same run.

use crate::failure::{Exit, Failure};

/// `consort bench`
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    /// What to measure
    #[arg(value_parser = ["frames", "links", "slices", "machines"])]
    pub what: String,
}

/// Runs a measurement. Called on the main thread, before any other thread exists.
///
/// # Errors
/// If the measurement could not be made.
pub fn run(_args: &BenchArgs, _json: bool) -> Result<Exit, Failure> {
    Err(Failure::not_yet_supported("`consort bench`"))
}
