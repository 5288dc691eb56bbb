//! What consumer groups have committed, in one append-only file and in memory.
//!
//! A commit is written before it is acknowledged, so it survives `kill -9`; a torn tail is cut at start. The file is
//! rewritten without what is outdated at start, and whenever most of it is.
//!
//! ```text
//! entry  = bytes (4), CRC32C of the rest (4), group, topic, partition (4), offset (8), leader epoch (4), metadata
//! string = bytes (2), UTF-8
//! ```
//! An offset of -1 takes back what was committed before. Numbers are big-endian.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use bytes::{Buf, BufMut};
use tracing::warn;

use crate::error::BrokerError;
use crate::sync::lock;

/// How much metadata a commit may carry: Kafka's own default.
pub const METADATA_BYTES_MAX: usize = 4_096;

/// How large the file grows before it is rewritten, unless most of it is still valid.
const REWRITE_BYTES: u64 = 8 * 1024 * 1024;

const HEAD_BYTES: usize = 8;
const TAKEN_BACK: i64 = -1;

/// A topic and a partition of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Coordinates {
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
}

/// What a group has committed for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The offset to go on at.
    pub offset: i64,
    /// The leader epoch that the client knew, or -1.
    pub leader_epoch: i32,
    /// Whatever the client wanted to remember.
    pub metadata: String,
}

type Groups = HashMap<String, BTreeMap<Coordinates, Committed>>;

#[derive(Debug)]
struct Journal {
    file: File,
    bytes: u64,
    bytes_rewritten: u64,
    groups: Groups,
}

/// What consumer groups have committed.
#[derive(Debug)]
pub struct Offsets {
    path: PathBuf,
    groups_max: usize,
    journal: Mutex<Journal>,
}

impl Offsets {
    /// Reads the file in the broker's folder, or begins one.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn open(folder: &Path, groups_max: usize) -> Result<Self, BrokerError> {
        let path = folder.join("offsets");
        let open = || {
            let raw = match std::fs::read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                raw => raw?,
            };
            let groups = replay(&raw);
            rewrite(&path, groups)
        };
        let journal = open().map_err(BrokerError::storage(&path))?;
        Ok(Self {
            path,
            groups_max,
            journal: Mutex::new(journal),
        })
    }

    /// Returns what a group has committed for one partition.
    pub fn get(&self, group: &str, at: &Coordinates) -> Option<Committed> {
        lock(&self.journal).groups.get(group)?.get(at).cloned()
    }

    /// Returns everything that a group has committed.
    pub fn all(&self, group: &str) -> Vec<(Coordinates, Committed)> {
        let journal = lock(&self.journal);
        let offsets = journal.groups.get(group).into_iter().flatten();
        offsets
            .map(|(at, committed)| (at.clone(), committed.clone()))
            .collect()
    }

    /// Says whether a group has committed anything, or could.
    pub fn has_room_for(&self, group: &str) -> bool {
        let journal = lock(&self.journal);
        journal.groups.contains_key(group) || journal.groups.len() < self.groups_max
    }

    /// Commits offsets of one group; when this returns, they survive the end of the process.
    ///
    /// # Errors
    /// If the file cannot take them; then none are committed.
    pub fn commit(&self, group: &str, offsets: Vec<(Coordinates, Committed)>) -> io::Result<()> {
        let mut out = Vec::new();
        for (at, committed) in &offsets {
            put_entry(&mut out, group, at, committed);
        }
        let mut journal = lock(&self.journal);
        journal.append(&out)?;
        if !offsets.is_empty() {
            journal
                .groups
                .entry(group.to_owned())
                .or_default()
                .extend(offsets);
        }
        if REWRITE_BYTES.max(journal.bytes_rewritten.saturating_mul(2)) < journal.bytes {
            let groups = std::mem::take(&mut journal.groups);
            match rewrite(&self.path, groups.clone()) {
                Ok(rewritten) => *journal = rewritten,
                Err(error) => {
                    warn!(%error, "could not shrink the file of committed offsets; it goes on growing");
                    journal.groups = groups;
                    journal.bytes_rewritten = journal.bytes;
                }
            }
        }
        Ok(())
    }

    /// Returns the ids of all groups that have committed anything.
    pub fn groups(&self) -> Vec<String> {
        lock(&self.journal).groups.keys().cloned().collect()
    }

    /// Takes back what a group has committed, for one partition.
    ///
    /// # Errors
    /// If the file cannot take the note.
    pub fn forget(&self, group: &str, at: &Coordinates) -> io::Result<()> {
        self.forget_where(|of, offset| of == group && offset == at)
    }

    /// Says whether a group has committed anything.
    pub fn has(&self, group: &str) -> bool {
        lock(&self.journal).groups.contains_key(group)
    }

    /// Takes back everything that a group has committed.
    ///
    /// # Errors
    /// If the file cannot take the note.
    pub fn forget_group(&self, group: &str) -> io::Result<()> {
        self.forget_where(|of, _| of == group)
    }

    /// Forgets whatever was committed for a topic, so that a later one of the same name begins anew.
    ///
    /// # Errors
    /// If the file cannot take the note.
    pub fn forget_topic(&self, topic: &str) -> io::Result<()> {
        self.forget_where(|_, at| at.topic == topic)
    }

    fn forget_where(&self, forgotten: impl Fn(&str, &Coordinates) -> bool) -> io::Result<()> {
        let mut journal = lock(&self.journal);
        let mut out = Vec::new();
        for (group, offsets) in &journal.groups {
            for at in offsets.keys().filter(|at| forgotten(group, at)) {
                let taken_back = Committed {
                    offset: TAKEN_BACK,
                    leader_epoch: -1,
                    metadata: String::new(),
                };
                put_entry(&mut out, group, at, &taken_back);
            }
        }
        journal.append(&out)?;
        journal.groups.retain(|group, offsets| {
            offsets.retain(|at, _| !forgotten(group, at));
            !offsets.is_empty()
        });
        Ok(())
    }

    /// Syncs the file to the disk.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn close(&self) -> Result<(), BrokerError> {
        lock(&self.journal)
            .file
            .sync_data()
            .map_err(BrokerError::storage(&self.path))
    }
}

