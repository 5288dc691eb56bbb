//! `thalweg recompute`: scores once more from their receipts.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{EXIT_FAILED, KafkaArgs, Usage};
use crate::recompute::{Options, Phase, Step, Verdict, recompute};
use crate::text;

const EXAMPLES: &str = "\
A score names the raw record that it is about, the contract, and the version and digest of the model. Each is computed
anew from these by the scorer's own code, and score, decision and reasons are compared bit for bit. Nothing is written.
Exit code 0 says that all are equal, 1 that one differs (the first is shown, with the reason), 64 that the contract or an
option is not right.

Examples:
  thalweg recompute --contract stream.toml
  thalweg recompute --contract stream.toml --id 2013-01-01-UA-1545-EWR-0515
  thalweg tail flights.scores --count 1000 | thalweg recompute - --contract stream.toml --json
  thalweg recompute receipts.jsonl --contract stream.toml --checkpoints s3://bucket/checkpoints";

/// A receipt and the features of its event take some 300 bytes, so these take some 300 MB.
const RECEIPTS_MAX: u32 = 1_000_000;

/// Options of `thalweg recompute`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Scores as JSON lines; `-` is stdin [default: the stream's topic of scores]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    /// Contract of the stream
    #[arg(long, env = "THALWEG_CONTRACT", value_name = "FILE")]
    contract: PathBuf,

    #[command(flatten)]
    kafka: KafkaArgs,

    /// Only scores of this event; may be repeated
    #[arg(long, value_name = "ID")]
    id: Vec<String>,

    /// Folder or URL where the trainer stores its checkpoints: needed once the first model updates are gone
    #[arg(long, env = "THALWEG_CHECKPOINTS", value_name = "URL|DIR")]
    checkpoints: Option<String>,

    /// Scores held in memory at once; what is beyond is taken by another pass over the topics
    #[arg(long, value_name = "COUNT", default_value_t = RECEIPTS_MAX, value_parser = clap::value_parser!(u32).range(1..))]
    at_once: u32,

    /// Print one JSON object on stdout
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let contract = super::contract(&args.contract)?;
    let kafka = args.kafka.connect()?;
    let options = Options {
        lines: args.file.as_deref().map(lines).transpose()?,
        ids: args.id.clone(),
        receipts_max: args.at_once as usize,
        store: super::checkpoints(args.checkpoints.as_deref())?,
    };
    let (bar, started) = (super::bar(), Instant::now());
    let mut progress = |step: Step| {
        bar.set_message(match step.phase {
            Phase::Receipts => "scores",
            Phase::Events => "events",
            Phase::Scores => "model",
        });
        bar.set_length(step.total);
        bar.set_position(step.done);
    };
    let verdict = super::block_on(recompute(&kafka, &contract, options, &mut progress))?;
    bar.finish_and_clear();
    if args.json {
        let mut report = verdict.json();
        report["seconds"] = started.elapsed().as_secs_f64().into();
        println!("{report}");
    } else {
        print!("{}", summary(&verdict, started.elapsed()));
    }
    Ok(match verdict.differences() {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(EXIT_FAILED),
    })
}

/// Opens a file, or stdin.
fn lines(file: &Path) -> Result<Box<dyn BufRead>> {
    if file == Path::new("-") {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    let opened = File::open(file)
        .map_err(|error| Usage(format!("cannot read {}: {error}", file.display())))?;
    Ok(Box::new(BufReader::new(opened)))
}

/// Says what came of it, for people.
fn summary(verdict: &Verdict, elapsed: Duration) -> String {
    use std::fmt::Write;
    let compared = verdict.equals() + verdict.differences();
    let mut text = format!(
        "{} computed anew in {:.1} s: {} equal bit for bit, {} not\n",
        text::plural(compared, "score", "scores"),
        elapsed.as_secs_f64(),
        text::count(verdict.equals()),
        text::count(verdict.differences()),
    );
    for (kind, count) in verdict.kinds() {
        let _ = writeln!(text, "  {} {}", text::count(*count), kind.replace('_', " "));
    }
    if let Some(first) = verdict.first() {
        let id = first.id.as_deref().unwrap_or("unknown");
        let _ = writeln!(text, "first: {id} ({}): {}", first.place, first.why);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recompute::{Difference, Place, Why};
    use schemas::ModelVersion;

    #[test]
    fn the_first_that_differs_is_named_with_its_reason() {
        let mut verdict = Verdict::default();
        (0..1500).for_each(|_| verdict.equal());
        verdict.differs(Difference {
            place: Place::Line(7),
            id: Some("a".to_owned()),
            why: Why::UnknownVersion(ModelVersion(9)),
        });
        let expected = "1,501 scores computed anew in 2.0 s: 1,500 equal bit for bit, 1 not\n  \
                        1 unknown version\n\
                        first: a (line 7): the model topic does not lead to version 9\n";
        assert_eq!(summary(&verdict, Duration::from_secs(2)), expected);
    }
}
