//! Sealing: columns of plaintext go in, columns of sealed cells come out.
//!
//! For each batch the caller first resolves its subjects ([`Sealer::resolve`]): keys that are missing are made
//! in one durable commit, before any cell sealed with them can leave. Then it seals column after column;
//! that path takes no lock, does no I/O and allocates nothing but the growth of the buffer.
//!
//! Derived keys are kept in a bounded cache of two generations: what is used lives in the young one; when
//! that is full, it becomes the old one, whose entries either move back when they are used or go with it.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use schemas::{FieldId, Partition, SourceCoordinates, TopicId};

use crate::SealError;
use crate::cell::{self, Binding, CellKeys, Row};
use crate::store::{KeyVersion, SubjectRef};
use crate::stream::{StreamKeys, Token};
use crate::{LETTER_FIELD, wrap};

/// Subjects whose keys stay in memory: 65,536 take about 12 MB for one sealed field.
pub const CACHED_SUBJECTS_MAX: usize = 65_536;
/// Cells longer than this are refused; Kafka's messages are far below it.
const PLAINTEXT_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Dead letters are padded to a multiple of this.
const LETTER_PAD_TO: usize = 64;

/// A field that is to be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedField {
    /// The field's id in the contract; 0 is reserved for dead letters.
    pub id: FieldId,
    /// The plaintext is padded to a multiple of this many bytes.
    pub pad_to: usize,
}

/// A subject of the batch that was resolved last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    index: u32,
    batch: u32,
}

/// Cells of one column, end to end, as Arrow's binary arrays have them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellBuffer {
    /// The bytes of all cells.
    pub data: Vec<u8>,
    /// Where each cell begins, and at last where the last ends; never empty.
    pub offsets: Vec<i32>,
}

impl CellBuffer {
    /// Makes an empty buffer.
    pub fn new() -> CellBuffer {
        CellBuffer {
            data: Vec::new(),
            offsets: vec![0],
        }
    }

    /// Empties the buffer and keeps its memory.
    pub fn clear(&mut self) {
        self.data.clear();
        self.offsets.truncate(1);
    }

    /// Appends an empty cell, which stands for null.
    pub fn push_null(&mut self) {
        self.offsets.push(self.data.len() as i32);
    }

    /// Returns how many cells there are.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Returns whether there is no cell.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for CellBuffer {
    fn default() -> CellBuffer {
        CellBuffer::new()
    }
}

/// Seals the fields of one stream.
pub struct Sealer {
    keys: StreamKeys,
    fields: Vec<SealedField>,
    cache: Cache,
    destroyed: u64,
    batch: u32,
}

impl Sealer {
    /// Makes a sealer that keeps the keys of about `cached_subjects_max` subjects in memory
    /// ([`CACHED_SUBJECTS_MAX`] is a good number); one batch may hold more.
    ///
    /// # Errors
    /// [`SealError::Field`] if two fields have the same id, or one has the reserved id 0.
    pub fn new(
        keys: StreamKeys,
        fields: &[SealedField],
        cached_subjects_max: usize,
    ) -> Result<Sealer, SealError> {
        for (at, field) in fields.iter().enumerate() {
            let twice = fields[..at].iter().any(|other| other.id == field.id);
            if twice || field.id == LETTER_FIELD {
                return Err(SealError::Field { field: field.id });
            }
        }
        let cache = Cache::new(cached_subjects_max / 2);
        let mut sealer = Sealer {
            keys,
            fields: fields.to_vec(),
            cache,
            destroyed: 0,
            batch: 0,
        };
        sealer.destroyed = sealer.keys.store().destroyed()?;
        sealer.reset();
        Ok(sealer)
    }

    /// Returns the keys that the sealer was made with.
    pub fn keys(&self) -> &StreamKeys {
        &self.keys
    }

