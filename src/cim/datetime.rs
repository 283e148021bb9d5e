//! CIM datetimes (DSP0004 §5.2.4) and their two XML spellings (DSP0230 §8.2).

use std::fmt;
use std::time::Duration;

use chrono::{Datelike, Timelike};
use smol_str::SmolStr;

use crate::time::Timestamp;

/// A `datetime`: a point in time, an interval, or a text with wild cards that is neither.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CimDateTime {
    /// A point in time, with the offset it was written with, in minutes east of UTC.
    Timestamp {
        /// The instant.
        instant: Timestamp,
        /// Minutes east of UTC; zero for everything this server makes itself.
        offset: i16,
    },
    /// A span of time, exact to the microsecond.
    Interval(Duration),
    /// A 25-character CIM text in which asterisks stand for unknown digits.
    Wildcard(SmolStr),
}

/// The text is not a datetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a CIM datetime")]
pub struct DateTimeError;

impl CimDateTime {
    /// What Windows sends for "never" (`hyperv-host.md` §2.8): 1601-01-01.
    pub const NEVER: Self = Self::Timestamp { instant: windows_epoch(), offset: 0 };

    /// Reads the 25-character CIM form, `xs:dateTime` or `xs:duration`.
    ///
    /// # Errors
    /// [`DateTimeError`] when the text is none of them or names a date that does not exist.
    pub fn parse(text: &str) -> Result<Self, DateTimeError> {
        let text = text.trim();
        if text.starts_with('P') {
            let interval = crate::time::parse_xs_duration(text).map_err(|_| DateTimeError)?;
            return Ok(Self::Interval(Duration::new(interval.as_secs(), interval.subsec_micros() * 1_000)));
        }
        if text.contains('T') { parse_xs(text) } else { parse_cim(text) }
    }

    /// The 25-character CIM form (`20260115102030.125000+000`, `00000001020304.000500:000`).
    #[must_use]
    pub fn to_cim_text(&self) -> String {
        let mut text = String::with_capacity(25);
        match self {
            Self::Timestamp { instant, offset } => {
                let local = local(*instant, *offset);
                push_date(&mut text, local, "");
                push_time(&mut text, local, "");
                text.push('.');
                push_digits(&mut text, local.timestamp_subsec_micros(), 6);
                text.push(if *offset < 0 { '-' } else { '+' });
                push_digits(&mut text, offset.unsigned_abs().into(), 3);
            }
            Self::Interval(interval) => {
                let [days, hours, minutes, seconds] = fields(*interval);
                let micros = interval.subsec_micros();
                return format!("{days:08}{hours:02}{minutes:02}{seconds:02}.{micros:06}:000");
            }
            Self::Wildcard(wildcard) => text.push_str(wildcard),
        }
        text
    }

    /// The text inside `cim:Datetime`, `cim:Interval` or `cim:CIM_DateTime` as Windows writes it:
    /// `2026-01-15T10:20:30.125Z`, `P0DT0H0M4.25S`, the fraction without trailing zeros
    /// (`hyperv-host.md` §2.8 and §2.9).
    #[must_use]
    pub fn to_xml_text(&self) -> String {
        let mut text = String::with_capacity(32);
        match self {
            Self::Timestamp { instant, offset } => {
                let local = local(*instant, *offset);
                push_date(&mut text, local, "-");
                text.push('T');
                push_time(&mut text, local, ":");
                push_fraction(&mut text, local.timestamp_subsec_micros());
                if *offset == 0 {
                    text.push('Z');
                } else {
                    text.push(if *offset < 0 { '-' } else { '+' });
                    push_digits(&mut text, u32::from(offset.unsigned_abs() / 60), 2);
                    text.push(':');
                    push_digits(&mut text, u32::from(offset.unsigned_abs() % 60), 2);
                }
            }
            Self::Interval(interval) => {
                let [days, hours, minutes, seconds] = fields(*interval);
                text = format!("P{days}DT{hours}H{minutes}M{seconds}");
                push_fraction(&mut text, interval.subsec_micros());
                text.push('S');
            }
            Self::Wildcard(wildcard) => text.push_str(wildcard),
        }
        text
    }

