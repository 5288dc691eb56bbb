//! What learns, and what watches the learning: features, learners, metrics and drift.
//!
//! Clean batches go in and become rows ([`features`]); rows and labels make a model ([`learners`]), whose
//! updates the scorer applies ([`model`]). [`metrics`] say how good the predictions were and [`drift`] how
//! far the world has moved. Everything here is a pure function of what it was given, in that order: no I/O,
//! no clock, no randomness.
//!
//! # From a contract to predictions
//!
//! 1. [`features::FeatureSpace::new`] lays out the features of a contract; `encode` turns a clean batch (an Arrow
//!    record batch with the columns of [`schemas::Columns`]) into [`features::Rows`].
//! 2. [`learners::Params::of`] takes `contract.learner`; `check` (linfa's `ParamGuard`) refuses what cannot be, and
//!    [`learners::Learner::new`] makes the learner for `rows.layout()`. Whether it predicts probabilities or numbers
//!    says [`learners::CheckedParams::predicts_numbers`].
//! 3. [`learners::Label::new`] is 1 for yes and 0 for no, the number, or the index of the class; its weight is 1 unless
//!    it is set. Of classes, [`learners::Learner::predict_classes`] tells all probabilities, and what was tested is
//!    that of the class that came.
//! 4. Test, then train: [`learners::Learner::predict_row`] and then [`learners::Learner::learn`]; or, many at once
//!    with the same bits, `params.fit_with(Some(learner), &DatasetBase::new(rows, labels))` (linfa's `FitWith`),
//!    after which [`learners::Learner::tested`] is what each row was predicted before it was learned. A batch of a
//!    few hundred rows is several times as fast as single ones.
//! 5. Labels that come later: [`learners::Learner::foresee`] when the event happens, and the result in the label's
//!    `foreseen` when it is learned. The model's last layer then learns from what was said before anything of the
//!    event's own time was known; without it, late labels cost accuracy.
//! 6. [`metrics::Quality`] for probabilities, [`metrics::Errors`] for numbers. [`learners::Learner::bytes`] is the
//!    model's memory: it never grows.
//!
//! `examples/streams.rs` does all of that with a contract and a Parquet file.

#[cfg(test)]
mod checks;
mod codec;
pub mod drift;
pub mod features;
pub mod learners;
mod math;
pub mod metrics;
pub mod model;
