//! The inner steps: make rows, learn, predict, explain, watch. `cargo bench -p learn`; times are per 1,000 rows.

use std::hint::black_box;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, new_null_array,
};
use arrow_schema::{DataType, SchemaRef};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use learn::drift::DriftMonitor;
use learn::features::{FeatureSpace, Layout, Row, Rows};
use learn::learners::{Label, Learner, Params};
use learn::metrics::{Metrics, MetricsConfig};
use learn::model::{Lineage, ServedModel};
use linfa::traits::{FitWith, PredictInplace};
use linfa::{DatasetBase, ParamGuard};
use schemas::contract::Update;
use schemas::model::Prequential;
use schemas::{Columns, Contract};
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128};

const ROWS: usize = 1000;

/// Rows learned before measuring, so that weights lie all over the table.
const BATCHES: usize = 400;

fn contract() -> Contract {
    let text = include_str!("../../../compose/streams/flights/stream.toml");
    Contract::parse("stream.toml", text).expect("the committed contract is valid")
}

/// Made-up events of the right types, of which categories are many.
fn batch(schema: &SchemaRef, seed: usize) -> RecordBatch {
    let draw = |at: usize, column: usize| {
        xxh3_64_with_seed(&(at + seed * ROWS).to_le_bytes(), column as u64)
    };
    let columns = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(column, field)| -> ArrayRef {
            let draws = (0..ROWS).map(|at| draw(at, column));
            match field.data_type() {
                DataType::Int64 => Arc::new(Int64Array::from_iter_values(
                    draws.map(|draw| (draw % 5000) as i64),
                )),
                DataType::Float64 => Arc::new(Float64Array::from_iter_values(
                    draws.map(|draw| (draw % 100) as f64),
                )),
                DataType::Utf8 => Arc::new(StringArray::from_iter_values(
                    draws.map(|draw| format!("{}", draw % 200)),
                )),
                DataType::Binary => {
                    let tokens =
                        draws.map(|draw| xxh3_128(&(draw % 4000).to_le_bytes()).to_le_bytes());
                    Arc::new(BinaryArray::from_iter_values(tokens))
                }
                DataType::Timestamp(..) => {
                    let times = (0..ROWS).map(|at| (at + seed * ROWS) as i64 * 60_000_000);
                    Arc::new(
                        TimestampMicrosecondArray::from_iter_values(times).with_timezone("+00:00"),
                    )
                }
                other => new_null_array(other, ROWS),
            }
        });
    RecordBatch::try_new(schema.clone(), columns.collect())
        .expect("the columns are those of the schema")
}

fn dataset(space: &mut FeatureSpace, batch: &RecordBatch) -> DatasetBase<Rows, Vec<Label>> {
    let mut rows = Rows::with_capacity(space.layout(), ROWS);
    space
        .encode(batch, &mut rows)
        .expect("the batch is one of the contract");
    DatasetBase::new(
        rows,
        (0..ROWS).map(|at| Label::yes_or_no(at % 4 == 0)).collect(),
    )
}

fn rows(criterion: &mut Criterion) {
    let contract = contract();
    let mut space = FeatureSpace::new(&contract).expect("a parsed contract has a feature space");
    let batch = batch(Columns::of(&contract).schema(), 0);
    let mut group = criterion.benchmark_group("rows");
    group.throughput(Throughput::Elements(ROWS as u64));
    let mut rows = Rows::with_capacity(space.layout(), ROWS);
    group.bench_function("encode", |bencher| {
        bencher.iter(|| {
            rows.clear();
            space.encode(black_box(&batch), &mut rows)
        });
    });
    let mut monitor = DriftMonitor::new(&space, 2000);
    let scores = vec![0.25; ROWS];
    (0..4).for_each(|_| monitor.observe(&rows, &scores));
    group.bench_function("watch", |bencher| {
        bencher.iter(|| monitor.observe(black_box(&rows), &scores))
    });
    group.finish();
}

