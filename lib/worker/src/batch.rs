//! Batches: consecutive records of one partition, copied out of the client's memory into one buffer.

use std::ops::Range;
use std::sync::Arc;

use schemas::{Offset, Partition};

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: Partition,
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// Consecutive records of one partition, in offset order; never empty.
#[derive(Clone, Debug)]
pub struct Batch {
    from: TopicPartition,
    bytes: Vec<u8>,
    records: Vec<Slots>,
    headers: Vec<(Slot, Slot)>,
}

/// A range of the buffer; `None` is null.
type Slot = Option<Range<u32>>;

#[derive(Clone, Debug)]
struct Slots {
    offset: Offset,
    timestamp_ms: i64,
    key: Slot,
    value: Slot,
    headers: Range<u32>,
}

/// One record of a batch.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    batch: &'a Batch,
    slots: &'a Slots,
}

impl Batch {
    /// Returns the partition.
    pub fn from(&self) -> &TopicPartition {
        &self.from
    }

    /// Returns how many records there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Says whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Returns the bytes of keys, values and headers.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the last offset.
    pub fn last(&self) -> Option<Offset> {
        self.records.last().map(|record| record.offset)
    }

    /// Goes through the records, in offset order.
    pub fn records(&self) -> impl ExactSizeIterator<Item = Record<'_>> {
        self.records
            .iter()
            .map(|slots| Record { batch: self, slots })
    }

    fn slice(&self, slot: &Slot) -> Option<&[u8]> {
        let slot = slot.as_ref()?;
        Some(&self.bytes[slot.start as usize..slot.end as usize])
    }
}

impl<'a> Record<'a> {
    /// Returns the offset.
    pub fn offset(&self) -> Offset {
        self.slots.offset
    }

    /// Returns the record's timestamp, in milliseconds since 1970 (-1 where it has none).
    pub fn timestamp_ms(&self) -> i64 {
        self.slots.timestamp_ms
    }

    /// Returns the key.
    pub fn key(&self) -> Option<&'a [u8]> {
        self.batch.slice(&self.slots.key)
    }

    /// Returns the value.
    pub fn value(&self) -> Option<&'a [u8]> {
        self.batch.slice(&self.slots.value)
    }

    /// Goes through the headers that have a text for a name; a null value is empty.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + Clone + use<'a> {
        let batch = self.batch;
        let range = self.slots.headers.start as usize..self.slots.headers.end as usize;
        batch.headers[range]
            .iter()
            .filter_map(move |(name, value)| {
                let name = std::str::from_utf8(batch.slice(name)?).ok()?;
                Some((name, batch.slice(value).unwrap_or_default()))
            })
    }

    /// Returns the value of a header.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }
}

/// Puts a batch together.
#[derive(Debug)]
pub struct BatchBuilder {
    batch: Batch,
}

impl BatchBuilder {
    /// Begins a batch.
    pub fn new(from: TopicPartition) -> BatchBuilder {
        let batch = Batch {
            from,
            bytes: Vec::new(),
            records: Vec::new(),
            headers: Vec::new(),
        };
        BatchBuilder { batch }
    }

    /// Returns the partition.
    pub fn from(&self) -> &TopicPartition {
        &self.batch.from
    }

    /// Adds a record, of which the headers follow.
    pub fn record(
        &mut self,
        offset: Offset,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) {
        let (key, value) = (self.slot(key), self.slot(value));
        let at = self.batch.headers.len() as u32;
        self.batch.records.push(Slots {
            offset,
            timestamp_ms,
            key,
            value,
            headers: at..at,
        });
    }

    /// Adds a header to the last record.
    pub fn header(&mut self, name: impl AsRef<[u8]>, value: Option<&[u8]>) {
        let slots = (self.slot(Some(name.as_ref())), self.slot(value));
        self.batch.headers.push(slots);
        if let Some(record) = self.batch.records.last_mut() {
            record.headers.end = self.batch.headers.len() as u32;
        }
    }

    /// Returns how many records there are.
    pub fn len(&self) -> usize {
        self.batch.records.len()
    }

    /// Says whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.batch.records.is_empty()
    }

    /// Returns the bytes so far.
    pub fn bytes(&self) -> usize {
        self.batch.bytes.len()
    }

    /// Takes the batch out, if it has records, and begins the next one.
    pub fn take(&mut self) -> Option<Batch> {
        if self.is_empty() {
            return None;
        }
        let empty = Batch {
            from: self.batch.from.clone(),
            bytes: Vec::with_capacity(self.batch.bytes.len()),
            records: Vec::with_capacity(self.batch.records.len()),
            headers: Vec::with_capacity(self.batch.headers.len()),
        };
        Some(std::mem::replace(&mut self.batch, empty))
    }

    fn slot(&mut self, bytes: Option<&[u8]>) -> Slot {
        let bytes = bytes?;
        let start = self.batch.bytes.len() as u32;
        self.batch.bytes.extend_from_slice(bytes);
        Some(start..self.batch.bytes.len() as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_keep_their_parts() {
        let from = TopicPartition {
            topic: "t".into(),
            partition: Partition(0),
        };
        let mut builder = BatchBuilder::new(from);
        assert!(builder.take().is_none());
        builder.record(Offset(5), 17, Some(b"k"), None);
        builder.header("a", Some(b"1"));
        builder.header("b", None);
        builder.record(Offset(7), 18, None, Some(b""));
        let batch = builder.take().unwrap();
        let records: Vec<Record> = batch.records().collect();
        assert_eq!(
            (records[0].key(), records[0].value()),
            (Some(&b"k"[..]), None)
        );
        assert_eq!(
            records[0].headers().collect::<Vec<_>>(),
            [("a", &b"1"[..]), ("b", &b""[..])]
        );
        assert_eq!(
            (records[1].key(), records[1].value()),
            (None, Some(&b""[..]))
        );
        assert_eq!(records[1].header("a"), None);
        assert_eq!((batch.last(), batch.len()), (Some(Offset(7)), 2));
        assert!(builder.is_empty());
    }
}
