//! One partition's log: segments in a folder, one after the other.
//!
//! In flow batches as producers sent them, out flow their offsets, and ranges of files for consumers. The log owns
//! every rule about order: offsets without gaps, sequence numbers of producers, where one segment ends. It knows no
//! network and no waiting. Whatever has been written is in the hands of the operating system before it is
//! acknowledged, so it survives the end of this process, `kill -9` too; it is synced to the disk when a segment is
//! finished and when the broker stops, so a power failure may take the last seconds.
//!
//! Finished segments are dropped by `retention` and thinned out by `compaction`; the log holds what follows from
//! it: where it begins, and how far there may be gaps.

pub mod batch;
pub mod codec;
mod compaction;
mod index;
#[cfg(test)]
mod keep_tests;
mod producers;
pub mod records;
mod retention;
mod segment;
#[cfg(test)]
mod tests;
mod upkeep;

pub use upkeep::{Compaction, Upkeep};

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kafka_protocol::ResponseError;
use tracing::{error, warn};

use batch::{BatchHeader, LEADER_EPOCH};
use compaction::Cleaned;
use producers::{Producers, Verdict};
use segment::{Place, Segment};

/// No segment spans more offsets than an index entry can say.
const SEGMENT_OFFSETS_MAX: i64 = i32::MAX as i64;

/// Why a log could not be opened or closed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file system refused.
    #[error("could not use the log in `{folder}`")]
    Io {
        /// The partition's folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A segment before the last one is damaged, so records are missing in the middle.
    #[error("the segment at offset {base} in `{folder}` is damaged after offset {sound_to}")]
    Damaged {
        /// The partition's folder.
        folder: PathBuf,
        /// The first offset of the segment.
        base: i64,
        /// The first offset that cannot be read.
        sound_to: i64,
    },
}

/// Where an acknowledged batch lies.
#[derive(Debug)]
pub struct Appended {
    /// The offset of its first record.
    pub base_offset: i64,
    /// Where the log begins.
    pub start_offset: i64,
    /// The time it was appended, if the topic stamps it.
    pub append_time: Option<i64>,
    /// A finished segment that wants a sync, away from the hot path.
    pub finished: Option<Arc<File>>,
}

/// A range of a file that holds whole batches.
#[derive(Debug, Clone)]
pub struct Slice {
    /// The file; deleting the topic does not take it away from a reader.
    pub file: Arc<File>,
    /// Where the first batch begins.
    pub position: u64,
    /// How long the range is.
    pub bytes: u64,
}

/// What a look-up by time found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The record's offset.
    pub offset: i64,
    /// The record's time.
    pub timestamp: i64,
}

/// The log of one partition.
#[derive(Debug)]
pub struct Log {
    folder: PathBuf,
    upkeep: Upkeep,
    /// No record before this offset can be read, even if it is there.
    start: i64,
    cleaned: Cleaned,
    finished: Vec<Segment>,
    growing: Segment,
    /// When housekeeping first saw something in the growing segment.
    growing_since_ms: Option<i64>,
    producers: Producers,
    broken: bool,
}

impl Log {
    /// Opens the log in `folder`, or begins one, and cuts a torn tail off.
    ///
    /// # Errors
    /// If the folder cannot be used, or records are missing in the middle.
    pub fn open(folder: &Path, upkeep: Upkeep) -> Result<Self, LogError> {
        let io = |source| LogError::Io {
            folder: folder.to_owned(),
            source,
        };
        compaction::recover(folder).map_err(io)?;
        let cleaned = Cleaned::load(folder).map_err(io)?;
        let start = retention::stored_start(folder).map_err(io)?;
        let mut bases = segment_bases(folder).map_err(io)?;
        let Some(last) = bases.pop() else {
            let growing = Segment::create(folder, 0).map_err(io)?;
            return Ok(Self::new(
                folder,
                upkeep,
                (start, cleaned),
                Vec::new(),
                growing,
                Producers::default(),
            ));
        };
        let mut finished = Vec::with_capacity(bases.len());
        let mut producers = Producers::default();
        for (n, &base) in bases.iter().enumerate() {
            let next = bases.get(n + 1).copied().unwrap_or(last);
            let gaps_to = cleaned.gaps_to;
            finished.push(open_finished(folder, base..next, gaps_to, &mut producers)?);
        }
        if let Some(segment) = finished.last() {
            producers = segment.stored_producers().unwrap_or(producers);
        }
        let (growing, torn) =
            Segment::open_growing(folder, last, cleaned.gaps_to, &mut producers).map_err(io)?;
        if 0 < torn {
            let next = growing.extent().next;
            warn!(folder = %folder.display(), torn, next, "cut a torn tail off the log");
        }
        Ok(Self::new(
            folder,
            upkeep,
            (start, cleaned),
            finished,
            growing,
            producers,
        ))
    }

