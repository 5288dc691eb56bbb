//! A broker in memory, seeded: what unit tests and the simulator run on.
//!
//! A calm one does everything at once and loses nothing. With [`Faults`], records arrive late and in bursts,
//! answers do not come, lanes and reads fail, commits are lost, partitions move; of what a killed process had on
//! the way some records arrive, perhaps after its successor has begun; and a process that the group does not hear
//! any more reads and writes on. All of it follows from one seed, if tokio runs one thread and its clock is paused.

mod chance;
mod group;
mod lane;
mod log;
mod member;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use schemas::{Offset, Partition};
use tokio::sync::{Notify, mpsc};

pub use self::chance::{Dice, Faults, Story};
pub use self::lane::SimulatedLane;

use self::group::Group;
use self::lane::LaneState;
use self::log::{Stored, Topics};
use self::member::{Member, Reads};
use crate::batch::{Batch, TopicPartition};
use crate::broker::{
    Broker, BrokerError, Event, Order, Outgoing, Subscription, TopicInfo, Watermarks,
};

/// Events between the broker and a stage: as many as with Kafka.
const CHANNEL_EVENTS: usize = 8;

/// Orders between a stage and the broker: as many as with Kafka.
const CHANNEL_ORDERS: usize = 16;

/// Batches between the broker and a reader without a group.
const CHANNEL_BATCHES: usize = 4;

/// Records of a batch, where nothing is left to chance.
const BATCH_RECORDS: usize = 256;

/// Records of a batch, where their number is left to chance.
const BATCH_RECORDS_CHANCE: u64 = 12;

/// How long a group waits for a member that says nothing.
const SESSION: Duration = Duration::from_millis(700);

/// A connection to a simulated broker, of one process; clones are of the same process.
#[derive(Clone)]
pub struct Simulated {
    shared: Arc<Shared>,
    client: Arc<Client>,
    /// The topic whose partition 0 stands for all that a group reads.
    lock: Option<Arc<str>>,
}

/// The broker.
struct Shared {
    topics: Mutex<Topics>,
    groups: Mutex<BTreeMap<String, Group>>,
    faults: Mutex<Faults>,
    dice: Dice,
    story: Story,
    members: AtomicU64,
    /// The first promise of the broker's own that was broken.
    broken: Mutex<Option<String>>,
}

/// A process, as the broker knows it.
struct Client {
    name: String,
    dead: AtomicBool,
    /// Whether its group hears nothing of it.
    unheard: AtomicBool,
    lanes: Mutex<Vec<Weak<LaneState>>>,
    /// Wakes what the broker runs for the process.
    bells: Mutex<Vec<Weak<Notify>>>,
}

impl Shared {
    fn faults(&self) -> Faults {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn topics(&self) -> MutexGuard<'_, Topics> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn groups(&self) -> MutexGuard<'_, BTreeMap<String, Group>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, to: &TopicPartition, record: Stored) -> Result<Offset, BrokerError> {
        self.topics().append(to, record)
    }

    fn break_promise(&self, what: String) {
        self.story.tell(format_args!("BROKEN: {what}"));
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        broken.get_or_insert(what);
    }

    /// Takes some time, where anything does.
    async fn linger(&self) {
        let most = self.faults().delay_ms;
        if 0 < most {
            tokio::time::sleep(self.dice.millis(0..=most)).await;
        }
    }

    /// Returns how many records the next batch has at most.
    fn batch_records(&self) -> usize {
        match self.faults() {
            Faults::NONE => BATCH_RECORDS,
            _ => self.dice.within(1..=BATCH_RECORDS_CHANCE) as usize,
        }
    }
}

impl Client {
    fn new(name: &str) -> Arc<Client> {
        Arc::new(Client {
            name: name.to_owned(),
            dead: AtomicBool::new(false),
            unheard: AtomicBool::new(false),
            lanes: Mutex::default(),
            bells: Mutex::default(),
        })
    }

    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    fn is_unheard(&self) -> bool {
        self.unheard.load(Ordering::Relaxed)
    }

