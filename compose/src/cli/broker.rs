//! `thalweg broker`: the embedded broker in the foreground.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use broker::{Broker, Config};
use tokio::signal::unix::{SignalKind, signal};

const EXAMPLES: &str = "\
It is there for trying, developing and testing, on one machine. Production is Apache Kafka.

Examples:
  thalweg broker --folder /tmp/broker
  thalweg broker --folder /tmp/broker --listen 127.0.0.1:0";

/// Options of `thalweg broker`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Where to listen; port 0 takes a free one
    #[arg(
        long,
        env = "THALWEG_BROKER_LISTEN",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:9092"
    )]
    listen: SocketAddr,

    /// Where everything is kept; created if missing
    #[arg(long, env = "THALWEG_BROKER_FOLDER", value_name = "DIR")]
    folder: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let running = Broker::start(Config::new(&args.folder, args.listen)).await;
        let running = running
            .map_err(anyhow::Error::from)
            .context("the broker did not start")?;
        println!("listening on {}", running.address());
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        running
            .shutdown()
            .await
            .context("the broker did not stop cleanly")
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Each partition holds a file open, and the usual limit of 1,024 is meant for programs that use `select`.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Without it, a thousand partitions still work.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    );
}