impl Journal {
    fn append(&mut self, out: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(out) {
            self.file.set_len(self.bytes)?;
            return Err(error);
        }
        self.bytes += out.len() as u64;
        Ok(())
    }
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.put_u16(
        u16::try_from(text.len())
            .expect("names come from the wire with 16-bit lengths or were checked"),
    );
    out.put_slice(text.as_bytes());
}

fn put_entry(out: &mut Vec<u8>, group: &str, at: &Coordinates, committed: &Committed) {
    let start = out.len();
    out.put_bytes(0, HEAD_BYTES);
    put_string(out, group);
    put_string(out, &at.topic);
    out.put_i32(at.partition);
    out.put_i64(committed.offset);
    out.put_i32(committed.leader_epoch);
    put_string(out, &committed.metadata);
    let body = &out[start + HEAD_BYTES..];
    let (bytes, checksum) = (body.len() as u32, crc32c::crc32c(body));
    out[start..start + 4].copy_from_slice(&bytes.to_be_bytes());
    out[start + 4..start + HEAD_BYTES].copy_from_slice(&checksum.to_be_bytes());
}

fn get_string(rest: &mut &[u8]) -> Option<String> {
    let bytes = usize::from(rest.try_get_u16().ok()?);
    let (text, tail) = rest.split_at_checked(bytes)?;
    *rest = tail;
    String::from_utf8(text.to_vec()).ok()
}

