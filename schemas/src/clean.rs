//! Clean batches: one message on `<s>.clean` is one Arrow IPC record batch without its schema.
//!
//! The headers say which raw offsets the batch covers: every one of them is in the batch, or in the dead
//! topic, or a hole in the log. Headers are text that any Kafka client can show, but for `ingest-state`.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::read_record_batch;
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_ipc::{FieldNode, MetadataVersion, root_as_message};
use arrow_schema::{ArrowError, DataType, SchemaRef};

use crate::ids::{Digest, Offset, Partition, TopicId};

/// Version of this wire form.
pub const WIRE_VERSION: &str = "1";

/// Most bytes of a clean message's payload that `ingest` aims at.
pub const BATCH_BYTES_MAX: usize = 512 << 10;

/// Names of the headers of a clean message.
pub mod header {
    /// Version of the wire form.
    pub const WIRE: &str = "thalweg-wire";
    /// Id of the raw topic, 32 hexadecimal digits.
    pub const SOURCE_TOPIC_ID: &str = "source-topic-id";
    /// Partition of the raw topic.
    pub const SOURCE_PARTITION: &str = "source-partition";
    /// First raw offset that the batch covers.
    pub const SOURCE_FIRST: &str = "source-first-offset";
    /// Last raw offset that the batch covers.
    pub const SOURCE_LAST: &str = "source-last-offset";
    /// Digest of the contract that shaped the batch.
    pub const CONTRACT: &str = "contract-digest";
    /// What `ingest` must know to go on after the batch (binary, its own).
    pub const INGEST_STATE: &str = "ingest-state";
}

/// The headers of a clean message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CleanHeader {
    /// Id of the raw topic.
    pub topic_id: TopicId,
    /// Partition of the raw topic; also that of the clean topic.
    pub partition: Partition,
    /// First raw offset that the batch covers.
    pub first: Offset,
    /// Last raw offset that the batch covers; not below `first`.
    pub last: Offset,
    /// Digest of the contract that shaped the batch.
    pub contract: Digest,
    /// What `ingest` must know to go on after the batch.
    pub ingest_state: Vec<u8>,
}

/// A clean message that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CleanError {
    /// A header is missing.
    #[error("header `{0}` is missing")]
    Missing(&'static str),
    /// A header does not say what it should.
    #[error("header `{name}` is not {right}")]
    Header {
        /// Name of the header.
        name: &'static str,
        /// What it should be.
        right: &'static str,
    },
    /// The payload is not an IPC record batch of the contract's schema.
    #[error("payload is not a record batch of the contract: {0}")]
    Payload(String),
    /// The batch was shaped by another contract.
    #[error("batch was shaped by contract {found}, and this worker has {expected}")]
    OtherContract {
        /// Digest in the header.
        found: Digest,
        /// Digest of the worker's contract.
        expected: Digest,
    },
}

impl CleanHeader {
    /// Writes the headers, in the order of [`header`].
    pub fn to_headers(&self) -> [(&'static str, Vec<u8>); 7] {
        let text = |value: &dyn ToString| value.to_string().into_bytes();
        [
            (header::WIRE, WIRE_VERSION.as_bytes().to_vec()),
            (header::SOURCE_TOPIC_ID, text(&self.topic_id)),
            (header::SOURCE_PARTITION, text(&self.partition)),
            (header::SOURCE_FIRST, text(&self.first)),
            (header::SOURCE_LAST, text(&self.last)),
            (header::CONTRACT, text(&self.contract)),
            (header::INGEST_STATE, self.ingest_state.clone()),
        ]
    }

    /// Reads the headers of a message.
    ///
    /// # Errors
    /// [`CleanError::Missing`] or [`CleanError::Header`], naming the first header that is wrong.
    pub fn from_headers<'a>(
        headers: impl Iterator<Item = (&'a str, &'a [u8])> + Clone,
    ) -> Result<CleanHeader, CleanError> {
        let find = |name: &'static str| {
            let found = headers.clone().find(|(key, _)| *key == name);
            found
                .map(|(_, value)| value)
                .ok_or(CleanError::Missing(name))
        };
        if find(header::WIRE)? != WIRE_VERSION.as_bytes() {
            return Err(CleanError::Header {
                name: header::WIRE,
                right: WIRE_VERSION,
            });
        }
        let first = read(
            header::SOURCE_FIRST,
            find(header::SOURCE_FIRST)?,
            "an offset",
        )?;
        let last = read(header::SOURCE_LAST, find(header::SOURCE_LAST)?, "an offset")?;
        if first < 0 || last < first {
            return Err(CleanError::Header {
                name: header::SOURCE_LAST,
                right: "at or after the first offset",
            });
        }
        Ok(CleanHeader {
            topic_id: read(
                header::SOURCE_TOPIC_ID,
                find(header::SOURCE_TOPIC_ID)?,
                "a topic id",
            )?,
            partition: Partition(read(
                header::SOURCE_PARTITION,
                find(header::SOURCE_PARTITION)?,
                "a partition",
            )?),
            first: Offset(first),
            last: Offset(last),
            contract: read(header::CONTRACT, find(header::CONTRACT)?, "a digest")?,
            ingest_state: find(header::INGEST_STATE).unwrap_or_default().to_vec(),
        })
    }
}

