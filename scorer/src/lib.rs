//! `scorer`: clean batches and model updates in, one score for each clean event out.
//!
//! ```text
//! <s>.clean p ──► rows ──► score ──► JSON ──► <s>.scores p
//!                            ▲
//! <s>.model 0 ──► updates [4]┘   (from the newest snapshot on)
//! ```
//!
//! Partition numbers and order are kept, so the tail of the scores partition says how far the scorer came:
//! what it has passed is dropped, and each clean event is scored once. A score names the model that made it
//! and the raw record that it is about; anybody can compute it anew.
//!
//! It holds no keys: of sealed fields it sees tokens at most.

mod config;
mod error;
pub mod model;
mod reference;
pub mod score;
mod signals;
mod stage;

use std::process::ExitCode;
use std::time::Duration;

use schemas::topics::Topics;
use worker::{Context, Fault, Inputs, Store};

pub use config::{Args, EXAMPLES};
pub use error::ScorerError;
pub use stage::ScoreStage;

/// How long scores may wait for others that share their request. At ten thousand a second it halves the
/// broker's work, and costs a tenth of the latency that is allowed.
const LINGER: Duration = Duration::from_millis(1);

/// Scores are JSON with the same names again and again: a third of the bytes to send, store and read, for a tenth of
/// a microsecond each.
const COMPRESSION: &str = "lz4";

/// Runs the worker to its exit code.
pub fn run(args: &Args) -> ExitCode {
    worker::process("thalweg-scorer", &args.worker, |context| {
        work(args.clone(), context)
    })
}

async fn work(args: Args, context: Context) -> Result<(), Box<dyn Fault>> {
    let boxed = |error: ScorerError| -> Box<dyn Fault> { Box::new(error) };
    let topics = Topics::of(&context.contract.stream.name);
    let store = Store::open(&args.checkpoints).map_err(|error| boxed(error.into()))?;
    let kafka = context.kafka.clone();
    let kafka = kafka.with_linger(LINGER).with_compression(COMPRESSION);
    let (instruments, traces) = (
        context.telemetry.instruments("scorer"),
        context.telemetry.traces("scorer"),
    );
    let stage = ScoreStage::build(
        &context.contract,
        kafka.clone(),
        &store,
        &instruments,
        traces,
    )
    .await
    .map_err(boxed)?;
    let group = format!("{}.scorer", context.contract.stream.name);
    let inputs = Inputs {
        group: &group,
        topics: &[&topics.clean],
        unbroken: &[&topics.clean],
    };
    worker::run(stage, &kafka, inputs, &context.surroundings()).await
}
