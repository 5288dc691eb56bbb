//! The lake: files of the newest version go in, the source coordinates of their rows come out. Reads three columns.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::DataType;
use schemas::{Partition, TopicId, system};
use sink::Source;
use sink::encode::{SOURCE_PARTITION, SOURCE_TOPIC_ID};

use super::Progress;
use super::accounts::Account;
use super::delta::{Added, Log};
use super::files::{Files, is_missing};
use super::ledger::{Ledger, Promise};

/// A table as it is when an audit begins.
pub(super) struct Table {
    files: Files,
    log: Log,
}

impl Table {
    /// Finds the table of a stream in a lake, or in its folder.
    pub(super) fn open(lake: &Files, stream: &str) -> Result<Table> {
        for files in [lake.below(stream), lake.clone()] {
            if !files.below("_delta_log").names()?.is_empty() {
                let log = Log::read(&files)?;
                return Ok(Table { files, log });
            }
        }
        bail!("there is no table of {stream} in {lake}");
    }

    /// Returns how many rows there are to read, by the log.
    pub(super) fn rows(&self) -> u64 {
        self.log.files.values().filter_map(|file| file.rows).sum()
    }

    /// Tells the accounts what was claimed and what has landed; says what the commits claim that is not so.
    ///
    /// # Errors
    /// A file that was vacuumed since the audit began: what it had stands elsewhere by now.
    pub(super) fn tell(
        &self,
        raw_id: TopicId,
        accounts: &mut BTreeMap<i32, Account>,
        progress: Progress<'_>,
    ) -> Result<Ledger> {
        let mut ledger = Ledger::default();
        for (partition, account) in accounts.iter_mut() {
            let source = Source {
                topic_id: raw_id,
                partition: Partition(*partition),
            };
            let application = source.application();
            account.claims(self.log.claims.get(&application).copied());
            for setback in &self.log.setbacks {
                if setback.application == application {
                    let (claim, version) = (setback.claim, setback.version);
                    let what = || format!("commit {version} takes back what was claimed after it");
                    ledger.breaks(Promise::Commits, Some(*partition), Some(claim), what);
                }
            }
        }
        for what in &self.log.misfits {
            ledger.breaks(Promise::Commits, None, None, || what.clone());
        }
        let raw_id = raw_id.to_string();
        for (name, added) in &self.log.files {
            ledger.count(Promise::Commits).looked_at += 1;
            let read = self.file(name, added, &raw_id, accounts, progress);
            if let Err(error) = read {
                ensure!(
                    !is_missing(&error) || Log::read(&self.files)?.files.contains_key(name),
                    "{name} was vacuumed while the lake was audited; begin again, and let `lake.vacuum_after` be \
                     longer than an audit takes"
                );
                let what = || format!("{name}: {error:#}");
                ledger.breaks(Promise::Commits, None, None, what);
            }
        }
        Ok(ledger)
    }

    /// Tells the accounts the rows of one file.
    fn file(
        &self,
        name: &str,
        added: &Added,
        raw_id: &str,
        accounts: &mut BTreeMap<i32, Account>,
        progress: Progress<'_>,
    ) -> Result<()> {
        let names = [SOURCE_TOPIC_ID, SOURCE_PARTITION, system::SOURCE_OFFSET];
        let columns = self.files.columns(name, &names);
        let columns = columns.context("a commit names it")?;
        let bytes = columns.bytes;
        if let Some(claimed) = added.bytes.filter(|claimed| *claimed != bytes) {
            bail!("it has {bytes} bytes, its commit claims {claimed}");
        }
        let mut rows = 0;
        for batch in columns {
            let batch = batch?;
            rows += batch.num_rows() as u64;
            tell_rows(&batch, raw_id, accounts)?;
            progress.done(batch.num_rows() as u64);
        }
        if let Some(claimed) = added.rows.filter(|claimed| *claimed != rows) {
            bail!("it has {rows} rows, its commit claims {claimed}");
        }
        Ok(())
    }
}

fn tell_rows(
    batch: &RecordBatch,
    raw_id: &str,
    accounts: &mut BTreeMap<i32, Account>,
) -> Result<()> {
    let topics = column(batch, SOURCE_TOPIC_ID, &DataType::Utf8)?;
    let partitions = column(batch, SOURCE_PARTITION, &DataType::Int32)?;
    let offsets = column(batch, system::SOURCE_OFFSET, &DataType::Int64)?;
    let topics = topics.as_string::<i32>();
    let partitions = partitions.as_primitive::<Int32Type>().values();
    let offsets = offsets.as_primitive::<Int64Type>().values();
    for (row, (partition, offset)) in partitions.iter().zip(offsets).enumerate() {
        // Rows of a raw topic that is no more stay in the lake, and have nothing to be held against.
        if topics.value(row) != raw_id {
            continue;
        }
        let account = accounts.get_mut(partition);
        account
            .with_context(|| format!("it has a row of raw partition {partition}"))?
            .row(*offset);
    }
    Ok(())
}