fn read<T: std::str::FromStr>(
    name: &'static str,
    value: &[u8],
    right: &'static str,
) -> Result<T, CleanError> {
    let text = std::str::from_utf8(value).ok();
    text.and_then(|text| text.parse().ok())
        .ok_or(CleanError::Header { name, right })
}

/// Turns record batches into payloads; keeps its buffers.
#[derive(Default)]
pub struct CleanEncoder {
    context: IpcWriteContext,
}

/// Alignment of buffers in the payload: 8 keeps a lone event small.
const ALIGNMENT: usize = 8;

/// Bytes before the metadata: its length.
const PREFIX: usize = 8;

impl CleanEncoder {
    /// Appends the payload of a batch.
    ///
    /// # Errors
    /// Arrow's, if the batch is beyond what IPC can say.
    pub fn encode(&mut self, batch: &RecordBatch, payload: &mut Vec<u8>) -> Result<(), ArrowError> {
        let options = IpcWriteOptions::try_new(ALIGNMENT, false, MetadataVersion::V5)?;
        let mut dictionaries = DictionaryTracker::new(true);
        let (_, data) = IpcDataGenerator::default().encode(
            batch,
            &mut dictionaries,
            &options,
            &mut self.context,
        )?;
        let metadata = data.ipc_message.len().next_multiple_of(ALIGNMENT);
        payload.reserve(PREFIX + metadata + data.arrow_data.len());
        payload.extend_from_slice(&(metadata as u64).to_le_bytes());
        payload.extend_from_slice(&data.ipc_message);
        payload.resize(payload.len() + metadata - data.ipc_message.len(), 0);
        payload.extend_from_slice(&data.arrow_data);
        Ok(())
    }
}

/// Turns payloads into record batches of one schema.
#[derive(Clone, Debug)]
pub struct CleanDecoder {
    schema: SchemaRef,
    projection: Option<Vec<usize>>,
}

impl CleanDecoder {
    /// Makes a decoder of all columns.
    pub fn new(schema: SchemaRef) -> CleanDecoder {
        CleanDecoder {
            schema,
            projection: None,
        }
    }

    /// Makes a decoder that reads some columns only; the batch has them in the order given.
    pub fn with_projection(schema: SchemaRef, columns: Vec<usize>) -> CleanDecoder {
        CleanDecoder {
            schema,
            projection: Some(columns),
        }
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`CleanError::Payload`] for bytes that are not a batch of this decoder's schema.
    pub fn decode(&self, payload: &[u8]) -> Result<RecordBatch, CleanError> {
        self.read(payload)
            .map_err(|error| CleanError::Payload(error.to_string()))
    }

    fn read(&self, payload: &[u8]) -> Result<RecordBatch, ArrowError> {
        let wrong = |what: &str| ArrowError::IpcError(what.to_owned());
        let (length, rest) = payload
            .split_first_chunk::<PREFIX>()
            .ok_or_else(|| wrong("no length"))?;
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| wrong("length"))?;
        let (metadata, body) = rest
            .split_at_checked(length)
            .ok_or_else(|| wrong("cut short"))?;
        let message = root_as_message(metadata).map_err(|error| wrong(&error.to_string()))?;
        let batch = message
            .header_as_record_batch()
            .ok_or_else(|| wrong("no record batch"))?;
        if batch.compression().is_some() {
            return Err(wrong("compressed"));
        }
        self.check(&batch, body.len()).map_err(wrong)?;
        let body = Buffer::from(body);
        let schema = Arc::clone(&self.schema);
        read_record_batch(
            &body,
            batch,
            schema,
            &HashMap::new(),
            self.projection.as_deref(),
            &message.version(),
        )
    }
}

/// The sizes that a record batch claims.
struct Layout<'a> {
    rows: usize,
    nodes: std::slice::Iter<'a, FieldNode>,
    buffers: std::slice::Iter<'a, arrow_ipc::Buffer>,
    body: usize,
}

