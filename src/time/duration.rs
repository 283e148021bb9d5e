//! `xs:duration` as WS-Management headers carry it (`PT60.000S`, `P0DT0H1M0S`).

use std::time::Duration;

/// Why a text is not a usable duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not in the lexical form of `xs:duration`.
    #[error("not an xs:duration")]
    Malformed,
    /// A negative duration (`-PT1S`).
    #[error("negative duration")]
    Negative,
    /// Larger than 2^63 nanoseconds.
    #[error("duration out of range")]
    OutOfRange,
}

/// Reads an `xs:duration`. A year counts 365 days and a month 30, as no operation here lasts that long.
///
/// # Errors
/// [`DurationError`] when the text is malformed, negative or too large.
pub fn parse_xs_duration(text: &str) -> Result<Duration, DurationError> {
    let text = text.trim();
    if let Some(rest) = text.strip_prefix('-') {
        return match parse_xs_duration(rest) {
            Ok(_) | Err(DurationError::OutOfRange) => Err(DurationError::Negative),
            Err(error) => Err(error),
        };
    }
    let rest = text.strip_prefix('P').ok_or(DurationError::Malformed)?;
    let (date, time) = match rest.split_once('T') {
        Some((_, "")) => return Err(DurationError::Malformed),
        Some((date, time)) => (date, time),
        None => (rest, ""),
    };
    if date.is_empty() && time.is_empty() {
        return Err(DurationError::Malformed);
    }
    let date = sum_fields(date, &[('Y', 365 * 86_400), ('M', 30 * 86_400), ('D', 86_400)], false)?;
    let time = sum_fields(time, &[('H', 3_600), ('M', 60), ('S', 1)], true)?;
    let total = date.checked_add(time).ok_or(DurationError::OutOfRange)?;
    if total > i64::MAX.unsigned_abs().into() {
        return Err(DurationError::OutOfRange);
    }
    let seconds = u64::try_from(total / 1_000_000_000).map_err(|_| DurationError::OutOfRange)?;
    let nanoseconds = u32::try_from(total % 1_000_000_000).map_err(|_| DurationError::OutOfRange)?;
    Ok(Duration::new(seconds, nanoseconds))
}

/// Writes a duration in seconds, the fraction trimmed (`PT60S`, `PT4.25S`).
#[must_use]
pub fn format_xs_duration(duration: Duration) -> String {
    let mut text = format!("PT{}", duration.as_secs());
    let nanoseconds = duration.subsec_nanos();
    if nanoseconds != 0 {
        let fraction = format!("{nanoseconds:09}");
        text.push('.');
        text.push_str(fraction.trim_end_matches('0'));
    }
    text.push('S');
    text
}

/// Adds up fields that must come in the given order, each at most once; the result is in nanoseconds.
fn sum_fields(mut text: &str, units: &[(char, u128)], fraction: bool) -> Result<u128, DurationError> {
    let mut total = 0_u128;
    let mut units = units.iter();
    while !text.is_empty() {
        let end = text.find(|c: char| !(c.is_ascii_digit() || fraction && c == '.')).ok_or(DurationError::Malformed)?;
        let (number, rest) = text.split_at(end);
        let mut rest = rest.chars();
        let unit = rest.next().ok_or(DurationError::Malformed)?;
        let &(_, scale) = units.by_ref().find(|(name, _)| *name == unit).ok_or(DurationError::Malformed)?;
        total = total.checked_add(field(number, unit, scale)?).ok_or(DurationError::OutOfRange)?;
        text = rest.as_str();
    }
    Ok(total)
}

fn field(number: &str, unit: char, scale: u128) -> Result<u128, DurationError> {
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) if unit == 'S' => (whole, fraction),
        Some(_) => return Err(DurationError::Malformed),
        None => (number, ""),
    };
    if whole.is_empty() || (number.contains('.') && fraction.is_empty()) || fraction.contains('.') {
        return Err(DurationError::Malformed);
    }
    let whole: u64 = whole.parse().map_err(|_| DurationError::OutOfRange)?;
    let mut nanoseconds = u128::from(whole) * scale * 1_000_000_000;
    let mut digit_scale = 100_000_000_u128;
    for digit in fraction.chars().take(9) {
        nanoseconds += u128::from(digit.to_digit(10).ok_or(DurationError::Malformed)?) * digit_scale;
        digit_scale /= 10;
    }
    Ok(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spellings_of_real_clients_are_read() {
        for (text, milliseconds) in [
            ("PT60.000S", 60_000),
            ("P0DT0H1M0S", 60_000),
            ("PT20S", 20_000),
            ("PT0.30S", 300),
            ("PT1M30S", 90_000),
            ("PT1H", 3_600_000),
            ("P1D", 86_400_000),
            ("PT0S", 0),
            (" PT1S ", 1_000),
        ] {
            assert_eq!(parse_xs_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in ["", "P", "PT", "60", "abc", "PT1", "PTS", "PT.5S", "PT1.S", "P1H", "PT1S1M", "PT1.5M", "P-1D"] {
            assert_eq!(parse_xs_duration(text), Err(DurationError::Malformed), "{text}");
        }
        assert_eq!(parse_xs_duration("-PT1S"), Err(DurationError::Negative));
        assert_eq!(parse_xs_duration("P99999999999999999999D"), Err(DurationError::OutOfRange));
    }

    #[test]
    fn a_duration_is_written_in_seconds() {
        assert_eq!(format_xs_duration(Duration::from_millis(4_250)), "PT4.25S");
        assert_eq!(format_xs_duration(Duration::from_secs(60)), "PT60S");
    }
}