    /// Gives each event of a batch the slot of its subject: one per entry of `subjects`, in order, appended to
    /// `slots`. The slots of earlier batches end here.
    ///
    /// A subject is its field's token for [`StreamKeys::COLUMN`]; events without one belong to the
    /// stream itself.
    ///
    /// # Errors
    /// [`SealError`] if the key store fails or a key does not unwrap; no slot is good then.
    pub fn resolve(
        &mut self,
        subjects: &[Option<Token>],
        slots: &mut Vec<Slot>,
    ) -> Result<(), SealError> {
        self.batch = self.batch.wrapping_add(1);
        let destroyed = self.keys.store().destroyed()?;
        if destroyed != self.destroyed {
            self.reset();
            self.destroyed = destroyed;
        }
        if self.cache.rotate() {
            self.add_own();
        }
        let mut missing = Vec::new();
        for subject in subjects {
            let index = match subject {
                None => OWN_SLOT,
                Some(token) => self.cache.slot(*token, self.fields.len(), &mut missing),
            };
            slots.push(Slot {
                index,
                batch: self.batch,
            });
        }
        let filled = self.fill(&missing);
        if filled.is_err() {
            self.reset();
            self.batch = self.batch.wrapping_add(1);
        }
        filled
    }

    /// Begins a column: the cells of one field of events from one raw partition.
    ///
    /// # Errors
    /// [`SealError::Field`] if the sealer was not made for this field.
    pub fn column(
        &self,
        field: FieldId,
        topic: TopicId,
        partition: Partition,
    ) -> Result<ColumnSealer<'_>, SealError> {
        let at = self
            .fields
            .iter()
            .position(|other| other.id == field)
            .ok_or(SealError::Field { field })?;
        let binding = Binding::new(self.keys.id(), field, topic, partition);
        Ok(ColumnSealer {
            sealer: self,
            at,
            binding,
        })
    }

    /// Seals a raw message whole under the stream's own key, and appends the cell to `out`.
    ///
    /// # Errors
    /// [`SealError::TooLong`] if the message is longer than 256 MiB.
    pub fn seal_letter(
        &self,
        source: SourceCoordinates,
        raw: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        check_length(raw, out.len())?;
        let keys = CellKeys::derive(self.keys.own_key(), LETTER_FIELD);
        let mut binding = Binding::new(
            self.keys.id(),
            LETTER_FIELD,
            source.topic_id,
            source.partition,
        );
        let (subject, version) = (self.keys.own_ref(), self.keys.own_version());
        let row = Row {
            offset: source.offset,
            subject,
            version,
        };
        cell::seal(&keys, &mut binding, row, raw, LETTER_PAD_TO, out);
        Ok(())
    }

    /// Fills the slots of subjects that were not in the cache, in their order.
    fn fill(&mut self, missing: &[(Token, u32)]) -> Result<(), SealError> {
        if missing.is_empty() {
            return Ok(());
        }
        let references: Vec<SubjectRef> = missing
            .iter()
            .map(|(token, _)| self.keys.subject(*token))
            .collect();
        let ring = self.keys.ring();
        let mut make = |subject, version| wrap::create(ring, subject, version);
        let wrapped = self.keys.store().get_or_create(&references, &mut make)?;
        if wrapped.len() != references.len() {
            return Err(SealError::short_answer());
        }
        let young = &mut self.cache.young;
        for (((_, slot), reference), wrapped) in missing.iter().zip(references).zip(&wrapped) {
            let derive = wrap::unwrap(ring, reference, wrapped)?;
            let at = *slot as usize;
            young.subjects[at] = Subject {
                reference,
                version: wrapped.version,
            };
            let keys = &mut young.keys[at * self.fields.len()..][..self.fields.len()];
            for (keys, field) in keys.iter_mut().zip(&self.fields) {
                *keys = CellKeys::derive(&derive, field.id);
            }
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.cache.clear();
        self.add_own();
    }

    /// Puts the stream itself into the first slot.
    fn add_own(&mut self) {
        let own = Subject {
            reference: self.keys.own_ref(),
            version: self.keys.own_version(),
        };
        let derive = self.keys.own_key();
        let young = &mut self.cache.young;
        young.subjects.push(own);
        young.keys.extend(
            self.fields
                .iter()
                .map(|field| CellKeys::derive(derive, field.id)),
        );
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer")
            .field("keys", &self.keys)
            .field("fields", &self.fields)
            .finish_non_exhaustive()
    }
}

/// Seals the cells of one column.
pub struct ColumnSealer<'a> {
    sealer: &'a Sealer,
    at: usize,
    binding: Binding,
}

