//! Rows of small batches, and the ids that must never change.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use schemas::Columns;

use super::*;

const CONTRACT: &str = r#"
version = 1
[stream]
name = "trips"
tenant = "t"
encoding = "json"
unknown_fields = "ignore"
[event]
id = "id"
time = "at"
subject = "rider"
duplicates_window = 1024
[[fields]]
id = 1
name = "id"
type = "string"
presence = "required"
bytes_max = 40
[[fields]]
id = 2
name = "at"
type = "timestamp"
presence = "required"
[[fields]]
id = 3
name = "rider"
type = "string"
bytes_max = 40
privacy = ["seal", "token"]
[[fields]]
id = 4
name = "city"
type = "string"
bytes_max = 40
[[fields]]
id = 5
name = "miles"
type = "float64"
[[fields]]
id = 6
name = "seats"
type = "int64"
[[fields]]
id = 7
name = "pooled"
type = "bool"
[[features]]
kind = "category"
of = "rider"
[[features]]
kind = "number"
of = "miles"
[[features]]
kind = "category"
of = "city"
[[features]]
kind = "category"
of = "seats"
[[features]]
kind = "category"
of = "pooled"
[[features]]
kind = "time"
of = "at"
parts = ["hour", "day"]
utc_offset = "-05:00"
[[features]]
kind = "bucket"
of = "miles"
width = 2.5
[[features]]
kind = "number"
of = "seats"
[[features]]
kind = "cross"
of = ["city", "at.hour"]
[[features]]
kind = "cross"
of = ["city", "pooled", "rider"]
[label]
name = "late"
type = "bool"
event = "id"
time = "known"
wait_max = "48h"
pending_max = 1024
[learner]
loss = "logistic"
update = "ftrl"
bits = 18
rate = 0.1
l1 = 0.0
l2 = 0.0
[decision]
threshold = 0.5
[lake]
partition = "day"
file_bytes_max = "128MiB"
record_age_max = "10s"
[monitors]
window = 1000
"#;

