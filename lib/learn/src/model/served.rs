//! The model that scores: weights only, kept up to date by updates.

use linfa::traits::{Predict, PredictInplace};
use schemas::contract::{self, Loss};
use schemas::model::Update;
use schemas::{Contract, Digest, ModelVersion};

use super::reasons::{Ledger, Reason, Scored, linear};
use super::{Lineage, Snapshot};
use crate::features::{Layout, Row, Rows};
use crate::learners::{
    BlendWeights, Pairs, Plan, Scale, View, is_number, likeliest, outward, prefetch, salt,
};

/// A model that predicts and does not learn.
#[derive(Clone, Debug, PartialEq)]
pub struct ServedModel {
    pub(super) layout: Layout,
    pub(super) lineage: Lineage,
    pub(super) kind: Kind,
}

/// The weights, by the shape of the model.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Linear(LinearWeights),
    Blend(Box<BlendWeights>),
}

/// Weights of a linear model.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LinearWeights {
    pub loss: Loss,
    pub weights: Vec<f32>,
    pub bias: f32,
    pub scales: Vec<Scale>,
    /// Mean and deviation of a label that is a number.
    pub target: Scale,
    pub pairs: Pairs,
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
    /// Makes version 0 of a contract's model, for rows of one layout: every score is one half, or 0.
    pub fn new(contract: &Contract, layout: Layout) -> ServedModel {
        let learner = &contract.learner;
        let kind = match learner.update {
            contract::Update::Blend => {
                let bits = learner.bits.min(24);
                let crosses = learner.crosses == contract::Crosses::Auto;
                Kind::Blend(Box::new(BlendWeights::new(
                    learner.loss,
                    bits,
                    crosses,
                    layout,
                )))
            }
            _ => Kind::Linear(LinearWeights {
                loss: learner.loss,
                weights: vec![0.0; 1 << learner.bits.min(30)],
                bias: 0.0,
                scales: vec![Scale::default(); layout.numbers],
                target: Scale::default(),
                pairs: Pairs::new(learner.crosses, learner.bits, layout),
            }),
        };
        ServedModel {
            layout,
            lineage: Lineage::root(contract),
            kind,
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
        let applied = match &mut self.kind {
            Kind::Linear(linear) => linear.apply(&update.dense, &update.weights, self.layout),
            Kind::Blend(blend) => blend.apply(&update.dense, &update.weights),
        };
        applied.map_err(|what| ApplyError::Content { version, what })?;
        self.lineage = Lineage {
            version,
            digest: update.digest(),
            contract,
        };
        Ok(Applied::New)
    }

    /// Returns the probability of yes, or the number to expect.
    ///
    /// # Panics
    /// If the row has another layout.
    #[inline]
    pub fn predict_row(&self, row: Row<'_>) -> f64 {
        match &self.kind {
            _ if self.classes().is_some() => likeliest(&self.class_scores(row)).1,
            Kind::Linear(linear) => linear.outward(linear.logit(row)),
            Kind::Blend(blend) => {
                let mut plan = Plan::default();
                blend.plan(&mut plan, row);
                blend.outward(blend.score(&plan).0)
            }
        }
    }

    /// Returns the prediction, the same bits as [`ServedModel::predict_row`], and its strongest reasons.
    ///
    /// # Panics
    /// If the row has another layout.
    #[inline]
    pub fn score(&self, row: Row<'_>) -> Scored {
        match &self.kind {
            _ if self.classes().is_some() => self.score_class(row),
            Kind::Linear(model) => model.scored(row, self.layout.slots),
            Kind::Blend(blend) => scored(blend, &mut Ledger::default(), row),
        }
    }

    /// Returns how many classes there are, if labels are classes.
    fn classes(&self) -> Option<u16> {
        let loss = match &self.kind {
            Kind::Linear(model) => model.loss,
            Kind::Blend(blend) => blend.loss,
        };
        match loss {
            Loss::Softmax(classes) => Some(classes),
            _ => None,
        }
    }

    /// Returns the score of each class.
    fn class_scores(&self, row: Row<'_>) -> Vec<f64> {
        let mut ids = Vec::new();
        let mut plan = Plan::default();
        let score = |class| match &self.kind {
            Kind::Linear(model) => model.logit(salt(row, class, self.mask(), &mut ids)),
            Kind::Blend(blend) => {
                blend.plan(&mut plan, salt(row, class, self.mask(), &mut ids));
                blend.score(&plan).0
            }
        };
        (0..self.classes().unwrap_or(0)).map(score).collect()
    }

    /// Returns the likeliest class, and why it is.
    fn score_class(&self, row: Row<'_>) -> Scored {
        let (class, probability) = likeliest(&self.class_scores(row));
        let mut ids = Vec::new();
        let reasons = match &self.kind {
            Kind::Linear(model) => {
                let salted = salt(row, class, self.mask(), &mut ids);
                linear(model, salted, self.layout.slots).1
            }
            Kind::Blend(blend) => {
                let salted = salt(row, class, self.mask(), &mut ids);
                Ledger::default().blend(blend, salted).1
            }
        };
        Scored {
            probability,
            class: Some(class),
            reasons,
        }
    }

    /// Returns everything that the score of a row (of its likeliest class) is the sum of, and what is no feature's:
    /// before it is made a probability or a number in the label's unit.
    pub fn contributions(&self, row: Row<'_>) -> (f64, Vec<Reason>) {
        let mut ids = Vec::new();
        let likely = self.classes().map(|_| likeliest(&self.class_scores(row)).0);
        let row = match likely {
            Some(class) => salt(row, class, self.mask(), &mut ids),
            None => row,
        };
        match &self.kind {
            Kind::Linear(model) => linear_parts(model, row, self.layout.slots),
            Kind::Blend(blend) => {
                let mut ledger = Ledger::default();
                ledger.blend(blend, row);
                (ledger.rest, ledger.parts().collect())
            }
        }
    }

    /// Returns what ids of a class are cut to.
    fn mask(&self) -> u32 {
        match &self.kind {
            Kind::Linear(model) => model.weights.len() as u32 - 1,
            Kind::Blend(_) => u32::MAX,
        }
    }

    /// Scores a micro-batch row by row, each as [`ServedModel::score`] does.
    pub fn score_all(&self, rows: &Rows, out: &mut Vec<Scored>) {
        out.clear();
        match &self.kind {
            _ if self.classes().is_some() => {
                out.extend(rows.iter().map(|row| self.score_class(row)));
            }
            Kind::Linear(model) => {
                let slots = self.layout.slots;
                model.each_row(rows, |row| out.push(model.scored(row, slots)));
            }
            Kind::Blend(blend) => {
                let mut ledger = Ledger::default();
                out.extend(rows.iter().map(|row| scored(blend, &mut ledger, row)));
            }
        }
    }

    /// Reads the model of a snapshot's bytes, without what only learning needs.
    ///
    /// # Errors
    /// As [`Snapshot::from_bytes`].
    pub fn from_snapshot(bytes: &[u8]) -> Result<ServedModel, super::SnapshotError> {
        Snapshot::served(bytes)
    }
}

