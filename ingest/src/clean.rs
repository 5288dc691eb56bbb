//! The rules: one raw event in, its clean values or the reason for refusing it out. Pure; all that a decision
//! depends on is in [`Memory`].

use std::borrow::Cow;

use schemas::contract::{Bounds, CleanStep, Field, FieldType, UnknownFields, Value, Violation};
use schemas::dead::Reason;
use schemas::json::RawValue;
use schemas::{Contract, parse_rfc3339};

use crate::moments::Moments;
use crate::parse::{EVENT_BYTES_MAX, FieldNames, RawEvent};
use crate::window::Window;

/// Why an event was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Why.
    pub reason: Reason,
    /// Index of the field at fault.
    pub field: Option<usize>,
}

/// A clean value.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Clean<'a> {
    /// No value.
    #[default]
    Null,
    /// Of a string.
    Text(Cow<'a, str>),
    /// Of an int64, or a timestamp in microseconds.
    Int(i64),
    /// Of a float64.
    Float(f64),
    /// Of a bool.
    Bool(bool),
}

/// What one partition has shown so far.
#[derive(Debug)]
pub struct Memory {
    /// Ids of accepted events.
    pub window: Window,
    /// Of the fields that have a rule on outliers, in order.
    pub moments: Vec<Moments>,
}

/// How often values broke a rule, by field, since they were last taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Accepted events without a value.
    pub missing: Vec<u64>,
    /// Values of the wrong type or out of bounds, whatever became of them.
    pub invalid: Vec<u64>,
    /// Values of fields that the contract does not name.
    pub unknown: u64,
}

/// Applies a contract's rules.
#[derive(Debug)]
pub struct Cleaner {
    names: FieldNames,
    fields: Vec<Field>,
    id: usize,
    window_size: usize,
    unknown: UnknownFields,
    /// Index of the moments of each field with a rule on outliers.
    moments_at: Vec<Option<usize>>,
    tally: Tally,
}

impl Cleaner {
    /// Takes the rules from a contract.
    pub fn new(contract: &Contract) -> Cleaner {
        let mut with_rule = 0;
        let mut moments_at = |field: &Field| {
            field.outlier.map(|_| {
                with_rule += 1;
                with_rule - 1
            })
        };
        Cleaner {
            names: FieldNames::of(contract),
            moments_at: contract.fields.iter().map(&mut moments_at).collect(),
            fields: contract.fields.clone(),
            id: contract.event.id,
            window_size: contract.event.duplicates_window,
            unknown: contract.stream.unknown_fields,
            tally: Tally::empty(contract.fields.len()),
        }
    }

    /// Returns what a partition remembers that has shown nothing yet.
    pub fn fresh_memory(&self) -> Memory {
        let rules = self.moments_at.iter().flatten().count();
        Memory {
            window: Window::new(self.window_size),
            moments: vec![Moments::default(); rules],
        }
    }

    /// Takes the tally out and begins a new one.
    pub fn take_tally(&mut self) -> Tally {
        let empty = Tally::empty(self.fields.len());
        std::mem::replace(&mut self.tally, empty)
    }

