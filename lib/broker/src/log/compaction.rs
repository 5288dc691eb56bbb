//! Compaction: of the records of one key, only the last stays.
//!
//! Finished segments are read twice: once from where the last round ended, to learn where each key was written last,
//! and once from the beginning, to write each segment anew without what is outdated. Offsets stay; what is left away
//! leaves a gap. The long work is done by a [`Job`], without the log's lock; the log itself only puts a rewritten segment
//! in the old one's place.
//!
//! The file `cleaned` says below which offset there may be gaps (written before the first segment is replaced) and how
//! far each round came and when (written at its end). A crash in between leaves every segment either old or new, and
//! the next round does again what this one did.

use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::{error, info, warn};

use super::batch::{BatchHeader, HEADER_BYTES};
use super::index::{Extent, Growing};
use super::producers::Producers;
use super::records::{self, Record};
use super::segment::clean_paths;
use super::{Log, Segment};
use crate::folder;

/// How many keys one round can know, of 32 bytes each; what lies beyond waits for the next round.
const KEYS_MAX: usize = 500_000;

/// How many rounds are remembered for the sake of tombstones; dropping one keeps some tombstones longer.
const ROUNDS_MAX: usize = 64;

/// How much is read or written at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// How far compaction has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Below this offset there may be gaps.
    pub gaps_to: i64,
    /// Where each round ended, and when, in milliseconds since 1970.
    rounds: Vec<(i64, i64)>,
}

impl Cleaned {
    /// Reads the note in a partition's folder.
    pub fn load(partition: &Path) -> io::Result<Self> {
        match std::fs::read_to_string(partition.join("cleaned")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            text => {
                Self::parse(&text?).ok_or_else(|| io::Error::other("the note `cleaned` is damaged"))
            }
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut cleaned = Self::default();
        for line in text.lines() {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["gaps", to] => cleaned.gaps_to = to.parse().ok()?,
                ["round", to, at] => cleaned.rounds.push((to.parse().ok()?, at.parse().ok()?)),
                _ => return None,
            }
        }
        Some(cleaned)
    }

    fn store(&self, partition: &Path) -> io::Result<()> {
        let mut text = format!("gaps {}\n", self.gaps_to);
        for (to, at) in &self.rounds {
            text.push_str(&format!("round {to} {at}\n"));
        }
        folder::replace_file(&partition.join("cleaned"), text.as_bytes())
    }

    /// Returns where the last round ended.
    fn to(&self) -> i64 {
        self.rounds.last().map_or(0, |&(to, _)| to)
    }

    /// Returns below which offset tombstones have stayed for long enough.
    fn tombstones_to(&self, oldest_ms: i64) -> i64 {
        let old_enough = self.rounds.iter().filter(|&&(_, at)| at <= oldest_ms);
        old_enough.map(|&(to, _)| to).max().unwrap_or(0)
    }

    /// Takes note of a round that ended.
    fn push(&mut self, to: i64, now_ms: i64, oldest_ms: i64) {
        // Of the rounds that are old enough, the last says all.
        let expired = self
            .rounds
            .iter()
            .filter(|&&(_, at)| at <= oldest_ms)
            .count();
        self.rounds.drain(..expired.saturating_sub(1));
        if ROUNDS_MAX <= self.rounds.len() {
            self.rounds.remove(0);
        }
        self.rounds.push((to, now_ms));
    }
}

/// One round of compaction, to be worked on without the log's lock.
#[derive(Debug)]
pub struct Job {
    folder: PathBuf,
    segments: Vec<Old>,
    /// Where the last round ended.
    from: i64,
    /// Below this offset tombstones go.
    tombstones_to: i64,
}

/// A segment as it was when the round began.
#[derive(Debug, Clone, Copy)]
struct Old {
    base: i64,
    next: i64,
    bytes: u64,
}

/// Where each key was written last.
#[derive(Debug)]
pub struct Keys {
    seeds: [RandomState; 2],
    last: HashMap<(u64, u64), i64>,
    /// Keys are known up to this offset.
    to: i64,
}

/// A segment written anew, beside the old one.
#[derive(Debug)]
pub struct Rewritten {
    old: Old,
    bytes: u64,
    dropped: u64,
}

