//! Test-then-train over the flights, with labels at once and when they really came.
//!
//! `cargo run --release -p learn --example flights [CONTRACT.toml]...` prints one line for each contract
//! (the committed one if none is named) and way of labelling: log loss and AUC of the predictions made at
//! departure, log loss of those made just before learning, and what a row costs.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
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

/// Labels of a micro-batch, as a trainer would take them.
const BATCH: usize = 256;

/// One flight's times and outcome, in the order of departure.
struct Outcome {
    departure: i64,
    arrival: i64,
    late: bool,
}

fn main() -> Result<(), Error> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../compose/streams/flights");
    let mut contracts: Vec<PathBuf> = std::env::args().skip(1).map(PathBuf::from).collect();
    if contracts.is_empty() {
        contracts.push(folder.join("stream.toml"));
    }
    println!(
        "contract | labels | served loss | AUC | base loss | tested loss | encode ns | learn ns"
    );
    for path in contracts {
        let contract = Contract::read(&path)?;
        let mut space = FeatureSpace::new(&contract)?;
        let (rows, outcomes, encoding) =
            read(&folder.join("flights.parquet"), &contract, &mut space)?;
        for at_arrival in [false, true] {
            let run = run(&contract, &rows, &outcomes, at_arrival)?;
            let served = run.served.summary().ok_or("no flight has a label")?;
            let tested = run.tested.summary().ok_or("no flight has a label")?;
            println!(
                "{} | {} | {:.4} | {:.4} ± {:.4} | {:.4} | {:.4} | {:.0} | {:.0}",
                path.file_stem().unwrap_or_default().display(),
                if at_arrival { "at arrival" } else { "at once" },
                served.log_loss,
                served.auc.map_or(0.5, |auc| auc.area),
                served.auc.map_or(0.5, |auc| auc.error_max),
                served.base_log_loss,
                tested.log_loss,
                encoding.as_nanos() as f64 / rows.len() as f64,
                run.learning.as_nanos() as f64 / served.labels as f64,
            );
        }
    }
    Ok(())
}

/// What one pass showed.
struct Run {
    served: Quality,
    tested: Quality,
    learning: Duration,
}

fn run(
    contract: &Contract,
    rows: &Rows,
    outcomes: &[Option<Outcome>],
    at_arrival: bool,
) -> Result<Run, Error> {
    let params = Params::of(&contract.learner).check()?;
    let mut learner = Some(Learner::new(params, rows.layout()));
    let mut order: Vec<(i64, usize)> = outcomes
        .iter()
        .enumerate()
        .filter_map(|(at, outcome)| outcome.as_ref().map(|outcome| (outcome.arrival, at)))
        .collect();
    order.sort_unstable();
    let (mut served, mut tested) = (Quality::new(0.5), Quality::new(0.5));
    let (mut learning, mut next) = (Duration::ZERO, 0);
    let mut learn = |learner: Learner, due: &[(i64, usize)]| -> Result<Learner, Error> {
        let mut batch = Rows::with_capacity(rows.layout(), due.len());
        due.iter().for_each(|(_, at)| batch.push(rows.row(*at)));
        let late = |at: &usize| outcomes[*at].as_ref().is_some_and(|outcome| outcome.late);
        let labels: Vec<Label> = due
            .iter()
            .map(|(_, at)| Label::yes_or_no(late(at)))
            .collect();
        let dataset = linfa::DatasetBase::new(batch, labels);
        let start = Instant::now();
        let learner = params.fit_with(Some(learner), &dataset)?;
        learning += start.elapsed();
        for (probability, label) in learner.tested().iter().zip(&dataset.targets) {
            tested.observe(*probability, label.value == 1.0, 0.5);
        }
        Ok(learner)
    };
    let mut yes = [0.5, 1.0];
    for (at, outcome) in outcomes.iter().enumerate() {
        let Some(outcome) = outcome else { continue };
        let mut model = learner
            .take()
            .ok_or("the learner comes back from every fit")?;
        if at_arrival {
            let due = order[next..].partition_point(|(arrival, _)| *arrival <= outcome.departure);
            for batch in order[next..next + due].chunks(BATCH) {
                model = learn(model, batch)?;
            }
            next += due;
        }
        served.observe(
            model.predict_row(rows.row(at)),
            outcome.late,
            yes[0] / yes[1],
        );
        yes = [yes[0] + f64::from(u8::from(outcome.late)), yes[1] + 1.0];
        if !at_arrival {
            model = learn(model, &[(0, at)])?;
        }
        learner = Some(model);
    }
    Ok(Run {
        served,
        tested,
        learning,
    })
}

/// Reads the flights as clean batches and encodes them; returns also the time that encoding took.
fn read(
    path: &Path,
    contract: &Contract,
    space: &mut FeatureSpace,
) -> Result<(Rows, Vec<Option<Outcome>>, Duration), Error> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?
        .with_batch_size(1024)
        .build()?;
    let mut rows = Rows::new(space.layout());
    let (mut outcomes, mut encoding) = (Vec::new(), Duration::ZERO);
    for raw in reader {
        let raw = raw?;
        let clean = clean(contract, &raw)?;
        let start = Instant::now();
        space.encode(&clean, &mut rows)?;
        encoding += start.elapsed();
        let departures = micros(&raw, "scheduled_departure")?;
        let arrivals = micros(&raw, "arrival")?;
        let late = column(&raw, "late")?.as_boolean().clone();
        let (departures, arrivals) = (
            departures.as_primitive::<TimestampMicrosecondType>(),
            arrivals.as_primitive::<TimestampMicrosecondType>(),
        );
        outcomes.extend((0..raw.num_rows()).map(|at| {
            arrivals.is_valid(at).then(|| Outcome {
                departure: departures.value(at),
                arrival: arrivals.value(at),
                late: late.value(at),
            })
        }));
    }
    Ok((rows, outcomes, encoding))
}

fn column<'a>(raw: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, Error> {
    raw.column_by_name(name)
        .ok_or_else(|| format!("the file has no column `{name}`").into())
}

fn micros(raw: &RecordBatch, name: &str) -> Result<ArrayRef, Error> {
    let kind = DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()));
    Ok(cast(column(raw, name)?, &kind)?)
}

/// Gives raw flights the columns of a clean batch; a plain hash stands in for the keyed token.
fn clean(contract: &Contract, raw: &RecordBatch) -> Result<RecordBatch, Error> {
    let columns = Columns::of(contract);
    let schema = columns.schema();
    let mut arrays: Vec<ArrayRef> = schema
        .fields()
        .iter()
        .map(|field| new_null_array(field.data_type(), raw.num_rows()))
        .collect();
    arrays[Columns::SOURCE_OFFSET] =
        Arc::new(Int64Array::from_iter_values(0..raw.num_rows() as i64));
    arrays[Columns::EVENT_TIME] = micros(raw, "scheduled_departure")?;
    arrays[Columns::INGEST_TIME] = micros(raw, "scheduled_departure")?;
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