    /// Decides one event. An accepted one is remembered, and its values are in `clean`, in the order of the
    /// contract's fields; a refused one leaves the memory as it was.
    ///
    /// # Errors
    /// The first rule that refuses it.
    pub fn decide<'a>(
        &mut self,
        value: Option<&'a [u8]>,
        memory: &mut Memory,
        event: &mut RawEvent<'a>,
        clean: &mut Vec<Clean<'a>>,
    ) -> Result<(), Rejection> {
        let json = value.ok_or(Rejection::of(Reason::Empty))?;
        if EVENT_BYTES_MAX < json.len() {
            return Err(Rejection::of(Reason::TooLarge));
        }
        self.names
            .parse(json, event)
            .map_err(|_| Rejection::of(Reason::Malformed))?;
        self.tally.unknown += u64::from(event.unknown);
        if 0 < event.unknown && self.unknown == UnknownFields::Reject {
            return Err(Rejection::of(Reason::UnknownField));
        }
        clean.clear();
        for (at, raw) in event.values.iter_mut().enumerate() {
            clean.push(self.field(at, std::mem::take(raw), memory)?);
        }
        let Clean::Text(id) = &clean[self.id] else {
            return Err(Rejection {
                reason: Reason::Missing,
                field: Some(self.id),
            });
        };
        if memory.window.knows(id.as_bytes()) {
            return Err(Rejection {
                reason: Reason::Duplicate,
                field: Some(self.id),
            });
        }
        memory.window.accept(id.as_bytes());
        self.remember(clean, memory);
        Ok(())
    }

    /// Cleans one value.
    fn field<'a>(
        &mut self,
        at: usize,
        raw: RawValue<'a>,
        memory: &Memory,
    ) -> Result<Clean<'a>, Rejection> {
        let field = &self.fields[at];
        let cleaned = match typed(field, raw) {
            Ok(value) => in_bounds(field, value),
            Err(()) => Checked::Broken(Reason::WrongType, None),
        };
        let cleaned = match cleaned {
            Checked::Good(value) => self.within(at, value, memory),
            broken => broken,
        };
        let value = match cleaned {
            Checked::Good(value) => value,
            Checked::Broken(reason, nearest) => {
                self.tally.invalid[at] += 1;
                let field = &self.fields[at];
                let action = match (reason, field.outlier) {
                    (Reason::Outlier, Some(outlier)) => outlier.action,
                    _ => field.on_violation,
                };
                match action {
                    Violation::Reject => {
                        return Err(Rejection {
                            reason,
                            field: Some(at),
                        });
                    }
                    Violation::Null => Clean::Null,
                    Violation::Clamp => nearest.unwrap_or(Clean::Null),
                }
            }
        };
        let field = &self.fields[at];
        match (value, &field.default) {
            (Clean::Null, Some(default)) => Ok(Clean::of(default)),
            (Clean::Null, None) if field.required => Err(Rejection {
                reason: Reason::Missing,
                field: Some(at),
            }),
            (value, _) => Ok(value),
        }
    }

    /// Checks a value against what the partition has shown.
    fn within<'a>(&self, at: usize, value: Clean<'a>, memory: &Memory) -> Checked<'a> {
        let (Clean::Float(number), Some(outlier), Some(moments)) =
            (&value, self.fields[at].outlier, self.moments_at[at])
        else {
            return Checked::Good(value);
        };
        match memory.moments[moments].bounds(outlier.deviations) {
            Some((low, high)) if *number < low || high < *number => {
                Checked::Broken(Reason::Outlier, Some(Clean::Float(number.clamp(low, high))))
            }
            _ => Checked::Good(value),
        }
    }

    /// Learns from an accepted event.
    fn remember(&mut self, clean: &[Clean<'_>], memory: &mut Memory) {
        for (at, value) in clean.iter().enumerate() {
            match (value, self.moments_at[at], self.fields[at].outlier) {
                (Clean::Null, ..) => self.tally.missing[at] += 1,
                (Clean::Float(number), Some(moments), Some(outlier)) => {
                    memory.moments[moments].learn(*number, outlier.deviations);
                }
                _ => {}
            }
        }
    }
}

impl Tally {
    fn empty(fields: usize) -> Tally {
        Tally {
            missing: vec![0; fields],
            invalid: vec![0; fields],
            unknown: 0,
        }
    }
}

impl Rejection {
    fn of(reason: Reason) -> Rejection {
        Rejection {
            reason,
            field: None,
        }
    }
}

impl Clean<'_> {
    fn of(value: &Value) -> Clean<'static> {
        match value {
            Value::String(text) => Clean::Text(Cow::Owned(text.clone())),
            Value::Int(number) => Clean::Int(*number),
            Value::Float(number) => Clean::Float(*number),
            Value::Bool(value) => Clean::Bool(*value),
        }
    }
}

/// A value that passed, or the rule that it broke with the nearest value that would pass.
enum Checked<'a> {
    Good(Clean<'a>),
    Broken(Reason, Option<Clean<'a>>),
}

/// Brings a raw value into the field's type; runs the cleaning steps.
fn typed<'a>(field: &Field, raw: RawValue<'a>) -> Result<Clean<'a>, ()> {
    Ok(match (field.kind, raw) {
        (_, RawValue::Absent) => Clean::Null,
        (FieldType::String, RawValue::Text(text)) => Clean::Text(clean_text(&field.clean, text)),
        (FieldType::Bool, RawValue::Bool(value)) => Clean::Bool(value),
        (FieldType::Int64, RawValue::Int(number)) => Clean::Int(number),
        (FieldType::Int64, RawValue::Float(number)) => Clean::Int(whole(number)?),
        (FieldType::Float64, RawValue::Int(number)) => scaled(&field.clean, number as f64)?,
        (FieldType::Float64, RawValue::Float(number)) => scaled(&field.clean, number)?,
        (FieldType::Timestamp, RawValue::Int(millis)) => {
            Clean::Int(millis.checked_mul(1000).ok_or(())?)
        }
        (FieldType::Timestamp, RawValue::Text(text)) => {
            Clean::Int(parse_rfc3339(&text).ok_or(())?.0)
        }
        _ => return Err(()),
    })
}

