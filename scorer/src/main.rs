//! `thalweg-scorer`: scores every clean event.

use std::process::ExitCode;

use clap::Parser;

/// Scores every clean event: clean batches and model updates in, scores out
#[derive(Parser)]
#[command(name = "thalweg-scorer", version, after_help = scorer::EXAMPLES)]
struct Cli {
    #[command(flatten)]
    args: scorer::Args,
}

fn main() -> ExitCode {
    scorer::run(&Cli::parse().args)
}
