//! Every learner keeps every promise.

use linfa::ParamGuard;
use linfa::traits::FitWith;
use schemas::contract::{Crosses, Loss, Schedule};

use super::*;
use crate::checks;
use crate::features::Rows;

#[test]
fn adagrad_keeps_every_learner_promise() {
    checks::run_all(
        Params::new(Update::Adagrad)
            .bits(10)
            .rate(0.1)
            .check()
            .unwrap(),
    );
}

#[test]
fn ftrl_keeps_every_learner_promise() {
    checks::run_all(
        Params::new(Update::Ftrl)
            .bits(10)
            .rate(0.1)
            .check()
            .unwrap(),
    );
}

#[test]
fn regularised_learners_keep_every_promise_too() {
    for update in [Update::Adagrad, Update::Ftrl] {
        checks::run_all(
            Params::new(update)
                .bits(10)
                .rate(0.1)
                .l1(1e-5)
                .l2(1e-5)
                .check()
                .unwrap(),
        );
    }
}

#[test]
fn updates_without_state_or_rate_keep_every_promise_too() {
    let sgd = Params::new(Update::Sgd).schedule(Schedule::Root).rate(2.0);
    for params in [
        sgd,
        Params::new(Update::Normalised),
        Params::new(Update::Coin),
    ] {
        checks::run_all(params.bits(10).check().unwrap());
    }
}

#[test]
fn the_blend_keeps_every_learner_promise() {
    for crosses in [Crosses::Auto, Crosses::None] {
        let params = Params::new(Update::Blend).bits(10).crosses(crosses);
        checks::run_all(params.check().unwrap());
    }
}

const LOSSES: [Loss; 7] = [
    Loss::Softmax(3),
    Loss::Squared,
    Loss::Absolute,
    Loss::Quantile(0.8),
    Loss::Huber(1.0),
    Loss::Poisson,
    Loss::Hinge,
];

#[test]
fn the_blend_keeps_every_promise_of_every_loss() {
    for loss in LOSSES {
        checks::run_all(
            Params::new(Update::Blend)
                .bits(10)
                .loss(loss)
                .check()
                .unwrap(),
        );
    }
}

#[test]
fn every_update_keeps_every_promise_of_every_loss() {
    let sgd = Params::new(Update::Sgd).schedule(Schedule::Root).rate(1.0);
    let others = [
        Update::Adagrad,
        Update::Ftrl,
        Update::Normalised,
        Update::Coin,
    ];
    for params in others.map(Params::new).into_iter().chain([sgd]) {
        for loss in LOSSES {
            checks::run_all(params.bits(10).loss(loss).check().unwrap());
        }
    }
}

#[test]
fn l1_keeps_rare_weights_at_zero() {
    let layout = Layout {
        slots: 1,
        numbers: 0,
        crosses: 0,
    };
    let mut learner = Learner::new(Params::new(Update::Ftrl).l1(2.0).check().unwrap(), layout);
    learner
        .learn(
            Row {
                ids: &[7],
                numbers: &[],
            },
            Label::yes_or_no(true),
        )
        .unwrap();
    assert_eq!(
        learner.predict_row(Row {
            ids: &[7],
            numbers: &[]
        }),
        0.5
    );
}

#[test]
fn unchecked_parameters_and_foreign_rows_are_refused() {
    let layout = Layout {
        slots: 1,
        numbers: 0,
        crosses: 0,
    };
    let dataset = |layout| linfa::DatasetBase::new(Rows::new(layout), Vec::<Label>::new());
    let fit = |params: Params, layout| -> Result<Learner, LearnError> {
        let learner = Params::new(Update::Ftrl)
            .bits(4)
            .check()
            .map(|params| Learner::new(params, layout))?;
        params.fit_with(
            Some(learner),
            &dataset(Layout {
                slots: 1,
                numbers: 0,
                crosses: 0,
            }),
        )
    };
    assert!(fit(Params::new(Update::Ftrl).bits(4), layout).is_ok());
    assert!(matches!(
        fit(Params::new(Update::Ftrl).rate(0.0), layout),
        Err(LearnError::Params(_))
    ));
    let other = Layout {
        slots: 2,
        numbers: 1,
        crosses: 0,
    };
    assert!(matches!(
        fit(Params::new(Update::Ftrl).bits(4), other),
        Err(LearnError::Layout { .. })
    ));
}

impl Learner {
    /// Returns the weight of a row's number and 1 / its standard deviation, for the check of the gradient; `None` for
    /// a blend, which has several.
    pub(crate) fn number_weight(&self, row: Row<'_>, number: usize) -> Option<(f64, f64)> {
        each!(&self.model,
            linear => {
                let weight = f64::from(linear.weight(row.ids[number]));
                Some((weight, linear.scale(number).inverse))
            },
            _blend => None)
    }
}

/// Learns three classes that one category tells apart; returns the mean log loss of the last half.
fn loss_of_separable_classes(update: Update) -> f64 {
    let layout = Layout {
        slots: 3,
        numbers: 1,
        crosses: 0,
    };
    let params = Params::new(update).loss(Loss::Softmax(3)).check().unwrap();
    let mut learner = Learner::new(params, layout);
    let mut sum = 0.0;
    for at in 0..3000_u32 {
        let draw = at.wrapping_mul(2_654_435_761) >> 8;
        let row = Row {
            ids: &[7, 100 + draw % 3, 200 + at % 5],
            numbers: &[f64::from(at % 11)],
        };
        let loss = learner.learn(row, Label::new(f64::from(draw % 3))).unwrap();
        if 1500 <= at {
            sum += loss.0 / 1500.0;
        }
    }
    sum
}

#[test]
fn classes_that_are_told_apart_are_told_with_confidence() {
    for (update, most) in [
        (Update::Blend, 1e-5),
        (Update::Coin, 0.001),
        (Update::Sgd, 0.02),
        (Update::Adagrad, 0.05),
        (Update::Normalised, 0.05),
        (Update::Ftrl, 0.1),
    ] {
        let loss = loss_of_separable_classes(update);
        assert!(loss < most, "{update:?}: {loss} of {}", 3_f64.ln());
    }
}

#[test]
fn a_class_that_is_undone_is_as_if_it_had_never_been_said() {
    let layout = Layout {
        slots: 1,
        numbers: 0,
        crosses: 0,
    };
    for update in [Update::Blend, Update::Adagrad, Update::Sgd] {
        let params = Params::new(update).loss(Loss::Softmax(3)).check().unwrap();
        let mut learner = Learner::new(params, layout);
        let row = Row {
            ids: &[7],
            numbers: &[],
        };
        let mut told = [0.0; 3];
        for at in 0..6000_u32 {
            // Half of the events are of class 1, half of class 2; one in four is said to be of class 0 at first.
            let class = 1 + (at.wrapping_mul(2_654_435_761) >> 16 & 1);
            if at % 4 == 0 {
                learner.learn(row, Label::new(0.0)).unwrap();
            }
            let label = Label {
                undone: (at % 4 == 0).then_some(0.0),
                ..Label::new(f64::from(class))
            };
            learner.learn(row, label).unwrap();
            if 3000 <= at {
                let now = learner.predict_classes(row);
                told.iter_mut()
                    .zip(now)
                    .for_each(|(sum, now)| *sum += now / 3000.0);
            }
        }
        assert!(told[0] < 0.08, "{update:?} {told:?}");
        assert!((told[1] - told[2]).abs() < 0.1, "{update:?} {told:?}");
    }
}
