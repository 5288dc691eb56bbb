//! `thalweg compact`: puts small files of the lake together, and deletes expired ones.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use schemas::contract::{Contract, Lake};
use schemas::{Columns, parse_duration};
use serde_json::json;
use sink::keeper::PACK_BYTES_MAX;
use sink::pack::{Limits, Pack};
use sink::{Keeper, Signals};
use telemetry::Instruments;
use worker::Store;

use super::{EXIT_FAILED, Usage};
use crate::text;

const EXAMPLES: &str = "\
The sink does this by itself, a little at a time, and waits until enough files are of about one size; this takes all that
are small, now, whether workers run or not. All files of a day below `lake.small_file_bytes` become one (or some, of 64 MiB
at most), in a commit that changes no row. What no version needs any more is deleted after `lake.vacuum_after`. It may be
ended at any time: a file without its commit, or half of one, belongs to nothing, and goes later.

Exit code: 0 done, 1 something could not be read or written, 64 bad contract or options.

Examples:
  thalweg compact --contract stream.toml --lake thalweg-data/lake
  thalweg compact --contract stream.toml --lake s3://bucket/lake --dry-run
  thalweg compact --contract stream.toml --lake /data/lake --vacuum-after 30d --json";

/// Options of `thalweg compact`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Contract of the stream
    #[arg(long, env = "THALWEG_CONTRACT", value_name = "FILE")]
    contract: PathBuf,

    /// Folder, or URL of an object store (s3://, gs://, az://), that holds the tables
    #[arg(long, env = "THALWEG_LAKE", value_name = "URL|DIR")]
    lake: String,

    /// Delete what no version has needed for so long, from 1h on [default: the contract's `lake.vacuum_after`]
    #[arg(long, value_name = "DURATION")]
    vacuum_after: Option<String>,

    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,

    /// Print one JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// What was done, or would be.
#[derive(Debug, Default)]
struct Done {
    /// Files that became others.
    files: usize,
    /// What they became.
    into: usize,
    rows: usize,
    bytes_before: u64,
    bytes: u64,
    /// Packs of which somebody else has changed a file meanwhile.
    outrun: usize,
    /// Files that were deleted.
    vacuumed: usize,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let contract = super::contract(&args.contract)?;
    let after = vacuum_after(args, &contract)?;
    if Store::is_missing(&args.lake) {
        let lake = &args.lake;
        bail!(Usage(format!("--lake {lake}: there is no such folder")));
    }
    let log = sink::lake::open(&args.lake, &contract.stream.name)
        .map_err(|error| Usage(error.to_string()))?;
    let limits = Limits {
        small_file_bytes: contract.lake.small_file_bytes,
        compact_after: 2,
        alike: false,
        pack_bytes_max: PACK_BYTES_MAX,
    };
    let signals = Signals::new(&Instruments::nowhere());
    let mut keeper = Keeper::new(log, &Columns::of(&contract), limits, signals);
    let (bar, started) = (bar(), Instant::now());
    let work = async { keep(&mut keeper, after, args.dry_run, &bar).await };
    let (done, failed) = super::block_on(work)?;
    bar.finish_and_clear();
    match args.json {
        true => println!("{}", json(&done, args.dry_run, started.elapsed())),
        false => print!("{}", summary(&done, args.dry_run, started.elapsed())),
    }
    Ok(match failed {
        false => ExitCode::SUCCESS,
        true => ExitCode::from(EXIT_FAILED),
    })
}

/// Puts together and deletes; says also whether something could not be done.
async fn keep(
    keeper: &mut Keeper,
    after: Duration,
    dry_run: bool,
    bar: &ProgressBar,
) -> Result<(Done, bool)> {
    let (mut done, mut failed) = (Done::default(), false);
    let packs = keeper.plan().await?;
    bar.set_length(packs.iter().map(Pack::bytes).sum());
    for pack in packs {
        if dry_run {
            done.files += pack.files.len();
            done.into += 1;
            done.bytes_before += pack.bytes();
            continue;
        }
        match keeper.compact(&pack, &mut |bytes| bar.inc(bytes)).await {
            Ok(None) => done.outrun += 1,
            Ok(Some(compacted)) => {
                done.files += compacted.files;
                done.into += 1;
                done.rows += compacted.rows;
                done.bytes_before += compacted.bytes_before;
                done.bytes += compacted.bytes;
            }
            // The other days do not suffer from it.
            Err(error) => {
                failed = true;
                let day = &pack.day;
                bar.suspend(|| eprintln!("error: {day}: {:#}", anyhow::Error::from(error)));
            }
        }
    }
    done.vacuumed = keeper.vacuum(after, dry_run).await?.len();
    Ok((done, failed))
}

