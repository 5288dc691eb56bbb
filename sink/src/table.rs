//! The Delta table: opened or made, and appended to, files and covered offsets in one atomic commit.
//!
//! How far a source partition has landed is Delta's `txn` action: application id
//! `thalweg-sink/<source topic id>/<partition>`, version = the last raw offset covered. A commit is one new file
//! of the log, which the store takes only if there is none of that number yet. Whoever loses that race reads what
//! the others committed: if it is about other partitions, it tries the next number; if it is about one of its
//! own, somebody else owns it now, and this process must begin anew.

use std::collections::{BTreeMap, HashMap};

use arrow_schema::{DataType as ArrowType, Field, Schema, TimeUnit};
use bytes::Bytes;
use deltalake_core::kernel::transaction::{CommitData, TransactionError};
use deltalake_core::kernel::{Action, Add, DataType, StructField, StructType, Transaction};
use deltalake_core::logstore::{CommitOrBytes, LogStoreRef, ObjectStoreRef};
use deltalake_core::protocol::checkpoints::{cleanup_metadata, create_checkpoint};
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::{DeltaTable, DeltaTableError};
use schemas::Offset;
use serde_json::Value;
use uuid::Uuid;

use crate::day;
use crate::error::SinkError;
use crate::lander::Source;

/// Attempts to commit before giving up; each one means that another instance committed meanwhile.
const ATTEMPTS_MAX: u32 = 100;
/// A checkpoint of the log every so many versions, so that readers need not read it all.
const CHECKPOINT_INTERVAL: u64 = 100;

/// How far a source partition has landed: `None` if nothing of it has.
pub type Passed = BTreeMap<Source, Option<Offset>>;

/// The table.
pub struct Table {
    log: LogStoreRef,
    /// The version up to which `passed` is what the log says.
    version: u64,
    /// The partitions that this process takes for its own.
    passed: Passed,
}

impl Table {
    /// Opens the table, makes it if it is missing, and adds columns that the contract has gained.
    ///
    /// # Errors
    /// [`SinkError::Column`] if a column has another type, [`SinkError::Table`] if the store fails.
    pub async fn open(log: LogStoreRef, name: &str, schema: &Schema) -> Result<Table, SinkError> {
        let mut columns: Vec<StructField> = schema
            .fields()
            .iter()
            .map(|field| StructField::nullable(field.name(), delta_type(field.data_type())))
            .collect();
        columns.push(StructField::nullable(day::COLUMN, DataType::DATE));
        let mut table = Table {
            log,
            version: 0,
            passed: Passed::new(),
        };
        let exists = table.log.is_delta_table_location().await;
        if !exists.map_err(|source| table.failed("look for", source))? {
            let made = DeltaTable::new(table.log.clone())
                .create()
                .with_table_name(name)
                .with_columns(columns.clone())
                .with_partition_columns([day::COLUMN])
                .with_save_mode(SaveMode::Ignore)
                .await;
            // Another instance may have made it at the same time; then it is there now.
            let exists = table
                .log
                .is_delta_table_location()
                .await
                .unwrap_or_default();
            if !exists {
                made.map_err(|source| table.failed("make", source))?;
            }
        }
        let state = table
            .load()
            .await
            .map_err(|source| table.failed("open", source))?;
        let state = table.add_columns(state, &columns).await?;
        table.version = state.version().unwrap_or_default();
        Ok(table)
    }

    /// Returns the store, rooted at the table's folder.
    pub fn store(&self) -> ObjectStoreRef {
        self.log.object_store(None)
    }

    /// Returns the version up to which the table is known.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Takes source partitions for this process's own, and returns how far each has landed.
    ///
    /// # Errors
    /// [`SinkError::Overtaken`] if somebody else has landed rows of a partition that was its own already.
    pub async fn own(&mut self, sources: &[Source]) -> Result<Vec<Option<Offset>>, SinkError> {
        let table = self
            .load()
            .await
            .map_err(|source| self.failed("read", source))?;
        let state = table
            .snapshot()
            .map_err(|source| self.failed("read", source))?;
        let mut passed = Passed::new();
        for source in self.passed.keys().chain(sources) {
            let version = state
                .transaction_version(self.log.as_ref(), source.application())
                .await;
            let version = version
                .map_err(|source| self.failed("read", source))?
                .map(Offset);
            passed.insert(*source, version);
        }
        for (source, expected) in &self.passed {
            if let Some(landed) = passed[source].filter(|landed| Some(*landed) != *expected) {
                return Err(overtaken(*source, landed.0, *expected));
            }
        }
        self.version = table.version().unwrap_or_default();
        self.passed = passed;
        Ok(sources.iter().map(|source| self.passed[source]).collect())
    }

