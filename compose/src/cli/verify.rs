//! `thalweg verify`: proves from topics and lake that nothing was lost or doubled.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use worker::Store;

use super::{EXIT_FAILED, KafkaArgs, Usage};
use crate::verify::{Plan, Progress, Step, verify, watch};

const EXAMPLES: &str = "\
It reads all of raw, dead, clean, scores and model, the lake and its commits, and writes nothing. For each promise it
says what was looked at and the first offset that breaks it:
  conservation  every raw record is in exactly one of clean and dead
  coverage      what clean batches claim to cover is contiguous
  lake          the lake has every clean row once, and no other
  commits       the lake's files and rows are what its commits claim
  scores        every clean event is scored, and nothing else
  model         each update of the model continues the one before
  checkpoints   checkpoints have their checksums, and are of the published model

Repeats that say the same, as workers write after a crash, are harmless. Pending is what is still to come; expired is
what retention, or a change of contract, has left nothing to hold against. A live stream may be verified.

With --every it audits again and again, whole, until it is told to stop, and serves what it finds as metrics:
thalweg_audit_broken_promises must be 0. What was broken once stays so, also in the exit code.

Exit code: 0 all promises hold, 1 one is broken or something cannot be read, 64 bad contract or options.

Examples:
  thalweg verify --contract stream.toml --lake thalweg-data/lake
  thalweg verify --contract stream.toml --brokers kafka:9092 --lake /data/lake --checkpoints /data/checkpoints
  AWS_REGION=eu-central-1 thalweg verify --contract stream.toml --lake s3://bucket/lake
  thalweg verify --contract stream.toml --no-lake --complete && echo all there
  thalweg verify --contract stream.toml --no-lake --json | jq .promises.conservation.first
  thalweg verify --contract stream.toml --lake /data/lake --every 10m --http 0.0.0.0:9475";

/// Options of `thalweg verify`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Contract of the stream
    #[arg(long, env = "THALWEG_CONTRACT", value_name = "FILE")]
    contract: PathBuf,

    #[command(flatten)]
    kafka: KafkaArgs,

    /// Folder, or URL of an object store (s3://, gs://, az://), that holds the tables
    #[arg(long, env = "THALWEG_LAKE", value_name = "DIR|URL")]
    lake: Option<String>,

    /// Leave the lake out
    #[arg(long)]
    no_lake: bool,

    /// Folder or URL where the trainer stores its checkpoints; without it, they are left out
    #[arg(long, env = "THALWEG_CHECKPOINTS", value_name = "DIR|URL")]
    checkpoints: Option<String>,

    /// Take what is still to come for lost: every event should have come through by now
    #[arg(long)]
    complete: bool,

    /// Print one JSON object on stdout
    #[arg(long)]
    json: bool,

    /// Audit again and again, with this rest between two audits
    #[arg(
        long,
        env = "THALWEG_VERIFY_EVERY",
        value_name = "DURATION",
        conflicts_with = "json"
    )]
    every: Option<String>,

    #[command(flatten)]
    served: Served,
}

/// Where the continuous audit says what it finds.
#[derive(Clone, Debug, clap::Args)]
struct Served {
    /// With --every: where /livez, /readyz and /metrics are served; port 0 takes a free one
    #[arg(
        long,
        env = "THALWEG_HTTP",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:0"
    )]
    http: SocketAddr,

    /// With --every: file that gets the address of the pages once they are served
    #[arg(long, env = "THALWEG_HTTP_FILE", value_name = "FILE")]
    http_file: Option<PathBuf>,

    /// With --every: OTLP endpoint (gRPC) for metrics, traces and logs, such as http://127.0.0.1:4317
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    otlp: Option<String>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let plan = plan(args)?;
    if let Some(every) = &args.every {
        return again_and_again(args, plan, every);
    }
    let bar = bar();
    let report = verify(
        &plan,
        Progress(&|step| match step {
            Step::Total(total) => bar.set_length(total),
            Step::Done(count) => bar.inc(count),
        }),
    )?;
    let (read, elapsed) = (bar.position(), bar.elapsed());
    bar.finish_and_clear();
    if args.json {
        println!("{}", report.json());
    } else {
        print!("{}", report.table());
        let rate = read as f64 / elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        eprintln!("read {read} messages and rows in {elapsed:.1?}, {rate:.0} a second");
    }
    Ok(match report.holds() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(EXIT_FAILED),
    })
}

