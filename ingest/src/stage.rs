//! The stage: batches of raw records in, parcels and dead letters out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use schemas::clean::{CleanEncoder, CleanHeader};
use schemas::dead::{self, header};
use schemas::topics::Topics;
use schemas::{Contract, Digest, Offset, Partition, SourceCoordinates, TopicId};
use seal::{Sealer, Slot, StreamKeys};
use telemetry::{Instruments, Traces, names};
use worker::{Batch, Broker, Lane, Outgoing, Record, Stage, Start, TopicPartition};

use crate::clean::{Clean, Cleaner, Memory, Rejection};
use crate::columns::{self, ColumnWriter, ColumnsError};
use crate::error::IngestError;
use crate::moments::Moments;
use crate::outbox::{Outbox, Parcel};
use crate::parse::RawEvent;
use crate::restore::Restorer;
use crate::signals::Signals;

/// Header of a raw record that carries its trace context.
const TRACE_PARENT: &str = "traceparent";

/// Longest trace parent that is passed on; W3C's has 55 characters.
const TRACE_PARENT_BYTES: usize = 55;

/// Raw records in; clean batches and dead letters out.
pub struct Ingester<B: Broker> {
    broker: B,
    contract: Arc<Contract>,
    topics: Topics,
    writer: Writer,
    cleaner: Cleaner,
    partitions: BTreeMap<Partition, Owned<B::Lane>>,
}

/// What turns decided events into messages.
struct Writer {
    sealer: Sealer,
    slots: Vec<Slot>,
    encoder: CleanEncoder,
    topic_id: TopicId,
    digest: Digest,
    field_names: Vec<String>,
    signals: Signals,
    traces: Traces,
}

/// A partition that is ours.
struct Owned<L> {
    partition: Partition,
    memory: Memory,
    next: Option<Offset>,
    /// The events that wait for the end of the round, and the first raw offset that their batch will cover.
    columns: ColumnWriter,
    open: Option<Offset>,
    letters_through: Option<Offset>,
    /// Number of the last dead letter sent.
    letters: u64,
    dead: L,
    outbox: Outbox<L>,
}

impl<B: Broker> Ingester<B> {
    /// Finds the topics and makes the stage.
    ///
    /// # Errors
    /// [`IngestError`] if a topic is missing or does not have the raw one's partitions, or a key does not open.
    pub async fn build(
        contract: Arc<Contract>,
        broker: B,
        keys: StreamKeys,
        instruments: &Instruments,
        traces: Traces,
    ) -> Result<Ingester<B>, IngestError> {
        let topics = Topics::of(&contract.stream.name);
        let raw = broker.topic(&topics.raw).await?;
        same_partitions(&broker, &topics.clean, raw.partitions).await?;
        same_partitions(&broker, &topics.dead, raw.partitions).await?;
        let writer = Writer {
            sealer: columns::sealer(&contract, keys)?,
            slots: Vec::new(),
            encoder: CleanEncoder::default(),
            topic_id: raw.id,
            digest: contract.digest(),
            field_names: contract
                .fields
                .iter()
                .map(|field| field.name.clone())
                .collect(),
            signals: Signals::new(instruments, &contract),
            traces,
        };
        let cleaner = Cleaner::new(&contract);
        Ok(Ingester {
            broker,
            contract,
            topics,
            writer,
            cleaner,
            partitions: BTreeMap::new(),
        })
    }
}

/// Finds a topic that must have the partitions of the raw one.
async fn same_partitions<B: Broker>(
    broker: &B,
    name: &str,
    partitions: i32,
) -> Result<(), IngestError> {
    let found = broker.topic(name).await?.partitions;
    if found == partitions {
        return Ok(());
    }
    Err(IngestError::Partitions {
        topic: name.to_owned(),
        found,
        raw: partitions,
    })
}

impl<B: Broker> Stage for Ingester<B> {
    type Error = IngestError;

