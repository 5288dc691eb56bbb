//! What learns, and what watches the learning: features, learners, metrics and drift.
//!
//! Clean batches go in and become rows ([`features`]); rows and labels make a model ([`learners`]), whose
//! updates the scorer applies ([`model`]). [`metrics`] say how good the predictions were and [`drift`] how
//! far the world has moved. Everything here is a pure function of what it was given, in that order: no I/O,
//! no clock, no randomness.

#[cfg(test)]
mod checks;
mod codec;
pub mod drift;
pub mod features;
pub mod learners;
mod math;
pub mod metrics;
pub mod model;
