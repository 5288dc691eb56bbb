//! Sealed cells and letters, key records and key files: a record, a key file and a cell, each with its length before it.
//!
//! Whatever the bytes, they open to what was sealed, or not at all.

use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, LazyLock};

use schemas::{FieldId, Offset, Partition, SourceCoordinates, TopicId};
use seal::{
    KeyFile, KeyRecord, KeyStore, Keyring, MakeKey, Opener, SealError, Sealer, StreamId,
    StreamKeys, SubjectRef, Token, WrappedKey,
};

/// Where the event of every cell is.
pub const SOURCE: SourceCoordinates = SourceCoordinates {
    topic_id: TopicId([7; 16]),
    partition: Partition(0),
    offset: Offset(42),
};

/// The stream's keys, the same in every run.
pub static KEYS: LazyLock<StreamKeys> = LazyLock::new(|| {
    let id = StreamId::new("fuzz", "flights").expect("these are names");
    StreamKeys::of_a_trial(id).expect("the trial's key unwraps")
});

/// A store that knows one record of everybody.
struct Given(KeyRecord);

impl KeyStore for Given {
    fn get(&self, _: SubjectRef) -> Result<Option<KeyRecord>, SealError> {
        Ok(Some(self.0.clone()))
    }

    fn get_or_create(
        &self,
        subjects: &[SubjectRef],
        make: &mut MakeKey<'_>,
    ) -> Result<Vec<WrappedKey>, SealError> {
        let KeyRecord::Live(key) = &self.0 else {
            let made = subjects.iter().map(|of| make(*of, seal::KeyVersion(1)));
            return made.collect();
        };
        Ok(vec![key.clone(); subjects.len()])
    }

    fn destroy(&self, _: SubjectRef) -> Result<bool, SealError> {
        Ok(false)
    }

    fn destroyed(&self) -> Result<u64, SealError> {
        Ok(0)
    }
}

/// Reads a key record, a key file and a cell; seals the cell's bytes and opens them.
pub fn run(mut data: &[u8]) {
    let (record, file) = (super::part(&mut data), super::part(&mut data));
    if let Some(record) = KeyRecord::decode(record) {
        assert!(KeyRecord::decode(&record.encode()).as_ref() == Some(&record));
        let id = StreamId::new("fuzz", "flights").expect("these are names");
        let ring = Arc::new(Keyring::of([0; 32]));
        if let Ok(keys) = StreamKeys::open_or_create(id, ring, Arc::new(Given(record))) {
            open(keys, data);
        }
    }
    key_file(file);
    open(KEYS.clone(), data);
    let sealer = Sealer::new(KEYS.clone(), &[], 1).expect("no field is wrong");
    let mut letter = Vec::new();
    sealer
        .seal_letter(SOURCE, data, &mut letter)
        .expect("it is short");
    let opener = Opener::new(KEYS.clone());
    assert_eq!(opener.letter(SOURCE, &letter).ok().as_deref(), Some(data));
    let at = data.first().map_or(0, |byte| usize::from(*byte)) % letter.len();
    letter[at] ^= 1;
    assert!(opener.letter(SOURCE, &letter).is_err());
}

fn open(keys: StreamKeys, cell: &[u8]) {
    let opener = Opener::new(keys);
    let _ = opener.letter(SOURCE, cell);
    for subject in [None, Some(Token([1; 16]))] {
        let _ = opener.cell(FieldId(6), SOURCE, subject, cell);
    }
}

fn key_file(text: &[u8]) {
    let folder = tempfile::tempdir().expect("there is a folder for temporary files");
    let path = folder.path().join("kek");
    std::fs::write(&path, text).expect("the file can be written");
    let owner = PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&path, owner).expect("it is our file");
    if let Ok(ring) = KeyFile::read(&path) {
        assert!(!format!("{ring:?}").is_empty());
    }
}
