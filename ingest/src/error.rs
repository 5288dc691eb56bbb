//! What can go wrong in `ingest`; bad events are no errors but dead letters.

use schemas::clean::CleanError;
use seal::SealError;
use worker::{BrokerError, Fault, Next};

/// A failure of `ingest`.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The broker.
    #[error("the broker failed")]
    Broker(#[from] BrokerError),
    /// Keys.
    #[error("sealing failed")]
    Seal(#[from] SealError),
    /// The key file.
    #[error("could not read key file `{file}`")]
    KeyFile {
        /// The file.
        file: String,
        /// Why.
        source: SealError,
    },
    /// Topics that do not fit.
    #[error("topic `{topic}` has {found} partitions and the raw topic {raw}; give it {raw}")]
    Partitions {
        /// The topic.
        topic: String,
        /// Its partitions.
        found: i32,
        /// The raw topic's partitions.
        raw: i32,
    },
    /// The tail of the clean topic cannot be read.
    #[error("could not read the tail of `{from}`")]
    Tail {
        /// The partition.
        from: String,
        /// Why.
        source: CleanError,
    },
    /// Arrow refused a batch.
    #[error("could not make a batch")]
    Arrow(#[from] arrow_schema::ArrowError),
    /// A partition that was never assigned.
    #[error("got records of `{0}`, which was not assigned")]
    Unassigned(String),
}

impl Fault for IngestError {
    fn next(&self) -> Next {
        match self {
            IngestError::Broker(_) | IngestError::Seal(_) => Next::Restart,
            _ => Next::Stop,
        }
    }
}
