//! What one TCP connection between two leaves of a star carries: over a link through the hub beside a direct one, and beside both the kernel's own,
//! without a tunnel, straight and forwarded by the hub's kernel, all in turns.
//!
//! A relay has one cable. What it forwards goes in and out by it, and so do the receiver's answers, the other way: each direction of that cable carries
//! both, where a direct link has a direction for each. How much that costs shows in what the cables carried, which is counted behind whatever
//! limits them: the fullest direction, how full it was, and how much of what crossed it was payload and how much was answers.
//!
//! Owns: the cables, the turns, the counts, their table. Refuses to know: which topologies there are beside the two.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::field::{Field, UNCAPPED};
use super::measure::{Steady, steady};
use crate::cli::output::{or_dash, table};
use crate::demo::stage::lab_failure;
use crate::failure::Failure;

/// The part of its cable that the kernel's own connection fills where the processors are there in time: all of it on a quiet computer; 0.85 was seen on a busy one, where
/// whatever was compared came out by chance.
const FILLED_LEAST: f64 = 0.98;

const HUB: &str = "h0";
const SENDER: &str = "h1";
const RECEIVER: &str = "h2";

/// What bounds the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Setting {
    /// The leaves' cables; the hub has a wider one, as whoever relays for others mostly has.
    LeavesCables,
    /// All cables have one rate, so the hub's is the narrowest.
    HubsCable,
    /// No cable has a rate: the processors, which all nodes share.
    Processors,
}

impl Setting {
    pub(super) const ALL: [Self; 3] = [Self::LeavesCables, Self::HubsCable, Self::Processors];

    /// Megabits a second of the hub's cable and of the leaves', well below what the processors carry.
    const fn rates_mbit(self) -> Option<(u32, u32)> {
        match self {
            Self::LeavesCables => Some((1_000, 200)),
            Self::HubsCable => Some((200, 200)),
            Self::Processors => None,
        }
    }

    /// The least part of the direct link's throughput.
    const fn bar(self) -> f64 {
        match self {
            Self::LeavesCables | Self::HubsCable => 0.95,
            Self::Processors => 0.6,
        }
    }

    fn rate_mbit(self, host: &str) -> Option<u32> {
        self.rates_mbit().map(|(hub, leaf)| if host == HUB { hub } else { leaf })
    }

    fn cable(self, host: &str) -> String {
        self.rate_mbit(host).map_or_else(String::new, |rate| format!("cable = {{ rate = \"{rate}Mbit/s\" }}"))
    }

    fn words(self) -> String {
        match self.rates_mbit() {
            Some((hub, leaf)) => format!("cables of {leaf} Mbit/s, the relay's of {hub} Mbit/s"),
            None => "cables without a rate, shared processors".to_owned(),
        }
    }
}

/// How the connection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Way {
    /// Over a direct link.
    Direct,
    /// Over a link through the hub.
    Relayed,
    /// Without us, from host to host.
    Kernel,
    /// Without us, forwarded by the hub's kernel.
    KernelForwarded,
}

impl Way {
    const ALL: [Self; 4] = [Self::Direct, Self::Relayed, Self::Kernel, Self::KernelForwarded];

    const fn words(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Relayed => "relayed",
            Self::Kernel => "kernel",
            Self::KernelForwarded => "kernel, forwarded",
        }
    }
}

/// What was seen in the turn with the median rate.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Carried {
    way: Way,
    /// Payload of the connection.
    mbit: f64,
    /// The least and the most of all turns.
    mbit_range: [f64; 2],
    /// The fullest direction of a cable.
    fullest: Direction,
    /// Of what it could have carried; nothing where it has no rate.
    filled: Option<f64>,
    /// Of the bytes on it: the connection's payload.
    payload: f64,
    /// Of the bytes on it: what the receiver sent, if that goes there too.
    answers: f64,
    /// Frames that came to the receiver for each that it sent.
    frames_per_answer: f64,
}

/// What had crossed a direction when it was looked.
#[derive(Debug, Clone, Copy)]
struct Count {
    bytes: u64,
    frames: u64,
    at: Instant,
}

/// What crosses it in a second.
#[derive(Debug, Clone, Copy, Default)]
struct Rate {
    bytes: f64,
    frames: f64,
}

impl Count {
    /// Each was looked at in its own time: on a busy computer that is later than asked.
    fn since(self, earlier: Self) -> Rate {
        let seconds = (self.at - earlier.at).as_secs_f64();
        let each = |now: u64, then: u64| number(now.saturating_sub(then)) / seconds;
        Rate { bytes: each(self.bytes, earlier.bytes), frames: each(self.frames, earlier.frames) }
    }
}

/// One direction of a host's cable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Direction {
    host: &'static str,
    into: bool,
}

