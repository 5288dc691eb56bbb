//! Sends to Kafka: idempotent, keyed, never dropping, acknowledgements reported as they come.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};

use super::partition::partition_of;

/// Largest message: garbage of 2 MB fits, and what a broker of ours takes.
const MESSAGE_BYTES_MAX: &str = "4194304";
/// Messages and kilobytes that wait for the broker, at most; then sending waits.
const QUEUE_MESSAGES_MAX: &str = "100000";
const QUEUE_KILOBYTES_MAX: &str = "65536";
/// A message that no broker has taken after this long has failed, and the stream stops.
const DELIVERY_DEADLINE: Duration = Duration::from_secs(120);
const METADATA_DEADLINE: Duration = Duration::from_secs(15);
const QUEUE_FULL_PAUSE: Duration = Duration::from_micros(500);

/// Which of the two topics a message goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Events.
    Raw,
    /// Labels.
    Labels,
}

/// What a message is: comes back with its acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The event of a row of the file.
    Event(u64),
    /// The label of a row.
    Label(u64),
    /// Something added: dirt.
    Extra,
}

impl Sent {
    fn to_token(self) -> usize {
        match self {
            Sent::Event(row) => (row as usize) << 2,
            Sent::Label(row) => (row as usize) << 2 | 1,
            Sent::Extra => 2,
        }
    }

    fn from_token(token: usize) -> Sent {
        match token & 3 {
            0 => Sent::Event((token >> 2) as u64),
            1 => Sent::Label((token >> 2) as u64),
            _ => Sent::Extra,
        }
    }
}

/// An acknowledged message.
#[derive(Clone, Copy, Debug)]
pub struct Ack {
    /// What it is.
    pub sent: Sent,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// When the acknowledgement arrived.
    pub at: Instant,
}

/// Gets every acknowledgement, on the producer's own thread: it must not wait.
pub type OnAck = Box<dyn Fn(Ack) + Send + Sync>;

struct Acks {
    on_ack: OnAck,
    acked: AtomicU64,
    failed: AtomicU64,
    first_failure: std::sync::OnceLock<String>,
}

impl ClientContext for SharedAcks {}

/// The context that librdkafka calls.
struct SharedAcks(Arc<Acks>);

impl ProducerContext for SharedAcks {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, token: usize) {
        match result {
            Ok(message) => {
                self.0.acked.fetch_add(1, Ordering::Relaxed);
                let sent = Sent::from_token(token);
                let (partition, offset) = (message.partition(), message.offset());
                (self.0.on_ack)(Ack {
                    sent,
                    partition,
                    offset,
                    at: Instant::now(),
                });
            }
            Err((error, _)) => {
                self.0.failed.fetch_add(1, Ordering::Relaxed);
                self.0.first_failure.get_or_init(|| error.to_string());
            }
        }
    }
}

/// How long messages wait for others: what Kafka's producers do by default.
const LINGER_MS: &str = "5";

/// How messages are compressed, if no property says otherwise: events are JSON with the same names again and again.
const COMPRESSION: &str = "lz4";

/// Where and how to send.
#[derive(Clone, Debug)]
pub struct SendOptions {
    /// Kafka's bootstrap servers.
    pub brokers: String,
    /// More settings of librdkafka.
    pub properties: Vec<(String, String)>,
}

/// Sends messages to the two topics of a stream.
pub struct Sender {
    producer: ThreadedProducer<SharedAcks>,
    acks: Arc<Acks>,
    raw: Target,
    labels: Target,
}

struct Target {
    topic: String,
    partitions: i32,
}

impl Sender {
    /// Connects, and asks how many partitions the topics have.
    ///
    /// # Errors
    /// No broker that answers, or a topic that is not there.
    pub fn connect(
        options: &SendOptions,
        raw: &str,
        labels: &str,
        on_ack: OnAck,
    ) -> Result<Sender> {
        let acks = Arc::new(Acks {
            on_ack,
            acked: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            first_failure: std::sync::OnceLock::new(),
        });
        let config = config(options);
        let producer = ThreadedProducer::from_config_and_context(&config, SharedAcks(acks.clone()))
            .context("the settings of the Kafka producer are not right")?;
        let raw = target(&producer, raw, &options.brokers)?;
        let labels = target(&producer, labels, &options.brokers)?;
        Ok(Sender {
            producer,
            acks,
            raw,
            labels,
        })
    }