fn whole(number: f64) -> Result<i64, ()> {
    let fits = number.fract() == 0.0 && number.abs() < 9.0e15;
    if fits { Ok(number as i64) } else { Err(()) }
}

fn scaled(steps: &[CleanStep], number: f64) -> Result<Clean<'static>, ()> {
    let number = steps.iter().fold(number, |number, step| match step {
        CleanStep::Scale { by, plus } => number * by + plus,
        CleanStep::Trim | CleanStep::Lower | CleanStep::Upper => number,
    });
    if number.is_finite() {
        Ok(Clean::Float(number))
    } else {
        Err(())
    }
}

fn clean_text<'a>(steps: &[CleanStep], text: Cow<'a, str>) -> Cow<'a, str> {
    steps.iter().fold(text, |text, step| match step {
        CleanStep::Trim => trim(text),
        CleanStep::Lower if text.is_ascii() && !text.bytes().any(|b| b.is_ascii_uppercase()) => {
            text
        }
        CleanStep::Lower => Cow::Owned(text.to_lowercase()),
        CleanStep::Upper if text.is_ascii() && !text.bytes().any(|b| b.is_ascii_lowercase()) => {
            text
        }
        CleanStep::Upper => Cow::Owned(text.to_uppercase()),
        CleanStep::Scale { .. } => text,
    })
}

fn trim(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    }
}

