//! Clean events become columns: open values as they are, sealed ones as cells, tokens as pseudonyms.

use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, Float64Builder, Int64Builder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, BinaryArray, RecordBatch};
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::ArrowError;
use schemas::contract::FieldType;
use schemas::{Columns, Contract, FieldId, Offset, Partition, TopicId};
use seal::{CellBuffer, SealError, SealedField, Sealer, Slot, StreamKeys, Token, Tokenizer};

use crate::clean::Clean;

/// Subjects whose keys stay in memory.
const CACHED_SUBJECTS: usize = seal::CACHED_SUBJECTS_MAX;

/// A batch is closed when its rows are estimated to take this much: the encoding adds a little.
const BYTES_FULL: usize = schemas::clean::BATCH_BYTES_MAX - (64 << 10);

/// Bytes of a sealed cell and a token beside the plaintext, for the estimate.
const HIDDEN_BYTES: usize = seal::CELL_OVERHEAD + 16;

/// Gathers clean events of one partition and makes record batches of them.
pub struct ColumnWriter {
    columns: Columns,
    id: usize,
    time: usize,
    subject: Option<usize>,
    subject_tokens: Option<Tokenizer>,
    offsets: Int64Builder,
    event_times: TimestampMicrosecondBuilder,
    ingest_times: TimestampMicrosecondBuilder,
    trace_parents: StringBuilder,
    fields: Vec<Option<FieldColumns>>,
    rows: Rows,
}

/// What rows must remember until they are sealed.
#[derive(Default)]
struct Rows {
    offsets: Vec<Offset>,
    subjects: Vec<Option<Token>>,
    bytes: usize,
}

/// What cells are sealed with, and for which rows.
struct Sealing<'a> {
    sealer: &'a Sealer,
    slots: &'a [Slot],
    topic: TopicId,
    partition: Partition,
    offsets: &'a [Offset],
}

/// The columns of one field.
enum FieldColumns {
    Text(StringBuilder),
    Int(Int64Builder),
    Time(TimestampMicrosecondBuilder),
    Float(Float64Builder),
    Bool(BooleanBuilder),
    Hidden(Hidden),
}

/// A field that is sealed, or a token, or both.
struct Hidden {
    field: FieldId,
    seal: bool,
    tokens: Option<(Tokenizer, BinaryBuilder)>,
    plaintexts: Vec<u8>,
    ends: Vec<Option<usize>>,
    cells: CellBuffer,
}

/// A batch cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ColumnsError {
    /// Sealing failed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Arrow refused the columns.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
}

/// Makes the sealer of a contract's sealed fields, which all partitions share.
///
/// # Errors
/// [`SealError`] if the keys cannot be used.
pub fn sealer(contract: &Contract, keys: StreamKeys) -> Result<Sealer, SealError> {
    let sealed = |field: &schemas::contract::Field| SealedField {
        id: field.id,
        pad_to: field.privacy.pad_to,
    };
    let fields: Vec<SealedField> = contract
        .fields
        .iter()
        .filter(|field| field.privacy.seal)
        .map(sealed)
        .collect();
    Sealer::new(keys, &fields, CACHED_SUBJECTS)
}

impl ColumnWriter {
    /// Makes a writer for a contract's columns.
    pub fn new(contract: &Contract, keys: &StreamKeys) -> ColumnWriter {
        let column = |field| FieldColumns::of(field, keys);
        let subject_tokens = contract
            .event
            .subject
            .map(|subject| keys.tokenizer(contract.fields[subject].id, StreamKeys::COLUMN));
        ColumnWriter {
            columns: Columns::of(contract),
            id: contract.event.id,
            time: contract.event.time,
            subject: contract.event.subject,
            subject_tokens,
            fields: contract.fields.iter().map(column).collect(),
            offsets: Int64Builder::new(),
            event_times: TimestampMicrosecondBuilder::new().with_timezone("+00:00"),
            ingest_times: TimestampMicrosecondBuilder::new().with_timezone("+00:00"),
            trace_parents: StringBuilder::new(),
            rows: Rows::default(),
        }
    }

    /// Returns the columns.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// Returns how many events wait.
    pub fn len(&self) -> usize {
        self.rows.offsets.len()
    }

