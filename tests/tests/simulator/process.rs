//! Processes: the four workers, each of which may die at any await, or be unheard for a while, and is started anew.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use schemas::topics::Topics;
use seal::{Keyring, StreamId, StreamKeys};
use telemetry::{Instruments, Traces};
use tokio::sync::oneshot;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;
use url::Url;
use worker::{Fault, Health, Inputs, Next, Simulated, Stage, Store, Surroundings};

use super::lake::{self, Still};
use super::plan::STREAM;
use super::sabotage::{Sabotage, Stand, Wire};
use super::store::SimulatedKeys;
use super::world::World;

/// Megabytes would never be full here.
const SINK_BUFFER_BYTES: u64 = 4_096;

/// From one checkpoint to the next.
const CHECKPOINTS: Duration = Duration::from_millis(700);

/// How long a process whose group does not hear it may go on.
const UNHEARD_MS: std::ops::RangeInclusive<u64> = 100..=4_000;

/// Processes of each worker: they share the partitions, but for trainers, of which one stands by.
pub const INSTANCES: usize = 2;

/// The four workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ingest,
    Sink,
    Trainer,
    Scorer,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Ingest, Kind::Sink, Kind::Trainer, Kind::Scorer];

    /// Returns its consumer group.
    pub fn group(self) -> String {
        format!("{STREAM}.{self}")
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Ingest => "ingest",
            Kind::Sink => "sink",
            Kind::Trainer => "trainer",
            Kind::Scorer => "scorer",
        })
    }
}

/// How a process ended.
enum End {
    /// By itself.
    Ended(Result<(), Box<dyn Fault>>),
    /// It was killed.
    Killed,
}

