//! What to do after a run: commands that work as they stand.

use std::path::Path;

use super::outcome::Outcome;

/// A command and what it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it does.
    pub what: &'static str,
    /// The command.
    pub command: String,
}

/// Returns the commands that go on from a run.
pub fn steps(outcome: &Outcome, stream: &str) -> Vec<Step> {
    let folder = outcome.folder.display();
    let table = outcome
        .landed
        .table
        .as_deref()
        .unwrap_or(Path::new("lake"))
        .display();
    let step = |what, command| Step { what, command };
    vec![
        step(
            "query the lake with DuckDB (pip install duckdb deltalake pyarrow)",
            format!(
                "python3 -c \"import duckdb, deltalake; flights = deltalake.DeltaTable('{table}').to_pyarrow_dataset(); \
                 print(duckdb.sql('select carrier, count(*) as flights, round(avg(distance)) as miles from flights \
                 group by all order by flights desc limit 5'))\""
            ),
        ),
        step(
            "query the lake with Polars (pip install polars deltalake)",
            format!(
                "python3 -c \"import polars as pl; print(pl.scan_delta('{table}')\
                 .group_by('origin').agg(pl.len(), pl.col('temperature').mean()).collect())\""
            ),
        ),
        step(
            "start the stream's workers again, where they stopped",
            format!("thalweg up --contract {folder}/stream.toml --data {folder}"),
        ),
        step(
            "see scores (while it is up)",
            format!("thalweg tail {stream}.scores --count 3"),
        ),
        step(
            "see what was refused, and why",
            format!("thalweg tail {stream}.dead --count 3"),
        ),
        step(
            "see clean events: what is sealed stays sealed",
            format!("thalweg tail {stream}.clean --contract {folder}/stream.toml --count 3"),
        ),
    ]
}
