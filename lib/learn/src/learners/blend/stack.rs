//! How the experts' opinions become one: an online regression on what they said before they knew.

use schemas::contract::Loss;

use super::EXPERTS;
use crate::learners::loss::{limit, pull, settle};

/// The experts and the bias.
const TERMS: usize = EXPERTS + 1;

/// Uncertainty of a share, and of the bias, before anything is learned.
const PRIOR: f64 = 0.1;

/// How fast certainty is lost, so that shares can follow a world that changes.
const GROW: f64 = 1.0001;

/// Certainty is not lost beyond this sum of variances.
const VARIANCE_MAX: f64 = 0.5;

/// Least curvature: what is certain and wrong moves the shares too.
const CURVATURE_MIN: f64 = 1e-4;

/// What part each expert has in the score, and the bias: the model's last layer, which also calibrates it.
pub(crate) type Shares = [f64; TERMS];

/// Learns the shares: recursive least squares, or its like for other losses, that forgets.
///
/// # Source
/// Wolpert 1992, "Stacked Generalization"; the extended Kalman filter with full covariance.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stack {
    pub shares: Shares,
    pub covariance: [[f64; TERMS]; TERMS],
    pub spread: f64,
}

impl Stack {
    pub fn new() -> Stack {
        let mut covariance = [[0.0; TERMS]; TERMS];
        (0..TERMS).for_each(|at| covariance[at][at] = PRIOR);
        Stack {
            shares: EQUAL,
            covariance,
            spread: 1.0,
        }
    }

    /// Learns from what the experts said of an example; `against` is what the score is held against.
    #[inline]
    pub fn learn(
        &mut self,
        loss: Loss,
        opinions: [f64; EXPERTS],
        against: f64,
        target: f64,
        weight: f64,
    ) {
        let limit = limit(loss);
        let [a, b, c, d] = opinions.map(|opinion| opinion.clamp(-limit, limit));
        let terms = [a, b, c, d, 1.0];
        let score = (dot(&terms, &self.shares) - against).clamp(-limit, limit);
        let pull = pull(loss, score, target, self.spread);
        settle(loss, score, target, &mut self.spread);
        let (gradient, curvature) = (
            pull.gradient * weight,
            pull.curvature.max(CURVATURE_MIN) * weight,
        );
        let gain = self.covariance.map(|row| dot(&row, &terms));
        let damp = 1.0 / (1.0 + curvature * dot(&gain, &terms));
        for (row, gained) in gain.iter().enumerate() {
            self.shares[row] -= gained * gradient * damp;
            for (cell, other) in self.covariance[row].iter_mut().zip(&gain) {
                *cell -= gained * other * curvature * damp;
            }
        }
        let trace: f64 = (0..TERMS).map(|at| self.covariance[at][at]).sum();
        if trace < VARIANCE_MAX {
            self.covariance
                .as_flattened_mut()
                .iter_mut()
                .for_each(|cell| *cell *= GROW);
        }
    }
}

/// Every expert has the same share at first.
pub(crate) const EQUAL: Shares = [
    1.0 / EXPERTS as f64,
    1.0 / EXPERTS as f64,
    1.0 / EXPERTS as f64,
    1.0 / EXPERTS as f64,
    0.0,
];

/// Returns the share of each expert in the score of an example: an expert beyond the limit counts as at it.
#[inline]
pub(crate) fn factors(shares: &Shares, opinions: [f64; EXPERTS], limit: f64) -> [f64; EXPERTS] {
    std::array::from_fn(|at| {
        let opinion = opinions[at];
        if opinion.abs() <= limit {
            shares[at]
        } else {
            shares[at] * (limit / opinion.abs())
        }
    })
}

/// Returns the score.
#[inline]
pub(crate) fn score(shares: &Shares, opinions: [f64; EXPERTS], limit: f64) -> f64 {
    let factors = factors(shares, opinions, limit);
    let parts = factors
        .iter()
        .zip(opinions)
        .map(|(factor, opinion)| factor * opinion);
    parts.fold(shares[EXPERTS], |sum, part| sum + part)
}

#[inline]
fn dot(one: &[f64; TERMS], other: &[f64; TERMS]) -> f64 {
    one.iter().zip(other).fold(0.0, |sum, (a, b)| sum + a * b)
}
