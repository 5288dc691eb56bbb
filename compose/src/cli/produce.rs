//! `thalweg produce`: plays a file of the user's as a stream.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use schemas::Contract;
use schemas::topics::Topics;

use super::{KafkaArgs, Usage};
use crate::produce::{
    DirtKind, Layout, Options, Played, Progress, SendOptions, Sender, Source, Speed, WAITING_MAX,
    play,
};
use crate::text;

const EXAMPLES: &str = "\
Every row becomes one JSON event on STREAM.raw; the contract says which columns are its id and time. If the
file has the contract's label, each row that has one sends it to STREAM.labels when it becomes known, and
the event does not contain it.

Examples:
  thalweg produce flights.parquet --contract stream.toml
  thalweg produce clicks.csv --contract stream.toml --speed 1000
  thalweg produce orders.jsonl --contract stream.toml --rate 10000 --dirt 0.005 --brokers kafka:9092";

/// How often the bar moves.
const BAR_EVERY: Duration = Duration::from_millis(100);

/// Options of `thalweg produce`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Parquet, CSV (with a header) or JSON lines, in the order of time
    file: PathBuf,

    /// Contract of the stream
    #[arg(long, env = "THALWEG_CONTRACT", value_name = "FILE")]
    contract: PathBuf,

    #[command(flatten)]
    kafka: KafkaArgs,

    /// A multiple of real time, or `max`
    #[arg(long, default_value = "max", value_name = "TIMES|max")]
    speed: Speed,

    /// Events a second, whenever they happened
    #[arg(long, value_name = "EVENTS", conflicts_with = "speed", value_parser = positive)]
    rate: Option<f64>,

    /// Share of events with which dirt is sent: broken, mistyped, impossible, doubled, outsized
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    dirt: f64,

    /// What the dirt and the trace ids follow from
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// One in so many events starts a trace; 0 is none
    #[arg(long, default_value_t = 1000, value_name = "EVENTS")]
    trace_sample: u64,

    /// Events to play at most
    #[arg(long, value_name = "COUNT")]
    events: Option<u64>,

    /// Column that says when the label became known [default: the contract's `label.time`, if the file has it; else
    /// labels are sent with their events]
    #[arg(long, value_name = "COLUMN")]
    label_time_column: Option<String>,

    /// Send no labels, even if the file has them
    #[arg(long, conflicts_with = "label_time_column")]
    no_labels: bool,

    /// Print what was acknowledged as one JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// Reads a share.
pub(super) fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("write a share from 0 to 1, such as 0.005".to_owned()),
    }
}

/// Reads a number above 0.
pub(super) fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if 0.0 < number && number.is_finite() => Ok(number),
        _ => Err("write a number above 0".to_owned()),
    }
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let contract = super::contract(&args.contract)?;
    let layout = layout(args, &contract)?;
    let mut source = Source::open(&args.file, contract.clone(), layout)?;
    let speed = args.rate.map_or(args.speed, Speed::Rate);
    let options = Options {
        speed,
        dirt: args.dirt,
        seed: args.seed,
        trace_sample: args.trace_sample,
        events_max: args.events.unwrap_or(u64::MAX),
    };
    let send = SendOptions {
        brokers: args.kafka.brokers.clone(),
        properties: args.kafka.properties()?,
    };
    let topics = Topics::of(&contract.stream.name);
    let sender = Sender::connect(&send, &topics.raw, &topics.labels, Box::new(|_| {}))?;
    let progress = Arc::new(Progress {
        stop: super::stop_flag()?,
        ..Progress::default()
    });
    let started = Instant::now();
    let total = source.rows_total().map(|rows| rows.min(options.events_max));
    let played = with_bar(total, &progress, || {
        play(&mut source, &contract, &sender, &options, &progress)
    })?;
    eprint!("{}", summary(&played, &topics, started.elapsed()));
    if args.json {
        println!("{}", json(&played, started.elapsed()));
    }
    Ok(ExitCode::SUCCESS)
}

fn layout(args: &Args, contract: &Contract) -> Result<Layout> {
    if contract.label.is_none() && args.label_time_column.is_some() {
        return Err(anyhow!(Usage(
            "--label-time-column: the contract has no label".to_owned()
        )));
    }
    let layout = Layout::of(contract, args.label_time_column.as_deref());
    Ok(if args.no_labels {
        Layout {
            send_labels: false,
            ..layout
        }
    } else {
        layout
    })
}

/// Shows a bar on a terminal while something runs.
fn with_bar<T>(
    total: Option<u64>,
    progress: &Arc<Progress>,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    if !std::io::stderr().is_terminal() {
        return work();
    }
    let shape = match total {
        Some(_) => "{msg}  {bar:40.cyan/dim} {human_pos} of {human_len}  {per_sec}  {eta} left",
        None => "{msg}  {spinner} {human_pos}  {per_sec}",
    };
    let style =
        ProgressStyle::with_template(shape).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr()).with_style(style);
    let done = std::thread::scope(|scope| {
        let (finished, wait) = std::sync::mpsc::channel::<()>();
        let shown = bar.clone();
        scope.spawn(move || {
            let timeout = Err(std::sync::mpsc::RecvTimeoutError::Timeout);
            while wait.recv_timeout(BAR_EVERY) == timeout {
                shown.set_message(text::moment(progress.stream_micros.load(Ordering::Relaxed)));
                shown.set_position(progress.rows.load(Ordering::Relaxed));
            }
        });
        let done = work();
        drop(finished);
        done
    });
    bar.finish_and_clear();
    done
}

/// Says what was acknowledged, for programs.
fn json(played: &Played, elapsed: Duration) -> serde_json::Value {
    let dirt: serde_json::Map<String, serde_json::Value> = DirtKind::ALL
        .into_iter()
        .map(|kind| (kind.name().to_owned(), played.dirt(kind).into()))
        .collect();
    serde_json::json!({
        "events": played.events,
        "raw": played.raw,
        "labels": played.labels,
        "dirt": dirt,
        "seconds": elapsed.as_secs_f64(),
        "stopped": played.stopped,
    })
}

/// Says what was played.
fn summary(played: &Played, topics: &Topics, elapsed: Duration) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    let seconds = elapsed.as_secs_f64().max(1e-9);
    let how = if played.stopped {
        "stopped after"
    } else {
        "played"
    };
    let _ = writeln!(
        text,
        "{how} {} in {seconds:.1} s ({} a second, {}): {} on {}, {} on {}",
        text::plural(played.events, "event", "events"),
        text::count((played.events as f64 / seconds) as u64),
        text::bytes(played.bytes),
        text::plural(played.raw, "message", "messages"),
        topics.raw,
        text::plural(played.labels, "label", "labels"),
        topics.labels,
    );
    let dirt: Vec<String> = DirtKind::ALL
        .into_iter()
        .filter(|kind| 0 < played.dirt(*kind))
        .map(|kind| format!("{} {}", text::count(played.dirt(kind)), kind.name()))
        .collect();
    if !dirt.is_empty() {
        let _ = writeln!(text, "dirt: {}", dirt.join(", "));
    }
    if 0 < played.labels_early {
        let early = text::plural(played.labels_early, "label", "labels");
        let _ = writeln!(
            text,
            "{early} went early: no more than {} can wait",
            text::count(WAITING_MAX as u64)
        );
    }
    text
}
