//! Reading without a group: watermarks, closed ranges, and one partition for ever.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::{ClientConfig, ClientContext};
use schemas::Offset;
use tokio::sync::mpsc;
use tracing::warn;

use crate::batch::{Batch, BatchBuilder, TopicPartition};
use crate::broker::{BrokerError, Watermarks};

/// Batches of a followed partition that wait.
const CHANNEL_BATCHES: usize = 4;

/// A batch is closed at this size.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// How long a poll waits when nothing is there: how quickly a reader that has gone is seen.
const POLL_WAIT: Duration = Duration::from_millis(100);

/// How long a broker may keep a reader waiting for records that are not there. librdkafka asks for more while it hands out
/// what came, one request at a time: the next range begins only when the last range's request is answered.
const READER_WAIT_MS: &str = "10";

/// A range may end with offsets that hold no record, such as those of a transaction's end. That it does is believed when
/// the partition has said so twice: a record that is overlooked is a record lost.
const ENDS: u32 = 2;

/// Readers that are kept: as many as read at once when a worker begins.
const IDLE_MAX: usize = 2;

/// Asks for the ends of partitions, and takes none of them for an error.
pub(super) struct Reading;

impl ClientContext for Reading {
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            DefaultClientContext.error(error, reason);
        }
    }
}

impl ConsumerContext for Reading {}

/// A client that reads without a group.
pub(super) type Reader = BaseConsumer<Reading>;

/// Readers that wait for the next range. Making one takes some round trips and dropping it a tenth of a second, and a
/// restart reads hundreds of ranges.
#[derive(Default)]
pub(super) struct Readers {
    idle: Mutex<Vec<Reader>>,
}

impl Readers {
    /// Lends a reader; one with which something failed is not lent again. Blocks.
    pub(super) fn lend<T>(
        &self,
        config: &ClientConfig,
        work: impl FnOnce(&Reader) -> Result<T, BrokerError>,
    ) -> Result<T, BrokerError> {
        let idle = self.idle.lock().ok().and_then(|mut idle| idle.pop());
        let reader = match idle {
            Some(reader) => reader,
            None => {
                let mut config = config.clone();
                config.set("fetch.wait.max.ms", READER_WAIT_MS);
                reader(&config).map_err(|error| BrokerError::Setup(error.to_string()))?
            }
        };
        let done = work(&reader)?;
        if let Ok(mut idle) = self.idle.lock()
            && idle.len() < IDLE_MAX
        {
            idle.push(reader);
        }
        Ok(done)
    }
}

fn reader(config: &ClientConfig) -> Result<Reader, KafkaError> {
    let mut config = config.clone();
    config
        .set("group.id", "thalweg-reader")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("fetch.queue.backoff.ms", "2")
        .set("queued.max.messages.kbytes", "2048");
    config.create_with_context(Reading)
}

/// Lets a reader begin at an offset of a partition, and forget what it read before.
fn assign(reader: &Reader, from: &TopicPartition, start: Offset) -> Result<(), KafkaError> {
    let mut list = TopicPartitionList::new();
    let offset = rdkafka::Offset::Offset(start.0);
    list.add_partition_offset(&from.topic, from.partition.0, offset)?;
    reader.assign(&list)
}

fn read_error(from: &TopicPartition, error: &KafkaError) -> BrokerError {
    BrokerError::Read {
        from: from.to_string(),
        reason: error.to_string(),
    }
}

/// Says whether librdkafka gets over it by itself.
fn is_transient(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::Resolve
        )
    )
}

pub(super) fn watermarks(
    reader: &Reader,
    of: &TopicPartition,
    timeout: Duration,
) -> Result<Watermarks, BrokerError> {
    let (low, high) = reader
        .fetch_watermarks(&of.topic, of.partition.0, timeout)
        .map_err(|error| read_error(of, &error))?;
    Ok(Watermarks {
        low: Offset(low),
        high: Offset(high),
    })
}

/// Reads a closed range; `stall` is how long nothing may come.
pub(super) fn range(
    reader: &Reader,
    from: &TopicPartition,
    range: Watermarks,
    stall: Duration,
) -> Result<Vec<Batch>, BrokerError> {
    let failed = |error: KafkaError| read_error(from, &error);
    let mut batches: Vec<Batch> = Vec::new();
    let (mut next, mut ends) = (range.low, 0);
    while next < range.high && ends < ENDS {
        assign(reader, from, next).map_err(failed)?;
        let rest = Watermarks { low: next, ..range };
        let more = gather(reader, from, rest, stall)?;
        reader.unassign().map_err(failed)?;
        ends += 1;
        if let Some(last) = more.last().and_then(Batch::last) {
            if range.low < next || 1 < ends {
                warn!(partition = %from, offset = %next, "what was taken for the end was none");
            }
            (next, ends) = (last.next(), 1);
        }
        batches.extend(more);
    }
    Ok(batches)
}

