//! Delta's log, read as any reader does: commits and, where they are gone, the checkpoint before them go in; the
//! files of the newest version and what the sink's commits claim come out.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, bail};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, RecordBatch, StructArray};
use arrow_schema::DataType;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use super::files::Files;
use crate::demo::lake::decoded;

/// Digits of a version in the names of the log's files.
const VERSION_DIGITS: usize = 20;

/// What the log says of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Added {
    /// Bytes.
    pub(super) bytes: Option<u64>,
    /// Rows.
    pub(super) rows: Option<u64>,
}

/// A claim that a later commit takes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setback {
    pub(super) application: String,
    pub(super) claim: i64,
    pub(super) version: u64,
}

/// The newest version of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Log {
    /// Files, by name.
    pub(super) files: BTreeMap<String, Added>,
    /// The last version that each application has committed; of the sink, the last raw offset that has landed.
    pub(super) claims: HashMap<String, i64>,
    /// Claims that went back.
    pub(super) setbacks: Vec<Setback>,
    /// What is wrong with commits that say they only write rows anew.
    pub(super) misfits: Vec<String>,
}

/// Rows that a commit writes anew, of files that it takes out and puts in; `None` once a file does not say.
#[derive(Clone, Copy, Debug)]
struct Anew {
    out: Option<u64>,
    into: Option<u64>,
}

impl Anew {
    fn takes(&mut self, file: Added) {
        self.out = self.out.zip(file.rows).map(|(sum, rows)| sum + rows);
    }

    fn puts(&mut self, file: Added) {
        self.into = self.into.zip(file.rows).map(|(sum, rows)| sum + rows);
    }
}

impl Log {
    /// Reads the log of a table.
    ///
    /// # Errors
    /// A log that cannot be read, has holes, or says what only newer readers understand.
    pub(super) fn read(table: &Files) -> Result<Log> {
        let folder = table.below("_delta_log");
        let (mut commits, mut parts) = (BTreeMap::new(), BTreeMap::<u64, Vec<String>>::new());
        for name in folder.names()? {
            match version(&name) {
                Some((version, "json")) => {
                    commits.insert(version, name);
                }
                Some((version, rest))
                    if rest.starts_with("checkpoint.") && rest.ends_with("parquet") =>
                {
                    parts.entry(version).or_default().push(name);
                }
                _ => {}
            }
        }
        let mut log = Log::default();
        let mut next = 0;
        if !commits.contains_key(&0) {
            let version = last_checkpoint(&folder)?;
            let parts = parts.get(&version);
            for part in parts.with_context(|| format!("the log has no checkpoint {version}"))? {
                log.checkpoint(folder.read(part)?)
                    .with_context(|| format!("cannot read {folder}/{part}"))?;
            }
            next = version + 1;
        }
        let mut names = Vec::new();
        for (found, name) in commits.range(next..) {
            let expected = next + names.len() as u64;
            if *found != expected {
                bail!("commit {expected} is missing from {folder}");
            }
            names.push(name.clone());
        }
        folder.read_each(&names, |name, lines| {
            log.commit(next, &lines)
                .with_context(|| format!("cannot read {folder}/{name}"))?;
            next += 1;
            Ok(())
        })?;
        Ok(log)
    }

