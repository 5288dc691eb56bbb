//! Rebalances: what the group gives and takes goes to the stage, and the stage's answer to the group.
//!
//! Groups are cooperative: partitions that do not move flow on, also while a stage takes on one after the other of
//! those that come. A group with a lock is all or nothing: the member that the group gives partition 0 of the lock
//! takes every partition of its topics, and all others stand by.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use schemas::{Offset, Partition};
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::queue::Queue;
use crate::batch::{BatchBuilder, TopicPartition};
use crate::broker::{Assigned, BrokerError, Event, Order, Start};

/// How long the broker may take to say what partitions a topic has, where one begins, or what is committed.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A partition, and where it begins; invalid is for librdkafka to find out.
type Begin = (TopicPartition, rdkafka::Offset);

/// Answers rebalances, and holds the batches that are being gathered.
pub(super) struct Rebalances {
    events: mpsc::Sender<Event>,
    /// Locked by the poll thread alone.
    pub(super) orders: Mutex<mpsc::Receiver<Order>>,
    topics: Vec<String>,
    /// The topic whose partition 0 stands for all partitions of the topics.
    lock: Option<String>,
    /// Whether partitions of which nothing is committed are read from their beginning.
    from_beginning: bool,
    /// Partitions that the group has given, and the stage has not taken on yet.
    waiting: Mutex<VecDeque<TopicPartition>>,
    /// Locked by the poll thread alone: rebalances are served inside its polls.
    pub(super) open: Mutex<Vec<BatchBuilder>>,
    /// What assigned partitions flow into. Locked by the poll thread alone.
    pub(super) queue: Mutex<Option<Queue>>,
    /// Whether there are partitions whose queue is worth waiting for.
    pub(super) owns: AtomicBool,
}

impl ClientContext for Rebalances {}

impl ConsumerContext for Rebalances {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        kind: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let named = partitions_of(list);
        let done = if kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.assign(consumer, named)
        } else {
            self.revoke(consumer, named)
        };
        self.note(consumer, done);
    }
}

impl Rebalances {
    /// Answers for a member of a group that reads topics.
    pub(super) fn new(
        events: mpsc::Sender<Event>,
        orders: mpsc::Receiver<Order>,
        topics: &[&str],
        lock: Option<&str>,
        from_beginning: bool,
    ) -> Rebalances {
        Rebalances {
            events,
            orders: Mutex::new(orders),
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            lock: lock.map(str::to_owned),
            from_beginning,
            waiting: Mutex::default(),
            open: Mutex::default(),
            queue: Mutex::default(),
            owns: AtomicBool::new(false),
        }
    }

    /// Lets the stage take on one of the partitions that wait for it, if any does: restoring what it must know of a
    /// partition takes time, in which no other one is handled.
    pub(super) fn take_on_next(&self, consumer: &BaseConsumer<Self>) {
        let next = self.waiting().pop_front();
        if let Some(partition) = next {
            let done = self.take_on(consumer, vec![partition]);
            self.note(consumer, done);
        }
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, named: Vec<TopicPartition>) -> KafkaResult<()> {
        let partitions = match self.holds_lock(&named) {
            // Who has none yet holds nobody up, and is ready once it has all.
            None if is_cooperative(consumer) && self.owns.load(Ordering::Relaxed) => {
                self.waiting().extend(named);
                Vec::new()
            }
            None => named,
            Some(true) => self.everything(consumer)?,
            Some(false) => Vec::new(),
        };
        self.take_on(consumer, partitions)
    }

    fn take_on(
        &self,
        consumer: &BaseConsumer<Self>,
        partitions: Vec<TopicPartition>,
    ) -> KafkaResult<()> {
        if !self.take_in(consumer, &partitions) {
            let reason = "no queue for a partition";
            return Err(KafkaError::Subscription(reason.to_owned()));
        }
        let starts = self.starts(consumer, partitions);
        if is_cooperative(consumer) {
            consumer.incremental_assign(&starts)
        } else {
            consumer.assign(&starts)
        }
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>, named: Vec<TopicPartition>) -> KafkaResult<()> {
        let partitions = match self.holds_lock(&named) {
            None => self.taken_on(consumer, named)?,
            Some(true) => partitions_of(&consumer.assignment()?),
            Some(false) => Vec::new(),
        };
        let mut list = TopicPartitionList::new();
        for partition in &partitions {
            list.add_partition(&partition.topic, partition.partition.0);
        }
        self.revoked(consumer, partitions);
        if is_cooperative(consumer) {
            consumer.incremental_unassign(&list)
        } else {
            consumer.unassign()
        }
    }

