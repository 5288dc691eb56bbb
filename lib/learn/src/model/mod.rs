//! Models on their way from the trainer to the scorer.
//!
//! The trainer's [`Learner`] makes an [`Update`] of the weights that moved, and the [`ServedModel`] takes it in;
//! a [`Snapshot`] holds a learner to the last bit. Each version names its parent's digest ([`Lineage`]), so
//! two models with one digest have the same weights, bit for bit, and the same history.

mod lines;
mod reasons;
mod served;
mod snapshot;
mod tensors;
#[cfg(test)]
mod tests;

use schemas::model::{Prequential, Segment, Update};
use schemas::{Contract, Digest, ModelVersion};

pub use self::reasons::{REASONS, Reason, Scored};
pub use self::served::{Applied, ApplyError, ServedModel};
pub use self::snapshot::{Snapshot, SnapshotError};
use crate::learners::Learner;

/// Which version of which model something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// The version: 0 has learned nothing.
    pub version: ModelVersion,
    /// Digest of the version and all before it.
    pub digest: Digest,
    /// Digest of the contract.
    pub contract: Digest,
}

impl Lineage {
    /// Returns version 0 of a contract's model, whose digest is the contract's.
    pub fn root(contract: &Contract) -> Lineage {
        let contract = contract.digest();
        Lineage {
            version: ModelVersion(0),
            digest: contract,
            contract,
        }
    }

    /// Makes the next version: an update with every weight that moved since the last one.
    ///
    /// `segments` is what the learner took since then, `prequential` how well it predicted so far.
    pub fn advance(
        &mut self,
        learner: &mut Learner,
        segments: Vec<Segment>,
        prequential: Prequential,
    ) -> Update {
        let update = Update {
            version: ModelVersion(self.version.0 + 1),
            parent: self.digest,
            contract: self.contract,
            segments,
            prequential,
            dense: learner.dense(),
            weights: learner.take_moved(),
        };
        self.version = update.version;
        self.digest = update.digest();
        update
    }
}
