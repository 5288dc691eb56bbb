//! Renders values as JSON into a buffer that the caller reuses.

/// Writes a text in quotes, escaped.
pub(crate) fn text(value: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    if value
        .bytes()
        .all(|byte| 0x20 <= byte && byte != b'"' && byte != b'\\')
    {
        out.extend_from_slice(value.as_bytes());
    } else {
        for byte in value.bytes() {
            match byte {
                b'"' => out.extend_from_slice(b"\\\""),
                b'\\' => out.extend_from_slice(b"\\\\"),
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\r' => out.extend_from_slice(b"\\r"),
                b'\t' => out.extend_from_slice(b"\\t"),
                0..0x20 => {
                    let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                    out.extend_from_slice(b"\\u00");
                    out.extend_from_slice(&digits);
                }
                _ => out.push(byte),
            }
        }
    }
    out.push(b'"');
}

/// Writes an integer.
pub(crate) fn integer(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Writes the shortest text that reads back as the same number; JSON has no NaN and no infinity, so those
/// become null.
pub(crate) fn float(value: f64, out: &mut Vec<u8>) {
    const EXACT: f64 = 1e9;
    if value.trunc() == value && value.abs() < EXACT && (value != 0.0 || value.is_sign_positive()) {
        integer(value as i64, out);
        out.extend_from_slice(b".0");
    } else if value.is_finite() {
        out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
    } else {
        out.extend_from_slice(b"null");
    }
}

/// Writes true or false.
pub(crate) fn boolean(value: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// Writes microseconds since 1970 as RFC 3339 in quotes.
///
/// The years 0 to 9999 take a path of their own, which is ten times as fast as formatting.
pub(crate) fn time(micros: i64, out: &mut Vec<u8>) {
    const YEARS_0_TO_9999: std::ops::Range<i64> = -62_167_219_200..253_402_300_800;
    let (seconds, fraction) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    if fraction != 0 || !YEARS_0_TO_9999.contains(&seconds) {
        let mut slow = String::new();
        schemas::write_rfc3339(schemas::EventTime(micros), &mut slow);
        return text(&slow, out);
    }
    let (days, of_day) = (
        seconds.div_euclid(86_400),
        seconds.rem_euclid(86_400) as u32,
    );
    let (year, month, day) = civil_from_days(days);
    let mut shape = *b"\"0000-00-00T00:00:00Z\"";
    two_digits(&mut shape[1..3], year / 100);
    two_digits(&mut shape[3..5], year % 100);
    two_digits(&mut shape[6..8], month);
    two_digits(&mut shape[9..11], day);
    two_digits(&mut shape[12..14], of_day / 3600);
    two_digits(&mut shape[15..17], of_day / 60 % 60);
    two_digits(&mut shape[18..20], of_day % 60);
    out.extend_from_slice(&shape);
}

fn two_digits(out: &mut [u8], number: u32) {
    out[0] = b'0' + (number / 10) as u8;
    out[1] = b'0' + (number % 10) as u8;
}

/// Returns year, month and day of a day since 1970 in the years 0 to 9999.
///
/// # Source
/// Hinnant, "chrono-Compatible Low-Level Date Algorithms".
pub(crate) fn civil_from_days(days: i64) -> (u32, u32, u32) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097) as u32);
    let of_year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * of_year + of_year / 4 - of_year / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = i64::from(of_year) + era * 400 + i64::from(month <= 2);
    (year as u32, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn texts_read_back() {
        for value in [
            "",
            "N14228",
            "a\"b\\c",
            "line\nfeed\ttab\r",
            "\u{0}\u{1f}",
            "é → 飛行機",
        ] {
            let json = rendered(|out| text(value, out));
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), value);
        }
    }

    #[test]
    fn numbers_read_back() {
        for value in [
            0.0,
            -0.0,
            1.0,
            39.02,
            -7.5,
            1e-9,
            999_999_999.0,
            1e9,
            1e300,
            f64::MIN_POSITIVE,
            0.1 + 0.2,
        ] {
            let json = rendered(|out| float(value, out));
            assert_eq!(
                serde_json::from_str::<f64>(&json).unwrap().to_bits(),
                value.to_bits(),
                "{json}"
            );
        }
        assert_eq!(rendered(|out| float(f64::NAN, out)), "null");
        assert_eq!(rendered(|out| float(f64::INFINITY, out)), "null");
        assert_eq!(rendered(|out| integer(i64::MIN, out)), i64::MIN.to_string());
        assert_eq!(rendered(|out| boolean(true, out)), "true");
    }

    #[test]
    fn times_are_what_schemas_writes() {
        let edges = [
            0,
            -1,
            1,
            1_357_035_300_000_000,
            1_709_164_799_000_000,
            i64::MIN / 2,
            i64::MAX / 2,
        ];
        let days = (-800_000..3_000_000)
            .step_by(997)
            .map(|day| day * 86_400_000_000 + 3_661_000_000);
        for micros in edges.into_iter().chain(days) {
            let mut expected = String::new();
            schemas::write_rfc3339(schemas::EventTime(micros), &mut expected);
            assert_eq!(rendered(|out| time(micros, out)), format!("\"{expected}\""));
        }
    }
}