    /// Says whether no event waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Says whether the batch should be made before another event comes.
    pub fn is_full(&self) -> bool {
        BYTES_FULL <= self.rows.bytes
    }

    /// Adds a clean event.
    pub fn push(
        &mut self,
        offset: Offset,
        ingest_ms: i64,
        trace_parent: Option<&str>,
        clean: &[Clean<'_>],
    ) {
        let event_time = match clean[self.time] {
            Clean::Int(micros) => micros,
            _ => 0,
        };
        debug_assert!(
            matches!(clean[self.id], Clean::Text(_)),
            "the rules refuse an event without an id"
        );
        self.offsets.append_value(offset.0);
        self.event_times.append_value(event_time);
        self.ingest_times
            .append_value(ingest_ms.saturating_mul(1000));
        self.trace_parents.append_option(trace_parent);
        let subject = self.subject_of(clean);
        self.rows.offsets.push(offset);
        self.rows.subjects.push(subject);
        self.rows.bytes += 32 + trace_parent.map_or(0, str::len);
        for (at, (columns, value)) in self.fields.iter_mut().zip(clean).enumerate() {
            if let Some(columns) = columns {
                // The subject's token is made already.
                let token = subject.filter(|_| Some(at) == self.subject);
                self.rows.bytes += columns.push(value, token);
            }
        }
    }

    /// Returns the subjects of the events that wait, in order: what a sealer resolves to slots.
    pub fn subjects(&self) -> &[Option<Token>] {
        &self.rows.subjects
    }

    /// Makes the batch of the events that wait; `slots` are those of their subjects.
    ///
    /// # Errors
    /// [`ColumnsError`]; the events that waited are then lost to this writer, and the worker starts anew.
    pub fn finish(
        &mut self,
        sealer: &Sealer,
        slots: &[Slot],
        topic: TopicId,
        partition: Partition,
    ) -> Result<RecordBatch, ColumnsError> {
        let mut rows = std::mem::take(&mut self.rows);
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(self.offsets.finish()),
            Arc::new(self.event_times.finish()),
            Arc::new(self.ingest_times.finish()),
            Arc::new(self.trace_parents.finish()),
        ];
        let sealing = Sealing {
            sealer,
            slots,
            topic,
            partition,
            offsets: &rows.offsets,
        };
        for columns in self.fields.iter_mut().flatten() {
            columns.finish(&sealing, &mut arrays)?;
        }
        rows.offsets.clear();
        rows.subjects.clear();
        rows.bytes = 0;
        self.rows = rows;
        Ok(RecordBatch::try_new(self.columns.schema().clone(), arrays)?)
    }

    fn subject_of(&self, clean: &[Clean<'_>]) -> Option<Token> {
        let (subject, tokens) = (self.subject?, self.subject_tokens.as_ref()?);
        match &clean[subject] {
            Clean::Text(text) => Some(tokens.token(text.as_bytes())),
            Clean::Int(number) => Some(tokens.token(&number.to_be_bytes())),
            _ => None,
        }
    }
}

impl FieldColumns {
    fn of(field: &schemas::contract::Field, keys: &StreamKeys) -> Option<FieldColumns> {
        let privacy = field.privacy;
        if privacy.seal || privacy.token {
            let tokens = privacy.token.then(|| {
                (
                    keys.tokenizer(field.id, StreamKeys::COLUMN),
                    BinaryBuilder::new(),
                )
            });
            return Some(FieldColumns::Hidden(Hidden {
                field: field.id,
                seal: privacy.seal,
                tokens,
                plaintexts: Vec::new(),
                ends: Vec::new(),
                cells: CellBuffer::new(),
            }));
        }
        privacy.open.then(|| match field.kind {
            FieldType::String => FieldColumns::Text(StringBuilder::new()),
            FieldType::Int64 => FieldColumns::Int(Int64Builder::new()),
            FieldType::Timestamp => {
                FieldColumns::Time(TimestampMicrosecondBuilder::new().with_timezone("+00:00"))
            }
            FieldType::Float64 => FieldColumns::Float(Float64Builder::new()),
            FieldType::Bool => FieldColumns::Bool(BooleanBuilder::new()),
        })
    }