    fn new(
        folder: &Path,
        upkeep: Upkeep,
        (start, cleaned): (i64, Cleaned),
        finished: Vec<Segment>,
        growing: Segment,
        producers: Producers,
    ) -> Self {
        let first = finished.first().unwrap_or(&growing).extent().base;
        Self {
            folder: folder.to_owned(),
            upkeep,
            // After a power failure less may be there than was deleted.
            start: start.max(first).min(growing.extent().next),
            cleaned,
            finished,
            growing,
            growing_since_ms: None,
            producers,
            broken: false,
        }
    }

    /// Changes what housekeeping goes by.
    pub fn keep_by(&mut self, upkeep: Upkeep) {
        self.upkeep = upkeep;
    }

    /// Returns the first offset that can be read.
    pub fn start_offset(&self) -> i64 {
        self.start
    }

    /// Returns the offset that the next record gets.
    pub fn end_offset(&self) -> i64 {
        self.growing.extent().next
    }

    /// Appends a batch that [`batch::check`] has passed.
    ///
    /// A batch that is here already is not written again; its first place is returned.
    ///
    /// # Errors
    /// The Kafka error that the producer gets; nothing has been appended then.
    pub fn append(
        &mut self,
        header: &BatchHeader,
        records: &[u8],
        append_time: Option<i64>,
    ) -> Result<Appended, ResponseError> {
        if self.broken {
            return Err(ResponseError::KafkaStorageError);
        }
        match self.producers.judge(header) {
            Verdict::Append => {}
            Verdict::Repeat { base_offset } => {
                return Ok(Appended {
                    base_offset,
                    start_offset: self.start,
                    append_time: None,
                    finished: None,
                });
            }
            Verdict::Refuse(error) => return Err(error),
        }
        let base_offset = self.end_offset();
        let last = base_offset.checked_add(i64::from(header.last_offset_delta) + 1);
        let last = last.ok_or(ResponseError::InvalidRecord)?;
        let finished = self.roll_if_full(header.bytes, last)?;
        let stamped = batch::stamp(records, base_offset, append_time);
        if let Err((cause, restored)) = self.growing.append(&stamped, records) {
            error!(folder = %self.folder.display(), %cause, restored, "could not append to the log");
            self.broken = !restored;
            return Err(ResponseError::KafkaStorageError);
        }
        self.producers.record(&BatchHeader {
            base_offset,
            ..*header
        });
        Ok(Appended {
            base_offset,
            start_offset: self.start,
            append_time,
            finished,
        })
    }

    fn roll_if_full(&mut self, bytes: u64, last: i64) -> Result<Option<Arc<File>>, ResponseError> {
        let extent = *self.growing.extent();
        let fits = extent.bytes + bytes <= self.upkeep.segment_bytes
            && last - extent.base <= SEGMENT_OFFSETS_MAX;
        if fits || extent.bytes == 0 {
            return Ok(None);
        }
        self.roll().map(Some).map_err(|cause| {
            error!(folder = %self.folder.display(), %cause, "could not begin a new segment");
            ResponseError::KafkaStorageError
        })
    }

