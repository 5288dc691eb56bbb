//! Points in time, as text and as microseconds; durations, as text.

use std::time::Duration;

use serde::Serialize;

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct EventTime(pub i64);

const DAY_SECONDS: i64 = 86_400;

/// Reads a duration above 0: a whole number and its unit, such as `500ms`, `10s`, `5m`, `48h` or `7d`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 5] = [
        ("ms", 1),
        ("s", 1000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
    ];
    let millis = parse_quantity(text, &UNITS).filter(|millis| 0 < *millis)?;
    Some(Duration::from_millis(millis))
}

/// Reads a whole number and its unit.
pub(crate) fn parse_quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Reads RFC 3339 text (`2013-01-01T10:15:00Z`, `2013-01-01 05:15:00.5-05:00`).
///
/// Returns `None` for anything else, also for dates that no calendar has; a leap second counts as the
/// second after it. Digits beyond microseconds are cut.
pub fn parse_rfc3339(text: &str) -> Option<EventTime> {
    let bytes = text.as_bytes();
    if bytes.len() < 20 || bytes.len() > 40 {
        return None;
    }
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if separators.iter().any(|&(at, byte)| bytes[at] != byte)
        || !matches!(bytes[10], b'T' | b't' | b' ')
    {
        return None;
    }
    let year = digits(&bytes[..4])?;
    let (month, day) = (digits(&bytes[5..7])?, digits(&bytes[8..10])?);
    let (hour, minute, second) = (
        digits(&bytes[11..13])?,
        digits(&bytes[14..16])?,
        digits(&bytes[17..19])?,
    );
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (micros, rest) = fraction(&bytes[19..])?;
    let offset = zone(rest)?;
    let seconds =
        days_from_civil(year, month, day) * DAY_SECONDS + hour * 3600 + minute * 60 + second
            - offset;
    Some(EventTime(seconds * 1_000_000 + micros))
}

/// Appends the time as RFC 3339 in UTC, with as many decimals as it needs (none, 3 or 6).
pub fn write_rfc3339(time: EventTime, out: &mut String) {
    use std::fmt::Write;
    let seconds = time.0.div_euclid(1_000_000);
    let micros = time.0.rem_euclid(1_000_000);
    let (year, month, day) = civil_from_days(seconds.div_euclid(DAY_SECONDS));
    let of_day = seconds.rem_euclid(DAY_SECONDS);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let _ = write!(
        out,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
    );
    let _ = match (micros, micros % 1000) {
        (0, _) => Ok(()),
        (_, 0) => write!(out, ".{:03}", micros / 1000),
        _ => write!(out, ".{micros:06}"),
    };
    out.push('Z');
}

fn digits(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0, |number, byte| {
        byte.is_ascii_digit()
            .then(|| number * 10 + i64::from(byte - b'0'))
    })
}

fn fraction(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let Some((b'.', rest)) = bytes.split_first() else {
        return Some((0, bytes));
    };
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if count == 0 {
        return None;
    }
    let kept = count.min(6);
    let micros = digits(&rest[..kept])? * 10_i64.pow(6 - kept as u32);
    Some((micros, &rest[count..]))
}

fn zone(bytes: &[u8]) -> Option<i64> {
    match bytes {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?);
            let seconds = hours * 3600 + minutes * 60;
            (hours < 24 && minutes < 60).then_some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970 of a date in the proleptic Gregorian calendar.
///
/// # Source
/// Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<i64>) {
        assert_eq!(parse_rfc3339(text).map(|time| time.0), expected, "{text}");
    }

    #[test]
    fn reads_what_rfc_3339_allows_and_nothing_else() {
        check("1970-01-01T00:00:00Z", Some(0));
        check("2013-01-01T05:15:00-05:00", Some(1_357_035_300_000_000));
        check("2013-01-01 10:15:00.25z", Some(1_357_035_300_250_000));
        check("1969-12-31T23:59:59.999999Z", Some(-1));
        check("2024-02-29T00:00:00Z", Some(1_709_164_800_000_000));
        for bad in [
            "2023-02-29T00:00:00Z",
            "2013-13-01T00:00:00Z",
            "2013-01-01T00:00:00",
            "2013-01-01",
            "",
            "2013-01-01T25:00:00Z",
            "2013-01-01T00:00:00.Z",
            "2013-01-01T00:00:00+5",
            "２０１３-01-01T00:00:00Z",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn writes_what_it_reads() {
        for micros in [
            0,
            -1,
            1_357_035_300_000_000,
            1_709_164_800_123_000,
            -62_135_596_800_000_000,
        ] {
            let mut text = String::new();
            write_rfc3339(EventTime(micros), &mut text);
            check(&text, Some(micros));
        }
    }

    #[test]
    fn durations_have_a_unit() {
        for (text, millis) in [("500ms", 500), ("60s", 60_000), ("7d", 7 * 86_400_000)] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)));
        }
        for bad in ["", "0s", "7", "d", "-1s", "1.5h", "99999999999999999999d"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