impl Keys {
    fn hash(&self, key: &[u8]) -> (u64, u64) {
        (self.seeds[0].hash_one(key), self.seeds[1].hash_one(key))
    }

    /// Says whether a record outlives the round.
    fn keep(&self, record: &Record<'_>, tombstones_to: i64) -> bool {
        if self.to <= record.offset {
            return true;
        }
        let Some(key) = record.key else {
            return false;
        };
        let outdated = self
            .last
            .get(&self.hash(key))
            .is_some_and(|&last| record.offset < last);
        let expired = record.is_tombstone && record.offset < tombstones_to;
        !outdated && !expired
    }
}

/// Reads whole batches, one after the other.
struct Batches {
    file: BufReader<File>,
    left: u64,
    batch: Vec<u8>,
}

impl Batches {
    fn open(folder: &Path, segment: &Old) -> io::Result<Self> {
        let file = File::open(folder.join(format!("{:020}.log", segment.base)))?;
        Ok(Self {
            file: BufReader::with_capacity(BUFFER_BYTES, file),
            left: segment.bytes,
            batch: Vec::new(),
        })
    }

    fn next(&mut self) -> io::Result<Option<BatchHeader>> {
        if self.left == 0 {
            return Ok(None);
        }
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a batch is damaged");
        self.batch.resize(HEADER_BYTES, 0);
        self.file.read_exact(&mut self.batch)?;
        let header = BatchHeader::parse(&self.batch).ok_or_else(damaged)?;
        self.left = self.left.checked_sub(header.bytes).ok_or_else(damaged)?;
        self.batch
            .resize(usize::try_from(header.bytes).map_err(|_| damaged())?, 0);
        self.file.read_exact(&mut self.batch[HEADER_BYTES..])?;
        Ok(Some(header))
    }
}

fn go_on(stop: &AtomicBool) -> io::Result<()> {
    match stop.load(Ordering::Acquire) {
        true => Err(io::ErrorKind::Interrupted.into()),
        false => Ok(()),
    }
}

impl Job {
    /// Learns where each key was written last, from where the last round ended.
    ///
    /// # Errors
    /// If a segment cannot be read, or the log ends meanwhile.
    pub fn learn(&self, stop: &AtomicBool) -> io::Result<Keys> {
        let mut keys = Keys {
            seeds: [RandomState::new(), RandomState::new()],
            last: HashMap::new(),
            to: self.from,
        };
        for segment in self
            .segments
            .iter()
            .filter(|segment| self.from < segment.next)
        {
            let mut batches = Batches::open(&self.folder, segment)?;
            while let Some(header) = batches.next()? {
                go_on(stop)?;
                if header.next_offset() <= self.from {
                    continue;
                }
                let plain = records::plain(&header, &batches.batch);
                let found = plain
                    .as_ref()
                    .and_then(|plain| records::parse(&header, plain));
                let found = found.unwrap_or_default();
                if KEYS_MAX < keys.last.len() + found.len() && !keys.last.is_empty() {
                    keys.to = header.base_offset;
                    return Ok(keys);
                }
                for record in found {
                    if let Some(key) = record.key {
                        let hash = keys.hash(key);
                        keys.last.insert(hash, record.offset);
                    }
                }
            }
            keys.to = segment.next;
        }
        Ok(keys)
    }

    /// Writes every segment anew that the keys lead through, and shows each to `done`, unless nothing would change.
    ///
    /// # Errors
    /// If the file system or `done` refuses, or the log ends meanwhile.
    pub fn rewrite(
        &self,
        keys: &Keys,
        stop: &AtomicBool,
        mut done: impl FnMut(&Rewritten) -> io::Result<()>,
    ) -> io::Result<()> {
        for segment in self
            .segments
            .iter()
            .filter(|segment| segment.base < keys.to)
        {
            let rewritten = self.rewrite_one(segment, keys, stop);
            let rewritten = rewritten.inspect_err(|_| self.tidy_up(segment.base))?;
            // An index of the old file must not pass for one of the new.
            if rewritten.dropped == 0 || rewritten.bytes == segment.bytes {
                rewritten.discard(&self.folder)?;
            } else {
                done(&rewritten)?;
            }
        }
        Ok(())
    }

