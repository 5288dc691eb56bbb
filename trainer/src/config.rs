//! The options of `trainer`.

use std::time::Duration;

/// What `--help` shows at the end.
pub const EXAMPLES: &str = "\
Examples:
  thalweg-trainer --contract stream.toml --brokers kafka:9092 --checkpoints ./checkpoints
  AWS_REGION=eu-central-1 thalweg-trainer --contract stream.toml --checkpoints s3://bucket/checkpoints

One trainer learns a stream; others that are started stand by, and one of them takes over within five seconds when it
is killed. (The brokers' group.min.session.timeout.ms must be 2500 at most; Kafka's own default is 6000.)";

/// Options of `trainer`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Options that every worker has.
    #[command(flatten)]
    pub worker: worker::Args,

    /// Folder, or URL of an object store (s3://, gs://, az://), that holds the checkpoints
    #[arg(long, env = "THALWEG_CHECKPOINTS", value_name = "URL|DIR")]
    pub checkpoints: String,

    /// Seconds from one checkpoint to the next: about this much is learned anew after a crash
    #[arg(long, env = "THALWEG_CHECKPOINT_SECONDS", value_name = "S", default_value_t = CHECKPOINT_SECONDS,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub checkpoint_seconds: u64,
}

/// A checkpoint of the default sizes costs some 30 ms, so every 10 s it is below a hundredth of the work.
const CHECKPOINT_SECONDS: u64 = 10;

/// A checkpoint is also due after this many labels: what a crash repeats stays below a few seconds.
pub(crate) const CHECKPOINT_LABELS_MAX: u64 = 1_000_000;

/// A version is due after this time, if something was learned: scores use weights younger than a second.
pub(crate) const UPDATE_INTERVAL: Duration = Duration::from_millis(250);

/// A version is due after this many labels.
pub(crate) const UPDATE_LABELS_MAX: u64 = 10_000;

/// A version is due after this many segments, learned or not: its journal stays below half a megabyte.
pub(crate) const UPDATE_SEGMENTS_MAX: usize = 16_384;

/// Quality by window and slice is told so often: a millisecond of work for four slices of many values.
pub(crate) const BOARD_INTERVAL: Duration = Duration::from_secs(5);

/// Labels that may wait for their event, at least. Labels need no rules and no sealing, so in a catch-up they
/// come far ahead of the clean events, and each takes some 80 bytes only.
pub(crate) const EARLY_LABELS_MIN: usize = 1 << 19;

/// Labels that wait for their event from which on labels are held back: half of the room, since some are on their way.
pub(crate) const HOLD_LABELS_FROM: usize = EARLY_LABELS_MIN / 2;

/// Labels that wait for their event below which labels flow again.
pub(crate) const FLOW_LABELS_BELOW: usize = EARLY_LABELS_MIN / 4;

/// Labels are held back only while clean events come: once none have come for this long, those that wait wait for
/// events that were refused, and the oldest leave.
pub(crate) const CLEAN_IDLE: Duration = Duration::from_secs(2);
