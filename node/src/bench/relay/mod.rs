//! `consort bench relay`: what a link over other hosts costs, with real nodes in the network lab.
//!
//! | | how | bar |
//! |---|---|---|
//! | throughput, the wire is the limit | TCP over a direct link and over one relay, in turns; every cable has the same rate | 0.95 of direct |
//! | throughput, the processors are the limit | the same without a rate: all nodes share them | 0.6 of direct |
//! | a relay fails | `kill -9` to the hop in the middle of a TCP connection; the longest silence on it | 1 s |
//! | a hop farther on fails | the same with the second hop of a way over two | 2 s |
//! | the owner's cap | TCP over a relay whose owner allows a rate far below what it could carry | the rate |
//! | from a relay to the direct path | numbered datagrams while the operator allows the link | none missing |
//!
//! | file | owns |
//! |---|---|
//! | [`field`] | the hosts, their nodes and topologies |
//! | [`talk`] | what goes over the links |
//! | this | what is measured in which order, the report |

pub mod field;
pub mod talk;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use consort_lab::enter;
use serde::Serialize;

use crate::bench::lab;
use crate::cli::output::Output;
use crate::failure::{Exit, Failure};
use field::{Field, UNCAPPED};

/// Turns: enough for a median.
const ROUNDS: std::ops::RangeInclusive<u32> = 1..=25;
/// How long one turn is measured.
const TURN: Duration = Duration::from_secs(2);
/// Before it counts, a connection finds its speed.
const WARM_UP: Duration = Duration::from_millis(1_500);
/// The rate of the cables where the wire is the limit, well below what the processors carry.
const WIRE: &str = "200Mbit/s";
const WIRE_BAR: f64 = 0.95;
const SHARED_BAR: f64 = 0.6;
/// What an owner allows, in megabits a second.
const CAP_MBIT: f64 = 20.0;
/// What may go beyond it in a turn: a burst, as a part of the rate.
const CAP_SLACK: f64 = 1.05;
const RELAY_BAR: Duration = Duration::from_secs(1);
const HOP_BAR: Duration = Duration::from_secs(2);

/// `consort bench relay`
#[derive(Debug, Clone, clap::Args)]
pub struct RelayArgs {
    /// Turns of each measurement; the median counts
    #[arg(long, default_value_t = 5)]
    pub rounds: u32,
    /// Only throughput, or only failures and changes [default: both]
    #[arg(long, value_enum)]
    pub only: Option<Part>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Direct and relayed, in turns.
    Throughput,
    /// Hops that fail, ways that change.
    Changes,
}

impl RelayArgs {
    fn has(&self, part: Part) -> bool {
        self.only.is_none_or(|only| only == part)
    }

    fn again(&self) -> Vec<OsString> {
        let mut all: Vec<OsString> = vec!["--rounds".into(), self.rounds.to_string().into()];
        all.extend(self.only.into_iter().flat_map(|part| {
            let word = match part {
                Part::Throughput => "throughput",
                Part::Changes => "changes",
            };
            ["--only".into(), word.into()]
        }));
        all
    }
}

/// Direct and relayed, in Mbit/s.
#[derive(Debug, Serialize)]
struct Throughput {
    direct_mbit: f64,
    relayed_mbit: f64,
    ratio: f64,
    bar: f64,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    wire: Option<Throughput>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shared: Option<Throughput>,
    #[serde(skip_serializing_if = "Option::is_none")]
    relay_fails: Option<Failover>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hop_fails: Option<Failover>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capped_mbit: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_direct: Option<Upgrade>,
}

