//! `consort bench relay`: what a link over other hosts costs, with real nodes in the network lab.
//!
//! | | how | bar |
//! |---|---|---|
//! | throughput, the leaves' wires are the limit | TCP over a direct link and over one relay, in turns, beside the kernel's own; the relay's cable is wider | 0.95 of direct |
//! | throughput, the relay's wire is the limit | the same, every cable has the same rate | 0.95 of direct |
//! | throughput, the processors are the limit | the same without a rate: all nodes share them | 0.6 of direct |
//! | a relay fails | `kill -9` to the hop in the middle of a TCP connection; the longest silence on it | 1 s |
//! | a hop farther on fails | the same with the second hop of a way over two | 2 s |
//! | the owner's cap | TCP over a relay whose owner allows a rate far below what it could carry | the rate, and four fifths of it |
//! | the operator's rates | the same with a rate of the topology for a link, for a relay's link, for what a relay forwards | the same |
//! | from a relay to the direct path | numbered datagrams while the operator allows the link | none missing |
//! | links that follow the traffic | the classic patterns over a star, without and with `[adapt]` | see [`patterns`] |
//!
//! | file | owns |
//! |---|---|
//! | [`field`] | the hosts, their nodes and topologies |
//! | [`talk`] | what goes over the links |
//! | `throughput` | what a connection gets over which cables |
//! | `measure` | the other measurements with one pair |
//! | [`patterns`] | those of links that follow the traffic |
//! | this | what is measured in which order, the report |

pub mod field;
mod measure;
pub mod patterns;
pub mod talk;
mod throughput;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::time::Duration;

use consort_lab::enter;
use serde::Serialize;

use crate::bench::lab;
use crate::cli::output::Output;
use crate::failure::{Exit, Failure};
use patterns::PatternFound;
use throughput::{Setting, Throughput};

/// Turns: enough for a median.
const ROUNDS: std::ops::RangeInclusive<u32> = 1..=25;
/// Seconds of a connection: its rate varies less over more, and the run takes longer.
const SECONDS: std::ops::RangeInclusive<u32> = 1..=60;
/// What an owner allows, in megabits a second.
const CAP_MBIT: f64 = 20.0;
/// What may go beyond it in a turn: a burst, as a part of the rate. Less than the second part and a TCP connection gets too little of it.
const CAP_PARTS: std::ops::RangeInclusive<f64> = 0.8..=1.05;
const RELAY_BAR: Duration = Duration::from_secs(1);
const HOP_BAR: Duration = Duration::from_secs(2);

/// `consort bench relay`
#[derive(Debug, Clone, clap::Args)]
pub struct RelayArgs {
    /// Turns of each measurement; the median counts
    #[arg(long, default_value_t = 5)]
    pub rounds: u32,
    /// Seconds that a connection's rate is measured, after twice as long to find it
    #[arg(long, default_value_t = 2)]
    pub seconds: u32,
    /// Only one part [default: all]
    #[arg(long, value_enum)]
    pub only: Option<Part>,
    /// Only this one of the patterns of traffic, and no other part
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(patterns::names()), conflicts_with = "only")]
    pub pattern: Option<String>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Direct and relayed, in turns.
    Throughput,
    /// The owner's cap and the operator's rates.
    Rates,
    /// Hops that fail, ways that change.
    Changes,
    /// Links that follow the traffic.
    Patterns,
}

impl RelayArgs {
    fn has(&self, part: Part) -> bool {
        let only = self.pattern.as_ref().map(|_| Part::Patterns).or(self.only);
        only.is_none_or(|only| only == part)
    }

    fn again(&self) -> Vec<OsString> {
        let mut all: Vec<OsString> = vec!["--rounds".into(), self.rounds.to_string().into()];
        all.extend(["--seconds".into(), self.seconds.to_string().into()]);
        all.extend(self.only.into_iter().flat_map(|part| {
            let word = match part {
                Part::Throughput => "throughput",
                Part::Rates => "rates",
                Part::Changes => "changes",
                Part::Patterns => "patterns",
            };
            ["--only".into(), word.into()]
        }));
        all.extend(self.pattern.iter().flat_map(|name| ["--pattern".into(), name.into()]));
        all
    }
}

