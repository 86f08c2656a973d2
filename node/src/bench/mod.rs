//! `consort bench`: the project's own measurements, each with its baseline in the same run.
//!
//! A figure without its baseline says little on a computer that others use too; so each measurement runs its contenders in turns and
//! gives medians and ratios.

mod frames;
mod lab;
mod links;
pub mod reach;
pub mod relay;

use crate::failure::{Exit, Failure};

pub use links::args::LinksArgs;
pub use links::reexec;

/// Congestion control of TCP connections that are to fill something: the same for all. The system's default may be one that measures itself and sends no more than it
/// believes in (BBR): what it leaves empty says how evenly the processors were shared.
const CONGESTION: &str = "cubic";

/// `consort bench`
#[derive(Debug, Clone, clap::Args)]
pub struct BenchArgs {
    /// What to measure
    #[command(subcommand)]
    pub what: Measurement,
}

/// The measurements.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Measurement {
    /// The core alone: find an address, decide, seal and open, cut and join
    Frames,
    /// Two hosts and one wire: who carries frames over it how fast, beside the bare wire, the kernel's VXLAN and other programs
    Links(LinksArgs),
    /// Who reaches whom behind which NAT or firewall, how, and how soon, with real nodes on emulated hosts
    Reach(reach::args::ReachArgs),
    /// What a link over other hosts costs: throughput beside a direct one, hops that fail, ways that change
    Relay(relay::RelayArgs),
    /// How fast a slice is there
    Slices,
    /// How fast machines start
    Machines,
}

/// Runs a measurement. Called on the main thread, before any other thread exists.
///
/// # Errors
/// If the measurement could not be made.
pub fn run(args: &BenchArgs, json: bool) -> Result<Exit, Failure> {
    match &args.what {
        Measurement::Frames => frames::run(json),
        Measurement::Links(args) => links::run(args, json),
        Measurement::Reach(args) => reach::run(args, json),
        Measurement::Relay(args) => relay::run(args, json),
        Measurement::Slices => Err(Failure::not_yet_supported("`consort bench slices`")),
        Measurement::Machines => Err(Failure::not_yet_supported("`consort bench machines`")),
    }
}
