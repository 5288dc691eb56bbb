//! The sparse index of one segment, by offset, position and time.
//!
//! In flow the headers of batches as they are appended, out flow places to begin a scan. The index of the segment that
//! is written lives in memory; when the segment is finished, it goes to a file beside it together with the segment's
//! extent and the state of the producers at its end, and is then searched there without being loaded.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut};

use super::batch::BatchHeader;
use super::producers::Producers;

/// How many bytes of log lie between two entries: one read that is cheap to scan.
pub const INDEX_INTERVAL: u64 = 8 * 1024;

const MAGIC: u64 = u64::from_be_bytes(*b"THWINDX1");
const HEAD_BYTES: usize = 64;
const ENTRY_BYTES: usize = 16;

/// What a segment spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The first offset that belongs here, whether it is written or not.
    pub base: i64,
    /// The offset after the last record.
    pub next: i64,
    /// Bytes of whole batches.
    pub bytes: u64,
    /// The newest timestamp, or -1.
    pub newest: i64,
    /// The base offset of the batch with the newest timestamp.
    pub newest_at: i64,
}

impl Extent {
    /// An empty segment that begins at `base`.
    pub fn empty(base: i64) -> Self {
        Self {
            base,
            next: base,
            bytes: 0,
            newest: -1,
            newest_at: base,
        }
    }

    /// Counts one more batch in.
    pub fn push(&mut self, batch: &BatchHeader) {
        if self.newest < batch.max_timestamp {
            self.newest = batch.max_timestamp;
            self.newest_at = batch.base_offset;
        }
        self.next = batch.next_offset();
        self.bytes += batch.bytes;
    }
}

/// One batch that a scan may begin at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Base offset of the batch, relative to the segment's.
    pub offset: u32,
    /// Where the batch begins in the file.
    pub position: u32,
    /// The newest timestamp of everything before the batch in this segment, or -1.
    pub newest_before: i64,
}

/// The entries of a segment that is being written.
#[derive(Debug, Default)]
pub struct Growing {
    entries: Vec<Entry>,
}

impl Growing {
    /// Takes note of a batch that begins where `before` ends.
    pub fn push(&mut self, before: &Extent, batch: &BatchHeader) {
        let due = self
            .entries
            .last()
            .is_none_or(|last| u64::from(last.position) + INDEX_INTERVAL <= before.bytes);
        if let (true, Ok(offset), Ok(position)) = (
            due,
            u32::try_from(batch.base_offset - before.base),
            u32::try_from(before.bytes),
        ) {
            self.entries.push(Entry {
                offset,
                position,
                newest_before: before.newest,
            });
        }
    }

    /// Returns the last entry of the leading ones that fulfil `holds`.
    pub fn last_where(&self, holds: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let count = self.entries.partition_point(holds);
        count.checked_sub(1).map(|last| self.entries[last])
    }

    /// Writes the index of a finished segment, so that a crash leaves either none or all of it.
    pub fn store(&self, path: &Path, extent: &Extent, producers: &Producers) -> io::Result<()> {
        let mut saved = Vec::new();
        producers.save(&mut saved);
        let mut out =
            Vec::with_capacity(HEAD_BYTES + self.entries.len() * ENTRY_BYTES + saved.len());
        out.put_u64(MAGIC);
        for number in [extent.base, extent.next, extent.newest, extent.newest_at] {
            out.put_i64(number);
        }
        out.put_u64(extent.bytes);
        out.put_u32(self.entries.len() as u32);
        out.put_u32(saved.len() as u32);
        out.put_bytes(0, HEAD_BYTES - out.len());
        for entry in &self.entries {
            out.put_u32(entry.offset);
            out.put_u32(entry.position);
            out.put_i64(entry.newest_before);
        }
        out.extend(saved);
        let checksum = crc32c::crc32c(&out);
        out[HEAD_BYTES - 4..HEAD_BYTES].copy_from_slice(&checksum.to_be_bytes());
        let staged = path.with_extension("index-new");
        std::fs::write(&staged, out)?;
        std::fs::rename(staged, path)
    }

    /// Reads a whole index back, or says `None` if the file is missing, damaged or of another segment.
    pub fn load(path: &Path, base: i64, log_bytes: u64) -> Option<(Self, Extent, Producers)> {
        let mut raw = std::fs::read(path).ok()?;
        let stored = Stored::parse(path, raw.get(..HEAD_BYTES)?)?;
        let checksum = (&raw[HEAD_BYTES - 4..HEAD_BYTES]).get_u32();
        raw[HEAD_BYTES - 4..HEAD_BYTES].fill(0);
        if crc32c::crc32c(&raw) != checksum || !stored.describes(base, log_bytes) {
            return None;
        }
        let (entries, producers) =
            raw[HEAD_BYTES..].split_at_checked(stored.count * ENTRY_BYTES)?;
        let entries = entries.chunks_exact(ENTRY_BYTES).map(parse_entry).collect();
        Some((
            Self { entries },
            stored.extent,
            Producers::restore(producers)?,
        ))
    }
}

