//! A broker in memory: what a stage's unit tests run on. Whatever is written is acknowledged at once, and one
//! member has all partitions; crashes are simulated by dropping the stage and building another.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use schemas::{Offset, Partition, TopicId};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use crate::batch::{Batch, BatchBuilder, TopicPartition};
use crate::broker::{
    Broker, BrokerError, Event, Lane, Order, Outgoing, Start, Subscription, TopicInfo, Watermarks,
};

/// Events between the broker and the stage.
const CHANNEL: usize = 8;

/// Records of a batch.
const BATCH_RECORDS: usize = 256;

/// How often readers look for new records.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// A broker in memory.
#[derive(Clone, Default)]
pub struct Memory {
    topics: Arc<Mutex<HashMap<String, Topic>>>,
}

struct Topic {
    id: TopicId,
    partitions: Vec<Vec<Stored>>,
}

#[derive(Clone)]
struct Stored {
    key: Option<Vec<u8>>,
    value: Vec<u8>,
    headers: Vec<(String, Vec<u8>)>,
}

/// A lane of a broker in memory.
#[derive(Clone)]
pub struct MemoryLane {
    broker: Memory,
    to: TopicPartition,
    sent: Arc<AtomicU64>,
}

impl Memory {
    /// Makes a topic.
    pub fn create(&self, name: &str, partitions: usize) {
        let mut topics = self.topics();
        let id = TopicId([topics.len() as u8 + 1; 16]);
        topics.insert(
            name.to_owned(),
            Topic {
                id,
                partitions: vec![Vec::new(); partitions],
            },
        );
    }

    /// Appends a record.
    ///
    /// # Errors
    /// [`BrokerError::Write`] if there is no such partition.
    pub fn append(&self, to: &TopicPartition, record: Outgoing<'_>) -> Result<Offset, BrokerError> {
        let refuse = || BrokerError::Write {
            to: to.to_string(),
            reason: "no such partition".to_owned(),
        };
        let mut topics = self.topics();
        let topic = topics.get_mut(to.topic.as_ref()).ok_or_else(refuse)?;
        let log = topic
            .partitions
            .get_mut(to.partition.0 as usize)
            .ok_or_else(refuse)?;
        let header = |(name, value): &(&str, &[u8])| ((*name).to_owned(), value.to_vec());
        log.push(Stored {
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.to_vec(),
            headers: record.headers.iter().map(header).collect(),
        });
        Ok(Offset(log.len() as i64 - 1))
    }

    /// Returns at most so many records of a partition from an offset on; the timestamp of each is its offset.
    pub fn records(&self, from: &TopicPartition, start: Offset, most: usize) -> Option<Batch> {
        let topics = self.topics();
        let log = topics
            .get(from.topic.as_ref())?
            .partitions
            .get(from.partition.0 as usize)?;
        let mut builder = BatchBuilder::new(from.clone());
        for (offset, record) in log
            .iter()
            .enumerate()
            .skip(start.0.max(0) as usize)
            .take(most)
        {
            builder.record(
                Offset(offset as i64),
                offset as i64,
                record.key.as_deref(),
                Some(&record.value),
            );
            for (name, value) in &record.headers {
                builder.header(name, Some(value));
            }
        }
        builder.take()
    }