    /// Removes what was written beside a segment, so that a full disk does not stay full of it.
    fn tidy_up(&self, base: i64) {
        for path in clean_paths(&self.folder, base) {
            match std::fs::remove_file(&path) {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                    warn!(path = %path.display(), %cause, "could not remove a file of a compaction");
                }
                _ => {}
            }
        }
    }

    fn rewrite_one(&self, old: &Old, keys: &Keys, stop: &AtomicBool) -> io::Result<Rewritten> {
        let [log, index] = clean_paths(&self.folder, old.base);
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, File::create(&log)?);
        let (mut growing, mut extent) = (Growing::default(), Extent::empty(old.base));
        let mut batches = Batches::open(&self.folder, old)?;
        let mut dropped = 0;
        while let Some(header) = batches.next()? {
            go_on(stop)?;
            let Some(batch) = self.thin_out(&header, &batches.batch, keys, &mut dropped) else {
                continue;
            };
            let batch = batch.as_deref().unwrap_or(&batches.batch);
            let header = BatchHeader::parse(batch).ok_or(io::ErrorKind::InvalidData)?;
            growing.push(&extent, &header);
            extent.push(&header);
            out.write_all(batch)?;
        }
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_data()?;
        extent.next = old.next;
        let stored = self.folder.join(format!("{:020}.index", old.base));
        let producers = Growing::load(&stored, old.base, old.bytes);
        let producers = producers.map_or_else(Producers::default, |(_, _, producers)| producers);
        growing.store(&index, &extent, &producers)?;
        Ok(Rewritten {
            old: *old,
            bytes: extent.bytes,
            dropped,
        })
    }

    /// Returns what is left of a batch: nothing, another batch, or (the inner `None`) all of it.
    fn thin_out(
        &self,
        header: &BatchHeader,
        batch: &[u8],
        keys: &Keys,
        dropped: &mut u64,
    ) -> Option<Option<Vec<u8>>> {
        let plain = records::plain(header, batch);
        let found = plain
            .as_ref()
            .and_then(|plain| records::parse(header, plain));
        let Some(found) = found else {
            return Some(None); // not to be understood, so not to be touched
        };
        let mut kept = found.clone();
        kept.retain(|record| keys.keep(record, self.tombstones_to));
        if kept.len() == found.len() {
            return Some(None);
        }
        if kept.is_empty() {
            *dropped += found.len() as u64;
            return None;
        }
        let thinned = records::thin_out(header, batch, &kept);
        *dropped += thinned.as_ref().map_or(0, |_| found.len() - kept.len()) as u64;
        Some(thinned)
    }
}

impl Rewritten {
    fn discard(&self, folder: &Path) -> io::Result<()> {
        for path in clean_paths(folder, self.old.base) {
            std::fs::remove_file(path)?;
        }
        Ok(())
    }
}

impl Log {
    /// Returns what there is to compact, if it is enough for a round.
    ///
    /// The growing segment is never compacted, and as long as it is empty, neither is the one before: so the log always
    /// ends with a record, and whoever reads arrives at the end.
    pub fn compaction_due(&self, now_ms: i64) -> Option<Job> {
        let compaction = self.upkeep.compaction.as_ref().filter(|_| !self.broken)?;
        let spared = usize::from(self.growing.extent().bytes == 0);
        let settled = |segment: &&Segment| {
            compaction.lag_min_ms == 0
                || segment.extent().newest < now_ms.saturating_sub(compaction.lag_min_ms)
        };
        let segments: Vec<&Segment> = self.finished[..self.finished.len().saturating_sub(spared)]
            .iter()
            .take_while(settled)
            .collect();
        let from = self.cleaned.to().max(self.start);
        let is_dirty = |segment: &&&Segment| from < segment.extent().next;
        let bytes = |segment: &&Segment| segment.extent().bytes;
        let dirty: u64 = segments.iter().filter(is_dirty).map(bytes).sum();
        let total: u64 = segments.iter().map(bytes).sum();
        let oldest = now_ms.saturating_sub(compaction.lag_max_ms);
        let overdue = segments
            .iter()
            .filter(is_dirty)
            .any(|segment| segment.extent().newest < oldest);
        let enough = compaction.dirty_ratio <= dirty as f64 / total.max(1) as f64;
        if dirty == 0 || !enough && !overdue {
            return None;
        }
        let old = |segment: &&Segment| Old {
            base: segment.extent().base,
            next: segment.extent().next,
            bytes: segment.extent().bytes,
        };
        let tombstones_from = now_ms.saturating_sub(compaction.tombstones_ms);
        Some(Job {
            folder: self.folder.clone(),
            segments: segments.iter().map(old).collect(),
            from,
            tombstones_to: self.cleaned.tombstones_to(tombstones_from),
        })
    }