fn contract() -> Contract {
    Contract::parse("trips.toml", CONTRACT).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Two events: one with everything, one with as little as possible.
fn batch(contract: &Contract) -> RecordBatch {
    let schema = Columns::of(contract).schema().clone();
    let times =
        || TimestampMicrosecondArray::from(vec![1_357_011_000_000_000, 0]).with_timezone("+00:00");
    let column = |name: &str| -> ArrayRef {
        match name {
            "_source_offset" => Arc::new(Int64Array::from(vec![0, 1])),
            "_event_time" | "_ingest_time" | "at" => Arc::new(times()),
            "id" => Arc::new(StringArray::from(vec!["a", "b"])),
            "rider" => Arc::new(BinaryArray::from_opt_vec(vec![Some(b"sealed"), None])),
            "rider_token" => Arc::new(BinaryArray::from_opt_vec(vec![Some(&[7; 16]), None])),
            "city" => Arc::new(StringArray::from(vec![Some("Oslo"), None])),
            "miles" => Arc::new(Float64Array::from(vec![Some(7.5), None])),
            "seats" => Arc::new(Int64Array::from(vec![Some(4), None])),
            "pooled" => Arc::new(BooleanArray::from(vec![Some(true), None])),
            _ => Arc::new(StringArray::from(vec![None::<&str>, None])),
        }
    };
    let columns = schema
        .fields()
        .iter()
        .map(|field| column(field.name()))
        .collect();
    RecordBatch::try_new(schema, columns).unwrap()
}

fn encode(contract: &Contract) -> (FeatureSpace, Rows) {
    let mut space = FeatureSpace::new(contract).unwrap();
    let mut rows = Rows::new(space.layout());
    space.encode(&batch(contract), &mut rows).unwrap();
    (space, rows)
}

#[test]
fn a_batch_without_events_adds_no_rows() {
    let contract = contract();
    let (mut space, mut rows) = encode(&contract);
    space
        .encode(&batch(&contract).slice(0, 0), &mut rows)
        .unwrap();
    assert_eq!(rows.len(), 2);
}

#[test]
fn published_ids_never_change() {
    let (space, rows) = encode(&contract());
    let line = |(slot, name): (usize, &str)| {
        format!(
            "{name} {} {}\n",
            rows.row(0).ids[slot],
            rows.row(1).ids[slot]
        )
    };
    let text: String = space.names().enumerate().map(line).collect();
    assert_eq!(text, include_str!("../../fixtures/ids-1.txt"));
}

#[test]
fn numbers_come_first_and_stay_raw() {
    let (space, rows) = encode(&contract());
    assert_eq!(
        space.layout(),
        Layout {
            slots: 11,
            numbers: 2,
            crosses: 2,
        }
    );
    assert_eq!(
        space.names().take(3).collect::<Vec<_>>(),
        ["miles", "seats", "rider"]
    );
    assert_eq!(rows.row(0).numbers, [7.5, 4.0]);
    assert!(rows.row(1).numbers.iter().all(|number| number.is_nan()));
}

#[test]
fn missing_is_a_value_of_its_own() {
    let (space, rows) = encode(&contract());
    for slot in 0..space.layout().slots {
        let missing = rows.row(1).ids[slot] == space.missing_id(slot);
        let never = space.name(slot).starts_with("at.") || space.name(slot).contains('*');
        assert_eq!(missing, !never, "{}", space.name(slot));
        assert_ne!(rows.row(0).ids[slot], space.missing_id(slot));
    }
}

#[test]
fn a_row_does_not_depend_on_its_batch() {
    let contract = contract();
    let (mut space, rows) = encode(&contract);
    for at in 0..2 {
        let mut alone = Rows::new(space.layout());
        space
            .encode(&batch(&contract).slice(at, 1), &mut alone)
            .unwrap();
        assert_eq!(alone.row(0).ids, rows.row(at).ids);
    }
}

#[test]
fn what_is_not_finite_is_missing() {
    let contract = contract();
    let (mut space, _) = encode(&contract);
    let whole = batch(&contract);
    let at = whole.schema().index_of("miles").unwrap();
    let mut columns = whole.columns().to_vec();
    columns[at] = Arc::new(Float64Array::from(vec![f64::INFINITY, f64::NAN]));
    let mut rows = Rows::new(space.layout());
    space
        .encode(
            &RecordBatch::try_new(whole.schema(), columns).unwrap(),
            &mut rows,
        )
        .unwrap();
    assert!(
        rows.iter()
            .all(|row| row.numbers[0].is_nan() && row.ids[0] == space.missing_id(0))
    );
}

#[test]
fn a_batch_of_another_contract_is_refused_and_adds_nothing() {
    let contract = contract();
    let (mut space, mut rows) = encode(&contract);
    let foreign = batch(&contract).project(&[1, 0, 2]).unwrap();
    assert!(matches!(
        space.encode(&foreign, &mut rows),
        Err(FeatureError::Column { .. })
    ));
    assert_eq!(rows.len(), 2);
}

#[test]
fn only_what_can_drift_is_watched() {
    let (space, _) = encode(&contract());
    let watched = (0..space.layout().slots)
        .filter(|slot| space.watched(*slot))
        .map(|slot| space.name(slot));
    assert_eq!(
        watched.collect::<Vec<_>>(),
        [
            "miles",
            "seats",
            "rider",
            "city",
            "seats",
            "pooled",
            "at.hour",
            "miles.bucket"
        ]
    );
}

#[test]
fn a_bag_takes_slots_behind_all_others() {
    let words = "[[features]]\nkind = \"words\"\nof = \"city\"\nmost = 4\n[label]";
    let text = CONTRACT.replace("[label]", words);
    let bagged = Contract::parse("trips.toml", &text).unwrap_or_else(|errors| panic!("{errors}"));
    let (space, rows) = encode(&bagged);
    let expected = Layout {
        slots: 15,
        numbers: 2,
        crosses: 6,
    };
    assert_eq!(space.layout(), expected);
    assert!(space.names().skip(11).all(|name| name == "city"));
    let bag = &rows.row(0).ids[11..];
    assert!(bag[0] != ABSENT && bag[3] == ABSENT, "{bag:?}");
    let missing = &rows.row(1).ids[11..];
    assert_eq!(missing, [space.missing_id(11), ABSENT, ABSENT, ABSENT]);
    let (_, plain) = encode(&contract());
    assert_eq!(
        rows.row(0).ids[..11],
        *plain.row(0).ids,
        "other slots stay as they were"
    );
}
