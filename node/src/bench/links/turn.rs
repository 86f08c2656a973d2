//! One contender's turn: what is measured, and what of it is kept.

use std::io;
use std::time::Duration;

use consort_lab::usage::{self, MachineUsage};

use super::args::{Ground, Measure, Plan};
use super::contender::{Contender, Spent};
use super::figures::{Figure, quantile};
use super::traffic::{self, Ends, Window, round_trips};
use crate::demo::stage::lab_failure;
use crate::failure::Failure;

/// Round trips of one measurement without load: a hundredth of them is still a few dozen.
const ROUND_TRIPS: usize = 3_000;
/// A contender that takes long for a round trip makes fewer.
const IDLE_MAX: Duration = Duration::from_secs(1);
/// Between round trips beside a flow, as a ping has pauses: one after the other they would be a load themselves.
const LOADED_PAUSE: Duration = Duration::from_millis(2);
/// Above what a minute has room for.
const LOADED_TRIPS_MAX: usize = 100_000;

/// Flows at once on a bad path, all alike and counted in sum: what a single one gets there is luck, of some ten losses a second.
pub(super) const BAD_PATH_FLOWS: usize = 16;

/// What a turn gave.
pub(super) type Values = Vec<(Figure, f64)>;

/// Measures what the plan asks for.
pub(super) fn turn(plan: &Plan, contender: &Contender, ends: &Ends<'_>) -> Result<Values, Failure> {
    let mut values = Values::new();
    for measure in &plan.measures {
        values.extend(measured(*measure, plan, contender, *ends)?);
    }
    Ok(values)
}

fn measured(measure: Measure, plan: &Plan, contender: &Contender, ends: Ends<'_>) -> Result<Values, Failure> {
    let duration = plan.duration;
    let rate = |figure, flows: &[Ends<'_>]| {
        let window = traffic::tcp(flows, duration, || Ok(()), || Ok(())).map_err(lab_failure)?;
        Ok(vec![(figure, window.bits_per_second() / 1e9)])
    };
    match measure {
        Measure::Tcp if matches!(plan.ground, Ground::BadPath(_)) => {
            with_costs(duration, contender, &[ends; BAD_PATH_FLOWS])
        }
        Measure::Tcp => with_costs(duration, contender, &[ends]),
        Measure::Four => rate(Figure::TcpFour, &[ends; 4]),
        Measure::Reverse => rate(Figure::TcpReverse, &[ends.reversed()]),
        Measure::Both => rate(Figure::TcpBoth, &[ends, ends.reversed()]),
        Measure::Idle => {
            let trips = round_trips(&ends, ROUND_TRIPS, IDLE_MAX, Duration::ZERO).map_err(lab_failure)?;
            Ok(quantiles(&trips, Figure::IdleP50, Figure::IdleP99))
        }
        Measure::Loaded => {
            let meanwhile = || round_trips(&ends, LOADED_TRIPS_MAX, duration, LOADED_PAUSE);
            let window = traffic::tcp(&[ends], duration, || Ok(()), meanwhile).map_err(lab_failure)?;
            Ok(quantiles(&window.meanwhile, Figure::LoadedP50, Figure::LoadedP99))
        }
        Measure::Small => {
            let rate = traffic::highest_rate(&ends).map_err(lab_failure)?;
            Ok(vec![(Figure::SmallPackets, rate)])
        }
    }
}

/// Flows in sum, with what they cost the contender's processes and the computer.
fn with_costs(duration: Duration, contender: &Contender, flows: &[Ends<'_>]) -> Result<Values, Failure> {
    let probe = || {
        let spent = contender.spent().map_err(io::Error::other)?;
        Ok((spent, usage::of_machine()?))
    };
    let window = traffic::tcp(flows, duration, probe, || Ok(())).map_err(lab_failure)?;
    Ok(costs(contender, &window))
}

fn costs(contender: &Contender, window: &Window<(Spent, MachineUsage), ()>) -> Values {
    let [(spent, machine), (spent_later, machine_later)] = window.probed;
    let per_gigabyte = |time: Duration| time.as_secs_f64() / window.gigabytes();
    let mut values = vec![
        (Figure::TcpOne, window.bits_per_second() / 1e9),
        (Figure::CpuMachine, per_gigabyte(machine_later.since(machine).busy)),
    ];
    if !contender.daemons.is_empty() {
        values.push((Figure::CpuDaemons, per_gigabyte(spent_later.cpu.saturating_sub(spent.cpu))));
    }
    values
}

/// The median time of the wake-ups that a round trip through a tunnel takes at the least, in microseconds.
pub(super) fn wake_ups() -> Result<f64, Failure> {
    let rounds = traffic::wake_ups().map_err(lab_failure)?;
    Ok(quantile(rounds.iter().map(|time| time.as_secs_f64() * 1e6).collect(), 0.5))
}

fn quantiles(trips: &[Duration], p50: Figure, p99: Figure) -> Values {
    let micros = || trips.iter().map(|time| time.as_secs_f64() * 1e6).collect();
    vec![(p50, quantile(micros(), 0.5)), (p99, quantile(micros(), 0.99))]
}
