//! Online learners: rows and labels go in one by one, and every row is predicted before it is learned.
//!
//! A learner is a linear model on hashed features, or (the default) a blend of several. It is deterministic: the
//! same rows in the same order give the same bits, alone or in batches, whatever snapshots were taken in between.
//! It is driven through linfa's traits: [`Params`] are checked ([`linfa::ParamGuard`]), learn
//! ([`linfa::traits::FitWith`]) and the [`Learner`] predicts ([`linfa::traits::PredictInplace`]).

mod blend;
mod classes;
mod crosses;
mod fit;
mod importance;
mod linear;
mod loss;
mod params;
mod prefetch;
mod scaler;
#[cfg(test)]
mod tests;
mod usage;
mod weights;

use schemas::contract::Update;

pub use self::blend::Opinions;
use self::blend::Scout;
pub(crate) use self::blend::{Blend, BlendWeights, Coin, Entry, Part, Plan};
pub(crate) use self::classes::{likeliest, salt};
pub(crate) use self::crosses::Pairs;
pub use self::fit::LearnError;
pub(crate) use self::linear::{Linear, View};
pub(crate) use self::loss::{is_number, outward};
pub use self::params::{CheckedParams, Params, ParamsError};
pub(crate) use self::prefetch::prefetch;
pub(crate) use self::scaler::{Scale, Scaler};
pub use self::usage::Fill;
pub(crate) use self::usage::Usage;
pub(crate) use self::weights::{Adagrad, Ftrl, Normalised, Sgd, SingleCoin, Weight};
use crate::features::{Layout, Row};

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Label {
    /// 1 for yes, 0 for no; the number; the index of the class.
    pub value: f64,
    /// How much it counts: 1 is as much as one example.
    pub weight: f64,
    /// What the learner's experts said when the event happened ([`Learner::foresee`]), if the label came later.
    pub foreseen: Option<Opinions>,
    /// The class that was learned of this example before, and is undone.
    pub undone: Option<f64>,
}

impl Label {
    /// Makes a label that is a number, or 1 for yes and 0 for no.
    pub fn new(value: f64) -> Label {
        Label {
            value,
            weight: 1.0,
            foreseen: None,
            undone: None,
        }
    }

    /// Makes a label that is yes or no.
    pub fn yes_or_no(yes: bool) -> Label {
        Label::new(f64::from(u8::from(yes)))
    }
}

/// Loss of one prediction: in nats, or in the label's unit (its square, for the squared loss).
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Loss(pub f64);

/// What was predicted of an example before it was learned, and what that cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tested {
    pub predicted: f64,
    pub cost: f64,
}

/// The same of an example of several classes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct TestedClass {
    /// Probability of the class that came.
    pub predicted: f64,
    /// Whether no other was more probable.
    pub likeliest: bool,
    pub cost: f64,
}

/// A prediction that is no number; only a model that was tampered with makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("prediction is not finite; the model is broken")]
pub struct NonFinite;

/// A model that learns.
#[derive(Clone, Debug)]
pub struct Learner {
    pub(crate) params: CheckedParams,
    pub(crate) model: Model,
    /// No part of what is learned.
    scout: Scout,
    tested: Vec<f64>,
    likeliest: Vec<bool>,
}

impl PartialEq for Learner {
    fn eq(&self, other: &Learner) -> bool {
        let tested = self.tested == other.tested && self.likeliest == other.likeliest;
        tested && self.params == other.params && self.model == other.model
    }
}

/// The model, by how its weights move.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Model {
    Adagrad(Linear<Adagrad>),
    Ftrl(Linear<Ftrl>),
    Sgd(Linear<Sgd>),
    Normalised(Linear<Normalised>),
    Coin(Linear<SingleCoin>),
    Blend(Box<Blend>),
}

/// Does one thing for every kind of linear model, and another for the blend.
macro_rules! each {
    ($model:expr, $linear:ident => $body:expr, $blend:ident => $other:expr) => {
        match $model {
            $crate::learners::Model::Adagrad($linear) => $body,
            $crate::learners::Model::Ftrl($linear) => $body,
            $crate::learners::Model::Sgd($linear) => $body,
            $crate::learners::Model::Normalised($linear) => $body,
            $crate::learners::Model::Coin($linear) => $body,
            $crate::learners::Model::Blend($blend) => $other,
        }
    };
}
pub(crate) use each;

impl Learner {
    /// Makes a learner that has learned nothing, for rows of one layout.
    pub fn new(params: CheckedParams, layout: Layout) -> Learner {
        let model = match params.update {
            Update::Adagrad => Model::Adagrad(Linear::new(&params, layout)),
            Update::Ftrl => Model::Ftrl(Linear::new(&params, layout)),
            Update::Sgd => Model::Sgd(Linear::new(&params, layout)),
            Update::Normalised => Model::Normalised(Linear::new(&params, layout)),
            Update::Coin => Model::Coin(Linear::new(&params, layout)),
            Update::Blend => Model::Blend(Box::new(Blend::of(&params, layout))),
        };
        Learner::from_model(params, model)
    }

    pub(crate) fn from_model(params: CheckedParams, model: Model) -> Learner {
        Learner {
            params,
            model,
            scout: Scout::default(),
            tested: Vec::new(),
            likeliest: Vec::new(),
        }
    }

    /// Returns the layout of its rows.
    pub fn layout(&self) -> Layout {
        each!(&self.model, linear => linear.layout, blend => blend.lens.layout)
    }