    /// Says whether the log is still in use: after it has ended, its folder may be another one's.
    fn go_on(&self) -> io::Result<()> {
        match self.broken {
            true => Err(io::ErrorKind::Interrupted.into()),
            false => Ok(()),
        }
    }

    /// Takes note that there may be gaps from here on.
    ///
    /// # Errors
    /// If the note cannot be written.
    pub fn begin_compaction(&mut self, keys: &Keys) -> io::Result<()> {
        self.go_on()?;
        self.cleaned.gaps_to = self.cleaned.gaps_to.max(keys.to);
        self.cleaned.store(&self.folder)
    }

    /// Puts a rewritten segment in the old one's place; one without records goes, unless it is the first.
    ///
    /// # Errors
    /// If the file system refuses; the log takes no more appends if it cannot read the segment any more.
    pub fn replace(&mut self, rewritten: &Rewritten) -> io::Result<()> {
        let old = rewritten.old;
        let same = |segment: &Segment| {
            (segment.extent().base, segment.extent().bytes) == (old.base, old.bytes)
        };
        let Some(at) = self.finished.iter().position(same).filter(|_| !self.broken) else {
            return rewritten.discard(&self.folder); // deleted meanwhile
        };
        if rewritten.bytes == 0 && 0 < at {
            rewritten.discard(&self.folder)?;
            self.finished[at].remove()?;
            self.finished.remove(at);
            return Ok(());
        }
        let [log, index] = clean_paths(&self.folder, old.base);
        std::fs::rename(&log, self.folder.join(format!("{:020}.log", old.base)))?;
        let renamed = std::fs::rename(&index, self.folder.join(format!("{:020}.index", old.base)));
        match Segment::open_finished(&self.folder, old.base).filter(|_| renamed.is_ok()) {
            Some(segment) => self.finished[at] = segment,
            None => {
                error!(folder = %self.folder.display(), base = old.base, "could not open a compacted segment");
                self.broken = true;
            }
        }
        renamed
    }

    /// Takes note that a round has ended.
    ///
    /// # Errors
    /// If the note cannot be written.
    pub fn end_compaction(&mut self, keys: &Keys, now_ms: i64) -> io::Result<()> {
        self.go_on()?;
        let tombstones_ms = self
            .upkeep
            .compaction
            .as_ref()
            .map_or(0, |kept| kept.tombstones_ms);
        let oldest_ms = now_ms.saturating_sub(tombstones_ms);
        self.cleaned.push(keys.to, now_ms, oldest_ms);
        self.cleaned.store(&self.folder)?;
        info!(folder = %self.folder.display(), to = keys.to, keys = keys.last.len(), "compacted a log");
        Ok(())
    }
}

/// Ends what a crash has interrupted: a rewritten segment is either in the old one's place, then its index follows, or
/// forgotten.
pub fn recover(partition: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(partition)? {
        let path = entry?.path();
        let Some(extension) = path.extension().and_then(|extension| extension.to_str()) else {
            continue;
        };
        if !matches!(extension, "log-clean" | "index-clean") {
            continue;
        }
        let base = path
            .file_stem()
            .and_then(|stem| stem.to_str()?.parse().ok());
        let orphaned = path.with_extension("log").exists()
            && base.is_some_and(|base| Segment::open_finished(partition, base).is_none());
        if extension == "index-clean" && orphaned {
            std::fs::rename(&path, path.with_extension("index"))?;
        } else {
            warn!(path = %path.display(), "forgot a compaction that a crash has interrupted");
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}