    /// Returns those of some partitions that the stage has taken on; the others no longer wait for it. A stage that
    /// drains has taken none on that came since.
    fn taken_on(
        &self,
        consumer: &BaseConsumer<Self>,
        mut named: Vec<TopicPartition>,
    ) -> KafkaResult<Vec<TopicPartition>> {
        self.waiting().retain(|waits| !named.contains(waits));
        let assigned = partitions_of(&consumer.assignment()?);
        named.retain(|partition| assigned.contains(partition));
        Ok(named)
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<TopicPartition>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes whether there are partitions now, and tells the stage of a change that could not be made.
    fn note(&self, consumer: &BaseConsumer<Self>, done: KafkaResult<()>) {
        let owned = consumer.assignment().map_or(0, |owned| owned.count());
        self.owns.store(0 < owned, Ordering::Relaxed);
        if let Err(error) = done {
            let reason = format!("could not take the assignment: {error}");
            let _ = self
                .events
                .blocking_send(Event::Failed(BrokerError::Setup(reason)));
        }
    }

    /// Says whether the lock is among the partitions that the group names; `None` without a lock.
    fn holds_lock(&self, named: &[TopicPartition]) -> Option<bool> {
        let lock: TopicPartition = (self.lock.as_deref()?, Partition(0)).into();
        Some(named.contains(&lock))
    }

    /// Returns all partitions of the topics, as many as there are now.
    fn everything(&self, consumer: &BaseConsumer<Self>) -> KafkaResult<Vec<TopicPartition>> {
        let mut all = Vec::new();
        for topic in &self.topics {
            let metadata = consumer.fetch_metadata(Some(topic), ANSWER_MAX)?;
            let found = metadata.topics().iter().find(|found| found.name() == topic);
            let partitions = found.map_or(0, |found| found.partitions().len() as i32);
            if partitions == 0 {
                let reason = format!("topic {topic} is not there");
                return Err(KafkaError::Subscription(reason));
            }
            all.extend((0..partitions).map(|at| (topic.as_str(), Partition(at)).into()));
        }
        Ok(all)
    }

    /// Lets partitions flow into our queue; says whether all do.
    fn take_in(&self, consumer: &BaseConsumer<Self>, partitions: &[TopicPartition]) -> bool {
        let Ok(queue) = self.queue.lock() else {
            return false;
        };
        let Some(queue) = queue.as_ref() else {
            return false;
        };
        partitions
            .iter()
            .all(|partition| queue.take_in(consumer.client(), partition))
    }

    /// Asks the stage where to begin.
    fn starts(
        &self,
        consumer: &BaseConsumer<Self>,
        partitions: Vec<TopicPartition>,
    ) -> TopicPartitionList {
        let (answer, starts) = oneshot::channel();
        // Nothing new is no news; and a stage that has gone needs no partitions.
        if partitions.is_empty()
            || self
                .events
                .blocking_send(Event::Assigned(partitions, answer))
                .is_err()
        {
            return TopicPartitionList::new();
        }
        let assigned = starts.blocking_recv().unwrap_or_default().into_iter();
        let mut begins: Vec<Begin> = assigned
            .map(|Assigned { partition, start }| match start {
                Start::Committed => (partition, rdkafka::Offset::Invalid),
                Start::At(offset) => (partition, rdkafka::Offset::Offset(offset.0)),
            })
            .collect();
        if let Err(error) = self.resolve(consumer, &mut begins) {
            warn!(%error, "cannot ask where partitions begin: the client finds out by itself");
        }
        list_of(&begins)
    }

    /// Puts numbers in the place of what is committed, and of the beginning where nothing is.
    ///
    /// librdkafka looks a beginning up in vain if the partition is taken away meanwhile; half a second later it looks once
    /// more, and reads the partition from its beginning, whoever has it. Should it come back, those records come before
    /// the ones that were asked for.
    fn resolve(&self, consumer: &BaseConsumer<Self>, begins: &mut [Begin]) -> KafkaResult<()> {
        let is_open = |begin: &&mut Begin| begin.1 == rdkafka::Offset::Invalid;
        let open: Vec<Begin> = begins
            .iter_mut()
            .filter(is_open)
            .map(|begin| begin.clone())
            .collect();
        if open.is_empty() {
            return Ok(());
        }
        let committed = consumer.committed_offsets(list_of(&open), ANSWER_MAX)?;
        for begin in begins.iter_mut().filter(is_open) {
            let (topic, partition) = (&*begin.0.topic, begin.0.partition.0);
            if let Some(found) = committed.find_partition(topic, partition) {
                found.error()?;
                begin.1 = found.offset();
            }
            if begin.1 == rdkafka::Offset::Invalid && self.from_beginning {
                let (low, _) = consumer.fetch_watermarks(topic, partition, ANSWER_MAX)?;
                begin.1 = rdkafka::Offset::Offset(low);
            }
        }
        Ok(())
    }

    /// Lets the stage finish, and commits what it says.
    fn revoked(&self, consumer: &BaseConsumer<Self>, partitions: Vec<TopicPartition>) {
        if partitions.is_empty() {
            return;
        }
        if let Ok(mut open) = self.open.lock() {
            // Records that were not handed over are read again by whoever comes next.
            open.retain(|builder| !partitions.contains(builder.from()));
        }
        let (answer, durable) = oneshot::channel();
        if self
            .events
            .blocking_send(Event::Revoked(partitions, answer))
            .is_err()
        {
            return;
        }
        if let Ok(durable) = durable.blocking_recv() {
            self.commit_ordered(consumer);
            commit(consumer, durable, CommitMode::Sync);
        }
    }

    /// Commits what the stage has ordered before it gave partitions up: done later, offsets would go back, perhaps
    /// even those that somebody else has committed since.
    fn commit_ordered(&self, consumer: &BaseConsumer<Self>) {
        let Ok(mut orders) = self.orders.lock() else {
            return;
        };
        while let Ok(order) = orders.try_recv() {
            match order {
                Order::Commit(offsets) => commit(consumer, offsets, CommitMode::Sync),
                Order::Hold(held) => hold(consumer, &held),
            }
        }
    }
}

fn list_of(begins: &[Begin]) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in begins {
        let (topic, number) = (&*partition.topic, partition.partition.0);
        if list.add_partition_offset(topic, number, *offset).is_err() {
            warn!(%partition, "cannot begin at the offset; beginning at the committed one");
            list.add_partition(topic, number);
        }
    }
    list
}

