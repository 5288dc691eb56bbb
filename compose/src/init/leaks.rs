//! Guesses which columns give the label away: what is known only together with it cannot be learned from. Pure.

use std::collections::HashMap;

use super::column::{Column, Kind};
use super::seen::Value;

/// Labels of each kind, and rows of a value, that a proof needs.
const PROOF_MIN: usize = 10;

/// Rows without a label that must be seen before their pattern means something.
const NULLS_MIN: usize = 3;

/// Says why a column seems to be known only with the label; `None` if it does not.
pub fn leak(column: &Column, label: &Column) -> Option<&'static str> {
    if matches!(column.kind(), Kind::Empty | Kind::Nested) {
        None
    } else if is_missing_together(column, label) {
        Some("it is missing where the label is, so it is known only with the label")
    } else if is_split_by_threshold(column, label) {
        Some("above one value of it the label is always the same, and below it never")
    } else if says_the_label(column, label) {
        Some("each of its values has one and the same label")
    } else {
        None
    }
}

/// Says whether four in five rows that lack either of them lack both.
fn is_missing_together(column: &Column, label: &Column) -> bool {
    let (mut both, mut either) = (0, 0);
    for (value, label) in column.values.iter().zip(&label.values) {
        let (value, label) = (*value == Value::Null, *label == Value::Null);
        both += usize::from(value && label);
        either += usize::from(value || label);
    }
    both >= NULLS_MIN && both * 5 >= either * 4
}

fn numbers<'a>(column: &'a Column, label: &'a Column) -> impl Iterator<Item = (f64, f64)> + 'a {
    let pairs = column.values.iter().zip(&label.values);
    pairs.filter_map(|pair| match pair {
        (Value::Number(value), Value::Number(label)) => Some((*value, *label)),
        _ => None,
    })
}

/// Says whether all numbers of one label are above all of the other: a label made from a number, such as late from a
/// delay.
fn is_split_by_threshold(column: &Column, label: &Column) -> bool {
    if !label.is_yes_or_no() || column.counts.texts + column.counts.times > 0 {
        return false;
    }
    let mut ends = [(f64::INFINITY, f64::NEG_INFINITY, 0); 2];
    for (value, label) in numbers(column, label) {
        let (low, high, count) = &mut ends[usize::from(label > 0.5)];
        *low = low.min(value);
        *high = high.max(value);
        *count += 1;
    }
    let [no, yes] = ends;
    PROOF_MIN <= no.2.min(yes.2) && (no.1 < yes.0 || yes.1 < no.0)
}

/// Says whether each value always comes with one label, although each comes often.
fn says_the_label(column: &Column, label: &Column) -> bool {
    let often = column.distinct() * PROOF_MIN <= column.seen();
    if !often || label.distinct() < 2 || column.distinct() < 2 {
        return false;
    }
    let key = |value: &Value| match value {
        Value::Null => None,
        Value::Number(number) => Some(number.to_bits()),
        Value::Time(micros) => Some(micros.cast_unsigned()),
        Value::Text(hash) => Some(*hash),
    };
    let mut labels = HashMap::new();
    let pairs = column.values.iter().zip(&label.values);
    let mut pairs = pairs.filter_map(|(value, label)| Some((key(value)?, key(label)?)));
    let agree = pairs.all(|(value, label)| *labels.entry(value).or_insert(label) == label);
    let mut different: Vec<u64> = labels.into_values().collect();
    different.sort_unstable();
    different.dedup();
    agree && different.len() >= 2
}

#[cfg(test)]
mod tests {
    use super::super::seen::Seen;
    use super::*;

    fn column(value: impl Fn(usize) -> Option<f64>) -> Column {
        let mut column = Column::new("c", 0);
        for row in 0..200 {
            column.add(value(row).map_or(Seen::Null, Seen::Float));
        }
        column
    }

    /// A scattered number for each row.
    fn delay(row: usize) -> f64 {
        (row * 37 % 101) as f64
    }

    #[test]
    fn what_is_known_with_the_label_leaks_and_the_rest_does_not() {
        let missing = |row: usize| row % 20 == 7;
        let label = column(|row| (!missing(row)).then_some(f64::from(u8::from(delay(row) > 15.0))));
        let whole = column(|row| Some(f64::from(u8::from(delay(row) > 15.0))));
        let check = |what: &Column, label: &Column, expected: bool, name: &str| {
            assert_eq!(leak(what, label).is_some(), expected, "{name}");
        };
        let together = column(|row| (!missing(row)).then_some((row % 7) as f64));
        check(&together, &label, true, "missing together");
        let apart = column(|row| (row % 20 != 8).then_some((row % 7) as f64));
        check(&apart, &label, false, "missing apart");
        check(
            &column(|row| Some(delay(row))),
            &whole,
            true,
            "the number behind the label",
        );
        check(
            &column(|row| Some(-delay(row))),
            &whole,
            true,
            "the other way round",
        );
        check(
            &column(|row| Some((row % 50) as f64)),
            &whole,
            false,
            "another number",
        );
        check(
            &column(|row| Some(f64::from(u8::from(delay(row) <= 15.0)))),
            &whole,
            true,
            "the opposite",
        );
        check(&column(|_| Some(1.0)), &whole, false, "a constant");
    }
}
