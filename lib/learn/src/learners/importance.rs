//! Steps that are invariant to importance: learning an example of weight 2 is learning it twice, for any rate.

use schemas::contract::Loss;

use super::loss::pull;

/// Rounds of Newton's method; it doubles the digits with each, from a start on the safe side.
const ROUNDS: usize = 6;

/// Returns the gradient to step with, so that the score ends where infinitely many small steps would bring it.
///
/// `pace` is how far the score moves for a gradient of 1; `weight` how much the example counts.
///
/// # Source
/// Karampatziakis and Langford 2011, "Online Importance Weight Aware Updates".
pub(crate) fn invariant(loss: Loss, score: f64, target: f64, weight: f64, pace: f64) -> f64 {
    let plain = pull(loss, score, target, 1.0).gradient * weight;
    let way = pace * weight;
    if way.is_nan() || way <= 1e-9 {
        return plain;
    }
    let error = score - target;
    match loss {
        // The error falls exponentially along the way.
        Loss::Squared => -error * libm::expm1(-way) / pace,
        Loss::Logistic | Loss::Softmax(_) if target == 0.0 || target == 1.0 => {
            let side = 2.0 * target - 1.0;
            let margin = score * side;
            -side * (climb(margin, way) - margin) / pace
        }
        // A straight way that ends at the label, or at the margin.
        Loss::Absolute | Loss::Quantile(_) => plain.abs().min(error.abs() / pace).copysign(plain),
        Loss::Hinge => {
            let side = 2.0 * target - 1.0;
            plain
                .abs()
                .min((1.0 - score * side).max(0.0) / pace)
                .copysign(plain)
        }
        _ => plain / (1.0 + way * pull(loss, score, target, 1.0).curvature),
    }
}

/// Solves m' + e^m' = m + e^m + way for m': the margin that the logistic loss reaches.
fn climb(margin: f64, way: f64) -> f64 {
    let wanted = margin + libm::exp(margin) + way;
    let mut found = if wanted > 1.0 {
        libm::log(wanted).max(margin)
    } else {
        margin
    };
    for _ in 0..ROUNDS {
        let grown = libm::exp(found);
        found -= (found + grown - wanted) / (1.0 + grown);
    }
    found.max(margin)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Follows the loss downhill in many small steps.
    fn follow(loss: Loss, mut score: f64, target: f64, weight: f64, pace: f64) -> f64 {
        let start = score;
        for _ in 0..100_000 {
            score -= pull(loss, score, target, 1.0).gradient * weight * pace / 1e5;
        }
        (start - score) / pace
    }

    #[test]
    fn a_step_ends_where_small_steps_end() {
        for loss in [
            Loss::Squared,
            Loss::Logistic,
            Loss::Absolute,
            Loss::Quantile(0.8),
            Loss::Hinge,
        ] {
            for (score, target, weight, pace) in [
                (0.3, 1.0, 1.0, 0.5),
                (-4.0, 1.0, 3.0, 10.0),
                (4.0, 0.0, 0.5, 0.01),
                (-8.0, 1.0, 100.0, 2.0),
                (2.0, 1.0, 1.0, 1.0),
            ] {
                let expected = follow(loss, score, target, weight, pace);
                let found = invariant(loss, score, target, weight, pace);
                let gap = (found - expected).abs();
                assert!(
                    gap < 1e-3 * (1.0 + expected.abs()),
                    "{loss:?} {score} {found} {expected}"
                );
            }
        }
    }
}