    async fn assign(&mut self, raw: &TopicPartition) -> Result<Start, IngestError> {
        let clean: TopicPartition = (self.topics.clean.as_str(), raw.partition).into();
        let dead: TopicPartition = (self.topics.dead.as_str(), raw.partition).into();
        let restorer = Restorer {
            broker: &self.broker,
            contract: &self.contract,
            digest: self.writer.digest,
            topic_id: self.writer.topic_id,
        };
        let restored = restorer.restore(&clean, &dead, &self.cleaner).await?;
        let dead = self.broker.lane(&dead)?;
        let outbox = Outbox::start(self.broker.lane(&clean)?, dead.clone());
        let owned = Owned {
            partition: raw.partition,
            memory: restored.memory,
            next: restored.next,
            columns: ColumnWriter::new(&self.contract, self.writer.sealer.keys()),
            open: None,
            letters_through: restored.letters_through,
            letters: 0,
            dead,
            outbox,
        };
        self.partitions.insert(raw.partition, owned);
        Ok(restored.next.map_or(Start::Committed, Start::At))
    }

    async fn handle(&mut self, batch: Batch) -> Result<(), IngestError> {
        let started = SystemTime::now();
        let partition = batch.from().partition;
        let Some(owned) = self.partitions.get_mut(&partition) else {
            return Err(IngestError::Unassigned(batch.from().to_string()));
        };
        let (mut event, mut clean): (RawEvent<'_>, Vec<Clean<'_>>) = Default::default();
        let mut clean_count = 0;
        for record in batch.records() {
            let offset = record.offset();
            // What a rebalance or a restart brings again is decided already.
            if owned.next.is_some_and(|next| offset < next) {
                continue;
            }
            owned.open.get_or_insert(owned.next.unwrap_or(offset));
            match self
                .cleaner
                .decide(record.value(), &mut owned.memory, &mut event, &mut clean)
            {
                Ok(()) => {
                    let parent = trace_parent(&record);
                    owned
                        .columns
                        .push(offset, record.timestamp_ms(), parent, &clean);
                    self.writer.trace(parent, started);
                    clean_count += 1;
                }
                Err(rejection) => self.writer.letter(owned, &record, rejection).await?,
            }
            owned.next = Some(offset.next());
            if owned.columns.is_full() {
                self.writer.close(&mut [owned]).await?;
            }
        }
        self.writer.signals.decided(batch.len(), clean_count);
        self.writer.signals.tallied(&self.cleaner.take_tally());
        Ok(())
    }

    async fn tick(&mut self, _: Instant) -> Result<(), IngestError> {
        let is_open = |owned: &&mut Owned<B::Lane>| owned.open.is_some();
        let mut open: Vec<_> = self.partitions.values_mut().filter(is_open).collect();
        if open.is_empty() {
            return Ok(());
        }
        self.writer.close(&mut open).await?;
        // The outbox works in a task of its own: let it, even if the next round is here already.
        tokio::task::yield_now().await;
        Ok(())
    }

    fn durable(&mut self) -> Result<Vec<(TopicPartition, Offset)>, IngestError> {
        let mut durable = Vec::new();
        for owned in self.partitions.values() {
            if let Some(next) = owned.outbox.durable()? {
                durable.push(((self.topics.raw.as_str(), owned.partition).into(), next));
            }
        }
        Ok(durable)
    }

    async fn drain(&mut self, partitions: &[TopicPartition]) -> Result<(), IngestError> {
        for partition in partitions {
            if let Some(owned) = self.partitions.get_mut(&partition.partition) {
                self.writer.close(&mut [&mut *owned]).await?;
                owned.outbox.flush().await?;
            }
        }
        Ok(())
    }

    fn release(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.partitions.remove(&partition.partition);
        }
    }
}

