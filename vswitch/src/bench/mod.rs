//! What the core costs, without devices and sockets: the figures of `consort bench frames`.
//!
//! The questions: what does it cost to find an address among 10,000 and 100,000; to decide about a frame (`tables`); to seal and open it
//! with each suite (`cipher`); to cut a super-frame and to join one (`segments`)? Each is answered beside plain ways of doing the same, in
//! the same run and in turns, as medians, so that a ratio means something on a computer that others use too.

mod cipher;
mod segments;
mod tables;

use std::{
    fmt,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    frame::{checksum::Sum, ethernet::ethertype, ip::protocol},
    mac::MacAddr,
};

/// Turns of each contender.
const ROUNDS: usize = 15;
/// A turn lasts about this long: far above the clock's grain, far below a scheduler's patience.
const TURN: Duration = Duration::from_millis(2);
/// Calls of one turn: where a call costs nothing, the turn still ends.
const CALLS_MAX: u32 = 1 << 24;

/// One measurement with its baselines.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// What was done.
    pub what: String,
    /// What it cost, in nanoseconds each.
    pub nanos: f64,
    /// Bytes handled each time, where that makes sense.
    pub bytes: Option<usize>,
    /// Plain ways of doing the same, or the least it could cost, from the same run.
    pub baselines: Vec<Baseline>,
}

/// What something is compared with.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Baseline {
    /// How it is done.
    pub how: &'static str,
    /// What it cost, in nanoseconds each.
    pub nanos: f64,
}

impl Figure {
    /// Races ours against the baselines.
    fn measured<const N: usize>(
        what: String,
        bytes: Option<usize>,
        ours: Contender<'_>,
        baselines: [(&'static str, Contender<'_>); N],
    ) -> Self {
        let (names, mut contenders): (Vec<_>, Vec<_>) = baselines.into_iter().unzip();
        contenders.insert(0, ours);
        let nanos = race(contenders);
        let baselines =
            names.into_iter().zip(&nanos[1..]).map(|(how, nanos)| Baseline { how, nanos: *nanos }).collect();
        Self { what, nanos: nanos[0], bytes, baselines }
    }

    /// Gigabytes in a second, where bytes were handled.
    pub fn gigabytes_per_second(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "at most 64 KiB")]
        self.bytes.map(|bytes| bytes as f64 / self.nanos)
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<56} {:>9.1} ns", self.what, self.nanos)?;
        match self.gigabytes_per_second() {
            Some(rate) => write!(f, " {rate:>6.2} GB/s")?,
            None => write!(f, "            ")?,
        }
        for Baseline { how, nanos } in &self.baselines {
            write!(f, "   {:.2} × {how} ({nanos:.1} ns)", self.nanos / nanos)?;
        }
        Ok(())
    }
}

/// All figures. Takes a few seconds of one core.
pub fn frames() -> Vec<Figure> {
    let mut figures = Vec::new();
    for addresses in [10_000, 100_000] {
        figures.push(tables::lookup(addresses));
        figures.push(tables::decision(addresses));
    }
    figures.extend(cipher::seal_and_open());
    for size in [536, 1400, 8948] {
        figures.extend(segments::cut_and_join(size));
    }
    figures
}

/// One way of doing something, so many times.
type Contender<'a> = Box<dyn FnMut(u32) + 'a>;

/// A contender from one call. The loop is inside, so that what is measured is not called through a pointer each time.
fn calls<'a>(mut call: impl FnMut() + 'a) -> Contender<'a> {
    Box::new(move |count| {
        for _ in 0..count {
            call();
        }
    })
}

/// Runs all in turns and takes the medians of the time of one call.
fn race(mut contenders: Vec<Contender<'_>>) -> Vec<f64> {
    let counts: Vec<u32> = contenders.iter_mut().map(calibrate).collect();
    let mut times = vec![Vec::with_capacity(ROUNDS); contenders.len()];
    for _ in 0..ROUNDS {
        for ((contender, count), times) in contenders.iter_mut().zip(&counts).zip(&mut times) {
            times.push(turn(contender, *count));
        }
    }
    let median = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[ROUNDS / 2]
    };
    times.into_iter().map(median).collect()
}

/// How many calls make a turn.
fn calibrate(contender: &mut Contender<'_>) -> u32 {
    let mut count = 1;
    while turn(contender, count) * f64::from(count) < TURN.as_secs_f64() * 1e9 && count < CALLS_MAX {
        count *= 2;
    }
    count
}

/// Nanoseconds of one of so many calls.
#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn turn(contender: &mut Contender<'_>, count: u32) -> f64 {
    let start = Instant::now();
    contender(count);
    start.elapsed().as_secs_f64() * 1e9 / f64::from(count)
}

#[expect(clippy::cast_possible_truncation, reason = "fewer addresses than 2^32")]
fn mac(number: usize) -> MacAddr {
    let [a, b, c, d] = (number as u32).to_be_bytes();
    MacAddr([2, 0, a, b, c, d])
}

/// A TCP frame over IPv4 with right checksums.
fn tcp_frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = [mac(1).0, mac(0).0].concat();
    frame.extend(ethertype::IPV4.to_be_bytes());
    frame.extend([0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, protocol::TCP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0x10, 0, 0x20, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
    frame.extend_from_slice(payload);
    finish(&mut frame, |bytes| Sum::default().bytes(bytes).folded());
    frame
}

/// Puts lengths and checksums into a TCP frame over IPv4, summing by `sum`.
#[expect(clippy::cast_possible_truncation, reason = "frames here are shorter than 64 KiB")]
fn finish(frame: &mut [u8], sum: impl Fn(&[u8]) -> u16) {
    let packet_bytes = (frame.len() - 14) as u16;
    frame[16..18].copy_from_slice(&packet_bytes.to_be_bytes());
    frame[24..26].fill(0);
    let header = !sum(&frame[14..34]);
    frame[24..26].copy_from_slice(&header.to_be_bytes());
    frame[50..52].fill(0);
    let addresses = sum(&frame[26..34]);
    let segment = sum(&frame[34..]);
    let whole =
        Sum::default().word(addresses).word(segment).word(packet_bytes - 20).word(u16::from(protocol::TCP));
    frame[50..52].copy_from_slice(&whole.finish().to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_contender_has_its_turns_and_its_own_time() {
        let mut turns = [0; 2];
        let [ours, theirs] = &mut turns;
        let figure = Figure::measured(
            "nothing".to_owned(),
            Some(1000),
            Box::new(|count| *ours += count),
            [("the same", Box::new(|count| *theirs += count))],
        );
        assert_eq!((figure.baselines.len(), figure.baselines[0].how), (1, "the same"));
        assert!(figure.nanos > 0.0 && figure.gigabytes_per_second().is_some());
        assert!(turns.iter().all(|count| *count > 0), "{turns:?}");
    }
}
