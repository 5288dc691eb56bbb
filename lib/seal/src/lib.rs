//! Sealed cells, tokens, the keys behind them, and their destruction.
//!
//! Plaintext and the coordinates of its event go into a [`Sealer`]; sealed cells come out, which open in no
//! other row, field or table. An [`Opener`] gives authorised readers the plaintext back. A [`Tokenizer`]
//! makes keyed pseudonyms, which open for nobody.
//!
//! ```text
//! key file ── key-encryption key ──wraps──► key store: one key per subject, one for the stream itself
//!                                            │ HKDF-SHA256                        │ HKDF-SHA256
//!                                            ▼                                    ▼
//!                                 cipher and nonce key of each field     tokens, subject references,
//!                                                                        dead letters, events without subject
//! ```
//!
//! What this crate never does: try several keys on a cell, print a key, keep a subject's name (the store knows
//! keyed hashes alone), or say why a cell does not open.
//!
//! ```
//! use std::sync::Arc;
//! use schemas::{FieldId, Offset, Partition, SourceCoordinates, TopicId};
//! use seal::{CellBuffer, Keyring, MemoryKeyStore, Opener, SealedField, Sealer, StreamId, StreamKeys};
//!
//! let ring = Arc::new(Keyring::generate()?);
//! let keys = StreamKeys::open_or_create(StreamId::new("demo", "flights")?, ring, Arc::new(MemoryKeyStore::new()))?;
//! let (field, topic, partition) = (FieldId(6), TopicId([7; 16]), Partition(0));
//! let subject = keys.tokenizer(field, StreamKeys::COLUMN).token(b"N12345");
//!
//! let mut sealer = Sealer::new(keys.clone(), &[SealedField { id: field, pad_to: 16 }], 1000)?;
//! let (mut slots, mut cells) = (Vec::new(), CellBuffer::new());
//! sealer.resolve(&[Some(subject)], &mut slots)?;
//! sealer.column(field, topic, partition)?.seal(Offset(42), slots[0], b"N12345", &mut cells)?;
//!
//! let source = SourceCoordinates { topic_id: topic, partition, offset: Offset(42) };
//! let opener = Opener::new(keys.clone());
//! assert_eq!(opener.cell(field, source, Some(subject), &cells.data)?, b"N12345");
//! keys.erase(subject)?;
//! assert!(opener.cell(field, source, Some(subject), &cells.data).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod cell;
mod file;
mod kek;
mod opener;
mod sealer;
mod secret;
mod store;
mod stream;
mod wrap;
mod xchacha;

pub use cell::CELL_OVERHEAD;
pub use file::FileKeyStore;
pub use kek::{KekVersion, KeyFile, KeyFileError, Keyring};
pub use opener::{OpenError, Opener};
pub use sealer::{CACHED_SUBJECTS_MAX, CellBuffer, ColumnSealer, SealedField, Sealer, Slot};
pub use store::{KeyRecord, KeyStore, KeyVersion, MakeKey, MemoryKeyStore, SubjectRef, WrappedKey};
pub use stream::{StreamId, StreamKeys, Token, Tokenizer};

use schemas::FieldId;

/// The field id of dead letters, which no contract may give a field.
pub const LETTER_FIELD: FieldId = FieldId(0);

/// What went wrong with keys or with sealing; shows no secret.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key file cannot be made or used.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// The operating system gives no randomness.
    #[error("the operating system gave no random bytes: {reason}")]
    Random {
        /// What it said.
        reason: String,
    },
    /// The key store failed; a later try may succeed.
    #[error("the key store failed: {reason}")]
    Store {
        /// What it said.
        reason: String,
    },
    /// The key store does not know the stream.
    #[error("the key store has no key for the stream `{dataset}` of tenant `{tenant}`")]
    NoStream {
        /// The stream's tenant.
        tenant: String,
        /// The stream's name.
        dataset: String,
    },
    /// A key was wrapped under a key-encryption key that the key file does not have.
    #[error("the key file has no version {}, which wraps a key in the store", version.0)]
    UnknownKek {
        /// Version of the key-encryption key.
        version: KekVersion,
    },
    /// A key does not unwrap: the key file is another store's, or the store is damaged.
    #[error("the key of {subject:?} does not unwrap with version {} of the key file", kek.0)]
    Unwrap {
        /// Whose key it is.
        subject: SubjectRef,
        /// Version of the key-encryption key.
        kek: KekVersion,
    },
    /// A tenant or stream has a bad name.
    #[error("a name of {bytes} bytes is not between 1 and {bytes_max} bytes long")]
    Name {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        bytes_max: usize,
    },
    /// A field is not sealed by this sealer, is named twice or has the reserved id 0.
    #[error("field {field} is not, or not once, among the fields to be sealed")]
    Field {
        /// The field.
        field: FieldId,
    },
    /// A slot is of another batch than the one that was resolved last.
    #[error("a subject's slot is of an earlier batch")]
    StaleSlot,
    /// A plaintext or a column is too long.
    #[error("{bytes} bytes are too many for a sealed column")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
}

impl SealError {
    /// A store broke its promise to answer for every subject.
    pub(crate) fn short_answer() -> SealError {
        SealError::Store {
            reason: "it answered for fewer subjects than it was asked".into(),
        }
    }
}
