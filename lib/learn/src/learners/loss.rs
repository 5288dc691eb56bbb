//! What a prediction costs, and how hard an example pulls at it.
//!
//! Learners work in a space of their own, where 0 means that nothing is known: log-odds for yes or no, standard
//! deviations from the mean for numbers, the logarithm of the ratio to the mean for counts. [`Target`] leads in
//! and out. All is scale-free in the label, and finite for every label.

use schemas::contract::Loss;

use super::scaler::{Scale, Scaler};
use crate::math::{log_loss, sigmoid};

/// Labels that are seen before the first is learned, so that mean and deviation are known.
const WARM_UP: f64 = 16.0;

/// Farthest label, in standard deviations (or multiples of the mean, for counts).
const LABEL_MAX: f64 = 20.0;

/// Largest magnitude of a score that means a logarithm.
const LOG_MAX: f64 = 15.0;

/// Largest magnitude of a score in standard deviations.
const DEVIATIONS_MAX: f64 = 100.0;

/// First derivative of the loss in the score, and how curved the loss is there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pull {
    pub gradient: f64,
    pub curvature: f64,
}

/// Returns how an example pulls at a score; `spread` is the running size of such errors ([`settle`]).
///
/// Where the loss has no second derivative, the curvature is the expected one if labels were spread about the
/// score as the loss implies.
#[inline]
pub(crate) fn pull(loss: Loss, score: f64, target: f64, spread: f64) -> Pull {
    let error = score - target;
    let (gradient, curvature) = match loss {
        Loss::Logistic | Loss::Softmax(_) => {
            let probability = sigmoid(score);
            (probability - target, probability * (1.0 - probability))
        }
        Loss::Squared => (error / spread, 1.0 / spread),
        Loss::Huber(most) => (error.clamp(-most, most) / spread, 1.0 / spread),
        Loss::Absolute => (sign(error) / spread, 1.0 / (spread * spread)),
        Loss::Quantile(quantile) => {
            let above = if error > 0.0 { 1.0 } else { 0.0 };
            let curvature = quantile * (1.0 - quantile) / (spread * spread);
            ((above - quantile) / spread, curvature)
        }
        Loss::Poisson => {
            let rate = libm::exp(score);
            (rate - target, rate)
        }
        Loss::Hinge => {
            let side = 2.0 * target - 1.0;
            if score * side < 1.0 {
                (-side, 1.0)
            } else {
                (0.0, 0.0)
            }
        }
    };
    Pull {
        gradient,
        curvature,
    }
}

/// Moves the running size of errors by one example.
#[inline]
pub(crate) fn settle(loss: Loss, score: f64, target: f64, spread: &mut f64) {
    const SHARE: f64 = 0.002;
    const LEAST: f64 = 1e-6;
    let error = score - target;
    let size = match loss {
        Loss::Squared => error * error,
        Loss::Huber(most) => {
            let short = error.clamp(-most, most);
            short * short
        }
        Loss::Absolute => error.abs(),
        Loss::Quantile(quantile) => pinball(quantile, error),
        Loss::Logistic | Loss::Softmax(_) | Loss::Poisson | Loss::Hinge => return,
    };
    *spread = (*spread + (size - *spread) * SHARE).max(LEAST);
}

/// Returns the largest magnitude that a score may have.
#[inline]
pub(crate) fn limit(loss: Loss) -> f64 {
    match loss {
        Loss::Logistic | Loss::Softmax(_) | Loss::Poisson | Loss::Hinge => LOG_MAX,
        Loss::Squared | Loss::Absolute | Loss::Quantile(_) | Loss::Huber(_) => DEVIATIONS_MAX,
    }
}

/// The way from labels into the learner's space, and from scores out of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Target {
    pub loss: Loss,
    /// Mean and deviation of the labels so far; of numbers only.
    pub scaler: Scaler,
}

impl Target {
    pub fn new(loss: Loss) -> Target {
        Target {
            loss,
            scaler: Scaler::default(),
        }
    }

    /// Returns the label in the learner's space; `None` if it cannot be learned yet or at all.
    #[inline]
    pub fn inward(&self, label: f64) -> Option<f64> {
        let Scale { mean, inverse } = self.scaler.scale;
        let warm = WARM_UP <= self.scaler.count;
        match self.loss {
            Loss::Logistic | Loss::Hinge | Loss::Softmax(_) => {
                (0.0..=1.0).contains(&label).then_some(label)
            }
            Loss::Poisson => {
                let usable = warm && 0.0 < mean && 0.0 <= label;
                usable.then(|| (label / mean).min(LABEL_MAX))
            }
            _ => {
                let usable = warm && 0.0 < inverse && label.is_finite();
                let deviations = (label - mean) * inverse;
                usable.then(|| deviations.clamp(-LABEL_MAX, LABEL_MAX))
            }
        }
    }

