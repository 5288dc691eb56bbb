//! Lands clean events in the lake: `<s>.clean` goes in, a Delta table of Parquet files comes out.
//!
//! ```text
//! <s>.clean ──► Sink (stage) ──► Lander: rows by day ──► Encoder: Parquet ──► object store
//!                                   │   (≤ 64 MB)                               ▲
//!                                   └──► Table: one commit of files + offsets ──┘
//! ```
//!
//! Follow an event: [`Sink`] decodes its message, [`Lander`] drops it if it has landed before and keeps it by the
//! day of its event time, [`roll`](roll::roll) decides when files close, [`encode`] makes them, and [`table`] commits
//! them together with the offsets that they cover. In the background, [`keeper`] puts small files together and deletes
//! expired ones. The sink never opens a sealed cell, never updates a row and never deletes one.

mod config;
pub mod day;
pub mod encode;
mod error;
pub mod keeper;
pub mod lake;
pub mod lander;
pub mod pack;
mod patient;
mod rewrite;
pub mod roll;
mod signals;
mod stage;
pub mod table;

use std::process::ExitCode;
use std::sync::Arc;

use deltalake_core::logstore::LogStoreRef;
use schemas::topics::Topics;
use schemas::{Columns, Contract};
use telemetry::{Instruments, Traces};
use worker::{Broker, Fault, Inputs};

pub use config::{Args, EXAMPLES};
pub use error::SinkError;
pub use keeper::Keeper;
pub use lander::{Covers, Landed, Lander, Source};
pub use roll::Limits;
pub use signals::Signals;
pub use stage::Sink;

/// Runs the sink from its options to its exit code.
pub fn run(args: &Args) -> ExitCode {
    let (lake, buffer_bytes_max) = (args.lake.clone(), args.buffer_mb * 1_000_000);
    let keep_every = args.keep_every;
    worker::process("thalweg-sink", &args.worker, |context| async move {
        let boxed = |error: SinkError| -> Box<dyn Fault> { Box::new(error) };
        let log = lake::open(&lake, &context.contract.stream.name).map_err(boxed)?;
        let (instruments, traces) = (
            context.telemetry.instruments("sink"),
            context.telemetry.traces("sink"),
        );
        let stage = build(
            &context.contract,
            &context.kafka,
            log,
            buffer_bytes_max,
            &instruments,
            traces,
        )
        .await
        .map_err(boxed)?;
        keeper::in_background(&context, &lake, keep_every)
            .map_err(|source| boxed(SinkError::Background { source }))?;
        let topics = Topics::of(&context.contract.stream.name);
        let group = format!("{}.sink", context.contract.stream.name);
        let inputs = Inputs {
            group: &group,
            topics: &[&topics.clean],
            unbroken: &[&topics.clean],
        };
        worker::run(stage, &context.kafka, inputs, &context.surroundings()).await
    })
}

/// Builds the stage.
///
/// # Errors
/// [`SinkError`] if the broker does not know the raw topic or the table cannot be opened.
pub async fn build<B: Broker>(
    contract: &Arc<Contract>,
    broker: &B,
    log: LogStoreRef,
    buffer_bytes_max: u64,
    instruments: &Instruments,
    traces: Traces,
) -> Result<Sink, SinkError> {
    let topics = Topics::of(&contract.stream.name);
    let raw = broker.topic(&topics.raw).await?;
    let columns = Columns::of(contract);
    let signals = Signals::new(instruments);
    let limits = limits(contract, buffer_bytes_max);
    let lander = Lander::open(log, &contract.stream.name, &columns, limits, signals).await?;
    Ok(Sink::new(lander, contract, &columns, raw.id, traces))
}

/// Returns when files close, by the contract and the memory that there is.
pub fn limits(contract: &Contract, buffer_bytes_max: u64) -> Limits {
    Limits {
        file_bytes_max: contract.lake.file_bytes_max,
        record_age_max: contract.lake.record_age_max,
        buffer_bytes_max,
    }
}
