//! `thalweg init`: drafts a contract from a user's own data.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};

use super::Usage;
use crate::init::{Draft, DraftError, ROWS_MAX, Sample, Wishes, draft};
use crate::text;

const EXAMPLES: &str = "\
Reads the first rows of a file and guesses types, bounds, the event's id and time, the label and when it became
known, personal data and features. Each guess stands in the contract with its reason; correct what is wrong.

Examples:
  thalweg init events.parquet && thalweg evaluate events.parquet --contract stream.toml
  thalweg init clicks.csv --label clicked --id click_id --out clicks.toml
  thalweg init orders.jsonl --out - | less";

/// Options of `thalweg init`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Parquet, CSV (with a header) or JSON lines
    file: PathBuf,

    /// Where the contract goes; `-` is standard output
    #[arg(long, default_value = "stream.toml", value_name = "FILE|-")]
    out: PathBuf,

    /// Write over a contract that is there already
    #[arg(long)]
    force: bool,

    /// Name of the stream [default: the file's]
    #[arg(long)]
    name: Option<String>,

    /// Column of what is to be predicted
    #[arg(long, value_name = "COLUMN")]
    label: Option<String>,

    /// Column that names the event
    #[arg(long, value_name = "COLUMN")]
    id: Option<String>,

    /// Column that says when the event happened
    #[arg(long, value_name = "COLUMN")]
    time: Option<String>,

    /// Column that says when the label became known
    #[arg(long, value_name = "COLUMN")]
    label_time: Option<String>,

    /// Column that says whose data the event is
    #[arg(long, value_name = "COLUMN")]
    subject: Option<String>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let to_stdout = args.out == Path::new("-");
    if !to_stdout && !args.force && args.out.exists() {
        return Err(exists(&args.out));
    }
    let sample = Sample::read(&args.file)?;
    let wishes = Wishes {
        name: args.name.clone(),
        label: args.label.clone(),
        id: args.id.clone(),
        time: args.time.clone(),
        label_time: args.label_time.clone(),
        subject: args.subject.clone(),
    };
    let draft = draft(&sample, &wishes).map_err(|error| match error {
        // The file, not an option, may be at fault.
        DraftError::Refused { .. } => anyhow!(error),
        _ => anyhow!(Usage(error.to_string())),
    })?;
    if to_stdout {
        let mut stdout = std::io::stdout().lock();
        stdout
            .write_all(draft.text.as_bytes())
            .context("cannot write to standard output")?;
    } else {
        save(&args.out, args.force, &draft.text)?;
    }
    eprint!("{}", summary(args, &sample, &draft, to_stdout));
    Ok(ExitCode::SUCCESS)
}

fn exists(out: &Path) -> anyhow::Error {
    let out = out.display();
    anyhow!(Usage(format!(
        "{out} is there already; --force writes over it, --out FILE writes elsewhere"
    )))
}

fn save(out: &Path, force: bool, text: &str) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    let mut file = match options.open(out) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(exists(out)),
        opened => opened.with_context(|| format!("cannot write {}", out.display()))?,
    };
    file.write_all(text.as_bytes())
        .with_context(|| format!("cannot write {}", out.display()))
}

/// Says what was guessed, and what comes next.
fn summary(args: &Args, sample: &Sample, draft: &Draft, to_stdout: bool) -> String {
    use std::fmt::Write;
    let (file, out) = (args.file.display(), args.out.display());
    let rows = text::plural(sample.rows as u64, "row", "rows");
    let first = if sample.cut && sample.rows == ROWS_MAX {
        "the first "
    } else {
        ""
    };
    let mut said = format!("drafted from {first}{rows} of {file}\n");
    for (heading, guess) in &draft.guesses {
        let _ = writeln!(said, "  {heading:<7} {guess}");
    }
    let contract = if to_stdout {
        "CONTRACT".to_owned()
    } else {
        out.to_string()
    };
    let _ = if draft.has_label {
        writeln!(said, "next: thalweg evaluate {file} --contract {contract}")
    } else {
        writeln!(said, "next: thalweg init {file} --label COLUMN --force")
    };
    said
}