impl Direction {
    fn words(&self) -> String {
        let host = match self.host {
            HUB => "relay",
            SENDER => "sender",
            _ => "receiver",
        };
        format!("{} the {host}", if self.into { "into" } else { "out of" })
    }
}

/// All ways in one setting.
#[derive(Debug, Serialize)]
pub(super) struct Throughput {
    setting: Setting,
    ways: Vec<Carried>,
    /// Relayed, of direct.
    ratio: f64,
    bar: f64,
    /// The kernel's own forwarded, of straight.
    kernel_ratio: f64,
    /// The kernel's own, straight, left its cable emptier than [`FILLED_LEAST`].
    disturbed: bool,
}

impl Throughput {
    /// As people read it.
    pub(super) fn table(&self) -> String {
        let rows: Vec<_> = self.ways.iter().map(Carried::row).collect();
        let heading =
            ["", "Mbit/s", "all turns", "fullest", "filled", "payload", "answers", "frames per answer"];
        let mut text = format!("throughput, {}\n{}", self.setting.words(), table(heading, &rows));
        let verdict = if self.ratio >= self.bar { "kept" } else { "MISSED" };
        let _never_fails = writeln!(
            text,
            "relayed is {:.3} of direct (bar {:.2}, {verdict}); the kernel's own, forwarded, is {:.3} of straight",
            self.ratio, self.bar, self.kernel_ratio
        );
        if self.disturbed {
            text.push_str(
                "the kernel's own did not fill its cable: the processors were not there in time, and these figures say little\n",
            );
        }
        text.push('\n');
        text
    }
}

impl Carried {
    fn row(&self) -> [String; 8] {
        [
            self.way.words().to_owned(),
            format!("{:.1}", self.mbit),
            format!("{:.1} to {:.1}", self.mbit_range[0], self.mbit_range[1]),
            self.fullest.words(),
            or_dash(self.filled.map(|part| format!("{part:.3}"))),
            format!("{:.3}", self.payload),
            format!("{:.3}", self.answers),
            format!("{:.1}", self.frames_per_answer),
        ]
    }
}

/// A star in which one pair of leaves has a link of its own, or not.
pub(super) async fn measure(setting: Setting, rounds: u32, turn: Duration) -> Result<Throughput, Failure> {
    let cables = [HUB, SENDER, RECEIVER].map(|host| setting.cable(host));
    let mut field = Field::cabled(&cables, UNCAPPED).await?;
    field.shape("shape = \"mesh\"", "").await?;
    let (_, inside) = field.network("pair", SENDER, RECEIVER).await?;
    let world = field.crew.world();
    let around = world.detour(SENDER, RECEIVER, HUB).map_err(lab_failure)?;
    let straight = world.host(RECEIVER).map_err(lab_failure)?.ipv4.map(IpAddr::from);
    let straight = straight.ok_or_else(|| lab_failure(format!("{RECEIVER} has no IPv4 address")))?;
    let mut turns: BTreeMap<Way, Vec<Carried>> = BTreeMap::new();
    for round in 0..rounds as usize {
        // Who goes first takes turns as well.
        for place in 0..Way::ALL.len() {
            let way = Way::ALL[(round + place) % Way::ALL.len()];
            let to = match way {
                Way::Direct => {
                    field.shape("shape = \"mesh\"", "").await?;
                    field.direct(SENDER, RECEIVER).await?;
                    inside
                }
                Way::Relayed => {
                    field.shape("shape = \"star\"\nhubs = \"h0\"", "").await?;
                    field.over(SENDER, RECEIVER, 1).await?;
                    inside
                }
                Way::Kernel => straight,
                Way::KernelForwarded => around.into(),
            };
            let seen = connection(&mut field, setting, way, to, turn).await?;
            eprintln!("turn {round}: {} {:.1} Mbit/s", way.words(), seen.mbit);
            turns.entry(way).or_default().push(seen);
        }
    }
    Ok(judged(setting, turns.into_values().filter_map(median).collect()))
}

fn judged(setting: Setting, ways: Vec<Carried>) -> Throughput {
    let of = |way| ways.iter().find(|seen| seen.way == way);
    let mbit = |way| of(way).map_or(f64::NAN, |seen| seen.mbit);
    let ratio = mbit(Way::Relayed) / mbit(Way::Direct);
    let kernel_ratio = mbit(Way::KernelForwarded) / mbit(Way::Kernel);
    let disturbed = of(Way::Kernel).and_then(|seen| seen.filled).is_some_and(|part| part < FILLED_LEAST);
    Throughput { setting, ratio, bar: setting.bar(), kernel_ratio, disturbed, ways }
}

