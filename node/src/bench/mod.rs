//! `consort bench`: the project's own measurements, each with its baseline in the same run.
//!
//! A figure without its baseline says little on a computer that others use too; so each measurement runs its contenders in turns and
//! gives medians and ratios.

mod links;

use crate::failure::{Exit, Failure};

pub use links::plane::reexec;

/// The fewest rounds that have a median.
const ROUNDS_MIN: u32 = 1;
const ROUNDS_MAX: u32 = 100;
/// Shorter and TCP is still finding its rate; longer than a minute shows nothing more.
const SECONDS_RANGE: std::ops::RangeInclusive<u32> = 1..=60;

/// `consort bench`
#[derive(Debug, Clone, clap::Args)]
pub struct BenchArgs {
    /// What to measure
    #[arg(value_parser = ["frames", "links", "slices", "machines"])]
    pub what: String,
    /// How often each contender has its turn
    #[arg(long, default_value_t = 3)]
    pub rounds: u32,
    /// How long each TCP measurement takes
    #[arg(long, default_value_t = 2)]
    pub seconds: u32,
    /// Let the wire between the hosts carry super-frames, as a plain veth pair does and no real wire
    #[arg(long)]
    pub plain_veth: bool,
}

/// Runs a measurement. Called on the main thread, before any other thread exists.
///
/// # Errors
/// If the measurement could not be made.
pub fn run(args: &BenchArgs, json: bool) -> Result<Exit, Failure> {
    if !(ROUNDS_MIN..=ROUNDS_MAX).contains(&args.rounds) || !SECONDS_RANGE.contains(&args.seconds) {
        return Err(Failure::input(
            "out_of_range",
            format!("--rounds {} --seconds {}", args.rounds, args.seconds),
        )
        .remedy(format!(
            "take {ROUNDS_MIN} to {ROUNDS_MAX} rounds of {} to {} seconds",
            SECONDS_RANGE.start(),
            SECONDS_RANGE.end()
        )));
    }
    match args.what.as_str() {
        "links" => links::run(args, json),
        what => Err(Failure::not_yet_supported(&format!("`consort bench {what}`"))),
    }
}
