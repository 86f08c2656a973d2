//! Medians and ratios, for programs and for people.

use std::collections::BTreeMap;
use std::time::Duration;

use consort_lab::usage::MachineUsage;
use serde::Serialize;

use super::args::{Ground, Plan};
use super::bar::{self, Stand};
use super::calibration::Calibration;
use super::contender::{Contender, Layer, Role};
use super::field::Absent;
use super::figures::{Figure, median};
use super::turn::{BAD_PATH_FLOWS, Values};
use crate::bench::CONGESTION;
use crate::bench::frames::build;
use crate::cli::output::table;

/// All turns of one contender.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: &'static str,
    pub(super) role: Role,
    pub(super) layer: Layer,
    cipher: Option<&'static str>,
    version: Option<String>,
    rounds: BTreeMap<Figure, Vec<f64>>,
    pub(super) resident_idle_bytes: Option<u64>,
    pub(super) resident_peak_bytes: Option<u64>,
}

impl Entry {
    pub(super) fn new(contender: &Contender, version: Option<String>) -> Self {
        Self {
            name: contender.name,
            role: contender.role,
            layer: contender.layer,
            cipher: contender.cipher,
            version,
            rounds: BTreeMap::new(),
            resident_idle_bytes: None,
            resident_peak_bytes: None,
        }
    }

    pub(super) fn add(&mut self, values: Values) {
        for (figure, value) in values {
            self.rounds.entry(figure).or_default().push(value);
        }
    }

    /// The median of what was measured.
    pub(super) fn median(&self, figure: Figure) -> Option<f64> {
        self.rounds.get(&figure).map(|values| median(values))
    }
}

/// What the plain tunnel, which does nothing but the system calls, stands at where the bar speaks of us: nobody's program between a TAP and a
/// UDP socket does better here by these calls.
#[derive(Debug, Serialize)]
struct OfFloor {
    /// Its rate of one TCP flow, of the reference's.
    tcp_of_reference: Option<f64>,
    /// What it adds to the bare wire's idle round trip, in microseconds.
    idle_added_p50_us: Option<f64>,
    /// Our rate, of its.
    tcp_ours: Option<f64>,
}

impl OfFloor {
    fn of(report: &Report) -> Option<Self> {
        let floor = report.entries.iter().find(|entry| entry.role == Role::Floor)?;
        let of = |role, figure| Some(floor.median(figure)? / report.of_role(role, figure)?);
        let bare = report.of_role(Role::Bare, Figure::IdleP50);
        Some(Self {
            tcp_of_reference: of(Role::Reference, Figure::TcpOne),
            idle_added_p50_us: floor.median(Figure::IdleP50).zip(bare).map(|(floor, bare)| floor - bare),
            tcp_ours: of(Role::Ours, Figure::TcpOne).map(f64::recip),
        })
    }

    fn for_people(&self) -> String {
        let tcp = self.tcp_of_reference.zip(self.tcp_ours);
        let tcp = tcp.map(|(floor, ours)| {
            format!("{floor:.2} × the reference's rate of one flow (we {ours:.2} × its own)")
        });
        let idle = self.idle_added_p50_us.map(|added| format!("adds {added:.0} µs to an idle round trip"));
        let parts: Vec<String> = tcp.into_iter().chain(idle).collect();
        if parts.is_empty() {
            String::new()
        } else {
            format!("the plain tunnel, system calls alone: {}\n", parts.join("; "))
        }
    }
}

/// All turns of all.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) entries: Vec<Entry>,
    pub(super) absent: Vec<Absent>,
    pub(super) calibration: Option<Calibration>,
    /// What four wake-ups take by themselves, in microseconds, for each round in which round trips were measured.
    pub(super) wake_ups: Vec<f64>,
    pub(super) machine: MachineUsage,
    /// Of the processor time that went by: the generators' and the contenders'.
    pub(super) own_cpu: Duration,
}

