//! Kafka through librdkafka.

mod consume;
mod describe;
mod produce;
mod queue;
mod read;
mod rebalance;
mod scan;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use schemas::Offset;
use tokio::sync::mpsc;
use tracing::warn;

use crate::batch::{Batch, TopicPartition};
use crate::broker::{Broker, BrokerError, Subscription, TopicInfo, Watermarks};

use self::read::{Reader, Readers};

pub use produce::KafkaLane;
pub use queue::Taken;
pub use scan::{Scanned, scan};

/// How long a worker waits for a topic that is not there yet: a launcher may still be making it.
const TOPIC_WAIT: Duration = Duration::from_secs(60);

/// Between two looks for a topic.
const TOPIC_RETRY: Duration = Duration::from_millis(100);

/// How long one request to the broker may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// The property that says after which silence a member of a group is gone.
const SESSION: &str = "session.timeout.ms";

/// The property that says how often a member says that it is there.
const HEARTBEAT: &str = "heartbeat.interval.ms";

/// Heartbeats in a session: three may be lost.
const HEARTBEATS: u32 = 4;

/// A connection to Kafka: consumers of its own for each subscription, one producer for all lanes, and readers for what
/// is read and asked beside.
#[derive(Clone)]
pub struct Kafka {
    config: ClientConfig,
    lock: Option<Arc<str>>,
    linger: Duration,
    compression: Option<&'static str>,
    producer: Arc<OnceLock<produce::Producer>>,
    readers: Arc<Readers>,
}

impl Kafka {
    /// Prepares clients; nothing connects yet.
    ///
    /// `properties` are librdkafka's, as `name=value`; they override what is set here.
    ///
    /// # Errors
    /// [`BrokerError::Setup`], naming the property that is no `name=value`.
    pub fn connect(brokers: &str, properties: &[String]) -> Result<Kafka, BrokerError> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", brokers)
            .set("client.id", "thalweg")
            .set("socket.nagle.disable", "true");
        for property in properties {
            let Some((name, value)) = property.split_once('=') else {
                let problem = format!("`{property}` is not a property; write name=value");
                return Err(BrokerError::Setup(problem));
            };
            config.set(name, value);
        }
        Ok(Kafka {
            config,
            lock: None,
            linger: Duration::ZERO,
            compression: None,
            producer: Arc::default(),
            readers: Arc::default(),
        })
    }

    /// Lets lanes wait for more records before they send: fewer, larger requests for a little latency.
    ///
    /// Call it before the first lane is opened.
    pub fn with_linger(mut self, linger: Duration) -> Kafka {
        self.linger = linger;
        self.producer = Arc::default();
        self
    }

    /// Makes subscriptions all or nothing: of a group, the member that gets partition 0 of `lock` gets every partition
    /// of its topics, and the others stand by to take its place.
    pub fn all_or_nothing(mut self, lock: &str) -> Kafka {
        self.lock = Some(lock.into());
        self
    }

    /// Lets a group notice sooner that a member was killed: after this time, or as soon as the brokers allow. What the
    /// operator has set stays.
    pub async fn with_session(mut self, wanted: Duration) -> Kafka {
        if self.config.get(SESSION).is_some() {
            return self;
        }
        let config = self.config.clone();
        let least = describe::session_min(&config, REQUEST_TIMEOUT).await;
        let session = match least {
            Ok(least) => wanted.max(least),
            Err(error) => {
                warn!(%error, "cannot ask how short sessions may be; they stay as they are");
                return self;
            }
        };
        if wanted < session {
            warn!(
                ?session,
                ?wanted,
                "the brokers want longer sessions: set their group.min.session.timeout.ms"
            );
        }
        self.config
            .set(SESSION, session.as_millis().to_string())
            .set(HEARTBEAT, (session / HEARTBEATS).as_millis().to_string());
        self
    }

    /// Lets lanes compress by a codec of Kafka's, unless the operator has named one.
    ///
    /// Call it before the first lane is opened.
    pub fn with_compression(mut self, codec: &'static str) -> Kafka {
        self.compression = Some(codec);
        self.producer = Arc::default();
        self
    }

    fn producer(&self) -> Result<&produce::Producer, BrokerError> {
        if let Some(producer) = self.producer.get() {
            return Ok(producer);
        }
        let made = produce::Producer::new(&self.config, self.linger, self.compression)?;
        Ok(self.producer.get_or_init(|| made))
    }

    /// Lets a reader do something that blocks.
    async fn with_reader<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&Reader) -> Result<T, BrokerError> + Send + 'static,
    ) -> Result<T, BrokerError> {
        let (config, readers) = (self.config.clone(), self.readers.clone());
        tokio::task::spawn_blocking(move || readers.lend(&config, work))
            .await
            .unwrap_or(Err(BrokerError::Deadline(what)))
    }
}

impl Broker for Kafka {
    type Lane = KafkaLane;

    fn subscribe(&self, group: &str, topics: &[&str]) -> Result<Subscription, BrokerError> {
        consume::subscribe(&self.config, self.lock.as_deref(), group, topics)
    }

    fn follow(
        &self,
        from: &TopicPartition,
        start: Offset,
    ) -> Result<mpsc::Receiver<Batch>, BrokerError> {
        read::follow(&self.config, from, start)
    }

    fn lane(&self, to: &TopicPartition) -> Result<KafkaLane, BrokerError> {
        Ok(self.producer()?.lane(to))
    }

    async fn topic(&self, name: &str) -> Result<TopicInfo, BrokerError> {
        let deadline = Instant::now() + TOPIC_WAIT;
        loop {
            let topic = name.to_owned();
            let asked = self.with_reader("describe", move |reader| {
                describe::topic(reader, &topic, REQUEST_TIMEOUT)
            });
            match asked.await {
                Err(error) if deadline <= Instant::now() => return Err(error),
                Err(_) => tokio::time::sleep(TOPIC_RETRY).await,
                found => return found,
            }
        }
    }

    async fn watermarks(&self, of: &TopicPartition) -> Result<Watermarks, BrokerError> {
        let of = of.clone();
        self.with_reader("watermarks", move |reader| {
            read::watermarks(reader, &of, REQUEST_TIMEOUT)
        })
        .await
    }

    async fn read(
        &self,
        from: &TopicPartition,
        range: Watermarks,
    ) -> Result<Vec<Batch>, BrokerError> {
        let from = from.clone();
        self.with_reader("read", move |reader| {
            read::range(reader, &from, range, REQUEST_TIMEOUT)
        })
        .await
    }
}