fn get_entry(rest: &mut &[u8]) -> Option<(String, Coordinates, Committed)> {
    let bytes = rest.try_get_u32().ok()? as usize;
    let checksum = rest.try_get_u32().ok()?;
    let (mut body, tail) = rest.split_at_checked(bytes)?;
    if crc32c::crc32c(body) != checksum {
        return None;
    }
    *rest = tail;
    let group = get_string(&mut body)?;
    let at = Coordinates {
        topic: get_string(&mut body)?,
        partition: body.try_get_i32().ok()?,
    };
    let committed = Committed {
        offset: body.try_get_i64().ok()?,
        leader_epoch: body.try_get_i32().ok()?,
        metadata: get_string(&mut body)?,
    };
    Some((group, at, committed))
}

/// Reads entries up to the first that is torn.
fn replay(raw: &[u8]) -> Groups {
    let mut groups = Groups::new();
    let mut rest = raw;
    while let Some((group, at, committed)) = get_entry(&mut rest) {
        let offsets = groups.entry(group).or_default();
        if committed.offset == TAKEN_BACK {
            offsets.remove(&at);
        } else {
            offsets.insert(at, committed);
        }
    }
    groups.retain(|_, offsets| !offsets.is_empty());
    groups
}

/// Writes a file with nothing outdated in it and puts it in the old one's place.
fn rewrite(path: &Path, groups: Groups) -> io::Result<Journal> {
    let mut out = Vec::new();
    for (group, offsets) in &groups {
        for (at, committed) in offsets {
            put_entry(&mut out, group, at, committed);
        }
    }
    let staged = path.with_extension("new");
    let mut file = File::create(&staged)?;
    file.write_all(&out)?;
    file.sync_data()?;
    std::fs::rename(&staged, path)?;
    let file = OpenOptions::new().append(true).open(path)?;
    let bytes = out.len() as u64;
    Ok(Journal {
        file,
        bytes,
        bytes_rewritten: bytes,
        groups,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(topic: &str, partition: i32) -> Coordinates {
        Coordinates {
            topic: topic.to_owned(),
            partition,
        }
    }

    fn committed(offset: i64) -> Committed {
        Committed {
            offset,
            leader_epoch: 0,
            metadata: "note".to_owned(),
        }
    }

    #[test]
    fn commits_survive_and_a_torn_one_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let offsets = Offsets::open(folder.path(), 10).unwrap();
        for n in 0..100 {
            offsets
                .commit(
                    "g",
                    vec![(at("t", 0), committed(n)), (at("t", 1), committed(n * 2))],
                )
                .unwrap();
        }
        drop(offsets);
        let path = folder.path().join("offsets");
        let raw = std::fs::read(&path).unwrap();
        std::fs::write(&path, &raw[..raw.len() - 3]).unwrap();
        let offsets = Offsets::open(folder.path(), 10).unwrap();
        assert_eq!(offsets.get("g", &at("t", 0)), Some(committed(99)));
        assert_eq!(offsets.get("g", &at("t", 1)), Some(committed(196)));
        assert!(path.metadata().unwrap().len() < 200);
    }

    #[test]
    fn the_file_is_rewritten_before_it_grows_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let offsets = Offsets::open(folder.path(), 10).unwrap();
        let mut large = committed(0);
        large.metadata = "x".repeat(METADATA_BYTES_MAX);
        for n in 0..5_000 {
            large.offset = n;
            offsets
                .commit("g", vec![(at("t", 0), large.clone())])
                .unwrap();
        }
        assert!(folder.path().join("offsets").metadata().unwrap().len() <= REWRITE_BYTES + 5_000);
        assert_eq!(offsets.get("g", &at("t", 0)).unwrap().offset, 4_999);
    }

    #[test]
    fn a_deleted_topic_is_forgotten_for_good() {
        let folder = tempfile::tempdir().unwrap();
        let offsets = Offsets::open(folder.path(), 10).unwrap();
        offsets
            .commit(
                "g",
                vec![(at("t", 0), committed(5)), (at("u", 0), committed(6))],
            )
            .unwrap();
        offsets.forget_topic("t").unwrap();
        for offsets in [offsets, Offsets::open(folder.path(), 10).unwrap()] {
            assert_eq!(offsets.all("g"), [(at("u", 0), committed(6))]);
        }
    }
}
