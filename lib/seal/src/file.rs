//! The store of wrapped keys in one file, shared by the processes of one machine.
//!
//! Destroying a key must also take it out of the file's bytes. A B-tree that copies on write leaves old
//! pages behind, so destroying first commits the tombstone, commits once more so that no root of the file
//! reaches the old pages, and then, while it holds the write lock and no page can be taken again, overwrites
//! every copy of the key that is left in the file. A crash on the way is made good at the next opening: a
//! table says which keys are still to be overwritten, by their first bytes, inverted so that the search
//! does not find the table itself.
//!
//! What the disk itself keeps (flash that remaps, snapshots, backups of this file) is beyond a file's reach:
//! there the key stays wrapped by the key-encryption key, and destroying that one, after all keys were
//! wrapped anew under the next, ends it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use redb::{
    Builder, ConcurrencyMode, Database, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    TableDefinition, TableError, WriteTransaction,
};

use crate::SealError;
use crate::store::{KeyRecord, KeyStore, MakeKey, SubjectRef, WrappedKey};

const KEYS: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new("keys");
const COUNTS: TableDefinition<'_, &str, u64> = TableDefinition::new("counts");
const DESTROYED: &str = "destroyed";
const SCRUBS: &str = "scrubs";
/// First bytes, inverted, of destroyed keys that the file may still hold copies of.
const TO_SCRUB: TableDefinition<'_, [u8; 16], [u8; 16]> = TableDefinition::new("to_scrub");

/// The pages that redb keeps in memory; sealers have a cache of their own.
const CACHE_BYTES: usize = 8 * 1024 * 1024;
/// Length of [`WrappedKey::sealed`].
const SEALED_BYTES: usize = 48;
/// The file is searched in windows of this size.
const WINDOW_BYTES: usize = 1024 * 1024;

/// A store in one file.
pub struct FileKeyStore {
    path: PathBuf,
    database: Database,
}

impl std::fmt::Debug for FileKeyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileKeyStore")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl FileKeyStore {
    /// Opens the store in a file, which it makes (readable by its owner alone) if it is missing.
    ///
    /// # Errors
    /// [`SealError::Store`] if the file cannot be opened or is no store.
    pub fn open(path: &Path) -> Result<FileKeyStore, SealError> {
        // The file is made here for its mode; redb takes an empty file for a new one.
        let make = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path);
        make.and_then(|_| sync_name(path)).map_err(failed)?;
        let database = Builder::new()
            .set_cache_size(CACHE_BYTES)
            .set_concurrency_mode(ConcurrencyMode::MultiWriter)
            .create(path)
            .map_err(failed)?;
        let store = FileKeyStore {
            path: path.into(),
            database,
        };
        if store.is_scrub_due()? {
            store.scrub()?;
        }
        Ok(store)
    }

    fn find(&self, subjects: &[SubjectRef]) -> Result<Vec<Option<KeyRecord>>, SealError> {
        let reading = self.database.begin_read().map_err(failed)?;
        let table = match reading.open_table(KEYS) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(vec![None; subjects.len()]),
            table => table.map_err(failed)?,
        };
        subjects
            .iter()
            .map(|subject| record(&table, *subject))
            .collect()
    }

    /// Puts a tombstone in the place of a key, and notes that the file still holds copies of it.
    fn bury(&self, subject: SubjectRef) -> Result<bool, SealError> {
        let writing = self.database.begin_write().map_err(failed)?;
        {
            let mut table = writing.open_table(KEYS).map_err(failed)?;
            let Some(KeyRecord::Live(key)) = record(&table, subject)? else {
                return Ok(false);
            };
            let tombstone = KeyRecord::Erased(key.version).encode();
            table
                .insert(subject.0, tombstone.as_slice())
                .map_err(failed)?;
            let mut to_scrub = writing.open_table(TO_SCRUB).map_err(failed)?;
            let inverted: [u8; 16] = std::array::from_fn(|at| !key.sealed[at]);
            to_scrub.insert(subject.0, inverted).map_err(failed)?;
        }
        count(&writing, DESTROYED)?;
        writing.commit().map_err(failed)?;
        Ok(true)
    }

    fn is_scrub_due(&self) -> Result<bool, SealError> {
        let reading = self.database.begin_read().map_err(failed)?;
        match reading.open_table(TO_SCRUB) {
            Err(TableError::TableDoesNotExist(_)) => Ok(false),
            table => Ok(!table.map_err(failed)?.is_empty().map_err(failed)?),
        }
    }

    /// Overwrites what the file still holds of destroyed keys.
    fn scrub(&self) -> Result<(), SealError> {
        let writing = self.database.begin_write().map_err(failed)?;
        count(&writing, SCRUBS)?;
        writing.commit().map_err(failed)?;

        let writing = self.database.begin_write().map_err(failed)?;
        {
            let mut table = writing.open_table(TO_SCRUB).map_err(failed)?;
            let mut patterns = Vec::new();
            for entry in table.iter().map_err(failed)? {
                let (_, inverted) = entry.map_err(failed)?;
                patterns.push(inverted.value().map(|byte| !byte));
            }
            self.overwrite(&patterns).map_err(failed)?;
            table.retain(|_, _| false).map_err(failed)?;
        }
        writing.commit().map_err(failed)
    }

    /// Overwrites every key in the file that begins with one of `patterns`; the caller holds the write lock.
    fn overwrite(&self, patterns: &[[u8; 16]]) -> std::io::Result<()> {
        let file = OpenOptions::new().read(true).write(true).open(&self.path)?;
        let mut window = vec![0; WINDOW_BYTES + SEALED_BYTES];
        let mut at = 0;
        loop {
            let filled = read_at_most(&file, &mut window, at)?;
            for pattern in patterns {
                for found in find_all(&window[..filled], pattern) {
                    let length = SEALED_BYTES.min(filled - found);
                    file.write_all_at(&[0; SEALED_BYTES][..length], at + found as u64)?;
                }
            }
            if filled < window.len() {
                return file.sync_all();
            }
            at += WINDOW_BYTES as u64;
        }
    }
}

