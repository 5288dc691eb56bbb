//! `trainer`: clean batches and labels in; model versions and checkpoints out.
//!
//! ```text
//! <s>.clean p ──► columns ──► rows ──┐ in the      wait [pending_max]
//!                                    ├─ order of ──► join ──► test, learn ──► version ──► <s>.model 0
//! <s>.labels p ─► ids, outcomes ─────┘ stream time  wait [2^19]   [256]         │
//!                  │                   [6 + 12 MiB]                 checkpoint ─┴──► object store
//!                  └ unreadable ─► letters ─► <s>.dead
//! ```
//!
//! It learns from each labelled event once, after it has predicted it. What it takes, in which order, is its
//! journal; each version carries the journal since the one before, so a version is a pure function of the log, the
//! contract and the journals. A restart loads the newest checkpoint and replays the journals published after it:
//! it makes the same versions, bit for bit, and then goes on. So a crash at any moment changes no version that was
//! published, and offsets are durable only when a checkpoint has them.
//!
//! One trainer learns a stream: the member of the group that has partition 0 of the model topic reads all clean events
//! and labels; others stand by, and the group gives one of them that partition when it has not heard of the first for
//! 2.5 seconds. A trainer that was only paused may write on for a moment: the version that is first in the model topic
//! counts, and the other trainer notices before its next checkpoint and starts anew.
//!
//! It holds no keys, never writes to the lake, and never acts by the clock but for when it publishes and stores.

pub mod checkpoint;
mod cohorts;
mod config;
mod error;
pub mod fit;
pub mod input;
mod intake;
pub mod join;
pub mod journal;
mod lanes;
mod letters;
mod publish;
mod quality;
mod replay;
mod restore;
pub mod revise;
mod shelf;
mod signals;
mod stage;

use std::process::ExitCode;
use std::time::Duration;

use schemas::Contract;
use schemas::topics::Topics;
use tracing::warn;
use worker::{Context, Fault, Inputs, Kafka, Store};

pub use config::{Args, EXAMPLES};
pub use error::TrainerError;
pub use letters::DeadEnds;
pub use publish::{MODEL_PARTITION, Publisher};
pub use replay::Replay;
pub use shelf::Shelf;
pub use stage::Trainer;

/// Learning can wait a little where scoring cannot: a twentieth of a second, or until a fetch is worth its trip, for
/// a fraction of the wake-ups. And librdkafka needs half a kilobyte for each label that waits, which is a fifth of that.
/// What the operator sets comes later and counts.
const PATIENT: [&str; 3] = [
    "fetch.wait.max.ms=50",
    "fetch.min.bytes=131072",
    "queued.max.messages.kbytes=2048",
];

/// After this silence a trainer is gone, and one that stands by takes its place: with joining the group and loading a
/// checkpoint it is at work within five seconds.
const SESSION: Duration = Duration::from_millis(2500);

/// How often a trainer that has nothing to learn says that it is alive.
const IDLE_BEAT: Duration = Duration::from_secs(1);

/// Runs the worker to its exit code.
pub fn run(args: &Args) -> ExitCode {
    worker::process("thalweg-trainer", &args.worker, |context| {
        work(args.clone(), context)
    })
}

async fn work(args: Args, context: Context) -> Result<(), Box<dyn Fault>> {
    let Some(label) = context.contract.label.clone() else {
        idle(&context).await;
        return Ok(());
    };
    let boxed = |error: TrainerError| -> Box<dyn Fault> { Box::new(error) };
    let store = Store::open(&args.checkpoints).map_err(|error| boxed(error.into()))?;
    let topics = Topics::of(&context.contract.stream.name);
    let interval = Duration::from_secs(args.checkpoint_seconds);
    let (instruments, traces) = (
        context.telemetry.instruments("trainer"),
        context.telemetry.traces("trainer"),
    );
    let (contract, kafka) = (context.contract.clone(), context.kafka.clone());
    let built = Trainer::build(
        contract,
        kafka,
        label,
        store,
        interval,
        &instruments,
        traces,
    );
    let stage = built.await.map_err(boxed)?;
    let group = group(&context.contract);
    let inputs = Inputs {
        group: &group,
        topics: &[&topics.clean, &topics.labels],
        unbroken: &[&topics.clean],
    };
    let properties = PATIENT
        .map(str::to_owned)
        .into_iter()
        .chain(args.worker.kafka);
    let patient = Kafka::connect(&args.worker.brokers, &properties.collect::<Vec<_>>())
        .map_err(|error| boxed(error.into()))?;
    let alone = patient
        .all_or_nothing(&topics.model)
        .with_session(SESSION)
        .await;
    worker::run(stage, &alone, inputs, &context.surroundings()).await
}

/// Returns the name of the consumer group.
fn group(contract: &Contract) -> String {
    format!("{}.trainer", contract.stream.name)
}

/// Waits for the end of the process.
async fn idle(context: &Context) {
    warn!("the contract has no [label]: there is nothing to learn");
    context.health.ready(true);
    let mut beat = tokio::time::interval(IDLE_BEAT);
    loop {
        tokio::select! {
            () = context.shutdown.cancelled() => return,
            _ = beat.tick() => context.health.beat(),
        }
    }
}