    fn commit(&mut self, version: u64, lines: &[u8]) -> Result<()> {
        let text = std::str::from_utf8(lines)?;
        let mut anew = Anew {
            out: Some(0),
            into: Some(0),
        };
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let action: Value = serde_json::from_str(line)?;
            let (add, txn) = (&action["add"], &action["txn"]);
            let remove = &action["remove"];
            if let Some(path) = remove["path"].as_str() {
                let gone = self.files.remove(&decoded(path));
                match gone {
                    _ if remove["dataChange"] != false => {}
                    Some(file) => anew.takes(file),
                    None => self.misfits.push(format!(
                        "commit {version} writes rows of {path} anew, which the table does not have"
                    )),
                }
            }
            if let Some(path) = add["path"].as_str() {
                refuse_vector(!add["deletionVector"].is_null())?;
                let before = self.add(path, add["size"].as_i64(), add["stats"].as_str());
                if add["dataChange"] == false {
                    before.into_iter().for_each(|before| anew.takes(before));
                    anew.puts(self.files[&decoded(path)]);
                }
            }
            if let (Some(application), Some(claim)) =
                (txn["appId"].as_str(), txn["version"].as_i64())
            {
                let before = self.claims.insert(application.to_owned(), claim);
                if before.is_some_and(|before| claim < before) {
                    let application = application.to_owned();
                    self.setbacks.push(Setback {
                        application,
                        claim,
                        version,
                    });
                }
            }
        }
        if let (Some(out), Some(into)) = (anew.out, anew.into)
            && out != into
        {
            self.misfits.push(format!(
                "commit {version} says that it changes nothing, and writes {out} rows anew as {into}"
            ));
        }
        Ok(())
    }

    fn checkpoint(&mut self, file: Bytes) -> Result<()> {
        for batch in ParquetRecordBatchReaderBuilder::try_new(file)?.build()? {
            let batch = batch?;
            if let Some(sidecars) = batch.column_by_name("sidecar")
                && sidecars.null_count() < sidecars.len()
            {
                bail!("checkpoints with sidecar files are not read");
            }
            self.checkpoint_claims(&batch)?;
            self.checkpoint_files(&batch)?;
        }
        Ok(())
    }

    fn checkpoint_claims(&mut self, batch: &RecordBatch) -> Result<()> {
        let Some(transactions) = structure(batch, "txn") else {
            return Ok(());
        };
        let applications = part(transactions, "appId", &DataType::Utf8)?;
        let versions = part(transactions, "version", &DataType::Int64)?;
        let (Some(applications), Some(versions)) = (applications, versions) else {
            bail!("`txn` has no `appId` or no `version`");
        };
        let (applications, versions) = (
            applications.as_string::<i32>(),
            versions.as_primitive::<Int64Type>(),
        );
        for row in present(transactions, applications) {
            let application = applications.value(row).to_owned();
            self.claims.insert(application, versions.value(row));
        }
        Ok(())
    }

    fn checkpoint_files(&mut self, batch: &RecordBatch) -> Result<()> {
        let Some(files) = structure(batch, "add") else {
            return Ok(());
        };
        let Some(paths) = part(files, "path", &DataType::Utf8)? else {
            bail!("`add` has no `path`");
        };
        let sizes = part(files, "size", &DataType::Int64)?;
        let stats = part(files, "stats", &DataType::Utf8)?;
        let paths = paths.as_string::<i32>();
        for row in present(files, paths) {
            let vector = files.column_by_name("deletionVector");
            refuse_vector(vector.is_some_and(|vector| vector.is_valid(row)))?;
            let size = sizes.as_ref().filter(|sizes| sizes.is_valid(row));
            let stats = stats.as_ref().filter(|stats| stats.is_valid(row));
            self.add(
                paths.value(row),
                size.map(|sizes| sizes.as_primitive::<Int64Type>().value(row)),
                stats.map(|stats| stats.as_string::<i32>().value(row)),
            );
        }
        Ok(())
    }

    /// Puts a file in; returns what was known of it before.
    fn add(&mut self, path: &str, size: Option<i64>, stats: Option<&str>) -> Option<Added> {
        let stats = stats.and_then(|stats| serde_json::from_str::<Value>(stats).ok());
        let added = Added {
            bytes: size.and_then(|size| u64::try_from(size).ok()),
            rows: stats.and_then(|stats| stats["numRecords"].as_u64()),
        };
        self.files.insert(decoded(path), added)
    }
}

/// Splits the name of a file of the log into version and the rest.
fn version(name: &str) -> Option<(u64, &str)> {
    let (digits, rest) = name.split_once('.')?;
    let right = digits.len() == VERSION_DIGITS;
    Some((digits.parse().ok().filter(|_| right)?, rest))
}

/// Returns the version of the last checkpoint that is whole.
fn last_checkpoint(folder: &Files) -> Result<u64> {
    const HINT: &str = "_last_checkpoint";
    let text = folder
        .read(HINT)
        .with_context(|| format!("the log has neither commit 0 nor {folder}/{HINT}"))?;
    let hint: Value = serde_json::from_slice(&text)?;
    hint["version"]
        .as_u64()
        .with_context(|| format!("{folder}/{HINT} names no version"))
}

