//! The command line: what each command is called, takes and says about itself.

mod broker;
mod check;
mod compact;
mod demo;
mod evaluate;
mod init;
mod prepare;
mod produce;
mod recompute;
mod replay;
mod tail;
mod up;
mod verify;

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use schemas::{Contract, ContractErrors};
use signal_hook::consts::{SIGINT, SIGTERM};
use worker::{Kafka, Store};

/// Exit code of a command that failed.
const EXIT_FAILED: u8 = 1;
/// Exit code of a command that was given a bad contract or bad options (`EX_USAGE`).
const EXIT_USAGE: u8 = 64;
/// Exit code of a command that a signal ended.
const EXIT_INTERRUPTED: i32 = 130;

const ABOUT: &str = "Raw events in; clean, sealed, landed, learned from and scored events out.";

const TOUR: &str = "\
Start here:
  thalweg demo                         a year of real flights through everything, on this machine
  thalweg init events.parquet          drafts a contract from your own data
  thalweg check stream.toml            what is wrong with a contract, all at once
  thalweg evaluate events.parquet --contract stream.toml
                                       how well the label can be predicted, without Kafka
  thalweg up --contract stream.toml    the four workers, on an embedded broker or on your Kafka
  thalweg produce events.parquet --contract stream.toml
  thalweg tail flights.scores --follow
  thalweg verify --contract stream.toml --lake thalweg-data/lake
                                       that nothing was lost or doubled, from topics and lake
  thalweg recompute --contract stream.toml
                                       every score once more from its receipt, compared bit for bit
  thalweg replay --contract stream.toml
                                       every model version once more from the log, compared bit for bit
  thalweg compact --contract stream.toml --lake thalweg-data/lake
                                       small files of the lake put together, expired ones deleted

`thalweg COMMAND --help` shows options and examples of each.";

#[derive(Parser)]
#[command(name = "thalweg", version, about = ABOUT, after_help = TOUR, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Play a year of real flights through everything, on this machine
    Demo(demo::Args),
    /// Draft a contract from a file of your own data
    Init(init::Args),
    /// Run the four workers, on an embedded broker or on any Kafka
    Up(up::Args),
    /// Play a file of events as a stream onto Kafka
    Produce(produce::Args),
    /// Worker: clean raw events and seal personal data
    #[command(after_help = ingest::EXAMPLES)]
    Ingest(ingest::Args),
    /// Worker: land clean events in the lake
    #[command(after_help = sink::EXAMPLES)]
    Sink(sink::Args),
    /// Worker: learn from every label
    #[command(after_help = trainer::EXAMPLES)]
    Trainer(trainer::Args),
    /// Worker: score every clean event
    #[command(after_help = scorer::EXAMPLES)]
    Scorer(scorer::Args),
    /// Say how well a file can be predicted: predict each event, then learn its label, without Kafka
    Evaluate(evaluate::Args),
    /// Print any topic of ours as JSON lines
    Tail(tail::Args),
    /// Prove offline that nothing was lost or doubled
    Verify(verify::Args),
    /// Compute scores anew from their receipts and compare them bit for bit
    Recompute(recompute::Args),
    /// Make model versions anew from the log and compare them bit for bit
    Replay(replay::Args),
    /// Put small files of the lake together, and delete expired ones
    Compact(compact::Args),
    /// Say what is wrong with a contract, or sum it up
    Check(check::Args),
    /// Make the topics and the key that workers need
    Prepare(prepare::Args),
    /// Run the embedded broker
    Broker(broker::Args),
}

/// Runs the command line; returns the exit code: 0 done, 1 failed, 64 bad contract or options.
pub fn main() -> ExitCode {
    if let Err(error) = crate::supervise::die_with_parent() {
        eprintln!("error: {error:#}");
        return ExitCode::from(EXIT_FAILED);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A closed terminal leaves nobody to tell.
            let _ = error.print();
            let usage = error.use_stderr()
                && error.kind() != clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
            return if usage {
                ExitCode::from(EXIT_USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let done = match cli.command {
        Command::Demo(args) => demo::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Up(args) => up::run(&args),
        Command::Produce(args) => produce::run(&args),
        Command::Ingest(args) => Ok(ingest::run(&args)),
        Command::Sink(args) => Ok(sink::run(&args)),
        Command::Trainer(args) => Ok(trainer::run(&args)),
        Command::Scorer(args) => Ok(scorer::run(&args)),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Tail(args) => tail::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Recompute(args) => recompute::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Compact(args) => compact::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Prepare(args) => prepare::run(&args),
        Command::Broker(args) => broker::run(&args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        let usage = error.downcast_ref::<ContractErrors>().is_some()
            || error.downcast_ref::<Usage>().is_some();
        ExitCode::from(if usage { EXIT_USAGE } else { EXIT_FAILED })
    })
}

/// Options that do not fit together or do not fit the contract.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// Reads a contract.
fn contract(file: &Path) -> Result<Arc<Contract>, ContractErrors> {
    Contract::read(file).map(Arc::new)
}

/// Returns a flag that the first SIGINT or SIGTERM sets; the second ends the process.
fn stop_flag() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, EXIT_INTERRUPTED, stop.clone())
            .and_then(|_| signal_hook::flag::register(signal, stop.clone()))
            .context("cannot listen for signals")?;
    }
    Ok(stop)
}

/// Where Kafka is: options of every command that talks to it.
#[derive(Clone, Debug, clap::Args)]
struct KafkaArgs {
    /// Kafka brokers to start from, comma separated
    #[arg(
        long,
        env = "THALWEG_BROKERS",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:9092"
    )]
    brokers: String,

    /// Any property of librdkafka, such as `security.protocol=ssl`; may be repeated
    #[arg(
        long = "kafka",
        env = "THALWEG_KAFKA",
        value_name = "NAME=VALUE",
        value_delimiter = ';'
    )]
    kafka: Vec<String>,
}

impl KafkaArgs {
    fn properties(&self) -> Result<Vec<(String, String)>> {
        let pair = |text: &String| match text.split_once('=') {
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => bail!(Usage(format!("--kafka {text}: write NAME=VALUE"))),
        };
        self.kafka.iter().map(pair).collect()
    }

    /// Prepares to talk to Kafka as workers do.
    fn connect(&self) -> Result<Kafka> {
        Kafka::connect(&self.brokers, &self.kafka).map_err(|error| Usage(error.to_string()).into())
    }
}

/// Opens a place of checkpoints to read from; a folder must be there.
fn checkpoints(place: Option<&str>) -> Result<Option<Store>> {
    let Some(place) = place else {
        return Ok(None);
    };
    // Opening would make it, and whoever only looks makes nothing.
    if Store::is_missing(place) {
        bail!(Usage(format!(
            "--checkpoints {place}: there is no such folder"
        )));
    }
    let store = Store::open(place).map_err(|error| Usage(error.to_string()))?;
    Ok(Some(store))
}

/// Runs what is asynchronous to its end.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let done = runtime.block_on(work);
    // A request that is still open holds nothing up.
    runtime.shutdown_background();
    done
}

/// Makes a bar, which shows on a terminal alone; its message says what is being read.
fn bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let shape = "{msg:9}  {bar:40.cyan/dim} {human_pos} of {human_len} messages  {per_sec}";
    let style =
        ProgressStyle::with_template(shape).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