/// What passes where so much may, in Mbit/s.
#[derive(Debug, Serialize)]
struct Rates {
    allowed_mbit: f64,
    link_mbit: f64,
    link_relayed_mbit: f64,
    transit_mbit: f64,
}

/// How long a connection was silent when a hop failed; the worst of all turns, and the median.
#[derive(Debug, Serialize)]
struct Failover {
    median_ms: u64,
    worst_ms: u64,
    bar_ms: u64,
    turns: usize,
}

/// Numbered datagrams while the way changed.
#[derive(Debug, Default, Serialize)]
struct Upgrade {
    sent: u64,
    missing: u64,
    turns: u32,
}

#[derive(Debug, Default, Serialize)]
struct Report {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    throughput: Vec<Throughput>,
    #[serde(skip_serializing_if = "Option::is_none")]
    relay_fails: Option<Failover>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hop_fails: Option<Failover>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capped_mbit: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rates: Option<Rates>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_direct: Option<Upgrade>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    patterns: Vec<PatternFound>,
}

impl Report {
    fn for_people(&self) -> String {
        let mut text: String = self.throughput.iter().map(Throughput::table).collect();
        let mut say = |line: String| text.push_str(&line);
        for (what, found) in [("a relay", &self.relay_fails), ("the second hop", &self.hop_fails)] {
            if let Some(found) = found {
                let verdict = if found.worst_ms <= found.bar_ms { "kept" } else { "MISSED" };
                say(format!(
                    "{what} fails: a TCP connection is silent for {} ms (median of {}), {} ms at worst (bar {} ms, {verdict}), and lives\n",
                    found.median_ms, found.turns, found.worst_ms, found.bar_ms
                ));
            }
        }
        let mut rate = |what: &str, found: f64| {
            let verdict = if CAP_PARTS.contains(&(found / CAP_MBIT)) { "kept" } else { "MISSED" };
            say(format!("{what} allows {CAP_MBIT} Mbit/s: {found:.1} Mbit/s pass ({verdict})\n"));
        };
        if let Some(found) = self.capped_mbit {
            rate("a relay's owner", found);
        }
        if let Some(found) = &self.rates {
            rate("the topology's rate of a link", found.link_mbit);
            rate("the topology's rate of the link from a relay", found.link_relayed_mbit);
            rate("the topology's rate of a relay", found.transit_mbit);
        }
        if let Some(found) = &self.to_direct {
            let _never_fails = writeln!(
                text,
                "from a relay to the direct path: {} of {} datagrams missing in {} turns (bar 0)",
                found.missing, found.sent, found.turns
            );
        }
        text + &patterns::table(&self.patterns)
    }
}

/// Runs the measurement: outside a lab it enters one.
pub(super) fn run(args: &RelayArgs, json: bool) -> Result<Exit, Failure> {
    for (option, given, takes) in [("--rounds", args.rounds, ROUNDS), ("--seconds", args.seconds, SECONDS)] {
        if !takes.contains(&given) {
            return Err(Failure::input("out_of_range", format!("{option} {given}")).remedy(format!(
                "give {} to {}",
                takes.start(),
                takes.end()
            )));
        }
    }
    let turn = Duration::from_secs(args.seconds.into());
    if enter::directory().is_none() {
        return lab::enter_again("relay", args.again(), json);
    }
    lab::runtime()?.block_on(async {
        let mut report = Report::default();
        if args.has(Part::Throughput) {
            for setting in Setting::ALL {
                report.throughput.push(throughput::measure(setting, args.rounds, turn).await?);
            }
        }
        if args.has(Part::Rates) {
            report.capped_mbit = Some(measure::capped(args.rounds, turn).await?);
            report.rates = Some(measure::rates(args.rounds, turn).await?);
        }
        if args.has(Part::Changes) {
            report.relay_fails = Some(measure::failover(4, 1, args.rounds, RELAY_BAR).await?);
            report.hop_fails = Some(measure::failover(6, 2, args.rounds, HOP_BAR).await?);
            report.to_direct = Some(measure::upgrade(args.rounds).await?);
        }
        if args.has(Part::Patterns) {
            report.patterns = patterns::measure(args.pattern.as_deref()).await?;
        }
        Output { json }.document(&report, Report::for_people)
    })?;
    Ok(Exit::Done)
}
