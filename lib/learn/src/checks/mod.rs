//! One list of promises, run over every learner and loss.

mod numbers;
mod streams;

use linfa::DatasetBase;
use linfa::traits::{FitWith, Predict};

use self::streams::{noise, stream, unit};
use crate::features::{Layout, Row, Rows};
use crate::learners::{CheckedParams, Label, Learner};
use crate::model::{Lineage, Snapshot};
use schemas::contract::Loss;
use schemas::{Digest, ModelVersion};

const LAYOUT: Layout = Layout {
    slots: 5,
    numbers: 2,
    crosses: 0,
};

/// Names of the slots' hashes: those of numbers, their missing values, and where categories begin.
const NUMBER_IDS: [u32; 2] = [10, 11];
const MISSING_IDS: [u32; 2] = [12, 13];

/// A row that owns what it has.
#[derive(Clone)]
struct Example {
    ids: Vec<u32>,
    numbers: Vec<f64>,
    label: Label,
}

impl Example {
    fn row(&self) -> Row<'_> {
        Row {
            ids: &self.ids,
            numbers: &self.numbers,
        }
    }
}

/// Runs every check over the learners that `make` makes for a layout.
pub(crate) fn run_all(params: CheckedParams) {
    let make = |layout| Learner::new(params, layout);
    let loss = params.loss;
    for seed in 0..3 {
        batch_equals_single(&make, params, seed);
        prediction_mutates_nothing(&make, loss, seed);
        what_is_expected_changes_no_bit(&make, loss, seed);
        a_snapshot_in_mid_stream_changes_no_bit(&make, loss, seed);
        order_of_features_is_irrelevant(&make, loss, seed);
        scale_of_numbers_is_irrelevant(&make, loss, seed);
        nothing_poisons_a_weight(&make, loss, seed);
    }
    ids_beyond_the_table_count_for_nothing(&make);
    if params.predicts_numbers() {
        numbers::run_all(&make, loss);
        return;
    }
    if let Some(classes) = params.classes() {
        (0..3).for_each(|seed| classes_are_told_apart(&make, classes, seed));
        return;
    }
    all_one_class_is_no_trouble(&make);
    // The hinge loss has no probabilities.
    if loss == Loss::Logistic {
        (0..3).for_each(|seed| learning_beats_the_base_rate(&make, seed));
        features_appear_and_vanish(&make);
        the_gradient_is_that_of_finite_differences(&make);
        convergence_to_the_batch_optimum(&make);
    }
}

fn learn_all(learner: &mut Learner, examples: &[Example]) -> f64 {
    let losses = examples
        .iter()
        .map(|example| learner.learn(example.row(), example.label).unwrap().0);
    losses.sum::<f64>() / examples.len() as f64
}

fn bits(learner: &Learner, examples: &[Example]) -> Vec<u64> {
    examples
        .iter()
        .map(|example| learner.predict_row(example.row()).to_bits())
        .collect()
}

fn batch_equals_single(make: &impl Fn(Layout) -> Learner, params: CheckedParams, seed: u64) {
    let examples = stream(params.loss, seed, 500);
    let mut single = make(LAYOUT);
    let mut singly = Vec::new();
    for example in &examples {
        // Of classes, the probability of the one that came is what was tested.
        let tested = match params.classes() {
            Some(_) => single.predict_classes(example.row())[example.label.value as usize],
            None => single.predict_row(example.row()),
        };
        singly.push(tested.to_bits());
        single.learn(example.row(), example.label).unwrap();
    }
    for size in [1, 7, 500] {
        let (mut batched, mut tested) = (make(LAYOUT), Vec::new());
        for batch in examples.chunks(size) {
            let mut rows = Rows::new(LAYOUT);
            batch.iter().for_each(|example| rows.push(example.row()));
            let labels = batch.iter().map(|example| example.label).collect();
            batched = params
                .fit_with(Some(batched), &DatasetBase::new(rows.clone(), labels))
                .unwrap();
            tested.extend(
                batched
                    .tested()
                    .iter()
                    .map(|probability| probability.to_bits()),
            );
            let together: Vec<f64> = batched.predict(&rows);
            let alone: Vec<f64> = rows.iter().map(|row| batched.predict_row(row)).collect();
            assert_eq!(together, alone, "predictions depend on the batch");
        }
        assert!(tested == singly, "batches of {size} test otherwise");
        assert_eq!(
            bits(&batched, &examples),
            bits(&single, &examples),
            "batches of {size} learn otherwise"
        );
    }
}

