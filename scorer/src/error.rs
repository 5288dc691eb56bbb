//! What can go wrong in `scorer`.

use learn::features::FeatureError;
use learn::model::ApplyError;
use schemas::Offset;
use schemas::clean::CleanError;
use schemas::model::ModelError;
use worker::{BrokerError, Fault, Next, StoreError};

/// A failure of `scorer`.
#[derive(Debug, thiserror::Error)]
pub enum ScorerError {
    /// The broker.
    #[error("the broker failed")]
    Broker(#[from] BrokerError),
    /// The store of checkpoints.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A clean message that cannot be read.
    #[error("could not read offset {offset} of `{from}`")]
    Clean {
        /// The partition.
        from: String,
        /// Where in it.
        offset: Offset,
        /// Why.
        source: CleanError,
    },
    /// Clean batches leave raw offsets out.
    #[error(
        "offset {offset} of `{from}` leaves raw offsets {first} to {last} out: events are missing before it"
    )]
    Gap {
        /// The partition.
        from: String,
        /// Where in it.
        offset: Offset,
        /// The first that is missing.
        first: Offset,
        /// The last one.
        last: Offset,
    },
    /// A model message that cannot be read.
    #[error("could not read a model update")]
    Model(#[from] ModelError),
    /// An update that does not fit.
    #[error("could not apply a model update")]
    Apply(#[from] ApplyError),
    /// Features that cannot be made.
    #[error("could not make features")]
    Features(#[from] FeatureError),
    /// A partition that was never assigned.
    #[error("got records of `{0}`, which was not assigned")]
    Unassigned(String),
    /// The reader of model updates has stopped.
    #[error("model updates come no more")]
    Followed,
}

impl Fault for ScorerError {
    fn next(&self) -> Next {
        match self {
            ScorerError::Store(place) => place.next(),
            ScorerError::Broker(_) | ScorerError::Followed | ScorerError::Apply(_) => Next::Restart,
            _ => Next::Stop,
        }
    }
}
