//! What `sink` tells operators: one method for each thing that happens.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram};
use telemetry::{Instruments, names};
use tracing::{info, warn};

use crate::keeper::Compacted;
use crate::lander::{Landed, Source};
use crate::roll::Cause;

/// The instruments of the sink.
pub struct Signals {
    rows: Counter<u64>,
    files: Counter<u64>,
    bytes: Counter<u64>,
    commits: Counter<u64>,
    commit: Histogram<f64>,
    dropped: Counter<u64>,
    buffered: Gauge<f64>,
    small: Gauge<f64>,
    compacted: Counter<u64>,
    vacuumed: Counter<u64>,
}

/// Seconds; a commit to a folder takes some milliseconds, one to a cloud store some tenths.
const COMMIT_SECONDS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

impl Signals {
    /// Makes the instruments.
    pub fn new(instruments: &Instruments) -> Signals {
        Signals {
            rows: instruments.counter(names::SINK_ROWS),
            files: instruments.counter(names::SINK_FILES),
            bytes: instruments.counter(names::SINK_BYTES),
            commits: instruments.counter(names::SINK_COMMITS),
            commit: instruments.histogram(names::SINK_COMMIT, &COMMIT_SECONDS),
            dropped: instruments.counter(names::SINK_DROPPED),
            buffered: instruments.gauge(names::SINK_BUFFERED),
            small: instruments.gauge(names::SINK_SMALL),
            compacted: instruments.counter(names::SINK_COMPACTED),
            vacuumed: instruments.counter(names::SINK_VACUUMED),
        }
    }

    /// Rows and offsets landed.
    pub fn landed(&self, landed: &Landed, cause: Cause, took: Duration) {
        info!(
            version = landed.version,
            cause = cause.name(),
            rows = landed.rows,
            files = landed.files,
            bytes = landed.bytes,
            took_ms = took.as_millis() as u64,
            "landed"
        );
        self.rows.add(landed.rows as u64, &[]);
        self.files.add(landed.files as u64, &[]);
        self.bytes.add(landed.bytes as u64, &[]);
        self.commits.add(1, &[KeyValue::new("cause", cause.name())]);
        self.commit.record(took.as_secs_f64(), &[]);
    }

    /// Rows came that the lake has already.
    pub fn dropped(&self, rows: usize) {
        if 0 < rows {
            self.dropped.add(rows as u64, &[]);
        }
    }

    /// So many bytes of rows wait for a commit.
    pub fn buffered(&self, bytes: u64) {
        self.buffered.record(bytes as f64, &[]);
    }

    /// A partition was taken on, which had landed up to here.
    pub fn owned(&self, source: Source, landed: Option<schemas::Offset>) {
        info!(%source, landed = landed.map(|offset| offset.0), "reads a partition");
    }

    /// The log's checkpoint could not be written; the next one may be.
    pub fn no_checkpoint(&self, error: &(dyn std::error::Error + 'static)) {
        warn!(
            error,
            "could not write a checkpoint of the table's log; readers go on without"
        );
    }

    /// So many files of the table are small.
    pub fn small(&self, files: usize) {
        self.small.record(files as f64, &[]);
    }

    /// Small files of a day became one.
    pub fn compacted(&self, compacted: &Compacted, took: Duration) {
        info!(
            version = compacted.version,
            day = compacted.day,
            rows = compacted.rows,
            files = compacted.files,
            bytes = compacted.bytes,
            bytes_before = compacted.bytes_before,
            took_ms = took.as_millis() as u64,
            "put small files together"
        );
        self.compacted.add(compacted.files as u64, &[]);
    }

    /// Somebody else changed files of a day while they were put together: they are looked at again later.
    pub fn outrun(&self, day: &str) {
        info!(
            day,
            "somebody else has changed the files of a day meanwhile"
        );
    }

    /// Files that belonged to no version any more are deleted.
    pub fn vacuumed(&self, files: usize) {
        if 0 < files {
            info!(files, "deleted expired files");
            self.vacuumed.add(files as u64, &[]);
        }
    }

    /// The lake could not be kept; the table is as it was, and the next round tries again.
    pub fn not_kept(&self, error: &(dyn std::error::Error + 'static)) {
        warn!(error, "could not keep the lake; small files stay for now");
    }
}
