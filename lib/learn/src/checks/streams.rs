//! Streams that checks are run on: made up, and the same for the same seed.

use schemas::contract::Loss;

use super::{Example, MISSING_IDS, NUMBER_IDS};
use crate::learners::Label;

/// Returns numbers in [0, 1) that look random, the same for the same seed.
pub(super) fn noise(seed: u64) -> impl FnMut() -> f64 {
    let mut at = 0_u64;
    move || {
        at += 1;
        let hash = xxhash_rust::xxh3::xxh3_64_with_seed(&at.to_le_bytes(), seed);
        (hash >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Two numbers (sometimes missing) and three categories, of which some decide the label.
pub(super) fn stream(loss: Loss, seed: u64, count: usize) -> Vec<Example> {
    let mut uniform = noise(seed);
    let mut example = || {
        let numbers: Vec<f64> = (0..2)
            .map(|_| {
                if uniform() < 0.1 {
                    f64::NAN
                } else {
                    100.0 + 10.0 * (uniform() + uniform() - 1.0)
                }
            })
            .collect();
        let id = |at: usize| {
            if numbers[at].is_nan() {
                MISSING_IDS[at]
            } else {
                NUMBER_IDS[at]
            }
        };
        let categories: Vec<u32> = (0..3)
            .map(|slot| 100 * (slot + 1) + (uniform() * 20.0) as u32)
            .collect();
        let number = if numbers[0].is_nan() {
            0.0
        } else {
            (numbers[0] - 100.0) / 3.0
        };
        let logit = number + f64::from(categories[0] % 5) - 2.0;
        let label = label(loss, logit, uniform());
        Example {
            ids: [vec![id(0), id(1)], categories].concat(),
            numbers,
            label,
        }
    };
    (0..count).map(|_| example()).collect()
}

/// Draws a label: yes or no, a number of another unit, or a count.
fn label(loss: Loss, logit: f64, draw: f64) -> Label {
    match loss {
        Loss::Logistic | Loss::Hinge => Label::yes_or_no(draw < 1.0 / (1.0 + (-logit).exp())),
        // The last class comes whatever the features are, the others as they say.
        Loss::Softmax(classes) if draw < 0.1 => Label::new(f64::from(classes - 1)),
        Loss::Softmax(_) => Label::yes_or_no((draw - 0.1) / 0.9 < 1.0 / (1.0 + (-logit).exp())),
        Loss::Poisson => Label::new((2.0 * (0.4 * logit).exp() + draw).floor()),
        _ => Label::new(5000.0 + 300.0 * (logit + draw - 0.5)),
    }
}

/// Returns a typical size of a loss, in its unit.
pub(super) fn unit(loss: Loss) -> f64 {
    match loss {
        Loss::Squared | Loss::Huber(_) => 300.0 * 300.0,
        Loss::Absolute | Loss::Quantile(_) => 300.0,
        _ => 1.0,
    }
}
