//! What `consort bench reach` was asked for, and what it means.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use consort_lab::case::{Case, FILE_BYTES_MAX};

use super::kinds::Lans;
use super::pair::Patience;
use super::roam::Relay;
use super::{faults, kinds};
use crate::failure::Failure;

/// One is nothing to measure; more than the wide network has room for cannot be cabled.
const NODES: std::ops::RangeInclusive<u32> = 2..=190;
/// Each with each asks fifty times a second at first: more would measure the asking.
const UPHEAVED: std::ops::RangeInclusive<u32> = 4..=40;
/// Two are the least that tell of each other; more than a hundred thousand want more memory than a host may have.
const GROWN: std::ops::RangeInclusive<u32> = 2..=100_000;
/// Shorter than a round of news, and longer than anybody waits.
const SECONDS: std::ops::RangeInclusive<u32> = 1..=600;
/// Of each kind as many hosts on both sides; the lab has room for so many of two kinds.
const PAIRS: std::ops::RangeInclusive<u32> = 1..=20;

/// `consort bench reach`
#[derive(Debug, Clone, clap::Args)]
pub struct ReachArgs {
    /// Kinds of gateway, each measured with each [default: the twelve of docs/reach.md]
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub kinds: Vec<String>,
    /// Of their pairs, only those of which one end is of these kinds
    #[arg(long, value_delimiter = ',', value_name = "LIST", conflicts_with_all = ["case", "pairs", "roam", "faults", "idle", "upheaval", "grown"])]
    pub with: Vec<String>,
    /// Give all homes the same private addresses, down to the hosts' own
    #[arg(long)]
    pub same_lans: bool,
    /// A file that describes a lab (docs/reach.md says how); every pair of its hosts is measured
    #[arg(long, value_name = "FILE", conflicts_with = "kinds")]
    pub case: Option<PathBuf>,
    /// How long a pair may take until it has a direct path; then it counts as it is
    #[arg(long, default_value_t = 12)]
    pub seconds: u32,
    /// Keep the nodes' logs in this directory; CONSORT_LOG says how much they tell
    #[arg(long, value_name = "DIR", conflicts_with_all = ["faults", "idle", "upheaval", "grown"])]
    pub logs: Option<PathBuf>,
    /// Instead: every two different kinds so many times, all pairs of hosts of their own at once; how many go direct, and at what cost
    #[arg(long, value_name = "PAIRS", requires = "kinds", conflicts_with_all = ["case", "same_lans"])]
    pub pairs: Option<u32>,
    /// Instead: a host that changes its network under a TCP connection inside a link
    #[arg(long, conflicts_with_all = ["kinds", "case", "same_lans", "pairs"])]
    pub roam: bool,
    /// With --roam: no member relays
    #[arg(long, requires = "roam")]
    pub no_relay: bool,
    /// Instead: put faults in, and see whether `consort why` names each [default: all of docs/reach.md]
    #[arg(long, value_delimiter = ',', value_name = "LIST", num_args = 0.., conflicts_with_all = ["kinds", "case"])]
    pub faults: Option<Vec<String>>,
    /// Instead: what this many nodes cost that have nothing to do, measured for --seconds
    #[arg(long, value_name = "NODES", conflicts_with_all = ["kinds", "case", "faults"])]
    pub idle: Option<u32>,
    /// Instead: so many nodes on one network, of which some and all are ended and started again, and which falls into two halves for --seconds
    #[arg(long, value_name = "NODES", conflicts_with_all = ["kinds", "case", "faults", "idle"])]
    pub upheaval: Option<u32>,
    /// Instead: what a host holds and says in an overlay of so many, simulated for an hour
    #[arg(long, value_name = "HOSTS", conflicts_with_all = ["kinds", "case", "faults", "idle", "upheaval"])]
    pub grown: Option<u32>,
}