/// Audits as a process among the workers: with pages, telemetry, and an end by signal.
fn again_and_again(args: &Args, plan: Plan, every: &str) -> Result<ExitCode> {
    let every = every_of(every)?;
    let worker = worker::Args {
        contract: args.contract.clone(),
        brokers: args.kafka.brokers.clone(),
        kafka: args.kafka.kafka.clone(),
        http: args.served.http,
        http_file: args.served.http_file.clone(),
        otlp: args.served.otlp.clone(),
    };
    Ok(worker::process(
        "thalweg-verify",
        &worker,
        |context| async move { watch(plan, every, &context).await },
    ))
}

fn every_of(text: &str) -> Result<Duration> {
    match schemas::parse_duration(text) {
        Some(every) => Ok(every),
        None => bail!(Usage(format!(
            "--every {text}: write a duration such as 60s, 10m or 1h"
        ))),
    }
}

fn plan(args: &Args) -> Result<Plan> {
    let lake = match (&args.lake, args.no_lake) {
        (_, true) => None,
        (Some(lake), false) => Some(place("--lake", lake)?),
        (None, false) => bail!(Usage(
            "name the lake with --lake DIR or URL, or leave it out with --no-lake".to_owned()
        )),
    };
    let checkpoints = args.checkpoints.as_deref();
    let checkpoints = checkpoints.map(|named| place("--checkpoints", named));
    let checkpoints = checkpoints.transpose()?;
    Ok(Plan {
        contract: super::contract(&args.contract)?,
        brokers: args.kafka.brokers.clone(),
        kafka: args.kafka.properties()?,
        lake,
        checkpoints,
        complete: args.complete,
    })
}

/// Refuses a folder that is not there, which would be made otherwise.
fn place(option: &str, named: &str) -> Result<String> {
    if Store::is_missing(named) {
        bail!(Usage(format!("{option} {named}: there is no such folder")));
    }
    Ok(named.to_owned())
}

/// Makes a bar, which shows on a terminal alone.
fn bar() -> ProgressBar {
    let target = match std::io::stderr().is_terminal() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let shape =
        "{bar:40.cyan/dim} {human_pos} of {human_len} messages and rows  {per_sec}  {eta} left";
    let style =
        ProgressStyle::with_template(shape).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(None, target).with_style(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(lake: Option<&str>, no_lake: bool) -> Args {
        Args {
            contract: concat!(env!("CARGO_MANIFEST_DIR"), "/streams/flights/stream.toml").into(),
            kafka: KafkaArgs {
                brokers: "localhost:9092".to_owned(),
                kafka: Vec::new(),
            },
            lake: lake.map(str::to_owned),
            no_lake,
            checkpoints: None,
            complete: false,
            json: false,
            every: None,
            served: Served {
                http: ([127, 0, 0, 1], 0).into(),
                http_file: None,
                otlp: None,
            },
        }
    }

    #[test]
    fn a_rest_between_audits_has_a_unit() {
        assert_eq!(every_of("60s").unwrap(), Duration::from_secs(60));
        let error = every_of("60").unwrap_err();
        assert!(error.downcast_ref::<Usage>().is_some(), "{error}");
    }

    #[test]
    fn a_lake_is_there_or_left_out_in_so_many_words() {
        let refused = |lake, right: &str| {
            let error = plan(&args(lake, false)).unwrap_err();
            assert!(error.downcast_ref::<Usage>().is_some());
            assert!(error.to_string().contains(right), "{error}");
        };
        refused(None, "--no-lake");
        refused(Some("/no/such/lake"), "no such folder");
        assert!(plan(&args(None, true)).unwrap().lake.is_none());
        for place in ["/", "s3://bucket/lake"] {
            let here = plan(&args(Some(place), false)).unwrap();
            assert_eq!(here.lake.as_deref(), Some(place));
        }
    }
}
