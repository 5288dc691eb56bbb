//! The sealed cell: one plain binary value, the same in topic and Parquet.
//!
//! ```text
//! version 1 | suite 1 | key version 4 | nonce 24 | ciphertext | tag 16        (bytes; numbers big-endian)
//! ```
//!
//! The tag also covers associated data, each part with its length (2 bytes) before it: magic, tenant, dataset,
//! field id, source topic id, partition, offset, subject reference and the first 6 bytes. So a cell opens
//! in no other row, field or table, and for no other subject. The nonce is a keyed hash of associated data
//! and padded plaintext: a replay seals to the same bytes, and no nonce meets two plaintexts. Its key is
//! derived from the subject's, so when that one is destroyed, not even a guess at the plaintext can be
//! checked against the nonce. What it hashes (with BLAKE3) is 24 bytes that stand for the column (the hash of
//! the parts up to the partition), the offset and the plaintext: one block for most cells. Subject
//! reference and key version are in it through the key, which no other subject or version has.
//!
//! The plaintext is padded with the byte 0x80 and zeros to a multiple of the contract's bucket, so a
//! cell's length says little, and the padding comes off without doubt.

use schemas::{FieldId, Offset, Partition, TopicId};

use crate::secret::{Derive, Secret, push_part};
use crate::store::{KeyVersion, SubjectRef};
use crate::stream::StreamId;
use crate::xchacha::{self, NONCE_BYTES, TAG_BYTES};

/// Version of the cell's format.
const VERSION: u8 = 1;
/// XChaCha20-Poly1305.
const SUITE: u8 = 1;
const MAGIC: &[u8] = b"thalweg cell";
const HEAD_BYTES: usize = 6;
/// Offset, subject reference and head, each with its length.
const ROW_BYTES: usize = 2 + 8 + 2 + 16 + 2 + HEAD_BYTES;

/// Bytes that a cell has beyond its padded plaintext.
pub const CELL_OVERHEAD: usize = HEAD_BYTES + NONCE_BYTES + TAG_BYTES;

/// The keys of one field of one subject.
#[derive(Clone)]
pub(crate) struct CellKeys {
    cipher: Secret,
    nonce: Secret,
}

impl CellKeys {
    /// Stands in a place until the keys are there; seals nothing.
    pub(crate) fn none() -> CellKeys {
        CellKeys {
            cipher: Secret::of([0; 32]),
            nonce: Secret::of([0; 32]),
        }
    }

    pub(crate) fn derive(subject: &Derive, field: FieldId) -> CellKeys {
        let id = field.0.to_be_bytes();
        CellKeys {
            cipher: subject.key("cell cipher", &[&id]),
            nonce: subject.key("cell nonce", &[&id]),
        }
    }
}

/// What cells of one field and source partition are bound to; the row's part is set for each cell.
pub(crate) struct Binding {
    /// The associated data.
    bytes: Vec<u8>,
    row_at: usize,
    /// What the nonce is made of: the column's hash, the offset, the padded plaintext.
    hashed: Vec<u8>,
}

/// Bytes of the column's hash, and with the offset behind it.
const COLUMN_BYTES: usize = 24;
const PLAINTEXT_AT: usize = COLUMN_BYTES + 8;

impl Binding {
    pub(crate) fn new(
        stream: &StreamId,
        field: FieldId,
        topic: TopicId,
        partition: Partition,
    ) -> Binding {
        let mut bytes = Vec::with_capacity(256);
        push_part(&mut bytes, MAGIC);
        push_part(&mut bytes, stream.tenant().as_bytes());
        push_part(&mut bytes, stream.dataset().as_bytes());
        push_part(&mut bytes, &field.0.to_be_bytes());
        push_part(&mut bytes, &topic.0);
        push_part(&mut bytes, &partition.0.to_be_bytes());
        let column = blake3::hash(&bytes);
        let mut hashed = Vec::with_capacity(256);
        hashed.extend_from_slice(&column.as_bytes()[..COLUMN_BYTES]);
        hashed.resize(PLAINTEXT_AT, 0);
        let row_at = bytes.len();
        push_part(&mut bytes, &[0; 8]);
        push_part(&mut bytes, &[0; 16]);
        push_part(&mut bytes, &[0; HEAD_BYTES]);
        Binding {
            bytes,
            row_at,
            hashed,
        }
    }

