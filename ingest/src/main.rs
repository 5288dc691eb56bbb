//! `thalweg-ingest`: cleans raw events and seals personal data.

use std::process::ExitCode;

use clap::Parser;

/// Cleans raw events and seals personal data: raw events in, clean batches and dead letters out
#[derive(Parser)]
#[command(name = "thalweg-ingest", version, after_help = ingest::EXAMPLES)]
struct Cli {
    #[command(flatten)]
    args: ingest::Args,
}

fn main() -> ExitCode {
    ingest::run(&Cli::parse().args)
}
