//! Labels: one JSON object a message on `<s>.labels`, in the fields that the contract names.

use std::borrow::Cow;

use crate::contract::{Label as LabelContract, LabelType};
use crate::dead::Reason;
use crate::json::{self, RawValue};
use crate::time::{EventTime, parse_rfc3339};

/// What became of an event.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelEvent<'a> {
    /// The event's id.
    pub event_id: Cow<'a, str>,
    /// 1 for yes, 0 for no; the number; the index of the class.
    pub label: f64,
    /// When it became known.
    pub time: EventTime,
}

/// Why a label message cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// No value at all.
    #[error("it is empty")]
    Empty,
    /// Not a JSON object.
    #[error("it is no JSON object")]
    Malformed,
    /// A part is missing or null.
    #[error("it has no {0}")]
    Missing(LabelPart),
    /// A part is of another type: a label that is not the contract's, an event id that is no text.
    #[error("its {0} is of another type")]
    WrongType(LabelPart),
}

/// A part of a label message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelPart {
    /// The event's id.
    EventId,
    /// The label.
    Label,
    /// When it became known.
    Time,
}

impl std::fmt::Display for LabelPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            LabelPart::EventId => "event id",
            LabelPart::Label => "label",
            LabelPart::Time => "time",
        })
    }
}

impl LabelError {
    /// Returns what a dead letter says: the reason, and the field at fault.
    pub fn letter(self, contract: &LabelContract) -> (Reason, Option<&str>) {
        let field = |part| match part {
            LabelPart::EventId => contract.event.as_str(),
            LabelPart::Label => &contract.name,
            LabelPart::Time => &contract.time,
        };
        match self {
            LabelError::Empty => (Reason::Empty, None),
            LabelError::Malformed => (Reason::Malformed, None),
            LabelError::Missing(part) => (Reason::Missing, Some(field(part))),
            LabelError::WrongType(part) => (Reason::WrongType, Some(field(part))),
        }
    }
}

impl<'a> LabelEvent<'a> {
    /// Reads a label message.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(
        contract: &LabelContract,
        payload: &'a [u8],
    ) -> Result<LabelEvent<'a>, LabelError> {
        if payload.is_empty() {
            return Err(LabelError::Empty);
        }
        let names = [&contract.event, &contract.name, &contract.time];
        let mut values = [const { RawValue::Absent }; 3];
        json::read(&names, payload, &mut values).map_err(|_| LabelError::Malformed)?;
        let [event_id, label, time] = values;
        let RawValue::Text(event_id) = event_id else {
            return Err(wrong(&event_id, LabelPart::EventId));
        };
        Ok(LabelEvent {
            event_id,
            label: outcome(contract, &label).ok_or_else(|| wrong(&label, LabelPart::Label))?,
            time: point(&time).ok_or_else(|| wrong(&time, LabelPart::Time))?,
        })
    }
}

fn wrong(value: &RawValue<'_>, part: LabelPart) -> LabelError {
    match value {
        RawValue::Absent => LabelError::Missing(part),
        _ => LabelError::WrongType(part),
    }
}

/// Returns a label of the contract's type.
fn outcome(contract: &LabelContract, value: &RawValue<'_>) -> Option<f64> {
    let number = match value {
        RawValue::Int(number) => Some(*number as f64),
        RawValue::Float(number) => Some(*number),
        _ => None,
    };
    match (contract.kind, value) {
        (LabelType::Bool, RawValue::Bool(yes)) => Some(f64::from(u8::from(*yes))),
        (LabelType::Bool, _) => number.filter(|label| *label == 0.0 || *label == 1.0),
        (LabelType::Number, _) => number.filter(|label| label.is_finite()),
        (LabelType::Class, RawValue::Text(name)) => {
            let found = contract.classes.iter().position(|class| class == name);
            found.map(|at| at as f64)
        }
        (LabelType::Class, _) => None,
    }
}

fn point(value: &RawValue<'_>) -> Option<EventTime> {
    match value {
        RawValue::Text(text) => parse_rfc3339(text),
        RawValue::Int(millis) => millis.checked_mul(1000).map(EventTime),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Contract;

    fn check(payload: &str, expected: Result<(&str, f64, i64), LabelError>) {
        let contract = Contract::parse("test", include_str!("../fixtures/contract.toml")).unwrap();
        let read = LabelEvent::parse(contract.label.as_ref().unwrap(), payload.as_bytes());
        let read = read.map(|label| (label.event_id.into_owned(), label.label, label.time.0));
        assert_eq!(
            read,
            expected.map(|(id, label, time)| (id.to_owned(), label, time)),
            "{payload}"
        );
    }

    #[test]
    fn reads_labels_and_names_what_is_wrong() {
        check(
            r#"{"id":"a","late":true,"time":"1970-01-01T00:00:01Z"}"#,
            Ok(("a", 1.0, 1_000_000)),
        );
        check(
            r#"{"time":5,"late":0,"more":[1],"id":"\u00e9\n"}"#,
            Ok(("é\n", 0.0, 5_000)),
        );
        let (missing, wrong) = (LabelError::Missing, LabelError::WrongType);
        for (payload, error) in [
            (r#"{"late":true,"time":5}"#, missing(LabelPart::EventId)),
            (
                r#"{"id":7,"late":true,"time":5}"#,
                wrong(LabelPart::EventId),
            ),
            (
                r#"{"id":"a","late":null,"time":5}"#,
                missing(LabelPart::Label),
            ),
            (
                r#"{"id":"a","late":"yes","time":5}"#,
                wrong(LabelPart::Label),
            ),
            (r#"{"id":"a","late":0.5,"time":5}"#, wrong(LabelPart::Label)),
            (
                r#"{"id":"a","late":true,"time":"soon"}"#,
                wrong(LabelPart::Time),
            ),
        ] {
            check(payload, Err(error));
        }
        check(r#"{"id":"a","late":tr"#, Err(LabelError::Malformed));
        check("", Err(LabelError::Empty));
        check("[1]", Err(LabelError::Malformed));
    }
}
