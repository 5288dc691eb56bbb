//! What is promised of learners whose labels are numbers.

use schemas::contract::Loss;

use super::streams::{noise, stream};
use super::{Example, learn_all};
use crate::features::{Layout, Row};
use crate::learners::{Label, Learner};

/// Runs every check for numbers.
pub(super) fn run_all(make: &impl Fn(Layout) -> Learner, loss: Loss) {
    for seed in 0..3 {
        learning_beats_the_best_constant(make, loss, seed);
        unit_of_the_label_is_irrelevant(make, loss, seed);
        no_label_poisons_a_weight(make, loss, seed);
    }
    one_value_is_no_trouble(make);
    convergence_to_the_batch_optimum(make, loss);
}

/// Returns about what the best constant costs.
pub(super) fn base(loss: Loss, examples: &[Example]) -> f64 {
    let values: Vec<f64> = examples.iter().map(|example| example.label.value).collect();
    let best = optimum(loss, &values);
    let costs = values.iter().map(|value| cost(loss, best, *value, &values));
    costs.sum::<f64>() / values.len() as f64
}

fn optimum(loss: Loss, values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match loss {
        Loss::Absolute => sorted[sorted.len() / 2],
        Loss::Quantile(quantile) => sorted[(sorted.len() as f64 * quantile) as usize],
        _ => values.iter().sum::<f64>() / values.len() as f64,
    }
}

fn deviation(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares = values.iter().map(|value| (value - mean).powi(2));
    (squares.sum::<f64>() / values.len() as f64).sqrt()
}

fn cost(loss: Loss, predicted: f64, value: f64, values: &[f64]) -> f64 {
    let error = predicted - value;
    match loss {
        Loss::Absolute => error.abs(),
        Loss::Quantile(quantile) if error > 0.0 => (1.0 - quantile) * error,
        Loss::Quantile(quantile) => -quantile * error,
        Loss::Huber(most) => {
            let short = error.abs().min(most * deviation(values));
            short * (error.abs() - 0.5 * short)
        }
        Loss::Poisson => predicted - value * predicted.ln(),
        _ => 0.5 * error * error,
    }
}

fn learning_beats_the_best_constant(make: &impl Fn(Layout) -> Learner, loss: Loss, seed: u64) {
    let examples = stream(loss, seed, 6000);
    let mut learner = make(super::LAYOUT);
    learn_all(&mut learner, &examples[..3000]);
    let found = learn_all(&mut learner, &examples[3000..]);
    let base = base(loss, &examples[3000..]);
    let most = if loss == Loss::Poisson {
        base - 0.1
    } else {
        0.8 * base
    };
    assert!(
        found < most,
        "{loss:?}: {found}, and the best constant has {base}"
    );
}

fn unit_of_the_label_is_irrelevant(make: &impl Fn(Layout) -> Learner, loss: Loss, seed: u64) {
    let examples = stream(loss, seed, 500);
    let mut plain = make(super::LAYOUT);
    learn_all(&mut plain, &examples);
    for factor in [0.125, 1024.0, 1e-40, 1e40] {
        let mut scaled = examples.clone();
        scaled
            .iter_mut()
            .for_each(|example| example.label.value *= factor);
        let mut learner = make(super::LAYOUT);
        learn_all(&mut learner, &scaled);
        for example in &examples {
            let (one, other) = (
                plain.predict_row(example.row()),
                learner.predict_row(example.row()),
            );
            let gap = (one - other / factor).abs();
            assert!(
                gap < 1e-3 * (1.0 + one.abs()),
                "{loss:?} {factor}: {one}, {other}"
            );
        }
    }
}

fn no_label_poisons_a_weight(make: &impl Fn(Layout) -> Learner, loss: Loss, seed: u64) {
    let wild = [
        f64::NAN,
        f64::INFINITY,
        f64::MAX,
        f64::MIN,
        -1.0,
        5e-324,
        1e300,
    ];
    let mut uniform = noise(seed + 2000);
    let mut learner = make(super::LAYOUT);
    for mut example in stream(loss, seed, 1000) {
        if uniform() < 0.05 {
            example.label.value = wild[(uniform() * wild.len() as f64) as usize];
        }
        // What is no number costs no number; it changes nothing but counts.
        let _ = learner.learn(example.row(), example.label);
        assert!(learner.predict_row(example.row()).is_finite(), "{loss:?}");
    }
}

fn one_value_is_no_trouble(make: &impl Fn(Layout) -> Learner) {
    let mut learner = make(super::LAYOUT);
    for mut example in stream(Loss::Squared, 3, 500) {
        example.label = Label::new(7.0);
        learner.learn(example.row(), example.label).unwrap();
        let predicted = learner.predict_row(example.row());
        assert!((predicted - 7.0).abs() < 0.05, "{predicted}");
    }
}

/// For one category each, many passes come near the best constant of the category.
fn convergence_to_the_batch_optimum(make: &impl Fn(Layout) -> Learner, loss: Loss) {
    let layout = Layout {
        slots: 1,
        numbers: 0,
        crosses: 0,
    };
    let mut learner = make(layout);
    let mut uniform = noise(78);
    let mut groups = [(20, Vec::new()), (21, Vec::new()), (22, Vec::new())];
    let mut examples = Vec::new();
    for _ in 0..600 {
        let at = (uniform() * 3.0) as usize;
        let value = (uniform() * 8.0).floor() + 2.0 * at as f64;
        groups[at].1.push(value);
        examples.push((groups[at].0, value));
    }
    fn row<'a>(id: &'a [u32; 1]) -> Row<'a> {
        Row {
            ids: id,
            numbers: &[],
        }
    }
    for _ in 0..200 {
        for (id, value) in &examples {
            learner.learn(row(&[*id]), Label::new(*value)).unwrap();
        }
    }
    for (id, values) in &groups {
        let best = optimum(loss, values);
        let found = learner.predict_row(row(&[*id]));
        // A quantile of whole numbers is anywhere between two of them; Huber's optimum is near the mean, and who
        // forgets knows as much as the last hundred labels say.
        let allowed = match loss {
            Loss::Absolute | Loss::Quantile(_) => 1.1,
            _ => 0.5,
        };
        assert!(
            (found - best).abs() < allowed,
            "{loss:?}: {found}, and the optimum is {best}"
        );
    }
}
