//! Labels: one JSON object a message on `<s>.labels`, in the fields that the contract names.

use std::borrow::Cow;

use crate::contract::{Label as LabelContract, LabelType};
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
    /// Not a JSON object.
    #[error("not a JSON object")]
    Malformed,
    /// No event id, or not a text.
    #[error("no event id")]
    EventId,
    /// No label, or not of the contract's type.
    #[error("no label of the contract's type")]
    Label,
    /// No time, or not one.
    #[error("no time")]
    Time,
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
        let names = [&contract.event, &contract.name, &contract.time];
        let mut values = [const { RawValue::Absent }; 3];
        json::read(&names, payload, &mut values).map_err(|_| LabelError::Malformed)?;
        let [event_id, label, time] = values;
        let RawValue::Text(event_id) = event_id else {
            return Err(LabelError::EventId);
        };
        Ok(LabelEvent {
            event_id,
            label: outcome(contract, &label).ok_or(LabelError::Label)?,
            time: point(&time).ok_or(LabelError::Time)?,
        })
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
        check(r#"{"late":true,"time":5}"#, Err(LabelError::EventId));
        check(
            r#"{"id":"a","late":"yes","time":5}"#,
            Err(LabelError::Label),
        );
        check(r#"{"id":"a","late":0.5,"time":5}"#, Err(LabelError::Label));
        check(
            r#"{"id":"a","late":true,"time":"soon"}"#,
            Err(LabelError::Time),
        );
        check(r#"{"id":"a","late":tr"#, Err(LabelError::Malformed));
        check("", Err(LabelError::Malformed));
        check("[1]", Err(LabelError::Malformed));
    }
}
