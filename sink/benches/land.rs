//! What landing costs in CPU time of the process, system calls included: one busy day, and a year at once (365
//! files in one commit).

#[path = "../tests/flights/mod.rs"]
mod flights;

use std::hint::black_box;
use std::time::Duration;

use arrow_array::RecordBatch;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use schemas::clean::{CleanDecoder, CleanEncoder};
use schemas::{Columns, Offset, Partition, TopicId};
use sink::encode::{Encoder, Piece};
use sink::roll::Cause;
use sink::{Covers, Lander, Limits, Signals, Source, lake};

const ROWS: i64 = 336_000;
const BATCH_ROWS: i64 = 1000;
const SOURCE: Source = Source {
    topic_id: TopicId([7; 16]),
    partition: Partition(0),
};

fn payloads(columns: &Columns, per_day: i64) -> Vec<Vec<u8>> {
    let mut encoder = CleanEncoder::default();
    let batch = |first: i64| {
        let offsets: Vec<i64> = (first..first + BATCH_ROWS).collect();
        let mut payload = Vec::new();
        encoder
            .encode(&flights::batch(columns, &offsets, per_day), &mut payload)
            .expect("a plain batch");
        payload
    };
    (0..ROWS).step_by(BATCH_ROWS as usize).map(batch).collect()
}

fn encoding(c: &mut Criterion<CpuTime>) {
    let (_, columns) = flights::contract();
    let mut encoder = Encoder::new(&columns);
    let mut group = c.benchmark_group("encode");
    for rows in [900, 100_000] {
        let offsets: Vec<i64> = (0..rows).collect();
        let batches = offsets
            .chunks(BATCH_ROWS as usize)
            .map(|offsets| flights::batch(&columns, offsets, rows));
        let pieces: Vec<Piece> = batches
            .map(|rows| Piece {
                source: SOURCE,
                rows,
            })
            .collect();
        encoder.choose(&pieces[0]).expect("a good sample");
        group.throughput(Throughput::Elements(rows as u64));
        group.sample_size(20);
        group.bench_function(format!("one file of {rows} rows"), |b| {
            b.iter_batched(
                || pieces.clone(),
                |pieces| black_box(encoder.encode(pieces).expect("it encodes").bytes.len()),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

fn landing(c: &mut Criterion<CpuTime>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let (_, columns) = flights::contract();
    let decoder = CleanDecoder::new(columns.schema().clone());
    let mut group = c.benchmark_group("land");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.sample_size(10);
    group.measurement_time(Duration::from_secs(8));
    for (name, per_day) in [("a year of 365 days", ROWS / 365), ("one day", ROWS)] {
        let payloads = payloads(&columns, per_day);
        group.bench_function(format!("336,000 rows of {name}"), |b| {
            b.iter_batched(
                || tempfile::tempdir().expect("a temporary folder"),
                |folder| {
                    let rows = payloads
                        .iter()
                        .map(|payload| (payload.len(), decoder.decode(payload).expect("ours")));
                    runtime.block_on(land(folder.path().to_str().expect("text"), &columns, rows));
                    folder
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

async fn land(
    folder: &str,
    columns: &Columns,
    batches: impl Iterator<Item = (usize, RecordBatch)>,
) {
    let limits = Limits {
        file_bytes_max: 128 << 20,
        record_age_max: Duration::from_secs(3600),
        buffer_bytes_max: 64_000_000,
    };
    let signals = Signals::new(&telemetry::Instruments::nowhere());
    let log = lake::open(folder, "flights").expect("a folder");
    let mut lander = Lander::open(log, "flights", columns, limits, signals)
        .await
        .expect("a new table");
    lander.own(SOURCE).await.expect("a new table");
    let now = std::time::Instant::now();
    for (at, (bytes, rows)) in batches.enumerate() {
        let first = at as i64 * BATCH_ROWS;
        let covers = Covers {
            first: Offset(first),
            last: Offset(first + BATCH_ROWS - 1),
        };
        lander.take(SOURCE, covers, rows, bytes).expect("in order");
        lander.land_if_due(now).await.expect("room on the disk");
    }
    lander.land(Cause::Drain).await.expect("room on the disk");
}

/// Measures CPU time of all threads of the process, so that other work on the machine matters less.
struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: the call writes to `time`, which lives until it returns.
        unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }

    fn end(&self, start: Duration) -> Duration {
        self.start() - start
    }

    fn add(&self, one: &Duration, two: &Duration) -> Duration {
        *one + *two
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

fn config() -> Criterion<CpuTime> {
    Criterion::default().with_measurement(CpuTime)
}

criterion_group! { name = benches; config = config(); targets = encoding, landing }
criterion_main!(benches);
