//! Writes one `[[fields]]` table of a draft. Pure.

use std::fmt::Write;

use schemas::{EventTime, write_rfc3339};

use super::column::{Column, Kind};
use crate::text;

/// Longest string that a contract allows.
pub const BYTES_MAX: usize = 65_536;

/// Largest whole number up to which all whole numbers are exact as a float.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The years 2000 to 2099, in microseconds.
const YEARS: std::ops::Range<i64> = 946_684_800_000_000..4_102_444_800_000_000;

/// What a field is in the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It names the event.
    Id,
    /// It says when the event happened.
    Time,
    /// It is personal: sealed, and a token.
    Personal,
    /// Any other.
    Open,
}

/// Appends the table of a column.
pub fn write(out: &mut String, number: usize, column: &Column, role: Role, why: &str) {
    let kind = type_of(column, role);
    head(out, number, &column.name, why);
    let _ = writeln!(
        out,
        "{:<32} # {}",
        format!("type = \"{kind}\""),
        seen(column)
    );
    if matches!(role, Role::Id | Role::Time) {
        out.push_str("presence = \"required\"\n");
    }
    match kind {
        "string" => string(out, column, role),
        "timestamp" => timestamp(out, column),
        "bool" => {}
        _ => number_bounds(out, column, kind == "int64"),
    }
    if role == Role::Personal {
        let pad_to = column.bytes_longest.next_power_of_two().clamp(16, 64);
        out.push_str("privacy = [\"seal\", \"token\"]     # encrypted at ingest; the learner sees a keyed pseudonym\n");
        let _ = writeln!(out, "pad_to = {pad_to}");
    }
    for note in notes(column, kind) {
        let _ = writeln!(out, "# {note}");
    }
    out.push('\n');
}

/// Appends the table of a field that the file does not have.
pub fn write_absent(out: &mut String, number: usize, name: &str, role: Role) {
    let (kind, why) = match role {
        Role::Time => (
            "timestamp",
            "not in the file: `thalweg evaluate` takes its rows for one second apart, in their order; a real stream \
             must have it",
        ),
        _ => (
            "string",
            "not in the file: `thalweg evaluate` numbers its rows; a real stream must have it",
        ),
    };
    head(out, number, name, why);
    let _ = writeln!(out, "type = \"{kind}\"\npresence = \"required\"\n");
}

fn head(out: &mut String, number: usize, name: &str, why: &str) {
    out.push_str("[[fields]]\n");
    let _ = writeln!(out, "id = {number}");
    let name = format!("name = {}", quoted(name));
    if why.is_empty() {
        let _ = writeln!(out, "{name}");
    } else {
        let _ = writeln!(out, "{name:<32} # {why}");
    }
}

/// Returns the type that a field of the column has.
pub fn type_of(column: &Column, role: Role) -> &'static str {
    match (role, column.kind()) {
        (Role::Id | Role::Personal, _) => "string",
        (Role::Time, _) => "timestamp",
        (Role::Open, Kind::Bool) => "bool",
        (Role::Open, _) if column.is_time() => "timestamp",
        (Role::Open, Kind::Int) => "int64",
        (Role::Open, Kind::Float) => "float64",
        (Role::Open, Kind::Text | Kind::Time | Kind::Empty | Kind::Nested) => "string",
    }
}

/// Says what the sample has in a column.
fn seen(column: &Column) -> String {
    let different = text::count(column.distinct() as u64);
    let mut said = match column.kind() {
        Kind::Int | Kind::Float => format!(
            "{} to {}, {different} different",
            number(column.min),
            number(column.max)
        ),
        Kind::Bool => "true or false".to_owned(),
        Kind::Text => format!(
            "{different} different, at most {} bytes",
            column.bytes_longest
        ),
        Kind::Time | Kind::Empty | Kind::Nested => format!("{different} different"),
    };
    if column.counts.nulls > 0 {
        let rows = text::plural(column.counts.nulls as u64, "row has", "rows have");
        let _ = write!(said, "; {rows} none");
    }
    said
}

fn string(out: &mut String, column: &Column, role: Role) {
    // As much again as was seen, and in a power of two: the next value may be longer.
    let bytes_max = (column.bytes_longest * 2)
        .next_power_of_two()
        .clamp(16, BYTES_MAX);
    let _ = writeln!(out, "bytes_max = {bytes_max}");
    if column.kind() != Kind::Text {
        return;
    }
    let lower = role != Role::Id && (column.looks.emails > 0 || differ_by_case(column));
    out.push_str(if lower {
        "clean = [\"trim\", \"lower\"]\n"
    } else {
        "clean = [\"trim\"]\n"
    });
}

/// Says whether some texts are the same but for their case.
fn differ_by_case(column: &Column) -> bool {
    let mut lower: Vec<String> = column.kept.keys().map(|text| text.to_lowercase()).collect();
    lower.sort_unstable();
    lower.windows(2).any(|pair| pair[0] == pair[1])
}

fn timestamp(out: &mut String, column: &Column) {
    let mut moments = (0..column.values.len()).filter_map(|row| column.moment(row));
    if moments.all(|micros| YEARS.contains(&micros)) {
        for (key, micros) in [("min", YEARS.start), ("max", YEARS.end)] {
            let mut time = String::new();
            write_rfc3339(EventTime(micros), &mut time);
            let _ = writeln!(out, "{key} = \"{time}\"");
        }
    }
}

