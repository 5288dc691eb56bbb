//! What can go wrong in `trainer`; labels that cannot be read are no errors, they are dead letters.

use learn::features::FeatureError;
use learn::learners::ParamsError;
use schemas::clean::CleanError;
use schemas::{Digest, ModelVersion, Offset, TopicId};
use worker::{BrokerError, Fault, Next, StoreError};

use crate::fit::FitError;

/// A failure of `trainer`.
#[derive(Debug, thiserror::Error)]
pub enum TrainerError {
    /// The broker.
    #[error("the broker failed")]
    Broker(#[from] BrokerError),
    /// The place of checkpoints.
    #[error(transparent)]
    Place(#[from] StoreError),
    /// The store of checkpoints.
    #[error("the store of checkpoints failed")]
    Store(#[from] object_store::Error),
    /// The contract's features.
    #[error("the contract's features cannot be made")]
    Features(#[from] FeatureError),
    /// The contract's learner.
    #[error("the contract's learner cannot be made")]
    Params(#[from] ParamsError),
    /// A clean message that cannot be read.
    #[error("could not read the clean batch at offset {offset} of `{from}`")]
    Clean {
        /// The partition.
        from: String,
        /// Where it is.
        offset: Offset,
        /// Why.
        source: CleanError,
    },
    /// A clean message of another contract.
    #[error(
        "the clean batch at offset {offset} of `{from}` was shaped by contract {found}, and this worker has \
         {expected}: run the trainer with the contract that ingest runs with; to learn under a changed contract, \
         give the stream a new name"
    )]
    OtherContract {
        /// The partition.
        from: String,
        /// Where it is.
        offset: Offset,
        /// Digest in the batch.
        found: Digest,
        /// Digest of the worker's contract.
        expected: Digest,
    },
    /// Clean batches of another raw topic.
    #[error(
        "clean batches of `{from}` come from raw topic {found}, and those before from {expected}: the raw topic was \
         made anew under a model that lives on; give the stream a new name, or delete its model topic and checkpoints"
    )]
    OtherSource {
        /// The partition.
        from: String,
        /// Id in the batch.
        found: TopicId,
        /// Id in those before.
        expected: TopicId,
    },
    /// Taking failed.
    #[error("could not take what came from `{from}`")]
    Fit {
        /// The partition.
        from: String,
        /// Why.
        source: FitError,
    },
    /// Making a version failed.
    #[error("could not make a version")]
    Version(#[source] FitError),
    /// The log makes another version than was published.
    #[error(
        "replaying the log makes another version {version} ({found}) than was published ({published}): log, \
         contract or checkpoint were tampered with, or this build learns differently"
    )]
    Replay {
        /// The version.
        version: ModelVersion,
        /// Digest that was published.
        published: Digest,
        /// Digest that the replay has.
        found: Digest,
    },
    /// What a published version was made of is gone.
    #[error("`{from}` no longer has offset {wanted}, of which version {version} was made")]
    Lost {
        /// The partition.
        from: String,
        /// The offset.
        wanted: Offset,
        /// The version.
        version: ModelVersion,
    },
    /// The model topic begins after the newest checkpoint.
    #[error(
        "`{topic}` begins at offset {low}, and the newest checkpoint wants {wanted}: put the checkpoints back, or \
         delete the topic and all checkpoints to learn anew"
    )]
    HistoryLost {
        /// The model topic.
        topic: String,
        /// Its first offset.
        low: Offset,
        /// What is wanted.
        wanted: Offset,
    },
    /// Somebody else wrote versions.
    #[error("another trainer wrote to `{topic}`; what it wrote first counts")]
    Overtaken {
        /// The model topic.
        topic: String,
    },
    /// A partition that was never assigned.
    #[error("got records of `{0}`, which was not assigned")]
    Unassigned(String),
}

impl Fault for TrainerError {
    fn next(&self) -> Next {
        match self {
            TrainerError::Place(place) => place.next(),
            TrainerError::Broker(_) | TrainerError::Store(_) | TrainerError::Overtaken { .. } => {
                Next::Restart
            }
            _ => Next::Stop,
        }
    }
}
