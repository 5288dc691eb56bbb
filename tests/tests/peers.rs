//! Other people's programs read what is ours: kcat, confluent-kafka, DuckDB, Polars, PyArrow.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use schemas::score::Score;
use tests::{Sandbox, lake, log, python, thalweg};

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn peers_read_topics_and_lake() -> Result<()> {
    let sandbox = Sandbox::start()?;
    let producer = sandbox.produce(&[
        "--speed", "max", "--events", "5000", "--dirt", "0.05", "--seed", "3",
    ])?;
    let produced = sandbox.produced(producer)?;
    let brokers = sandbox.brokers.clone();
    let done = || {
        Ok(
            log::count(&brokers, "flights.scores")? + log::count(&brokers, "flights.dead")?
                == produced.raw,
        )
    };
    sandbox.until("every record is scored or dead", done)?;
    let scores = log::count(&brokers, "flights.scores")?;
    let table = sandbox.folder().join("lake");
    let landed = || Ok(rows(&table).unwrap_or(0) == scores);
    sandbox.until("every clean event is in the lake", landed)?;

    let kcat = [
        "-b",
        &brokers,
        "-C",
        "-t",
        "flights.scores",
        "-e",
        "-q",
        "-o",
        "beginning",
    ];
    let lines = run(Command::new("kcat").args(kcat))?;
    ensure!(
        lines.lines().count() as u64 == scores,
        "kcat reads every score"
    );
    let score: Score = serde_json::from_str(lines.lines().next().context("a score")?)?;
    ensure!((0.0..=1.0).contains(&score.score), "{score:?}");

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/read.py");
    let seen = run(Command::new(python()?)
        .arg(script)
        .arg(&brokers)
        .arg(lake::table(&table)?))?;
    let seen: serde_json::Value = serde_json::from_str(&seen)?;
    for counted in ["scores", "duckdb_rows", "polars_rows", "pyarrow_rows"] {
        ensure!(seen[counted] == scores, "{counted} of {scores} in {seen}");
    }
    ensure!(seen["dead"] == produced.raw - scores, "{seen}");
    ensure!(
        seen["duckdb_sealed"] == "BLOB"
            && seen["polars_sealed"] == "Binary"
            && seen["pyarrow_sealed"] == "binary",
        "{seen}"
    );
    ensure!(
        seen["letter"]["reason"].is_string() && seen["letter"]["source-offset"].is_string(),
        "{seen}"
    );

    let tail = [
        "tail",
        "flights.clean",
        "--brokers",
        &brokers,
        "--count",
        "3",
        "--contract",
    ];
    let contract = tests::flights().join("stream.toml");
    let lines = run(Command::new(thalweg()?).args(tail).arg(contract))?;
    let event: serde_json::Value = serde_json::from_str(lines.lines().next().context("an event")?)?;
    ensure!(event["carrier"].is_string(), "{event}");
    sandbox.stop()?;
    Ok(())
}

fn rows(lake: &Path) -> Result<u64> {
    Ok(lake::read(&lake::table(lake)?)?
        .iter()
        .map(|batch| batch.num_rows() as u64)
        .sum())
}