/// A contender as it is printed.
#[derive(Debug, Serialize)]
struct Row {
    contender: &'static str,
    layer: Layer,
    cipher: Option<&'static str>,
    version: Option<String>,
    medians: BTreeMap<&'static str, f64>,
    /// Medians against those of the reference (the kernel's VXLAN or bridge).
    of_reference: BTreeMap<&'static str, f64>,
    rounds: BTreeMap<&'static str, Vec<f64>>,
    resident_idle_bytes: Option<u64>,
    resident_peak_bytes: Option<u64>,
}

/// One of ours against the best of the others on layer 2.
#[derive(Debug, Serialize)]
struct AgainstBest {
    best: &'static str,
    ratio: f64,
}

/// The whole, as it is printed.
#[derive(Debug, Serialize)]
pub(super) struct Finished {
    build: &'static str,
    ground: String,
    rounds: u32,
    seconds: u64,
    congestion_control: &'static str,
    /// Part of the processor time wanted during the run that went to other guests of the same hardware.
    stolen_part: f64,
    /// Part of the processor time spent that was neither the generators' nor the contenders': the kernel's own threads, the middle box, and
    /// whatever else ran. Much more than in other runs means that the run was disturbed.
    foreign_part: f64,
    calibration: Option<Calibration>,
    /// What the wake-ups of a round trip through user space take alone.
    wake_ups_p50_us: Option<f64>,
    contenders: Vec<Row>,
    absent: Vec<Absent>,
    ours_of_best_layer2_peer: BTreeMap<&'static str, AgainstBest>,
    /// Where the plain tunnel took part.
    of_floor: Option<OfFloor>,
    bar: Vec<Stand>,
}

impl Report {
    pub(super) fn ours(&self) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.role == Role::Ours)
    }

    pub(super) fn of_role(&self, role: Role, figure: Figure) -> Option<f64> {
        self.entries.iter().find(|entry| entry.role == role)?.median(figure)
    }

    /// The best of the other programs on layer 2.
    pub(super) fn best_layer2_peer(&self, figure: Figure) -> Option<(&'static str, f64)> {
        let peers =
            || self.entries.iter().filter(|entry| entry.role == Role::Peer && entry.layer == Layer::Ethernet);
        let best = figure.best(peers().filter_map(|entry| entry.median(figure)))?;
        let who = peers().find(|entry| entry.median(figure) == Some(best))?;
        Some((who.name, best))
    }

    pub(super) fn finished(self, plan: &Plan) -> Finished {
        let wanted = self.machine.busy + self.machine.stolen;
        Finished {
            build: build(),
            ground: ground(plan.ground),
            rounds: plan.rounds,
            seconds: plan.duration.as_secs(),
            congestion_control: CONGESTION,
            stolen_part: self.machine.stolen.as_secs_f64() / wanted.as_secs_f64().max(f64::MIN_POSITIVE),
            foreign_part: self.machine.busy.saturating_sub(self.own_cpu).as_secs_f64()
                / self.machine.busy.as_secs_f64().max(f64::MIN_POSITIVE),
            contenders: self.entries.iter().map(|entry| self.row(entry)).collect(),
            ours_of_best_layer2_peer: self.against_best(),
            of_floor: OfFloor::of(&self),
            bar: bar::stands(plan.ground, &self),
            calibration: self.calibration,
            wake_ups_p50_us: (!self.wake_ups.is_empty()).then(|| median(&self.wake_ups)),
            absent: self.absent,
        }
    }

    fn row(&self, entry: &Entry) -> Row {
        let medians: BTreeMap<Figure, f64> =
            Figure::ALL.into_iter().filter_map(|figure| Some((figure, entry.median(figure)?))).collect();
        let of_reference = medians.iter().filter_map(|(figure, value)| {
            Some((figure.name(), value / self.of_role(Role::Reference, *figure)?))
        });
        Row {
            contender: entry.name,
            layer: entry.layer,
            cipher: entry.cipher,
            version: entry.version.clone(),
            of_reference: of_reference.collect(),
            medians: medians.into_iter().map(|(figure, value)| (figure.name(), value)).collect(),
            rounds: entry.rounds.iter().map(|(figure, values)| (figure.name(), values.clone())).collect(),
            resident_idle_bytes: entry.resident_idle_bytes,
            resident_peak_bytes: entry.resident_peak_bytes,
        }
    }

    fn against_best(&self) -> BTreeMap<&'static str, AgainstBest> {
        Figure::ALL
            .into_iter()
            .filter_map(|figure| {
                let ours = self.ours()?.median(figure)?;
                let (best, value) = self.best_layer2_peer(figure)?;
                Some((figure.name(), AgainstBest { best, ratio: ours / value }))
            })
            .collect()
    }
}

