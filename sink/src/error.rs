//! What can go wrong in `sink`.

use deltalake_core::DeltaTableError;
use deltalake_core::kernel::transaction::TransactionError;
use schemas::Offset;
use schemas::clean::CleanError;
use worker::{BrokerError, Fault, Next, StoreError};

use crate::lander::Source;

/// A failure of `sink`. Nothing is half done: what was not committed is read and written anew.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The lake's place cannot be used.
    #[error(transparent)]
    Place(#[from] StoreError),
    /// The table cannot be opened or read.
    #[error("could not {doing} the table `{table}`")]
    Table {
        /// What failed.
        doing: &'static str,
        /// The table's URL.
        table: String,
        /// Why.
        source: Box<DeltaTableError>,
    },
    /// The table has a column that the contract says otherwise.
    #[error(
        "column `{column}` is {found} in the lake and {expected} in the contract; a field keeps its type for ever"
    )]
    Column {
        /// The column.
        column: String,
        /// Its type in the lake.
        found: String,
        /// Its type by the contract.
        expected: String,
    },
    /// A file cannot be stored.
    #[error("could not store file `{file}`")]
    Store {
        /// The file.
        file: String,
        /// Why.
        source: object_store::Error,
    },
    /// A file of the table cannot be read.
    #[error("could not read file `{file}`")]
    Fetch {
        /// The file.
        file: String,
        /// Why.
        source: object_store::Error,
    },
    /// Rows cannot be encoded.
    #[error("could not encode a file")]
    Encode(#[from] parquet::errors::ParquetError),
    /// Arrow refused a batch.
    #[error("could not take a batch apart")]
    Arrow(#[from] arrow_schema::ArrowError),
    /// The commit failed.
    #[error("could not commit version {version} of the table")]
    Commit {
        /// The version.
        version: u64,
        /// Why.
        source: Box<TransactionError>,
    },
    /// Somebody else landed rows of a partition that this process took for its own.
    #[error(
        "another sink has landed {source_partition} up to offset {landed}; this one was at {expected:?}"
    )]
    Overtaken {
        /// The partition.
        source_partition: Source,
        /// How far the other one came.
        landed: i64,
        /// How far this one knew.
        expected: Option<i64>,
    },
    /// The table's schema or protocol changed under the open files.
    #[error("the table was changed by somebody else in version {version}")]
    Changed {
        /// The version.
        version: u64,
    },
    /// A file of the lake cannot be put together with others.
    #[error("could not put `{file}` together with others: {reason}; they stay as they are")]
    Rewrite {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Somebody else changed files that were being put together.
    #[error("version {version} of the table changes files that were being put together")]
    Outrun {
        /// The version.
        version: u64,
    },
    /// Unfinished files cannot be looked for, or deleted.
    #[error("could not delete unfinished files")]
    Sweep {
        /// Why.
        source: std::io::Error,
    },
    /// There can be no thread that keeps the lake.
    #[error("could not begin to keep the lake")]
    Background {
        /// Why.
        source: std::io::Error,
    },
    /// Others commit faster than this process.
    #[error("gave up after {attempts} attempts to commit: others were faster each time")]
    Contended {
        /// How many.
        attempts: u32,
    },
    /// Offsets are missing between what has landed and what came.
    #[error(
        "offsets {from} to {to} of {source_partition} are in no batch: they are lost, or the lake is an older copy"
    )]
    Gap {
        /// The partition.
        source_partition: Source,
        /// The first missing offset.
        from: Offset,
        /// The last one.
        to: Offset,
    },
    /// A clean message cannot be read.
    #[error("could not read offset {offset} of `{from}`")]
    Clean {
        /// The clean partition.
        from: String,
        /// The clean message's offset.
        offset: Offset,
        /// Why.
        source: CleanError,
    },
    /// A batch has rows that its header does not cover, or out of order.
    #[error("a batch of {source_partition} has rows beyond what it covers, or out of order")]
    Rows {
        /// The partition.
        source_partition: Source,
    },
    /// The broker.
    #[error("the broker failed")]
    Broker(#[from] BrokerError),
}

impl Fault for SinkError {
    fn next(&self) -> Next {
        match self {
            SinkError::Place(error) => error.next(),
            SinkError::Column { .. }
            | SinkError::Gap { .. }
            | SinkError::Clean { .. }
            | SinkError::Rows { .. }
            | SinkError::Encode(_)
            | SinkError::Arrow(_) => Next::Stop,
            SinkError::Table { .. }
            | SinkError::Store { .. }
            | SinkError::Fetch { .. }
            | SinkError::Commit { .. }
            | SinkError::Overtaken { .. }
            | SinkError::Changed { .. }
            | SinkError::Rewrite { .. }
            | SinkError::Outrun { .. }
            | SinkError::Sweep { .. }
            | SinkError::Background { .. }
            | SinkError::Contended { .. }
            | SinkError::Broker(_) => Next::Restart,
        }
    }
}
