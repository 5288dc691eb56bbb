//! Labels: one JSON object a message on `<s>.labels`, in the fields that the contract names.

use std::borrow::Cow;

use sonic_rs::{JsonType, JsonValueTrait};

use crate::contract::{Label as LabelContract, LabelType};
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
        let (mut event_id, mut label, mut time) = (None, None, None);
        for entry in sonic_rs::to_object_iter(payload) {
            let (key, value) = entry.map_err(|_| LabelError::Malformed)?;
            if key == contract.event {
                event_id = text(payload, &value);
            } else if key == contract.name {
                label = outcome(contract, &value);
            } else if key == contract.time {
                time = point(&value);
            }
        }
        Ok(LabelEvent {
            event_id: event_id.ok_or(LabelError::EventId)?,
            label: label.ok_or(LabelError::Label)?,
            time: time.ok_or(LabelError::Time)?,
        })
    }
}

/// Returns the text of a JSON string, borrowed from the payload where nothing is escaped.
fn text<'a>(payload: &'a [u8], value: &sonic_rs::LazyValue<'_>) -> Option<Cow<'a, str>> {
    if value.get_type() != JsonType::String {
        return None;
    }
    let raw = value.as_raw_str().as_bytes();
    let inside = raw.get(1..raw.len().checked_sub(1)?)?;
    if inside.contains(&b'\\') {
        return value.as_str().map(|text| Cow::Owned(text.to_owned()));
    }
    let start = (inside.as_ptr() as usize).checked_sub(payload.as_ptr() as usize);
    match start.and_then(|start| payload.get(start..start + inside.len())) {
        Some(borrowed) => std::str::from_utf8(borrowed).ok().map(Cow::Borrowed),
        None => value.as_str().map(|text| Cow::Owned(text.to_owned())),
    }
}

/// Returns a label of the contract's type.
fn outcome(contract: &LabelContract, value: &sonic_rs::LazyValue<'_>) -> Option<f64> {
    match contract.kind {
        LabelType::Bool => match value.as_bool() {
            Some(yes) => Some(f64::from(u8::from(yes))),
            None => value
                .as_f64()
                .filter(|label| *label == 0.0 || *label == 1.0),
        },
        LabelType::Number => value.as_f64().filter(|label| label.is_finite()),
        LabelType::Class => {
            let name = value.as_str()?;
            let found = contract.classes.iter().position(|class| class == name);
            found.map(|at| at as f64)
        }
    }
}

fn point(value: &sonic_rs::LazyValue<'_>) -> Option<EventTime> {
    if let Some(text) = value.as_str() {
        return parse_rfc3339(text);
    }
    value.as_i64()?.checked_mul(1000).map(EventTime)
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