    /// A point in time in UTC.
    #[must_use]
    pub const fn utc(instant: Timestamp) -> Self {
        Self::Timestamp { instant, offset: 0 }
    }
}

impl From<Timestamp> for CimDateTime {
    fn from(instant: Timestamp) -> Self {
        Self::utc(instant)
    }
}

impl From<Duration> for CimDateTime {
    fn from(interval: Duration) -> Self {
        Self::Interval(interval)
    }
}

impl fmt::Display for CimDateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_cim_text())
    }
}

const fn windows_epoch() -> Timestamp {
    match chrono::DateTime::from_timestamp(-11_644_473_600, 0) {
        Some(instant) => instant,
        None => Timestamp::UNIX_EPOCH,
    }
}

/// The instant as a clock shows it that is `offset` minutes east of UTC.
fn local(instant: Timestamp, offset: i16) -> Timestamp {
    instant + chrono::Duration::minutes(offset.into())
}

/// Appends a number with leading zeros. Dates are on every answer, and chrono's own formatting takes
/// several times as long.
fn push_digits(text: &mut String, number: u32, width: u32) {
    for place in (0..width).rev() {
        let digit = number / 10_u32.pow(place) % 10;
        text.push(char::from_digit(digit, 10).unwrap_or('0'));
    }
}

fn push_date(text: &mut String, local: Timestamp, separator: &str) {
    push_digits(text, local.year().unsigned_abs(), 4);
    text.push_str(separator);
    push_digits(text, local.month(), 2);
    text.push_str(separator);
    push_digits(text, local.day(), 2);
}

fn push_time(text: &mut String, local: Timestamp, separator: &str) {
    push_digits(text, local.hour(), 2);
    text.push_str(separator);
    push_digits(text, local.minute(), 2);
    text.push_str(separator);
    push_digits(text, local.second(), 2);
}

/// Appends a fraction of a second without its trailing zeros; nothing when it is zero.
fn push_fraction(text: &mut String, micros: u32) {
    if micros != 0 {
        text.push('.');
        push_digits(text, micros, 6);
        text.truncate(text.trim_end_matches('0').len());
    }
}

/// Days, hours, minutes and seconds of an interval.
const fn fields(interval: Duration) -> [u64; 4] {
    let seconds = interval.as_secs();
    [seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60]
}

/// The 25-character form; asterisks make it a wild card, a colon an interval.
fn parse_cim(text: &str) -> Result<CimDateTime, DateTimeError> {
    if text.len() != 25 || !text.is_ascii() || text.as_bytes().get(14) != Some(&b'.') {
        return Err(DateTimeError);
    }
    let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default();
    let allowed = |c: char| c.is_ascii_digit() || c == '*';
    if !part(0..14).chars().all(allowed) || !part(15..21).chars().all(allowed) || !part(22..25).chars().all(allowed) {
        return Err(DateTimeError);
    }
    let kind = part(21..22);
    if !matches!(kind, "+" | "-" | ":") {
        return Err(DateTimeError);
    }
    if text.contains('*') {
        return Ok(CimDateTime::Wildcard(SmolStr::new(text)));
    }
    let number = |range: std::ops::Range<usize>| part(range).parse::<u32>().map_err(|_| DateTimeError);
    let micros = number(15..21)?;
    if kind == ":" {
        if part(22..25) != "000" {
            return Err(DateTimeError);
        }
        let (hours, minutes, seconds) = (number(8..10)?, number(10..12)?, number(12..14)?);
        if hours > 23 || minutes > 59 || seconds > 59 {
            return Err(DateTimeError);
        }
        let whole = u64::from(number(0..8)?) * 86_400 + u64::from(hours * 3_600 + minutes * 60 + seconds);
        return Ok(CimDateTime::Interval(Duration::new(whole, micros * 1_000)));
    }
    let year = i32::try_from(number(0..4)?).map_err(|_| DateTimeError)?;
    let local = chrono::NaiveDate::from_ymd_opt(year, number(4..6)?, number(6..8)?)
        .and_then(|date| {
            date.and_hms_micro_opt(number(8..10).ok()?, number(10..12).ok()?, number(12..14).ok()?, micros)
        })
        .ok_or(DateTimeError)?;
    let minutes = i16::try_from(number(22..25)?).map_err(|_| DateTimeError)?;
    let offset = if kind == "-" { -minutes } else { minutes };
    let instant = local.and_utc().checked_sub_signed(chrono::Duration::minutes(offset.into())).ok_or(DateTimeError)?;
    Ok(CimDateTime::Timestamp { instant, offset })
}

