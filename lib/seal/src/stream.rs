//! The stream's own key, and what is derived from it: tokens and subject references.

use std::sync::Arc;

use schemas::FieldId;

use crate::SealError;
use crate::kek::Keyring;
use crate::secret::{Derive, Secret};
use crate::store::{KeyRecord, KeyStore, KeyVersion, MemoryKeyStore, SubjectRef};
use crate::wrap;

/// Most bytes of a tenant's or dataset's name.
const NAME_BYTES_MAX: usize = 255;

/// Whose stream it is and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamId {
    tenant: String,
    dataset: String,
}

impl StreamId {
    /// Names a stream; `dataset` is the stream's name in its contract.
    ///
    /// # Errors
    /// [`SealError::Name`] if a name is empty or longer than 255 bytes.
    pub fn new(tenant: &str, dataset: &str) -> Result<StreamId, SealError> {
        for name in [tenant, dataset] {
            if name.is_empty() || NAME_BYTES_MAX < name.len() {
                return Err(SealError::Name {
                    bytes: name.len(),
                    bytes_max: NAME_BYTES_MAX,
                });
            }
        }
        Ok(StreamId {
            tenant: tenant.into(),
            dataset: dataset.into(),
        })
    }

    /// Returns the tenant's name.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Returns the dataset's name: the stream's.
    pub fn dataset(&self) -> &str {
        &self.dataset
    }

    /// The reference under which the store keeps the stream's own key: no secret, for it names no person.
    fn own_ref(&self) -> SubjectRef {
        let mut bytes = Vec::with_capacity(64);
        crate::secret::push_part(&mut bytes, self.tenant.as_bytes());
        crate::secret::push_part(&mut bytes, self.dataset.as_bytes());
        let hash = blake3::derive_key("thalweg 2026 seal stream reference 1", &bytes);
        SubjectRef(*hash.first_chunk().expect("16 is below 32"))
    }
}

/// A keyed pseudonym of a value: equal for equal values of one field and purpose, and linked to nothing else.
///
/// It is no encryption: whoever holds the stream's key can try values. It outlives the erasure of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub [u8; 16]);

/// Makes the tokens of one field for one purpose.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    key: Secret,
}

impl Tokenizer {
    /// Returns the token of a value: the first 16 bytes of its keyed BLAKE3.
    pub fn token(&self, value: &[u8]) -> Token {
        let hash = blake3::keyed_hash(self.key.bytes(), value);
        Token(*hash.as_bytes().first_chunk().expect("16 is below 32"))
    }
}

/// A stream's keys: its own, and the way to those of its subjects.
#[derive(Clone)]
pub struct StreamKeys {
    id: StreamId,
    ring: Arc<Keyring>,
    store: Arc<dyn KeyStore>,
    own: OwnKey,
}

/// The stream's own key and what was derived from it.
#[derive(Clone)]
struct OwnKey {
    version: KeyVersion,
    derive: Arc<Derive>,
    subjects: Secret,
}

impl std::fmt::Debug for StreamKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamKeys")
            .field("id", &self.id)
            .field("ring", &self.ring)
            .finish_non_exhaustive()
    }
}

impl StreamKeys {
    /// Purpose of the tokens that stand in `<field>_token` columns.
    pub const COLUMN: &str = "column";

    /// Opens a stream's keys, and makes its own key if it has none yet.
    ///
    /// # Errors
    /// [`SealError`] if the store fails, or if the ring does not unwrap the stream's key.
    pub fn open_or_create(
        id: StreamId,
        ring: Arc<Keyring>,
        store: Arc<dyn KeyStore>,
    ) -> Result<StreamKeys, SealError> {
        let subject = id.own_ref();
        let mut make = |subject, version| wrap::create(&ring, subject, version);
        let keys = store.get_or_create(&[subject], &mut make)?;
        let wrapped = keys
            .into_iter()
            .next()
            .ok_or_else(SealError::short_answer)?;
        StreamKeys::of(id, ring, store, &wrapped)
    }