fn refuse_vector(there: bool) -> Result<()> {
    if there {
        bail!("rows were deleted with deletion vectors, which are not read");
    }
    Ok(())
}

fn structure<'a>(batch: &'a RecordBatch, name: &str) -> Option<&'a StructArray> {
    batch.column_by_name(name)?.as_struct_opt()
}

/// Returns a part of a structure as a type.
fn part(of: &StructArray, name: &str, kind: &DataType) -> Result<Option<ArrayRef>> {
    let column = of.column_by_name(name);
    Ok(column
        .map(|column| arrow_cast::cast(column, kind))
        .transpose()?)
}

/// Returns the rows that have a structure, and this part of it.
fn present<'a>(of: &'a StructArray, part: &'a dyn Array) -> impl Iterator<Item = usize> + 'a {
    (0..of.len()).filter(move |row| of.is_valid(*row) && part.is_valid(*row))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(table: &tempfile::TempDir) -> Result<Log> {
        Log::read(&Files::open(&table.path().display().to_string())?)
    }

    #[test]
    fn the_log_says_which_files_count_and_what_is_claimed() {
        let table = tempfile::tempdir().unwrap();
        let folder = table.path().join("_delta_log");
        std::fs::create_dir(&folder).unwrap();
        let commit = |version: u64, lines: &str| {
            std::fs::write(folder.join(format!("{version:020}.json")), lines).unwrap();
        };
        commit(
            0,
            "{\"add\":{\"path\":\"d=1%202/a\",\"size\":9,\"stats\":\"{\\\"numRecords\\\":4}\"}}\n{\"txn\":{\"appId\":\"x\",\"version\":7}}\n",
        );
        commit(
            1,
            "{\"add\":{\"path\":\"b\"}}\n{\"remove\":{\"path\":\"d=1%202/a\"}}\n{\"txn\":{\"appId\":\"x\",\"version\":5}}\n",
        );
        let log = read(&table).unwrap();
        assert_eq!(
            log.files,
            BTreeMap::from([("b".to_owned(), Added::default())])
        );
        assert_eq!(log.claims, HashMap::from([("x".to_owned(), 5)]));
        assert_eq!(log.setbacks.len(), 1);
        commit(3, "{}");
        let error = read(&table).unwrap_err();
        assert!(error.to_string().contains("commit 2 is missing"));
        std::fs::remove_file(folder.join(format!("{:020}.json", 0))).unwrap();
        let error = read(&table).unwrap_err();
        assert!(error.to_string().contains("neither commit 0"));
    }

    /// Reads a log of a file `a` of 4 rows and one `b` of 3, and a commit that writes them anew.
    fn check(anew: &str, misfit: Option<&str>) {
        let table = tempfile::tempdir().unwrap();
        let folder = table.path().join("_delta_log");
        std::fs::create_dir(&folder).unwrap();
        let add = |path: &str, rows: u64| {
            format!(
                "{{\"add\":{{\"path\":\"{path}\",\"dataChange\":false,\"stats\":\"{{\\\"numRecords\\\":{rows}}}\"}}}}\n"
            )
        };
        let landed = add("a", 4) + &add("b", 3);
        let commits = [
            landed.replace("false", "true"),
            anew.replace("ADD7\n", &add("c", 7)),
        ];
        for (version, lines) in commits.iter().enumerate() {
            std::fs::write(folder.join(format!("{version:020}.json")), lines).unwrap();
        }
        let log = read(&table).unwrap();
        match misfit {
            None => assert_eq!(log.misfits, Vec::<String>::new()),
            Some(expected) => assert!(log.misfits[0].contains(expected), "{:?}", log.misfits),
        }
    }

    #[test]
    fn files_that_are_put_together_keep_their_rows() {
        let gone = |path: &str, change: bool| {
            format!("{{\"remove\":{{\"path\":\"{path}\",\"dataChange\":{change}}}}}\n")
        };
        let both = gone("a", false) + &gone("b", false);
        check(&(both.clone() + "ADD7\n"), None);
        check(&(gone("a", false) + "ADD7\n"), Some("4 rows anew as 7"));
        check(
            &(both + &gone("z", false) + "ADD7\n"),
            Some("rows of z anew"),
        );
        // Who deletes rows says so; the lake then lacks them.
        check(&gone("a", true), None);
    }
}
