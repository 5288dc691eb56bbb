//! Where wrapped subject keys live: an interface that a database can take the place of, and the store in
//! memory that tests and the simulator use.
//!
//! A store sees references and wrapped keys alone, never a subject's name nor a key in the clear.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard};

use crate::SealError;
use crate::kek::KekVersion;

/// The keyed hash that stands for a subject in the key store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubjectRef(pub [u8; 16]);

impl fmt::Debug for SubjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The version of a subject's key: 1 at first, and each erasure makes the next key 1 higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyVersion(pub u32);

/// A subject's key as it is stored: encrypted under a key-encryption key, with its check beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    /// Version of the subject's key.
    pub version: KeyVersion,
    /// Version of the key-encryption key that wraps it.
    pub kek: KekVersion,
    /// Nonce of the wrapping.
    pub nonce: [u8; 24],
    /// The encrypted key and its tag.
    pub sealed: [u8; 48],
    /// Commits to the key: Poly1305 alone does not.
    pub check: [u8; 32],
}

/// What a store knows of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRecord {
    /// Its key.
    Live(WrappedKey),
    /// Its key had this version and was destroyed.
    Erased(KeyVersion),
}

impl KeyRecord {
    /// Format of a record; the first byte of each.
    const FORMAT: u8 = 1;
    const LIVE: u8 = 1;
    const ERASED: u8 = 2;

    /// Returns the record as bytes: format, state, key version, and for a live key KEK version, nonce,
    /// encrypted key and check. Numbers are big-endian.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![KeyRecord::FORMAT];
        match self {
            KeyRecord::Live(key) => {
                bytes.push(KeyRecord::LIVE);
                bytes.extend_from_slice(&key.version.0.to_be_bytes());
                bytes.extend_from_slice(&key.kek.0.to_be_bytes());
                bytes.extend_from_slice(&key.nonce);
                bytes.extend_from_slice(&key.sealed);
                bytes.extend_from_slice(&key.check);
            }
            KeyRecord::Erased(version) => {
                bytes.push(KeyRecord::ERASED);
                bytes.extend_from_slice(&version.0.to_be_bytes());
            }
        }
        bytes
    }

    /// Reads a record; `None` if it is none.
    pub fn decode(bytes: &[u8]) -> Option<KeyRecord> {
        let (&format, bytes) = bytes.split_first()?;
        let (&state, bytes) = bytes.split_first()?;
        let (version, bytes) = bytes.split_first_chunk()?;
        let version = KeyVersion(u32::from_be_bytes(*version));
        match (format, state) {
            (KeyRecord::FORMAT, KeyRecord::LIVE) => {
                let (kek, bytes) = bytes.split_first_chunk()?;
                let (nonce, bytes) = bytes.split_first_chunk()?;
                let (sealed, bytes) = bytes.split_first_chunk()?;
                let kek = KekVersion(u32::from_be_bytes(*kek));
                let check = bytes.try_into().ok()?;
                Some(KeyRecord::Live(WrappedKey {
                    version,
                    kek,
                    nonce: *nonce,
                    sealed: *sealed,
                    check,
                }))
            }
            (KeyRecord::FORMAT, KeyRecord::ERASED) if bytes.is_empty() => {
                Some(KeyRecord::Erased(version))
            }
            _ => None,
        }
    }

    /// Returns the version that the key after this one has.
    pub(crate) fn next_version(record: Option<&KeyRecord>) -> KeyVersion {
        match record {
            None => KeyVersion(1),
            Some(KeyRecord::Live(WrappedKey { version, .. }) | KeyRecord::Erased(version)) => {
                KeyVersion(version.0.saturating_add(1))
            }
        }
    }
}

/// Makes the wrapped key of a subject, in the version that it is given.
pub type MakeKey<'a> = dyn FnMut(SubjectRef, KeyVersion) -> Result<WrappedKey, SealError> + 'a;