/// Pauses some partitions, and lets all others flow.
pub(super) fn hold(consumer: &BaseConsumer<Rebalances>, held: &[TopicPartition]) {
    let Ok(assignment) = consumer.assignment() else {
        return;
    };
    let (mut pause, mut resume) = (TopicPartitionList::new(), TopicPartitionList::new());
    for partition in partitions_of(&assignment) {
        let list = if held.contains(&partition) {
            &mut pause
        } else {
            &mut resume
        };
        list.add_partition(&partition.topic, partition.partition.0);
    }
    let done = consumer
        .pause(&pause)
        .and_then(|()| consumer.resume(&resume));
    if let Err(error) = done {
        // Holding back is about memory and order, not about what is right: records may come all the same.
        warn!(%error, "could not hold partitions back");
    }
}

/// Says whether partitions come and go one by one; the operator may have set an assignor that takes all of them away
/// each time.
fn is_cooperative(consumer: &BaseConsumer<Rebalances>) -> bool {
    matches!(
        consumer.rebalance_protocol(),
        RebalanceProtocol::Cooperative
    )
}

pub(super) fn partitions_of(list: &TopicPartitionList) -> Vec<TopicPartition> {
    let partition =
        |(topic, partition): &(String, i32)| (topic.as_str(), Partition(*partition)).into();
    let mut keys: Vec<(String, i32)> = list.to_topic_map().into_keys().collect();
    keys.sort();
    keys.iter().map(partition).collect()
}

pub(super) fn commit(
    consumer: &BaseConsumer<Rebalances>,
    offsets: Vec<(TopicPartition, Offset)>,
    mode: CommitMode,
) {
    if offsets.is_empty() {
        return;
    }
    let mut list = TopicPartitionList::new();
    for (partition, offset) in &offsets {
        let offset = rdkafka::Offset::Offset(offset.0);
        if let Err(error) =
            list.add_partition_offset(&partition.topic, partition.partition.0, offset)
        {
            warn!(%partition, %error, "cannot commit the offset");
        }
    }
    // An offset that is not committed is only work done twice: the outputs say what is done.
    if let Err(error) = consumer.commit(&list, mode) {
        warn!(%error, "offsets were not committed");
    }
}