    /// Hands a message over; waits while the queue is full.
    ///
    /// # Errors
    /// A message that can never be sent, or an earlier one that failed for good.
    pub fn send(
        &self,
        lane: Lane,
        key: &str,
        payload: &[u8],
        trace_parent: Option<&str>,
        sent: Sent,
    ) -> Result<()> {
        let Target { topic, partitions } = match lane {
            Lane::Raw => &self.raw,
            Lane::Labels => &self.labels,
        };
        let mut record = BaseRecord::with_opaque_to(topic, sent.to_token())
            .key(key)
            .payload(payload)
            .partition(partition_of(key.as_bytes(), *partitions));
        if let Some(value) = trace_parent {
            let header = Header {
                key: "traceparent",
                value: Some(value),
            };
            record = record.headers(OwnedHeaders::new().insert(header));
        }
        let mut deadline = None;
        while let Err((error, refused)) = self.producer.send(record) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(error).with_context(|| format!("cannot send to {topic}"));
            }
            self.check()?;
            let now = Instant::now();
            if *deadline.get_or_insert(now + DELIVERY_DEADLINE) <= now {
                bail!("{topic} took nothing for {DELIVERY_DEADLINE:?}");
            }
            record = refused;
            std::thread::sleep(QUEUE_FULL_PAUSE);
        }
        Ok(())
    }

    /// Returns an error if a message failed for good.
    ///
    /// # Errors
    /// The first failure.
    pub fn check(&self) -> Result<()> {
        let failed = self.acks.failed.load(Ordering::Relaxed);
        match self.acks.first_failure.get() {
            Some(first) if 0 < failed => {
                Err(anyhow!("{failed} messages were not delivered: {first}"))
            }
            _ => Ok(()),
        }
    }

    /// Returns how many messages were acknowledged.
    pub fn acked(&self) -> u64 {
        self.acks.acked.load(Ordering::Relaxed)
    }

    /// Waits until every message is acknowledged.
    ///
    /// # Errors
    /// Messages that failed, or a broker that does not answer in time.
    pub fn flush(&self) -> Result<()> {
        self.producer
            .flush(DELIVERY_DEADLINE)
            .map_err(|error| match error {
                KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut) => {
                    let open = self.producer.in_flight_count();
                    anyhow!("{open} messages were not acknowledged within {DELIVERY_DEADLINE:?}")
                }
                error => anyhow::Error::from(error),
            })?;
        self.check()
    }
}

fn config(options: &SendOptions) -> ClientConfig {
    let mut config = ClientConfig::new();
    let deadline = DELIVERY_DEADLINE.as_millis().to_string();
    for (key, value) in [
        ("bootstrap.servers", options.brokers.as_str()),
        ("client.id", "thalweg-produce"),
        ("enable.idempotence", "true"),
        ("linger.ms", LINGER_MS),
        ("compression.type", COMPRESSION),
        ("batch.size", "1000000"),
        ("batch.num.messages", "10000"),
        ("message.max.bytes", MESSAGE_BYTES_MAX),
        ("message.timeout.ms", &deadline),
        ("queue.buffering.max.messages", QUEUE_MESSAGES_MAX),
        ("queue.buffering.max.kbytes", QUEUE_KILOBYTES_MAX),
        ("socket.nagle.disable", "true"),
    ] {
        config.set(key, value);
    }
    for (key, value) in &options.properties {
        config.set(key, value);
    }
    config
}

fn target(producer: &ThreadedProducer<SharedAcks>, topic: &str, brokers: &str) -> Result<Target> {
    let metadata = producer
        .client()
        .fetch_metadata(Some(topic), METADATA_DEADLINE)
        .with_context(|| format!("no answer from Kafka at {brokers}"))?;
    let partitions = metadata
        .topics()
        .iter()
        .find(|found| found.name() == topic)
        .map(|found| found.partitions().len());
    match partitions.and_then(|count| i32::try_from(count).ok()) {
        Some(partitions) if 0 < partitions => Ok(Target {
            topic: topic.to_owned(),
            partitions,
        }),
        _ => bail!(
            "Kafka at {brokers} has no topic {topic}; `thalweg up` makes the topics of a stream"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_a_round_trip() {
        for sent in [
            Sent::Event(0),
            Sent::Event(1 << 40),
            Sent::Label(3),
            Sent::Extra,
        ] {
            assert_eq!(Sent::from_token(sent.to_token()), sent);
        }
    }
}
