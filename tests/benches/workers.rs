//! Events per CPU second of each worker's own process, broker and producer apart.
//!
//! The year of flights is produced onto an embedded broker first. Then each worker runs alone, from its start until
//! it has done everything; its CPU time is what the system counted. Ratios are to the figures of the nearest
//! peers on the same work, as [`Worker`] says. `-- --years 30` makes it a backlog of ten million events: the year again
//! and again, each time of other events. `-- --crowd 10` makes it a busier year: ten flights for each, at the same
//! time. A worker that needs more memory than is promised fails the run.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMillisecondType;
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tests::{flights, thalweg};

/// A worker, and what it is held against.
struct Worker {
    name: &'static str,
    /// Metric that counts what it did.
    counter: &'static str,
    /// The nearest peer and its events per CPU second, measured with JSON flights on a quiet machine of this kind:
    /// Kafka Streams 4.3 checking and sealing one field, kafka-delta-ingest 0.4 landing JSON.
    peer: Option<(&'static str, f64)>,
}

const WORKERS: [Worker; 4] = [
    Worker {
        name: "ingest",
        counter: "thalweg_ingest_raw_total",
        peer: Some(("Kafka Streams", 58_000.0)),
    },
    Worker {
        name: "sink",
        counter: "thalweg_sink_rows_total",
        peer: Some(("kafka-delta-ingest", 16_400.0)),
    },
    Worker {
        name: "trainer",
        counter: "thalweg_model_labels",
        peer: None,
    },
    Worker {
        name: "scorer",
        counter: "thalweg_scorer_scores_total",
        peer: None,
    },
];

/// How long one worker may take for a year.
const DEADLINE: Duration = Duration::from_secs(120);

/// Memory that a worker may need at its peak, however much waits for it.
const PEAK_MIB_MAX: f64 = 300.0;

/// Flights that come after each other before those of the crowd that are like them.
const CROWD_ROWS: usize = 128;

/// Events of a year, and those of them that get a label.
const YEAR: (f64, f64) = (336_776.0, 327_346.0);

/// A program that ends with its owner.
struct Running(Child);

impl Running {
    /// Tells it to stop, and waits until it has drained: what it has counted is then in Kafka too.
    fn stop(mut self) -> Result<()> {
        // SAFETY: sends a signal to a process that this bench started.
        let sent = unsafe { libc::kill(self.0.id() as i32, libc::SIGTERM) };
        ensure!(sent == 0, "it runs no more");
        let status = self.0.wait()?;
        ensure!(status.success(), "it ended with {status}");
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already cannot be killed, and need not be.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(arguments: &[&str], log: &Path) -> Result<Running> {
    let log = std::fs::File::create(log)?;
    let child = Command::new(thalweg()?)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()?;
    Ok(Running(child))
}

fn finish(arguments: &[&str]) -> Result<()> {
    let status = Command::new(thalweg()?)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    ensure!(status.success(), "{arguments:?} ended with {status}");
    Ok(())
}

fn metric(address: &str, name: &str) -> Result<f64> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address)?;
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n"
    )?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    let of_name = |line: &&str| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
    };
    let values = page
        .lines()
        .filter(of_name)
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    Ok(values.sum())
}

/// Looks until a counter stands still, so that what comes at the end (commits, checkpoints) is counted too.
fn settle(file: &Path, name: &str, least: f64, times: u32) -> Result<(f64, f64, f64)> {
    let deadline = Instant::now() + times * DEADLINE;
    loop {
        ensure!(Instant::now() < deadline, "{name} does not get to {least}");
        std::thread::sleep(Duration::from_millis(200));
        let Ok(address) = std::fs::read_to_string(file) else {
            continue;
        };
        let Ok(done) = metric(&address, name) else {
            continue;
        };
        if least <= done {
            let cpu = metric(&address, "process_cpu_time_seconds")?;
            return Ok((done, cpu, metric(&address, "process_memory_peak_bytes")?));
        }
    }
}

/// Returns how many times the year is asked for after this word; once if it is not there.
fn times(word: &str) -> Result<u32> {
    let mut arguments = std::env::args().skip_while(|argument| argument != word);
    match (arguments.next(), arguments.next()) {
        (None, _) => Ok(1),
        (_, times) => {
            let times = times.and_then(|times| times.parse().ok());
            times
                .filter(|times| (1..=80).contains(times))
                .with_context(|| format!("{word}: 1 to 80"))
        }
    }
}

