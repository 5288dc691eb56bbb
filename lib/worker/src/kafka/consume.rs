//! The poll thread: one consumer of a group, its records gathered into batches, its rebalances handed over.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;
use tracing::warn;

use super::describe;
use super::queue::{Handful, Queue, Taken};
use super::rebalance::{Rebalances, commit, hold, partitions_of};
use crate::batch::BatchBuilder;
use crate::broker::{BrokerError, Event, Order, Subscription};

/// Batches between the poll thread and the stage.
const CHANNEL_BATCHES: usize = 8;

/// Orders between the stage and the poll thread.
const CHANNEL_ORDERS: usize = 16;

/// A batch is handed over at this size, even if more is there.
const BATCH_BYTES_MAX: usize = 512 << 10;

/// A batch is handed over with this many records, even if more are there.
const BATCH_RECORDS_MAX: usize = 2048;

/// How long a poll waits when nothing is there: how quickly commits and shutdowns are seen.
const POLL_WAIT: Duration = Duration::from_millis(50);

/// How long giving partitions up may take.
const LEAVE_MAX: Duration = Duration::from_secs(5);

/// The property that says where to begin if nothing is committed, and what it is unless the operator sets it.
const RESET: &str = "auto.offset.reset";
const BEGINNING: &str = "earliest";

/// How often the ends of the logs are reported.
const HIGH_INTERVAL: Duration = Duration::from_secs(1);

/// Joins a group. With a lock, the group shares that topic, and whoever has it reads all partitions of `topics`.
pub(super) fn subscribe(
    config: &ClientConfig,
    lock: Option<&str>,
    group: &str,
    topics: &[&str],
) -> Result<Subscription, BrokerError> {
    let setup = |error: KafkaError| BrokerError::Setup(error.to_string());
    let (events_in, events) = mpsc::channel(CHANNEL_BATCHES);
    let (orders, orders_out) = mpsc::channel(CHANNEL_ORDERS);
    let config = consumer_config(config, group);
    let from_beginning = config.get(RESET) == Some(BEGINNING);
    let context = Rebalances::new(events_in.clone(), orders_out, topics, lock, from_beginning);
    let consumer: BaseConsumer<Rebalances> = config.create_with_context(context).map_err(setup)?;
    // SAFETY: the poller, which owns the consumer, drops the queue first.
    let queue = unsafe { Queue::new(consumer.client()) };
    if let Ok(mut place) = consumer.context().queue.lock() {
        *place = queue;
    }
    let poller = Poller {
        consumer,
        events: events_in,
        reported_at: Instant::now(),
    };
    let shared = lock.as_slice();
    let shared = if shared.is_empty() { topics } else { shared };
    poller.consumer.subscribe(shared).map_err(setup)?;
    std::thread::Builder::new()
        .name("poll".to_owned())
        .spawn(move || poller.run())
        .map_err(|error| BrokerError::Setup(error.to_string()))?;
    Ok(Subscription { events, orders })
}

fn consumer_config(config: &ClientConfig, group: &str) -> ClientConfig {
    let mut config = config.clone();
    let ours = [
        ("group.id", group),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        (RESET, BEGINNING),
        // Partitions that do not move flow on, and the others move once.
        ("partition.assignment.strategy", "cooperative-sticky"),
        ("fetch.min.bytes", "1"),
        ("fetch.wait.max.ms", "500"),
        // librdkafka waits a second by default before it fetches again after its queue was full.
        ("fetch.queue.backoff.ms", "2"),
        ("fetch.message.max.bytes", "1048576"),
        ("queued.max.messages.kbytes", "16384"),
        ("fetch.max.bytes", "16777216"),
        ("session.timeout.ms", "6000"),
        ("heartbeat.interval.ms", "1500"),
        ("max.poll.interval.ms", "300000"),
        ("allow.auto.create.topics", "false"),
        ("topic.metadata.refresh.fast.interval.ms", "100"),
        ("reconnect.backoff.ms", "20"),
        ("reconnect.backoff.max.ms", "1000"),
    ];
    for (name, value) in ours {
        if config.get(name).is_none() {
            config.set(name, value);
        }
    }
    config
}

struct Poller {
    consumer: BaseConsumer<Rebalances>,
    events: mpsc::Sender<Event>,
    reported_at: Instant,
}

impl Poller {
    fn run(mut self) {
        loop {
            match self.order() {
                Ok((Order::Commit(offsets), mode)) => commit(&self.consumer, offsets, mode),
                Ok((Order::Hold(held), _)) => hold(&self.consumer, &held),
                Err(TryRecvError::Empty) => {}
                // The stage has drained and gone.
                Err(TryRecvError::Disconnected) => return self.leave(),
            }
            if self.round().is_err() {
                return;
            }
        }
    }

    /// Returns the next order, and how to commit now.
    fn order(&self) -> Result<(Order, CommitMode), TryRecvError> {
        let orders = self.consumer.context().orders.lock();
        let mut orders = orders.map_err(|_| TryRecvError::Disconnected)?;
        let order = orders.try_recv()?;
        let mode = if orders.is_closed() {
            CommitMode::Sync
        } else {
            CommitMode::Async
        };
        Ok((order, mode))
    }

