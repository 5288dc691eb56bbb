//! The loops that make rows: one feature at a time, down its column.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, TimeUnit};
use schemas::contract::{FieldType, TimePart};

use super::hash::Namespace;
use super::{FeatureError, FeatureSpace, Kind, Layout, Rows, Slot, Source};

const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Checks that the column of a slot is there and has its type.
pub(super) fn check(slot: &Slot, batch: &RecordBatch) -> Result<(), FeatureError> {
    let (column, kind) = match &slot.source {
        Source::Number { column, kind } | Source::Bucket { column, kind, .. } => {
            (*column, Kind::Plain(*kind))
        }
        Source::Category { column, kind } => (*column, *kind),
        Source::Time { column, .. } => (*column, Kind::Plain(FieldType::Timestamp)),
        Source::Bag { column, .. } => (*column, Kind::Plain(FieldType::String)),
        Source::Cross { .. } | Source::More => return Ok(()),
    };
    let found = (column < batch.num_columns()).then(|| batch.column(column).data_type());
    let fits = match kind {
        Kind::Token => found == Some(&DataType::Binary),
        Kind::Plain(FieldType::String) => found == Some(&DataType::Utf8),
        Kind::Plain(FieldType::Int64) => found == Some(&DataType::Int64),
        Kind::Plain(FieldType::Float64) => found == Some(&DataType::Float64),
        Kind::Plain(FieldType::Bool) => found == Some(&DataType::Boolean),
        Kind::Plain(FieldType::Timestamp) => {
            matches!(found, Some(DataType::Timestamp(TimeUnit::Microsecond, _)))
        }
    };
    let refusal = || FeatureError::Column {
        feature: slot.name.clone(),
        column,
    };
    fits.then_some(()).ok_or_else(refusal)
}

/// Adds one row for each event of a batch whose columns were checked.
pub(super) fn encode(space: &mut FeatureSpace, batch: &RecordBatch, rows: &mut Rows) {
    let FeatureSpace {
        slots,
        layout,
        mask,
        hashes,
    } = space;
    let len = batch.num_rows();
    if len == 0 {
        // A span of which every event was dead: there is no first row to write to.
        return;
    }
    let (ids, numbers) = rows.grow(len);
    for (at, slot) in slots.iter().enumerate() {
        let (before, rest) = hashes.split_at_mut(at);
        let out = &mut rest[0];
        out.clear();
        match &slot.source {
            Source::Number { column, kind } => {
                let raw = numeric(batch.column(*column), *kind);
                number(
                    slot.namespace,
                    &raw,
                    out,
                    &mut numbers[at..],
                    layout.numbers,
                );
            }
            Source::Category { column, kind } => {
                category(slot.namespace, batch.column(*column), *kind, out)
            }
            Source::Bucket {
                column,
                kind,
                width,
            } => {
                let raw = numeric(batch.column(*column), *kind);
                out.extend(
                    raw.iter()
                        .map(|value| bucket(slot.namespace, *value, *width)),
                );
            }
            Source::Time {
                column,
                part,
                offset_micros,
            } => {
                let times = batch
                    .column(*column)
                    .as_primitive::<TimestampMicrosecondType>();
                let (values, space) = (times.values(), slot.namespace);
                let hash = |at: usize| space.integer(time_part(values[at], *offset_micros, *part));
                fill(out, len, times.nulls(), space.missing, hash);
            }
            Source::Cross { parents } => cross(slot.namespace, parents, before, len, out),
            Source::Bag { column, bag } => {
                let texts = batch.column(*column).as_string::<i32>();
                super::bag::fill(
                    slot.namespace,
                    texts,
                    bag,
                    *mask,
                    &mut ids[at..],
                    layout.slots,
                );
                continue;
            }
            Source::More => continue,
        }
        scatter(out, *mask, &mut ids[at..], *layout);
    }
}

/// Writes the ids of one slot, one into each row.
fn scatter(hashes: &[u64], mask: u32, ids: &mut [u32], layout: Layout) {
    for (id, hash) in ids.iter_mut().step_by(layout.slots).zip(hashes) {
        *id = *hash as u32 & mask;
    }
}

fn fill(
    out: &mut Vec<u64>,
    len: usize,
    nulls: Option<&NullBuffer>,
    missing: u64,
    hash: impl Fn(usize) -> u64,
) {
    match nulls.filter(|nulls| nulls.null_count() > 0) {
        None => out.extend((0..len).map(hash)),
        Some(nulls) => {
            out.extend((0..len).map(|at| {
                if nulls.is_valid(at) {
                    hash(at)
                } else {
                    missing
                }
            }));
        }
    }
}

/// Returns a column of numbers, NaN where one is missing or not finite.
fn numeric(column: &dyn Array, kind: FieldType) -> Vec<f64> {
    let mut raw: Vec<f64> = match kind {
        FieldType::Float64 => {
            let finite = |value: &f64| if value.is_finite() { *value } else { f64::NAN };
            column
                .as_primitive::<Float64Type>()
                .values()
                .iter()
                .map(finite)
                .collect()
        }
        _ => column
            .as_primitive::<Int64Type>()
            .values()
            .iter()
            .map(|value| *value as f64)
            .collect(),
    };
    if let Some(nulls) = column.nulls().filter(|nulls| nulls.null_count() > 0) {
        for (value, valid) in raw.iter_mut().zip(nulls.iter()) {
            *value = if valid { *value } else { f64::NAN };
        }
    }
    raw
}

