//! Days: which day an event belongs to, and the rows of a batch by day.

use std::fmt;

use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{PrimitiveArray, RecordBatch, UInt32Array};
use arrow_schema::ArrowError;
use arrow_select::take::take_record_batch;

/// Name of the lake's partition column.
pub const COLUMN: &str = "_event_date";

const DAY_MICROS: i64 = 86_400_000_000;
/// Runs shorter than this on average are gathered, longer ones are slices of the batch.
const SLICE_ROWS_MIN: usize = 64;

/// A calendar day, UTC.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Day(i64);

impl Day {
    /// Returns the day of a time in microseconds since 1970.
    pub fn of(micros: i64) -> Day {
        Day(micros.div_euclid(DAY_MICROS))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        schemas::write_rfc3339(
            schemas::EventTime(self.0.saturating_mul(DAY_MICROS)),
            &mut text,
        );
        f.write_str(text.split('T').next().unwrap_or_default())
    }
}

impl fmt::Debug for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Splits a batch by the day of its rows, which keep their order within a day.
///
/// Long runs of one day are slices and cost nothing; where days alternate (late events), rows are copied
/// together instead, so that a late event makes no batch of its own.
///
/// # Errors
/// Arrow's, if it cannot gather rows.
pub fn split(
    batch: RecordBatch,
    times: &PrimitiveArray<TimestampMicrosecondType>,
) -> Result<Vec<(Day, RecordBatch)>, ArrowError> {
    let runs = runs(times.values());
    if batch.num_rows() < SLICE_ROWS_MIN * runs.len() && 1 < runs.len() {
        return gather(&batch, &runs);
    }
    Ok(runs
        .into_iter()
        .map(|run| (run.day, batch.slice(run.at, run.rows)))
        .collect())
}

struct Run {
    day: Day,
    at: usize,
    rows: usize,
}

fn runs(times: &[i64]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    // The bounds of the run's day spare a division for every row.
    let mut bounds = 0..0;
    for (at, time) in times.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if bounds.contains(time) => run.rows += 1,
            _ => {
                let day = Day::of(*time);
                let start = day.0.saturating_mul(DAY_MICROS);
                bounds = start..start.saturating_add(DAY_MICROS);
                runs.push(Run { day, at, rows: 1 });
            }
        }
    }
    runs
}

fn gather(batch: &RecordBatch, runs: &[Run]) -> Result<Vec<(Day, RecordBatch)>, ArrowError> {
    let mut days: Vec<(Day, Vec<u32>)> = Vec::new();
    for run in runs {
        let rows = run.at as u32..(run.at + run.rows) as u32;
        match days.iter_mut().rev().find(|(day, _)| *day == run.day) {
            Some((_, taken)) => taken.extend(rows),
            None => days.push((run.day, rows.collect())),
        }
    }
    days.into_iter()
        .map(|(day, rows)| Ok((day, take_record_batch(batch, &UInt32Array::from(rows))?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::TimestampMicrosecondArray;

    use super::*;

    fn check(days: &[(i64, usize)], expected: &[(&str, usize)]) {
        let times = days
            .iter()
            .flat_map(|(day, rows)| vec![day * DAY_MICROS + 7; *rows]);
        let times = TimestampMicrosecondArray::from_iter_values(times);
        let batch = RecordBatch::try_from_iter([("time", Arc::new(times.clone()) as _)]).unwrap();
        let split = split(batch, &times).unwrap();
        let found: Vec<_> = split
            .iter()
            .map(|(day, rows)| (day.to_string(), rows.num_rows()))
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(day, rows)| (day.to_string(), *rows))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn rows_go_to_their_day() {
        check(&[], &[]);
        check(&[(15_706, 3)], &[("2013-01-01", 3)]);
        check(
            &[(15_706, 100), (15_707, 100)],
            &[("2013-01-01", 100), ("2013-01-02", 100)],
        );
        check(
            &[(0, 2), (-1, 1), (0, 1), (-1, 1)],
            &[("1970-01-01", 3), ("1969-12-31", 2)],
        );
    }

    #[test]
    fn a_day_ends_before_midnight() {
        assert_eq!(Day::of(DAY_MICROS - 1), Day::of(0));
        assert_ne!(Day::of(DAY_MICROS), Day::of(0));
        assert_ne!(Day::of(-1), Day::of(0));
    }
}
