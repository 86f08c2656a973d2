//! What the middle box itself does to traffic, measured before anything is measured through it.

use std::time::Duration;

use serde::Serialize;

use super::args::Plan;
use super::field::Field;
use super::figures::quantile;
use super::traffic::{self, Ends, flood, round_trips};
use crate::demo::stage::lab_failure;
use crate::failure::Failure;

/// Datagrams a second while loss is counted: far below what the box moves.
const CALM_RATE: f64 = 5_000.0;
const COUNTED: Duration = Duration::from_secs(2);
const ROUND_TRIPS: usize = 200;

/// What was found, all without any tunnel.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Calibration {
    /// One TCP flow past the box.
    direct_gbit: f64,
    /// The same through the box while it does nothing.
    clean_gbit: f64,
    /// Round trip through the box while it does nothing.
    clean_rtt_p50_us: f64,
    /// The same with its impairment.
    impaired_rtt_p50_us: f64,
    /// Part of the datagrams lost one way with its impairment.
    loss: f64,
}

/// Measures the box, and leaves it doing what it was asked to; nothing where there is none.
pub(super) fn calibrate(plan: &Plan, field: &mut Field) -> Result<Option<Calibration>, Failure> {
    let Some([direct, boxed]) = field.calibration_ends() else { return Ok(None) };
    eprintln!("calibrating the middle box");
    let (direct_gbit, clean_gbit) = (gigabits(plan, direct)?, gigabits(plan, boxed)?);
    let clean_rtt_p50_us = round_trip(&boxed)?;
    field.impair()?;
    let Some([_, boxed]) = field.calibration_ends() else { return Ok(None) };
    Ok(Some(Calibration {
        direct_gbit,
        clean_gbit,
        clean_rtt_p50_us,
        impaired_rtt_p50_us: round_trip(&boxed)?,
        loss: flood(&boxed, Some(CALM_RATE), COUNTED).map_err(lab_failure)?.loss(),
    }))
}

fn gigabits(plan: &Plan, ends: Ends<'_>) -> Result<f64, Failure> {
    let window = traffic::tcp(&[ends], plan.duration, || Ok(()), || Ok(())).map_err(lab_failure)?;
    Ok(window.bits_per_second() / 1e9)
}

fn round_trip(ends: &Ends<'_>) -> Result<f64, Failure> {
    let trips = round_trips(ends, ROUND_TRIPS, COUNTED, Duration::ZERO).map_err(lab_failure)?;
    Ok(quantile(trips.iter().map(|trip| trip.as_secs_f64() * 1e6).collect(), 0.5))
}

impl Calibration {
    pub(super) fn for_people(&self) -> String {
        format!(
            "middle box: one TCP flow {:.2} Gb/s past it, {:.2} through it idle; round trip p50 {:.0} µs idle, {:.0} µs as asked; loses {:.2} %\n",
            self.direct_gbit,
            self.clean_gbit,
            self.clean_rtt_p50_us,
            self.impaired_rtt_p50_us,
            self.loss * 100.0
        )
    }
}
