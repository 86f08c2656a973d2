//! Rates as people write them: a number and `bit/s`, `kbit/s`, `Mbit/s` or `Gbit/s` (powers of 1000), such as `100Mbit/s` or `2.5Gbit/s`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a rate is written, for texts that name the remedy.
pub const RATE_REMEDY: &str = "write a rate such as 64kbit/s, 100Mbit/s or 2.5Gbit/s";

const UNITS: [(&str, u64); 4] =
    [("Gbit/s", 1_000_000_000), ("Mbit/s", 1_000_000), ("kbit/s", 1_000), ("bit/s", 1)];

/// Bits per second; never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rate(pub u64);

impl Rate {
    /// Reads `written`; `None` if it is no rate or 0.
    #[must_use]
    pub fn parse(written: &str) -> Option<Self> {
        let written = written.trim();
        let digits = written.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(written.len());
        let (number, unit) = (&written[..digits], written[digits..].trim_start());
        let (_, factor) = UNITS.iter().find(|(known, _)| *known == unit)?;
        let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() || decimals.len() > 3 || (number.contains('.') && decimals.is_empty()) {
            return None;
        }
        let thousandths: u64 = format!("{decimals:0<3}").parse().ok()?;
        let milli = whole.parse::<u64>().ok()?.checked_mul(1_000)?.checked_add(thousandths)?;
        let bits = milli.checked_mul(*factor)? / 1_000;
        (bits > 0).then_some(Self(bits))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = UNITS.into_iter().find(|(_, factor)| self.0 >= *factor).unwrap_or(("bit/s", 1));
        let (whole, milli) = (self.0 / factor, self.0 % factor * 1_000 / factor);
        if milli == 0 {
            write!(out, "{whole}{unit}")
        } else {
            write!(out, "{whole}.{}{unit}", format!("{milli:03}").trim_end_matches('0'))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_shown_alike() {
        for (text, bits) in [
            ("64kbit/s", 64_000),
            ("100Mbit/s", 100_000_000),
            ("2.5Gbit/s", 2_500_000_000),
            ("7bit/s", 7),
            ("1.125Mbit/s", 1_125_000),
        ] {
            assert_eq!(Rate::parse(text), Some(Rate(bits)), "{text}");
            assert_eq!(Rate(bits).to_string(), text);
        }
        assert_eq!(Rate::parse("100 Mbit/s"), Some(Rate(100_000_000)));
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for text in [
            "",
            "100",
            "Mbit/s",
            "1Mb/s",
            "1.Mbit/s",
            ".5Mbit/s",
            "0bit/s",
            "99999999999Gbit/s",
            "1.2345Mbit/s",
            "1.2.3Mbit/s",
        ] {
            assert_eq!(Rate::parse(text), None, "{text}");
        }
    }
}
