//! `thalweg demo`: a year of real flights through everything, on this machine.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::produce::{positive, share};
use crate::demo::{self, Outcome, Step};
use crate::produce::{self, Speed};
use crate::{report, text};

const EXAMPLES: &str = "\
336,776 flights that left New York in 2013 are played onto an embedded broker, each with its weather; whether
it was late is told when it arrived, hours later in the stream's time. Ingest cleans and seals them, the sink
lands them in a Delta lake, the trainer learns from every label, the scorer scores every flight. At the end
every sum is checked and a report written.

Examples:
  thalweg demo                          as fast as it goes, with 0.5 % dirt
  thalweg demo --speed 100000           a year in five minutes
  thalweg demo --rate 10000             10,000 flights a second
  thalweg demo --events 20000 --json    for a program: one object on stdout, exit code 1 if a sum is off";

/// Options of `thalweg demo`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// A multiple of real time, or `max`
    #[arg(long, default_value = "max", value_name = "TIMES|max")]
    speed: Speed,

    /// Events a second, whenever they happened
    #[arg(long, value_name = "EVENTS", conflicts_with = "speed", value_parser = positive)]
    rate: Option<f64>,

    /// Share of events with which dirt is sent: broken, mistyped, impossible, doubled, outsized
    #[arg(long, default_value_t = 0.005, value_name = "SHARE", value_parser = share)]
    dirt: f64,

    /// What the dirt and the trace ids follow from
    #[arg(long, default_value_t = 2013)]
    seed: u64,

    /// One in so many events starts a trace; 0 is none
    #[arg(long, default_value_t = 1000, value_name = "EVENTS")]
    trace_sample: u64,

    /// Events to play at most
    #[arg(long, value_name = "COUNT")]
    events: Option<u64>,

    /// Partitions of the topics
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..=64))]
    partitions: i32,

    /// Where everything of the run is kept [default: a new folder for temporary files]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,

    /// Port of the embedded broker; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,

    /// Print the summary as one JSON object on stdout
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let options = demo::Options {
        play: produce::Options {
            speed: args.rate.map_or(args.speed, Speed::Rate),
            dirt: args.dirt,
            seed: args.seed,
            trace_sample: args.trace_sample,
            events_max: args.events.unwrap_or(u64::MAX),
        },
        folder: args.folder.clone().unwrap_or_else(new_folder),
        port: args.port,
        partitions: args.partitions,
        terminal: !args.json && std::io::stdout().is_terminal(),
        stop: super::stop_flag()?,
    };
    let (outcome, contract) = demo::run(&options)?;
    let steps = demo::steps(&outcome, &contract.stream.name);
    let page = outcome.folder.join("report.html");
    std::fs::write(&page, report::html(&outcome, &steps)).context("cannot write the report")?;
    let summary = outcome.to_json();
    std::fs::write(
        outcome.folder.join("summary.json"),
        format!("{summary:#}\n"),
    )
    .context("cannot write the summary")?;
    if args.json {
        println!("{summary}");
    } else {
        print!("{}", closing(&outcome, &steps));
        println!("\nreport: {}", page.display());
    }
    for sum in outcome.sums().iter().filter(|sum| !sum.holds()) {
        eprintln!(
            "error: {} does not hold: {} and {}",
            sum.name,
            text::count(sum.left),
            text::count(sum.right)
        );
    }
    Ok(if outcome.holds() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(super::EXIT_FAILED)
    })
}

fn new_folder() -> PathBuf {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    std::env::temp_dir().join(format!("thalweg-demo-{seconds}-{}", std::process::id()))
}

/// Says what a run came to, and what to do next.
fn closing(outcome: &Outcome, steps: &[Step]) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    let seconds = outcome.elapsed.as_secs_f64();
    let _ = writeln!(
        text,
        "{} in {seconds:.1} s, {} a second from raw to scored, learned and landed",
        text::plural(outcome.played.events, "flight", "flights"),
        text::count(outcome.events_per_second() as u64)
    );
    let dead: Vec<String> = outcome
        .dead
        .iter()
        .map(|(reason, count)| format!("{} {}", text::count(*count), reason.name()))
        .collect();
    let _ = writeln!(
        text,
        "raw {} = clean {} + dead {} ({})",
        text::count(outcome.raw),
        text::count(outcome.clean),
        text::count(outcome.dead_total()),
        dead.join(", ")
    );
    let _ = writeln!(
        text,
        "landed {} in {}, scored {}, learned {} of {}",
        text::count(outcome.landed.rows),
        text::plural(outcome.landed.files, "file", "files"),
        text::count(outcome.scored),
        text::count(outcome.learned),
        text::plural(outcome.labels, "label", "labels"),
    );
    if let Some(quality) = &outcome.quality {
        let _ = writeln!(
            text,
            "log loss of the served scores {:.4}, always the base rate {:.4}; AUC {:.4}",
            quality.log_loss, quality.base_log_loss, quality.auc
        );
    }
    if let Some(loss) = outcome.trainer_log_loss {
        let _ = writeln!(
            text,
            "log loss of the trainer, each label predicted before it is learned: {loss:.4}"
        );
    }
    if let Some((p50, p99)) = outcome
        .latency
        .quantile_ms(0.5)
        .zip(outcome.latency.quantile_ms(0.99))
    {
        let _ = writeln!(
            text,
            "raw to score: median {p50:.1} ms, 99th percentile {p99:.1} ms"
        );
    }
    text.push_str("\nnext:\n");
    for step in steps {
        let _ = writeln!(text, "  # {}\n  {}", step.what, step.command);
    }
    text
}
