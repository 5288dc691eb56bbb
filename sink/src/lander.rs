//! The core of the sink: clean batches go in, and land in the lake together with the offsets that they cover.
//!
//! ```text
//! take: drop what has landed ─► split by day ─► rows of each open day (≤ 64 MB over all days)
//! land: one Parquet file for each open day ─► one commit: files + covered offsets
//! ```
//!
//! It never lands a row without the offsets that the batches up to it cover, nor offsets without their rows. A
//! crash between files and commit leaves files that no version of the table knows; their names are random, so
//! nothing ever meets them again, and Delta's `VACUUM` takes them away.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::{Instant, SystemTime};

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use deltalake_core::kernel::Add;
use deltalake_core::logstore::{LogStoreRef, ObjectStoreRef};
use futures::TryStreamExt;
use futures::stream::FuturesOrdered;
use object_store::PutPayload;
use schemas::{Columns, EventTime, Offset, Partition, TopicId, system};
use serde_json::json;
use uuid::Uuid;

use crate::day::{self, Day};
use crate::encode::{Encoder, File, Piece};
use crate::error::SinkError;
use crate::patient;
use crate::roll::{Cause, Limits, OpenFiles, Roll, roll};
use crate::signals::Signals;
use crate::table::Table;

/// Files that are being stored at once: a disk syncs several in little more than the time of one.
const PUTS_MAX: usize = 8;

/// A partition of a raw topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source {
    /// Id of the raw topic.
    pub topic_id: TopicId,
    /// The partition.
    pub partition: Partition,
}

impl Source {
    /// Returns the id under which the table keeps how far this partition has landed.
    pub fn application(&self) -> String {
        format!("thalweg-sink/{self}")
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic_id, self.partition)
    }
}

/// The raw offsets that a batch covers, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Covers {
    /// The first.
    pub first: Offset,
    /// The last.
    pub last: Offset,
}

/// What one commit brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Landed {
    /// The table's version.
    pub version: u64,
    /// Rows.
    pub rows: usize,
    /// Files.
    pub files: usize,
    /// Bytes of the files.
    pub bytes: usize,
}

/// Lands clean batches of one stream.
pub struct Lander {
    table: Table,
    encoder: Encoder,
    limits: Limits,
    signals: Signals,
    open: Open,
    /// How far each partition of this process has come, in memory.
    taken: HashMap<Source, Option<Offset>>,
}

/// Rows that wait for a commit.
#[derive(Default)]
struct Open {
    days: BTreeMap<Day, OpenDay>,
    bytes: u64,
    /// How far the commit will say that partitions have landed.
    covered: HashMap<Source, Offset>,
    first_record_at: Option<Instant>,
}

#[derive(Default)]
struct OpenDay {
    pieces: Vec<Piece>,
    bytes: u64,
}

impl Lander {
    /// Opens the table of a stream, which it makes if it is missing.
    ///
    /// # Errors
    /// As [`Table::open`].
    pub async fn open(
        log: LogStoreRef,
        stream: &str,
        columns: &Columns,
        limits: Limits,
        signals: Signals,
    ) -> Result<Lander, SinkError> {
        let encoder = Encoder::new(columns);
        let table = Table::open(log, stream, encoder.schema()).await?;
        Ok(Lander {
            table,
            encoder,
            limits,
            signals,
            open: Open::default(),
            taken: HashMap::new(),
        })
    }

    /// Takes on a source partition and returns how far it has landed; returns at once if it has it already.
    ///
    /// # Errors
    /// As [`Table::own`].
    pub async fn own(&mut self, source: Source) -> Result<Option<Offset>, SinkError> {
        if let Some(taken) = self.taken.get(&source) {
            return Ok(*taken);
        }
        let landed = self.table.own(&[source]).await?.pop().flatten();
        self.signals.owned(source, landed);
        self.taken.insert(source, landed);
        Ok(landed)
    }

