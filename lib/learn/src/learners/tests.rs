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
