//! Sizes, durations and counts of CPUs as people write them.
//!
//! Sizes: a whole number and one of `B`, `KiB`, `MiB`, `GiB`, `TiB` (powers of 1024) or `kB`, `MB`, `GB`, `TB` (powers of 1000).
//! Durations: one or more of a whole number and `ms`, `s`, `m`, `h` or `d`, such as `1h30m`. CPUs: a number with up to three
//! decimals, such as `1.5`. A number without a unit is refused where a unit is possible: nobody remembers which one was meant.

use std::time::Duration;

/// Why a written quantity means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// There is no number at the start.
    #[error("`{0}` does not start with a number")]
    NoNumber(String),
    /// The number stands alone.
    #[error("`{written}` has no unit")]
    NoUnit {
        /// What was written.
        written: String,
    },
    /// The unit is none we know.
    #[error("`{written}` has the unknown unit `{unit}`")]
    UnknownUnit {
        /// What was written.
        written: String,
        /// The part that should be a unit.
        unit: String,
    },
    /// The quantity does not fit.
    #[error("`{0}` is too large")]
    TooLarge(String),
    /// More than three decimals, no digits, or less than a thousandth.
    #[error("`{0}` is not a number of CPUs")]
    NotCpus(String),
}

/// The units of sizes, for texts that name the remedy.
pub const SIZE_REMEDY: &str = "write a size such as 512MiB or 4GiB (B, KiB, MiB, GiB, TiB, kB, MB, GB, TB)";
/// The units of durations, for texts that name the remedy.
pub const DURATION_REMEDY: &str = "write a duration such as 90s, 10m, 2h or 1h30m (ms, s, m, h, d)";
/// How CPUs are written, for texts that name the remedy.
pub const CPUS_REMEDY: &str = "write a number of CPUs such as 2 or 1.5";

/// The units of rates, for texts that name the remedy.
pub const RATE_REMEDY: &str = "write a rate such as 500kbit/s, 100Mbit/s or 1Gbit/s";

/// A rate in bits per second, from text such as `100Mbit/s`.
///
/// # Errors
/// If the text is not a whole number followed by a known unit.
pub fn parse_rate(written: &str) -> Result<u64, UnitError> {
    let written = written.trim();
    let (number, rest) = number_and_rest(written)?;
    let factor: u64 = match rest.trim_start() {
        "" => return Err(UnitError::NoUnit { written: written.to_owned() }),
        "bit/s" => 1,
        "kbit/s" => 1_000,
        "Mbit/s" => 1_000_000,
        "Gbit/s" => 1_000_000_000,
        unit => return Err(UnitError::UnknownUnit { written: written.to_owned(), unit: unit.to_owned() }),
    };
    number.checked_mul(factor).ok_or_else(|| UnitError::TooLarge(written.to_owned()))
}

fn number_and_rest(written: &str) -> Result<(u64, &str), UnitError> {
    let digits = written.find(|c: char| !c.is_ascii_digit()).unwrap_or(written.len());
    if digits == 0 {
        return Err(UnitError::NoNumber(written.to_owned()));
    }
    let number = written[..digits].parse().map_err(|_| UnitError::TooLarge(written.to_owned()))?;
    Ok((number, &written[digits..]))
}

/// A size in bytes, from text such as `512MiB`.
///
/// # Errors
/// If the text is not a whole number followed by a known unit.
pub fn parse_size(written: &str) -> Result<u64, UnitError> {
    let written = written.trim();
    let (number, rest) = number_and_rest(written)?;
    let factor: u64 = match rest.trim_start() {
        "" => return Err(UnitError::NoUnit { written: written.to_owned() }),
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        unit => {
            return Err(UnitError::UnknownUnit { written: written.to_owned(), unit: unit.to_owned() });
        }
    };
    number.checked_mul(factor).ok_or_else(|| UnitError::TooLarge(written.to_owned()))
}

/// A duration, from text such as `1h30m`.
///
/// # Errors
/// If the text is not a sequence of whole numbers each followed by a known unit.
pub fn parse_duration(written: &str) -> Result<Duration, UnitError> {
    let written = written.trim();
    let mut total_ms: u64 = 0;
    let mut rest = written;
    loop {
        let (number, after) = number_and_rest(rest).map_err(|error| match error {
            UnitError::TooLarge(_) => UnitError::TooLarge(written.to_owned()),
            _ => UnitError::NoNumber(written.to_owned()),
        })?;
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let factor_ms: u64 = match &after[..unit_end] {
            "" => return Err(UnitError::NoUnit { written: written.to_owned() }),
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            unit => {
                return Err(UnitError::UnknownUnit { written: written.to_owned(), unit: unit.to_owned() });
            }
        };
        total_ms = number
            .checked_mul(factor_ms)
            .and_then(|part| total_ms.checked_add(part))
            .ok_or_else(|| UnitError::TooLarge(written.to_owned()))?;
        rest = &after[unit_end..];
        if rest.is_empty() {
            return Ok(Duration::from_millis(total_ms));
        }
    }
}

