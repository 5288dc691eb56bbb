//! Texts from outside: raw events and labels, scores, times.
//!
//! The reader of events says what `serde_json` says, but for what is nested too deep for it, and finds the same
//! values. Whatever the text of a score, it reads back.

use std::sync::LazyLock;

use schemas::contract::{Contract, Label};
use schemas::json::{RawValue, read};
use schemas::label::LabelEvent;
use schemas::score::{ModelReference, Score, ScoreRow, ScoreWriter};
use schemas::{
    Digest, EventTime, ModelVersion, Offset, Partition, TopicId, parse_rfc3339, write_rfc3339,
};
use serde_json::{Map, Value};

static LABEL: LazyLock<Label> = LazyLock::new(|| {
    let text = include_str!("../../schemas/fixtures/contract.toml");
    let contract = Contract::parse("contract.toml", text).expect("the fixture is a contract");
    contract.label.expect("the fixture has a label")
});

/// Reads a text in every way.
pub fn run(data: &[u8]) {
    event(data);
    let _ = LabelEvent::parse(&LABEL, data);
    let _ = serde_json::from_slice::<Score>(data);
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    score(text);
    if let Some(time) = parse_rfc3339(text) {
        let mut written = String::new();
        write_rfc3339(time, &mut written);
        // A zone may move a time out of the years that have four digits.
        let again = parse_rfc3339(&written);
        assert!(
            again == Some(time) || written.len() != 20 + fraction(time),
            "{written}"
        );
    }
}

/// How many bytes a time's fraction takes.
fn fraction(time: EventTime) -> usize {
    match (time.0.rem_euclid(1_000_000), time.0.rem_euclid(1_000)) {
        (0, _) => 0,
        (_, 0) => 4,
        _ => 7,
    }
}

fn event(data: &[u8]) {
    let mut values = [const { RawValue::Absent }; 3];
    let found = read(&["id", "late", "time"], data, &mut values);
    let Ok(object) = serde_json::from_slice::<Map<String, Value>>(data) else {
        assert!(found.is_err(), "read what is no object");
        return;
    };
    if found.is_err() {
        assert!(
            64 < object.values().map(depth).max().unwrap_or(0),
            "refused an object"
        );
        return;
    }
    for (name, value) in ["id", "late", "time"].iter().zip(&values) {
        let expected = object.get(*name).unwrap_or(&Value::Null);
        assert!(same(value, expected), "{value:?} {expected:?}");
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(items) => 1 + items.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn same(found: &RawValue<'_>, expected: &Value) -> bool {
    match (found, expected) {
        (RawValue::Absent, Value::Null) => true,
        (RawValue::Bool(found), Value::Bool(expected)) => found == expected,
        (RawValue::Text(found), Value::String(expected)) => found == expected,
        (RawValue::Int(found), Value::Number(expected)) => Some(*found) == expected.as_i64(),
        // serde_json's last bit may be wrong.
        (RawValue::Float(found), Value::Number(expected)) => expected
            .as_f64()
            .is_some_and(|expected| (found - expected).abs() <= 1e-15 * expected.abs()),
        (RawValue::Other, Value::Array(_) | Value::Object(_)) => true,
        _ => false,
    }
}

fn score(text: &str) {
    let model = ModelReference {
        version: ModelVersion(1),
        digest: Digest([2; 32]),
    };
    let writer = ScoreWriter::new(model, Digest([3; 32]), 0.5, TopicId([4; 16]), Partition(0));
    let row = ScoreRow {
        id: text,
        score: 0.25,
        class: Some(text),
        event_time: EventTime(text.len() as i64),
        source_offset: Offset(7),
        reasons: &[([text, text], 0.5)],
    };
    let mut written = String::new();
    writer.write(&row, &mut written);
    let score: Score = serde_json::from_str(&written).expect("a score reads back");
    assert_eq!(
        (score.id.as_str(), score.class.as_deref()),
        (text, Some(text))
    );
}
