//! Test-then-train over any Parquet file with a contract, with labels at once or when they became known.
//!
//! `cargo run --release -p learn --example streams -- CONTRACT.toml FILE.parquet [--late] [--json]` prints one line: how good
//! predictions were that were made when the event happened, and how many examples a CPU second learns. Rows are in
//! the order of the file; columns have the names of the contract's fields and label.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, BinaryArray, Int64Array, RecordBatch, new_null_array};
use arrow_cast::cast;
use arrow_schema::{DataType, TimeUnit};
use learn::features::{FeatureSpace, Rows};
use learn::learners::{Label, Learner, Params};
use learn::metrics::Quality;
use linfa::ParamGuard;
use linfa::traits::FitWith;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use schemas::{ColumnRole, Columns, Contract};
use xxhash_rust::xxh3::xxh3_128;

type Error = Box<dyn std::error::Error>;

/// An event's times and label, in the order of the file.
struct Outcome {
    time: i64,
    known: i64,
    value: f64,
}

/// How good the predictions were.
struct Score {
    quality: Quality,
    squares: f64,
    absolutes: f64,
    count: f64,
}

fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (contract, file) = match args.as_slice() {
        [contract, file, ..] => (Contract::read(Path::new(contract))?, file),
        _ => return Err("name a contract and a Parquet file".into()),
    };
    let late = args.iter().any(|arg| arg == "--late");
    let mut space = FeatureSpace::new(&contract)?;
    let (rows, outcomes) = read(Path::new(file), &contract, &mut space)?;
    let params = Params::of(&contract.learner).check()?;
    let learner = Learner::new(params, rows.layout());
    let mut score = Score {
        quality: Quality::new(0.5),
        squares: 0.0,
        absolutes: 0.0,
        count: 0.0,
    };
    let start = Instant::now();
    let learner = if late {
        at_arrival(learner, &rows, &outcomes, &mut score)?
    } else {
        at_once(&params, learner, &rows, &outcomes, &mut score)?
    };
    let speed = score.count / start.elapsed().as_secs_f64();
    let name = Path::new(file).file_stem().unwrap_or_default().display();
    let json = args.iter().any(|arg| arg == "--json");
    let figures = score.figures(params.predicts_numbers())?;
    let (bytes, fill) = (learner.bytes(), learner.fill());
    let count = score.count;
    if json {
        println!("{{\"examples\":{count},{figures},\"model_bytes\":{bytes}}}");
    } else {
        println!(
            "{name}: {figures}, {speed:.0} a second, {bytes} bytes, unseen {:.4}, collisions {:.4}",
            fill.unseen_rate, fill.collision_rate
        );
    }
    Ok(())
}

impl Score {
    fn figures(&self, numbers: bool) -> Result<String, Error> {
        if numbers {
            let (rmse, mae) = (self.squares / self.count, self.absolutes / self.count);
            return Ok(format!("\"rmse\":{:.5},\"mae\":{mae:.5}", rmse.sqrt()));
        }
        let summary = self.quality.summary().ok_or("no event has a label")?;
        let auc = summary.auc.map_or(0.5, |auc| auc.area);
        Ok(format!(
            "\"log_loss\":{:.5},\"auc\":{auc:.5}",
            summary.log_loss
        ))
    }

    fn observe(&mut self, predicted: f64, value: f64) {
        self.quality.observe(predicted, value == 1.0, 0.5);
        self.squares += (predicted - value) * (predicted - value);
        self.absolutes += (predicted - value).abs();
        self.count += 1.0;
    }
}

/// Learns each label right after its event, in micro-batches.
fn at_once(
    params: &learn::learners::CheckedParams,
    learner: Learner,
    rows: &Rows,
    outcomes: &[Option<Outcome>],
    score: &mut Score,
) -> Result<Learner, Error> {
    let labelled: Vec<usize> = (0..rows.len())
        .filter(|at| outcomes[*at].is_some())
        .collect();
    let mut learner = Some(learner);
    for part in labelled.chunks(256) {
        let mut batch = Rows::with_capacity(rows.layout(), part.len());
        part.iter().for_each(|at| batch.push(rows.row(*at)));
        let values = part.iter().filter_map(|at| outcomes[*at].as_ref());
        let labels: Vec<Label> = values.map(|outcome| Label::new(outcome.value)).collect();
        let dataset = linfa::DatasetBase::new(batch, labels);
        let learned = params.fit_with(learner.take(), &dataset)?;
        for (predicted, label) in learned.tested().iter().zip(&dataset.targets) {
            score.observe(*predicted, label.value);
        }
        learner = Some(learned);
    }
    learner.ok_or("the learner comes back from every fit".into())
}

