//! Links that follow the traffic, with real nodes: the classic patterns between the leaves of a star, without and with `[adapt]`.
//!
//! Every cable carries the same, so what goes over the hub shares the hub's cable: a pattern that asks for more than that profits from links of its own, one
//! that asks for less does not. Each pattern goes over the star as it is first, then with `[adapt]`, then over the star again.
//!
//! | looked at | bar |
//! |---|---|
//! | when the hot pair has its link at both ends | 10 s |
//! | links that one host has beyond the star | the operator's limit |
//! | links that quiet traffic gets | none |
//! | links that come up a second time, or go, in half a minute | none: each makes a way change |
//! | what arrives, beside the same without `[adapt]` before and after | 0.98 |
//!
//! Owns: the patterns, what is looked at while they go. Refuses to know: how a link is decided on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::field::{Field, UNCAPPED};
use super::talk::Load;
use crate::control::api::{TopologyState, Traffic};
use crate::failure::Failure;

const LEAVES: usize = 6;
/// What every host's cable carries.
const CABLE: &str = "cable = { rate = \"60Mbit/s\" }";
/// What each pair of a pattern wants, and each of quiet traffic.
const BUSY: u64 = 10_000_000;
const QUIET: u64 = 100_000;
/// The operator's limit for each host.
const LINKS: usize = 2;
const STAR: &str = "shape = \"star\"\nhubs = \"h0\"";
const ADAPT: &str = "[adapt]\nlinks = 2\nafter = \"1s\"\ndrop = \"60s\"";
/// Before anything is counted, connections find their speed.
const WARM_UP: Duration = Duration::from_secs(2);
/// How long the star alone is measured, before and after.
const STILL: Duration = Duration::from_secs(5);
/// How long links may follow the traffic.
const ADAPTED: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A hot pair has its link within this.
const LINK_BAR: Duration = Duration::from_secs(10);
const PART_BAR: f64 = 0.98;

/// What one pattern came to.
#[derive(Debug, Clone, Serialize)]
pub struct PatternFound {
    /// Its name.
    pub name: &'static str,
    /// What the hosts take it for, as `net show --traffic` says.
    pub recognised: String,
    /// What was wanted, in Mbit/s.
    pub wanted_mbit: f64,
    /// What arrived over the star alone, before and after.
    pub still_mbit: f64,
    /// What arrived while links followed the traffic, from the first moment on.
    pub adapted_mbit: f64,
    /// When the first pair went directly at both ends.
    pub first_link_ms: Option<u64>,
    /// Pairs that went directly at both ends when it ended.
    pub links: usize,
    /// The most links beyond the star that one host had at any time.
    pub most_of_one_host: usize,
    /// Every link that came or went, as each of its ends saw it.
    pub changes: Vec<Change>,
}

/// A link came or went.
#[derive(Debug, Clone, Serialize)]
pub struct Change {
    /// When it was seen, from when links could follow the traffic.
    pub at_ms: u64,
    /// Who saw it.
    pub at: String,
    /// The other end.
    pub to: String,
    /// What became of it.
    pub became: Became,
}

/// What became of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Became {
    /// It goes directly, for the first time.
    Direct,
    /// It goes around.
    Gone,
    /// It goes directly once more.
    DirectAgain,
}

impl PatternFound {
    fn part(&self) -> f64 {
        self.adapted_mbit / self.still_mbit.max(f64::MIN_POSITIVE)
    }

    /// Links that went, or came up once more after they had, at either end.
    fn changes_back(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| change.became != Became::Direct)
    }

    /// What is not as it should be.
    fn missed(&self) -> Vec<&'static str> {
        let late = self.first_link_ms.is_none_or(|ms| u128::from(ms) > LINK_BAR.as_millis());
        let all = [
            (self.part() < PART_BAR, "throughput"),
            (self.most_of_one_host > LINKS, "limit"),
            (self.changes_back().next().is_some(), "flapping"),
            (self.name == "quiet" && self.first_link_ms.is_some(), "a link for nothing"),
            (self.name == "hot pair" && late, "no link in time"),
        ];
        all.into_iter().filter(|(is, _)| *is).map(|(_, what)| what).collect()
    }
}

