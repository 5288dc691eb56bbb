//! `thalweg up`: the four workers as supervised child processes, on the embedded broker or on any Kafka.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, bail};
use schemas::topics::Topics;

use crate::pipeline::{Folder, OnEvent, Pipeline, Plan, WORKERS};
use crate::supervise::Event;

const EXAMPLES: &str = "\
Without --brokers, an embedded broker serves them: for trying, developing and testing, not for production.
What dies is started anew. Ctrl-C lets open work finish, then stops everything; a second one ends at once.

Examples:
  thalweg up --contract stream.toml
  thalweg up --contract stream.toml --data /var/lib/thalweg --brokers kafka-1:9092,kafka-2:9092
  thalweg up --contract stream.toml --lake s3://bucket/lake --checkpoints s3://bucket/checkpoints";

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Options of `thalweg up`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Contract of the stream
    #[arg(long, env = "THALWEG_CONTRACT", value_name = "FILE")]
    contract: PathBuf,

    /// Kafka brokers to start from, comma separated [default: an embedded broker]
    #[arg(long, env = "THALWEG_BROKERS", value_name = "HOST:PORT")]
    brokers: Option<String>,

    /// Any property of librdkafka, such as `security.protocol=ssl`; may be repeated
    #[arg(
        long = "kafka",
        env = "THALWEG_KAFKA",
        value_name = "NAME=VALUE",
        value_delimiter = ';'
    )]
    kafka: Vec<String>,

    /// Where keys, lake, checkpoints and the embedded broker's topics are kept
    #[arg(long, value_name = "DIR", default_value = "thalweg-data")]
    data: PathBuf,

    /// Where the embedded broker listens
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:9092",
        conflicts_with = "brokers"
    )]
    listen: SocketAddr,

    /// Partitions of topics that are not there yet
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    partitions: i32,

    /// Replicas of topics that are not there yet; -1 is the brokers' default
    #[arg(long, default_value_t = -1, allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-1..=99))]
    replication: i32,

    /// Where the lake is [default: in the data folder]
    #[arg(long, value_name = "URL|DIR")]
    lake: Option<String>,

    /// Where checkpoints are [default: in the data folder]
    #[arg(long, value_name = "URL|DIR")]
    checkpoints: Option<String>,

    /// Port of the first worker's pages (/metrics, /livez, /readyz), the others' following; 0 takes free ones
    #[arg(long, value_name = "PORT", default_value_t = 9470)]
    http_port: u16,

    /// OTLP endpoint (gRPC) for metrics, traces and logs, such as http://127.0.0.1:4317
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    otlp: Option<String>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let contract = super::contract(&args.contract)?;
    let stop = super::stop_flag()?;
    let plan = Plan {
        contract: args.contract.clone(),
        folder: Folder::open(&args.data)?,
        brokers: args.brokers.clone(),
        listen: args.listen,
        kafka: args.kafka.clone(),
        partitions: args.partitions,
        replication: args.replication,
        lake: args.lake.clone(),
        checkpoints: args.checkpoints.clone(),
        http_port: args.http_port,
        otlp: args.otlp.clone(),
        log_files: false,
    };
    for worker in WORKERS {
        // Of an earlier run: its address is not that of this one.
        let _ = std::fs::remove_file(plan.folder.address(worker));
    }
    let pipeline = Pipeline::start(&plan, &contract, &(Arc::new(say) as OnEvent))?;
    let topics = Topics::of(&contract.stream.name);
    eprintln!(
        "thalweg: {} runs on {} in {}",
        contract.stream.name,
        pipeline.brokers,
        plan.folder.path().display()
    );
    eprintln!(
        "thalweg: send events to {}, labels to {}; scores come on {}",
        topics.raw, topics.labels, topics.scores
    );
    let mut silent: Vec<&str> = WORKERS.to_vec();
    while !stop.load(Ordering::Relaxed) && pipeline.is_running() {
        silent.retain(
            |worker| match std::fs::read_to_string(plan.folder.address(worker)) {
                Ok(address) => {
                    eprintln!("thalweg: {worker} has its pages on http://{address}/metrics");
                    false
                }
                Err(_) => true,
            },
        );
        std::thread::sleep(LOOK_EVERY);
    }
    let asked = stop.load(Ordering::Relaxed);
    eprintln!("thalweg: stopping");
    pipeline.stop()?;
    if !asked {
        bail!("a program ended that should not have");
    }
    Ok(ExitCode::SUCCESS)
}

fn say(event: Event) {
    match event {
        Event::Started(name, pid) => eprintln!("thalweg: {name} started (process {pid})"),
        Event::Died(name, status, pause) => {
            eprintln!("thalweg: {name} ended ({status}); starting it anew in {pause:?}");
        }
    }
}