impl Report {
    fn for_people(&self) -> String {
        let mut text = String::new();
        let mut say = |line: String| text.push_str(&line);
        for (what, found) in [("the wire is the limit", &self.wire), ("shared processors", &self.shared)] {
            if let Some(found) = found {
                let verdict = if found.ratio >= found.bar { "kept" } else { "MISSED" };
                say(format!(
                    "throughput, {what}: direct {:.0} Mbit/s, relayed {:.0} Mbit/s: {:.3} of direct (bar {:.2}, {verdict})\n",
                    found.direct_mbit, found.relayed_mbit, found.ratio, found.bar
                ));
            }
        }
        for (what, found) in [("a relay", &self.relay_fails), ("the second hop", &self.hop_fails)] {
            if let Some(found) = found {
                let verdict = if found.worst_ms <= found.bar_ms { "kept" } else { "MISSED" };
                say(format!(
                    "{what} fails: a TCP connection is silent for {} ms (median of {}), {} ms at worst (bar {} ms, {verdict}), and lives\n",
                    found.median_ms, found.turns, found.worst_ms, found.bar_ms
                ));
            }
        }
        if let Some(found) = self.capped_mbit {
            let verdict = if found <= CAP_MBIT * CAP_SLACK { "kept" } else { "MISSED" };
            say(format!("an owner allows {CAP_MBIT} Mbit/s: {found:.1} Mbit/s pass ({verdict})\n"));
        }
        if let Some(found) = &self.to_direct {
            let _never_fails = writeln!(
                text,
                "from a relay to the direct path: {} of {} datagrams missing in {} turns (bar 0)",
                found.missing, found.sent, found.turns
            );
        }
        text
    }
}

/// Runs the measurement: outside a lab it enters one.
pub(super) fn run(args: &RelayArgs, json: bool) -> Result<Exit, Failure> {
    if !ROUNDS.contains(&args.rounds) {
        return Err(Failure::input("out_of_range", format!("--rounds {}", args.rounds)).remedy(format!(
            "give {} to {}",
            ROUNDS.start(),
            ROUNDS.end()
        )));
    }
    if enter::directory().is_none() {
        return lab::enter_again("relay", args.again(), json);
    }
    lab::runtime()?.block_on(async {
        let mut report = Report::default();
        if args.has(Part::Throughput) {
            let cable = format!("cable = {{ rate = \"{WIRE}\" }}");
            report.wire = Some(throughput(&cable, args.rounds, WIRE_BAR).await?);
            report.shared = Some(throughput("", args.rounds, SHARED_BAR).await?);
            report.capped_mbit = Some(capped(args.rounds).await?);
        }
        if args.has(Part::Changes) {
            report.relay_fails = Some(failover(4, 1, args.rounds, RELAY_BAR).await?);
            report.hop_fails = Some(failover(6, 2, args.rounds, HOP_BAR).await?);
            report.to_direct = Some(upgrade(args.rounds).await?);
        }
        Output { json }.document(&report, Report::for_people)
    })?;
    Ok(Exit::Done)
}

/// A star in which one pair of leaves has a link of its own.
async fn throughput(cable: &str, rounds: u32, bar: f64) -> Result<Throughput, Failure> {
    let mut field = Field::of(3, cable, UNCAPPED).await?;
    let (mut direct, mut relayed) = (Vec::new(), Vec::new());
    field.shape("shape = \"mesh\"", "").await?;
    let (_, there) = field.network("pair", "h1", "h2").await?;
    for round in 0..rounds {
        // Which of the two goes first takes turns as well.
        for first in [true, false] {
            if first == (round % 2 == 0) {
                field.shape("shape = \"mesh\"", "").await?;
                field.direct("h1", "h2").await?;
                direct.push(rate(&mut field, there).await?);
            } else {
                field.shape("shape = \"star\"\nhubs = \"h0\"", "").await?;
                field.over("h1", "h2", 1).await?;
                relayed.push(rate(&mut field, there).await?);
            }
        }
        eprintln!("turn {round}: direct {:.0}, relayed {:.0} Mbit/s", last(&direct), last(&relayed));
    }
    let (direct_mbit, relayed_mbit) = (median(direct), median(relayed));
    Ok(Throughput {
        direct_mbit,
        relayed_mbit,
        ratio: relayed_mbit / direct_mbit.max(f64::MIN_POSITIVE),
        bar,
    })
}

