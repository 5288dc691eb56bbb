//! Reads whole topics, as any Kafka client could.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// How long nothing may come.
const STALL: Duration = Duration::from_secs(20);

/// One message.
#[derive(Clone, Debug)]
pub struct Read {
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Key.
    pub key: Vec<u8>,
    /// Value.
    pub value: Vec<u8>,
    /// Headers.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Read {
    /// Returns headers as `schemas` wants them.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> + Clone {
        self.headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()))
    }
}

fn consumer(brokers: &str) -> Result<BaseConsumer> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("group.id", "tests")
        .set("enable.partition.eof", "true");
    config.set("enable.auto.commit", "false");
    Ok(config.create()?)
}

/// Returns how many messages a topic has, over all partitions.
///
/// # Errors
/// A broker that does not answer.
pub fn count(brokers: &str, topic: &str) -> Result<u64> {
    let consumer = consumer(brokers)?;
    let ends = partitions(&consumer, topic)?.into_iter().map(|partition| {
        let (low, high) = consumer.fetch_watermarks(topic, partition, STALL)?;
        Ok((high - low) as u64)
    });
    ends.sum()
}

/// Reads a topic from its beginning to where it ends now.
///
/// # Errors
/// A broker that does not answer.
pub fn read(brokers: &str, topic: &str) -> Result<Vec<Read>> {
    let consumer = consumer(brokers)?;
    let partitions = partitions(&consumer, topic)?;
    let mut open = partitions.len();
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let mut messages = Vec::new();
    let mut heard = Instant::now();
    while 0 < open {
        match consumer.poll(Duration::from_millis(100)) {
            None if STALL < heard.elapsed() => {
                bail!("{topic} stalls after {} messages", messages.len())
            }
            None => continue,
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(error)) => return Err(error.into()),
            Some(Ok(message)) => messages.push(copy(&message)),
        }
        heard = Instant::now();
    }
    Ok(messages)
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> Result<Vec<i32>> {
    let metadata = consumer.fetch_metadata(Some(topic), STALL)?;
    let topic = metadata.topics().first().context("the topic's metadata")?;
    Ok(topic
        .partitions()
        .iter()
        .map(|partition| partition.id())
        .collect())
}

fn copy(message: &BorrowedMessage<'_>) -> Read {
    let header = |header: rdkafka::message::Header<'_, &[u8]>| {
        (
            header.key.to_owned(),
            header.value.unwrap_or_default().to_vec(),
        )
    };
    Read {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().unwrap_or_default().to_vec(),
        value: message.payload().unwrap_or_default().to_vec(),
        headers: message
            .headers()
            .iter()
            .flat_map(|headers| headers.iter())
            .map(header)
            .collect(),
    }
}
