//! The options of `scorer`.

/// What `--help` shows at the end.
pub const EXAMPLES: &str = "\
Examples:
  thalweg-scorer --contract stream.toml --brokers kafka:9092 --checkpoints s3://bucket/checkpoints
  thalweg-scorer --contract stream.toml --checkpoints ./checkpoints --otlp http://127.0.0.1:4317";

/// Options of `scorer`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Options that every worker has.
    #[command(flatten)]
    pub worker: worker::Args,

    /// Folder or URL where the trainer stores its checkpoints
    #[arg(long, env = "THALWEG_CHECKPOINTS", value_name = "URL|DIR")]
    pub checkpoints: String,
}