impl KeyStore for FileKeyStore {
    fn get(&self, subject: SubjectRef) -> Result<Option<KeyRecord>, SealError> {
        Ok(self.find(&[subject])?.pop().flatten())
    }

    fn get_or_create(
        &self,
        subjects: &[SubjectRef],
        make: &mut MakeKey<'_>,
    ) -> Result<Vec<WrappedKey>, SealError> {
        let known: Option<Vec<WrappedKey>> = self
            .find(subjects)?
            .into_iter()
            .map(|record| record.and_then(live))
            .collect();
        if let Some(keys) = known {
            return Ok(keys);
        }
        let writing = self.database.begin_write().map_err(failed)?;
        let mut keys = Vec::with_capacity(subjects.len());
        {
            let mut table = writing.open_table(KEYS).map_err(failed)?;
            for &subject in subjects {
                let key = match record(&table, subject)? {
                    Some(KeyRecord::Live(key)) => key,
                    record => {
                        let key = make(subject, KeyRecord::next_version(record.as_ref()))?;
                        let bytes = KeyRecord::Live(key.clone()).encode();
                        table.insert(subject.0, bytes.as_slice()).map_err(failed)?;
                        key
                    }
                };
                keys.push(key);
            }
        }
        writing.commit().map_err(failed)?;
        Ok(keys)
    }

    fn destroy(&self, subject: SubjectRef) -> Result<bool, SealError> {
        let was_live = self.bury(subject)?;
        if was_live {
            self.scrub()?;
        }
        Ok(was_live)
    }

    fn destroyed(&self) -> Result<u64, SealError> {
        let reading = self.database.begin_read().map_err(failed)?;
        let table = match reading.open_table(COUNTS) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(0),
            table => table.map_err(failed)?,
        };
        Ok(table
            .get(DESTROYED)
            .map_err(failed)?
            .map_or(0, |count| count.value()))
    }
}

fn record(
    table: &impl ReadableTable<[u8; 16], &'static [u8]>,
    subject: SubjectRef,
) -> Result<Option<KeyRecord>, SealError> {
    let Some(bytes) = table.get(subject.0).map_err(failed)? else {
        return Ok(None);
    };
    match KeyRecord::decode(bytes.value()) {
        None => Err(SealError::Store {
            reason: format!("the record of {subject:?} is malformed"),
        }),
        record => Ok(record),
    }
}

fn live(record: KeyRecord) -> Option<WrappedKey> {
    match record {
        KeyRecord::Live(key) => Some(key),
        KeyRecord::Erased(_) => None,
    }
}

fn count(writing: &WriteTransaction, name: &str) -> Result<(), SealError> {
    let mut table = writing.open_table(COUNTS).map_err(failed)?;
    let before = table
        .get(name)
        .map_err(failed)?
        .map_or(0, |count| count.value());
    table.insert(name, before + 1).map_err(failed)?;
    Ok(())
}

/// Makes the name of a file outlive a power failure.
pub(crate) fn sync_name(path: &Path) -> std::io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn failed(error: impl std::fmt::Display) -> SealError {
    SealError::Store {
        reason: error.to_string(),
    }
}