/// Where wrapped subject keys live.
///
/// Several processes may share a store. What a call returned is durable: it outlives a crash.
pub trait KeyStore: Send + Sync {
    /// Returns what is known of a subject.
    ///
    /// # Errors
    /// [`SealError::Store`] if the store fails.
    fn get(&self, subject: SubjectRef) -> Result<Option<KeyRecord>, SealError>;

    /// Returns the subjects' keys, in their order, and makes those that are missing or erased in one
    /// durable commit.
    ///
    /// # Errors
    /// [`SealError::Store`] if the store fails, and any error of `make`; nothing was stored then.
    fn get_or_create(
        &self,
        subjects: &[SubjectRef],
        make: &mut MakeKey<'_>,
    ) -> Result<Vec<WrappedKey>, SealError>;

    /// Destroys a subject's key for good and leaves a tombstone; returns whether there was a key.
    ///
    /// # Errors
    /// [`SealError::Store`] if the store fails; the key may or may not be destroyed then: call again.
    fn destroy(&self, subject: SubjectRef) -> Result<bool, SealError>;

    /// Returns how many keys were ever destroyed: whoever keeps keys in memory drops them when it changes.
    ///
    /// # Errors
    /// [`SealError::Store`] if the store fails.
    fn destroyed(&self) -> Result<u64, SealError>;
}

/// A store that ends with the process.
#[derive(Debug, Default)]
pub struct MemoryKeyStore {
    state: Mutex<MemoryState>,
}

#[derive(Debug, Default)]
struct MemoryState {
    records: HashMap<SubjectRef, KeyRecord>,
    destroyed: u64,
}

impl MemoryKeyStore {
    /// Makes an empty store.
    pub fn new() -> MemoryKeyStore {
        MemoryKeyStore::default()
    }

    fn lock(&self) -> MutexGuard<'_, MemoryState> {
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl KeyStore for MemoryKeyStore {
    fn get(&self, subject: SubjectRef) -> Result<Option<KeyRecord>, SealError> {
        Ok(self.lock().records.get(&subject).cloned())
    }

    fn get_or_create(
        &self,
        subjects: &[SubjectRef],
        make: &mut MakeKey<'_>,
    ) -> Result<Vec<WrappedKey>, SealError> {
        let mut state = self.lock();
        let mut made = HashMap::new();
        let mut keys = Vec::with_capacity(subjects.len());
        for &subject in subjects {
            let record = made.get(&subject).or_else(|| state.records.get(&subject));
            let key = match record {
                Some(KeyRecord::Live(key)) => key.clone(),
                record => {
                    let key = make(subject, KeyRecord::next_version(record))?;
                    made.insert(subject, KeyRecord::Live(key.clone()));
                    key
                }
            };
            keys.push(key);
        }
        state.records.extend(made);
        Ok(keys)
    }

    fn destroy(&self, subject: SubjectRef) -> Result<bool, SealError> {
        let mut state = self.lock();
        let Some(KeyRecord::Live(key)) = state.records.get(&subject) else {
            return Ok(false);
        };
        let version = key.version;
        state.records.insert(subject, KeyRecord::Erased(version));
        state.destroyed += 1;
        Ok(true)
    }

    fn destroyed(&self) -> Result<u64, SealError> {
        Ok(self.lock().destroyed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_a_round_trip_and_nothing_else_decodes() {
        let live = KeyRecord::Live(WrappedKey {
            version: KeyVersion(3),
            kek: KekVersion(2),
            nonce: [4; 24],
            sealed: [5; 48],
            check: [6; 32],
        });
        for record in [live, KeyRecord::Erased(KeyVersion(9))] {
            let bytes = record.encode();
            assert_eq!(KeyRecord::decode(&bytes), Some(record));
            for cut in 0..bytes.len() {
                assert_eq!(KeyRecord::decode(&bytes[..cut]), None);
            }
            let longer = [bytes.as_slice(), &[0]].concat();
            assert_eq!(KeyRecord::decode(&longer), None);
        }
    }
}
