//! Time, sizes and shares of a CPU, and how people write them.
//!
//! Owns the units of this crate and their text form (`15s`, `256MiB`, `0.5`). Refuses to know where the
//! time comes from: a [`Millis`] is handed in by the driver, from a clock that never goes back and keeps
//! counting while the machine sleeps (`CLOCK_BOOTTIME`).
//!
//! Binary units only (`KiB`, `MiB`, `GiB`, `TiB`): a memory limit written in decimal units is a mistake
//! more often than a wish, and the refusal names the binary one.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A point on the driver's monotonic clock, or a span between two points, in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// A span of whole seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Later by `span`; stops at the end of time instead of wrapping.
    #[must_use]
    pub const fn plus(self, span: Self) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// The span since `earlier`, zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Debug for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, name) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")] {
            if self.0 >= unit && self.0.is_multiple_of(unit) {
                return write!(f, "{}{name}", self.0 / unit);
            }
        }
        write!(f, "{}ms", self.0)
    }
}

/// Why a written quantity means nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UnitError {
    /// No digits where a number should begin.
    #[error("it does not begin with a number")]
    NoNumber,
    /// A number without its unit.
    #[error("it has no unit; write one of {known}")]
    NoUnit {
        /// The units that exist.
        known: &'static str,
    },
    /// A unit nobody defined.
    #[error("`{unit}` is not a unit; write one of {known}")]
    UnknownUnit {
        /// What was written.
        unit: String,
        /// The units that exist.
        known: &'static str,
    },
    /// More than the type holds.
    #[error("it is too large")]
    TooLarge,
}

const SIZE_UNITS: &str = "KiB, MiB, GiB, TiB";
const SPAN_UNITS: &str = "ms, s, m, h, d";

/// Splits `256MiB` into its number and its unit. At most [`NUMBER_DIGITS_MAX`] digits.
fn number_and_unit(text: &str) -> Result<(u64, &str), UnitError> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return Err(UnitError::NoNumber);
    }
    if digits > NUMBER_DIGITS_MAX {
        return Err(UnitError::TooLarge);
    }
    let number = text[..digits].parse().map_err(|_| UnitError::TooLarge)?;
    Ok((number, text[digits..].trim()))
}

/// More digits than any size in bytes up to 2^63 needs.
const NUMBER_DIGITS_MAX: usize = 19;

/// Reads a size such as `256MiB` into bytes.
///
/// # Errors
/// When the number or the unit is missing, unknown or too large.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = number_and_unit(text)?;
    let shift = match unit {
        "" => return Err(UnitError::NoUnit { known: SIZE_UNITS }),
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err(UnitError::UnknownUnit { unit: unit.chars().take(16).collect(), known: SIZE_UNITS }),
    };
    number.checked_mul(1 << shift).ok_or(UnitError::TooLarge)
}

/// Reads a span of time such as `2h`, `90s` or `1500ms`.
///
/// # Errors
/// When the number or the unit is missing, unknown or too large.
pub fn parse_span(text: &str) -> Result<Millis, UnitError> {
    let (number, unit) = number_and_unit(text)?;
    let factor = match unit {
        "" => return Err(UnitError::NoUnit { known: SPAN_UNITS }),
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(UnitError::UnknownUnit { unit: unit.chars().take(16).collect(), known: SPAN_UNITS }),
    };
    number.checked_mul(factor).map(Millis).ok_or(UnitError::TooLarge)
}

/// Writes a size the way [`parse_size`] reads it, with the largest unit that loses nothing; odd byte counts
/// are written as bytes, for people only.
#[must_use]
pub fn size_text(bytes: u64) -> String {
    for (shift, name) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes >= 1 << shift && bytes.is_multiple_of(1 << shift) {
            return format!("{}{name}", bytes >> shift);
        }
    }
    format!("{bytes} bytes")
}

/// Writes thousandths of a CPU as CPUs: `1500` is `1.5`.
#[must_use]
pub fn cpus_text(cpus_milli: u64) -> String {
    let (whole, rest) = (cpus_milli / 1000, cpus_milli % 1000);
    if rest == 0 {
        return whole.to_string();
    }
    format!("{whole}.{rest:03}").trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_binary_units_only() {
        assert_eq!(parse_size("256MiB"), Ok(256 << 20));
        assert_eq!(parse_size(" 2 GiB "), Ok(2 << 30));
        assert_eq!(parse_size("2"), Err(UnitError::NoUnit { known: SIZE_UNITS }));
        assert!(matches!(parse_size("2GB"), Err(UnitError::UnknownUnit { unit, .. }) if unit == "GB"));
        assert_eq!(parse_size("GiB"), Err(UnitError::NoNumber));
        assert_eq!(parse_size("99999999TiB"), Err(UnitError::TooLarge));
        assert_eq!(parse_size("99999999999999999999KiB"), Err(UnitError::TooLarge));
    }

    #[test]
    fn spans_are_read_and_written_alike() {
        for text in ["2h", "90s", "1500ms", "1d", "7m"] {
            assert_eq!(parse_span(text).unwrap().to_string(), text);
        }
        assert!(matches!(parse_span("2 hours"), Err(UnitError::UnknownUnit { .. })));
        assert_eq!(parse_span("-2h"), Err(UnitError::NoNumber));
    }

    #[test]
    fn quantities_are_written_for_people() {
        assert_eq!(size_text(256 << 20), "256MiB");
        assert_eq!(size_text(1500), "1500 bytes");
        assert_eq!(cpus_text(1500), "1.5");
        assert_eq!(cpus_text(2000), "2");
        assert_eq!(cpus_text(250), "0.25");
    }

    #[test]
    fn time_does_not_wrap() {
        assert_eq!(Millis(u64::MAX).plus(Millis(1)), Millis(u64::MAX));
        assert_eq!(Millis(1).since(Millis(2)), Millis::ZERO);
    }
}