fn prediction_mutates_nothing(make: &impl Fn(Layout) -> Learner, loss: Loss, seed: u64) {
    let examples = stream(loss, seed, 300);
    let mut learner = make(LAYOUT);
    learn_all(&mut learner, &examples);
    let before = learner.clone();
    assert_eq!(bits(&learner, &examples), bits(&learner, &examples));
    assert!(learner == before, "prediction changed the model");
}

/// Rows are said to come that do come, that come again much later, and that never do.
fn what_is_expected_changes_no_bit(make: &impl Fn(Layout) -> Learner, loss: Loss, seed: u64) {
    let examples = stream(loss, seed, 500);
    let (mut plain, mut told) = (make(LAYOUT), make(LAYOUT));
    for (at, example) in examples.iter().enumerate() {
        let row = example.row();
        let other = (at * 7 + seed as usize) % examples.len();
        for next in [at, other, at + 1].into_iter().skip(at % 3) {
            told.expect(examples[next % examples.len()].row());
        }
        let foreseen = told.foresee(row);
        let predicted = told.predict_foreseen(row, foreseen);
        assert_eq!(
            predicted.to_bits(),
            plain.predict_row(row).to_bits(),
            "{at}"
        );
        plain.learn(row, example.label).unwrap();
        told.learn(row, example.label).unwrap();
    }
    assert!(
        told.model == plain.model,
        "what was expected changed the model"
    );
}

fn snapshot(learner: Learner) -> Snapshot {
    let lineage = Lineage {
        version: ModelVersion(3),
        digest: Digest([1; 32]),
        contract: Digest([2; 32]),
    };
    Snapshot {
        learner,
        lineage,
        sections: [("more".to_owned(), vec![1, 2, 3])].into(),
    }
}

fn a_snapshot_in_mid_stream_changes_no_bit(
    make: &impl Fn(Layout) -> Learner,
    loss: Loss,
    seed: u64,
) {
    let examples = stream(loss, seed, 400);
    let mut straight = make(LAYOUT);
    learn_all(&mut straight, &examples);
    let mut broken = make(LAYOUT);
    for part in examples.chunks(90) {
        learn_all(&mut broken, part);
        let taken = snapshot(broken);
        let bytes = taken.to_bytes();
        let read = Snapshot::from_bytes(&bytes).unwrap();
        assert!(read == taken, "a snapshot reads back as something else");
        assert_eq!(read.to_bytes(), bytes, "equal models give different bytes");
        broken = read.learner;
    }
    assert!(
        snapshot(straight).to_bytes() == snapshot(broken).to_bytes(),
        "a snapshot changed the model"
    );
}

fn order_of_features_is_irrelevant(make: &impl Fn(Layout) -> Learner, loss: Loss, seed: u64) {
    let examples = stream(loss, seed, 300);
    let turned: Vec<Example> = examples
        .iter()
        .map(|example| {
            let mut turned = example.clone();
            turned.ids[..2].reverse();
            turned.numbers.reverse();
            turned.ids[2..].rotate_left(1);
            turned
        })
        .collect();
    let (mut one, mut other) = (make(LAYOUT), make(LAYOUT));
    learn_all(&mut one, &examples);
    learn_all(&mut other, &turned);
    for (example, turned) in examples.iter().zip(&turned) {
        // Sums in another order round otherwise; nothing else may differ.
        let gap = one.predict_row(example.row()) - other.predict_row(turned.row());
        // A gradient that only has a sign can tip over by the least bit.
        let allowed = match loss {
            Loss::Absolute | Loss::Quantile(_) | Loss::Hinge => 0.02 * unit(loss),
            Loss::Logistic | Loss::Softmax(_) => 1e-3,
            _ => 4e-3 * unit(loss).min(300.0),
        };
        assert!(gap.abs() < allowed, "order of features matters: {gap}");
    }
}

