//! `ingest`: raw events in, clean batches or dead letters out.
//!
//! ```text
//! <s>.raw p ──► parse ──► clean ──► decide ──┬─► columns ─► seal ─► outbox [8] ──► <s>.clean p
//!               (sonic)   (rules)   (window, └─► dead letter, sealed ────────────► <s>.dead p
//!                                    moments)
//! ```
//!
//! Partition numbers and order are kept. Every raw offset ends in exactly one of clean and dead, and a clean
//! batch leaves only once the dead letters of what it covers are acknowledged. So the tail of the clean
//! partition says how far `ingest` came, and all that a decision depends on is rebuilt from it: the window of
//! known ids from its rows, the moments for outliers from its last header. Nothing else is stored, and a crashed
//! or replayed worker decides the same.
//!
//! It never writes personal data in the clear, and never drops a record.

pub mod clean;
pub mod columns;
mod config;
mod error;
mod moments;
mod outbox;
pub mod parse;
mod restore;
mod signals;
mod stage;
mod window;

use std::process::ExitCode;
use std::sync::Arc;

use schemas::topics::Topics;
use seal::{FileKeyStore, KeyFile, StreamId, StreamKeys};
use worker::{Context, Fault, Inputs};

pub use config::{Args, EXAMPLES};
pub use error::IngestError;
pub use moments::Moments;
pub use stage::Ingester;
pub use window::Window;

/// Runs the worker to its exit code.
pub fn run(args: &Args) -> ExitCode {
    worker::process("thalweg-ingest", &args.worker, |context| {
        work(args.clone(), context)
    })
}

async fn work(args: Args, context: Context) -> Result<(), Box<dyn Fault>> {
    let topics = Topics::of(&context.contract.stream.name);
    let keys = keys(&args, &context).map_err(boxed)?;
    let (instruments, traces) = (
        context.telemetry.instruments("ingest"),
        context.telemetry.traces("ingest"),
    );
    let (contract, kafka) = (context.contract.clone(), context.kafka.clone());
    let stage = Ingester::build(contract, kafka, keys, &instruments, traces)
        .await
        .map_err(boxed)?;
    let group = format!("{}.ingest", context.contract.stream.name);
    let inputs = Inputs {
        group: &group,
        topics: &[&topics.raw],
        unbroken: &[],
    };
    worker::run(stage, &context.kafka, inputs, &context.surroundings()).await
}

fn boxed(error: IngestError) -> Box<dyn Fault> {
    Box::new(error)
}

/// Opens the stream's keys.
fn keys(args: &Args, context: &Context) -> Result<StreamKeys, IngestError> {
    let stream = &context.contract.stream;
    let ring = KeyFile::read(&args.key_file).map_err(|source| IngestError::KeyFile {
        file: args.key_file.display().to_string(),
        source,
    })?;
    let store = FileKeyStore::open(&args.key_store)?;
    let id = StreamId::new(&stream.tenant, &stream.name)?;
    Ok(StreamKeys::open_or_create(
        id,
        Arc::new(ring),
        Arc::new(store),
    )?)
}