fn linear_parts(model: &LinearWeights, row: Row<'_>, slots: usize) -> (f64, Vec<Reason>) {
    let part = |slot| Reason {
        slot,
        with: None,
        contribution: model.part(row, slot),
    };
    let rest = (slots..row.ids.len()).map(|slot| model.part(row, slot));
    let rest = rest.fold(f64::from(model.bias), |sum, part| sum + part);
    let mut parts: Vec<Reason> = (0..slots).map(part).collect();
    model.pairs.each(row, |slot, with, id| {
        parts.push(Reason {
            slot,
            with: Some(with),
            contribution: f64::from(model.weight(id)),
        });
    });
    parts.retain(|reason| reason.contribution != 0.0);
    (rest, parts)
}

fn scored(blend: &BlendWeights, ledger: &mut Ledger, row: Row<'_>) -> Scored {
    let (score, reasons) = ledger.blend(blend, row);
    Scored {
        probability: blend.outward(score),
        class: None,
        reasons,
    }
}

impl LinearWeights {
    /// Takes an update in; says what is wrong with it, and then changes nothing.
    fn apply(
        &mut self,
        dense: &[f64],
        weights: &[(u32, f32)],
        layout: Layout,
    ) -> Result<(), &'static str> {
        let fits =
            |(id, weight): &(u32, f32)| (*id as usize) < self.weights.len() && weight.is_finite();
        if !weights.iter().all(fits) {
            return Err("a weight");
        }
        let read = read_dense(dense, layout, is_number(self.loss)).ok_or("a bias or scale")?;
        (self.bias, self.scales, self.target) = read;
        for (id, weight) in weights {
            self.weights[*id as usize] = *weight;
        }
        Ok(())
    }

    fn outward(&self, score: f64) -> f64 {
        outward(self.loss, self.target, score)
    }

    #[inline]
    fn scored(&self, row: Row<'_>, slots: usize) -> Scored {
        let (score, reasons) = linear(self, row, slots);
        Scored {
            probability: self.outward(score),
            class: None,
            reasons,
        }
    }
}

/// Reads bias, scales and the label's scale; `None` if they are not those of a model with this layout.
fn read_dense(values: &[f64], layout: Layout, labelled: bool) -> Option<(f32, Vec<Scale>, Scale)> {
    let (bias, scales) = values.split_first()?;
    let scale = |pair: &[f64]| Scale {
        mean: pair[0],
        inverse: pair[1],
    };
    let mut scales: Vec<Scale> = scales.chunks_exact(2).map(scale).collect();
    let len = 1 + 2 * (layout.numbers + usize::from(labelled));
    let exact = values.len() == len && f64::from(*bias as f32) == *bias;
    let sound = bias.is_finite() && scales.iter().all(|scale| scale.is_sound());
    if !exact || !sound {
        return None;
    }
    let target = if labelled {
        scales.pop()?
    } else {
        Scale::default()
    };
    Some((*bias as f32, scales, target))
}

impl View for LinearWeights {
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

    #[inline]
    fn pairs(&self) -> Pairs {
        self.pairs
    }
}

impl PredictInplace<Rows, Vec<f64>> for ServedModel {
    fn predict_inplace<'a>(&'a self, rows: &'a Rows, out: &mut Vec<f64>) {
        out.clear();
        match &self.kind {
            _ if self.classes().is_some() => {
                out.extend(rows.iter().map(|row| self.predict_row(row)));
            }
            Kind::Linear(model) => {
                model.each_row(rows, |row| out.push(model.outward(model.logit(row))));
            }
            Kind::Blend(blend) => {
                let mut plan = Plan::default();
                out.extend(rows.iter().map(|row| {
                    blend.plan(&mut plan, row);
                    blend.outward(blend.score(&plan).0)
                }));
            }
        }
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