    /// Adds a value, with its token if that is known; returns the bytes that it is estimated to take.
    fn push(&mut self, value: &Clean<'_>, token: Option<Token>) -> usize {
        match (self, value) {
            (FieldColumns::Text(builder), Clean::Text(text)) => {
                builder.append_value(text);
                return text.len() + 4;
            }
            (FieldColumns::Text(builder), _) => builder.append_null(),
            (FieldColumns::Int(builder), Clean::Int(number)) => builder.append_value(*number),
            (FieldColumns::Int(builder), _) => builder.append_null(),
            (FieldColumns::Time(builder), Clean::Int(micros)) => builder.append_value(*micros),
            (FieldColumns::Time(builder), _) => builder.append_null(),
            (FieldColumns::Float(builder), Clean::Float(number)) => builder.append_value(*number),
            (FieldColumns::Float(builder), _) => builder.append_null(),
            (FieldColumns::Bool(builder), Clean::Bool(value)) => builder.append_value(*value),
            (FieldColumns::Bool(builder), _) => builder.append_null(),
            (FieldColumns::Hidden(hidden), Clean::Text(text)) => {
                hidden.push(Some(text.as_bytes()), token);
                return text.len() + HIDDEN_BYTES;
            }
            (FieldColumns::Hidden(hidden), _) => hidden.push(None, None),
        }
        8
    }

    fn finish(
        &mut self,
        sealing: &Sealing<'_>,
        arrays: &mut Vec<ArrayRef>,
    ) -> Result<(), ColumnsError> {
        arrays.push(match self {
            FieldColumns::Text(builder) => Arc::new(builder.finish()),
            FieldColumns::Int(builder) => Arc::new(builder.finish()),
            FieldColumns::Time(builder) => Arc::new(builder.finish()),
            FieldColumns::Float(builder) => Arc::new(builder.finish()),
            FieldColumns::Bool(builder) => Arc::new(builder.finish()),
            FieldColumns::Hidden(hidden) => {
                return hidden.finish(sealing, arrays);
            }
        });
        Ok(())
    }
}

impl Hidden {
    fn push(&mut self, plaintext: Option<&[u8]>, token: Option<Token>) {
        if let Some((tokenizer, builder)) = &mut self.tokens {
            let token = |text| token.unwrap_or_else(|| tokenizer.token(text));
            builder.append_option(plaintext.map(|text| token(text).0));
        }
        if self.seal {
            self.plaintexts
                .extend_from_slice(plaintext.unwrap_or_default());
            self.ends.push(plaintext.map(|_| self.plaintexts.len()));
        }
    }

    fn finish(
        &mut self,
        sealing: &Sealing<'_>,
        arrays: &mut Vec<ArrayRef>,
    ) -> Result<(), ColumnsError> {
        if self.seal {
            arrays.push(Arc::new(self.seal(sealing)?));
        }
        if let Some((_, builder)) = &mut self.tokens {
            arrays.push(Arc::new(builder.finish()));
        }
        self.plaintexts.clear();
        self.ends.clear();
        Ok(())
    }

    fn seal(&mut self, sealing: &Sealing<'_>) -> Result<BinaryArray, ColumnsError> {
        let Sealing {
            sealer,
            slots,
            topic,
            partition,
            offsets,
        } = *sealing;
        let mut column = sealer.column(self.field, topic, partition)?;
        self.cells.clear();
        let mut start = 0;
        for ((end, offset), slot) in self.ends.iter().zip(offsets).zip(slots) {
            match end {
                Some(end) => {
                    column.seal(
                        *offset,
                        *slot,
                        &self.plaintexts[start..*end],
                        &mut self.cells,
                    )?;
                    start = *end;
                }
                None => self.cells.push_null(),
            }
        }
        let cells = std::mem::take(&mut self.cells);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(cells.offsets));
        let nulls = NullBuffer::from_iter(self.ends.iter().map(Option::is_some));
        Ok(BinaryArray::try_new(
            offsets,
            Buffer::from_vec(cells.data),
            Some(nulls),
        )?)
    }
}