/// All of them as people read it; empty if none was measured.
pub(super) fn table(all: &[PatternFound]) -> String {
    let mut text = String::new();
    for found in all {
        if text.is_empty() {
            text.push_str("\n| pattern | taken for | wanted | star alone | adapted | part | first link | links | most of a host | gone or again | |\n|---|---|---|---|---|---|---|---|---|---|---|\n");
        }
        let first = found.first_link_ms.map_or_else(|| "–".to_owned(), seconds);
        let missed = found.missed();
        let verdict =
            if missed.is_empty() { "kept".to_owned() } else { format!("MISSED: {}", missed.join(", ")) };
        let _never_fails = writeln!(
            text,
            "| {} | {} | {:.1} | {:.1} | {:.1} | {:.3} | {first} | {} | {} | {} | {verdict} |",
            found.name,
            found.recognised,
            found.wanted_mbit,
            found.still_mbit,
            found.adapted_mbit,
            found.part(),
            found.links,
            found.most_of_one_host,
            found.changes_back().count()
        );
    }
    for found in all {
        for Change { at_ms, at, to, became } in found.changes_back() {
            let what = if *became == Became::Gone { "is gone" } else { "goes directly again" };
            let _never_fails = writeln!(
                text,
                "{}: after {} {at} sees that its link to {to} {what}",
                found.name,
                seconds(*at_ms)
            );
        }
    }
    text
}

fn seconds(ms: u64) -> String {
    format!("{:.1} s", f64::from(u32::try_from(ms).unwrap_or(u32::MAX)) / 1000.0)
}

