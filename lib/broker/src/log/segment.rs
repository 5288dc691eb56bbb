//! One append-only file of batches with its index.
//!
//! In flow stamped batches, out flow places: ranges of the file for whoever sends them on. A segment never changes what
//! it has written; a torn tail, left by a crash, is cut when the segment is opened for writing again.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::batch::{self, BatchHeader, HEADER_BYTES};
use super::index::{Entry, Extent, Growing, INDEX_INTERVAL, Stored};
use super::producers::Producers;

/// How much is read at once when a whole segment is checked.
const CHECK_BYTES: u64 = 256 * 1024;

/// A batch and where it begins.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The batch.
    pub header: BatchHeader,
    /// Where it begins in the file.
    pub position: u64,
}

#[derive(Debug)]
enum Index {
    Growing(Growing, Arc<File>),
    Stored(Stored),
}

/// One segment; the last one of a log can be appended to.
#[derive(Debug)]
pub struct Segment {
    path: PathBuf,
    extent: Extent,
    index: Index,
}

fn log_path(folder: &Path, base: i64) -> PathBuf {
    folder.join(format!("{base:020}.log"))
}

/// Returns where compaction writes a segment and its index anew.
pub fn clean_paths(folder: &Path, base: i64) -> [PathBuf; 2] {
    let log = log_path(folder, base);
    [
        log.with_extension("log-clean"),
        log.with_extension("index-clean"),
    ]
}