fn number(space: Namespace, raw: &[f64], out: &mut Vec<u64>, numbers: &mut [f64], stride: usize) {
    for (number, value) in numbers.iter_mut().step_by(stride).zip(raw) {
        *number = *value;
        out.push(if value.is_nan() {
            space.missing
        } else {
            space.number
        });
    }
}

fn bucket(space: Namespace, value: f64, width: f64) -> u64 {
    if value.is_nan() {
        return space.missing;
    }
    space.integer((value / width).floor() as i64)
}

fn category(space: Namespace, column: &dyn Array, kind: Kind, out: &mut Vec<u64>) {
    let (len, nulls) = (column.len(), column.nulls());
    let missing = space.missing;
    match kind {
        Kind::Token => {
            let tokens = column.as_binary::<i32>();
            fill(out, len, nulls, missing, |at| space.bytes(tokens.value(at)));
        }
        Kind::Plain(FieldType::String) => {
            let texts = column.as_string::<i32>();
            fill(out, len, nulls, missing, |at| {
                space.bytes(texts.value(at).as_bytes())
            });
        }
        Kind::Plain(FieldType::Bool) => {
            let flags = column.as_boolean();
            fill(out, len, nulls, missing, |at| {
                space.integer(i64::from(flags.value(at)))
            });
        }
        Kind::Plain(FieldType::Timestamp) => {
            let values = column.as_primitive::<TimestampMicrosecondType>().values();
            fill(out, len, nulls, missing, |at| space.integer(values[at]));
        }
        Kind::Plain(FieldType::Float64) => {
            let values = column.as_primitive::<Float64Type>().values();
            fill(out, len, nulls, missing, |at| {
                space.integer(values[at].to_bits() as i64)
            });
        }
        Kind::Plain(FieldType::Int64) => {
            let values = column.as_primitive::<Int64Type>().values();
            fill(out, len, nulls, missing, |at| space.integer(values[at]));
        }
    }
}

fn cross(space: Namespace, parents: &[usize], hashes: &[Vec<u64>], len: usize, out: &mut Vec<u64>) {
    match parents {
        [a, b] => {
            let both = hashes[*a][..len].iter().zip(&hashes[*b][..len]);
            out.extend(both.map(|(a, b)| space.pair(*a, *b)));
        }
        [a, b, c] => {
            let both = hashes[*a][..len].iter().zip(&hashes[*b][..len]);
            let all = both.zip(&hashes[*c][..len]);
            out.extend(all.map(|((a, b), c)| space.triple(*a, *b, *c)));
        }
        _ => out.resize(len, space.missing),
    }
}

/// Returns a part of a point in time; of a local time whose offset is given.
fn time_part(micros: i64, offset: i64, part: TimePart) -> i64 {
    let local = micros.saturating_add(offset);
    let days = local.div_euclid(DAY);
    match part {
        TimePart::Minute => local.rem_euclid(HOUR) / MINUTE,
        TimePart::Hour => local.rem_euclid(DAY) / HOUR,
        TimePart::Weekday => (days + 3).rem_euclid(7),
        TimePart::Day => days,
        TimePart::Month => month(days),
    }
}

/// Returns the month, 1 to 12, of a day since 1970.
///
/// # Source
/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn month(days: i64) -> i64 {
    let day_of_era = (days + 719_468).rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_parts_are_local() {
        let check = |micros, offset, part, expected| {
            assert_eq!(
                time_part(micros, offset, part),
                expected,
                "{micros} {part:?}"
            );
        };
        // 2013-01-01T03:30:00Z, a Tuesday; in New York still Monday, 31 December.
        let time = 1_357_011_000_000_000;
        check(time, 0, TimePart::Minute, 30);
        check(time, 0, TimePart::Hour, 3);
        check(time, 0, TimePart::Weekday, 1);
        check(time, 0, TimePart::Day, 15_706);
        check(time, 0, TimePart::Month, 1);
        check(time, -5 * HOUR, TimePart::Hour, 22);
        check(time, -5 * HOUR, TimePart::Weekday, 0);
        check(time, -5 * HOUR, TimePart::Day, 15_705);
        check(time, -5 * HOUR, TimePart::Month, 12);
        check(-1, 0, TimePart::Hour, 23);
        check(-1, 0, TimePart::Day, -1);
    }

    #[test]
    fn months_follow_the_calendar() {
        let lengths = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let mut day = 15_706; // 2013-01-01
        for (at, length) in lengths.iter().enumerate() {
            assert_eq!(month(day), at as i64 + 1);
            assert_eq!(month(day + length - 1), at as i64 + 1);
            day += length;
        }
        assert_eq!(month(11_016), 2, "2000-02-29");
    }
}