    /// Sets the row's part, and takes away the plaintext of the row before.
    fn set_row(&mut self, row: Row) {
        let offset = row.offset.0.to_be_bytes();
        self.hashed.truncate(PLAINTEXT_AT);
        self.hashed[COLUMN_BYTES..].copy_from_slice(&offset);
        let bytes: &mut [u8; ROW_BYTES] = self.bytes[self.row_at..]
            .first_chunk_mut()
            .expect("made so");
        bytes[2..10].copy_from_slice(&offset);
        bytes[12..28].copy_from_slice(&row.subject.0);
        bytes[30..].copy_from_slice(&head(row.version));
    }

    fn nonce(&self, keys: &CellKeys) -> [u8; NONCE_BYTES] {
        let hash = blake3::keyed_hash(keys.nonce.bytes(), &self.hashed);
        *hash.as_bytes().first_chunk().expect("24 is below 32")
    }
}

/// Where a cell belongs within its column.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) offset: Offset,
    pub(crate) subject: SubjectRef,
    pub(crate) version: KeyVersion,
}

/// Appends the sealed cell of `plaintext` to `out`.
pub(crate) fn seal(
    keys: &CellKeys,
    binding: &mut Binding,
    row: Row,
    plaintext: &[u8],
    pad_to: usize,
    out: &mut Vec<u8>,
) {
    binding.set_row(row);
    binding.hashed.extend_from_slice(plaintext);
    binding.hashed.push(0x80);
    let padded = (plaintext.len() + 1).next_multiple_of(pad_to.max(1));
    binding.hashed.resize(PLAINTEXT_AT + padded, 0);
    let nonce = binding.nonce(keys);
    out.reserve(CELL_OVERHEAD + padded);
    out.extend_from_slice(&head(row.version));
    out.extend_from_slice(&nonce);
    let body = out.len();
    out.extend_from_slice(&binding.hashed[PLAINTEXT_AT..]);
    let tag = xchacha::seal(&keys.cipher, &nonce, &binding.bytes, &mut out[body..]);
    out.extend_from_slice(&tag);
}

/// Returns the version of the key that sealed a cell; `None` if it is no cell.
pub(crate) fn key_version(cell: &[u8]) -> Option<KeyVersion> {
    let (head, rest) = cell.split_first_chunk::<HEAD_BYTES>()?;
    let [VERSION, SUITE, version @ ..] = head else {
        return None;
    };
    // Padding makes the ciphertext one byte long at least.
    (NONCE_BYTES + TAG_BYTES < rest.len()).then_some(KeyVersion(u32::from_be_bytes(*version)))
}

/// Returns the plaintext of a cell, or `None` if anything about it is wrong.
pub(crate) fn open(
    keys: &CellKeys,
    binding: &mut Binding,
    row: Row,
    cell: &[u8],
) -> Option<Vec<u8>> {
    if key_version(cell)? != row.version {
        return None;
    }
    let (nonce, rest) = cell[HEAD_BYTES..].split_first_chunk::<NONCE_BYTES>()?;
    let (body, tag) = rest.split_last_chunk::<TAG_BYTES>()?;
    binding.set_row(row);
    let mut plaintext = body.to_vec();
    xchacha::open(&keys.cipher, nonce, &binding.bytes, &mut plaintext, tag)?;
    binding.hashed.extend_from_slice(&plaintext);
    // Both sides are known to whoever holds the key: no need for constant time.
    if binding.nonce(keys) != *nonce {
        return None;
    }
    let end = plaintext.iter().rposition(|byte| *byte != 0)?;
    if plaintext[end] != 0x80 {
        return None;
    }
    plaintext.truncate(end);
    Some(plaintext)
}

fn head(version: KeyVersion) -> [u8; HEAD_BYTES] {
    let [a, b, c, d] = version.0.to_be_bytes();
    [VERSION, SUITE, a, b, c, d]
}