/// Keeps one process running until the world ends.
pub async fn supervise(world: Arc<World>, kind: Kind, slot: usize) {
    let mut incarnation = 0;
    while !world.shutdown.is_cancelled() {
        incarnation += 1;
        let name = format!("{kind}-{slot}.{incarnation}");
        let client = world.broker.connect(&name);
        world.story.tell(format_args!("{name} starts"));
        let (turned, turns) = oneshot::channel();
        let life = Mortal {
            fate: Fate::of(&world),
            inner: Some(Box::pin(work(world.clone(), kind, client.clone()))),
            world: world.clone(),
            client: client.clone(),
            name: name.clone(),
            turned: Some(turned),
        };
        let running = tokio::spawn(life);
        let ended = tokio::select! {
            biased;
            ended = running => ended,
            // Whoever supervises it takes it for dead, and starts the next.
            Ok(()) = turns => continue,
        };
        match ended {
            Ok(End::Killed) => world.story.tell(format_args!("{name} is killed")),
            Ok(End::Ended(Ok(()))) => world.story.tell(format_args!("{name} stops")),
            Ok(End::Ended(Err(error))) => {
                let (next, error) = (error.next(), chain(&*error));
                world.story.tell(format_args!("{name} fails: {error}"));
                if next == Next::Stop {
                    world.break_promise(format!("{name} stops for a human: {error}"));
                }
            }
            Err(panic) => world.break_promise(format!("{name} panics: {panic}")),
        }
        client.kill();
        tokio::time::sleep(world.dice.millis(5..=300)).await;
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Builds the stage of a worker, and runs it as the worker itself does.
async fn work(world: Arc<World>, kind: Kind, client: Simulated) -> Result<(), Box<dyn Fault>> {
    let contract = world.contract.clone();
    let topics = Topics::of(STREAM);
    let (nowhere, traces) = (Instruments::nowhere(), Traces::nowhere());
    let wire = Wire {
        broker: client,
        trouble: world.trouble.clone(),
    };
    match kind {
        Kind::Ingest => {
            let keys = keys(&world).map_err(|error| boxed(ingest::IngestError::from(error)))?;
            let built = ingest::Ingester::build(contract, wire.clone(), keys, &nowhere, traces);
            let stage = built.await.map_err(boxed)?;
            run(&world, kind, stage, &wire, &[&topics.raw]).await
        }
        Kind::Sink => {
            let (log, gate) = lake::open(&world.lake);
            let work = async {
                let buffer = SINK_BUFFER_BYTES;
                let built = sink::build(&contract, &wire, log, buffer, &nowhere, traces);
                let stage = built.await.map_err(boxed)?;
                run(&world, kind, stage, &wire, &[&topics.clean]).await
            };
            Still::new(work, gate).await
        }
        Kind::Trainer => {
            let mut label = contract.label.clone().expect("the contract has a label");
            if world.trouble.sabotage == Sabotage::Cramp {
                label.pending_max /= 2;
            }
            let store = store(&world);
            let built = trainer::Trainer::build(
                contract,
                wire.clone(),
                label,
                store,
                CHECKPOINTS,
                &nowhere,
                traces,
            );
            let stage = built.await.map_err(boxed)?;
            let inputs: [&str; 2] = [&topics.clean, &topics.labels];
            let alone = Wire {
                broker: wire.broker.all_or_nothing(&topics.model),
                trouble: wire.trouble,
            };
            run(&world, kind, stage, &alone, &inputs).await
        }
        Kind::Scorer => {
            let store = store(&world);
            let built =
                scorer::ScoreStage::build(&contract, wire.clone(), &store, &nowhere, traces);
            let stage = built.await.map_err(boxed)?;
            run(&world, kind, stage, &wire, &[&topics.clean]).await
        }
    }
}

async fn run<S: Stage>(
    world: &World,
    kind: Kind,
    stage: S,
    wire: &Wire,
    topics: &[&str],
) -> Result<(), Box<dyn Fault>> {
    let sabotaged = match world.trouble.sabotage {
        Sabotage::Hoard => Kind::Ingest,
        Sabotage::SwallowLabels => Kind::Trainer,
        Sabotage::CommitEarly | Sabotage::GoBack => Kind::Scorer,
        _ => kind,
    };
    let stage = Stand {
        stage,
        sabotage: match sabotaged == kind {
            true => world.trouble.sabotage,
            false => Sabotage::Nothing,
        },
        hoard: Vec::new(),
        early: Default::default(),
    };
    let around = Surroundings {
        instruments: Instruments::nowhere(),
        health: Health::default(),
        shutdown: world.shutdown.child_token(),
    };
    let group = kind.group();
    let inputs = Inputs {
        group: &group,
        topics,
        unbroken: &["s.clean"],
    };
    worker::run(stage, wire, inputs, &around).await
}

fn boxed<E: Fault>(error: E) -> Box<dyn Fault> {
    Box::new(error)
}

/// Opens the stream's keys, as every process does for itself.
pub fn keys(world: &World) -> Result<StreamKeys, seal::SealError> {
    let id = StreamId::new("t", STREAM)?;
    let store = SimulatedKeys {
        inner: world.keys.clone(),
        trouble: world.trouble.clone(),
    };
    StreamKeys::open_or_create(id, Arc::new(Keyring::of([7; 32])), Arc::new(store))
}

fn store(world: &World) -> Store {
    Store {
        objects: Arc::new(world.checkpoints.clone()),
        prefix: Default::default(),
        url: Url::parse("memory:///").expect("a URL"),
    }
}

/// When a process dies, and whether it goes on for a while unheard.
struct Fate {
    polls: Option<u64>,
    time: Option<Pin<Box<Sleep>>>,
    unheard: Option<Duration>,
}

impl Fate {
    fn of(world: &World) -> Fate {
        let (dice, plan) = (&world.dice, &world.plan);
        let (mut polls, mut time) = (None, None);
        if !world.is_calm() && dice.happens(plan.deaths) {
            match dice.within(0..=3) {
                0 => polls = Some(dice.within(1..=12)),
                1 => polls = Some(dice.within(1..=150)),
                _ => time = Some(Box::pin(tokio::time::sleep(dice.millis(0..=2_500)))),
            }
        }
        let unheard = dice.happens(plan.zombies).then(|| dice.millis(UNHEARD_MS));
        Fate {
            polls,
            time,
            unheard,
        }
    }
}

/// A process that may die whenever it waits.
struct Mortal<F> {
    fate: Fate,
    inner: Option<Pin<Box<F>>>,
    world: Arc<World>,
    client: Simulated,
    name: String,
    turned: Option<oneshot::Sender<()>>,
}

impl<F> Mortal<F> {
    /// Says whether its time has come.
    fn is_due(&mut self, context: &mut Context<'_>) -> bool {
        let by_time = match &mut self.fate.time {
            Some(time) => time.as_mut().poll(context).is_ready(),
            None => false,
        };
        let by_polls = match &mut self.fate.polls {
            Some(left) => {
                *left = left.saturating_sub(1);
                *left == 0
            }
            None => false,
        };
        by_time || by_polls
    }

    /// Makes it one that its group does not hear, which ends later.
    fn turn(&mut self, unheard: Duration) {
        let (name, ms) = (&self.name, unheard.as_millis());
        self.world
            .story
            .tell(format_args!("{name} is unheard for {ms} ms"));
        self.client.unhear();
        self.fate.polls = None;
        self.fate.time = Some(Box::pin(tokio::time::sleep(unheard)));
        if let Some(turned) = self.turned.take() {
            let _ = turned.send(());
        }
        self.world.zombies.fetch_add(1, Ordering::Relaxed);
    }
}

impl<F: Future<Output = Result<(), Box<dyn Fault>>>> Future for Mortal<F> {
    type Output = End;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<End> {
        while self.is_due(context) {
            match self.fate.unheard.take() {
                Some(unheard) => self.turn(unheard),
                None => {
                    self.inner = None;
                    self.client.kill();
                    if self.turned.is_none() {
                        self.end("is killed at last");
                    }
                    return Poll::Ready(End::Killed);
                }
            }
        }
        let Some(inner) = self.inner.as_mut() else {
            return Poll::Ready(End::Killed);
        };
        let polled = inner.as_mut().poll(context);
        if let Poll::Ready(ended) = polled {
            if self.turned.is_none() {
                self.end("ends unheard");
                self.client.kill();
                let stops = ended
                    .as_ref()
                    .err()
                    .filter(|error| error.next() == Next::Stop);
                if let Some(error) = stops {
                    let (name, error) = (&self.name, chain(&**error));
                    let what = format!("{name} stops unheard for a human: {error}");
                    self.world.break_promise(what);
                }
            }
            return Poll::Ready(End::Ended(ended));
        }
        Poll::Pending
    }
}

impl<F> Mortal<F> {
    /// One that was unheard has ended: nobody waits for it but the world.
    fn end(&self, how: &str) {
        let name = &self.name;
        self.world.story.tell(format_args!("{name} {how}"));
        self.world.zombies.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Cancelled when the world ends.
pub type Shutdown = CancellationToken;