    /// Leaves the group. Dropping a consumer in the midst of a rebalance can hang librdkafka for ever, so the
    /// partitions are given up first.
    fn leave(self) {
        self.consumer.unsubscribe();
        let deadline = Instant::now() + LEAVE_MAX;
        while Instant::now() < deadline {
            match self.consumer.assignment() {
                Ok(assignment) if 0 < assignment.count() => {}
                _ => return,
            }
            // Records that still come are for whoever reads next.
            let _ = self.consumer.poll(POLL_WAIT);
        }
    }

    /// Serves rebalances and errors, takes what is there until a batch is full, and hands that over.
    fn round(&mut self) -> Result<(), Gone> {
        self.serve()?;
        self.consumer.context().take_on_next(&self.consumer);
        let owns = self.consumer.context().owns.load(Ordering::Relaxed);
        let mut wait = if owns { POLL_WAIT } else { Duration::ZERO };
        while let Some(handful) = self.take(wait) {
            if self.gather(&handful)? {
                break;
            }
            wait = Duration::ZERO;
        }
        self.hand_over()?;
        self.report();
        Ok(())
    }

    /// Lets the client tell what happened to it.
    fn serve(&self) -> Result<(), Gone> {
        loop {
            let owns = self.consumer.context().owns.load(Ordering::Relaxed);
            let wait = if owns { Duration::ZERO } else { POLL_WAIT };
            let Some(polled) = self.consumer.poll(wait) else {
                return Ok(());
            };
            match polled {
                Ok(message) => {
                    let from = format!("{}/{}", message.topic(), message.partition());
                    return self.give_up(from, "a record came past its queue");
                }
                Err(error) => self.failed(error)?,
            }
        }
    }

    fn take(&self, wait: Duration) -> Option<Handful> {
        let queue = self.consumer.context().queue.lock().ok()?;
        let handful = queue.as_ref()?.take(wait);
        (!handful.is_empty()).then_some(handful)
    }

    /// Adds records to their batches; says whether one is full.
    fn gather(&self, handful: &Handful) -> Result<bool, Gone> {
        let mut open = self.consumer.context().open.lock().map_err(|_| Gone)?;
        let mut before: Option<(Taken<'_>, usize)> = None;
        let mut full = false;
        for taken in handful.iter() {
            let taken = match taken {
                Ok(taken) => taken,
                Err(error) => {
                    self.failed(error)?;
                    continue;
                }
            };
            let at = match &before {
                Some((other, at)) if taken.is_beside(other) => *at,
                _ => builder_at(&mut open, &taken),
            };
            taken.copy_to(&mut open[at]);
            full |= is_full(&open[at]);
            before = Some((taken, at));
        }
        Ok(full)
    }

    fn hand_over(&self) -> Result<(), Gone> {
        let batches: Vec<_> = match self.consumer.context().open.lock() {
            Ok(mut open) => open.iter_mut().filter_map(BatchBuilder::take).collect(),
            Err(_) => return Err(Gone),
        };
        for batch in batches {
            self.events
                .blocking_send(Event::Batch(batch))
                .map_err(|_| Gone)?;
        }
        Ok(())
    }

    fn failed(&self, error: KafkaError) -> Result<(), Gone> {
        let fatal = matches!(
            error.rdkafka_error_code(),
            Some(
                RDKafkaErrorCode::Fatal
                    | RDKafkaErrorCode::OffsetOutOfRange
                    | RDKafkaErrorCode::AutoOffsetReset
                    | RDKafkaErrorCode::TopicAuthorizationFailed
                    | RDKafkaErrorCode::GroupAuthorizationFailed
            )
        );
        if !fatal {
            // librdkafka tries again by itself: brokers go and come back.
            warn!(%error, "reading is disturbed");
            return Ok(());
        }
        self.give_up("subscription".to_owned(), &error.to_string())
    }

    fn give_up(&self, from: String, reason: &str) -> Result<(), Gone> {
        let reason = reason.to_owned();
        let failed = BrokerError::Read { from, reason };
        let _ = self.events.blocking_send(Event::Failed(failed));
        Err(Gone)
    }

    /// Reports the ends of the logs, from librdkafka's memory.
    fn report(&mut self) {
        if self.reported_at.elapsed() < HIGH_INTERVAL {
            return;
        }
        self.reported_at = Instant::now();
        let Ok(assignment) = self.consumer.assignment() else {
            return;
        };
        for partition in partitions_of(&assignment) {
            let high = describe::cached_high(self.consumer.client(), &partition);
            if let Some(high) = high {
                // A full channel means that the stage is busy: it will hear the next time.
                let _ = self.events.try_send(Event::High(partition, high));
            }
        }
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        // Before its client.
        if let Ok(mut queue) = self.consumer.context().queue.lock() {
            *queue = None;
        }
    }
}

/// The stage has gone.
struct Gone;

/// Returns the place of the batch that a record belongs to; begins one if there is none.
fn builder_at(open: &mut Vec<BatchBuilder>, taken: &Taken<'_>) -> usize {
    let at = open.iter().position(|builder| taken.is_of(builder.from()));
    at.unwrap_or_else(|| {
        open.push(BatchBuilder::new(taken.from()));
        open.len() - 1
    })
}

fn is_full(builder: &BatchBuilder) -> bool {
    BATCH_BYTES_MAX <= builder.bytes() || BATCH_RECORDS_MAX <= builder.len()
}