impl Writer {
    /// Sends the events that wait in some partitions, one clean batch for each; new keys of all of them are made
    /// durable in one go.
    async fn close<L: Lane>(&mut self, open: &mut [&mut Owned<L>]) -> Result<(), IngestError> {
        let subjects = open.iter().flat_map(|owned| owned.columns.subjects());
        let subjects: Vec<_> = subjects.copied().collect();
        let mut slots = std::mem::take(&mut self.slots);
        slots.clear();
        self.sealer.resolve(&subjects, &mut slots)?;
        let mut rest = slots.as_slice();
        for owned in open {
            let (own, others) = rest.split_at(owned.columns.len());
            self.send(owned, own).await?;
            rest = others;
        }
        self.slots = slots;
        Ok(())
    }

    /// Sends one clean batch that covers everything decided since the last one.
    async fn send<L: Lane>(
        &mut self,
        owned: &mut Owned<L>,
        slots: &[Slot],
    ) -> Result<(), IngestError> {
        let (Some(first), Some(next)) = (owned.open.take(), owned.next) else {
            return Ok(());
        };
        let batch = owned
            .columns
            .finish(&self.sealer, slots, self.topic_id, owned.partition)
            .map_err(|error| match error {
                ColumnsError::Seal(error) => IngestError::Seal(error),
                ColumnsError::Arrow(error) => IngestError::Arrow(error),
            })?;
        let mut payload = Vec::new();
        self.encoder.encode(&batch, &mut payload)?;
        let header = CleanHeader {
            topic_id: self.topic_id,
            partition: owned.partition,
            first,
            last: Offset(next.0 - 1),
            contract: self.digest,
            ingest_state: Moments::write_all(&owned.memory.moments),
        };
        let parcel = Parcel {
            after_letter: owned.letters,
            headers: header.to_headers(),
            payload,
            next,
        };
        Ok(owned.outbox.put(parcel).await?)
    }

    /// Sends a dead letter, unless it was written before a crash.
    async fn letter<L: Lane>(
        &self,
        owned: &mut Owned<L>,
        record: &Record<'_>,
        rejection: Rejection,
    ) -> Result<(), IngestError> {
        let offset = record.offset();
        self.signals.rejected(rejection.reason);
        if owned
            .letters_through
            .is_some_and(|through| offset <= through)
        {
            return Ok(());
        }
        let source = SourceCoordinates {
            topic_id: self.topic_id,
            partition: owned.partition,
            offset,
        };
        let mut sealed = Vec::new();
        let raw = record.value().unwrap_or_default();
        self.sealer.seal_letter(source, raw, &mut sealed)?;
        let (topic, partition, at) = (
            source.topic_id.to_string(),
            source.partition.to_string(),
            offset.to_string(),
        );
        let contract = self.digest.to_string();
        let mut headers: Vec<(&str, &[u8])> = vec![
            (header::WIRE, dead::WIRE_VERSION.as_bytes()),
            (header::SOURCE_TOPIC_ID, topic.as_bytes()),
            (header::SOURCE_PARTITION, partition.as_bytes()),
            (header::SOURCE_OFFSET, at.as_bytes()),
            (header::REASON, rejection.reason.name().as_bytes()),
            (header::CONTRACT, contract.as_bytes()),
        ];
        if let Some(field) = rejection.field {
            headers.push((header::FIELD, self.field_names[field].as_bytes()));
        }
        if let Some(parent) = trace_parent(record) {
            headers.push((TRACE_PARENT, parent.as_bytes()));
        }
        // The raw key may be personal data; the letter's key is its coordinates.
        let key = format!("{partition}:{at}");
        let outgoing = Outgoing {
            key: Some(key.as_bytes()),
            value: &sealed,
            headers: &headers,
        };
        owned.letters = owned.dead.send(outgoing).await?;
        Ok(())
    }

    fn trace(&self, parent: Option<&str>, started: SystemTime) {
        if let Some(parent) = parent
            && self.traces.enabled()
        {
            self.traces
                .emit(names::span::INGEST, parent, started, Vec::new());
        }
    }
}

fn trace_parent<'a>(record: &Record<'a>) -> Option<&'a str> {
    let text = std::str::from_utf8(record.header(TRACE_PARENT)?).ok()?;
    (text.len() == TRACE_PARENT_BYTES).then_some(text)
}