fn vacuum_after(args: &Args, contract: &Contract) -> Result<Duration> {
    let Some(text) = &args.vacuum_after else {
        return Ok(contract.lake.vacuum_after);
    };
    match parse_duration(text).filter(|after| Lake::VACUUM_AFTER_MIN <= *after) {
        Some(after) => Ok(after),
        None => bail!(Usage(format!(
            "--vacuum-after {text}: write a duration from 1h on, such as 48h or 7d"
        ))),
    }
}

fn json(done: &Done, dry_run: bool, took: Duration) -> serde_json::Value {
    json!({
        "dry_run": dry_run,
        "files": done.files,
        "into": done.into,
        "rows": done.rows,
        "bytes_before": done.bytes_before,
        "bytes": done.bytes,
        "outrun": done.outrun,
        "vacuumed": done.vacuumed,
        "seconds": took.as_secs_f64(),
    })
}

/// Says what was done, for people.
fn summary(done: &Done, dry_run: bool, took: Duration) -> String {
    use std::fmt::Write;
    let (files, into) = (done.files as u64, done.into as u64);
    let small = text::plural(files, "small file", "small files");
    let before = text::bytes(done.bytes_before);
    let expired = text::plural(done.vacuumed as u64, "expired file", "expired files");
    let mut said = match dry_run {
        true => format!(
            "would put {small} ({before}) together as {}, and delete {expired}\n",
            text::count(into)
        ),
        false => format!(
            "put {small} ({before}) together as {} ({}), {} rows, and deleted {expired}, in {:.1} s\n",
            text::count(into),
            text::bytes(done.bytes),
            text::count(done.rows as u64),
            took.as_secs_f64(),
        ),
    };
    if 0 < done.outrun {
        let days = text::plural(done.outrun as u64, "time", "times");
        let _ = writeln!(
            said,
            "somebody else was faster {days}: run it again for what is left"
        );
    }
    said
}

/// Makes a bar, which shows on a terminal alone.
fn bar() -> ProgressBar {
    use std::io::IsTerminal;
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let shape = "{bar:40.cyan/dim} {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left";
    let style =
        ProgressStyle::with_template(shape).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(vacuum_after: Option<&str>) -> Args {
        Args {
            contract: concat!(env!("CARGO_MANIFEST_DIR"), "/streams/flights/stream.toml").into(),
            lake: "/no/such/lake".to_owned(),
            vacuum_after: vacuum_after.map(str::to_owned),
            dry_run: true,
            json: false,
        }
    }

    #[test]
    fn readers_of_the_version_before_have_an_hour_at_least() {
        let contract = super::super::contract(&args(None).contract).unwrap();
        let after = |text| vacuum_after(&args(text), &contract);
        assert_eq!(after(None).unwrap(), contract.lake.vacuum_after);
        assert_eq!(after(Some("2d")).unwrap(), Duration::from_secs(172_800));
        for bad in ["59m", "0h", "soon"] {
            let error = after(Some(bad)).unwrap_err();
            assert!(error.downcast_ref::<Usage>().is_some(), "{error}");
        }
        let error = run(&args(None)).unwrap_err();
        assert!(error.to_string().contains("no such folder"), "{error}");
    }

    #[test]
    fn what_was_done_is_said_in_one_line() {
        let done = Done {
            files: 1200,
            into: 365,
            rows: 336_776,
            bytes_before: 30 << 20,
            bytes: 25 << 20,
            outrun: 0,
            vacuumed: 1,
        };
        assert_eq!(
            summary(&done, false, Duration::from_secs(2)),
            "put 1,200 small files (30.0 MiB) together as 365 (25.0 MiB), 336,776 rows, and deleted 1 expired file, \
             in 2.0 s\n"
        );
        let outrun = Done { outrun: 2, ..done };
        let said = summary(&outrun, true, Duration::ZERO);
        assert!(
            said.contains("would put") && said.contains("faster 2 times"),
            "{said}"
        );
    }
}
