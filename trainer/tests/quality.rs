//! Each version says how well the model predicted, in the figures that fit its labels; versions that say nothing, from
//! before there were such figures, are made anew as they were published.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "crashes need more of it")]
mod support;

use learn::features::{Layout, Row};
use schemas::model::{Prequential, Update};
use schemas::{Contract, Offset};
use support::{MemoryBroker, Run, contract_of, fill_with, learned, model};
use trainer::DeadEnds;
use trainer::checkpoint;
use trainer::fit::Fitter;
use trainer::input::{Body, Part};
use trainer::join::{EventId, KnownLabel};
use worker::Stage;

const NUMBER: &str = "type = \"number\"";
const CLASS: &str = "type = \"class\"\nclasses = [\"a\", \"b\", \"c\"]";

const LAYOUT: Layout = Layout {
    slots: 1,
    numbers: 0,
    crosses: 0,
};

const MINUTE: i64 = 60_000_000;

fn fitter(contract: &Contract) -> Fitter {
    Fitter::new(contract, contract.label.as_ref().unwrap(), LAYOUT).unwrap()
}

/// Takes an event a minute with its label, from one on; tells of each what was predicted just before.
fn play(fitter: &mut Fitter, events: std::ops::Range<i64>, told: &mut dyn FnMut(Vec<f64>, f64)) {
    for at in events {
        let id = EventId::of(format!("e{at}").as_bytes());
        let (ids, outcome) = ([at as u32 % 5], (at * 7 % 3) as f64);
        let row = Row {
            ids: &ids,
            numbers: &[],
        };
        for mut part in [Part::events(LAYOUT), Part::labels()] {
            (part.first, part.last) = (Offset(at), Offset(at));
            part.message = Offset(at);
            part.offsets.push(at);
            part.ids.push(id);
            match &mut part.body {
                Body::Events(times, rows) => {
                    times.push(at * MINUTE);
                    rows.push(row);
                }
                Body::Labels(labels) => {
                    labels.push(KnownLabel {
                        outcome,
                        time: at * MINUTE + 1,
                    });
                    told(fitter.learner().unwrap().predict_classes(row), outcome);
                }
            }
            fitter.take(&part, part.last, u64::MAX).unwrap();
        }
    }
}

fn close(found: f64, expected: f64) -> bool {
    (found - expected).abs() < 1e-9
}

#[test]
fn of_numbers_it_is_their_errors() {
    let mut fitter = fitter(&contract_of(NUMBER));
    let mut errors = Vec::new();
    play(&mut fitter, 0..300, &mut |told, outcome| {
        errors.push(told[0] - outcome)
    });
    let mean = |of: fn(f64) -> f64| errors.iter().map(|error| of(*error)).sum::<f64>() / 300.0;
    let Prequential::Numbers {
        labels,
        rmse,
        base_rmse,
        mae,
        quantile_loss,
    } = fitter.advance().unwrap().prequential
    else {
        panic!("figures of numbers")
    };
    assert_eq!(labels, 300);
    assert!(close(rmse, mean(|error| error * error).sqrt()), "{rmse}");
    assert!(close(mae, mean(f64::abs)), "{mae}");
    assert!(close(quantile_loss, mae / 2.0), "{quantile_loss}");
    assert!((0.8..0.9).contains(&base_rmse), "{base_rmse}");
}

#[test]
fn of_classes_it_is_their_log_loss_and_accuracy() {
    let mut fitter = fitter(&contract_of(CLASS));
    let (mut losses, mut right) = (0.0, 0.0);
    play(&mut fitter, 0..300, &mut |told, outcome| {
        let came = told[outcome as usize];
        losses -= came.ln();
        right += f64::from(u8::from(told.iter().all(|other| *other <= came)));
    });
    let Prequential::Classes {
        labels,
        log_loss,
        base_log_loss,
        accuracy,
    } = fitter.advance().unwrap().prequential
    else {
        panic!("figures of classes")
    };
    assert_eq!(labels, 300);
    assert!(close(log_loss, losses / 300.0), "{log_loss}");
    assert!(close(accuracy, right / 300.0), "{accuracy}");
    assert!((1.09..1.13).contains(&base_log_loss), "{base_log_loss}");
}

#[test]
fn a_checkpoint_at_any_moment_changes_no_figure() {
    for kind in [NUMBER, CLASS] {
        let contract = contract_of(kind);
        let mut whole = fitter(&contract);
        play(&mut whole, 0..60, &mut |_, _| {});
        let expected = whole.advance().unwrap();
        for cut in (0..60).step_by(7) {
            let mut begun = fitter(&contract);
            play(&mut begun, 0..cut, &mut |_, _| {});
            let bytes = checkpoint::encode(&begun, Offset(0), &DeadEnds::new()).unwrap();
            let label = contract.label.as_ref().unwrap();
            let mut restored = checkpoint::decode(&contract, label, LAYOUT, &bytes)
                .unwrap()
                .fitter;
            play(&mut restored, cut..60, &mut |_, _| {});
            let found = restored.advance().unwrap();
            assert_eq!(found.prequential, expected.prequential, "{kind} {cut}");
        }
    }
}

/// Returns versions as trainers published them that knew figures of yes and no alone.
fn without_figures(updates: &[Update], root: schemas::Digest) -> Vec<Update> {
    let mut parent = root;
    let before = |update: &Update| {
        let older = Update {
            parent,
            prequential: Prequential::default(),
            ..update.clone()
        };
        parent = older.digest();
        older
    };
    updates.iter().map(before).collect()
}

#[tokio::test]
async fn versions_that_said_nothing_are_made_anew_and_followed_by_those_that_do() {
    let contract = contract_of(NUMBER);
    let (broker, place) = (MemoryBroker::new(5), tempfile::tempdir().unwrap());
    fill_with(
        &broker,
        &contract,
        120,
        7,
        |late| if late { "7.5" } else { "-2" },
    );
    let mut run = Run::start_with(contract.clone(), &broker, place.path())
        .await
        .unwrap();
    run.take(&broker, 5).await.unwrap();
    run.drain().await.unwrap();
    let updates = broker.updates();
    let older = without_figures(&updates, contract.digest());
    assert!(3 < older.len());
    let kept = older.len() / 2;
    broker.truncate(&model(), 0);
    for message in older[..kept].iter().flat_map(Update::to_messages) {
        broker.push(&model(), &message, &[]);
    }
    // Every version is made anew from the root, and compared by digest.
    let place = tempfile::tempdir().unwrap();
    let mut run = Run::start_with(contract, &broker, place.path())
        .await
        .unwrap();
    run.take(&broker, 5).await.unwrap();
    run.trainer.drain(&support::inputs()).await.unwrap();
    let found = broker.updates();
    assert_eq!(found[..kept], older[..kept]);
    let labels = |update: &Update| update.prequential.labels();
    assert_eq!(found.last().map(labels), Some(learned(120)));
    assert!(matches!(
        found.last().unwrap().prequential,
        Prequential::Numbers { .. }
    ));
    // And so is a chain of both kinds.
    let place = tempfile::tempdir().unwrap();
    let contract = contract_of(NUMBER);
    Run::start_with(contract, &broker, place.path())
        .await
        .unwrap();
    assert_eq!(broker.updates(), found);
}