/// The turn with the median rate; nothing if there was none.
fn median(mut turns: Vec<Carried>) -> Option<Carried> {
    turns.sort_by(|one, other| one.mbit.total_cmp(&other.mbit));
    let range = [turns.first()?.mbit, turns.last()?.mbit];
    let middle = turns.get(turns.len() / 2)?;
    Some(Carried { mbit_range: range, ..middle.clone() })
}

/// One connection from leaf to leaf.
async fn connection(
    field: &mut Field,
    setting: Setting,
    way: Way,
    to: IpAddr,
    turn: Duration,
) -> Result<Carried, Failure> {
    let Steady { bytes, seconds, seen: [before, after] } = steady(field, to, turn, carried).await?;
    let mbit = |bytes_per_s: f64| bytes_per_s * 8.0 / 1e6;
    let bytes_per_s = number(bytes) / seconds;
    let crossed: BTreeMap<Direction, Rate> = after
        .iter()
        .filter_map(|(direction, after)| Some((*direction, after.since(*before.get(direction)?))))
        .collect();
    let of = |direction: &Direction| crossed.get(direction).copied().unwrap_or_default();
    // As a part of what it can carry; without rates all can carry the same.
    let filled = |direction: &Direction| {
        mbit(of(direction).bytes) / setting.rate_mbit(direction.host).map_or(1.0, f64::from)
    };
    let fullest = crossed.keys().copied().max_by(|one, other| filled(one).total_cmp(&filled(other)));
    let fullest = fullest.ok_or_else(|| lab_failure("there are no cables"))?;
    let forth = of(&Direction { host: RECEIVER, into: true });
    let back = of(&Direction { host: RECEIVER, into: false });
    let all = of(&fullest).bytes;
    Ok(Carried {
        way,
        mbit: mbit(bytes_per_s),
        mbit_range: [mbit(bytes_per_s); 2],
        filled: setting.rates_mbit().map(|_| filled(&fullest)),
        payload: bytes_per_s / all,
        answers: if fullest.host == HUB { back.bytes / all } else { 0.0 },
        frames_per_answer: forth.frames / back.frames,
        fullest,
    })
}

/// What all directions carried so far.
fn carried(field: &mut Field) -> Result<BTreeMap<Direction, Count>, Failure> {
    let mut all = BTreeMap::new();
    for host in [HUB, SENDER, RECEIVER] {
        let seen = field.crew.world().carried(host).map_err(lab_failure)?;
        let at = Instant::now();
        let (into, out) = (Direction { host, into: true }, Direction { host, into: false });
        all.insert(into, Count { bytes: seen.rx_bytes, frames: seen.rx_packets, at });
        all.insert(out, Count { bytes: seen.tx_bytes, frames: seen.tx_packets, at });
    }
    Ok(all)
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(way: Way, mbit: f64, filled: f64) -> Carried {
        Carried {
            way,
            mbit,
            mbit_range: [mbit; 2],
            fullest: Direction { host: HUB, into: true },
            filled: Some(filled),
            payload: 0.9,
            answers: 0.03,
            frames_per_answer: 2.0,
        }
    }

    fn all(relayed: f64, filled: f64) -> Throughput {
        let ways = [
            seen(Way::Direct, 100.0, 0.99),
            seen(Way::Relayed, relayed, 0.99),
            seen(Way::Kernel, 200.0, filled),
            seen(Way::KernelForwarded, 190.0, 0.99),
        ];
        judged(Setting::HubsCable, ways.to_vec())
    }

    #[test]
    fn the_median_turn_stands_for_all_and_the_range_is_of_all() {
        let turns = [3.0, 9.0, 1.0, 5.0, 7.0].map(|mbit| seen(Way::Direct, mbit, mbit / 10.0));
        let middle = median(turns.to_vec()).unwrap();
        assert_eq!((middle.mbit, middle.filled, middle.mbit_range), (5.0, Some(0.5), [1.0, 9.0]));
        assert!(median(Vec::new()).is_none());
    }

    #[test]
    fn ratios_are_of_what_goes_straight_and_the_bar_is_of_ours() {
        let kept = all(95.0, 0.99);
        assert!((kept.ratio - 0.95).abs() < 1e-9 && (kept.kernel_ratio - 0.95).abs() < 1e-9);
        assert!(kept.table().contains("relayed is 0.950 of direct (bar 0.95, kept)"), "{}", kept.table());
        assert!(all(94.0, 0.99).table().contains("MISSED"));
    }

    #[test]
    fn where_the_kernel_alone_does_not_fill_its_cable_the_figures_are_said_to_mean_little() {
        assert!(!all(95.0, FILLED_LEAST).table().contains("say little"));
        assert!(all(95.0, FILLED_LEAST - 0.01).table().contains("say little"));
    }
}