    fn roll(&mut self) -> io::Result<Arc<File>> {
        let file = self.growing.file()?;
        let next = Segment::create(&self.folder, self.end_offset())?;
        if let Err(cause) = self.growing.finish(&self.producers) {
            // The empty successor must not be taken for the end of the log after a restart.
            std::fs::remove_file(self.folder.join(format!("{:020}.log", self.end_offset())))?;
            return Err(cause);
        }
        self.finished
            .push(std::mem::replace(&mut self.growing, next));
        self.growing_since_ms = None;
        Ok(file)
    }

    /// Returns whole batches from the one that holds `offset` on: as many as fit into `bytes_max`, at least the first
    /// unless it is larger than `bytes_hard_max`. `None` means that there is nothing (more) to read.
    ///
    /// # Errors
    /// The Kafka error that the consumer gets.
    pub fn read(
        &self,
        offset: i64,
        bytes_max: u64,
        bytes_hard_max: u64,
    ) -> Result<Option<Slice>, ResponseError> {
        if offset < self.start_offset() || self.end_offset() < offset {
            return Err(ResponseError::OffsetOutOfRange);
        }
        if offset == self.end_offset() {
            return Ok(None);
        }
        self.slice(offset, bytes_max, bytes_hard_max)
            .map_err(|cause| self.unreadable(&cause))
    }

    fn slice(&self, offset: i64, bytes_max: u64, bytes_hard_max: u64) -> io::Result<Option<Slice>> {
        let passed = |segment: &Segment| segment.extent().next <= offset;
        let after = self.finished.partition_point(passed);
        // Compaction may have left nothing after the offset in its own segment.
        let mut located = None;
        for segment in self.finished[after..].iter().chain([&self.growing]) {
            let file = segment.file()?;
            if let Some(first) = segment.locate(&file, offset)? {
                located = Some((segment, file, first));
                break;
            }
        }
        let missing = || io::Error::new(io::ErrorKind::InvalidData, "an offset is missing");
        let (segment, file, first) = located.ok_or_else(missing)?;
        if bytes_hard_max < first.header.bytes {
            return Ok(None);
        }
        let end = segment.cut(&file, first.position, bytes_max.min(bytes_hard_max))?;
        let bytes = end.saturating_sub(first.position).max(first.header.bytes);
        Ok(Some(Slice {
            file,
            position: first.position,
            bytes,
        }))
    }

    fn unreadable(&self, cause: &io::Error) -> ResponseError {
        error!(folder = %self.folder.display(), %cause, "could not read the log");
        ResponseError::KafkaStorageError
    }

    /// Returns the first record at or after `timestamp`.
    ///
    /// # Errors
    /// The Kafka error that the client gets.
    pub fn first_since(&self, timestamp: i64) -> Result<Option<Moment>, ResponseError> {
        let start = self.start;
        let newer = |segment: &&Segment| {
            timestamp <= segment.extent().newest && start < segment.extent().next
        };
        let Some(segment) = self.finished.iter().chain([&self.growing]).find(newer) else {
            return Ok(None);
        };
        let find = || -> io::Result<Option<Moment>> {
            let file = segment.file()?;
            let place = segment.first_since(&file, timestamp, start)?;
            let wanted = |found: &Moment| start <= found.offset && timestamp <= found.timestamp;
            place
                .map(|place| moment_in(segment, &file, &place, wanted))
                .transpose()
        };
        find().map_err(|cause| self.unreadable(&cause))
    }

    /// Returns the newest record.
    ///
    /// # Errors
    /// The Kafka error that the client gets.
    pub fn newest(&self) -> Result<Option<Moment>, ResponseError> {
        let segments = self
            .finished
            .iter()
            .chain([&self.growing])
            .filter(|segment| 0 < segment.extent().bytes);
        // Of equals, `max_by_key` takes the last and Kafka the first.
        let Some(segment) = segments.rev().max_by_key(|segment| segment.extent().newest) else {
            return Ok(None);
        };
        let find = || -> io::Result<Option<Moment>> {
            let file = segment.file()?;
            let place = segment.locate(&file, segment.extent().newest_at)?;
            let newest = segment.extent().newest;
            place
                .map(|place| moment_in(segment, &file, &place, |found| newest <= found.timestamp))
                .transpose()
        };
        find().map_err(|cause| self.unreadable(&cause))
    }