    /// Returns how many examples it learned.
    pub fn examples(&self) -> u64 {
        each!(&self.model, linear => linear.examples, blend => blend.examples)
    }

    /// Returns the size of its tables in bytes: it is fixed when the learner is made.
    pub fn bytes(&self) -> usize {
        each!(&self.model, linear => linear.bytes(), blend => blend.bytes())
    }

    /// Returns how full its tables are, and how often something new came.
    pub fn fill(&self) -> Fill {
        each!(&self.model,
            linear => linear.usage.fill(linear.table.len()),
            blend => blend.usage.fill(blend.tables.features.len() + blend.tables.crosses.len()))
    }

    pub(crate) fn usage(&self) -> Usage {
        each!(&self.model, linear => linear.usage, blend => blend.usage)
    }

    /// Returns the probability of yes, the number to expect, or the probability of the likeliest class; changes
    /// nothing.
    ///
    /// # Panics
    /// If the row has another layout.
    pub fn predict_row(&self, row: Row<'_>) -> f64 {
        if let Some(classes) = self.params.classes() {
            return likeliest(&self.class_scores(row, classes)).1;
        }
        each!(&self.model,
        linear => linear.target.outward(linear.logit(row)),
        blend => {
            let opinions = blend.opinions(&mut Plan::default(), row);
            blend.target.outward(blend.score(opinions))
        })
    }

    /// Returns the probability of each class; of yes alone, if labels are no classes.
    ///
    /// # Panics
    /// If the row has another layout.
    pub fn predict_classes(&self, row: Row<'_>) -> Vec<f64> {
        match self.params.classes() {
            Some(classes) => classes::probabilities(&self.class_scores(row, classes)),
            None => vec![self.predict_row(row)],
        }
    }

    fn class_scores(&self, row: Row<'_>, classes: u16) -> Vec<f64> {
        each!(&self.model,
            linear => linear.class_scores(row, classes),
            blend => blend.class_scores(row, classes))
    }

    /// Holds that every number is finite, without which a snapshot does not read back.
    ///
    /// # Errors
    /// [`NonFinite`].
    pub fn check_finite(&self) -> Result<(), NonFinite> {
        // A blend's tables have bounds.
        let finite = each!(&self.model,
            linear => linear.is_finite(),
            blend => blend.state().iter().all(|number| number.is_finite()));
        if finite { Ok(()) } else { Err(NonFinite) }
    }

    /// Tells which row comes soon: its weights are fetched into the cache. What is learned and predicted stays the same.
    ///
    /// # Panics
    /// If the row has another layout.
    pub fn expect(&mut self, row: Row<'_>) {
        if self.params.classes().is_some() {
            return;
        }
        each!(&self.model, linear => linear.fetch_row(row), blend => self.scout.expect(blend, row));
    }

    /// Returns what the experts say of a row now, to be told with its label when that comes later; `None` for a
    /// learner that has no use for it.
    ///
    /// # Panics
    /// If the row has another layout.
    pub fn foresee(&mut self, row: Row<'_>) -> Option<Opinions> {
        if self.params.classes().is_some() {
            return None;
        }
        each!(&self.model, _linear => None, blend => {
            let plan = self.scout.plan(blend, row);
            Some(blend.opinions_of(plan, row))
        })
    }

    /// Returns what [`Learner::predict_row`] does, of what was just foreseen.
    ///
    /// # Panics
    /// If the row has another layout.
    pub fn predict_foreseen(&self, row: Row<'_>, foreseen: Option<Opinions>) -> f64 {
        match (&self.model, foreseen) {
            (Model::Blend(blend), Some(opinions)) => blend.target.outward(blend.score(opinions)),
            _ => self.predict_row(row),
        }
    }

    /// Takes one step on the loss; returns the loss *before* the step.
    ///
    /// # Shapes
    /// `row` has the learner's layout; an id beyond the model counts for nothing.
    /// # Errors
    /// [`NonFinite`]; the model stays unchanged.
    /// # Panics
    /// If the row has another layout.
    pub fn learn(&mut self, row: Row<'_>, label: Label) -> Result<Loss, NonFinite> {
        let rates = self.params.rates();
        let cost = match self.params.classes() {
            Some(classes) => {
                each!(&mut self.model,
                linear => linear.learn_class(row, &label, &rates, classes),
                blend => blend.learn_class(row, &label, classes))?
                .cost
            }
            None => {
                each!(&mut self.model,
                linear => linear.learn(row, &label, &rates),
                blend => blend.learn(&mut self.scout, row, &label))?
                .cost
            }
        };
        Ok(Loss(cost))
    }

    /// Returns what each row of the last micro-batch was predicted before it was learned.
    pub fn tested(&self) -> &[f64] {
        &self.tested
    }

    /// Returns for each row of the last micro-batch whether no class was more probable than the one that came; empty
    /// if labels are no classes.
    pub fn likeliest(&self) -> &[bool] {
        &self.likeliest
    }

    /// Returns the values of everything that is no hashed weight, as the scorer needs them.
    pub(crate) fn dense(&self) -> Vec<f64> {
        each!(&self.model, linear => linear.dense(), blend => blend.dense())
    }

    /// Returns the weights that moved since the last call, by ascending index.
    pub(crate) fn take_moved(&mut self) -> Vec<(u32, f32)> {
        each!(&mut self.model, linear => linear.take_moved(), blend => blend.take_moved())
    }
}