    /// Gives source partitions up.
    pub fn disown(&mut self, gone: impl Fn(&Source) -> bool) {
        self.passed.retain(|source, _| !gone(source));
    }

    /// Adds files to the table, and says that source partitions have landed up to these offsets.
    ///
    /// # Errors
    /// [`SinkError::Overtaken`] if somebody else has landed rows of a partition that was this process's own; the
    /// table is as it was then, and the files belong to nothing.
    pub async fn commit(
        &mut self,
        files: Vec<Add>,
        landed: &[(Source, Offset)],
    ) -> Result<u64, SinkError> {
        let transactions: Vec<Transaction> = landed
            .iter()
            .map(|(source, offset)| Transaction::new(source.application(), offset.0))
            .collect();
        let operation = DeltaOperation::Write {
            mode: SaveMode::Append,
            partition_by: Some(vec![day::COLUMN.to_owned()]),
            predicate: None,
        };
        let actions = files.into_iter().map(Action::Add).collect();
        let engine = HashMap::from([("engine".to_owned(), Value::from("thalweg-sink"))]);
        let bytes = CommitData::new(actions, operation, engine, transactions)
            .get_bytes()
            .map_err(|source| SinkError::Commit {
                version: self.version + 1,
                source: Box::new(source),
            })?;
        let passed = &self.passed;
        self.version = commit_next(&self.log, self.version, bytes, |_, action| {
            judge(passed, action)
        })
        .await?;
        self.passed.extend(
            landed
                .iter()
                .map(|(source, offset)| (*source, Some(*offset))),
        );
        Ok(self.version)
    }

    /// Writes a checkpoint of the log and takes expired entries away, if this version is due for it.
    ///
    /// # Errors
    /// [`SinkError::Table`]; the table is whole without its checkpoint.
    pub async fn checkpoint_if_due(&self) -> Result<bool, SinkError> {
        checkpoint_if_due(&self.log, self.version).await
    }

    async fn load(&self) -> Result<DeltaTable, DeltaTableError> {
        load(&self.log).await
    }

    async fn add_columns(
        &self,
        table: DeltaTable,
        columns: &[StructField],
    ) -> Result<DeltaTable, SinkError> {
        let schema = table
            .snapshot()
            .map_err(|source| self.failed("read", source))?
            .schema();
        let mut missing = Vec::new();
        for column in columns {
            match schema.field(column.name()) {
                None => missing.push(column.clone()),
                Some(found) if found.data_type() == column.data_type() => {}
                Some(found) => {
                    return Err(SinkError::Column {
                        column: column.name().to_owned(),
                        found: found.data_type().to_string(),
                        expected: column.data_type().to_string(),
                    });
                }
            }
        }
        if missing.is_empty() {
            return Ok(table);
        }
        let added = table.add_columns().with_fields(missing).await;
        added.map_err(|source| self.failed("add columns to", source))
    }

    fn failed(&self, doing: &'static str, source: DeltaTableError) -> SinkError {
        failed(&self.log, doing, source)
    }
}

/// Commits actions as the version after `version`, or after those that others have committed meanwhile, each action
/// of which `judge` may refuse; returns the version committed.
///
/// # Errors
/// What `judge` says; [`SinkError::Changed`] if another version cannot be read, changes schema or protocol;
/// [`SinkError::Contended`] if others are always faster; [`SinkError::Commit`].
pub(crate) async fn commit_next(
    log: &LogStoreRef,
    version: u64,
    bytes: Bytes,
    judge: impl Fn(u64, &Value) -> Result<(), SinkError>,
) -> Result<u64, SinkError> {
    let attempts = version + 1..=version + u64::from(ATTEMPTS_MAX);
    for version in attempts {
        let entry = CommitOrBytes::LogBytes(bytes.clone());
        match log.write_commit_entry(version, entry, Uuid::new_v4()).await {
            Ok(()) => return Ok(version),
            Err(TransactionError::VersionAlreadyExists(_)) => {
                for action in read_others(log, version).await? {
                    judge(version, &action)?;
                }
            }
            Err(source) => {
                return Err(SinkError::Commit {
                    version,
                    source: Box::new(source),
                });
            }
        }
    }
    Err(SinkError::Contended {
        attempts: ATTEMPTS_MAX,
    })
}