fn learners(criterion: &mut Criterion) {
    for bits in [18, 22] {
        for (name, update) in [("adagrad", Update::Adagrad), ("ftrl", Update::Ftrl)] {
            let mut contract = contract();
            contract.learner.bits = bits;
            contract.learner.update = update;
            let mut space =
                FeatureSpace::new(&contract).expect("a parsed contract has a feature space");
            let schema = Columns::of(&contract).schema().clone();
            let sets: Vec<_> = (0..BATCHES)
                .map(|seed| dataset(&mut space, &batch(&schema, seed)))
                .collect();
            let params = Params::of(&contract.learner)
                .check()
                .expect("a contract's learner is possible");
            let mut learner = Some(Learner::new(params, space.layout()));
            let mut fit = |set: &DatasetBase<Rows, Vec<Label>>| {
                learner = Some(
                    params
                        .fit_with(learner.take(), set)
                        .expect("the rows are those of the learner"),
                );
            };
            sets.iter().for_each(&mut fit);
            let mut group = criterion.benchmark_group(format!("{name}/2^{bits}"));
            group.throughput(Throughput::Elements(ROWS as u64));
            let mut at = 0;
            let mut next = || {
                at = (at + 1) % BATCHES;
                &sets[at]
            };
            group.bench_function("learn", |bencher| bencher.iter(|| fit(next())));
            let mut learner = learner.expect("it came back from the last fit");
            let mut served = ServedModel::new(&contract, space.layout());
            let update =
                Lineage::root(&contract).advance(&mut learner, Vec::new(), Prequential::default());
            served.apply(&update).expect("the update is the first");
            let mut out = Vec::with_capacity(ROWS);
            group.bench_function("predict", |bencher| {
                bencher.iter(|| served.predict_inplace(&next().records, &mut out));
            });
            let mut scored = Vec::with_capacity(ROWS);
            group.bench_function("score", |bencher| {
                bencher.iter(|| served.score_all(&next().records, &mut scored));
            });
            group.finish();
        }
    }
}

/// How many values each of 17 hashed features has.
const VALUES: [u64; 17] = [
    3, 16, 105, 3844, 4043, 24, 7, 12, 365, 16, 16, 16, 16, 16, 16, 16, 16,
];

/// Learns 17 features that were hashed before, for every update.
fn hashed(criterion: &mut Criterion) {
    let layout = Layout {
        slots: VALUES.len(),
        numbers: 0,
        crosses: 0,
    };
    let id = |at: usize, slot: usize| {
        let draw = xxh3_64_with_seed(&at.to_le_bytes(), slot as u64) % VALUES[slot];
        xxh3_64_with_seed(&draw.to_le_bytes(), 1000 + slot as u64) as u32
    };
    let set = |seed: usize| {
        let mut rows = Rows::with_capacity(layout, ROWS);
        for at in seed * ROWS..(seed + 1) * ROWS {
            let ids: [u32; 17] = std::array::from_fn(|slot| id(at, slot) & ((1 << 18) - 1));
            rows.push(Row {
                ids: &ids,
                numbers: &[],
            });
        }
        let labels = (0..ROWS).map(|at| Label::yes_or_no(at % 4 == 0)).collect();
        DatasetBase::new(rows, labels)
    };
    let sets: Vec<_> = (0..BATCHES / 4).map(set).collect();
    let mut group = criterion.benchmark_group("hashed/17");
    group.throughput(Throughput::Elements(ROWS as u64));
    for (name, update) in [
        ("sgd", Update::Sgd),
        ("adagrad", Update::Adagrad),
        ("normalised", Update::Normalised),
        ("ftrl", Update::Ftrl),
        ("coin", Update::Coin),
        ("blend", Update::Blend),
    ] {
        let params = Params::new(update)
            .check()
            .expect("a rate of 0.1 is possible");
        let mut learner = Some(Learner::new(params, layout));
        let mut at = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                at = (at + 1) % sets.len();
                let fitted = params.fit_with(learner.take(), &sets[at]);
                learner = Some(fitted.expect("the rows are those of the learner"));
            });
        });
    }
    group.finish();
}

fn metrics(criterion: &mut Criterion) {
    let config = MetricsConfig {
        threshold: 0.5,
        recent_labels: 10_000,
        stretch_micros: 3_600_000_000,
        stretches_max: 48,
    };
    let mut group = criterion.benchmark_group("metrics");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("observe", |bencher| {
        let observe = |mut metrics: Metrics| {
            for at in 0..ROWS {
                metrics.observe(at as f64 / ROWS as f64, at % 3 == 0, at as i64 * 1_000_000);
            }
            metrics
        };
        bencher.iter_batched(|| Metrics::new(config), observe, BatchSize::LargeInput);
    });
    group.finish();
}

criterion_group!(inner, hashed, rows, learners, metrics);
criterion_main!(inner);