    /// Returns where records of `epoch` end: one broker leads for ever, so at the end of the log, and later epochs are none.
    pub fn end_of_epoch(&self, epoch: i32) -> Option<(i32, i64)> {
        (LEADER_EPOCH == epoch).then(|| (LEADER_EPOCH, self.end_offset()))
    }

    /// Ends the log where it is: nothing is written to its folder any more.
    pub fn abandon(&mut self) {
        self.broken = true;
    }

    /// Syncs everything to the disk and notes down that the log ends soundly.
    ///
    /// # Errors
    /// If the file system refuses; nothing is lost, but the next start checks the last segment.
    pub fn close(&mut self) -> Result<(), LogError> {
        let mut sync = || -> io::Result<()> {
            if let Some(file) = self.growing.finish(&self.producers)? {
                file.sync_data()?;
            }
            File::open(&self.folder)?.sync_all()
        };
        self.broken = true;
        sync().map_err(|source| LogError::Io {
            folder: self.folder.clone(),
            source,
        })
    }
}

/// Opens a segment that has a successor at the end of its range, checking and indexing it anew if its index is gone.
fn open_finished(
    folder: &Path,
    std::ops::Range {
        start: base,
        end: next,
    }: std::ops::Range<i64>,
    gaps_to: i64,
    producers: &mut Producers,
) -> Result<Segment, LogError> {
    let io = |source| LogError::Io {
        folder: folder.to_owned(),
        source,
    };
    let damaged = |sound_to| LogError::Damaged {
        folder: folder.to_owned(),
        base,
        sound_to,
    };
    // Segments in which compaction left nothing are gone.
    let reaches = |end: i64| end == next || end < next && next <= gaps_to;
    if let Some(segment) = Segment::open_finished(folder, base) {
        let end = segment.extent().next;
        return if reaches(end) {
            Ok(segment)
        } else {
            Err(damaged(end))
        };
    }
    let (mut segment, torn) =
        Segment::open_growing(folder, base, gaps_to, producers).map_err(io)?;
    let end = segment.extent().next;
    if 0 < torn || !reaches(end) {
        return Err(damaged(end));
    }
    segment.reach(next);
    segment.finish(producers).map_err(io)?;
    Ok(segment)
}

/// Finds the record of a batch that fulfils `wanted`; some record of the batch should.
fn moment_in(
    segment: &Segment,
    file: &File,
    place: &Place,
    wanted: impl Fn(&Moment) -> bool,
) -> io::Result<Moment> {
    let header = place.header;
    let first = Moment {
        offset: header.base_offset,
        timestamp: match header.is_stamped() {
            true => header.max_timestamp,
            false => header.base_timestamp,
        },
    };
    if header.is_whole() && wanted(&first) {
        return Ok(first);
    }
    let raw = segment.read(file, place)?;
    let plain = records::plain(&header, &raw);
    let found = plain
        .as_ref()
        .and_then(|plain| records::parse(&header, plain));
    let mut moments = found.iter().flatten().map(|record| Moment {
        offset: record.offset,
        timestamp: match header.is_stamped() {
            true => header.max_timestamp,
            false => record.timestamp,
        },
    });
    Ok(moments.find(wanted).unwrap_or(Moment {
        timestamp: header.max_timestamp,
        ..first
    }))
}

fn segment_bases(folder: &Path) -> io::Result<Vec<i64>> {
    let mut bases = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let stem = name.to_str().and_then(|name| name.strip_suffix(".log"));
        bases.extend(stem.and_then(|stem| stem.parse::<i64>().ok()));
    }
    bases.sort_unstable();
    Ok(bases)
}
