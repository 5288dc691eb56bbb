//! The inner step of `scorer`: a clean batch to the JSON of its scores, reasons included.

use std::hint::black_box;
use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, Float64Builder, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::DataType;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use learn::model::ServedModel;
use schemas::{Columns, Contract, Partition, TopicId};
use scorer::score::Scorer;

const EVENTS: usize = 1024;

/// Makes a column whose values differ from row to row.
fn column(kind: &DataType, name: &str) -> ArrayRef {
    let rows = 0..EVENTS as i64;
    match kind {
        DataType::Int64 => Arc::new(rows.collect::<arrow_array::Int64Array>()),
        DataType::Float64 => {
            let mut builder = Float64Builder::new();
            rows.for_each(|row| builder.append_value((row % 97) as f64));
            Arc::new(builder.finish())
        }
        DataType::Timestamp(..) => {
            let mut builder = TimestampMicrosecondBuilder::new().with_timezone("+00:00");
            rows.for_each(|row| builder.append_value(1_357_035_300_000_000 + row * 60_000_000));
            Arc::new(builder.finish())
        }
        DataType::Binary => {
            let mut builder = BinaryBuilder::new();
            rows.for_each(|row| builder.append_value((row as u128 % 300).to_be_bytes()));
            Arc::new(builder.finish())
        }
        _ => {
            let mut builder = StringBuilder::new();
            rows.for_each(|row| builder.append_value(format!("{name}{}", row % 90)));
            Arc::new(builder.finish())
        }
    }
}

fn bench(criterion: &mut Criterion) {
    let contract = include_str!("../../compose/streams/flights/stream.toml");
    let contract =
        Contract::parse("stream.toml", contract).expect("the contract of the repository is good");
    let columns = Columns::of(&contract);
    let schema = columns.schema().clone();
    let arrays = schema
        .fields()
        .iter()
        .map(|field| column(field.data_type(), field.name()))
        .collect();
    let batch = RecordBatch::try_new(schema, arrays).expect("columns of one length");
    let mut scorer = Scorer::new(&contract).expect("features of open fields");
    let model = ServedModel::new(&contract, scorer.layout());
    let mut group = criterion.benchmark_group("scorer");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("columns to JSON scores", |bencher| {
        let mut json = String::new();
        bencher.iter(|| {
            let scored = scorer
                .score(&batch, &model, TopicId([1; 16]), Partition(0))
                .expect("a batch of the contract");
            for row in 0..scored.len() {
                json.clear();
                scored.write(row, &mut json);
                black_box(&json);
            }
        });
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
