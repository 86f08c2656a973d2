//! The bar: what has to be reached and what is aimed at, and where we stand.
//!
//! All are ratios within one run, or additions over the bare wire of the same run; what was not measured in the run does not stand in it.

use serde::Serialize;

use super::args::Ground;
use super::contender::{Layer, Role};
use super::figures::Figure;
use super::report::{Entry, Report};

/// One line of the bar.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Stand {
    what: &'static str,
    unit: &'static str,
    is: f64,
    must: f64,
    aim: Option<f64>,
    more_is_better: bool,
    stands: Verdict,
}

/// Where a figure stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Aim,
    Must,
    Short,
}

/// A line before it is measured: its bounds, and whether they are lower or upper ones.
struct Line {
    what: &'static str,
    unit: &'static str,
    must: f64,
    aim: Option<f64>,
    more_is_better: bool,
}

const fn at_least(what: &'static str, must: f64, aim: Option<f64>) -> Line {
    Line { what, unit: "×", must, aim, more_is_better: true }
}

const fn at_most(what: &'static str, unit: &'static str, must: f64, aim: Option<f64>) -> Line {
    Line { what, unit, must, aim, more_is_better: false }
}

impl Line {
    fn measured(self, is: Option<f64>) -> Option<Stand> {
        let is = is.filter(|is| is.is_finite())?;
        let Self { what, unit, must, aim, more_is_better } = self;
        let reaches = |bound: f64| if more_is_better { is >= bound } else { is <= bound };
        let stands = match aim {
            Some(aim) if reaches(aim) => Verdict::Aim,
            // Where nothing more is aimed at, what is reached is all that is wanted.
            None if reaches(must) => Verdict::Aim,
            _ if reaches(must) => Verdict::Must,
            _ => Verdict::Short,
        };
        Some(Stand { what, unit, is, must, aim, more_is_better, stands })
    }
}

impl Stand {
    pub(super) fn cells(&self) -> [String; 5] {
        let sign = if self.more_is_better { '≥' } else { '≤' };
        let bound = |bound: f64| format!("{sign} {bound} {}", self.unit);
        [
            self.what.to_owned(),
            format!("{:.2} {}", self.is, self.unit),
            bound(self.must),
            self.aim.map_or_else(|| "-".to_owned(), bound),
            match self.stands {
                Verdict::Aim => "reached",
                Verdict::Must => "must reached, aim not",
                Verdict::Short => "SHORT",
            }
            .to_owned(),
        ]
    }
}

/// Where we stand on a ground.
pub(super) fn stands(ground: Ground, report: &Report) -> Vec<Stand> {
    let Some(ours) = report.ours() else { return Vec::new() };
    let lines = match ground {
        Ground::RealWire => real_wire(report, ours),
        Ground::PlainVeth => {
            vec![(
                at_least("TCP, one flow, of VXLAN's", 0.45, Some(0.6)),
                of(report, ours, Role::Reference, Figure::TcpOne),
            )]
        }
        Ground::BadPath(_) => {
            vec![(
                at_least("TCP, all flows, of the bare path's", 0.95, None),
                of(report, ours, Role::Bare, Figure::TcpOne),
            )]
        }
        Ground::SameHost => {
            vec![(
                at_least("TCP, one flow, of the bridge's", 0.4, Some(0.6)),
                of(report, ours, Role::Reference, Figure::TcpOne),
            )]
        }
    };
    lines.into_iter().filter_map(|(line, is)| line.measured(is)).collect()
}

fn real_wire(report: &Report, ours: &Entry) -> Vec<(Line, Option<f64>)> {
    let own = |figure| Some(ours.median(figure)? / ours.median(Figure::TcpOne)?);
    let of_best = |figure| Some(ours.median(figure)? / report.best_layer2_peer(figure)?.1);
    let added = |figure| Some(ours.median(figure)? - report.of_role(Role::Bare, figure)?);
    #[expect(clippy::cast_precision_loss, reason = "megabytes with two digits")]
    let mebibytes = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64 / f64::from(1 << 20));
    vec![
        (
            at_least("TCP, one flow, of VXLAN's", 0.8, Some(1.0)),
            of(report, ours, Role::Reference, Figure::TcpOne),
        ),
        (at_least("TCP, one flow, of the best layer-2 peer's", 7.0, None), of_best(Figure::TcpOne)),
        (at_least("TCP, four flows, of one", 0.9, None), own(Figure::TcpFour)),
        (at_least("TCP, reverse, of one", 0.9, None), own(Figure::TcpReverse)),
        (at_least("TCP, both ways in sum, of one", 0.9, None), own(Figure::TcpBoth)),
        (
            at_most("processor time, of fastd's or VpnCloud's", "×", 0.14, Some(0.1)),
            of_thriftiest(report, ours),
        ),
        (
            at_least("small packets, of VXLAN's", 1.0, Some(1.5)),
            of(report, ours, Role::Reference, Figure::SmallPackets),
        ),
        (at_least("small packets, of the best layer-2 peer's", 2.0, None), of_best(Figure::SmallPackets)),
        (at_most("round trip added, idle, p50", "µs", 60.0, Some(40.0)), added(Figure::IdleP50)),
        (at_most("round trip added, idle, p99", "µs", 200.0, None), added(Figure::IdleP99)),
        (at_most("round trip beside a flow, p50", "µs", 1000.0, Some(300.0)), ours.median(Figure::LoadedP50)),
        (at_most("round trip beside a flow, p99", "µs", 4000.0, None), ours.median(Figure::LoadedP99)),
        (at_most("resident memory, idle", "MiB", 15.0, None), mebibytes(ours.resident_idle_bytes)),
        (at_most("resident memory, at the most", "MiB", 40.0, None), mebibytes(ours.resident_peak_bytes)),
    ]
}

fn of(report: &Report, ours: &Entry, role: Role, figure: Figure) -> Option<f64> {
    Some(ours.median(figure)? / report.of_role(role, figure)?)
}

/// Against the thriftier of the two peers that the bar names.
fn of_thriftiest(report: &Report, ours: &Entry) -> Option<f64> {
    let figure = Figure::CpuDaemons;
    let named = report.entries.iter().filter(|entry| ["fastd", "vpncloud"].contains(&entry.name));
    debug_assert!(named.clone().all(|entry| entry.layer == Layer::Ethernet), "both carry frames");
    Some(ours.median(figure)? / figure.best(named.filter_map(|entry| entry.median(figure)))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_stands_at_its_aim_its_must_or_short() {
        let verdict = |is| at_least("x", 0.8, Some(1.0)).measured(Some(is)).unwrap().stands;
        assert_eq!(
            [1.2, 1.0, 0.9, 0.7].map(verdict),
            [Verdict::Aim, Verdict::Aim, Verdict::Must, Verdict::Short]
        );
        let verdict = |is| at_most("x", "µs", 60.0, Some(40.0)).measured(Some(is)).unwrap().stands;
        assert_eq!([30.0, 60.0, 61.0].map(verdict), [Verdict::Aim, Verdict::Must, Verdict::Short]);
        assert_eq!(at_least("x", 0.9, None).measured(Some(0.9)).unwrap().stands, Verdict::Aim);
    }

    #[test]
    fn what_was_not_measured_does_not_stand() {
        assert!(at_least("x", 0.8, None).measured(None).is_none());
        assert!(at_least("x", 0.8, None).measured(Some(f64::NAN)).is_none());
    }
}