/// Learns each label when it became known.
fn at_arrival(
    mut learner: Learner,
    rows: &Rows,
    outcomes: &[Option<Outcome>],
    score: &mut Score,
) -> Result<Learner, Error> {
    let known = |at: &usize| {
        outcomes[*at]
            .as_ref()
            .map_or(i64::MAX, |outcome| outcome.known)
    };
    let mut order: Vec<usize> = (0..rows.len())
        .filter(|at| outcomes[*at].is_some())
        .collect();
    order.sort_by_key(known);
    let mut due = order.iter().peekable();
    let mut foreseen = vec![None; rows.len()];
    let mut events = outcomes.iter().enumerate().peekable();
    while let Some((at, outcome)) = events.next() {
        let Some(outcome) = outcome else { continue };
        let row = rows.row(at);
        while let Some(at) = due.next_if(|at| known(at) <= outcome.time) {
            let next = due.peek().filter(|at| known(at) <= outcome.time);
            learner.expect(next.map_or(row, |at| rows.row(**at)));
            let value = outcomes[*at].as_ref().map_or(0.0, |outcome| outcome.value);
            let label = Label {
                foreseen: foreseen[*at],
                ..Label::new(value)
            };
            learner.learn(rows.row(*at), label)?;
        }
        if let Some((after, Some(next))) = events.peek() {
            let due = due.peek().filter(|at| known(at) <= next.time);
            learner.expect(rows.row(due.map_or(*after, |at| **at)));
        }
        foreseen[at] = learner.foresee(row);
        score.observe(learner.predict_foreseen(row, foreseen[at]), outcome.value);
    }
    Ok(learner)
}

/// Reads a file as clean batches and encodes them.
fn read(
    path: &Path,
    contract: &Contract,
    space: &mut FeatureSpace,
) -> Result<(Rows, Vec<Option<Outcome>>), Error> {
    let label = contract.label.as_ref().ok_or("the contract has no label")?;
    let time = &contract.fields[contract.event.time].name;
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?
        .with_batch_size(1024)
        .build()?;
    let mut rows = Rows::new(space.layout());
    let mut outcomes = Vec::new();
    for raw in reader {
        let raw = raw?;
        space.encode(&clean(contract, &raw)?, &mut rows)?;
        let times = micros(&raw, time)?;
        let known = micros(&raw, &label.time).unwrap_or_else(|_| times.clone());
        let values = cast(column(&raw, &label.name)?, &DataType::Float64)?;
        let values = values.as_primitive::<Float64Type>();
        let (times, known) = (
            times.as_primitive::<TimestampMicrosecondType>(),
            known.as_primitive::<TimestampMicrosecondType>(),
        );
        outcomes.extend((0..raw.num_rows()).map(|at| {
            values.is_valid(at).then(|| Outcome {
                time: times.value(at),
                known: known.value(at),
                value: values.value(at),
            })
        }));
    }
    Ok((rows, outcomes))
}

fn column<'a>(raw: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, Error> {
    raw.column_by_name(name)
        .ok_or_else(|| format!("the file has no column `{name}`").into())
}

fn micros(raw: &RecordBatch, name: &str) -> Result<ArrayRef, Error> {
    let kind = DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()));
    Ok(cast(column(raw, name)?, &kind)?)
}

/// Gives raw rows the columns of a clean batch; a plain hash stands in for the keyed token.
fn clean(contract: &Contract, raw: &RecordBatch) -> Result<RecordBatch, Error> {
    let columns = Columns::of(contract);
    let schema = columns.schema();
    let mut arrays: Vec<ArrayRef> = schema
        .fields()
        .iter()
        .map(|field| new_null_array(field.data_type(), raw.num_rows()))
        .collect();
    let time = micros(raw, &contract.fields[contract.event.time].name)?;
    arrays[Columns::SOURCE_OFFSET] =
        Arc::new(Int64Array::from_iter_values(0..raw.num_rows() as i64));
    arrays[Columns::EVENT_TIME] = time.clone();
    arrays[Columns::INGEST_TIME] = time;
    for made in columns.fields() {
        let values = column(raw, &contract.fields[made.field].name)?;
        match made.role {
            ColumnRole::Open => arrays[made.at] = cast(values, schema.field(made.at).data_type())?,
            ColumnRole::Sealed => {}
            ColumnRole::Token => {
                let texts = cast(values, &DataType::Utf8)?;
                let texts = texts.as_string::<i32>().iter();
                let token = |text: &str| xxh3_128(text.as_bytes()).to_be_bytes();
                arrays[made.at] =
                    Arc::new(BinaryArray::from_iter(texts.map(|text| text.map(token))));
            }
        }
    }
    Ok(RecordBatch::try_new(schema.clone(), arrays)?)
}
