//! Clean batches that look like flights, without a producer.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, StringBuilder};
use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field};
use schemas::{Columns, Contract};

const DAY_MICROS: i64 = 86_400_000_000;
/// 2013-01-01T00:00:00Z.
const YEAR_START_MICROS: i64 = 15_706 * DAY_MICROS;

/// The contract of the flights, and its columns.
pub fn contract() -> (Contract, Columns) {
    let contract = Contract::parse(
        "contract.toml",
        include_str!("../../../schemas/fixtures/contract.toml"),
    )
    .expect("the fixture is a good contract");
    let columns = Columns::of(&contract);
    (contract, columns)
}

/// Returns a batch of the rows with these source offsets, `per_day` of which happen on one day.
pub fn batch(columns: &Columns, offsets: &[i64], per_day: i64) -> RecordBatch {
    let arrays = columns
        .schema()
        .fields()
        .iter()
        .map(|field| column(field, offsets, per_day))
        .collect();
    RecordBatch::try_new(columns.schema().clone(), arrays)
        .expect("the arrays are made by the schema")
}

fn column(field: &Field, offsets: &[i64], per_day: i64) -> ArrayRef {
    let name = field.name().as_str();
    let time = |offset: &i64| YEAR_START_MICROS + offset * (DAY_MICROS / per_day) + 1;
    let few = |offset: &i64| hash(*offset, name) % 16;
    match field.data_type() {
        DataType::Int64 if name == "_source_offset" => Arc::new(Int64Array::from(offsets.to_vec())),
        DataType::Int64 => Arc::new(Int64Array::from_iter_values(
            offsets.iter().map(|o| (hash(*o, name) % 4000) as i64),
        )),
        DataType::Timestamp(_, zone) => {
            let times = TimestampMicrosecondArray::from_iter_values(offsets.iter().map(time));
            Arc::new(times.with_timezone_opt(zone.clone()))
        }
        DataType::Float64 => {
            // Weather is that of an hour at one of three airports.
            let weather =
                |o: &i64| (hash(*o * 24 / per_day * 3 + *o % 3, name) % 900) as f64 / 10.0;
            Arc::new(Float64Array::from_iter_values(offsets.iter().map(weather)))
        }
        DataType::Boolean => Arc::new(BooleanArray::from_iter(
            offsets.iter().map(|o| Some(few(o) < 8)),
        )),
        DataType::Binary => {
            let length = if name.ends_with("_token") { 16 } else { 62 };
            let mut cells = BinaryBuilder::new();
            for offset in offsets {
                let seed = if length == 16 { offset % 4043 } else { *offset };
                let bytes: Vec<u8> = (0..length)
                    .map(|at| hash(seed * 64 + at, name) as u8)
                    .collect();
                cells.append_value(bytes);
            }
            Arc::new(cells.finish())
        }
        _ if name == "id" => Arc::new(StringArray::from_iter_values(
            offsets
                .iter()
                .map(|o| format!("2013-{o:010}-UA-{}", hash(*o, name) % 4000)),
        )),
        _ if name == "_trace_parent" => {
            let mut traces = StringBuilder::new();
            offsets.iter().for_each(|_| traces.append_null());
            Arc::new(traces.finish())
        }
        _ => Arc::new(StringArray::from_iter_values(
            offsets.iter().map(|o| format!("V{}", few(o))),
        )),
    }
}

fn hash(seed: i64, name: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ seed as u64;
    for byte in name.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^= hash >> 29;
    hash = hash.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash ^ (hash >> 32)
}