fn read_at_most(file: &File, buffer: &mut [u8], at: u64) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at + filled as u64)? {
            0 => break,
            more => filled += more,
        }
    }
    Ok(filled)
}

/// Returns where `pattern` begins in `bytes`.
fn find_all<'a>(bytes: &'a [u8], pattern: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let first = pattern[0];
    let starts = bytes
        .iter()
        .enumerate()
        .filter(move |(_, byte)| **byte == first);
    starts
        .map(|(at, _)| at)
        .filter(move |&at| bytes[at..].starts_with(pattern))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kek::KekVersion;
    use crate::store::KeyVersion;

    fn make(subject: SubjectRef, version: KeyVersion) -> Result<WrappedKey, SealError> {
        let mut sealed = [0; 48];
        crate::secret::random(&mut sealed)?;
        let check = [subject.0[0]; 32];
        Ok(WrappedKey {
            version,
            kek: KekVersion(1),
            nonce: [7; 24],
            sealed,
            check,
        })
    }

    fn copies(path: &Path, pattern: &[u8]) -> usize {
        find_all(&std::fs::read(path).unwrap(), pattern).count()
    }

    #[test]
    fn keys_outlive_the_store_and_are_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let subjects: Vec<_> = (0..100).map(|i| SubjectRef([i; 16])).collect();
        let store = FileKeyStore::open(&path).unwrap();
        assert_eq!(store.get(subjects[0]).unwrap(), None);
        let made = store.get_or_create(&subjects, &mut make).unwrap();
        drop(store);
        let store = FileKeyStore::open(&path).unwrap();
        let mut none = |_, _| panic!("every key is there");
        assert_eq!(store.get_or_create(&subjects, &mut none).unwrap(), made);
    }

    #[test]
    fn a_failing_maker_stores_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = FileKeyStore::open(&folder.path().join("keys")).unwrap();
        let (good, bad) = (SubjectRef([1; 16]), SubjectRef([2; 16]));
        let mut fails = |subject, version| {
            if subject == bad {
                Err(failed("no key"))
            } else {
                make(subject, version)
            }
        };
        assert!(store.get_or_create(&[good, bad], &mut fails).is_err());
        assert_eq!(store.get(good).unwrap(), None);
    }

    #[test]
    fn two_stores_on_one_file_agree() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let (one, two) = (
            FileKeyStore::open(&path).unwrap(),
            FileKeyStore::open(&path).unwrap(),
        );
        let subject = SubjectRef([9; 16]);
        let made = one.get_or_create(&[subject], &mut make).unwrap();
        assert_eq!(two.get_or_create(&[subject], &mut make).unwrap(), made);
        assert!(two.destroy(subject).unwrap());
        assert_eq!(one.destroyed().unwrap(), 1);
        assert_eq!(
            one.get(subject).unwrap(),
            Some(KeyRecord::Erased(KeyVersion(1)))
        );
    }

    #[test]
    fn no_byte_of_a_destroyed_key_stays_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let store = FileKeyStore::open(&path).unwrap();
        let subject = |i: u16| SubjectRef(std::array::from_fn(|at| i.to_be_bytes()[at % 2]));
        let mut keys = Vec::new();
        for batch in 0..20 {
            let subjects: Vec<_> = (0..100).map(|i| subject(batch * 100 + i)).collect();
            keys.extend(store.get_or_create(&subjects, &mut make).unwrap());
        }
        assert!(copies(&path, &keys[5].sealed) >= 1);
        assert!(store.destroy(subject(5)).unwrap());
        assert!(!store.destroy(subject(5)).unwrap());
        assert_eq!(copies(&path, &keys[5].sealed[..16]), 0);

        // A crash after the tombstone leaves copies, which the next opening overwrites.
        assert!(store.bury(subject(1999)).unwrap());
        assert!(copies(&path, &keys[1999].sealed) >= 1);
        drop(store);
        let store = FileKeyStore::open(&path).unwrap();
        assert_eq!(copies(&path, &keys[1999].sealed[..16]), 0);
        assert_eq!(copies(&path, &keys[5].sealed[..16]), 0);
        for (i, key) in keys.iter().enumerate() {
            let expected = match i {
                5 | 1999 => KeyRecord::Erased(KeyVersion(1)),
                _ => KeyRecord::Live(key.clone()),
            };
            assert_eq!(store.get(subject(i as u16)).unwrap(), Some(expected));
        }
        let again = store.get_or_create(&[subject(5)], &mut make).unwrap();
        assert_eq!(again[0].version, KeyVersion(2));
    }
}