/// Returns a column without nulls.
fn column(batch: &RecordBatch, name: &str, kind: &DataType) -> Result<ArrayRef> {
    let column = batch.column_by_name(name);
    let column = column.with_context(|| format!("it has no column {name}"))?;
    if 0 < column.null_count() {
        bail!("its column {name} has nulls");
    }
    Ok(arrow_cast::cast(column, kind)?)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::Path;
    use std::sync::Arc;

    use arrow_array::{Int32Array, Int64Array, StringArray};
    use parquet::arrow::ArrowWriter;

    use super::super::accounts::{Begin, Rows};
    use super::*;

    const RAW: TopicId = TopicId([7; 16]);

    /// Writes a file of rows of partition 0, of this raw topic and of one that is no more.
    fn write(path: &Path, offsets: &[i64]) {
        let both = [RAW, TopicId([8; 16])];
        let topics: Vec<String> = both
            .iter()
            .flat_map(|topic| offsets.iter().map(move |_| topic.to_string()))
            .collect();
        let columns: [(&str, ArrayRef); 3] = [
            (SOURCE_TOPIC_ID, Arc::new(StringArray::from(topics))),
            (
                SOURCE_PARTITION,
                Arc::new(Int32Array::from(vec![0; 2 * offsets.len()])),
            ),
            (
                system::SOURCE_OFFSET,
                Arc::new(Int64Array::from([offsets, offsets].concat())),
            ),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let file = File::create(path).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }

    /// Audits a lake of offsets 0 to 3, claimed up to 3, with one file as `added` says.
    fn audit(added: &str, landed: &[i64]) -> Ledger {
        audit_while(added, landed, &|_| {}).unwrap()
    }

    /// Audits it while something happens to the table.
    fn audit_while(added: &str, landed: &[i64], meanwhile: &dyn Fn(&Path)) -> Result<Ledger> {
        let lake = tempfile::tempdir().unwrap();
        let log = lake.path().join("flights/_delta_log");
        std::fs::create_dir_all(&log).unwrap();
        write(&lake.path().join("flights/a.parquet"), landed);
        let claim = format!("{{\"txn\":{{\"appId\":\"thalweg-sink/{RAW}/0\",\"version\":3}}}}");
        let commit = format!("{{\"add\":{added}}}\n{claim}\n");
        std::fs::write(log.join(format!("{:020}.json", 0)), commit).unwrap();
        let mut account = Account::open(Begin {
            partition: 0,
            raw: 0..4,
            compacted: false,
            clean_cut: false,
            dead_cut: false,
            scores_cut: false,
            complete: false,
        });
        (0..4).for_each(|offset| account.raw(offset));
        let rows = Rows {
            offsets: &[0, 1, 2, 3],
            tags: &[],
        };
        account.batch(0, 3, Some(rows));
        account.settle();
        let mut accounts = BTreeMap::from([(0, account)]);
        let place = Files::open(&lake.path().display().to_string()).unwrap();
        let table = Table::open(&place, "flights").unwrap();
        meanwhile(&lake.path().join("flights"));
        let mut ledger = table.tell(RAW, &mut accounts, Progress(&|_| {}))?;
        for mut account in accounts.into_values() {
            account.settle_lake();
            ledger.merge(account.close());
        }
        Ok(ledger)
    }

    #[test]
    fn rows_are_those_of_the_files_that_commits_name() {
        let ledger = audit("{\"path\":\"a.parquet\"}", &[2, 0, 1, 3]);
        assert!(ledger.holds(), "{ledger:?}");
        assert_eq!(ledger.tally(Promise::Lake).looked_at, 4);
        let ledger = audit("{\"path\":\"a.parquet\"}", &[0, 3]);
        let lost = ledger.firsts(Promise::Lake).next().unwrap();
        assert_eq!((lost.offset, ledger.broken(Promise::Lake)), (Some(1), 2));
    }

    #[test]
    fn files_are_what_commits_claim() {
        let check = |added: &str, right: &str| {
            let ledger = audit(added, &[0, 1, 2, 3]);
            let found = ledger.firsts(Promise::Commits).next().unwrap();
            assert!(found.what.contains(right), "{}", found.what);
        };
        check("{\"path\":\"b.parquet\"}", "b.parquet: a commit names it");
        check("{\"path\":\"a.parquet\",\"size\":5}", "its commit claims 5");
        check(
            "{\"path\":\"a.parquet\",\"stats\":\"{\\\"numRecords\\\":9}\"}",
            "it has 8 rows, its commit claims 9",
        );
    }

    #[test]
    fn what_is_put_together_meanwhile_is_read_as_it_was() {
        let added = "{\"path\":\"a.parquet\"}";
        let compact = |table: &Path| {
            let commit = "{\"remove\":{\"path\":\"a.parquet\",\"dataChange\":false}}\n";
            std::fs::write(table.join(format!("_delta_log/{:020}.json", 1)), commit).unwrap();
        };
        let ledger = audit_while(added, &[0, 1, 2, 3], &compact).unwrap();
        assert!(ledger.holds(), "{ledger:?}");
        let vacuum = |table: &Path| {
            compact(table);
            std::fs::remove_file(table.join("a.parquet")).unwrap();
        };
        let error = audit_while(added, &[0, 1, 2, 3], &vacuum).unwrap_err();
        assert!(error.to_string().contains("vacuumed"), "{error}");
        let lose = |table: &Path| std::fs::remove_file(table.join("a.parquet")).unwrap();
        let ledger = audit_while(added, &[0, 1, 2, 3], &lose).unwrap();
        assert_eq!(ledger.broken(Promise::Commits), 1);
    }
}