/// The same, checked.
#[derive(Debug)]
pub(super) enum Plan {
    Matrix { kinds: Vec<&'static str>, with: Vec<&'static str>, lans: Lans, patience: Patience },
    Case { case: Case, patience: Patience },
    Pairs { kinds: Vec<&'static str>, pairs: u32, patience: Patience },
    Roam(Relay),
    Faults { names: Vec<String>, within: Duration },
    Idle { nodes: u32, seconds: u32 },
    Upheaval { nodes: u32, partition: Duration },
    Grown { hosts: u32 },
}

impl ReachArgs {
    pub(super) fn plan(&self) -> Result<Plan, Failure> {
        in_range("--seconds", self.seconds, SECONDS)?;
        let patience = Patience::until_direct(Duration::from_secs(self.seconds.into()));
        if let Some(nodes) = self.idle {
            in_range("--idle", nodes, NODES)?;
            return Ok(Plan::Idle { nodes, seconds: self.seconds });
        }
        if self.roam {
            return Ok(Plan::Roam(if self.no_relay { Relay::Nobody } else { Relay::Founder }));
        }
        if let Some(nodes) = self.upheaval {
            in_range("--upheaval", nodes, UPHEAVED)?;
            return Ok(Plan::Upheaval { nodes, partition: Duration::from_secs(self.seconds.into()) });
        }
        if let Some(hosts) = self.grown {
            in_range("--grown", hosts, GROWN)?;
            return Ok(Plan::Grown { hosts });
        }
        if let Some(names) = &self.faults {
            return Ok(Plan::Faults { names: known_faults(names)?, within: patience.first });
        }
        if let Some(path) = &self.case {
            return Ok(Plan::Case { case: read(path)?, patience });
        }
        if let Some(pairs) = self.pairs {
            in_range("--pairs", pairs, PAIRS)?;
            return Ok(Plan::Pairs { kinds: self.chosen()?, pairs, patience });
        }
        let lans = if self.same_lans { Lans::Same } else { Lans::Different };
        let kinds = self.chosen()?;
        let with = named("--with", &self.with, &kinds)?;
        Ok(Plan::Matrix { kinds, with, lans, patience })
    }

    fn chosen(&self) -> Result<Vec<&'static str>, Failure> {
        if self.kinds.is_empty() {
            return Ok(kinds::USUAL.to_vec());
        }
        let known: Vec<&'static str> = kinds::ALL.iter().map(|kind| kind.name).collect();
        named("--kinds", &self.kinds, &known)
    }

    /// The same arguments for the program inside the lab.
    pub(super) fn again(&self) -> Vec<OsString> {
        let mut all: Vec<OsString> = vec!["--seconds".into(), self.seconds.to_string().into()];
        if !self.kinds.is_empty() {
            all.extend(["--kinds".into(), self.kinds.join(",").into()]);
        }
        if !self.with.is_empty() {
            all.extend(["--with".into(), self.with.join(",").into()]);
        }
        if let Some(directory) = &self.logs {
            all.extend(["--logs".into(), directory.clone().into_os_string()]);
        }
        all.extend(self.roam.then(|| "--roam".into()));
        all.extend(self.no_relay.then(|| "--no-relay".into()));
        all.extend(self.same_lans.then(|| "--same-lans".into()));
        if let Some(path) = &self.case {
            all.extend(["--case".into(), path.clone().into_os_string()]);
        }
        if let Some(pairs) = self.pairs {
            all.extend(["--pairs".into(), pairs.to_string().into()]);
        }
        if let Some(names) = &self.faults {
            all.push("--faults".into());
            all.extend((!names.is_empty()).then(|| names.join(",").into()));
        }
        if let Some(nodes) = self.idle {
            all.extend(["--idle".into(), nodes.to_string().into()]);
        }
        if let Some(nodes) = self.upheaval {
            all.extend(["--upheaval".into(), nodes.to_string().into()]);
        }
        all
    }
}

/// Of the kinds that are `known`, those that are wanted.
fn named(option: &str, wanted: &[String], known: &[&'static str]) -> Result<Vec<&'static str>, Failure> {
    let find = |wanted: &String| known.iter().find(|name| *name == wanted).copied();
    let unknown = |wanted: &String| {
        Failure::input("unknown_kind", format!("{option} {wanted}"))
            .remedy(format!("the kinds are: {}", known.join(", ")))
    };
    wanted.iter().map(|name| find(name).ok_or_else(|| unknown(name))).collect()
}

/// Those that were named, or all.
fn known_faults(names: &[String]) -> Result<Vec<String>, Failure> {
    if names.is_empty() {
        return Ok(faults::ALL.iter().map(|fault| fault.name.to_owned()).collect());
    }
    names.iter().map(|name| faults::named(name).map(|fault| fault.name.to_owned())).collect()
}

fn read(path: &std::path::Path) -> Result<Case, Failure> {
    use std::io::Read as _;
    let shown = path.display();
    let file = std::fs::File::open(path)
        .map_err(|error| Failure::input("no_case", format!("cannot open {shown}: {error}")))?;
    let mut text = String::new();
    let limit = u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit)
        .read_to_string(&mut text)
        .map_err(|error| Failure::input("no_case", format!("cannot read {shown}: {error}")))?;
    super::parse(&text).map_err(|failure| Failure::input("bad_case", format!("{shown}: {failure}")))
}

fn in_range(name: &str, value: u32, range: std::ops::RangeInclusive<u32>) -> Result<(), Failure> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(Failure::input("out_of_range", format!("{name} {value}")).remedy(format!(
        "give a number between {} and {}",
        range.start(),
        range.end()
    )))
}