/// Reads the actions of a version that somebody else committed.
async fn read_others(log: &LogStoreRef, version: u64) -> Result<Vec<Value>, SinkError> {
    let entry = log.read_commit_entry(version).await;
    let entry = entry
        .map_err(|source| failed(log, "read", source))?
        .unwrap_or_default();
    let lines = entry
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    let actions: Vec<Value> = lines
        .map(serde_json::from_slice)
        .collect::<Result<_, _>>()
        .map_err(|_| SinkError::Changed { version })?;
    let changed =
        |action: &Value| action.get("metaData").is_some() || action.get("protocol").is_some();
    // The store has refused this number, so there must be something; else the log would get a hole.
    if actions.is_empty() || actions.iter().any(changed) {
        return Err(SinkError::Changed { version });
    }
    Ok(actions)
}

/// Refuses what somebody else has landed of an own partition.
fn judge(passed: &Passed, action: &Value) -> Result<(), SinkError> {
    let Some(transaction) = action.get("txn") else {
        return Ok(());
    };
    let own = passed
        .iter()
        .find(|(source, _)| transaction["appId"] == source.application());
    match own {
        Some((source, expected)) => {
            let landed = transaction["version"].as_i64().unwrap_or(-1);
            Err(overtaken(*source, landed, *expected))
        }
        None => Ok(()),
    }
}

/// Writes a checkpoint of the log and takes expired entries away, if this version is due for it.
pub(crate) async fn checkpoint_if_due(log: &LogStoreRef, version: u64) -> Result<bool, SinkError> {
    if !version.is_multiple_of(CHECKPOINT_INTERVAL) {
        return Ok(false);
    }
    let failed = |source| failed(log, "checkpoint", source);
    let table = load(log).await.map_err(failed)?;
    create_checkpoint(&table, None).await.map_err(failed)?;
    cleanup_metadata(&table, None).await.map_err(failed)?;
    Ok(true)
}

async fn load(log: &LogStoreRef) -> Result<DeltaTable, DeltaTableError> {
    let mut table = DeltaTable::new(log.clone());
    table.load().await?;
    Ok(table)
}

/// Says what failed about a table.
pub(crate) fn failed(log: &LogStoreRef, doing: &'static str, source: DeltaTableError) -> SinkError {
    SinkError::Table {
        doing,
        table: log.root_url().to_string(),
        source: Box::new(source),
    }
}

fn overtaken(source_partition: Source, landed: i64, expected: Option<Offset>) -> SinkError {
    SinkError::Overtaken {
        source_partition,
        landed,
        expected: expected.map(|offset| offset.0),
    }
}

/// Returns the columns of a table's files: all but that of the partition; `None` if one is of no type of ours.
pub(crate) fn file_schema(table: &StructType) -> Option<Schema> {
    let fields = table.fields().filter(|field| field.name() != day::COLUMN);
    let fields = fields.map(|field| {
        let kind = arrow_type(field.data_type())?;
        Some(Field::new(field.name(), kind, true))
    });
    Some(Schema::new(fields.collect::<Option<Vec<_>>>()?))
}

/// Returns the type of a file's column for Delta's.
fn arrow_type(kind: &DataType) -> Option<ArrowType> {
    let kinds = [
        ArrowType::Int32,
        ArrowType::Int64,
        ArrowType::Float64,
        ArrowType::Boolean,
        ArrowType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        ArrowType::Binary,
        ArrowType::Utf8,
    ];
    kinds.into_iter().find(|arrow| delta_type(arrow) == *kind)
}

/// Returns Delta's type for a type of clean columns.
fn delta_type(kind: &ArrowType) -> DataType {
    match kind {
        ArrowType::Int32 => DataType::INTEGER,
        ArrowType::Int64 => DataType::LONG,
        ArrowType::Float64 => DataType::DOUBLE,
        ArrowType::Boolean => DataType::BOOLEAN,
        ArrowType::Timestamp(..) => DataType::TIMESTAMP,
        ArrowType::Binary => DataType::BINARY,
        _ => DataType::STRING,
    }
}
