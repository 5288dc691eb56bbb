//! Lanes: records of one partition, in order, each once, through one idempotent producer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rdkafka::client::DefaultClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, NoCustomPartitioner, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::batch::TopicPartition;
use crate::broker::{BrokerError, Lane, Outgoing};

/// Bytes that may wait in the producer.
const QUEUE_KIB_MAX: &str = "32768";

/// Records that may wait in the producer.
const QUEUE_RECORDS_MAX: &str = "50000";

/// Bytes of one lane that may wait for their acknowledgement; a lane that is full runs empty before it takes more.
///
/// librdkafka has one request of an idempotent partition on its way at a time. While records wait behind it for longer
/// than they may linger, its thread spins, and takes the processor from the broker that should acknowledge.
const LANE_BYTES_MAX: u64 = 1 << 20;

/// How long a record may wait for its acknowledgement before the worker gives up and starts anew.
const DELIVERY_MAX: Duration = Duration::from_secs(120);

/// Whether a producer gives up once a record could be missing between two others.
const GAPLESS: &str = "enable.gapless.guarantee";

/// What librdkafka calls the codec of messages.
const COMPRESSION_NAMES: [&str; 2] = ["compression.type", "compression.codec"];

/// Largest message: raw records of megabytes go to the dead topic whole.
const MESSAGE_BYTES_MAX: &str = "67108864";

/// How long to wait for room in the queue when no acknowledgement wakes us.
const ROOM_WAIT: Duration = Duration::from_millis(20);

/// One idempotent producer.
pub(super) struct Producer {
    inner: Arc<Inner>,
}

struct Inner {
    producer: ThreadedProducer<Deliveries, NoCustomPartitioner>,
}

struct Deliveries;

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // librdkafka calls it experimental, once for each producer; what it does for us is tested.
        if !(facility == "CONFWARN" && message.contains(GAPLESS)) {
            DefaultClientContext.log(level, facility, message);
        }
    }
}

impl ProducerContext<NoCustomPartitioner> for Deliveries {
    type DeliveryOpaque = Arc<State>;

    fn delivery(&self, result: &DeliveryResult<'_>, state: Arc<State>) {
        match result {
            // The producer is idempotent: acknowledgements of one partition come in order.
            Ok(record) => {
                let bytes = record.payload_len() as u64;
                state.acked_bytes.fetch_add(bytes, Ordering::Relaxed);
                state.acked.fetch_add(1, Ordering::Release)
            }
            Err((error, _)) => {
                let reason = error.to_string();
                state.failed.get_or_init(|| BrokerError::Write {
                    to: state.to.to_string(),
                    reason,
                });
                0
            }
        };
        state.changed.notify_waiters();
    }
}

struct State {
    to: TopicPartition,
    sent: AtomicU64,
    acked: AtomicU64,
    /// Bytes of values, as above.
    sent_bytes: AtomicU64,
    acked_bytes: AtomicU64,
    failed: OnceLock<BrokerError>,
    changed: Notify,
}

/// A lane of a Kafka producer.
#[derive(Clone)]
pub struct KafkaLane {
    inner: Arc<Inner>,
    state: Arc<State>,
}

impl State {
    fn unacked_bytes(&self) -> u64 {
        let acked = self.acked_bytes.load(Ordering::Relaxed);
        // An acknowledgement may be quicker than the note that its record was sent.
        self.sent_bytes
            .load(Ordering::Relaxed)
            .saturating_sub(acked)
    }