fn ground(ground: Ground) -> String {
    match ground {
        Ground::RealWire => "real wire".to_owned(),
        Ground::PlainVeth => "plain veth".to_owned(),
        Ground::SameHost => "same host".to_owned(),
        Ground::BadPath(impairment) => format!(
            "bad path: each way {:.2} % lost, {:?} delay, {:.2} % overtaken, {BAD_PATH_FLOWS} flows in sum",
            impairment.loss * 100.0,
            impairment.delay,
            impairment.reorder * 100.0
        ),
    }
}

impl Finished {
    pub(super) fn for_people(&self) -> String {
        let heading = [
            "WHO",
            "TCP Gb/s",
            "4 FLOWS",
            "REVERSE",
            "BOTH",
            "CPU s/GB",
            "MACHINE",
            "RTT µs",
            "LOADED",
            "64 B kpps",
            "MiB IDLE/PEAK",
        ];
        let rows: Vec<[String; 11]> = self.contenders.iter().map(Row::cells).collect();
        let mut text = format!(
            "{}, {} build, {} rounds of {} s, {} for all, {:.1} % of the processor time stolen, {:.1} % foreign\n{}",
            self.ground,
            self.build,
            self.rounds,
            self.seconds,
            self.congestion_control,
            self.stolen_part * 100.0,
            self.foreign_part * 100.0,
            table(heading, &rows)
        );
        text += "CPU: processes of both ends; MACHINE: all that ran, generators and kernel included; RTT p50/p99\n";
        text += &self.calibration.as_ref().map(Calibration::for_people).unwrap_or_default();
        if let Some(wake_ups) = self.wake_ups_p50_us {
            text += &format!(
                "four sleeping threads woken one after the other, nothing else: p50 {wake_ups:.0} µs\n"
            );
        }
        for Absent { contender, reason } in &self.absent {
            text += &format!("{contender} did not take part: {reason}\n");
        }
        if let Some(floor) = &self.of_floor {
            text += &floor.for_people();
        }
        if !self.bar.is_empty() {
            text += &table(
                ["THE BAR", "IS", "MUST", "AIM", "STANDS"],
                &self.bar.iter().map(Stand::cells).collect::<Vec<_>>(),
            );
        }
        text
    }
}

impl Row {
    fn cells(&self) -> [String; 11] {
        let cell = |figure: Figure| {
            let value = self.medians.get(figure.name());
            value.map_or_else(|| "-".to_owned(), |value| figure.for_people(*value))
        };
        let pair = |p50, p99| match (cell(p50), cell(p99)) {
            (p50, p99) if p50 == "-" && p99 == "-" => p50,
            (p50, p99) => format!("{p50}/{p99}"),
        };
        #[expect(clippy::cast_precision_loss, reason = "megabytes with one digit")]
        let mebibytes = |bytes: Option<u64>| {
            bytes.map_or_else(|| "-".to_owned(), |bytes| format!("{:.1}", bytes as f64 / f64::from(1 << 20)))
        };
        [
            self.contender.to_owned(),
            cell(Figure::TcpOne),
            cell(Figure::TcpFour),
            cell(Figure::TcpReverse),
            cell(Figure::TcpBoth),
            cell(Figure::CpuDaemons),
            cell(Figure::CpuMachine),
            pair(Figure::IdleP50, Figure::IdleP99),
            pair(Figure::LoadedP50, Figure::LoadedP99),
            cell(Figure::SmallPackets),
            match (self.resident_idle_bytes, self.resident_peak_bytes) {
                (None, None) => "-".to_owned(),
                (idle, peak) => format!("{}/{}", mebibytes(idle), mebibytes(peak)),
            },
        ]
    }
}