/// Over a relay whose owner allows little.
async fn capped(rounds: u32) -> Result<f64, Failure> {
    let relay = format!("{{ rate = \"{CAP_MBIT}Mbit/s\", peers = 8 }}");
    let mut field = Field::of(3, "", &relay).await?;
    field.shape("shape = \"star\"\nhubs = \"h0\"", "").await?;
    let (_, there) = field.network("pair", "h1", "h2").await?;
    field.over("h1", "h2", 1).await?;
    let mut rates = Vec::new();
    for _ in 0..rounds {
        rates.push(rate(&mut field, there).await?);
    }
    Ok(median(rates))
}

/// Megabits a second of one TCP connection from h1 to h2.
async fn rate(field: &mut Field, there: std::net::IpAddr) -> Result<f64, Failure> {
    let load = field.load("h1", "h2", there)?;
    tokio::time::sleep(WARM_UP).await;
    let (before, begun) = (load.bytes(), Instant::now());
    tokio::time::sleep(TURN).await;
    let (bytes, seconds) = (load.bytes() - before, begun.elapsed().as_secs_f64());
    load.end()?;
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let megabits = bytes as f64 * 8.0 / 1e6;
    Ok(megabits / seconds)
}

/// A ring of so many hosts; between opposite ones there are `hops` on either side. The last of the way in use dies, each turn anew.
async fn failover(hosts: usize, hops: usize, rounds: u32, bar: Duration) -> Result<Failover, Failure> {
    let mut field = Field::of(hosts, "", UNCAPPED).await?;
    field.shape("shape = \"ring\"", "").await?;
    let far = format!("h{}", hosts / 2);
    let (_, there) = field.network("across", "h0", &far).await?;
    let talk = field.talk("h0", &far, there)?;
    let mut silences = BTreeMap::new();
    for round in 0..rounds {
        let before = field.over("h0", &far, hops).await?;
        field.has_spare("h0", &far).await?;
        talk.goes_on().await?;
        let _before_it = talk.silence();
        let Some(dies) = before.last() else { continue };
        field.crew.kill_node(dies)?;
        talk.goes_on().await?;
        field.way("h0", &far, "another way", |now| *now != before[..]).await?;
        let silence = talk.silence();
        eprintln!("turn {round}: {} died, silent for {} ms", before.join(", "), silence.as_millis());
        silences.insert(round, silence);
        field.crew.start(dies, &[])?;
        field.crew.member(dies).await?;
    }
    talk.end()?;
    let mut all: Vec<u64> =
        silences.values().map(|silence| u64::try_from(silence.as_millis()).unwrap_or(u64::MAX)).collect();
    all.sort_unstable();
    Ok(Failover {
        median_ms: all.get(all.len() / 2).copied().unwrap_or_default(),
        worst_ms: all.last().copied().unwrap_or_default(),
        bar_ms: u64::try_from(bar.as_millis()).unwrap_or(u64::MAX),
        turns: all.len(),
    })
}

/// Over a hub, then the operator allows the link.
async fn upgrade(rounds: u32) -> Result<Upgrade, Failure> {
    let mut field = Field::of(3, "", UNCAPPED).await?;
    let mut found = Upgrade::default();
    let (here, there) = field.network("pair", "h1", "h2").await?;
    for round in 0..rounds {
        field.shape("shape = \"star\"\nhubs = \"h0\"", "").await?;
        field.over("h1", "h2", 1).await?;
        let numbered = field.numbered(("h1", here), ("h2", there))?;
        numbered.goes_on().await?;
        field.shape("shape = \"mesh\"", "").await?;
        field.direct("h1", "h2").await?;
        numbered.goes_on().await?;
        let (sent, missing) = numbered.end()?;
        eprintln!("turn {round}: {} of {sent} datagrams missing", missing.len());
        found.sent += sent;
        found.missing += missing.len() as u64;
        found.turns += 1;
    }
    Ok(found)
}

fn last(values: &[f64]) -> f64 {
    values.last().copied().unwrap_or_default()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