    /// Notes that a record was sent; returns its number.
    fn note_sent(&self, bytes: u64) -> u64 {
        self.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.sent.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Producer {
    pub(super) fn new(
        config: &ClientConfig,
        linger: Duration,
        compression: Option<&str>,
    ) -> Result<Producer, BrokerError> {
        let mut config = config.clone();
        if let Some(codec) = compression
            && COMPRESSION_NAMES
                .iter()
                .all(|name| config.get(name).is_none())
        {
            config.set(COMPRESSION_NAMES[0], codec);
        }
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // A record that is refused for good is followed by none: the worker starts anew.
            .set(GAPLESS, "true")
            .set("linger.ms", (linger.as_secs_f64() * 1000.0).to_string())
            .set("queue.buffering.max.kbytes", QUEUE_KIB_MAX)
            .set("queue.buffering.max.messages", QUEUE_RECORDS_MAX)
            .set("message.max.bytes", MESSAGE_BYTES_MAX)
            .set("delivery.timeout.ms", DELIVERY_MAX.as_millis().to_string());
        let producer = config
            .create_with_context(Deliveries)
            .map_err(|error| BrokerError::Setup(error.to_string()))?;
        Ok(Producer {
            inner: Arc::new(Inner { producer }),
        })
    }

    pub(super) fn lane(&self, to: &TopicPartition) -> KafkaLane {
        let state = State {
            to: to.clone(),
            sent: AtomicU64::new(0),
            acked: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            acked_bytes: AtomicU64::new(0),
            failed: OnceLock::new(),
            changed: Notify::new(),
        };
        KafkaLane {
            inner: self.inner.clone(),
            state: Arc::new(state),
        }
    }
}

impl KafkaLane {
    fn fail(&self, reason: String) -> BrokerError {
        BrokerError::Write {
            to: self.state.to.to_string(),
            reason,
        }
    }

    /// Waits until something changes, at most as long as a record may wait.
    async fn changed(
        &self,
        at_most: Duration,
        done: impl Fn(&State) -> bool,
    ) -> Result<bool, BrokerError> {
        let changed = self.state.changed.notified();
        tokio::pin!(changed);
        // From here on a notification is not lost, even between the check and the wait.
        changed.as_mut().enable();
        if done(&self.state) {
            return Ok(true);
        }
        if let Some(error) = self.state.failed.get() {
            return Err(error.clone());
        }
        Ok(timeout(at_most, changed).await.is_ok())
    }
}

impl Lane for KafkaLane {
    async fn send(&self, outgoing: Outgoing<'_>) -> Result<u64, BrokerError> {
        // A partition that does not know our producer yet takes its records from any number on. Were the first one
        // refused for a moment (the disk is full, too few replicas are in sync) with others right behind it, those
        // would be taken, and the first one then for a repeat: lost, but acknowledged. So it goes alone.
        if self.state.acked.load(Ordering::Acquire) == 0
            && 0 < self.state.sent.load(Ordering::Relaxed)
        {
            self.wait(1).await?;
        }
        if LANE_BYTES_MAX <= self.state.unacked_bytes() {
            self.wait(self.state.sent.load(Ordering::Relaxed)).await?;
        }
        let mut record = BaseRecord::<[u8], [u8], Arc<State>>::with_opaque_to(
            &self.state.to.topic,
            self.state.clone(),
        )
        .partition(self.state.to.partition.0)
        .payload(outgoing.value);
        if let Some(key) = outgoing.key {
            record = record.key(key);
        }
        if !outgoing.headers.is_empty() {
            let headers = OwnedHeaders::new_with_capacity(outgoing.headers.len());
            let insert = |headers: OwnedHeaders, (key, value): &(&str, &[u8])| {
                headers.insert(Header {
                    key,
                    value: Some(*value),
                })
            };
            record = record.headers(outgoing.headers.iter().fold(headers, insert));
        }
        loop {
            match self.inner.producer.send(record) {
                Ok(()) => return Ok(self.state.note_sent(outgoing.value.len() as u64)),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    self.changed(ROOM_WAIT, |_| false).await?;
                }
                Err((error, _)) => return Err(self.fail(error.to_string())),
            }
        }
    }

    fn acked(&self) -> Result<u64, BrokerError> {
        match self.state.failed.get() {
            Some(error) => Err(error.clone()),
            None => Ok(self.state.acked.load(Ordering::Acquire)),
        }
    }

    async fn wait(&self, number: u64) -> Result<(), BrokerError> {
        let done = |state: &State| number <= state.acked.load(Ordering::Acquire);
        while !done(&self.state) {
            if !self.changed(DELIVERY_MAX, done).await? {
                return Err(self.fail("no acknowledgement in time".to_owned()));
            }
        }
        Ok(())
    }
}
