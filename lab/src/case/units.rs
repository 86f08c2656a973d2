//! Values with units, as people write them.

use std::time::Duration;

/// A time: `20ms`, `1.5s`, `100us`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let seconds = match unit {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        "min" => number * 60.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(seconds).ok()
}

/// A rate in bits per second: `10Mbit/s`, `1Gbit/s`, `64kbit/s`.
pub(super) fn rate(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "kbit/s" => 1e3,
        "Mbit/s" => 1e6,
        "Gbit/s" => 1e9,
        _ => return None,
    };
    let bits = number * factor;
    // 1 Tb/s is far beyond what a process forwards, and far below where the number would not fit.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to lie between 1 and 1e12"
    )]
    (1.0..=1e12).contains(&bits).then_some(bits as u64)
}

fn split(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
    let number: f64 = text[..end].parse().ok()?;
    Some((number, text[end..].trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_units() {
        assert_eq!(duration("20ms"), Some(Duration::from_millis(20)));
        assert_eq!(duration("1.5 s"), Some(Duration::from_millis(1500)));
        assert_eq!(duration("20"), None);
        assert_eq!(duration("-1s"), None);
        assert_eq!(rate("10Mbit/s"), Some(10_000_000));
        assert_eq!(rate("0Mbit/s"), None);
        assert_eq!(rate("10MB/s"), None);
    }
}