/// The instant cut to microseconds, which is all that CIM has; a leap second becomes the second after it.
fn to_micros(instant: Timestamp) -> Result<Timestamp, DateTimeError> {
    Timestamp::from_timestamp_micros(instant.timestamp_micros()).ok_or(DateTimeError)
}

/// `xs:dateTime`; without a zone it is UTC.
fn parse_xs(text: &str) -> Result<CimDateTime, DateTimeError> {
    if let Ok(value) = chrono::DateTime::parse_from_rfc3339(text) {
        let offset = i16::try_from(value.offset().local_minus_utc() / 60).map_err(|_| DateTimeError)?;
        return Ok(CimDateTime::Timestamp { instant: to_micros(value.to_utc())?, offset });
    }
    let local = chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").map_err(|_| DateTimeError)?;
    Ok(CimDateTime::utc(to_micros(local.and_utc())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_ws_management_10_2_hold() {
        for (cim, xml) in [
            ("20260115102030.125000+000", "2026-01-15T10:20:30.125Z"),
            ("20260115102030.000000+060", "2026-01-15T10:20:30+01:00"),
            ("00000001020304.000500:000", "P1DT2H3M4.0005S"),
            ("00000000000000.000000:000", "P0DT0H0M0S"),
            ("00000000000001.004170:000", "P0DT0H0M1.00417S"),
            ("19991231235959.******+000", "19991231235959.******+000"),
            ("16010101000000.000000+000", "1601-01-01T00:00:00Z"),
        ] {
            let value = CimDateTime::parse(cim).unwrap();
            assert_eq!(value.to_xml_text(), xml);
            assert_eq!(value.to_cim_text(), cim);
            assert_eq!(CimDateTime::parse(xml).unwrap(), value, "{xml}");
        }
        assert_eq!(CimDateTime::NEVER.to_xml_text(), "1601-01-01T00:00:00Z");
    }

    #[test]
    fn what_cim_text_cannot_carry_is_cut_to_microseconds() {
        for (xml, cim) in [
            ("2026-01-15T10:20:30.1234567Z", "20260115102030.123456+000"),
            ("2016-12-31T23:59:60Z", "20170101000000.000000+000"),
            ("2016-12-31T23:59:60.5", "20170101000000.500000+000"),
            ("PT0.0000019S", "00000000000000.000001:000"),
        ] {
            let value = CimDateTime::parse(xml).unwrap();
            assert_eq!(value.to_cim_text(), cim);
            assert_eq!(CimDateTime::parse(cim).unwrap(), value, "{xml}");
        }
    }

    #[test]
    fn what_is_no_datetime_is_refused() {
        for text in ["", "P", "2026", "20261315102030.000000+000", "20260115102030.000000 000", "2026-13-01T00:00:00Z"]
        {
            assert_eq!(CimDateTime::parse(text), Err(DateTimeError), "{text}");
        }
    }
}