/// Reads until the range ends, or the partition says that it does.
fn gather(
    reader: &Reader,
    from: &TopicPartition,
    range: Watermarks,
    stall: Duration,
) -> Result<Vec<Batch>, BrokerError> {
    let mut batches = Vec::new();
    let mut builder = BatchBuilder::new(from.clone());
    let mut deadline = Instant::now() + stall;
    loop {
        match reader.poll(POLL_WAIT) {
            None if deadline < Instant::now() => {
                return Err(BrokerError::Deadline("reading a range"));
            }
            None => {}
            Some(Err(KafkaError::PartitionEOF(_))) => break,
            Some(Err(error)) if is_transient(&error) && Instant::now() <= deadline => {}
            Some(Err(error)) => return Err(read_error(from, &error)),
            Some(Ok(message)) if !is_of(&message, from) => {
                let (topic, partition) = (message.topic(), message.partition());
                warn!(wanted = %from, topic, partition, "a record of another partition came");
            }
            Some(Ok(message)) => {
                if range.high.0 <= message.offset() {
                    break;
                }
                add(&mut builder, &message);
                if BATCH_BYTES_MAX <= builder.bytes() {
                    batches.extend(builder.take());
                }
                if range.high.0 <= message.offset() + 1 {
                    break;
                }
                deadline = Instant::now() + stall;
            }
        }
    }
    batches.extend(builder.take());
    Ok(batches)
}

fn is_of(message: &BorrowedMessage<'_>, partition: &TopicPartition) -> bool {
    message.partition() == partition.partition.0 && message.topic() == &*partition.topic
}

/// Reads a partition for ever, until the receiver is dropped.
pub(super) fn follow(
    config: &ClientConfig,
    from: &TopicPartition,
    start: Offset,
) -> Result<mpsc::Receiver<Batch>, BrokerError> {
    let failed = |error: KafkaError| read_error(from, &error);
    let reader = reader(config).map_err(failed)?;
    assign(&reader, from, start).map_err(failed)?;
    let (batches_in, batches) = mpsc::channel(CHANNEL_BATCHES);
    let mut builder = BatchBuilder::new(from.clone());
    let work = move || {
        while !batches_in.is_closed() {
            let mut wait = POLL_WAIT;
            while let Some(polled) = reader.poll(wait) {
                match polled {
                    Ok(message) => add(&mut builder, &message),
                    Err(KafkaError::PartitionEOF(_)) => break,
                    Err(error) => warn!(%error, "following is disturbed"),
                }
                if BATCH_BYTES_MAX <= builder.bytes() {
                    break;
                }
                wait = Duration::ZERO;
            }
            if let Some(batch) = builder.take()
                && batches_in.blocking_send(batch).is_err()
            {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("follow".to_owned())
        .spawn(work)
        .map_err(|error| BrokerError::Setup(error.to_string()))?;
    Ok(batches)
}

/// Copies a message into a batch.
fn add(builder: &mut BatchBuilder, message: &BorrowedMessage<'_>) {
    let timestamp = message.timestamp().to_millis().unwrap_or(-1);
    builder.record(
        Offset(message.offset()),
        timestamp,
        message.key(),
        message.payload(),
    );
    for header in message.headers().iter().flat_map(|headers| headers.iter()) {
        builder.header(header.key, header.value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_is_lent_again_unless_it_failed() {
        let (readers, config) = (Readers::default(), ClientConfig::new());
        let which = |reader: &Reader| Ok(reader.client().native_ptr());
        let first = readers.lend(&config, which).unwrap();
        assert_eq!(readers.lend(&config, which).unwrap(), first);
        let beside = readers.lend(&config, |_| readers.lend(&config, which));
        assert_ne!(beside.unwrap(), first);
        let fail = |_: &Reader| Err::<(), _>(BrokerError::Deadline("a test"));
        for _ in 0..IDLE_MAX {
            readers.lend(&config, fail).unwrap_err();
        }
        assert_eq!(readers.idle.lock().unwrap().len(), 0);
    }
}
