//! Counts what is in a lake, the way any reader would: by Delta's log, then by the files that it names.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::Value;

/// What a lake has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Landed {
    /// Rows in the files that the newest version of the table names.
    pub rows: u64,
    /// Those files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Where the table is, if there is one.
    pub table: Option<PathBuf>,
}

/// Counts the rows of the table in a folder or one below it.
///
/// # Errors
/// A log or file that cannot be read.
pub fn count(lake: &Path) -> Result<Landed> {
    let Some(table) = find_table(lake)? else {
        return Ok(Landed::default());
    };
    let mut landed = Landed {
        table: Some(table.clone()),
        ..Landed::default()
    };
    for name in active_files(&table.join("_delta_log"))? {
        let path = table.join(&name);
        let file = File::open(&path)
            .with_context(|| format!("the lake names {name}, which cannot be opened"))?;
        landed.bytes += file.metadata()?.len();
        let reader =
            SerializedFileReader::new(file).with_context(|| format!("cannot read {name}"))?;
        landed.rows += u64::try_from(reader.metadata().file_metadata().num_rows()).unwrap_or(0);
        landed.files += 1;
    }
    Ok(landed)
}

fn find_table(lake: &Path) -> Result<Option<PathBuf>> {
    if lake.join("_delta_log").is_dir() {
        return Ok(Some(lake.to_owned()));
    }
    for entry in
        std::fs::read_dir(lake).with_context(|| format!("cannot look into {}", lake.display()))?
    {
        let path = entry?.path();
        if path.join("_delta_log").is_dir() {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Returns the files that the newest version consists of.
fn active_files(log: &Path) -> Result<BTreeSet<String>> {
    let mut commits = Vec::new();
    for entry in std::fs::read_dir(log)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "json") {
            commits.push(path);
        }
    }
    commits.sort();
    let mut active = BTreeSet::new();
    for commit in commits {
        let text = std::fs::read_to_string(&commit)
            .with_context(|| format!("cannot read {}", commit.display()))?;
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let action: Value =
                serde_json::from_str(line).with_context(|| format!("in {}", commit.display()))?;
            if let Some(path) = action["add"]["path"].as_str() {
                active.insert(decoded(path));
            }
            if let Some(path) = action["remove"]["path"].as_str() {
                active.remove(&decoded(path));
            }
        }
    }
    Ok(active)
}

/// Undoes the URL encoding of a path in Delta's log.
pub(crate) fn decoded(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes
            .get(at + 1..at + 3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if bytes[at] == b'%' => {
                out.push(byte);
                at += 3;
            }
            _ => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, RecordBatch};
    use parquet::arrow::ArrowWriter;

    use super::*;

    #[test]
    fn the_log_says_which_files_count() {
        let lake = tempfile::tempdir().unwrap();
        assert_eq!(count(lake.path()).unwrap(), Landed::default());
        let table = lake.path().join("flights");
        std::fs::create_dir_all(table.join("_delta_log")).unwrap();
        std::fs::create_dir_all(table.join("d=1 2")).unwrap();
        for (name, rows) in [("d=1 2/a.parquet", 3), ("b.parquet", 4), ("c.parquet", 5)] {
            let column: ArrayRef = Arc::new(Int64Array::from(vec![7; rows]));
            let batch = RecordBatch::try_from_iter([("x", column)]).unwrap();
            let mut writer = ArrowWriter::try_new(
                File::create(table.join(name)).unwrap(),
                batch.schema(),
                None,
            )
            .unwrap();
            writer.write(&batch).unwrap();
            writer.close().unwrap();
        }
        let log = |version: &str, lines: &str| {
            std::fs::write(table.join("_delta_log").join(version), lines).unwrap();
        };
        log(
            "00000000000000000001.json",
            "{\"remove\":{\"path\":\"b.parquet\"}}\n",
        );
        log(
            "00000000000000000000.json",
            "{\"commitInfo\":{}}\n{\"add\":{\"path\":\"d=1%202/a.parquet\"}}\n{\"add\":{\"path\":\"b.parquet\"}}\n",
        );
        let landed = count(lake.path()).unwrap();
        assert_eq!(
            (landed.rows, landed.files, landed.table),
            (3, 1, Some(table))
        );
    }
}