    /// Gives up the source partitions with this number; what of them waits for a commit is dropped, so land first.
    pub fn disown(&mut self, partition: Partition) {
        self.table.disown(|source| source.partition == partition);
        self.taken.retain(|source, _| source.partition != partition);
        if self
            .open
            .covered
            .keys()
            .any(|source| source.partition == partition)
        {
            // Rows of the others come again from where the table says.
            self.open = Open::default();
            self.taken.clear();
            self.table.disown(|_| true);
        }
    }

    /// Takes a clean batch of an own partition; `bytes` is what its rows take in memory.
    ///
    /// # Errors
    /// [`SinkError::Gap`] if offsets are missing before it, [`SinkError::Rows`] if it has rows that it does not cover.
    pub fn take(
        &mut self,
        source: Source,
        covers: Covers,
        rows: RecordBatch,
        bytes: usize,
    ) -> Result<(), SinkError> {
        let taken = self.taken.get(&source).copied().flatten();
        if let Some(taken) = taken.filter(|taken| taken.next() < covers.first) {
            let (from, to) = (taken.next(), Offset(covers.first.0 - 1));
            return Err(SinkError::Gap {
                source_partition: source,
                from,
                to,
            });
        }
        let new = new_rows(&rows, covers, taken).ok_or(SinkError::Rows {
            source_partition: source,
        })?;
        self.signals.dropped(rows.num_rows() - new.num_rows());
        if taken.is_some_and(|taken| covers.last <= taken) {
            return Ok(());
        }
        self.open.add(source, new, bytes as u64)?;
        self.open.covered.insert(source, covers.last);
        self.taken.insert(source, Some(covers.last));
        self.signals.buffered(self.open.bytes);
        Ok(())
    }

    /// Returns whether nothing waits for a commit.
    pub fn is_empty(&self) -> bool {
        self.open.covered.is_empty()
    }

    /// Lands what is open if it must land now.
    ///
    /// # Errors
    /// As [`Lander::land`].
    pub async fn land_if_due(&mut self, now: Instant) -> Result<Option<Landed>, SinkError> {
        if self.is_empty() {
            return Ok(None);
        }
        let first_record_at = *self.open.first_record_at.get_or_insert(now);
        let largest_day_bytes = self
            .open
            .days
            .values()
            .map(|day| day.bytes)
            .max()
            .unwrap_or_default();
        let open = OpenFiles {
            bytes: self.open.bytes,
            largest_day_bytes,
            first_record_at,
        };
        match roll(&open, now, &self.limits) {
            Roll::Keep => Ok(None),
            Roll::Close(cause) => self.land(cause).await,
        }
    }

    /// Lands all that is open, in one commit; `None` if nothing is.
    ///
    /// # Errors
    /// [`SinkError`] if files or commit fail: nothing has landed then, and what was open is to be read again.
    pub async fn land(&mut self, cause: Cause) -> Result<Option<Landed>, SinkError> {
        if self.is_empty() {
            return Ok(None);
        }
        let began = Instant::now();
        let open = std::mem::take(&mut self.open);
        let largest = open.days.values().max_by_key(|day| day.bytes);
        let sample =
            largest.and_then(|day| day.pieces.iter().max_by_key(|piece| piece.rows.num_rows()));
        if let Some(sample) = sample {
            self.encoder.choose(sample)?;
        }
        let (mut rows, mut bytes, mut files) = (0, 0, Vec::with_capacity(open.days.len()));
        let (lake, mut stored) = (self.table.store(), FuturesOrdered::new());
        for (day, open) in open.days {
            let file = self.encoder.encode(open.pieces)?;
            rows += file.rows;
            bytes += file.bytes.len();
            if stored.len() == PUTS_MAX {
                files.extend(stored.try_next().await?);
            }
            let (lake, day) = (&lake, day.to_string());
            stored.push_back(async move { store(lake, &day, file, now_millis()).await });
        }
        while let Some(file) = stored.try_next().await? {
            files.push(file);
        }
        let mut covered: Vec<(Source, Offset)> = open.covered.into_iter().collect();
        covered.sort_unstable();
        let count = files.len();
        let version = self.table.commit(files, &covered).await?;
        let landed = Landed {
            version,
            rows,
            files: count,
            bytes,
        };
        self.signals.landed(&landed, cause, began.elapsed());
        self.signals.buffered(0);
        if let Err(error) = self.table.checkpoint_if_due().await {
            self.signals.no_checkpoint(&error);
        }
        Ok(Some(landed))
    }
}

