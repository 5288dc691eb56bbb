//! `thalweg-trainer`: learns from every event that gets a label.

use std::process::ExitCode;

use clap::Parser;

/// Learns online: STREAM.clean and STREAM.labels in, STREAM.model and checkpoints out.
#[derive(Parser)]
#[command(name = "thalweg-trainer", version, after_help = trainer::EXAMPLES)]
struct Cli {
    #[command(flatten)]
    args: trainer::Args,
}

fn main() -> ExitCode {
    trainer::run(&Cli::parse().args)
}
