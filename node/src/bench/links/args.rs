//! What `consort bench links` was asked for, and what it means.

use std::time::Duration;

use consort_lab::middlebox::Impairment;

use super::peers::{self, Peer};
use crate::config::resolved::BUSY_POLL_MICROS_MAX;
use crate::failure::Failure;

/// The fewest rounds that have a median, and more than anybody waits for.
const ROUNDS: std::ops::RangeInclusive<u32> = 1..=100;
/// Shorter and TCP is still finding its rate; longer than a minute shows nothing more.
const SECONDS: std::ops::RangeInclusive<u32> = 1..=60;
/// Beyond these a path is no path any more.
const PERCENT_MAX: f64 = 50.0;
const DELAY_MS_MAX: u32 = 1000;
/// As many as a data plane and a TAP take here.
const THREADS: std::ops::RangeInclusive<u32> = 1..=16;

/// `consort bench links`
#[derive(Debug, Clone, clap::Args)]
pub struct LinksArgs {
    /// How often each contender has its turn
    #[arg(long, default_value_t = 3)]
    pub rounds: u32,
    /// How long each measurement of TCP takes
    #[arg(long, default_value_t = 2)]
    pub seconds: u32,
    /// What to measure, of: tcp, four, reverse, both, idle, loaded, small [default: all; on a bad path tcp]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LIST", hide_possible_values = true)]
    pub only: Vec<Measure>,
    /// Which other programs take part: a list of names, `all`, `none`, or those that are `installed`
    #[arg(long, value_delimiter = ',', value_name = "LIST", default_value = "installed")]
    pub peers: Vec<String>,
    /// Let the wire between the hosts carry super-frames, as a plain veth pair does and no real wire
    #[arg(long, conflicts_with = "same_host")]
    pub plain_veth: bool,
    /// Measure two machines on one host, beside the kernel's bridge
    #[arg(long)]
    pub same_host: bool,
    /// A bad path, through the lab's middle box: frames lost each way, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, conflicts_with_all = ["same_host", "plain_veth"])]
    pub loss: f64,
    /// A bad path: time on the way, each way, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0, conflicts_with_all = ["same_host", "plain_veth"])]
    pub delay: u32,
    /// A bad path: frames that others overtake, each way, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, conflicts_with_all = ["same_host", "plain_veth"])]
    pub reorder: f64,
    /// Threads of our data plane that move frames [default: one for each core]
    #[arg(long, value_name = "N")]
    pub workers: Option<u32>,
    /// Queues of our TAP
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub queues: u32,
    /// Microseconds our workers look for more frames before they sleep
    #[arg(long, value_name = "MICROS", default_value_t = 0)]
    pub busy_poll: u32,
}

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Measure {
    /// One TCP flow, and what it costs the processors
    Tcp,
    /// Four TCP flows
    Four,
    /// One TCP flow the other way
    Reverse,
    /// One TCP flow each way
    Both,
    /// Round trips without load
    Idle,
    /// Round trips beside a TCP flow
    Loaded,
    /// The highest rate of 64-byte frames that arrives nearly whole
    Small,
}

/// The same, checked.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) rounds: u32,
    pub(super) duration: Duration,
    pub(super) measures: Vec<Measure>,
    pub(super) ground: Ground,
    pub(super) peers: Vec<&'static Peer>,
    /// Whether it is a failure that one of `peers` does not take part.
    pub(super) peers_required: bool,
    /// 0: one for each core.
    pub(super) workers: usize,
    pub(super) queues: usize,
    /// In microseconds.
    pub(super) busy_poll: usize,
}

/// Where it is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Ground {
    /// Two hosts on a wire that carries only finished frames of its MTU.
    RealWire,
    /// Two hosts on a veth pair as the kernel makes it.
    PlainVeth,
    /// Two hosts with a middle box between.
    BadPath(Impairment),
    /// Two machines on one host.
    SameHost,
}

