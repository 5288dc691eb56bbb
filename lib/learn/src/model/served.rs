//! The model that scores: weights only, kept up to date by updates.

use linfa::traits::{Predict, PredictInplace};
use schemas::model::Update;
use schemas::{Contract, Digest, ModelVersion};

use super::reasons::{Scored, score};
use super::{Lineage, Snapshot};
use crate::features::{Layout, Row, Rows};
use crate::learners::{Scale, View, prefetch};
use crate::math::sigmoid;

/// A model that predicts and does not learn.
#[derive(Clone, Debug, PartialEq)]
pub struct ServedModel {
    pub(super) layout: Layout,
    pub(super) lineage: Lineage,
    pub(super) weights: Vec<f32>,
    pub(super) bias: f32,
    pub(super) scales: Vec<Scale>,
}

/// What became of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The model is now of that version.
    New,
    /// The model was already of that version or a later one; nothing changed.
    Known,
}

/// An update that does not continue the model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Its parent is another version.
    #[error(
        "update to version {version} continues {parent}, and the model is version {current} with digest {digest}"
    )]
    Parent {
        /// Version that the update makes.
        version: ModelVersion,
        /// Digest that it continues.
        parent: Digest,
        /// The model's version.
        current: ModelVersion,
        /// The model's digest.
        digest: Digest,
    },
    /// It is of another contract.
    #[error("update to version {version} is of contract {found}, and the model is of {expected}")]
    Contract {
        /// Version that the update makes.
        version: ModelVersion,
        /// The update's contract.
        found: Digest,
        /// The model's.
        expected: Digest,
    },
    /// A number in it cannot be part of this model.
    #[error("update to version {version} has {what} that cannot be part of this model")]
    Content {
        /// Version that the update makes.
        version: ModelVersion,
        /// What is wrong.
        what: &'static str,
    },
}

impl ServedModel {
    /// Makes version 0 of a contract's model, for rows of one layout: every score is one half.
    pub fn new(contract: &Contract, layout: Layout) -> ServedModel {
        ServedModel {
            layout,
            lineage: Lineage::root(contract),
            weights: vec![0.0; 1 << contract.learner.bits.min(30)],
            bias: 0.0,
            scales: vec![Scale::default(); layout.numbers],
        }
    }

    /// Returns which version it is.
    pub fn lineage(&self) -> Lineage {
        self.lineage
    }

    /// Returns the layout of its rows.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Takes an update in; afterwards the model predicts the same bits as the trainer's did.
    ///
    /// # Errors
    /// [`ApplyError`]; the model stays unchanged.
    pub fn apply(&mut self, update: &Update) -> Result<Applied, ApplyError> {
        let version = update.version;
        let Lineage {
            version: current,
            digest,
            contract,
        } = self.lineage;
        if update.contract != contract {
            return Err(ApplyError::Contract {
                version,
                found: update.contract,
                expected: contract,
            });
        }
        if version <= current {
            return Ok(Applied::Known);
        }
        if update.parent != digest || version.0 != current.0 + 1 {
            return Err(ApplyError::Parent {
                version,
                parent: update.parent,
                current,
                digest,
            });
        }
        let content = |what| ApplyError::Content { version, what };
        let fits =
            |(id, weight): &(u32, f32)| (*id as usize) < self.weights.len() && weight.is_finite();
        if !update.weights.iter().all(fits) {
            return Err(content("a weight"));
        }
        let (bias, scales) =
            dense(&update.dense, self.layout).ok_or_else(|| content("a bias or scale"))?;
        (self.bias, self.scales) = (bias, scales);
        for (id, weight) in &update.weights {
            self.weights[*id as usize] = *weight;
        }
        self.lineage = Lineage {
            version,
            digest: update.digest(),
            contract,
        };
        Ok(Applied::New)
    }

    /// Returns the probability of yes.
    ///
    /// # Panics
    /// If the row has another layout.
    #[inline]
    pub fn predict_row(&self, row: Row<'_>) -> f64 {
        sigmoid(self.logit(row))
    }

    /// Returns the probability of yes, the same bits as [`ServedModel::predict_row`], and its strongest reasons.
    ///
    /// # Panics
    /// If the row has another layout.
    #[inline]
    pub fn score(&self, row: Row<'_>) -> Scored {
        score(self, row)
    }

    /// Returns what each slot adds to the log-odds; with the bias they are all of it.
    pub fn contributions<'a>(&'a self, row: Row<'a>) -> impl ExactSizeIterator<Item = f64> + 'a {
        (0..row.ids.len()).map(move |slot| self.part(row, slot))
    }

    /// Scores a micro-batch row by row, each as [`ServedModel::score`] does.
    pub fn score_all(&self, rows: &Rows, out: &mut Vec<Scored>) {
        out.clear();
        self.each_row(rows, |row| out.push(score(self, row)));
    }

    /// Reads the model of a snapshot's bytes, without what only learning needs.
    ///
    /// # Errors
    /// As [`Snapshot::from_bytes`].
    pub fn from_snapshot(bytes: &[u8]) -> Result<ServedModel, super::SnapshotError> {
        Snapshot::served(bytes)
    }
}

/// Reads bias and scales; `None` if they are not those of a model with this layout.
pub(super) fn dense(values: &[f64], layout: Layout) -> Option<(f32, Vec<Scale>)> {
    let (bias, scales) = values.split_first()?;
    let scale = |pair: &[f64]| Scale {
        mean: pair[0],
        inverse: pair[1],
    };
    let scales: Vec<Scale> = scales.chunks_exact(2).map(scale).collect();
    let exact = values.len() == 1 + 2 * layout.numbers && f64::from(*bias as f32) == *bias;
    let sound = bias.is_finite() && scales.iter().all(|scale| scale.is_sound());
    (exact && sound).then_some((*bias as f32, scales))
}

impl View for ServedModel {
    #[inline]
    fn bias(&self) -> f32 {
        self.bias
    }

    #[inline]
    fn weight(&self, id: u32) -> f32 {
        self.weights.get(id as usize).copied().unwrap_or(0.0)
    }

    #[inline]
    fn scale(&self, number: usize) -> Scale {
        self.scales[number]
    }

    #[inline]
    fn fetch(&self, id: u32) {
        prefetch(&self.weights, id);
    }
}

impl PredictInplace<Rows, Vec<f64>> for ServedModel {
    fn predict_inplace<'a>(&'a self, rows: &'a Rows, out: &mut Vec<f64>) {
        out.clear();
        self.each_row(rows, |row| out.push(self.predict_row(row)));
    }

    fn default_target(&self, rows: &Rows) -> Vec<f64> {
        Vec::with_capacity(rows.len())
    }
}

impl Predict<&Rows, Vec<f64>> for ServedModel {
    fn predict(&self, rows: &Rows) -> Vec<f64> {
        let mut out = self.default_target(rows);
        self.predict_inplace(rows, &mut out);
        out
    }
}
