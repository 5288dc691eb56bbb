//! `thalweg replay`: model versions once more from the log.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use schemas::ModelVersion;

use super::{EXIT_FAILED, KafkaArgs, Usage};
use crate::replay::{Options, Replayed, replay};
use crate::text;

const EXAMPLES: &str = "\
An update of the model names what the trainer took for it, in which order. The same is taken from the log again, by the
trainer's own code, and the digest of each version is compared with the one that was published. Nothing is written. Exit
code 0 says that all are equal, 1 that one differs (it is shown, with the reason), 64 that the contract or an option is not
right.

Examples:
  thalweg replay --contract stream.toml
  thalweg replay --contract stream.toml --version 120 --json
  thalweg replay --contract stream.toml --checkpoints s3://bucket/checkpoints";

/// Options of `thalweg replay`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Contract of the stream
    #[arg(long, env = "THALWEG_CONTRACT", value_name = "FILE")]
    contract: PathBuf,

    #[command(flatten)]
    kafka: KafkaArgs,

    /// The last version to make [default: the newest]
    #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(u64).range(1..))]
    version: Option<u64>,

    /// Folder or URL where the trainer stores its checkpoints: needed once the log does not reach back to version 0
    #[arg(long, env = "THALWEG_CHECKPOINTS", value_name = "URL|DIR")]
    checkpoints: Option<String>,

    /// Print one JSON object on stdout
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let contract = super::contract(&args.contract)?;
    let Some(label) = &contract.label else {
        let problem = "the contract has no [label]: there is no model to make again";
        return Err(Usage(problem.to_owned()).into());
    };
    let kafka = args.kafka.connect()?;
    let options = Options {
        version: args.version.map(ModelVersion),
        store: super::checkpoints(args.checkpoints.as_deref())?,
    };
    let (bar, started) = (super::bar(), Instant::now());
    bar.set_message("model");
    let mut progress = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let work = replay(&kafka, &contract, label, &options, &mut progress);
    let replayed = super::block_on(work)?;
    bar.finish_and_clear();
    if args.json {
        let mut report = replayed.json();
        report["seconds"] = started.elapsed().as_secs_f64().into();
        println!("{report}");
    } else {
        print!("{}", summary(&replayed, started.elapsed()));
    }
    Ok(match replayed.first {
        None => ExitCode::SUCCESS,
        Some(_) => ExitCode::from(EXIT_FAILED),
    })
}

/// Says what came of it, for people.
fn summary(replayed: &Replayed, elapsed: Duration) -> String {
    use std::fmt::Write;
    let mut out = format!(
        "{} made anew in {:.1} s, from version {} on, equal bit for bit through version {} ({})\n",
        text::plural(replayed.equals(), "version", "versions"),
        elapsed.as_secs_f64(),
        replayed.from,
        replayed.through,
        replayed.digest,
    );
    if let Some(quality) = &replayed.quality {
        let _ = writeln!(out, "{}", text::quality(quality));
    }
    if let Some(first) = &replayed.first {
        let _ = writeln!(out, "version {} differs: {}", first.version, first.why);
    }
    out
}