/// Writes the flights so many times, each time with ids of their own: year after year, each later by whole weeks, or, a
/// few flights after the other, as a crowd.
fn repeated(years: u32, crowd: u32, folder: &Path) -> Result<PathBuf> {
    let year = flights().join("flights.parquet");
    if years * crowd == 1 {
        return Ok(year);
    }
    let path = folder.join("flights.parquet");
    let schema = ParquetRecordBatchReaderBuilder::try_new(File::open(&year)?)?;
    let mut writer = ArrowWriter::try_new(File::create(&path)?, schema.schema().clone(), None)?;
    for nth in 0..years {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&year)?)?;
        for batch in reader.with_batch_size(CROWD_ROWS).build()? {
            let batch = batch?;
            for one in 0..crowd {
                writer.write(&another(&batch, nth * crowd + one, nth)?)?;
            }
        }
    }
    writer.close()?;
    Ok(path)
}

/// Returns other flights at the same times, so many years later.
fn another(flights: &RecordBatch, nth: u32, years: u32) -> Result<RecordBatch> {
    let later = i64::from(years) * 52 * 7 * 86_400_000;
    let columns = flights.columns().iter().zip(flights.schema_ref().fields());
    let columns = columns.map(|(column, field)| -> ArrayRef {
        if field.name() == "id" {
            let ids = column.as_string::<i32>().iter().flatten();
            let ids = ids.map(|id| format!("{nth:02}-{id}"));
            return Arc::new(StringArray::from_iter_values(ids));
        }
        match column.as_primitive_opt::<TimestampMillisecondType>() {
            Some(times) => Arc::new(
                times
                    .unary::<_, TimestampMillisecondType>(|time| time + later)
                    .with_timezone("UTC"),
            ),
            None => column.clone(),
        }
    });
    let columns = columns.collect();
    Ok(RecordBatch::try_new(flights.schema(), columns)?)
}

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let contract = flights().join("stream.toml").display().to_string();
    let (years, crowd) = (times("--years")?, times("--crowd")?);
    let data = repeated(years, crowd, folder.path())?.display().to_string();
    let port = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port();
    let brokers = format!("127.0.0.1:{port}");
    let _broker = start(
        &["broker", "--listen", &brokers, "--folder", &path("broker")],
        &folder.path().join("broker.log"),
    )?;
    let deadline = Instant::now() + DEADLINE;
    while std::net::TcpStream::connect(&brokers).is_err() {
        ensure!(Instant::now() < deadline, "the broker does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    finish(&[
        "prepare",
        "--contract",
        &contract,
        "--brokers",
        &brokers,
        "--key-file",
        &path("kek.key"),
    ])?;
    finish(&[
        "produce",
        &data,
        "--contract",
        &contract,
        "--brokers",
        &brokers,
    ])?;
    println!(
        "{:<8} {:>9} {:>7} {:>16} {:>9}  against",
        "worker", "events", "CPU s", "events per CPU s", "peak MiB"
    );
    let times = years * crowd;
    let (mut events, labelled) = (YEAR.0 * f64::from(times), YEAR.1 * f64::from(times));
    for Worker {
        name: worker,
        counter,
        peer,
    } in WORKERS
    {
        let file = folder.path().join(worker);
        let http = file.display().to_string();
        let mut arguments = vec![
            worker,
            "--contract",
            &contract,
            "--brokers",
            &brokers,
            "--http-file",
            &http,
        ];
        let (keys, store, kek, lake, checkpoints) = (
            "--key-store",
            path("keys.redb"),
            path("kek.key"),
            path("lake"),
            path("checkpoints"),
        );
        match worker {
            "ingest" => arguments.extend(["--key-file", &kek, keys, &store]),
            "sink" => arguments.extend(["--lake", &lake]),
            _ => arguments.extend(["--checkpoints", &checkpoints]),
        }
        let running = start(&arguments, &folder.path().join(format!("{worker}.log")))?;
        let least = if worker == "trainer" {
            labelled
        } else {
            events
        };
        let (done, cpu, peak) = settle(&file, counter, least, times).with_context(|| {
            std::fs::read_to_string(folder.path().join(format!("{worker}.log"))).unwrap_or_default()
        })?;
        running.stop()?;
        let rate = done / cpu;
        let against = peer.map_or(String::new(), |(name, figure)| {
            format!("{:.1} x {name}", rate / figure)
        });
        println!(
            "{worker:<8} {done:>9.0} {cpu:>7.2} {rate:>16.0} {:>9.0}  {against}",
            peak / 1048576.0
        );
        let bounded = peak / 1048576.0 <= PEAK_MIB_MAX;
        ensure!(bounded, "{worker} needs more than {PEAK_MIB_MAX} MiB");
        if worker == "ingest" {
            events = done;
        }
    }
    Ok(())
}
