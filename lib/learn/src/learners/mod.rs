//! Online learners: rows and labels go in one by one, and every row is predicted before it is learned.
//!
//! A learner is a linear model on hashed features with logistic loss. It is deterministic: the same rows in
//! the same order give the same bits, alone or in batches, whatever snapshots were taken in between. It is
//! driven through linfa's traits: [`Params`] are checked ([`linfa::ParamGuard`]), learn
//! ([`linfa::traits::FitWith`]) and the [`Learner`] predicts ([`linfa::traits::PredictInplace`]).

mod fit;
mod linear;
mod params;
mod prefetch;
mod scaler;
#[cfg(test)]
mod tests;
mod weights;

use schemas::contract::Update;

pub use self::fit::LearnError;
pub(crate) use self::linear::{Linear, View};
pub use self::params::{CheckedParams, Params, ParamsError};
pub(crate) use self::prefetch::prefetch;
pub(crate) use self::scaler::{Scale, Scaler};
pub(crate) use self::weights::{Adagrad, Ftrl, Weight};
use crate::features::{Layout, Row};
use crate::math::sigmoid;

/// What became of an event: yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Label(pub bool);

impl Label {
    /// Returns 1 for yes, 0 for no.
    #[inline]
    pub fn as_f64(self) -> f64 {
        f64::from(u8::from(self.0))
    }
}

/// Log loss of one prediction, in nats.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Loss(pub f64);

/// A prediction that is no number; only a model that was tampered with makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("prediction is not finite; the model is broken")]
pub struct NonFinite;

/// A model that learns.
#[derive(Clone, Debug, PartialEq)]
pub struct Learner {
    pub(crate) params: CheckedParams,
    pub(crate) model: Model,
    tested: Vec<f64>,
}

/// The model, by how its weights move.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Model {
    Adagrad(Linear<Adagrad>),
    Ftrl(Linear<Ftrl>),
}

/// Does the same for every kind of model.
macro_rules! each {
    ($model:expr, $linear:ident => $body:expr) => {
        match $model {
            $crate::learners::Model::Adagrad($linear) => $body,
            $crate::learners::Model::Ftrl($linear) => $body,
        }
    };
}
pub(crate) use each;

impl Learner {
    /// Makes a learner that has learned nothing, for rows of one layout.
    pub fn new(params: CheckedParams, layout: Layout) -> Learner {
        let model = match params.parts().0 {
            Update::Adagrad => Model::Adagrad(Linear::new(&params, layout)),
            Update::Ftrl => Model::Ftrl(Linear::new(&params, layout)),
        };
        Learner {
            params,
            model,
            tested: Vec::new(),
        }
    }

    pub(crate) fn from_model(params: CheckedParams, model: Model) -> Learner {
        Learner {
            params,
            model,
            tested: Vec::new(),
        }
    }

    /// Returns the layout of its rows.
    pub fn layout(&self) -> Layout {
        each!(&self.model, linear => linear.layout)
    }

    /// Returns how many examples it learned.
    pub fn examples(&self) -> u64 {
        each!(&self.model, linear => linear.examples)
    }

    /// Returns the probability of yes; changes nothing.
    ///
    /// # Panics
    /// If the row has another layout.
    pub fn predict_row(&self, row: Row<'_>) -> f64 {
        sigmoid(each!(&self.model, linear => linear.logit(row)))
    }

    /// Takes one step on the logistic loss; returns the loss *before* the step.
    ///
    /// # Shapes
    /// `row` has the learner's layout; an id beyond the model counts for nothing.
    /// # Errors
    /// [`NonFinite`]; the model stays unchanged.
    /// # Panics
    /// If the row has another layout.
    pub fn learn(&mut self, row: Row<'_>, label: Label) -> Result<Loss, NonFinite> {
        let rates = self.params.rates();
        each!(&mut self.model, linear => linear.learn(row, label, &rates)).map(|(_, loss)| loss)
    }

    /// Returns what each row of the last micro-batch was predicted before it was learned.
    pub fn tested(&self) -> &[f64] {
        &self.tested
    }

    /// Returns the values of everything that is no hashed weight: the bias, then mean and 1 / standard
    /// deviation of each number.
    pub(crate) fn dense(&self) -> Vec<f64> {
        each!(&self.model, linear => {
            let scales = linear.scalers.iter().flat_map(|scaler| [scaler.scale.mean, scaler.scale.inverse]);
            std::iter::once(f64::from(linear.bias.weight())).chain(scales).collect()
        })
    }
}
