//! `thalweg evaluate`: how well a file can be predicted, without Kafka.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::evaluate::{self, Evaluation, HEADINGS, Labels, Options, PLACE_HEADINGS};
use crate::text;

const EXAMPLES: &str = "\
Events are read in the file's order, cleaned by the contract's rules, predicted, and only then learned: one pass, as
live. A file without an id or a time has its rows numbered. Exit code 64 says that the contract is not right.

Examples:
  thalweg evaluate events.parquet --contract stream.toml
  thalweg evaluate events.csv --contract stream.toml --compare --html curves.html
  thalweg evaluate events.jsonl --contract stream.toml --at-arrival --json | jq .log_loss";

/// Options of `thalweg evaluate`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// File of events with their labels: .parquet, .csv, .jsonl, .ndjson or .json
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Contract of the stream
    #[arg(long, env = "THALWEG_CONTRACT", value_name = "FILE")]
    contract: PathBuf,

    /// Learn each label when it became known, not right after its event
    #[arg(long)]
    at_arrival: bool,

    /// Column that says when the label became known [default: the contract's `label.time`]
    #[arg(long, value_name = "COLUMN", requires = "at_arrival")]
    label_time_column: Option<String>,

    /// Run every kind of learner beside the contract's, over the same pass
    #[arg(long)]
    compare: bool,

    /// Rows to read at most
    #[arg(long, value_name = "COUNT")]
    events: Option<u64>,

    /// Write a page of curves
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Print one JSON object on stdout
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let contract = super::contract(&args.contract)?;
    let options = Options {
        labels: match args.at_arrival {
            true => Labels::AtArrival,
            false => Labels::AtOnce,
        },
        label_time_column: args.label_time_column.clone(),
        compare: args.compare,
        events_max: args.events.unwrap_or(u64::MAX),
    };
    let bar = bar();
    let evaluation = evaluate::evaluate(&args.file, &contract, &options, &mut |rows, total| {
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_position(rows);
    })?;
    bar.finish_and_clear();
    if args.json {
        println!("{}", evaluation.json());
    } else {
        print!("{}", summary(&evaluation));
    }
    if let Some(file) = &args.html {
        let name = args.file.file_name().unwrap_or(args.file.as_os_str());
        let page = evaluate::html(&name.to_string_lossy(), &evaluation);
        std::fs::write(file, page).with_context(|| format!("cannot write {}", file.display()))?;
        eprintln!("curves are in {}", file.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes a bar, which shows on a terminal alone.
fn bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let shape = "{bar:40.cyan/dim} {human_pos} of {human_len} rows  {per_sec}  {eta} left";
    let style =
        ProgressStyle::with_template(shape).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style)
}

/// Writes a table.
fn summary(evaluation: &Evaluation) -> String {
    use std::fmt::Write;
    let counts = &evaluation.counts;
    let mut text = format!(
        "{}, {} clean, {} without a label\n",
        text::plural(counts.events, "row", "rows"),
        text::count(counts.clean),
        text::count(counts.unlabelled),
    );
    for (reason, count) in &counts.dead {
        let _ = writeln!(text, "refused: {} {reason}", text::count(*count));
    }
    if 0 < counts.late {
        let late = text::plural(counts.late, "label", "labels");
        let _ = writeln!(text, "{late} came later than `wait_max`, and count as none");
    }
    let heading = ["learner"].into_iter().chain(HEADINGS).map(str::to_owned);
    let mut rows: Vec<Vec<String>> = vec![heading.collect()];
    for figures in &evaluation.learners {
        let name = [figures.name.clone()].into_iter();
        rows.push(name.chain(figures.cells()).collect());
    }
    align(&rows, 1, &mut text);
    let base = evaluation.learners.first();
    let base = base.and_then(|own| match (&own.quality, &own.errors, &own.classes) {
        (Some(quality), ..) => Some(("log loss", quality.base_log_loss, "the base rate")),
        (_, Some(errors), _) => Some(("RMSE", errors.base_rmse, "the mean")),
        (.., Some(classes)) => Some(("log loss", classes.base_log_loss, "how often each came")),
        (None, None, None) => None,
    });
    if let Some((name, figure, what)) = base {
        let _ = writeln!(text, "always saying {what} so far: {name} {figure:.4}");
    }
    let own = evaluation.learners.first();
    let slices = own.iter().flat_map(|own| &own.places);
    let slices = slices.filter(|placed| placed.slice.is_some() && placed.window == "all");
    let mut rows: Vec<Vec<String>> = slices.map(|placed| placed.cells().to_vec()).collect();
    if !rows.is_empty() {
        rows.insert(0, PLACE_HEADINGS.map(str::to_owned).to_vec());
        text.push('\n');
        align(&rows, 2, &mut text);
    }
    text
}

/// Writes rows below each other, the first columns to the left and all others to the right.
fn align(rows: &[Vec<String>], left: usize, text: &mut String) {
    use std::fmt::Write;
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).map(width).collect();
    for row in rows {
        for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let gap = if at == 0 { "" } else { "  " };
            let _ = match at < left {
                true => write!(text, "{gap}{cell:<width$}"),
                false => write!(text, "{gap}{cell:>width$}"),
            };
        }
        text.push('\n');
    }
}