    /// Makes keys that everybody knows and nobody keeps: tokens are the same every time, and what is sealed protects
    /// nothing. For trials that write nothing.
    ///
    /// # Errors
    /// None that can come; [`SealError`] if the key did not unwrap.
    pub fn of_a_trial(id: StreamId) -> Result<StreamKeys, SealError> {
        let (ring, key) = (Keyring::of([0; 32]), Secret::of([0; 32]));
        let wrapped = wrap::wrap(&ring, id.own_ref(), KeyVersion(1), &key, [0; 24]);
        let store = Arc::new(MemoryKeyStore::new());
        StreamKeys::of(id, Arc::new(ring), store, &wrapped)
    }

    /// Opens the keys of a stream that has some, as a reader does.
    ///
    /// # Errors
    /// [`SealError::NoStream`] if the store does not know the stream; else as [`StreamKeys::open_or_create`].
    pub fn open(
        id: StreamId,
        ring: Arc<Keyring>,
        store: Arc<dyn KeyStore>,
    ) -> Result<StreamKeys, SealError> {
        match store.get(id.own_ref())? {
            Some(KeyRecord::Live(wrapped)) => StreamKeys::of(id, ring, store, &wrapped),
            _ => Err(SealError::NoStream {
                tenant: id.tenant,
                dataset: id.dataset,
            }),
        }
    }

    fn of(
        id: StreamId,
        ring: Arc<Keyring>,
        store: Arc<dyn KeyStore>,
        wrapped: &crate::store::WrappedKey,
    ) -> Result<StreamKeys, SealError> {
        let derive = wrap::unwrap(&ring, id.own_ref(), wrapped)?;
        let subjects = derive.key("subject", &[]);
        let own = OwnKey {
            version: wrapped.version,
            derive: Arc::new(derive),
            subjects,
        };
        Ok(StreamKeys {
            id,
            ring,
            store,
            own,
        })
    }

    /// Returns the maker of the tokens of a field for a purpose ([`StreamKeys::COLUMN`], say).
    pub fn tokenizer(&self, field: FieldId, purpose: &str) -> Tokenizer {
        let purpose = &purpose.as_bytes()[..purpose.len().min(NAME_BYTES_MAX)];
        Tokenizer {
            key: self
                .own
                .derive
                .key("token", &[&field.0.to_be_bytes(), purpose]),
        }
    }

    /// Returns the reference of a subject, whose token is that of the subject's field for
    /// [`StreamKeys::COLUMN`].
    ///
    /// So whoever holds the stream's key gets from a row's token to its subject, and nobody else does.
    pub fn subject(&self, token: Token) -> SubjectRef {
        let hash = blake3::keyed_hash(self.own.subjects.bytes(), &token.0);
        SubjectRef(*hash.as_bytes().first_chunk().expect("16 is below 32"))
    }

    /// Destroys a subject's key: all that was sealed for this subject stays unreadable for ever.
    ///
    /// Returns whether there was a key. A later event of the same subject gets a new key.
    ///
    /// # Errors
    /// [`SealError::Store`] if the store fails; call again then.
    pub fn erase(&self, token: Token) -> Result<bool, SealError> {
        self.store.destroy(self.subject(token))
    }

    /// Returns what the store knows of a subject.
    ///
    /// # Errors
    /// [`SealError::Store`] if the store fails.
    pub fn record(&self, token: Token) -> Result<Option<KeyRecord>, SealError> {
        self.store.get(self.subject(token))
    }

    pub(crate) fn id(&self) -> &StreamId {
        &self.id
    }

    pub(crate) fn store(&self) -> &dyn KeyStore {
        self.store.as_ref()
    }

    pub(crate) fn ring(&self) -> &Keyring {
        &self.ring
    }

    pub(crate) fn own_ref(&self) -> SubjectRef {
        self.id.own_ref()
    }

    pub(crate) fn own_version(&self) -> KeyVersion {
        self.own.version
    }

    pub(crate) fn own_key(&self) -> &Derive {
        &self.own.derive
    }
}