fn in_bounds<'a>(field: &Field, value: Clean<'a>) -> Checked<'a> {
    match (&value, field.bounds) {
        // An empty text says nothing: it counts as missing.
        (Clean::Text(text), _) if text.is_empty() => Checked::Good(Clean::Null),
        (Clean::Text(text), _) if field.bytes_max < text.len() => {
            Checked::Broken(Reason::OutOfBounds, None)
        }
        (Clean::Int(number), Bounds::Int { min, max }) if *number < min || max < *number => {
            Checked::Broken(
                Reason::OutOfBounds,
                Some(Clean::Int((*number).clamp(min, max))),
            )
        }
        (Clean::Float(number), Bounds::Float { min, max }) if *number < min || max < *number => {
            Checked::Broken(
                Reason::OutOfBounds,
                Some(Clean::Float(number.clamp(min, max))),
            )
        }
        _ => Checked::Good(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTRACT: &str = r#"
        [stream]
        name = "s"
        unknown_fields = "reject"
        [event]
        id = "id"
        time = "at"
        duplicates_window = 10
        [[fields]]
        id = 1
        name = "id"
        type = "string"
        presence = "required"
        clean = ["trim", "upper"]
        [[fields]]
        id = 2
        name = "at"
        type = "timestamp"
        presence = "required"
        [[fields]]
        id = 3
        name = "n"
        type = "int64"
        min = 0
        max = 9
        on_violation = "clamp"
        [[fields]]
        id = 4
        name = "x"
        type = "float64"
        min = -100
        max = 100
        scale = { by = 2.0, plus = 1.0 }
        outlier = { deviations = 3.0, action = "reject" }
        [[fields]]
        id = 5
        name = "c"
        type = "string"
        bytes_max = 3
        default = "??"
    "#;

    fn decide(
        cleaner: &mut Cleaner,
        memory: &mut Memory,
        json: &str,
    ) -> Result<Vec<Clean<'static>>, (Reason, Option<usize>)> {
        let (mut event, mut clean) = (RawEvent::default(), Vec::new());
        let decided = cleaner.decide(Some(json.as_bytes()), memory, &mut event, &mut clean);
        decided.map_err(|rejection| (rejection.reason, rejection.field))?;
        let owned = |value: &Clean<'_>| match value {
            Clean::Text(text) => Clean::Text(Cow::Owned(text.clone().into_owned())),
            Clean::Null => Clean::Null,
            Clean::Int(n) => Clean::Int(*n),
            Clean::Float(x) => Clean::Float(*x),
            Clean::Bool(b) => Clean::Bool(*b),
        };
        Ok(clean.iter().map(owned).collect())
    }

    fn fresh() -> (Cleaner, Memory) {
        let cleaner = Cleaner::new(&Contract::parse("test", CONTRACT).unwrap());
        let memory = cleaner.fresh_memory();
        (cleaner, memory)
    }

    fn check(json: &str, expected: Result<[Clean<'static>; 5], (Reason, Option<usize>)>) {
        let (mut cleaner, mut memory) = fresh();
        assert_eq!(
            decide(&mut cleaner, &mut memory, json),
            expected.map(|clean| clean.to_vec()),
            "{json}"
        );
    }

    fn text(text: &'static str) -> Clean<'static> {
        Clean::Text(Cow::Borrowed(text))
    }

    #[test]
    fn values_are_cleaned_clamped_and_defaulted() {
        use Clean::{Float, Int, Null};
        check(
            r#"{"id":" a ","at":1,"n":5,"x":3,"c":"é"}"#,
            Ok([text("A"), Int(1000), Int(5), Float(7.0), text("é")]),
        );
        check(
            r#"{"id":"a","at":1,"n":50.0}"#,
            Ok([text("A"), Int(1000), Int(9), Null, text("??")]),
        );
        check(
            r#"{"id":"a","at":1,"n":"5","c":"long"}"#,
            Ok([text("A"), Int(1000), Null, Null, text("??")]),
        );
        check(
            r#"{"id":"a","at":1,"n":1.5,"x":1e9}"#,
            Ok([text("A"), Int(1000), Null, Null, text("??")]),
        );
    }

    #[test]
    fn what_cannot_be_mended_is_refused_with_its_reason() {
        check("{", Err((Reason::Malformed, None)));
        check(r#"{"id":"a"}"#, Err((Reason::Missing, Some(1))));
        check(r#"{"id":"  ","at":1}"#, Err((Reason::Missing, Some(0))));
        check(r#"{"id":7,"at":1}"#, Err((Reason::WrongType, Some(0))));
        check(
            r#"{"id":"a","at":"soon"}"#,
            Err((Reason::WrongType, Some(1))),
        );
        check(
            r#"{"id":"a","at":1,"more":1}"#,
            Err((Reason::UnknownField, None)),
        );
    }

    #[test]
    fn empty_and_huge_records_are_refused() {
        let (mut cleaner, mut memory) = fresh();
        let (mut event, mut clean) = (RawEvent::default(), Vec::new());
        let refused = cleaner.decide(None, &mut memory, &mut event, &mut clean);
        assert_eq!(refused.unwrap_err().reason, Reason::Empty);
        let huge = vec![b' '; EVENT_BYTES_MAX + 1];
        let refused = cleaner.decide(Some(&huge), &mut memory, &mut event, &mut clean);
        assert_eq!(refused.unwrap_err().reason, Reason::TooLarge);
    }

    #[test]
    fn a_duplicate_is_one_of_an_accepted_event_only() {
        let (mut cleaner, mut memory) = fresh();
        assert!(decide(&mut cleaner, &mut memory, r#"{"id":"a"}"#).is_err());
        assert!(decide(&mut cleaner, &mut memory, r#"{"id":"a","at":1}"#).is_ok());
        let again = decide(&mut cleaner, &mut memory, r#"{"id":"a ","at":2}"#);
        assert_eq!(again, Err((Reason::Duplicate, Some(0))));
    }

    #[test]
    fn outliers_are_found_once_enough_was_seen() {
        let (mut cleaner, mut memory) = fresh();
        for at in 0..200 {
            let json = format!(r#"{{"id":"e{at}","at":1,"x":{}}}"#, at % 5);
            assert!(decide(&mut cleaner, &mut memory, &json).is_ok());
        }
        let wild = decide(&mut cleaner, &mut memory, r#"{"id":"w","at":1,"x":40}"#);
        assert_eq!(wild, Err((Reason::Outlier, Some(3))));
        assert!(decide(&mut cleaner, &mut memory, r#"{"id":"w","at":1,"x":4}"#).is_ok());
        assert_eq!(cleaner.take_tally().invalid, [0, 0, 0, 1, 0]);
    }
}