impl Segment {
    /// Creates an empty segment that begins at `base`.
    pub fn create(folder: &Path, base: i64) -> io::Result<Self> {
        let path = log_path(folder, base);
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)?;
        file.set_len(0)?;
        let index = Index::Growing(Growing::default(), Arc::new(file));
        Ok(Self {
            path,
            extent: Extent::empty(base),
            index,
        })
    }

    /// Opens a finished segment by its stored index; `None` if it has none that fits.
    pub fn open_finished(folder: &Path, base: i64) -> Option<Self> {
        let path = log_path(folder, base);
        let bytes = path.metadata().ok()?.len();
        let stored = Stored::open(&path.with_extension("index"), base, bytes)?;
        Some(Self {
            path,
            extent: stored.extent(),
            index: Index::Stored(stored),
        })
    }

    /// Returns the producers' state that was stored with a finished segment.
    pub fn stored_producers(&self) -> Option<Producers> {
        let path = self.path.with_extension("index");
        Growing::load(&path, self.extent.base, self.extent.bytes).map(|(_, _, producers)| producers)
    }

    /// Opens the last segment for writing, with `producers` as they were where it begins; offsets are without gaps except
    /// below `gaps_to`.
    ///
    /// After a clean stop the stored index says all. Otherwise every batch is checked, and what follows the last
    /// sound one is cut off. Returns how many bytes were cut.
    pub fn open_growing(
        folder: &Path,
        base: i64,
        gaps_to: i64,
        producers: &mut Producers,
    ) -> io::Result<(Self, u64)> {
        let path = log_path(folder, base);
        let file = OpenOptions::new().read(true).append(true).open(&path)?;
        let bytes = file.metadata()?.len();
        let index_path = path.with_extension("index");
        if let Some((growing, extent, stored)) = Growing::load(&index_path, base, bytes) {
            std::fs::remove_file(&index_path)?;
            *producers = stored;
            let index = Index::Growing(growing, Arc::new(file));
            return Ok((
                Self {
                    path,
                    extent,
                    index,
                },
                0,
            ));
        }
        let (growing, extent) = check(&file, base..gaps_to, bytes, producers)?;
        let torn = bytes - extent.bytes;
        if 0 < torn {
            file.set_len(extent.bytes)?;
        }
        let index = Index::Growing(growing, Arc::new(file));
        Ok((
            Self {
                path,
                extent,
                index,
            },
            torn,
        ))
    }

    /// Deletes the files of the segment; whoever reads them goes on reading.
    pub fn remove(&self) -> io::Result<()> {
        std::fs::remove_file(&self.path)?;
        match std::fs::remove_file(self.path.with_extension("index")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Returns when something was last written.
    pub fn modified(&self) -> Option<SystemTime> {
        self.path.metadata().ok()?.modified().ok()
    }

    /// Has the segment span everything up to `next`, though compaction left nothing there.
    pub fn reach(&mut self, next: i64) {
        self.extent.next = next;
    }

    /// Returns what the segment spans.
    pub fn extent(&self) -> &Extent {
        &self.extent
    }

    /// Appends one batch whose header has been stamped; `batch` is as the producer sent it.
    ///
    /// # Errors
    /// If the file cannot take all of it. Nothing of the batch stays then, or else the second value says that the
    /// file could not be restored.
    pub fn append(
        &mut self,
        stamped: &[u8; HEADER_BYTES],
        batch: &[u8],
    ) -> Result<(), (io::Error, bool)> {
        let Index::Growing(growing, file) = &mut self.index else {
            return Err((io::Error::other("segment is finished"), true));
        };
        let Some(header) = BatchHeader::parse(stamped) else {
            return Err((io::Error::other("header makes no sense"), true));
        };
        let mut slices = [IoSlice::new(stamped), IoSlice::new(&batch[HEADER_BYTES..])];
        if let Err(error) = write_all(file, &mut slices) {
            return Err((error, file.set_len(self.extent.bytes).is_ok()));
        }
        growing.push(&self.extent, &header);
        self.extent.push(&header);
        Ok(())
    }

    /// Stores the index of a segment that will not grow any more and returns its file, which may still want a sync.
    pub fn finish(&mut self, producers: &Producers) -> io::Result<Option<Arc<File>>> {
        let Index::Growing(growing, file) = &self.index else {
            return Ok(None);
        };
        let path = self.path.with_extension("index");
        growing.store(&path, &self.extent, producers)?;
        let file = Arc::clone(file);
        let stored = Stored::open(&path, self.extent.base, self.extent.bytes)
            .ok_or_else(|| io::Error::other("the index just stored cannot be read"))?;
        self.index = Index::Stored(stored);
        Ok(Some(file))
    }

    /// Returns the file for reading.
    pub fn file(&self) -> io::Result<Arc<File>> {
        match &self.index {
            Index::Growing(_, file) => Ok(Arc::clone(file)),
            Index::Stored(_) => File::open(&self.path).map(Arc::new),
        }
    }

    fn last_entry(&self, holds: impl Fn(&Entry) -> bool) -> io::Result<Option<Entry>> {
        match &self.index {
            Index::Growing(growing, _) => Ok(growing.last_where(holds)),
            Index::Stored(stored) => stored.last_where(holds),
        }
    }

    /// Finds the batch that holds `offset`, or the first one after it.
    pub fn locate(&self, file: &File, offset: i64) -> io::Result<Option<Place>> {
        let delta = u32::try_from(offset - self.extent.base).unwrap_or(0);
        let entry = self.last_entry(|entry| entry.offset <= delta)?;
        self.find(file, entry, |place| offset < place.header.next_offset())
    }

    /// Returns where the last whole batch ends that lies within `bytes_max` of `start`.
    pub fn cut(&self, file: &File, start: u64, bytes_max: u64) -> io::Result<u64> {
        let limit = start.saturating_add(bytes_max);
        if self.extent.bytes <= limit {
            return Ok(self.extent.bytes);
        }
        let entry = self.last_entry(|entry| u64::from(entry.position) <= limit)?;
        let entry = entry.filter(|entry| start <= u64::from(entry.position));
        let mut end = entry.map_or(start, |entry| u64::from(entry.position));
        scan(file, end, self.extent.bytes, |place| {
            if limit < place.position + place.header.bytes {
                return ControlFlow::Break(());
            }
            end = place.position + place.header.bytes;
            ControlFlow::Continue(())
        })?;
        Ok(end)
    }

    /// Finds the first batch with a record at or after `timestamp` that does not end before `start`.
    pub fn first_since(
        &self,
        file: &File,
        timestamp: i64,
        start: i64,
    ) -> io::Result<Option<Place>> {
        let entry = self.last_entry(|entry| entry.newest_before < timestamp)?;
        self.find(file, entry, |place| {
            timestamp <= place.header.max_timestamp && start < place.header.next_offset()
        })
    }

    fn find(
        &self,
        file: &File,
        from: Option<Entry>,
        wanted: impl Fn(&Place) -> bool,
    ) -> io::Result<Option<Place>> {
        let mut found = None;
        let start = from.map_or(0, |entry| u64::from(entry.position));
        scan(file, start, self.extent.bytes, |place| {
            if !wanted(&place) {
                return ControlFlow::Continue(());
            }
            found = Some(place);
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// Reads one whole batch.
    pub fn read(&self, file: &File, place: &Place) -> io::Result<Vec<u8>> {
        let within = place.position.saturating_add(place.header.bytes) <= self.extent.bytes;
        let bytes = usize::try_from(place.header.bytes).ok().filter(|_| within);
        let mut batch = vec![0; bytes.ok_or_else(damaged)?];
        file.read_exact_at(&mut batch, place.position)?;
        Ok(batch)
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a batch in the log is damaged")
}

fn write_all(mut file: &File, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    while !slices.is_empty() {
        match file.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut slices, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Shows `visit` every batch from `start`, where one must begin, to `end`, reading headers only.
fn scan(
    file: &File,
    start: u64,
    end: u64,
    mut visit: impl FnMut(Place) -> ControlFlow<()>,
) -> io::Result<()> {
    let mut chunk = [0; INDEX_INTERVAL as usize];
    let mut position = start;
    while position < end {
        let wanted = chunk
            .len()
            .min(usize::try_from(end - position).unwrap_or(usize::MAX));
        file.read_exact_at(&mut chunk[..wanted], position)?;
        let chunk_at = position;
        loop {
            let skipped = usize::try_from(position - chunk_at).unwrap_or(usize::MAX);
            let Some(raw) = chunk[..wanted]
                .get(skipped..)
                .filter(|raw| HEADER_BYTES <= raw.len())
            else {
                break;
            };
            let header = BatchHeader::parse(raw).ok_or_else(damaged)?;
            if visit(Place { header, position }).is_break() {
                return Ok(());
            }
            position += header.bytes;
        }
        if position == chunk_at {
            return Err(damaged()); // less than a header is left
        }
    }
    Ok(())
}

/// Checks every batch of a file and stops at the first that is not sound.
fn check(
    file: &File,
    offsets: std::ops::Range<i64>,
    bytes: u64,
    producers: &mut Producers,
) -> io::Result<(Growing, Extent)> {
    let (base, gaps_to) = (offsets.start, offsets.end);
    let (mut growing, mut extent) = (Growing::default(), Extent::empty(base));
    let mut chunk = Vec::new();
    let mut chunk_at = 0;
    loop {
        let skipped = usize::try_from(extent.bytes - chunk_at).unwrap_or(usize::MAX);
        let rest = chunk.get(skipped..).unwrap_or_default();
        let header = BatchHeader::parse(rest);
        let batch = header.and_then(|header| rest.get(..usize::try_from(header.bytes).ok()?));
        if let (Some(header), Some(batch)) = (&header, batch) {
            let gap = extent.next < header.base_offset && header.base_offset <= gaps_to;
            let follows = header.base_offset == extent.next || gap;
            if !follows || !batch::checksum_holds(header, batch) {
                break;
            }
            growing.push(&extent, header);
            extent.push(header);
            producers.record(header);
            continue;
        }
        let left = bytes - extent.bytes;
        let needed = header.map_or(HEADER_BYTES as u64, |header| header.bytes);
        let nonsense = header.is_none() && HEADER_BYTES <= rest.len();
        if nonsense || left < needed {
            break;
        }
        chunk.resize(
            usize::try_from(needed.max(CHECK_BYTES).min(left)).unwrap_or(0),
            0,
        );
        chunk_at = extent.bytes;
        file.read_exact_at(&mut chunk, chunk_at)?;
    }
    Ok((growing, extent))
}
