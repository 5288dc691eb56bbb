//! Reads the lake by Delta's log, as any reader does.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use arrow_array::RecordBatch;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// Returns the folder of the one table in a lake.
///
/// # Errors
/// A lake without one.
pub fn table(lake: &Path) -> Result<PathBuf> {
    let below = std::fs::read_dir(lake)?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut places = std::iter::once(lake.to_owned()).chain(below);
    places
        .find(|place| place.join("_delta_log").is_dir())
        .context("no Delta table in the lake")
}

/// Reads all rows that the newest version of the table has.
///
/// # Errors
/// A log or file that cannot be read.
pub fn read(table: &Path) -> Result<Vec<RecordBatch>> {
    let mut batches = Vec::new();
    for name in files(table)? {
        let file =
            File::open(table.join(&name)).with_context(|| format!("the log names {name}"))?;
        for batch in ParquetRecordBatchReaderBuilder::try_new(file)?.build()? {
            batches.push(batch?);
        }
    }
    Ok(batches)
}

/// Returns the files that the newest version consists of. The names that the sink gives need no decoding.
fn files(table: &Path) -> Result<BTreeSet<String>> {
    let mut commits: Vec<PathBuf> = std::fs::read_dir(table.join("_delta_log"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    commits.retain(|path| path.extension().is_some_and(|end| end == "json"));
    commits.sort();
    let mut files = BTreeSet::new();
    for commit in commits {
        for line in std::fs::read_to_string(&commit)?.lines() {
            let action: serde_json::Value = serde_json::from_str(line)?;
            files.extend(action["add"]["path"].as_str().map(str::to_owned));
            if let Some(gone) = action["remove"]["path"].as_str() {
                files.remove(gone);
            }
        }
    }
    Ok(files)
}