/// The index of a finished segment, left in its file.
#[derive(Debug)]
pub struct Stored {
    path: PathBuf,
    extent: Extent,
    count: usize,
}

impl Stored {
    /// Looks at the head of an index file, or says `None` if it does not describe this segment.
    pub fn open(path: &Path, base: i64, log_bytes: u64) -> Option<Self> {
        let mut head = [0; HEAD_BYTES];
        File::open(path).ok()?.read_exact_at(&mut head, 0).ok()?;
        Self::parse(path, &head).filter(|stored| stored.describes(base, log_bytes))
    }

    fn parse(path: &Path, mut head: &[u8]) -> Option<Self> {
        if head.len() < HEAD_BYTES || head.get_u64() != MAGIC {
            return None;
        }
        let [base, next, newest, newest_at] = std::array::from_fn(|_| head.get_i64());
        let extent = Extent {
            base,
            next,
            newest,
            newest_at,
            bytes: head.get_u64(),
        };
        Some(Self {
            path: path.to_owned(),
            extent,
            count: head.get_u32() as usize,
        })
    }

    fn describes(&self, base: i64, log_bytes: u64) -> bool {
        self.extent.base == base && self.extent.bytes == log_bytes && base <= self.extent.next
    }

    /// Returns what the segment spans.
    pub fn extent(&self) -> Extent {
        self.extent
    }

    /// Returns the last entry of the leading ones that fulfil `holds`.
    pub fn last_where(&self, holds: impl Fn(&Entry) -> bool) -> io::Result<Option<Entry>> {
        let file = File::open(&self.path)?;
        let read = |n: usize| -> io::Result<Entry> {
            let mut raw = [0; ENTRY_BYTES];
            file.read_exact_at(&mut raw, (HEAD_BYTES + n * ENTRY_BYTES) as u64)?;
            Ok(parse_entry(&raw))
        };
        let (mut low, mut high, mut found) = (0, self.count, None);
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = read(middle)?;
            if holds(&entry) {
                found = Some(entry);
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(found)
    }
}

fn parse_entry(mut raw: &[u8]) -> Entry {
    Entry {
        offset: raw.get_u32(),
        position: raw.get_u32(),
        newest_before: raw.get_i64(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::tests::batch;
    use super::*;

    fn sample() -> (Growing, Extent) {
        let mut header = BatchHeader::parse(&batch(10, 100, (-1, -1, -1))).unwrap();
        header.bytes = 3_000;
        let (mut index, mut extent) = (Growing::default(), Extent::empty(50));
        for n in 0..100 {
            header.base_offset = 50 + n * 10;
            header.max_timestamp = 100 + n;
            index.push(&extent, &header);
            extent.push(&header);
        }
        (index, extent)
    }

    #[test]
    fn entries_are_sparse_and_found_in_memory_as_on_disk() {
        let (index, extent) = sample();
        assert_eq!(index.entries.len(), 34); // every third of 100 batches
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.index");
        index.store(&path, &extent, &Producers::default()).unwrap();
        let stored = Stored::open(&path, 50, extent.bytes).unwrap();
        assert_eq!(stored.extent(), extent);
        for wanted in [0, 1, 299, 300, 301, 5_000] {
            let holds = |entry: &Entry| entry.offset <= wanted;
            let entry = index.last_where(holds).unwrap();
            assert!(entry.offset <= wanted && wanted < entry.offset + 30 || wanted == 5_000);
            assert_eq!(stored.last_where(holds).unwrap(), Some(entry));
        }
        let (loaded, again, _) = Growing::load(&path, 50, extent.bytes).unwrap();
        assert_eq!((loaded.entries, again), (index.entries, extent));
    }

    #[test]
    fn a_damaged_or_foreign_file_is_refused() {
        let (index, extent) = sample();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.index");
        index.store(&path, &extent, &Producers::default()).unwrap();
        assert!(Stored::open(&path, 51, extent.bytes).is_none());
        assert!(Stored::open(&path, 50, extent.bytes + 1).is_none());
        let mut raw = std::fs::read(&path).unwrap();
        let last = raw.len() - 1;
        raw[last] ^= 1;
        std::fs::write(&path, raw).unwrap();
        assert!(Growing::load(&path, 50, extent.bytes).is_none());
    }
}
