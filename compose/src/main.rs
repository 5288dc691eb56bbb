//! The `thalweg` binary: everything that Thalweg does on one machine, behind one command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    thalweg::cli::main()
}