/// Stores a file of a day, whose newest rows landed at `modified`, in milliseconds since 1970; returns the action
/// that adds it to the table.
pub(crate) async fn store(
    store: &ObjectStoreRef,
    day: &str,
    file: File,
    modified: i64,
) -> Result<Add, SinkError> {
    let name = format!("{}={day}/{}.zstd.parquet", day::COLUMN, Uuid::new_v4());
    let stats = stats(&file);
    let size = file.bytes.len() as i64;
    let stored = patient::put(store, &name, PutPayload::from(file.bytes)).await;
    stored.map_err(|source| SinkError::Store {
        file: name.clone(),
        source,
    })?;
    Ok(Add {
        path: name,
        partition_values: HashMap::from([(day::COLUMN.to_owned(), Some(day.to_owned()))]),
        size,
        modification_time: modified,
        data_change: true,
        stats: Some(stats),
        tags: None,
        deletion_vector: None,
        base_row_id: None,
        default_row_commit_version: None,
        clustering_provider: None,
    })
}

/// Returns the time, in milliseconds since 1970.
pub(crate) fn now_millis() -> i64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since_1970.unwrap_or_default().as_millis() as i64
}

impl Open {
    fn add(&mut self, source: Source, rows: RecordBatch, bytes: u64) -> Result<(), SinkError> {
        let all = rows.num_rows() as u64;
        if all == 0 {
            return Ok(());
        }
        let times = rows.column_by_name(system::EVENT_TIME);
        let times = times
            .and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>())
            .cloned();
        let times = times.ok_or(SinkError::Rows {
            source_partition: source,
        })?;
        for (day, rows) in day::split(rows, &times)? {
            let open = self.days.entry(day).or_default();
            open.bytes += bytes * rows.num_rows() as u64 / all;
            open.pieces.push(Piece { source, rows });
        }
        self.bytes += bytes;
        Ok(())
    }
}

/// Returns the rows that were not taken yet; `None` if offsets do not rise or are not covered.
fn new_rows(rows: &RecordBatch, covers: Covers, taken: Option<Offset>) -> Option<RecordBatch> {
    let offsets = rows
        .column_by_name(system::SOURCE_OFFSET)?
        .as_primitive_opt::<Int64Type>()?
        .values();
    let rise = offsets.windows(2).all(|pair| pair[0] < pair[1]);
    let first = offsets.first().is_none_or(|first| covers.first.0 <= *first);
    let last = offsets.last().is_none_or(|last| *last <= covers.last.0);
    if !(rise && first && last) {
        return None;
    }
    let from = taken.map_or(0, |taken| {
        offsets.partition_point(|offset| *offset <= taken.0)
    });
    Some(rows.slice(from, rows.num_rows() - from))
}

/// Returns what Delta keeps of a file, so that readers can skip it; times in milliseconds, rounded outwards.
fn stats(file: &File) -> String {
    let time = |millis: i64| {
        let mut text = String::new();
        schemas::write_rfc3339(EventTime(millis.saturating_mul(1000)), &mut text);
        text
    };
    let (first, last) = file.event_time;
    json!({
        "numRecords": file.rows,
        "minValues": {
            system::SOURCE_OFFSET: file.source_offset.0,
            system::EVENT_TIME: time(first.div_euclid(1000)),
        },
        "maxValues": {
            system::SOURCE_OFFSET: file.source_offset.1,
            system::EVENT_TIME: time(last.div_euclid(1000).saturating_add(i64::from(last.rem_euclid(1000) != 0))),
        },
        "nullCount": { system::SOURCE_OFFSET: 0, system::EVENT_TIME: 0 },
    })
    .to_string()
}
