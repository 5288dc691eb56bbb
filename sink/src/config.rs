//! The options of `sink`.

use std::time::Duration;

/// What `--help` shows at the end.
pub const EXAMPLES: &str = "\
Examples:
  thalweg-sink --contract stream.toml --brokers kafka:9092 --lake /data/lake
  AWS_REGION=eu-central-1 thalweg-sink --contract stream.toml --lake s3://bucket/lake

The table is <lake>/<stream>. Cloud stores take their credentials and settings from the environment, by the
names that their own tools use (AWS_*, GOOGLE_*, AZURE_*).";

/// Options of `sink`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Options that every worker has.
    #[command(flatten)]
    pub worker: worker::Args,

    /// Folder, or URL of an object store (s3://, gs://, az://), that holds the tables
    #[arg(long, env = "THALWEG_LAKE", value_name = "URL|DIR")]
    pub lake: String,

    /// Megabytes of rows that wait for a commit, at most
    #[arg(long, env = "THALWEG_SINK_BUFFER_MB", value_name = "MB", default_value_t = BUFFER_MB,
          value_parser = clap::value_parser!(u64).range(1..=16_384))]
    pub buffer_mb: u64,

    /// How often small and expired files are looked for, by the contract
    #[arg(long, env = "THALWEG_SINK_KEEP_EVERY", value_name = "DURATION", default_value = KEEP_EVERY,
          value_parser = duration)]
    pub keep_every: Duration,
}

/// A round looks at the table's log alone if nothing has to be done.
const KEEP_EVERY: &str = "60s";

fn duration(text: &str) -> Result<Duration, &'static str> {
    schemas::parse_duration(text).ok_or("write a duration such as 60s, 10m or 1h")
}

/// Rows of 64 MB, their encoded files and the Kafka client's queues stay below 300 MiB.
const BUFFER_MB: u64 = 64;
