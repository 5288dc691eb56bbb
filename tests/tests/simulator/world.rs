//! A world: broker, stores and processes of one seed, rough for a while and then calm, until everything has settled.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use schemas::topics::Topics;
use schemas::{Contract, Partition};
use seal::MemoryKeyStore;
use tokio::time::{Instant, sleep, timeout};
use worker::{Dice, Faults, Outgoing, Simulated, Story, TopicPartition};

use super::accounts;
use super::plan::{self, PARTITIONS, Plan, STREAM};
use super::process::{INSTANCES, Kind, Shutdown, supervise};
use super::progress::Progress;
use super::sabotage::Sabotage;
use super::store::{SimulatedStore, Trouble};

/// How long everything may take to settle once nothing goes wrong any more, in simulated time.
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// How long the processes may take to drain.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// How often somebody looks whether a promise is broken, or all has settled.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is calm still takes a little time.
const CALM: Faults = Faults {
    delay_ms: 3,
    ..Faults::NONE
};

/// Everything that a seed brings about.
pub struct World {
    pub broker: Simulated,
    pub lake: SimulatedStore,
    pub checkpoints: SimulatedStore,
    pub keys: Arc<MemoryKeyStore>,
    pub trouble: Trouble,
    pub dice: Dice,
    pub story: Story,
    pub contract: Arc<Contract>,
    pub plan: Plan,
    pub shutdown: Shutdown,
    /// Processes that go on although their group does not hear them.
    pub zombies: AtomicU64,
    calm: AtomicBool,
    /// Whether all that the plan holds is written.
    written: AtomicBool,
    broken: Mutex<Option<String>>,
}

impl World {
    /// Makes a world; its story is told as it goes.
    pub fn new(dice: Dice, plan: Plan, sabotage: Sabotage, story: Story) -> Arc<World> {
        let trouble = Trouble::new(dice.clone(), story.clone(), sabotage, plan.store);
        let broker = Simulated::new(dice.clone(), plan.faults, story.clone());
        let world = World {
            lake: SimulatedStore::new("lake", trouble.clone()),
            checkpoints: SimulatedStore::new("checkpoint", trouble.clone()),
            keys: Arc::new(MemoryKeyStore::new()),
            contract: Arc::new(plan::contract(&plan)),
            shutdown: Shutdown::new(),
            zombies: AtomicU64::new(0),
            calm: AtomicBool::new(false),
            written: AtomicBool::new(false),
            broken: Mutex::default(),
            broker,
            trouble,
            dice,
            story,
            plan,
        };
        create_topics(&world.broker);
        Arc::new(world)
    }

    /// Lets everything happen; returns what broke, if anything did.
    pub async fn live(self: Arc<World>) -> Result<(), String> {
        let plan = &self.plan;
        let (rough, faults) = (plan.rough, plan.faults);
        self.story
            .tell(format_args!("rough for {rough:?}: {faults:?}"));
        let processes: Vec<_> = Kind::ALL
            .iter()
            .flat_map(|kind| (0..INSTANCES).map(|slot| (*kind, slot)))
            .map(|(kind, slot)| tokio::spawn(supervise(self.clone(), kind, slot)))
            .collect();
        tokio::spawn(produce(self.clone()));
        tokio::spawn(rebalance(self.clone()));
        let (mut progress, began) = (Progress::new(&self), Instant::now());
        while began.elapsed() < rough {
            self.look(&mut progress)?;
            sleep(LOOK_EVERY).await;
        }
        self.story.tell(format_args!("calm"));
        self.calm.store(true, Ordering::Relaxed);
        self.broker.set_faults(CALM);
        self.trouble.end();
        let began = Instant::now();
        while let Some(behind) = progress.behind(&self).await? {
            self.look(&mut progress)?;
            if SETTLE_MAX <= began.elapsed() {
                return Err(format!("nothing waits for ever: {behind}"));
            }
            sleep(LOOK_EVERY).await;
        }
        self.story.tell(format_args!("settled"));
        self.shutdown.cancel();
        let stopped = timeout(DRAIN_MAX, join_all(processes)).await;
        stopped.map_err(|_| "every process drains in time: one does not".to_owned())?;
        self.look(&mut progress)?;
        accounts::check(&self).await
    }

    /// Says whether nothing goes wrong any more.
    pub fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// Says whether all that the plan holds is written.
    pub fn is_written(&self) -> bool {
        self.written.load(Ordering::Relaxed)
    }

    /// Notes that a promise is broken; the first one counts.
    pub fn break_promise(&self, what: String) {
        self.story.tell(format_args!("BROKEN: {what}"));
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        broken.get_or_insert(what);
    }

    fn look(&self, progress: &mut Progress) -> Result<(), String> {
        progress.within_bounds(self)?;
        let broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        match broken.clone().or_else(|| self.broker.broken()) {
            Some(broken) => Err(broken),
            None => Ok(()),
        }
    }
}

/// Makes the topics of the stream, always in the same order: so that they have the same ids.
pub fn create_topics(broker: &Simulated) {
    let topics = Topics::of(STREAM);
    let many = PARTITIONS as usize;
    for topic in [
        &topics.raw,
        &topics.clean,
        &topics.dead,
        &topics.labels,
        &topics.scores,
    ] {
        broker.create(topic, many);
    }
    broker.create(&topics.model, 1);
}

/// Returns a partition of one of the stream's topics.
pub fn partition(topic: &str, at: i32) -> TopicPartition {
    (topic, Partition(at)).into()
}

/// Writes events and labels while the world is rough, in bursts.
async fn produce(world: Arc<World>) {
    let records = &world.plan.records;
    let rough_ms = world.plan.rough.as_millis() as u64;
    // So that the last of them comes before the calm.
    let pause_ms = (rough_ms * 4 / 5) * 8 / records.len().max(1) as u64;
    let mut left = records.iter();
    while !left.as_slice().is_empty() {
        let burst = world.dice.within(1..=16) as usize;
        for (to, value) in left.by_ref().take(burst) {
            let record = Outgoing {
                value,
                ..Outgoing::default()
            };
            if let Err(error) = world.broker.append(to, record) {
                return world.break_promise(format!("the plan writes where it can: {error}"));
            }
        }
        sleep(world.dice.millis(0..=2 * pause_ms)).await;
    }
    world.story.tell(format_args!("all is written"));
    world.written.store(true, Ordering::Relaxed);
}

/// Gives partitions out anew, whenever.
async fn rebalance(world: Arc<World>) {
    loop {
        sleep(world.dice.millis(10..=world.plan.rebalance_ms)).await;
        if world.is_calm() {
            return;
        }
        let kind = Kind::ALL[world.dice.within(0..=3) as usize];
        world.story.tell(format_args!("{kind}s are rebalanced"));
        world.broker.rebalance(&kind.group());
    }
}
