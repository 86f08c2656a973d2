//! Medians and ratios.

use std::time::Duration;

use serde::Serialize;

use super::super::BenchArgs;
use super::field::Contender;
use crate::cli::output::table;

/// What one turn gave.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) tcp_one: f64,
    pub(super) tcp_four: f64,
    pub(super) tcp_reverse: f64,
    pub(super) tcp_both: f64,
    pub(super) cpu_per_gigabyte: f64,
    pub(super) idle: Vec<Duration>,
    pub(super) loaded: Vec<Duration>,
    pub(super) small_packets: f64,
}

/// All turns.
#[derive(Debug)]
pub(super) struct Report {
    real_wire: bool,
    rounds: Vec<(Contender, Round)>,
    resident_idle_bytes: u64,
    pub(super) resident_saturated_bytes: u64,
}

/// Medians of one contender.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Medians {
    pub(super) contender: &'static str,
    pub(super) tcp_one_gbit: f64,
    pub(super) tcp_four_gbit: f64,
    pub(super) tcp_reverse_gbit: f64,
    pub(super) tcp_both_ways_gbit: f64,
    pub(super) cpu_s_per_gb: f64,
    pub(super) rtt_idle_p50_us: f64,
    pub(super) rtt_idle_p99_us: f64,
    pub(super) rtt_loaded_p50_us: f64,
    pub(super) rtt_loaded_p99_us: f64,
    pub(super) small_packets_per_s: f64,
}

/// The whole, as it is printed.
#[derive(Debug, Serialize)]
pub(super) struct Finished {
    build: &'static str,
    real_wire: bool,
    contenders: Vec<Medians>,
    /// One TCP flow of ours against the kernel's VXLAN.
    tcp_one_vs_vxlan: f64,
    /// Small packets of ours against the kernel's VXLAN.
    small_packets_vs_vxlan: f64,
    resident_idle_bytes: u64,
    resident_saturated_bytes: u64,
}

impl Report {
    pub(super) fn new(args: &BenchArgs, resident_idle_bytes: u64) -> Self {
        Self {
            real_wire: !args.plain_veth,
            rounds: Vec::new(),
            resident_idle_bytes,
            resident_saturated_bytes: 0,
        }
    }

    pub(super) fn add(&mut self, contender: Contender, round: Round) {
        self.rounds.push((contender, round));
    }

    pub(super) fn finished(&self) -> Finished {
        let contenders: Vec<Medians> = Contender::ALL.map(|contender| self.medians(contender)).to_vec();
        let ratio = |figure: fn(&Medians) -> f64| figure(&contenders[2]) / figure(&contenders[1]);
        Finished {
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            real_wire: self.real_wire,
            tcp_one_vs_vxlan: ratio(|medians| medians.tcp_one_gbit),
            small_packets_vs_vxlan: ratio(|medians| medians.small_packets_per_s),
            contenders,
            resident_idle_bytes: self.resident_idle_bytes,
            resident_saturated_bytes: self.resident_saturated_bytes,
        }
    }

    fn medians(&self, contender: Contender) -> Medians {
        let of = |figure: fn(&Round) -> f64| {
            let rounds = self.rounds.iter().filter(|(whose, _)| *whose == contender);
            quantile(rounds.map(|(_, round)| figure(round)).collect(), 0.5)
        };
        Medians {
            contender: contender.name(),
            tcp_one_gbit: of(|round| round.tcp_one) / 1e9,
            tcp_four_gbit: of(|round| round.tcp_four) / 1e9,
            tcp_reverse_gbit: of(|round| round.tcp_reverse) / 1e9,
            tcp_both_ways_gbit: of(|round| round.tcp_both) / 1e9,
            cpu_s_per_gb: of(|round| round.cpu_per_gigabyte),
            rtt_idle_p50_us: of(|round| microseconds(&round.idle, 0.5)),
            rtt_idle_p99_us: of(|round| microseconds(&round.idle, 0.99)),
            rtt_loaded_p50_us: of(|round| microseconds(&round.loaded, 0.5)),
            rtt_loaded_p99_us: of(|round| microseconds(&round.loaded, 0.99)),
            small_packets_per_s: of(|round| round.small_packets),
        }
    }
}

impl Finished {
    pub(super) fn for_people(&self) -> String {
        let rows: Vec<[String; 9]> = self
            .contenders
            .iter()
            .map(|medians| {
                [
                    medians.contender.to_owned(),
                    format!("{:.2}", medians.tcp_one_gbit),
                    format!("{:.2}", medians.tcp_four_gbit),
                    format!("{:.2}", medians.tcp_reverse_gbit),
                    format!("{:.2}", medians.tcp_both_ways_gbit),
                    format!("{:.2}", medians.cpu_s_per_gb),
                    format!("{:.0}/{:.0}", medians.rtt_idle_p50_us, medians.rtt_idle_p99_us),
                    format!("{:.0}/{:.0}", medians.rtt_loaded_p50_us, medians.rtt_loaded_p99_us),
                    format!("{:.0}", medians.small_packets_per_s / 1e3),
                ]
            })
            .collect();
        let heading = [
            "WHO",
            "TCP Gb/s",
            "4 FLOWS",
            "REVERSE",
            "BOTH WAYS",
            "CPU s/GB",
            "RTT µs p50/p99",
            "LOADED",
            "64 B kpps",
        ];
        format!(
            "{}\n{}, {} build; of kernel VXLAN: TCP {:.2}, small packets {:.2}; our resident memory {} KiB idle, {} KiB after load\n",
            table(heading, &rows),
            if self.real_wire { "real wire" } else { "plain veth" },
            self.build,
            self.tcp_one_vs_vxlan,
            self.small_packets_vs_vxlan,
            self.resident_idle_bytes >> 10,
            self.resident_saturated_bytes >> 10
        )
    }
}

fn microseconds(times: &[Duration], part: f64) -> f64 {
    quantile(times.iter().map(|time| time.as_secs_f64() * 1e6).collect(), part)
}

/// The value below which this part of the values lie; not a number if there are none.
fn quantile(mut values: Vec<f64>, part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index from a part between 0 and 1 of a short list"
    )]
    let index = (values.len().saturating_sub(1) as f64 * part).round() as usize;
    values.get(index).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_stand_where_they_should() {
        let values: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        assert_eq!(quantile(values.clone(), 0.5).to_bits(), 50.0_f64.to_bits());
        assert_eq!(quantile(values, 0.99).to_bits(), 99.0_f64.to_bits());
        assert!(quantile(Vec::new(), 0.5).is_nan());
    }
}