impl CleanDecoder {
    /// Checks what Arrow's reader takes on trust and would panic on: that each column has its buffers, inside
    /// the body, and long enough for its rows.
    fn check(&self, batch: &arrow_ipc::RecordBatch<'_>, body: usize) -> Result<(), &'static str> {
        let nodes: Vec<FieldNode> = batch.nodes().into_iter().flatten().copied().collect();
        let buffers: Vec<arrow_ipc::Buffer> =
            batch.buffers().into_iter().flatten().copied().collect();
        let rows = usize::try_from(batch.length()).map_err(|_| "negative length")?;
        let mut layout = Layout {
            rows,
            nodes: nodes.iter(),
            buffers: buffers.iter(),
            body,
        };
        self.schema
            .fields()
            .iter()
            .try_for_each(|field| layout.column(field.data_type()))
    }
}

impl Layout<'_> {
    fn column(&mut self, kind: &DataType) -> Result<(), &'static str> {
        let node = self.nodes.next().ok_or("a column is missing")?;
        if node.length() != self.rows as i64 || !(0..=self.rows as i64).contains(&node.null_count())
        {
            return Err("a column of another length");
        }
        let bits = self.rows.div_ceil(8);
        self.buffer(if node.null_count() == 0 { 0 } else { bits }, bits, 1)?;
        match kind {
            DataType::Boolean => self.buffer(bits, bits, 1),
            DataType::Utf8 | DataType::Binary => {
                let offsets = (self.rows + 1).checked_mul(4).ok_or("too long")?;
                self.buffer(if self.rows == 0 { 0 } else { offsets }, offsets, 4)?;
                self.buffer(0, 0, 1)
            }
            other => {
                let width = other
                    .primitive_width()
                    .ok_or("a column of a type that no field has")?;
                let bytes = self.rows.checked_mul(width).ok_or("too long")?;
                self.buffer(bytes, bytes, width)
            }
        }
    }

    /// Takes the next buffer: empty only where `least` is 0, else at least `full` bytes; whole values of `width`.
    fn buffer(&mut self, least: usize, full: usize, width: usize) -> Result<(), &'static str> {
        let buffer = self.buffers.next().ok_or("a buffer is missing")?;
        let start = usize::try_from(buffer.offset()).map_err(|_| "a negative offset")?;
        let length = usize::try_from(buffer.length()).map_err(|_| "a negative length")?;
        if start % ALIGNMENT != 0 {
            return Err("a buffer that is not aligned");
        }
        if start.checked_add(length).is_none_or(|end| self.body < end) {
            return Err("a buffer reaches beyond the body");
        }
        let enough =
            (full <= length && length.is_multiple_of(width)) || (least == 0 && length == 0);
        enough
            .then_some(())
            .ok_or("a buffer is too short for its rows")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Columns, Contract};
    use arrow_array::new_null_array;
    use arrow_schema::{Field, Schema};

    fn header() -> CleanHeader {
        CleanHeader {
            topic_id: TopicId([7; 16]),
            partition: Partition(3),
            first: Offset(10),
            last: Offset(19),
            contract: Digest([1; 32]),
            ingest_state: vec![0, 255],
        }
    }

    #[test]
    fn headers_survive_a_round_trip() {
        let headers = header().to_headers();
        let read = CleanHeader::from_headers(
            headers
                .iter()
                .map(|(name, value)| (*name, value.as_slice())),
        );
        assert_eq!(read.unwrap(), header());
    }

    #[test]
    fn wrong_headers_are_named() {
        let mut headers = header().to_headers();
        headers[4].1 = b"9".to_vec();
        let read = CleanHeader::from_headers(
            headers
                .iter()
                .map(|(name, value)| (*name, value.as_slice())),
        );
        assert_eq!(
            read.unwrap_err().to_string(),
            "header `source-last-offset` is not at or after the first offset"
        );
        let read = CleanHeader::from_headers(
            headers[..3]
                .iter()
                .map(|(name, value)| (*name, value.as_slice())),
        );
        assert_eq!(
            read.unwrap_err().to_string(),
            "header `source-first-offset` is missing"
        );
    }

    fn batch() -> (SchemaRef, RecordBatch) {
        let contract = Contract::parse("test", include_str!("../fixtures/contract.toml")).unwrap();
        let columns = Columns::of(&contract);
        let nullable: Vec<Field> = columns
            .schema()
            .fields()
            .iter()
            .map(|field| field.as_ref().clone().with_nullable(true))
            .collect();
        let schema: SchemaRef = Arc::new(Schema::new(nullable));
        let arrays = schema
            .fields()
            .iter()
            .map(|field| new_null_array(field.data_type(), 3))
            .collect();
        (
            schema.clone(),
            RecordBatch::try_new(schema, arrays).unwrap(),
        )
    }

    #[test]
    fn batches_survive_a_round_trip_and_a_projection() {
        let (schema, batch) = batch();
        let mut payload = Vec::new();
        CleanEncoder::default()
            .encode(&batch, &mut payload)
            .unwrap();
        assert_eq!(
            CleanDecoder::new(schema.clone()).decode(&payload).unwrap(),
            batch
        );
        let some = CleanDecoder::with_projection(schema, vec![2, 0])
            .decode(&payload)
            .unwrap();
        assert_eq!(some, batch.project(&[2, 0]).unwrap());
    }

    #[test]
    fn bytes_that_are_no_batch_are_refused() {
        let (schema, batch) = batch();
        let decoder = CleanDecoder::new(schema);
        let mut payload = Vec::new();
        CleanEncoder::default()
            .encode(&batch, &mut payload)
            .unwrap();
        for cut in 0..payload.len() {
            assert!(decoder.decode(&payload[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..payload.len() {
            for bit in 0..8 {
                let mut flipped = payload.clone();
                flipped[at] ^= 1 << bit;
                let _ = decoder.decode(&flipped);
            }
        }
    }
}