    fn topics(&self) -> MutexGuard<'_, HashMap<String, Topic>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, name: &str) -> Result<TopicInfo, BrokerError> {
        let topics = self.topics();
        let topic = topics.get(name).ok_or_else(|| BrokerError::Topic {
            topic: name.to_owned(),
            reason: "no such topic".to_owned(),
        })?;
        Ok(TopicInfo {
            id: topic.id,
            partitions: topic.partitions.len() as i32,
        })
    }

    /// Hands everything in the partitions over, until the member has gone.
    async fn feed(
        self,
        partitions: Vec<TopicPartition>,
        events: mpsc::Sender<Event>,
        mut orders: mpsc::Receiver<Order>,
    ) {
        let (answer, starts) = oneshot::channel();
        if events
            .send(Event::Assigned(partitions, answer))
            .await
            .is_err()
        {
            return;
        }
        let next = |start| match start {
            Start::Committed => Offset(0),
            Start::At(offset) => offset,
        };
        let starts = starts.await.unwrap_or_default().into_iter();
        let mut positions: Vec<_> = starts
            .map(|assigned| (assigned.partition, next(assigned.start)))
            .collect();
        let mut held = Vec::new();
        loop {
            match orders.try_recv() {
                Ok(Order::Hold(partitions)) => held = partitions,
                Ok(Order::Commit(_)) | Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return,
            }
            for (partition, next) in positions
                .iter_mut()
                .filter(|(partition, _)| !held.contains(partition))
            {
                let Some(batch) = self.records(partition, *next, BATCH_RECORDS) else {
                    continue;
                };
                *next = batch.last().map_or(*next, Offset::next);
                if events.send(Event::Batch(batch)).await.is_err() {
                    return;
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Broker for Memory {
    type Lane = MemoryLane;

    fn subscribe(&self, _: &str, topics: &[&str]) -> Result<Subscription, BrokerError> {
        let (events_in, events) = mpsc::channel(CHANNEL);
        let (orders, orders_out) = mpsc::channel(CHANNEL);
        let mut partitions = Vec::new();
        for topic in topics {
            let count = self.find(topic)?.partitions;
            partitions.extend((0..count).map(|partition| (*topic, Partition(partition)).into()));
        }
        tokio::spawn(self.clone().feed(partitions, events_in, orders_out));
        Ok(Subscription { events, orders })
    }

    fn follow(
        &self,
        from: &TopicPartition,
        start: Offset,
    ) -> Result<mpsc::Receiver<Batch>, BrokerError> {
        let (batches_in, batches) = mpsc::channel(CHANNEL);
        let (broker, from, mut next) = (self.clone(), from.clone(), start);
        tokio::spawn(async move {
            while !batches_in.is_closed() {
                match broker.records(&from, next, BATCH_RECORDS) {
                    None => tokio::time::sleep(LOOK_EVERY).await,
                    Some(batch) => {
                        next = batch.last().map_or(next, Offset::next);
                        if batches_in.send(batch).await.is_err() {
                            return;
                        }
                    }
                }
            }
        });
        Ok(batches)
    }

    fn lane(&self, to: &TopicPartition) -> Result<MemoryLane, BrokerError> {
        Ok(MemoryLane {
            broker: self.clone(),
            to: to.clone(),
            sent: Arc::default(),
        })
    }

    async fn topic(&self, name: &str) -> Result<TopicInfo, BrokerError> {
        self.find(name)
    }

    async fn watermarks(&self, of: &TopicPartition) -> Result<Watermarks, BrokerError> {
        let high = self.topics().get(of.topic.as_ref()).and_then(|topic| {
            topic
                .partitions
                .get(of.partition.0 as usize)
                .map(|log| Offset(log.len() as i64))
        });
        let missing = || BrokerError::Read {
            from: of.to_string(),
            reason: "no such partition".to_owned(),
        };
        Ok(Watermarks {
            low: Offset(0),
            high: high.ok_or_else(missing)?,
        })
    }

    async fn read(
        &self,
        from: &TopicPartition,
        range: Watermarks,
    ) -> Result<Vec<Batch>, BrokerError> {
        let most = (range.high.0 - range.low.0).max(0) as usize;
        Ok(self.records(from, range.low, most).into_iter().collect())
    }
}

impl Lane for MemoryLane {
    async fn send(&self, record: Outgoing<'_>) -> Result<u64, BrokerError> {
        self.broker.append(&self.to, record)?;
        Ok(self.sent.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn acked(&self) -> Result<u64, BrokerError> {
        Ok(self.sent.load(Ordering::Relaxed))
    }

    async fn wait(&self, _: u64) -> Result<(), BrokerError> {
        Ok(())
    }
}