impl LinksArgs {
    /// Checks what was asked for.
    pub(super) fn plan(&self) -> Result<Plan, Failure> {
        within("--rounds", self.rounds, ROUNDS)?;
        within("--seconds", self.seconds, SECONDS)?;
        within("--delay", self.delay, 0..=DELAY_MS_MAX)?;
        within("--queues", self.queues, THREADS)?;
        within("--busy-poll", self.busy_poll, 0..=BUSY_POLL_MICROS_MAX)?;
        self.workers.map_or(Ok(()), |workers| within("--workers", workers, THREADS))?;
        let ground = self.ground()?;
        let (peers, peers_required) = peers::chosen(&self.peers)?;
        let all = <Measure as clap::ValueEnum>::value_variants();
        let measures = match (&self.only[..], ground) {
            ([], Ground::BadPath(_)) => vec![Measure::Tcp],
            ([], _) => all.to_vec(),
            (only, _) => all.iter().copied().filter(|measure| only.contains(measure)).collect(),
        };
        Ok(Plan {
            rounds: self.rounds,
            duration: Duration::from_secs(self.seconds.into()),
            measures,
            ground,
            // No other program joins two machines of one host.
            peers: if ground == Ground::SameHost { Vec::new() } else { peers },
            peers_required,
            workers: self.workers.unwrap_or(0) as usize,
            queues: self.queues as usize,
            busy_poll: self.busy_poll as usize,
        })
    }

    fn ground(&self) -> Result<Ground, Failure> {
        let impairment = Impairment {
            loss: part("--loss", self.loss)?,
            reorder: part("--reorder", self.reorder)?,
            delay: Duration::from_millis(self.delay.into()),
            ..Impairment::default()
        };
        Ok(if self.same_host {
            Ground::SameHost
        } else if impairment != Impairment::default() {
            Ground::BadPath(impairment)
        } else if self.plain_veth {
            Ground::PlainVeth
        } else {
            Ground::RealWire
        })
    }
}

fn within(option: &str, value: u32, range: std::ops::RangeInclusive<u32>) -> Result<(), Failure> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(Failure::input("out_of_range", format!("{option} {value}")).remedy(format!(
        "take {} to {}",
        range.start(),
        range.end()
    )))
}

/// A part from percents.
fn part(option: &str, percent: f64) -> Result<f64, Failure> {
    if (0.0..=PERCENT_MAX).contains(&percent) {
        return Ok(percent / 100.0);
    }
    Err(Failure::input("out_of_range", format!("{option} {percent}"))
        .remedy(format!("take 0 to {PERCENT_MAX} percent")))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: LinksArgs,
    }

    fn plan(words: &str) -> Result<Plan, Failure> {
        let words = std::iter::once("links").chain(words.split_ascii_whitespace());
        Line::try_parse_from(words).expect("the options exist").args.plan()
    }

    #[test]
    fn everything_is_measured_on_a_real_wire_unless_told_otherwise() {
        let plan = plan("").unwrap();
        assert_eq!((plan.ground, plan.measures.len()), (Ground::RealWire, 7));
        assert!(!plan.peers_required);
    }

    #[test]
    fn a_bad_path_is_measured_with_tcp() {
        let plan = plan("--loss 0.5 --delay 5 --peers none").unwrap();
        assert_eq!(plan.measures, [Measure::Tcp]);
        let Ground::BadPath(impairment) = plan.ground else { panic!("{plan:?}") };
        assert_eq!((impairment.loss, impairment.delay), (0.005, Duration::from_millis(5)));
        assert!(plan.peers.is_empty());
    }

    #[test]
    fn what_was_asked_for_is_measured_in_the_usual_order() {
        assert_eq!(plan("--only small,tcp").unwrap().measures, [Measure::Tcp, Measure::Small]);
    }

    #[test]
    fn nonsense_is_refused_with_its_option() {
        for words in
            ["--rounds 0", "--seconds 61", "--loss 51", "--delay 1001", "--queues 17", "--peers nobody"]
        {
            let failure = plan(words).unwrap_err();
            let option = words.split(' ').next().unwrap();
            assert!(failure.message.contains(option) && failure.remedy.is_some(), "{words}: {failure}");
        }
    }
}
