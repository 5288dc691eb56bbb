//! `thalweg-sink`: lands clean events in a lake of Parquet files.

use std::process::ExitCode;

use clap::Parser;

/// Lands clean events in the lake: `<stream>.clean` in, a Delta table of Parquet files out.
#[derive(Parser)]
#[command(name = "thalweg-sink", version, after_help = sink::EXAMPLES)]
struct Cli {
    #[command(flatten)]
    args: sink::Args,
}

fn main() -> ExitCode {
    sink::run(&Cli::parse().args)
}
