//! `consort bench links`: two hosts, one wire, and who carries frames over it how fast.
//!
//! The bare wire, the kernel's unencrypted VXLAN and two of our data planes take turns in one run on the same hosts; figures are medians
//! over the rounds. By default the wire carries only finished frames of its MTU, as a real one does; a plain veth pair hands whole
//! super-frames across and flatters whoever uses them.

mod field;
pub(super) mod plane;
mod report;
mod traffic;

use std::time::Duration;

use consort_lab::enter::{self, Entry};
use consort_lab::reexec;

use super::BenchArgs;
use crate::cli::output::Output;
use crate::demo::stage::lab_failure;
use crate::failure::{Exit, Failure};
use field::{Contender, Field};
use report::{Report, Round};

/// Round trips of one measurement: a hundredth of them is still a few dozen.
const ROUND_TRIPS: usize = 3_000;
/// Under load they take longer, and the load ends with the measurement.
const LOADED_ROUND_TRIPS: usize = 300;
/// How long small packets are sent at each rate.
const FLOOD: Duration = Duration::from_millis(700);
/// Above what any generator here reaches.
const FLOOD_RATE: f64 = 10e6;
/// What a receiver may lose and still be said to keep up.
const LOSS_MAX: f64 = 0.01;
/// How much lower the next rate is when too much was lost.
const RATE_STEP: f64 = 0.8;
/// Rates tried before the last is taken as it is.
const RATES_MAX: usize = 12;

/// Runs the measurement, in a lab of its own.
pub(super) fn run(args: &BenchArgs, json: bool) -> Result<Exit, Failure> {
    if enter::directory().is_some() {
        return measure(args, json);
    }
    let mut body: Vec<std::ffi::OsString> = ["/proc/self/exe", "bench", "links"].map(Into::into).to_vec();
    body.extend(["--rounds".into(), args.rounds.to_string().into()]);
    body.extend(["--seconds".into(), args.seconds.to_string().into()]);
    body.extend(args.plain_veth.then(|| "--plain-veth".into()));
    body.extend(json.then(|| "--json".into()));
    let code = Entry { program: reexec::program(), body, expose: Vec::new() }.run().map_err(lab_failure)?;
    match code {
        0 => Ok(Exit::Done),
        reexec::EXIT_UNAVAILABLE => {
            Err(Failure::failed("lab_unavailable", "there are no emulated hosts to be had here")
                .remedy("the line above says why and what to do"))
        }
        _ => Ok(Exit::Failed),
    }
}

fn measure(args: &BenchArgs, json: bool) -> Result<Exit, Failure> {
    let field = Field::build(!args.plain_veth)?;
    let mut report = Report::new(args, field.resident_bytes()?);
    // The first frames wait for a handshake; nothing is measured before they are through.
    for contender in Contender::ALL {
        traffic::round_trips(&field.ends(contender), 10).map_err(lab_failure)?;
    }
    for number in 1..=args.rounds {
        for contender in Contender::ALL {
            eprintln!("round {number} of {}: {}", args.rounds, contender.name());
            let round = turn(&field, contender, Duration::from_secs(u64::from(args.seconds)))?;
            report.add(contender, round);
        }
    }
    report.resident_saturated_bytes = field.resident_bytes()?;
    Output { json }.document(&report.finished(), report::Finished::for_people)?;
    Ok(Exit::Done)
}

/// One contender's turn.
fn turn(field: &Field, contender: Contender, duration: Duration) -> Result<Round, Failure> {
    let ends = field.ends(contender);
    let tcp = |flows: &[traffic::Ends<'_>]| {
        traffic::tcp(flows, duration, || Ok(())).map(|(rate, ())| rate).map_err(lab_failure)
    };
    let idle = traffic::round_trips(&ends, ROUND_TRIPS).map_err(lab_failure)?;
    let cpu_before = field.cpu(contender)?;
    let one = tcp(&[ends])?;
    let cpu = field.cpu(contender)?.saturating_sub(cpu_before);
    let four = tcp(&[ends; 4])?;
    let reverse = tcp(&[ends.reversed()])?;
    let both = tcp(&[ends, ends.reversed()])?;
    let (_, loaded) = traffic::tcp(&[ends], duration, || traffic::round_trips(&ends, LOADED_ROUND_TRIPS))
        .map_err(lab_failure)?;
    Ok(Round {
        tcp_one: one,
        tcp_four: four,
        tcp_reverse: reverse,
        tcp_both: both,
        // The generator's warm-up is in the processor time too, so it counts as long as it lasts.
        cpu_per_gigabyte: cpu.as_secs_f64() / (one / 8e9 * (duration + traffic::WARM_UP).as_secs_f64()),
        idle,
        loaded,
        small_packets: small_packets(&ends)?,
    })
}

/// The highest rate of small packets that arrives nearly whole, in packets a second.
fn small_packets(ends: &traffic::Ends<'_>) -> Result<f64, Failure> {
    let mut rate = FLOOD_RATE;
    let mut received = 0.0;
    for _ in 0..RATES_MAX {
        let flood = traffic::flood(ends, rate, FLOOD).map_err(lab_failure)?;
        #[expect(clippy::cast_precision_loss, reason = "a rate is shown with three digits")]
        let per_second = |packets: u64| packets as f64 / FLOOD.as_secs_f64();
        received = per_second(flood.received);
        if flood.loss() < LOSS_MAX {
            break;
        }
        rate = per_second(flood.sent).min(rate) * RATE_STEP;
    }
    Ok(received)
}
