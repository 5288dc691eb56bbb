//! Labels that come again with another value: what to learn so that the first one is undone.

use learn::learners::Label;
use schemas::contract::{self, Loss};

/// What is undone counts at most so many times.
const UNDONE_MAX: f64 = 9.0;

/// Returns the label to learn so that the step undoes one on the label before and takes one on the new one; `told` is
/// what is predicted now.
///
/// The gradients of the two losses differ by the difference of the labels, whatever is predicted. For numbers that is
/// the gradient of a label that far from the prediction; for a label that is told with probability p, it is that of
/// the new label with weight 1 + p / (1 - p); of several classes, each counts so for itself. The absolute and the quantile
/// loss only know on which side a label is: they learn the new one.
///
/// # Source
/// Ktena et al. 2019, "Addressing Delayed Feedback for Continuous Training with Neural Networks in CTR prediction",
/// the fake negative calibration.
pub fn correct(learner: &contract::Learner, told: &[f64], before: f64, now: f64) -> Label {
    let weigh = |probability: f64| {
        let undone = (probability / (1.0 - probability)).min(UNDONE_MAX);
        Label {
            weight: learner.weight(now) + undone * learner.weight(before),
            ..Label::new(now)
        }
    };
    let first = told.first().copied().unwrap_or(0.0);
    match learner.loss {
        Loss::Logistic if now == 1.0 => weigh(first),
        Loss::Logistic => weigh(1.0 - first),
        Loss::Softmax(_) => Label {
            undone: Some(before),
            weight: learner.weight(now),
            ..Label::new(now)
        },
        Loss::Squared | Loss::Huber(_) | Loss::Poisson => Label::new(first + now - before),
        Loss::Absolute | Loss::Quantile(_) | Loss::Hinge => Label {
            weight: learner.weight(now),
            ..Label::new(now)
        },
    }
}

#[cfg(test)]
mod tests {
    use schemas::contract::{LabelType, Learner};

    use super::*;

    fn check(learner: &Learner, told: &[f64], before: f64, now: f64, expected: (f64, f64)) {
        let found = correct(learner, told, before, now);
        let (value, weight) = expected;
        let near = |one: f64, other: f64| (one - other).abs() < 1e-9;
        assert!(
            near(found.value, value) && near(found.weight, weight),
            "{found:?}, not {expected:?}"
        );
    }

    #[test]
    fn the_step_is_that_of_the_difference_of_the_labels() {
        let yes = Learner::of(LabelType::Bool, 0);
        // The gradient w (p - y) is before - now.
        check(&yes, &[0.2], 0.0, 1.0, (1.0, 1.25));
        check(&yes, &[0.2], 1.0, 0.0, (0.0, 5.0));
        check(&yes, &[0.99], 0.0, 1.0, (1.0, 10.0));
        let weighted = Learner {
            weights: vec![1.0, 3.0],
            ..yes
        };
        check(&weighted, &[0.2], 0.0, 1.0, (1.0, 3.25));
        let number = Learner::of(LabelType::Number, 0);
        check(&number, &[10.0], 4.0, 7.0, (13.0, 1.0));
        let absolute = Learner {
            loss: Loss::Absolute,
            ..number
        };
        check(&absolute, &[10.0], 4.0, 7.0, (7.0, 1.0));
        let classes = Learner::of(LabelType::Class, 3);
        check(&classes, &[0.5, 0.25, 0.25], 0.0, 2.0, (2.0, 1.0));
        assert_eq!(correct(&classes, &[], 0.0, 2.0).undone, Some(0.0));
    }
}
