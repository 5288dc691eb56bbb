//! What a worker needs of a broker, so that a simulated one can take the place of Kafka.

use std::future::Future;

use schemas::{Offset, Partition, TopicId};
use tokio::sync::{mpsc, oneshot};

use crate::batch::{Batch, TopicPartition};

/// A failure to talk to the broker; the worker stops, and starts anew from what is durable.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BrokerError {
    /// The client cannot be made.
    #[error("could not set the Kafka client up: {0}")]
    Setup(String),
    /// The topic is not there, or not yet.
    #[error("could not describe topic `{topic}`: {reason}")]
    Topic {
        /// The topic.
        topic: String,
        /// What the broker said.
        reason: String,
    },
    /// Records could not be read.
    #[error("could not read `{from}`: {reason}")]
    Read {
        /// The partition.
        from: String,
        /// What the broker said.
        reason: String,
    },
    /// The client jumped over records; it reads them when it begins anew.
    #[error("the client left records of `{from}` out, from offset {first} to before {before}")]
    LeftOut {
        /// The partition.
        from: String,
        /// The first of them.
        first: Offset,
        /// The offset that came instead.
        before: Offset,
    },
    /// A record could not be written.
    #[error("could not write to `{to}`: {reason}")]
    Write {
        /// The topic.
        to: String,
        /// What the broker said.
        reason: String,
    },
    /// An answer did not come within its deadline.
    #[error("the broker did not answer in time: {0}")]
    Deadline(&'static str),
    /// The poll thread is gone.
    #[error("the poll thread has stopped")]
    Stopped,
}

/// A broker.
pub trait Broker: Clone + Send + Sync + 'static {
    /// Where records of one partition are written.
    type Lane: Lane;

    /// Joins a consumer group and begins to read.
    ///
    /// # Errors
    /// [`BrokerError::Setup`].
    fn subscribe(&self, group: &str, topics: &[&str]) -> Result<Subscription, BrokerError>;

    /// Reads one partition without a group, from an offset on, for ever.
    ///
    /// # Errors
    /// [`BrokerError::Setup`].
    fn follow(
        &self,
        from: &TopicPartition,
        start: Offset,
    ) -> Result<mpsc::Receiver<Batch>, BrokerError>;

    /// Opens a lane to one partition of a topic.
    ///
    /// # Errors
    /// [`BrokerError::Setup`].
    fn lane(&self, to: &TopicPartition) -> Result<Self::Lane, BrokerError>;

    /// Returns a topic's id and its number of partitions.
    fn topic(&self, name: &str) -> impl Future<Output = Result<TopicInfo, BrokerError>> + Send;

    /// Returns the first offset of a partition and the one after the last.
    fn watermarks(
        &self,
        of: &TopicPartition,
    ) -> impl Future<Output = Result<Watermarks, BrokerError>> + Send;

    /// Reads a closed range of one partition.
    fn read(
        &self,
        from: &TopicPartition,
        range: Watermarks,
    ) -> impl Future<Output = Result<Vec<Batch>, BrokerError>> + Send;
}

/// Where records of one partition are written, in order, each once.
pub trait Lane: Clone + Send + Sync + 'static {
    /// Queues a record and returns its number in this lane, from 1; waits while the queue is full.
    fn send(&self, record: Outgoing<'_>) -> impl Future<Output = Result<u64, BrokerError>> + Send;

    /// Returns the number of the last record of which it and all before are acknowledged.
    ///
    /// # Errors
    /// [`BrokerError::Write`] once a record of the lane could not be written.
    fn acked(&self) -> Result<u64, BrokerError>;

    /// Waits until a record is acknowledged.
    fn wait(&self, number: u64) -> impl Future<Output = Result<(), BrokerError>> + Send;
}

/// A record to write.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outgoing<'a> {
    /// Key.
    pub key: Option<&'a [u8]>,
    /// Value.
    pub value: &'a [u8],
    /// Headers.
    pub headers: &'a [(&'a str, &'a [u8])],
}

/// What the broker says of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its id; all zero where the broker knows no ids.
    pub id: TopicId,
    /// How many partitions it has.
    pub partitions: i32,
}

/// A range of offsets: from `low`, to before `high`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// First offset.
    pub low: Offset,
    /// The offset after the last.
    pub high: Offset,
}

/// A membership in a consumer group.
pub struct Subscription {
    /// What happens, in order.
    pub events: mpsc::Receiver<Event>,
    /// What the member asks for; dropping it leaves the group.
    pub orders: mpsc::Sender<Order>,
}

/// What a member of a consumer group asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// To commit the next offsets to read.
    Commit(Vec<(TopicPartition, Offset)>),
    /// To get nothing more of these partitions, and of all others again.
    Hold(Vec<TopicPartition>),
}

/// What happens to a member of a consumer group.
#[derive(Debug)]
pub enum Event {
    /// Records came.
    Batch(Batch),
    /// Partitions were assigned; the answer says where to begin.
    Assigned(Vec<TopicPartition>, oneshot::Sender<Vec<Assigned>>),
    /// Partitions are being taken away; the answer says what to commit before they go.
    Revoked(
        Vec<TopicPartition>,
        oneshot::Sender<Vec<(TopicPartition, Offset)>>,
    ),
    /// The log of a partition goes up to (before) this offset.
    High(TopicPartition, Offset),
    /// Reading failed for good.
    Failed(BrokerError),
}

/// Where to begin in an assigned partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The partition.
    pub partition: TopicPartition,
    /// Where to begin.
    pub start: Start,
}

/// Where to begin in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the group's committed offset; at the beginning if it has none.
    Committed,
    /// At an offset.
    At(Offset),
}

impl From<(&str, Partition)> for TopicPartition {
    fn from((topic, partition): (&str, Partition)) -> TopicPartition {
        TopicPartition {
            topic: topic.into(),
            partition,
        }
    }
}
