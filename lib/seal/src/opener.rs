//! Opening: what authorised readers do with sealed cells.

use schemas::{FieldId, SourceCoordinates};

use crate::cell::{self, Binding, CellKeys, Row};
use crate::secret::Derive;
use crate::store::{KeyRecord, KeyVersion, SubjectRef};
use crate::stream::{StreamKeys, Token};
use crate::{LETTER_FIELD, SealError, wrap};

/// Why a cell does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its bytes, place or subject are wrong, or the subject's key was destroyed: which of these is not said.
    #[error("the cell does not open")]
    Cell,
    /// The key store failed, so it is not known whether the cell would open.
    #[error("could not look up the key of the cell")]
    Store(#[source] SealError),
}

/// Opens the sealed cells of one stream.
#[derive(Debug)]
pub struct Opener {
    keys: StreamKeys,
}

impl Opener {
    /// Makes an opener from a stream's keys.
    pub fn new(keys: StreamKeys) -> Opener {
        Opener { keys }
    }

    /// Returns the keys that the opener was made with.
    pub fn keys(&self) -> &StreamKeys {
        &self.keys
    }

    /// Returns the plaintext of a cell.
    ///
    /// `source` is where the cell's event came from; `subject` the token of the subject's field for
    /// [`StreamKeys::COLUMN`], as the row has it or as a [`crate::Tokenizer`] makes it from the value;
    /// `None` for events without a subject.
    ///
    /// # Errors
    /// [`OpenError::Cell`] for whatever is wrong with the cell; no bytes make it panic.
    pub fn cell(
        &self,
        field: FieldId,
        source: SourceCoordinates,
        subject: Option<Token>,
        cell: &[u8],
    ) -> Result<Vec<u8>, OpenError> {
        let version = cell::key_version(cell).ok_or(OpenError::Cell)?;
        match subject {
            None => self.open_own(field, source, version, cell),
            Some(token) => {
                let reference = self.keys.subject(token);
                let derive = self.key(reference, version)?;
                self.open(&derive, field, source, reference, version, cell)
            }
        }
    }

    /// Returns the raw message of a dead letter.
    ///
    /// # Errors
    /// [`OpenError::Cell`] for whatever is wrong with the letter.
    pub fn letter(&self, source: SourceCoordinates, letter: &[u8]) -> Result<Vec<u8>, OpenError> {
        let version = cell::key_version(letter).ok_or(OpenError::Cell)?;
        self.open_own(LETTER_FIELD, source, version, letter)
    }

    fn key(&self, subject: SubjectRef, version: KeyVersion) -> Result<Derive, OpenError> {
        match self.keys.store().get(subject).map_err(OpenError::Store)? {
            Some(KeyRecord::Live(wrapped)) if wrapped.version == version => {
                wrap::unwrap(self.keys.ring(), subject, &wrapped).map_err(|_| OpenError::Cell)
            }
            _ => Err(OpenError::Cell),
        }
    }

    fn open_own(
        &self,
        field: FieldId,
        source: SourceCoordinates,
        version: KeyVersion,
        cell: &[u8],
    ) -> Result<Vec<u8>, OpenError> {
        if version != self.keys.own_version() {
            return Err(OpenError::Cell);
        }
        self.open(
            self.keys.own_key(),
            field,
            source,
            self.keys.own_ref(),
            version,
            cell,
        )
    }

    fn open(
        &self,
        key: &Derive,
        field: FieldId,
        source: SourceCoordinates,
        subject: SubjectRef,
        version: KeyVersion,
        cell: &[u8],
    ) -> Result<Vec<u8>, OpenError> {
        let keys = CellKeys::derive(key, field);
        let mut binding = Binding::new(self.keys.id(), field, source.topic_id, source.partition);
        let row = Row {
            offset: source.offset,
            subject,
            version,
        };
        cell::open(&keys, &mut binding, row, cell).ok_or(OpenError::Cell)
    }
}