impl ColumnSealer<'_> {
    /// Appends the sealed cell of one event.
    ///
    /// # Errors
    /// [`SealError::StaleSlot`] for a slot of another batch, [`SealError::TooLong`] if the plaintext is longer
    /// than 256 MiB or the buffer would outgrow 2 GiB; nothing was appended then.
    pub fn seal(
        &mut self,
        offset: schemas::Offset,
        slot: Slot,
        plaintext: &[u8],
        out: &mut CellBuffer,
    ) -> Result<(), SealError> {
        let sealer = self.sealer;
        let young = &sealer.cache.young;
        let subject = match young.subjects.get(slot.index as usize) {
            Some(subject) if slot.batch == sealer.batch => subject,
            _ => return Err(SealError::StaleSlot),
        };
        check_length(plaintext, out.data.len())?;
        let keys = &young.keys[slot.index as usize * sealer.fields.len() + self.at];
        let row = Row {
            offset,
            subject: subject.reference,
            version: subject.version,
        };
        cell::seal(
            keys,
            &mut self.binding,
            row,
            plaintext,
            sealer.fields[self.at].pad_to,
            &mut out.data,
        );
        out.offsets.push(out.data.len() as i32);
        Ok(())
    }
}

fn check_length(plaintext: &[u8], filled: usize) -> Result<(), SealError> {
    if PLAINTEXT_BYTES_MAX < plaintext.len() || BUFFER_BYTES_MAX < filled {
        return Err(SealError::TooLong {
            bytes: plaintext.len().max(filled),
        });
    }
    Ok(())
}

/// Leaves room for a longest cell (padding included) below the 2 GiB that Arrow's offsets reach.
const BUFFER_BYTES_MAX: usize = i32::MAX as usize - 2 * PLAINTEXT_BYTES_MAX;
const OWN_SLOT: u32 = 0;

#[derive(Clone, Copy)]
struct Subject {
    reference: SubjectRef,
    version: KeyVersion,
}

impl Subject {
    /// Stands in a slot until its key is there.
    const NONE: Subject = Subject {
        reference: SubjectRef([0; 16]),
        version: KeyVersion(0),
    };
}

/// Two generations of subjects and their keys.
struct Cache {
    young: Generation,
    old: Generation,
    generation_max: usize,
}

#[derive(Default)]
struct Generation {
    slots: HashMap<Token, u32, BuildHasherDefault<TokenHasher>>,
    subjects: Vec<Subject>,
    /// As many for each subject as there are sealed fields.
    keys: Vec<CellKeys>,
}

impl Cache {
    fn new(generation_max: usize) -> Cache {
        Cache {
            young: Generation::default(),
            old: Generation::default(),
            generation_max,
        }
    }

    fn clear(&mut self) {
        self.young = Generation::default();
        self.old = Generation::default();
    }

    /// Makes the young generation old if it is full; returns whether it did.
    fn rotate(&mut self) -> bool {
        if self.young.subjects.len() <= self.generation_max {
            return false;
        }
        self.old = std::mem::take(&mut self.young);
        true
    }

    /// Returns the slot of a subject, which it moves from the old generation if need be; the slot of a subject
    /// that is in neither is new, has no good keys yet and is noted in `missing`.
    fn slot(&mut self, token: Token, fields: usize, missing: &mut Vec<(Token, u32)>) -> u32 {
        if let Some(slot) = self.young.slots.get(&token) {
            return *slot;
        }
        let slot = self.young.subjects.len() as u32;
        self.young.slots.insert(token, slot);
        if let Some(old) = self.old.slots.get(&token) {
            let at = *old as usize;
            let keys = &self.old.keys[at * fields..][..fields];
            self.young.subjects.push(self.old.subjects[at]);
            self.young.keys.extend_from_slice(keys);
        } else {
            self.young.subjects.push(Subject::NONE);
            self.young
                .keys
                .extend(std::iter::repeat_with(CellKeys::none).take(fields));
            missing.push((token, slot));
        }
        slot
    }
}

/// A token is a keyed hash already: its first bytes are as good a hash as any.
#[derive(Default)]
struct TokenHasher(u64);

impl Hasher for TokenHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }
}
