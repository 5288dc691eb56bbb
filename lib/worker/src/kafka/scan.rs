//! A closed range of one partition, looked at where it lies in the client's memory: nothing is copied.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaErrorCode;

use crate::batch::TopicPartition;
use crate::broker::{BrokerError, Watermarks};

use super::queue::{Queue, Taken};

/// How long to wait for a record before the deadline is looked at.
const WAIT: Duration = Duration::from_millis(100);

/// A client that has read its range. Dropping it takes a tenth of a second.
pub struct Scanned {
    _consumer: BaseConsumer,
}

/// Shows every record of a range, in order; `stall` is how long nothing may come.
///
/// It joins no group and commits nothing. `config` is librdkafka's.
///
/// # Errors
/// [`BrokerError`] if the client cannot be made, the partition cannot be read, or nothing comes for too long.
pub fn scan(
    config: &ClientConfig,
    from: &TopicPartition,
    range: Watermarks,
    stall: Duration,
    on: &mut dyn FnMut(&Taken<'_>),
) -> Result<Scanned, BrokerError> {
    let failed = |error: KafkaError| BrokerError::Read {
        from: from.to_string(),
        reason: error.to_string(),
    };
    let consumer: BaseConsumer = config.create().map_err(failed)?;
    let mut list = TopicPartitionList::new();
    let start = rdkafka::Offset::Offset(range.low.0);
    list.add_partition_offset(&from.topic, from.partition.0, start)
        .map_err(failed)?;
    // SAFETY: the queue is dropped at the end of this function, the consumer with what it returns.
    let queue = unsafe { Queue::new(consumer.client()) };
    let queue = queue.filter(|queue| queue.take_in(consumer.client(), from));
    let queue = queue.ok_or_else(|| BrokerError::Setup("no queue for a partition".to_owned()))?;
    consumer.assign(&list).map_err(failed)?;
    let mut deadline = Instant::now() + stall;
    'handfuls: loop {
        let handful = queue.take(WAIT);
        if handful.is_empty() {
            if deadline < Instant::now() {
                return Err(BrokerError::Deadline("reading a range"));
            }
            continue;
        }
        for record in handful.iter() {
            let record = match record {
                Ok(record) if record.offset() < range.high => record,
                Ok(_) => break 'handfuls,
                Err(KafkaError::MessageConsumption(RDKafkaErrorCode::PartitionEOF)) => {
                    break 'handfuls;
                }
                Err(error) => return Err(failed(error)),
            };
            on(&record);
            if range.high <= record.offset().next() {
                break 'handfuls;
            }
        }
        deadline = Instant::now() + stall;
    }
    Ok(Scanned {
        _consumer: consumer,
    })
}
