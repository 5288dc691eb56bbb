//! Guesses what is to be predicted, and when that became known. Pure.

use super::column::{Column, Kind};
use super::keys::{Guess, best};
use super::looks::words;
use super::personal;
use super::sample::Sample;
use super::seen::Value;

/// What the last word of a label's name often is.
const LABELS: [&str; 36] = [
    "fraud",
    "fraudulent",
    "isfraud",
    "late",
    "delayed",
    "clicked",
    "click",
    "converted",
    "conversion",
    "churn",
    "churned",
    "responded",
    "defaulted",
    "survived",
    "won",
    "bought",
    "purchased",
    "cancelled",
    "canceled",
    "returned",
    "spam",
    "attack",
    "anomaly",
    "success",
    "failed",
    "failure",
    "accepted",
    "approved",
    "liked",
    "installed",
    "subscribed",
    "readmitted",
    "overdue",
    "chargeback",
    "resolved",
    "escalated",
];

/// Names that only a label has, alone.
const EXACT: [&str; 7] = [
    "label", "target", "y", "class", "outcome", "response", "default",
];

/// What stands behind the name of a label.
const MARKS: [&str; 6] = ["flag", "label", "ind", "indicator", "bool", "yn"];

/// Names of labels that are numbers.
const NUMBERS: [&str; 8] = [
    "label", "target", "y", "outcome", "response", "rating", "stars", "reward",
];

/// What is two-valued and known with the event.
const KNOWN: [&str; 13] = [
    "weekend", "weekday", "holiday", "active", "new", "mobile", "test", "gender", "sex", "male",
    "female", "smoker", "member",
];

/// What the name of a time says that comes after the event.
pub const LATER: [&str; 22] = [
    "arrival",
    "arrived",
    "settled",
    "settlement",
    "closed",
    "labelled",
    "labeled",
    "label",
    "resolved",
    "delivered",
    "completed",
    "finished",
    "ended",
    "end",
    "known",
    "outcome",
    "chargeback",
    "reported",
    "confirmed",
    "returned",
    "updated",
    "modified",
];

/// What the name of a time says that was known before.
const PLANNED: [&str; 9] = [
    "scheduled",
    "planned",
    "expected",
    "estimated",
    "due",
    "expires",
    "expiry",
    "promised",
    "deadline",
];

/// Different whole numbers that a class has, at most.
const CLASS_NUMBERS_MAX: usize = 20;

/// Rows that may be against a guess: one in so many.
const AGAINST: usize = 100;

/// What the label is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelKind {
    /// true or false.
    Bool,
    /// A number.
    Number,
    /// One of these.
    Class(Vec<String>),
}

/// Returns the type that a column would have as a label.
pub fn label_kind(column: &Column) -> Option<LabelKind> {
    let classes = || {
        let all = column.all_kept()?;
        let classes: Vec<String> = all.into_iter().map(str::to_owned).collect();
        (classes.len() >= 2).then_some(LabelKind::Class(classes))
    };
    let few = column.distinct() <= CLASS_NUMBERS_MAX && column.name.eq_ignore_ascii_case("class");
    match column.kind() {
        _ if column.is_yes_or_no() => Some(LabelKind::Bool),
        Kind::Int if few => classes(),
        Kind::Int | Kind::Float => Some(LabelKind::Number),
        Kind::Text => classes(),
        Kind::Bool | Kind::Empty | Kind::Time | Kind::Nested => None,
    }
}

/// Guesses the label and its type.
pub fn guess_label(sample: &Sample) -> Option<(Guess, LabelKind)> {
    let last = sample.columns.len().checked_sub(1)?;
    let guess = best(sample, |at, column| label_score(column, at == last))?;
    let kind = label_kind(&sample.columns[guess.place])?;
    Some((guess, kind))
}

/// Scores a column as the label.
fn label_score(column: &Column, is_last: bool) -> Option<(i32, String)> {
    let kind = label_kind(column)?;
    let mut words = words(&column.name);
    // `fraud_flag` is about fraud; `fraud_type` and `click_id` are not what happened.
    while words.len() > 1
        && words
            .last()
            .is_some_and(|word| MARKS.contains(&word.as_str()))
    {
        words.pop();
    }
    let has = |list: &[&str]| words.iter().any(|word| list.contains(&word.as_str()));
    let alone = |list: &[&str]| words.len() == 1 && has(list);
    let last = words.last().map_or("", String::as_str);
    let named = LABELS.contains(&last) || alone(&EXACT);
    let asks = words.len() > 1 && ["is", "has", "was", "did", "will"].contains(&words[0].as_str());
    let two = column.distinct() == 2;
    if has(&KNOWN) || personal::personal(column).is_some() {
        return None;
    }
    let (base, what) = match &kind {
        LabelKind::Bool if two => (2, "it is true or false"),
        LabelKind::Bool if named => (0, "it is never anything else here"),
        LabelKind::Class(_) if two => (1, "it has two values"),
        LabelKind::Class(_) if named => (0, "it has few values"),
        LabelKind::Number if alone(&NUMBERS) => (4, "it is a number"),
        _ => return None,
    };
    let score = base + 4 * i32::from(named) + 2 * i32::from(asks) + i32::from(is_last);
    let because = match (named || asks || alone(&NUMBERS), is_last) {
        (true, _) => "the name speaks of an outcome",
        (false, true) => "it is the last column",
        (false, false) => "no other column is likelier",
    };
    (score >= 2).then(|| (score, format!("{because}, and {what}")))
}

/// Scores a time as that of the label: where there is a label there must be a time, and hardly ever before the event.
pub fn label_time_score(
    column: &Column,
    event: Option<&Column>,
    label: &Column,
) -> Option<(i32, String)> {
    if !column.is_time() {
        return None;
    }
    let rows = 0..column.values.len();
    let is_null = |column: &Column, row: usize| column.values[row] == Value::Null;
    let untimed = rows
        .clone()
        .filter(|row| is_null(column, *row) && !is_null(label, *row))
        .count();
    if untimed * AGAINST > label.seen() {
        return None;
    }
    if let Some(event) = event {
        let pairs = || {
            let pair = move |row| Some((event.moment(row)?, column.moment(row)?));
            rows.clone().filter_map(pair)
        };
        let before = pairs().filter(|(event, known)| known < event).count();
        let after = pairs().filter(|(event, known)| event < known).count();
        if before * AGAINST > column.seen() || after * 2 < column.seen() {
            return None;
        }
    }
    let words = words(&column.name);
    let has = |list: &[&str]| words.iter().any(|word| list.contains(&word.as_str()));
    let together = label.counts.nulls > 0
        && rows
            .clone()
            .all(|row| is_null(column, row) == is_null(label, row));
    let score = 3 * i32::from(together) + 2 * i32::from(has(&LATER)) - 5 * i32::from(has(&PLANNED));
    let why = match (together, has(&LATER)) {
        (true, true) => {
            "it is there exactly when the label is, never before the event, and the name says so"
        }
        (true, false) => "it is there exactly when the label is, and never before the event",
        _ => "it is never before the event, and the name speaks of what comes after",
    };
    (score >= 2).then(|| (score, why.to_owned()))
}