/// Writes bounds wider than what was seen by as much as the values range over, in round figures.
fn number_bounds(out: &mut String, column: &Column, is_int: bool) {
    let span = column.max - column.min;
    let nearly_zero = 0.0 <= column.min && column.min * 100.0 <= span;
    // The difference turns a negative zero into zero.
    let low = if nearly_zero {
        0.0
    } else {
        0.0 - round_up(span - column.min)
    };
    let high = round_up(column.max + span);
    let counts_up = is_int && column.sorted && column.distinct() == column.seen();
    let fits = |bound: f64| bound.is_finite() && (!is_int || bound.abs() <= EXACT);
    let broken = column.min < low || column.max > high;
    if !fits(low) || !fits(high) || broken || counts_up || span == 0.0 {
        return;
    }
    for (key, bound) in [("min", low), ("max", high)] {
        let _ = if is_int {
            writeln!(out, "{key} = {}", bound as i64)
        } else {
            writeln!(out, "{key} = {bound:?}")
        };
    }
    out.push_str("on_violation = \"null\"\n");
}

/// Returns the next number of the shape 1, 2 or 5 times a power of ten that is not below.
fn round_up(number: f64) -> f64 {
    if number == 0.0 || !number.is_finite() {
        return number;
    }
    let power = number.abs().log10().floor() as i32;
    let steps =
        [1, 2, 5, 10, 20].map(|step| format!("{step}e{power}").parse().unwrap_or(f64::INFINITY));
    let (below, above): (Vec<f64>, Vec<f64>) =
        steps.into_iter().partition(|step| *step <= number.abs());
    let nearest = below.last().copied().unwrap_or(0.0);
    if number < 0.0 {
        -nearest
    } else if nearest == number {
        number
    } else {
        above.first().copied().unwrap_or(f64::INFINITY)
    }
}

fn number(number: f64) -> String {
    let short = number.abs() < 1e15 && (number == 0.0 || number.abs() >= 1e-4);
    if short {
        format!("{number}")
    } else {
        format!("{number:e}")
    }
}

/// Says what the reader should know of how events must carry the field.
fn notes(column: &Column, kind: &str) -> Vec<&'static str> {
    let mut notes = Vec::new();
    let texts = column.counts.texts;
    if kind == "string" && column.kind() == Kind::Int {
        notes.push("The file has whole numbers here; an event must carry them as text.");
    }
    if texts > 0 && texts < column.seen() {
        notes.push(
            "The file has texts and other values here; an event must carry them all as text.",
        );
    }
    if texts > 0 && column.looks.local_times == texts {
        notes.push("These are times without a zone, which no contract reads: written as 2013-01-31T10:15:00Z it could");
        notes.push("be a timestamp, and the event's time.");
    }
    let seconds = column.min >= 946_684_800.0 && column.max <= 4_102_444_800.0;
    let is_number = matches!(kind, "int64" | "float64");
    if is_number && column.named_time() && seconds {
        notes.push("These look like seconds since 1970. A timestamp is RFC 3339 text or milliseconds: times 1000 it could");
        notes.push("be one, and the event's time.");
    }
    notes
}

/// Writes a text in quotes, as TOML has it.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            _ if letter.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(letter));
            }
            _ => out.push(letter),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::super::seen::Seen;
    use super::*;

    #[test]
    fn bounds_are_round_and_never_below_what_they_widen() {
        let check = |number: f64, expected: f64| assert_eq!(round_up(number), expected, "{number}");
        check(0.0, 0.0);
        check(1.0, 1.0);
        check(1.1, 2.0);
        check(104.9, 200.0);
        check(0.03, 0.05);
        check(999.0, 1000.0);
        check(-36.0, -20.0);
        check(-1.0, -1.0);
        check(1e300, 1e300);
    }

    #[test]
    fn no_bound_is_broken_by_the_sample() {
        let check = |values: &[f64], expected: &str| {
            let mut column = Column::new("x", 0);
            values
                .iter()
                .for_each(|value| column.add(Seen::Float(*value)));
            let mut out = String::new();
            number_bounds(&mut out, &column, false);
            assert_eq!(out, expected, "{values:?}");
        };
        check(
            &[0.0, 28.8, 3.0],
            "min = 0.0\nmax = 100.0\non_violation = \"null\"\n",
        );
        check(
            &[11.0, 57.9],
            "min = -50.0\nmax = 200.0\non_violation = \"null\"\n",
        );
        check(
            &[-5.0, -1.0],
            "min = -10.0\nmax = 5.0\non_violation = \"null\"\n",
        );
        check(
            &[3.0, 6.0],
            "min = 0.0\nmax = 10.0\non_violation = \"null\"\n",
        );
        check(&[5.0, 5.0], "");
        check(&[f64::MIN, f64::MAX], "");
    }

    #[test]
    fn any_text_is_quoted_as_toml_has_it() {
        assert_eq!(
            quoted("a\"b\\c\nd\u{7f}é"),
            "\"a\\\"b\\\\c\\u000Ad\\u007Fé\""
        );
    }
}
