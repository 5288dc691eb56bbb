//! `thalweg prepare`: makes what workers need before they start.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use rdkafka::ClientConfig;
use schemas::topics::Topics;

use super::KafkaArgs;
use crate::topics;

const EXAMPLES: &str = "\
`thalweg up` does this by itself; workers that are started one by one need it once. What is there stays as it is.

Examples:
  thalweg prepare --contract stream.toml --brokers kafka:9092 --key-file keys/kek.key
  thalweg prepare --contract stream.toml --brokers kafka:9092 --partitions 12 --replication 3";

/// Options of `thalweg prepare`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Contract of the stream
    #[arg(long, env = "THALWEG_CONTRACT", value_name = "FILE")]
    contract: PathBuf,

    #[command(flatten)]
    kafka: KafkaArgs,

    /// Partitions of topics that are not there yet
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    partitions: i32,

    /// Replicas of topics that are not there yet; -1 is the brokers' default
    #[arg(long, default_value_t = -1, allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-1..=99))]
    replication: i32,

    /// File for a key-encryption key (mode 0600), made if it is missing
    #[arg(long, env = "THALWEG_KEY_FILE", value_name = "FILE")]
    key_file: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let contract = super::contract(&args.contract)?;
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &args.kafka.brokers);
    for (name, value) in args.kafka.properties()? {
        config.set(name, value);
    }
    let topics = Topics::of(&contract.stream.name);
    topics::create(&config, &topics, args.partitions, args.replication)?;
    eprintln!("topics of {} are there", contract.stream.name);
    if let Some(file) = args.key_file.as_deref().filter(|file| !file.exists()) {
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        seal::KeyFile::create(file).with_context(|| format!("cannot make {}", file.display()))?;
        eprintln!(
            "made {}: keep a copy; without it, what is sealed stays so for ever",
            file.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}