/// Thousandths of a CPU, from text such as `1.5`.
///
/// # Errors
/// If the text is not a positive decimal number with at most three decimals.
pub fn parse_cpus_milli(written: &str) -> Result<u32, UnitError> {
    let written = written.trim();
    let not_cpus = || UnitError::NotCpus(written.to_owned());
    let (whole, decimals) = written.split_once('.').unwrap_or((written, "0"));
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(whole) || !all_digits(decimals) || decimals.len() > 3 {
        return Err(not_cpus());
    }
    let whole: u32 = whole.parse().map_err(|_| UnitError::TooLarge(written.to_owned()))?;
    let thousandths: u32 = format!("{decimals:0<3}").parse().map_err(|_| not_cpus())?;
    let milli = whole
        .checked_mul(1_000)
        .and_then(|milli| milli.checked_add(thousandths))
        .ok_or_else(|| UnitError::TooLarge(written.to_owned()))?;
    if milli == 0 { Err(not_cpus()) } else { Ok(milli) }
}

/// A size as people read it: the largest binary unit that keeps at least one whole digit, with one decimal where it is not whole.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    for (name, factor) in UNITS {
        if bytes >= factor {
            return if bytes.is_multiple_of(factor) || bytes / factor >= 100 {
                format!("{}{name}", bytes / factor)
            } else {
                format!("{}.{}{name}", bytes / factor, (bytes % factor) * 10 / factor)
            };
        }
    }
    format!("{bytes}B")
}

/// A duration as people read it: its two largest units.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (d, h, m, s) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    match (d, h, m, s) {
        (0, 0, 0, 0) => format!("{}ms", duration.as_millis()),
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, 0) => format!("{m}m"),
        (0, 0, m, s) => format!("{m}m{s}s"),
        (0, h, 0, _) => format!("{h}h"),
        (0, h, m, _) => format!("{h}h{m}m"),
        (d, 0, ..) => format!("{d}d"),
        (d, h, ..) => format!("{d}d{h}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_need_a_known_unit() {
        assert_eq!(parse_size("256MiB"), Ok(256 << 20));
        assert_eq!(parse_size("2 GiB"), Ok(2 << 30));
        assert_eq!(parse_size("5MB"), Ok(5_000_000));
        assert_eq!(parse_size("7"), Err(UnitError::NoUnit { written: "7".into() }));
        assert_eq!(
            parse_size("4GiBB"),
            Err(UnitError::UnknownUnit { written: "4GiBB".into(), unit: "GiBB".into() })
        );
        assert_eq!(parse_size("MiB"), Err(UnitError::NoNumber("MiB".into())));
        assert_eq!(parse_size("99999999TiB"), Err(UnitError::TooLarge("99999999TiB".into())));
    }

    #[test]
    fn durations_are_sums_of_parts_with_units() {
        assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7_200)));
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_duration("2"), Err(UnitError::NoUnit { written: "2".into() }));
        assert_eq!(parse_duration(""), Err(UnitError::NoNumber(String::new())));
        assert_eq!(
            parse_duration("2 weeks"),
            Err(UnitError::UnknownUnit { written: "2 weeks".into(), unit: " weeks".into() })
        );
        assert!(matches!(parse_duration("99999999999999999999d"), Err(UnitError::TooLarge(_))));
    }

    #[test]
    fn cpus_have_at_most_three_decimals() {
        assert_eq!(parse_cpus_milli("2"), Ok(2_000));
        assert_eq!(parse_cpus_milli("1.5"), Ok(1_500));
        assert_eq!(parse_cpus_milli("0.125"), Ok(125));
        for wrong in ["0", "0.0001", "1.", ".5", "-1", "two", ""] {
            assert_eq!(parse_cpus_milli(wrong), Err(UnitError::NotCpus(wrong.into())), "{wrong}");
        }
    }

    #[test]
    fn shown_quantities_are_short() {
        assert_eq!(show_size(256 << 20), "256MiB");
        assert_eq!(show_size(1536 << 20), "1.5GiB");
        assert_eq!(show_size(512), "512B");
        assert_eq!(show_duration(Duration::from_secs(5_400)), "1h30m");
        assert_eq!(show_duration(Duration::from_millis(20)), "20ms");
        assert_eq!(show_duration(Duration::from_secs(65)), "1m5s");
    }
}