fn scale_of_numbers_is_irrelevant(make: &impl Fn(Layout) -> Learner, loss: Loss, seed: u64) {
    let examples = stream(loss, seed, 500);
    let mut plain = make(LAYOUT);
    let plain = learn_all(&mut plain, &examples);
    for (factor, offset) in [(1e-70, 0.0), (1e70, 0.0), (1e-3, -0.7), (1024.0, 1e6)] {
        let mut scaled = examples.clone();
        for number in scaled.iter_mut().flat_map(|example| &mut example.numbers) {
            *number = *number * factor + offset;
        }
        let found = learn_all(&mut make(LAYOUT), &scaled);
        assert!(
            (found - plain).abs() < 2e-3 * unit(loss),
            "scale {factor} and offset {offset}: {found}, not {plain}"
        );
    }
}

fn nothing_poisons_a_weight(make: &impl Fn(Layout) -> Learner, loss: Loss, seed: u64) {
    let wild = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
        f64::MIN,
        5e-324,
        -0.0,
        1e30,
    ];
    let mut uniform = noise(seed + 1000);
    let mut learner = make(LAYOUT);
    let examples = stream(loss, seed, 2000);
    for example in &examples {
        let mut worse = example.clone();
        for number in &mut worse.numbers {
            if uniform() < 0.2 {
                *number = wild[(uniform() * wild.len() as f64) as usize];
            }
        }
        let cost = learner.learn(worse.row(), worse.label).unwrap().0;
        // What a number costs has no bound.
        let bounded = loss != Loss::Logistic || cost < 100.0;
        assert!(cost.is_finite() && bounded, "{cost}");
    }
    let cost = learn_all(&mut learner, &examples);
    let most = match loss {
        Loss::Logistic => 0.72,
        Loss::Softmax(_) => 1.0,
        // What always saying the mean costs, or a little less.
        Loss::Hinge => 1.0,
        Loss::Poisson => numbers::base(loss, &examples) + 0.05,
        _ => numbers::base(loss, &examples),
    };
    assert!(
        cost < most,
        "wild values broke the model: {cost}, not {most}"
    );
}

fn learning_beats_the_base_rate(make: &impl Fn(Layout) -> Learner, seed: u64) {
    let examples = stream(Loss::Logistic, seed, 4000);
    let mut learner = make(LAYOUT);
    learn_all(&mut learner, &examples[..2000]);
    let loss = learn_all(&mut learner, &examples[2000..]);
    let yes = examples
        .iter()
        .filter(|example| example.label.value == 1.0)
        .count() as f64
        / examples.len() as f64;
    let base = -(yes * yes.ln() + (1.0 - yes) * (1.0 - yes).ln());
    assert!(
        loss < base - 0.08,
        "nothing was learned: {loss}, and the base rate has {base}"
    );
}

/// Of a class that comes one time in ten the probability is about that; the others are told apart by features.
fn classes_are_told_apart(make: &impl Fn(Layout) -> Learner, classes: u16, seed: u64) {
    let examples = stream(Loss::Softmax(classes), seed, 6000);
    let mut learner = make(LAYOUT);
    learn_all(&mut learner, &examples[..3000]);
    let (mut right, mut last) = (0, 0.0);
    for example in &examples[3000..] {
        let found = learner.predict_classes(example.row());
        assert!(
            (found.iter().sum::<f64>() - 1.0).abs() < 1e-9 && found.len() == usize::from(classes)
        );
        let best = learner.predict_row(example.row());
        assert_eq!(best, found.iter().copied().fold(0.0, f64::max));
        right += u32::from(found[example.label.value as usize] == best);
        last += found[usize::from(classes) - 1] / 3000.0;
        learner.learn(example.row(), example.label).unwrap();
    }
    assert!((0.05..0.15).contains(&last), "{last}");
    assert!(2000 < right, "{right} of 3000");
}

fn features_appear_and_vanish(make: &impl Fn(Layout) -> Learner) {
    let layout = Layout {
        slots: 1,
        numbers: 0,
        crosses: 0,
    };
    let mut learner = make(layout);
    let learn = |learner: &mut Learner, id: u32, label| {
        learner
            .learn(
                Row {
                    ids: &[id],
                    numbers: &[],
                },
                Label::yes_or_no(label),
            )
            .unwrap();
    };
    let predict = |learner: &Learner, id: u32| {
        learner.predict_row(Row {
            ids: &[id],
            numbers: &[],
        })
    };
    for _ in 0..200 {
        learn(&mut learner, 1, true);
        learn(&mut learner, 2, false);
    }
    let before = predict(&learner, 1);
    assert!(0.8 < before && predict(&learner, 2) < 0.2);
    assert!(
        (0.3..0.7).contains(&predict(&learner, 3)),
        "what was never seen is neither"
    );
    for _ in 0..200 {
        learn(&mut learner, 3, false);
        learn(&mut learner, 4, true);
    }
    assert!(
        (predict(&learner, 1) - before).abs() < 0.1,
        "what is gone stays known"
    );
}

