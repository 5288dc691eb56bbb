//! Retention: a log begins later, and the segments before that go, oldest first.
//!
//! Where a log begins is where its first segment does, unless the file `start` says later: records were deleted up to
//! an offset within a segment then.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use tracing::{error, info};

use super::{Log, Segment};
use crate::clock::millis;
use crate::folder;

/// Stands for the end of the log.
const END: i64 = -1;

/// Reads where a log begins at the earliest.
pub fn stored_start(partition: &Path) -> io::Result<i64> {
    match std::fs::read_to_string(partition.join("start")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        text => text?.trim().parse().map_err(io::Error::other),
    }
}

impl Log {
    /// Has the log begin at `offset`, which survives a restart; returns where it begins, which may be later.
    ///
    /// # Errors
    /// The Kafka error that the client gets; nothing has been deleted then.
    pub fn delete_before(&mut self, offset: i64) -> Result<i64, ResponseError> {
        if self.broken {
            return Err(ResponseError::KafkaStorageError);
        }
        let offset = if offset == END {
            self.end_offset()
        } else {
            offset
        };
        if offset < 0 || self.end_offset() < offset {
            return Err(ResponseError::OffsetOutOfRange);
        }
        if offset <= self.start_offset() {
            return Ok(self.start_offset());
        }
        let stored =
            folder::replace_file(&self.folder.join("start"), offset.to_string().as_bytes());
        let deleted = stored.and_then(|()| {
            self.start = offset;
            self.drop_while(|segment| segment.extent().next <= offset)
        });
        deleted.map_err(|cause| {
            error!(folder = %self.folder.display(), %cause, "could not delete records");
            ResponseError::KafkaStorageError
        })?;
        Ok(self.start_offset())
    }

    /// Finishes the growing segment if it is due, and deletes what is too old or too much.
    ///
    /// Returns the files of finished segments that want a sync.
    ///
    /// # Errors
    /// If the file system refuses; what is left is as sound as before.
    pub fn expire(&mut self, now_ms: i64) -> io::Result<Option<Arc<File>>> {
        if self.broken {
            return Ok(None);
        }
        let finished = match self.is_due(now_ms) {
            true => Some(self.roll()?),
            false => None,
        };
        if let Some(age_max) = self.upkeep.retention_ms {
            let oldest = now_ms.saturating_sub(age_max);
            self.drop_while(|segment| newest(segment) < oldest)?;
        }
        if let Some(bytes_max) = self.upkeep.retention_bytes {
            let segments = self.finished.iter().chain([&self.growing]);
            let bytes: u64 = segments.map(|segment| segment.extent().bytes).sum();
            let mut excess = bytes.saturating_sub(bytes_max);
            self.drop_while(|segment| {
                let fits = segment.extent().bytes <= excess;
                excess = excess.saturating_sub(segment.extent().bytes);
                fits
            })?;
        }
        Ok(finished)
    }

    /// Says whether the growing segment should end: all of it is too old, or it has been growing for too long.
    fn is_due(&mut self, now_ms: i64) -> bool {
        if self.growing.extent().bytes == 0 {
            self.growing_since_ms = None;
            return false;
        }
        let since = *self.growing_since_ms.get_or_insert(now_ms);
        let lag_max = self
            .upkeep
            .compaction
            .as_ref()
            .map(|compaction| compaction.lag_max_ms);
        let age_max = self.upkeep.segment_ms.min(lag_max.unwrap_or(i64::MAX));
        let expired = |age_max: i64| newest(&self.growing) < now_ms.saturating_sub(age_max);
        age_max <= now_ms.saturating_sub(since) || self.upkeep.retention_ms.is_some_and(expired)
    }

    /// Deletes the leading finished segments that `goes` is true of.
    fn drop_while(&mut self, mut goes: impl FnMut(&Segment) -> bool) -> io::Result<()> {
        let mut dropped = 0;
        let mut result = Ok(());
        for segment in &self.finished {
            if !goes(segment) {
                break;
            }
            result = segment.remove();
            if result.is_err() {
                break;
            }
            dropped += 1;
        }
        if 0 < dropped {
            self.finished.drain(..dropped);
            let first = self.finished.first().unwrap_or(&self.growing);
            self.start = self.start.max(first.extent().base);
            let start = self.start;
            info!(folder = %self.folder.display(), dropped, start, "deleted old segments");
        }
        result
    }
}

/// Returns the time of the newest record, or of the last write if no record has one.
fn newest(segment: &Segment) -> i64 {
    match segment.extent().newest {
        -1 => segment.modified().map_or(i64::MAX, millis),
        newest => newest,
    }
}
