//! The options of `ingest`.

use std::path::PathBuf;

/// What `--help` shows at the end.
pub const EXAMPLES: &str = "\
Examples:
  thalweg-ingest --contract stream.toml --brokers kafka:9092 --key-file kek.key --key-store keys.redb
  thalweg-ingest --contract stream.toml --kafka security.protocol=ssl --otlp http://127.0.0.1:4317 \\
                 --key-file kek.key --key-store keys.redb";

/// Options of `ingest`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Options that every worker has.
    #[command(flatten)]
    pub worker: worker::Args,

    /// File with the key-encryption key, mode 0600
    #[arg(long, env = "THALWEG_KEY_FILE", value_name = "FILE")]
    pub key_file: PathBuf,

    /// File with the subjects' wrapped keys; made if it is missing
    #[arg(long, env = "THALWEG_KEY_STORE", value_name = "FILE")]
    pub key_store: PathBuf,
}