/// A pattern: its name, who sends whom by the leaves' numbers from 1, and how much each pair wants.
type Pattern = (&'static str, Vec<(usize, usize)>, u64);

/// The names of all.
pub(super) fn names() -> [&'static str; 6] {
    patterns().map(|(name, ..)| name)
}

fn patterns() -> [Pattern; 6] {
    let every = || (1..=LEAVES).flat_map(|a| (a + 1..=LEAVES).map(move |b| (a, b)));
    [
        ("quiet", every().collect(), QUIET),
        ("hot pair", vec![(1, 2)], BUSY),
        ("ring", (1..=LEAVES).map(|a| (a, a % LEAVES + 1)).collect(), BUSY),
        // A grid of two columns.
        ("neighbours", every().filter(|(a, b)| b - a == 2 || (b - a == 1 && a % 2 == 1)).collect(), BUSY),
        ("hub", (2..=LEAVES).map(|b| (1, b)).collect(), BUSY),
        ("all to all", every().collect(), BUSY),
    ]
}

/// Measures all of them, or one by its name.
///
/// # Errors
/// If the lab, a node or a connection fails.
pub async fn measure(only: Option<&str>) -> Result<Vec<PatternFound>, Failure> {
    let mut field = Field::of(LEAVES + 1, CABLE, UNCAPPED).await?;
    field.shape(STAR, "").await?;
    let leaves: Vec<String> = (1..=LEAVES).map(leaf).collect();
    let addresses = field.common_network("lan", &leaves).await?;
    let mut all = Vec::new();
    for (name, pairs, rate) in
        patterns().into_iter().filter(|(name, ..)| only.is_none_or(|only| only == *name))
    {
        let found = one(&mut field, &addresses, name, &pairs, rate).await?;
        eprintln!("{name}: {found:?}");
        all.push(found);
    }
    Ok(all)
}

fn leaf(number: usize) -> String {
    format!("h{number}")
}

async fn one(
    field: &mut Field,
    addresses: &BTreeMap<String, IpAddr>,
    name: &'static str,
    pairs: &[(usize, usize)],
    rate: u64,
) -> Result<PatternFound, Failure> {
    field.shape(STAR, "").await?;
    let mut loads = Vec::new();
    for (from, to) in pairs {
        let to = leaf(*to);
        loads.push(field.offer(&leaf(*from), &to, addresses[&to], rate)?);
    }
    tokio::time::sleep(WARM_UP).await;
    let before = arrived(&loads, STILL).await;
    field.shape(STAR, ADAPT).await?;
    let mut watch = Watch::default();
    let (bytes, began) = (sum(&loads), Instant::now());
    while began.elapsed() < ADAPTED {
        watch.look(field, began).await?;
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let adapted_mbit = per_second(sum(&loads) - bytes, began.elapsed());
    let traffic: Traffic = field.crew.client("h1")?.get("/v1/nets/lan/traffic").await?;
    // Without `[adapt]` nothing of it is left for the next.
    field.shape(STAR, "").await?;
    tokio::time::sleep(WARM_UP).await;
    let after = arrived(&loads, STILL).await;
    for load in loads {
        load.end()?;
    }
    Ok(PatternFound {
        name,
        recognised: traffic.pattern_words,
        wanted_mbit: megabits(rate) * f64::from(u32::try_from(pairs.len()).unwrap_or(u32::MAX)),
        still_mbit: f64::midpoint(before, after),
        adapted_mbit,
        first_link_ms: watch.first.map(to_ms),
        links: watch.both().len(),
        most_of_one_host: watch.most,
        changes: watch.changes,
    })
}

/// What is seen of links while they follow the traffic: each end's own, by the hosts' numbers.
#[derive(Debug, Default)]
struct Watch {
    /// Who goes directly to whom, as the first sees it.
    direct: BTreeSet<(String, String)>,
    /// The same at any time before.
    ever: BTreeSet<(String, String)>,
    first: Option<Duration>,
    most: usize,
    changes: Vec<Change>,
}

impl Watch {
    async fn look(&mut self, field: &Field, began: Instant) -> Result<(), Failure> {
        let mut now = BTreeSet::new();
        for host in (1..=LEAVES).map(leaf) {
            let state: TopologyState = field.crew.client(&host)?.get("/v1/topology").await?;
            let own = state.view.links.iter().filter(|link| link.added && link.up == Some(true));
            for link in own {
                let [a, b] = link.between.map(|number| state.view.hosts[number].name.clone());
                let other = if a == host { b } else { a };
                now.insert((host.clone(), other));
            }
        }
        for link in self.direct.symmetric_difference(&now) {
            let became = match now.contains(link) {
                false => Became::Gone,
                true if self.ever.contains(link) => Became::DirectAgain,
                true => Became::Direct,
            };
            let (at, to) = link.clone();
            self.changes.push(Change { at_ms: to_ms(began.elapsed()), at, to, became });
        }
        self.ever.extend(now.iter().cloned());
        self.direct = now;
        for host in (1..=LEAVES).map(leaf) {
            self.most = self.most.max(self.direct.iter().filter(|(own, _)| *own == host).count());
        }
        if self.first.is_none() && !self.both().is_empty() {
            self.first = Some(began.elapsed());
        }
        Ok(())
    }

    /// Pairs that go directly at both ends.
    fn both(&self) -> Vec<&(String, String)> {
        let both = |(a, b): &&(String, String)| a < b && self.direct.contains(&(b.clone(), a.clone()));
        self.direct.iter().filter(both).collect()
    }
}

fn to_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn sum(loads: &[Load]) -> u64 {
    loads.iter().map(Load::bytes).sum()
}

/// Megabits a second of all together in so long.
async fn arrived(loads: &[Load], during: Duration) -> f64 {
    let (before, began) = (sum(loads), Instant::now());
    tokio::time::sleep(during).await;
    per_second(sum(loads) - before, began.elapsed())
}

fn per_second(bytes: u64, during: Duration) -> f64 {
    megabits(bytes * 8) / during.as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn megabits(bits: u64) -> f64 {
    bits as f64 / 1e6
}