    fn lanes(&self) -> MutexGuard<'_, Vec<Weak<LaneState>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bells(&self) -> MutexGuard<'_, Vec<Weak<Notify>>> {
        self.bells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        for bell in self.bells().iter().filter_map(Weak::upgrade) {
            bell.notify_one();
        }
    }
}

impl Default for Simulated {
    /// Makes a broker that does everything at once and loses nothing.
    fn default() -> Self {
        Simulated::new(Dice::new(0), Faults::NONE, Story::default())
    }
}

impl Simulated {
    /// Makes a broker, and a first connection to it.
    pub fn new(dice: Dice, faults: Faults, story: Story) -> Simulated {
        let shared = Shared {
            topics: Mutex::default(),
            groups: Mutex::default(),
            faults: Mutex::new(faults),
            dice,
            story,
            members: AtomicU64::new(0),
            broken: Mutex::default(),
        };
        Simulated {
            shared: Arc::new(shared),
            client: Client::new("outside"),
            lock: None,
        }
    }

    /// Connects another process.
    pub fn connect(&self, name: &str) -> Simulated {
        Simulated {
            shared: self.shared.clone(),
            client: Client::new(name),
            lock: None,
        }
    }

    /// Makes subscriptions all or nothing, as [`crate::Kafka::all_or_nothing`] does.
    pub fn all_or_nothing(mut self, lock: &str) -> Simulated {
        self.lock = Some(lock.into());
        self
    }

    /// Makes a topic.
    pub fn create(&self, name: &str, partitions: usize) {
        self.shared.topics().create(name, partitions);
    }

    /// Appends a record.
    ///
    /// # Errors
    /// [`BrokerError::Write`] if there is no such partition.
    pub fn append(&self, to: &TopicPartition, record: Outgoing<'_>) -> Result<Offset, BrokerError> {
        self.shared.append(to, record.into())
    }

    /// Returns at most so many records of a partition from an offset on; the timestamp of each is its offset.
    pub fn records(&self, from: &TopicPartition, start: Offset, most: usize) -> Option<Batch> {
        self.shared.topics().records(from, start, most)
    }

    /// Returns the offset after the last of a partition; 0 if there is no such partition.
    pub fn end(&self, of: &TopicPartition) -> Offset {
        let ends = self.shared.topics().watermarks(of);
        ends.map_or(Offset(0), |ends| ends.high)
    }

    /// The process of this connection is gone, from one moment to the next.
    pub fn kill(&self) {
        if self.client.dead.swap(true, Ordering::Relaxed) {
            return;
        }
        for lane in self.client.lanes().drain(..) {
            if let Some(lane) = lane.upgrade() {
                lane.cut(&self.shared);
            }
        }
        self.client.ring();
        self.expel_later();
    }

    /// From now on the group hears nothing of this process, which goes on.
    pub fn unhear(&self) {
        self.client.unheard.store(true, Ordering::Relaxed);
        self.expel_later();
    }

    /// The group hears this process again.
    pub fn hear(&self) {
        self.client.unheard.store(false, Ordering::Relaxed);
        self.client.ring();
    }

    /// Gives the partitions of a group out anew.
    pub fn rebalance(&self, group: &str) {
        if let Some(group) = self.shared.groups().get_mut(group) {
            group.give_out_anew();
        }
    }

    /// Says from now on how often what goes wrong.
    pub fn set_faults(&self, faults: Faults) {
        let mut place = self
            .shared
            .faults
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *place = faults;
    }