fn all_one_class_is_no_trouble(make: &impl Fn(Layout) -> Learner) {
    for label in [true, false] {
        let mut learner = make(LAYOUT);
        let mut examples = stream(Loss::Logistic, 9, 3000);
        examples
            .iter_mut()
            .for_each(|example| example.label = Label::yes_or_no(label));
        learn_all(&mut learner, &examples);
        let probability = learner.predict_row(examples[0].row());
        let right = if label {
            probability
        } else {
            1.0 - probability
        };
        assert!(0.7 < right && right < 1.0, "{probability}");
    }
}

fn ids_beyond_the_table_count_for_nothing(make: &impl Fn(Layout) -> Learner) {
    let mut learner = make(Layout {
        slots: 1,
        numbers: 0,
        crosses: 0,
    });
    let row = Row {
        ids: &[u32::MAX],
        numbers: &[],
    };
    learner.learn(row, Label::yes_or_no(true)).unwrap();
    assert!(learner.predict_row(row).is_finite());
}

/// The first step of every weight is along the negative gradient of the loss, which finite differences of the
/// loss in a feature's value give: for a number, d loss / d value = gradient · weight.
fn the_gradient_is_that_of_finite_differences(make: &impl Fn(Layout) -> Learner) {
    let examples = stream(Loss::Logistic, 5, 200);
    let mut learner = make(LAYOUT);
    learn_all(&mut learner, &examples);
    let example = examples
        .iter()
        .find(|example| example.numbers.iter().all(|number| !number.is_nan()))
        .unwrap();
    let loss = |numbers: &[f64]| {
        let row = Row {
            ids: &example.ids,
            numbers,
        };
        learner.clone().learn(row, example.label).unwrap().0
    };
    let probability = learner.predict_row(example.row());
    let gradient = probability - example.label.value;
    for at in 0..2 {
        // Of a blend, each loss and expert is checked on its own.
        let Some((weight, inverse)) = learner.number_weight(example.row(), at) else {
            return;
        };
        let step = 1e-3;
        let moved = |by: f64| {
            let mut numbers = example.numbers.clone();
            numbers[at] += by;
            loss(&numbers)
        };
        let slope = (moved(step) - moved(-step)) / (2.0 * step);
        let expected = gradient * weight * inverse;
        assert!(
            (slope - expected).abs() < 1e-4 * (1.0 + expected.abs()),
            "{slope} and {expected}"
        );
    }
}

/// On a small problem whose optimum is known, many passes come near it: for one category each, the best
/// probability is the observed rate.
fn convergence_to_the_batch_optimum(make: &impl Fn(Layout) -> Learner) {
    let layout = Layout {
        slots: 1,
        numbers: 0,
        crosses: 0,
    };
    let mut learner = make(layout);
    let rates = [(20, 0.1), (21, 0.5), (22, 0.8)];
    let mut uniform = noise(77);
    let mut counts = [[0.0; 2]; 3];
    let mut examples = Vec::new();
    for _ in 0..600 {
        let at = (uniform() * 3.0) as usize;
        let label = uniform() < rates[at].1;
        counts[at][usize::from(label)] += 1.0;
        examples.push((rates[at].0, Label::yes_or_no(label)));
    }
    for _ in 0..300 {
        for (id, label) in &examples {
            learner
                .learn(
                    Row {
                        ids: &[*id],
                        numbers: &[],
                    },
                    *label,
                )
                .unwrap();
        }
    }
    for (at, (id, _)) in rates.iter().enumerate() {
        let best = counts[at][1] / (counts[at][0] + counts[at][1]);
        let found = learner.predict_row(Row {
            ids: &[*id],
            numbers: &[],
        });
        assert!(
            (found - best).abs() < 0.02,
            "{found}, and the optimum is {best}"
        );
    }
}
