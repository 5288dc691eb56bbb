//! The embedded broker as a process of its own: reads its options, starts, waits for a signal, stops cleanly.
//!
//! Prints one line to stdout when it is ready: `listening on ADDRESS`. Exit codes: 0 stopped cleanly, 1 failed, 64 bad
//! options.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use broker::{Advertised, Broker, BrokerError, Config};
use clap::Parser;
use clap::error::ErrorKind;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tracing::error;
use tracing_subscriber::EnvFilter;

const EXIT_FAILED: u8 = 1;
const EXIT_USAGE: u8 = 64;

/// Thalweg's embedded broker: Kafka's protocol, one process, one folder.
///
/// For trying, developing and testing; production is Apache Kafka.
#[derive(Debug, Parser)]
#[command(name = "thalweg-broker", version)]
struct Options {
    /// Where to listen; port 0 lets the system choose.
    #[arg(long, env = "THALWEG_BROKER_LISTEN", default_value = "127.0.0.1:9092")]
    listen: SocketAddr,

    /// Where everything is kept; created if missing.
    #[arg(long, env = "THALWEG_BROKER_FOLDER")]
    folder: PathBuf,

    /// What clients are told to connect to, HOST:PORT; by default the address that they reached.
    #[arg(long, env = "THALWEG_BROKER_ADVERTISE", value_parser = advertised)]
    advertise: Option<Advertised>,

    /// Create topics that clients ask for, with this many partitions.
    #[arg(long, value_name = "PARTITIONS", value_parser = clap::value_parser!(i32).range(1..))]
    auto_create: Option<i32>,

    /// How often retention and compaction look at the topics that want them, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 15_000, value_parser = clap::value_parser!(u64).range(1..))]
    upkeep_ms: u64,

    /// Worker threads: one needs the least CPU, two serve the most.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    threads: u8,
}

fn advertised(text: &str) -> Result<Advertised, String> {
    let wrong = || format!("{text:?} should be HOST:PORT");
    let (host, port) = text
        .rsplit_once(':')
        .filter(|(host, _)| !host.is_empty())
        .ok_or_else(wrong)?;
    let host = host.trim_matches(['[', ']']).to_owned();
    Ok(Advertised {
        host,
        port: port.parse().map_err(|_| wrong())?,
    })
}

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            let asked = matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            );
            // A closed stdout or stderr leaves nobody to tell.
            let _ = error.print();
            return if asked {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(EXIT_USAGE)
            };
        }
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let to_terminal = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(to_terminal)
        .with_writer(std::io::stderr)
        .init();
    raise_file_limit();
    let result = runtime(options.threads).and_then(|runtime| runtime.block_on(run(options)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            error!(error = problem.as_ref(), "broker failed");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

type Problem = Box<dyn std::error::Error>;

fn runtime(threads: u8) -> Result<Runtime, Problem> {
    let mut builder = match threads {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    if 1 < threads {
        builder.worker_threads(usize::from(threads));
    }
    Ok(builder.enable_all().build()?)
}

async fn run(options: Options) -> Result<(), Problem> {
    let mut config = Config::new(options.folder, options.listen);
    config.advertised = options.advertise;
    config.auto_create_partitions = options.auto_create;
    config.upkeep_every = Duration::from_millis(options.upkeep_ms);
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let running = Broker::start(config).await?;
    {
        let mut out = std::io::stdout().lock();
        writeln!(out, "listening on {}", running.address())?;
        out.flush()?;
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(running
        .shutdown()
        .await
        .map_err(|problem: BrokerError| problem)?)
}

/// Each partition holds a file open, and the usual limit of 1,024 is meant for programs that use `select`.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(problem) = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    ) {
        tracing::debug!(%problem, "could not raise the limit of open files");
    }
}