    /// Returns the first promise of the broker's own that was broken: that committed offsets never go back.
    pub fn broken(&self) -> Option<String> {
        let broken = self.shared.broken.lock();
        broken.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the offset that a group has committed for a partition.
    pub fn committed(&self, group: &str, of: &TopicPartition) -> Option<Offset> {
        self.shared.groups().get(group)?.committed(of)
    }

    /// Returns up to where records were handed to the owner of a partition.
    pub fn handed(&self, group: &str, of: &TopicPartition) -> Option<Offset> {
        self.shared.groups().get(group)?.handed(of)
    }

    fn expel_later(&self) {
        if self.client.bells().is_empty() {
            return;
        }
        let (shared, client) = (self.shared.clone(), self.client.clone());
        tokio::spawn(async move {
            tokio::time::sleep(SESSION).await;
            if !client.is_dead() && !client.is_unheard() {
                return;
            }
            for group in shared.groups().values_mut() {
                group.expel(&client, &shared.story);
            }
        });
    }

    /// An answer that takes time, and may not come.
    async fn answer(&self, what: &'static str) -> Result<(), BrokerError> {
        self.shared.linger().await;
        if self.client.is_dead() {
            return Err(BrokerError::Stopped);
        }
        if self.shared.dice.happens(self.shared.faults().answers) {
            let name = &self.client.name;
            self.shared
                .story
                .tell(format_args!("{name} gets no answer: {what}"));
            return Err(BrokerError::Deadline(what));
        }
        Ok(())
    }
}

impl Broker for Simulated {
    type Lane = SimulatedLane;

    fn subscribe(&self, group: &str, topics: &[&str]) -> Result<Subscription, BrokerError> {
        let (events_in, events) = mpsc::channel::<Event>(CHANNEL_EVENTS);
        let (orders, orders_out) = mpsc::channel::<Order>(CHANNEL_ORDERS);
        let mut partitions = Vec::new();
        for topic in topics {
            let count = self.shared.topics().find(topic)?.partitions;
            partitions.extend((0..count).map(|partition| (*topic, Partition(partition)).into()));
        }
        let reads = Reads {
            group,
            partitions,
            lock: self.lock.as_deref(),
        };
        let (shared, client) = (self.shared.clone(), self.client.clone());
        let member = Member::new(shared, client, reads, events_in, orders_out);
        let (running, shared) = (tokio::spawn(member.run()), self.shared.clone());
        tokio::spawn(async move {
            if let Err(panic) = running.await {
                shared.break_promise(format!("the simulated broker works: {panic}"));
            }
        });
        Ok(Subscription { events, orders })
    }

    fn follow(
        &self,
        from: &TopicPartition,
        start: Offset,
    ) -> Result<mpsc::Receiver<Batch>, BrokerError> {
        let (batches_in, batches) = mpsc::channel(CHANNEL_BATCHES);
        let (broker, from, mut next) = (self.clone(), from.clone(), start);
        let bell = Arc::new(Notify::new());
        self.shared.topics().listen(&bell);
        self.client.bells().push(Arc::downgrade(&bell));
        tokio::spawn(async move {
            while !batches_in.is_closed() && !broker.client.is_dead() {
                broker.shared.linger().await;
                let most = broker.shared.batch_records();
                match broker.records(&from, next, most) {
                    None => tokio::select! {
                        () = bell.notified() => {}
                        () = batches_in.closed() => return,
                    },
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

    fn lane(&self, to: &TopicPartition) -> Result<SimulatedLane, BrokerError> {
        let (shared, client) = (self.shared.clone(), self.client.clone());
        Ok(SimulatedLane::open(shared, client, to.clone()))
    }

    async fn topic(&self, name: &str) -> Result<TopicInfo, BrokerError> {
        self.answer("what a topic is").await?;
        self.shared.topics().find(name)
    }

    async fn watermarks(&self, of: &TopicPartition) -> Result<Watermarks, BrokerError> {
        self.answer("where a log ends").await?;
        self.shared.topics().watermarks(of)
    }

    async fn read(
        &self,
        from: &TopicPartition,
        range: Watermarks,
    ) -> Result<Vec<Batch>, BrokerError> {
        self.answer("what a log holds").await?;
        let mut batches = Vec::new();
        let mut low = range.low;
        while low < range.high {
            let left = (range.high.0 - low.0) as usize;
            let most = left.min(self.shared.batch_records());
            let Some(batch) = self.records(from, low, most) else {
                break;
            };
            low = batch.last().map_or(range.high, Offset::next);
            batches.push(batch);
        }
        Ok(batches)
    }
}

#[cfg(test)]
mod tests;
