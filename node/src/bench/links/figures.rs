//! What is measured of a contender: names, units, and which way is better.

/// One quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Figure {
    TcpOne,
    TcpFour,
    TcpReverse,
    TcpBoth,
    CpuDaemons,
    CpuMachine,
    IdleP50,
    IdleP99,
    LoadedP50,
    LoadedP99,
    SmallPackets,
}

impl Figure {
    pub(super) const ALL: [Self; 11] = [
        Self::TcpOne,
        Self::TcpFour,
        Self::TcpReverse,
        Self::TcpBoth,
        Self::CpuDaemons,
        Self::CpuMachine,
        Self::IdleP50,
        Self::IdleP99,
        Self::LoadedP50,
        Self::LoadedP99,
        Self::SmallPackets,
    ];

    /// Its name for programs, with its unit.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::TcpOne => "tcp_one_gbit",
            Self::TcpFour => "tcp_four_gbit",
            Self::TcpReverse => "tcp_reverse_gbit",
            Self::TcpBoth => "tcp_both_ways_gbit",
            Self::CpuDaemons => "cpu_daemons_s_per_gb",
            Self::CpuMachine => "cpu_machine_s_per_gb",
            Self::IdleP50 => "rtt_idle_p50_us",
            Self::IdleP99 => "rtt_idle_p99_us",
            Self::LoadedP50 => "rtt_loaded_p50_us",
            Self::LoadedP99 => "rtt_loaded_p99_us",
            Self::SmallPackets => "small_packets_per_s",
        }
    }

    /// Whether more of it is better.
    pub(super) fn more_is_better(self) -> bool {
        match self {
            Self::TcpOne | Self::TcpFour | Self::TcpReverse | Self::TcpBoth | Self::SmallPackets => true,
            Self::CpuDaemons
            | Self::CpuMachine
            | Self::IdleP50
            | Self::IdleP99
            | Self::LoadedP50
            | Self::LoadedP99 => false,
        }
    }

    /// The best of some values.
    pub(super) fn best(self, values: impl Iterator<Item = f64>) -> Option<f64> {
        let values = values.filter(|value| value.is_finite());
        if self.more_is_better() { values.max_by(f64::total_cmp) } else { values.min_by(f64::total_cmp) }
    }

    /// For a table.
    pub(super) fn for_people(self, value: f64) -> String {
        match self {
            Self::TcpOne | Self::TcpFour | Self::TcpReverse | Self::TcpBoth if value < 0.1 => {
                format!("{value:.4}")
            }
            Self::TcpOne | Self::TcpFour | Self::TcpReverse | Self::TcpBoth => format!("{value:.2}"),
            Self::CpuDaemons | Self::CpuMachine => format!("{value:.2}"),
            Self::IdleP50 | Self::IdleP99 | Self::LoadedP50 | Self::LoadedP99 => format!("{value:.0}"),
            Self::SmallPackets => format!("{:.0}", value / 1e3),
        }
    }
}

/// The value below which this part of the values lie; not a number if there are none.
pub(super) fn quantile(mut values: Vec<f64>, part: f64) -> f64 {
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

/// The middle one.
pub(super) fn median(values: &[f64]) -> f64 {
    quantile(values.to_vec(), 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_stand_where_they_should() {
        let values: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        assert_eq!(median(&values).to_bits(), 50.0_f64.to_bits());
        assert_eq!(quantile(values, 0.99).to_bits(), 99.0_f64.to_bits());
        assert!(quantile(Vec::new(), 0.5).is_nan());
    }

    #[test]
    fn the_best_is_the_fastest_and_the_cheapest() {
        let values = [3.0, f64::NAN, 1.0, 2.0];
        assert_eq!(Figure::TcpOne.best(values.into_iter()), Some(3.0));
        assert_eq!(Figure::CpuDaemons.best(values.into_iter()), Some(1.0));
        assert_eq!(Figure::CpuDaemons.best(std::iter::empty()), None);
    }
}