    /// Takes one more label into account.
    #[inline]
    pub fn observe(&mut self, label: f64) {
        if is_number(self.loss) {
            self.scaler.observe(label);
        }
    }

    /// Returns what a score predicts.
    #[inline]
    pub fn outward(&self, score: f64) -> f64 {
        outward(self.loss, self.scaler.scale, score)
    }

    /// Returns what a prediction costs; finite whatever the label, and nothing if that is no number.
    pub fn cost(&self, predicted: f64, score: f64, label: f64) -> f64 {
        if !label.is_finite() {
            return 0.0;
        }
        let error = predicted - label;
        let cost = match self.loss {
            Loss::Logistic | Loss::Softmax(_) => log_loss(score, 0.5 <= label),
            Loss::Squared => 0.5 * error * error,
            Loss::Absolute => error.abs(),
            Loss::Quantile(quantile) => pinball(quantile, error),
            Loss::Huber(most) => {
                let most = match self.scaler.scale.inverse {
                    0.0 => most,
                    inverse => most / inverse,
                };
                let short = error.abs().min(most);
                short * (error.abs() - 0.5 * short)
            }
            Loss::Poisson => predicted - label * libm::log(predicted.max(f64::MIN_POSITIVE)),
            Loss::Hinge => (1.0 - score * (2.0 * label - 1.0)).max(0.0),
        };
        cost.clamp(-f64::MAX, f64::MAX)
    }
}

/// Returns what a score predicts: a probability, or a value in the label's unit.
#[inline]
pub(crate) fn outward(loss: Loss, scale: Scale, score: f64) -> f64 {
    match loss {
        Loss::Logistic | Loss::Hinge | Loss::Softmax(_) => sigmoid(score),
        Loss::Poisson => scale.mean.max(0.0) * libm::exp(score),
        _ if scale.inverse == 0.0 => scale.mean,
        _ => scale.mean + score / scale.inverse,
    }
}

/// Says whether the label is a number.
pub(crate) fn is_number(loss: Loss) -> bool {
    !matches!(loss, Loss::Logistic | Loss::Hinge | Loss::Softmax(_))
}

#[inline]
fn sign(error: f64) -> f64 {
    if error > 0.0 {
        1.0
    } else if error < 0.0 {
        -1.0
    } else {
        0.0
    }
}

/// Returns the pinball loss of predicted minus true.
#[inline]
fn pinball(quantile: f64, error: f64) -> f64 {
    if error > 0.0 {
        (1.0 - quantile) * error
    } else {
        -quantile * error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOSSES: [Loss; 7] = [
        Loss::Logistic,
        Loss::Squared,
        Loss::Absolute,
        Loss::Quantile(0.9),
        Loss::Huber(1.0),
        Loss::Poisson,
        Loss::Hinge,
    ];

    fn warm(loss: Loss) -> Target {
        let mut target = Target::new(loss);
        for at in 0..100 {
            target.observe(f64::from(at % 5));
        }
        target
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        for loss in LOSSES {
            let target = warm(loss);
            let label = if is_number(loss) { 3.0 } else { 1.0 };
            let inside = target.inward(label).unwrap();
            let cost = |score: f64| target.cost(target.outward(score), score, label);
            // In the learner's space a number's loss is that in its unit, divided by the scale of the label.
            let scale = target.scaler.scale;
            let unit = match loss {
                Loss::Squared | Loss::Huber(_) => scale.inverse * scale.inverse,
                Loss::Absolute | Loss::Quantile(_) => scale.inverse,
                Loss::Poisson => 1.0 / scale.mean,
                _ => 1.0,
            };
            for score in [-1.3, -0.2, 0.4, 1.7] {
                let slope = (cost(score + 1e-6) - cost(score - 1e-6)) / 2e-6 * unit;
                let found = pull(loss, score, inside, 1.0).gradient;
                assert!(
                    (slope - found).abs() < 1e-4,
                    "{loss:?} {score}: {slope}, {found}"
                );
            }
        }
    }

    #[test]
    fn no_label_makes_a_cost_or_target_that_is_no_number() {
        for loss in LOSSES {
            let mut target = warm(loss);
            for label in [
                0.0,
                1.0,
                -1.0,
                1e300,
                -1e300,
                f64::MAX,
                f64::NAN,
                f64::INFINITY,
            ] {
                let inside = target.inward(label);
                assert!(
                    inside.is_none_or(|inside| inside.abs() <= LABEL_MAX),
                    "{loss:?} {label}"
                );
                target.observe(label);
                let predicted = target.outward(0.5);
                assert!(predicted.is_finite(), "{loss:?} {label}");
                if label.is_finite() {
                    assert!(
                        target.cost(predicted, 0.5, label).is_finite(),
                        "{loss:?} {label}"
                    );
                }
            }
        }
    }
}
