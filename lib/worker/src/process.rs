//! One order of things for every worker process: telemetry, build, run, signal, drain, flush, exit code.

use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use schemas::{Contract, Digest};
use telemetry::{Instruments, Telemetry};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::args::{Args, exit_usage};
use crate::health::{self, Health};
use crate::kafka::Kafka;
use crate::stage::{Fault, Next};

/// Exit code of a process that failed and may be started anew.
pub const EXIT_FAILED: u8 = 1;

/// Exit code of a process that was configured wrongly (`EX_USAGE`): starting it anew does not help.
pub const EXIT_USAGE: u8 = 64;

/// Exit code of a process that met what only a human can mend (`EX_DATAERR`).
const EXIT_STOPPED: u8 = 65;

/// How long open work may take to finish once the process is told to stop.
const GRACE: Duration = Duration::from_secs(30);

/// What a stage is built from.
#[derive(Clone)]
pub struct Context {
    /// The stream's contract.
    pub contract: Arc<Contract>,
    /// The contract's digest.
    pub digest: Digest,
    /// The broker.
    pub kafka: Kafka,
    /// Metrics, traces and logs.
    pub telemetry: Arc<Telemetry>,
    /// Whether the process is alive and ready.
    pub health: Health,
    /// Cancelled when the process is told to stop.
    pub shutdown: CancellationToken,
}

/// What the loop needs of the process around it.
#[derive(Clone)]
pub struct Surroundings {
    /// Where the loop's own metrics go.
    pub instruments: Instruments,
    /// Whether the process is alive and ready.
    pub health: Health,
    /// Cancelled when the process is told to stop.
    pub shutdown: CancellationToken,
}

impl Context {
    /// Returns what the loop needs.
    pub fn surroundings(&self) -> Surroundings {
        Surroundings {
            instruments: self.telemetry.instruments("worker"),
            health: self.health.clone(),
            shutdown: self.shutdown.clone(),
        }
    }
}

/// Returns the time that decisions go by: a simulator's own where one pauses tokio's clock.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Runs a worker process from its options to its exit code: 0 clean, 1 failed, 64 configured wrongly, 65
/// stopped at data that only a human can mend.
///
/// The first SIGTERM or SIGINT drains; the second one, or the end of the grace period, ends the process at once.
pub fn process<F, R>(service: &'static str, args: &Args, work: F) -> ExitCode
where
    F: FnOnce(Context) -> R,
    R: Future<Output = Result<(), Box<dyn Fault>>>,
{
    // Two providers of cryptography are in this tree, and rustls picks none by itself; a second call changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let contract = match Contract::read(&args.contract) {
        Ok(contract) => Arc::new(contract),
        Err(problems) => return exit_usage(&problems),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return exit_usage(&format!("could not start the runtime: {error}")),
    };
    let code = runtime.block_on(serve(service, args, contract, work));
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

async fn serve<F, R>(
    service: &'static str,
    args: &Args,
    contract: Arc<Contract>,
    work: F,
) -> ExitCode
where
    F: FnOnce(Context) -> R,
    R: Future<Output = Result<(), Box<dyn Fault>>>,
{
    let stream = contract.stream.name.clone();
    let config = telemetry::Config {
        service,
        stream,
        otlp: args.otlp.clone(),
    };
    let telemetry = match Telemetry::start(&config) {
        Ok(telemetry) => Arc::new(telemetry),
        Err(error) => return exit_usage(&error),
    };
    let kafka = match Kafka::connect(&args.brokers, &args.kafka) {
        Ok(kafka) => kafka,
        Err(error) => return exit_usage(&error),
    };
    let (health, shutdown) = (Health::default(), CancellationToken::new());
    // The page outlives the drain, so that a last look at the metrics is possible.
    let page_end = CancellationToken::new();
    match health::serve(
        args.http,
        health.clone(),
        telemetry.clone(),
        page_end.clone(),
    )
    .await
    {
        Ok(address) => {
            info!(%address, "http listening on {address}");
            if let Err(problem) = write_address(args, &address.to_string()) {
                // Its disk may have room again the next time.
                error!(problem, "failed");
                return ExitCode::from(EXIT_FAILED);
            }
        }
        Err(error) => return exit_usage(&format!("could not listen on {}: {error}", args.http)),
    }
    let digest = contract.digest();
    info!(service, contract = %digest, "started");
    let context = Context {
        contract,
        digest,
        kafka,
        telemetry: telemetry.clone(),
        health,
        shutdown: shutdown.clone(),
    };
    let code = supervise(work(context), shutdown).await;
    page_end.cancel();
    // Exporters block while they flush, and gRPC needs this runtime meanwhile.
    let flushed = tokio::task::spawn_blocking(move || telemetry.shutdown());
    let _ = tokio::time::timeout(Duration::from_secs(5), flushed).await;
    code
}

fn write_address(args: &Args, address: &str) -> Result<(), String> {
    let Some(file) = &args.http_file else {
        return Ok(());
    };
    // Whoever waits for the file must never see half of it.
    let part = file.with_extension("part");
    let written = std::fs::write(&part, address).and_then(|()| std::fs::rename(&part, file));
    written.map_err(|error| format!("could not write {}: {error}", file.display()))
}

async fn supervise(
    work: impl Future<Output = Result<(), Box<dyn Fault>>>,
    shutdown: CancellationToken,
) -> ExitCode {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return exit_usage(&"could not listen for signals");
    };
    tokio::pin!(work);
    let ended = loop {
        tokio::select! {
            ended = &mut work => break Some(ended),
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = grace(&shutdown) => break None,
        }
        if shutdown.is_cancelled() {
            break None;
        }
        info!("told to stop");
        shutdown.cancel();
    };
    match ended {
        Some(Ok(())) => {
            info!("stopped");
            ExitCode::SUCCESS
        }
        Some(Err(error)) => {
            let code = match error.next() {
                Next::Restart => EXIT_FAILED,
                Next::Stop => EXIT_STOPPED,
            };
            error!(error = chain(error.as_ref()), "failed");
            ExitCode::from(code)
        }
        None => {
            error!("stopped before open work was finished; it will be done anew");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// Ends when the grace period after the shutdown is over.
async fn grace(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    tokio::time::sleep(GRACE).await;
}

/// Writes an error and everything that caused it on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
