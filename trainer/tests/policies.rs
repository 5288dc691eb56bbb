//! What the contract says of labels: revised ones, events without any, and how much each counts.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use learn::features::{Layout, Row};
use schemas::model::Input;
use schemas::{Contract, Offset};
use trainer::DeadEnds;
use trainer::checkpoint;
use trainer::fit::Fitter;
use trainer::input::{Body, Part};
use trainer::join::{EventId, KnownLabel};

const LAYOUT: Layout = Layout {
    slots: 1,
    numbers: 0,
    crosses: 0,
};

/// The one feature.
const ROW: Row<'_> = Row {
    ids: &[77],
    numbers: &[],
};

const SECOND: i64 = 1_000_000;

fn contract(label: &str, learner: &str) -> Contract {
    let fields = r#"
version = 1
[stream]
name = "s"
[event]
id = "id"
time = "at"
[[fields]]
id = 1
name = "id"
type = "string"
presence = "required"
[[fields]]
id = 2
name = "at"
type = "timestamp"
presence = "required"
[[features]]
kind = "category"
of = "id"
"#;
    let label = format!("[label]\nname = \"y\"\nevent = \"id\"\ntime = \"known\"\n{label}\n");
    let learner = format!("[learner]\nbits = 10\n{learner}\n");
    Contract::parse("s.toml", &format!("{fields}{label}{learner}")).unwrap()
}

/// What comes, in this order.
#[derive(Clone, Copy, Debug)]
enum Step {
    Event(u32, i64),
    Label(u32, f64, i64),
}

/// Makes one part of one step.
fn part(step: Step, offsets: &mut [i64; 2]) -> Part {
    let mut part = match step {
        Step::Event(..) => Part::events(LAYOUT),
        Step::Label(..) => Part::labels(),
    };
    let offset = &mut offsets[usize::from(part.input == Input::Labels)];
    (part.first, part.last) = (Offset(*offset), Offset(*offset));
    part.message = Offset(*offset);
    part.offsets.push(*offset);
    *offset += 1;
    let id = match (step, &mut part.body) {
        (Step::Event(id, time), Body::Events(times, rows)) => {
            times.push(time);
            rows.push(ROW);
            id
        }
        (Step::Label(id, outcome, time), Body::Labels(labels)) => {
            labels.push(KnownLabel { outcome, time });
            id
        }
        _ => panic!("a part of the step's input"),
    };
    part.ids.push(EventId(u128::from(id) << 7));
    part
}

fn fitter(contract: &Contract) -> Fitter {
    Fitter::new(contract, contract.label.as_ref().unwrap(), LAYOUT).unwrap()
}

fn play(fitter: &mut Fitter, steps: impl IntoIterator<Item = Step>) {
    let mut offsets = [0; 2];
    for step in steps {
        let part = part(step, &mut offsets);
        fitter.take(&part, part.last, u64::MAX).unwrap();
    }
}

/// Returns what is told of the events in the last half of all steps, on average.
fn told(contract: &Contract, steps: impl IntoIterator<Item = Step>) -> f64 {
    let (mut fitter, mut offsets) = (fitter(contract), [0; 2]);
    let steps: Vec<Step> = steps.into_iter().collect();
    let (mut sum, mut count) = (0.0, 0.0);
    for (at, step) in steps.iter().enumerate() {
        let part = part(*step, &mut offsets);
        fitter.take(&part, part.last, u64::MAX).unwrap();
        if steps.len() / 2 <= at && part.input == Input::Clean {
            sum += fitter.learner().unwrap().predict_row(ROW);
            count += 1.0;
        }
    }
    sum / count
}

/// Says whether the label of an event is yes in the end: one in five, in no order.
fn is_yes(id: u32) -> bool {
    id.wrapping_mul(2_654_435_761) >> 16 & 0xff < 51
}

/// Events that are first said to be no, all of them; of one in five that is revised ten events later.
fn revised(count: u32) -> impl Iterator<Item = Step> {
    (0..count + 10).flat_map(move |at| {
        let time = i64::from(at) * SECOND;
        let known = (at < count).then_some([Step::Event(at, time), Step::Label(at, 0.0, time)]);
        let again = at.checked_sub(10).filter(|id| is_yes(*id));
        let again = again.map(|id| Step::Label(id, 1.0, time));
        known.into_iter().flatten().chain(again)
    })
}

#[test]
fn revised_labels_leave_the_model_calibrated_if_the_contract_wants_them() {
    let learned = told(&contract("revised = \"learn\"", ""), revised(8000));
    assert!((0.17..0.23).contains(&learned), "{learned}");
    let ignored = told(&contract("", ""), revised(8000));
    assert!(ignored < 0.01, "{ignored}");
}

#[test]
fn revised_numbers_and_classes_are_learned_too() {
    let steps = |before: f64, now: f64| {
        (0..3000).flat_map(move |at| {
            let time = i64::from(at) * SECOND;
            let first = if is_yes(at ^ 77) { before } else { now };
            [
                Step::Event(at, time),
                Step::Label(at, first, time),
                Step::Label(at, now + f64::from(at % 2), time),
            ]
        })
    };
    let number = |revised| contract(&format!("type = \"number\"\n{revised}"), "");
    // One in five is said to be 900 at first, and is 10 or 11 in truth.
    let mended = told(&number("revised = \"learn\""), steps(900.0, 10.0));
    assert!((0.0..25.0).contains(&mended), "{mended}");
    let ignored = told(&number(""), steps(900.0, 10.0));
    assert!((150.0..220.0).contains(&ignored), "{ignored}");
    let classes = "type = \"class\"\nclasses = [\"a\", \"b\", \"c\"]\nrevised = \"learn\"";
    let mut fitter = fitter(&contract(classes, ""));
    play(&mut fitter, steps(0.0, 1.0));
    let found = fitter.learner().unwrap().predict_classes(ROW);
    assert!(
        found[0] < 0.1 && (found[1] - found[2]).abs() < 0.15,
        "{found:?}"
    );
}

/// Events of which one in five gets a yes: soon, or (every third of them) after more than a minute. No is never said.
fn only_yes(count: u32) -> impl Iterator<Item = Step> {
    (0..count + 100).flat_map(move |at| {
        let time = i64::from(at) * SECOND;
        let event = (at < count).then_some(Step::Event(at, time));
        let after = |delay: u32, slow: bool| {
            let id = at.checked_sub(delay).filter(|id| *id < count)?;
            let due = is_yes(id) && (id % 3 == 0) == slow;
            due.then_some(Step::Label(id, 1.0, time))
        };
        event
            .into_iter()
            .chain(after(5, false))
            .chain(after(90, true))
    })
}

#[test]
fn events_without_a_label_are_no_if_the_contract_says_so() {
    let negative = "unlabelled = \"negative\"\nnegative_after = \"60s\"";
    let mended = told(
        &contract(&format!("{negative}\nrevised = \"learn\""), ""),
        only_yes(8000),
    );
    assert!((0.17..0.23).contains(&mended), "{mended}");
    // A third of yes comes too late to count.
    let hasty = told(&contract(negative, ""), only_yes(8000));
    assert!((0.10..0.17).contains(&hasty), "{hasty}");
    let waiting = told(&contract("", ""), only_yes(8000));
    assert!(0.9 < waiting, "that nothing came says nothing: {waiting}");
}

#[test]
fn weights_shift_the_odds() {
    let steps = || {
        (0..6000).flat_map(|at| {
            let (time, yes) = (i64::from(at) * SECOND, f64::from(u8::from(is_yes(at))));
            [Step::Event(at, time), Step::Label(at, yes, time)]
        })
    };
    let odds = |learner: &str| {
        let told = told(&contract("", learner), steps());
        told / (1.0 - told)
    };
    for update in ["", "update = \"adagrad\"\n", "update = \"sgd\"\n"] {
        let (plain, weighted) = (odds(update), odds(&format!("{update}positive_weight = 4")));
        let ratio = weighted / plain;
        assert!((3.0..5.3).contains(&ratio), "{update}: {plain} {weighted}");
    }
    let classes = "type = \"class\"\nclasses = [\"no\", \"yes\"]";
    let told = |learner: &str| {
        let mut fitter = fitter(&contract(classes, learner));
        play(&mut fitter, steps());
        let found = fitter.learner().unwrap().predict_classes(ROW);
        found[1] / found[0]
    };
    let ratio = told("class_weights = [1, 4]") / told("");
    assert!((3.0..5.3).contains(&ratio), "{ratio}");
}

#[test]
fn a_checkpoint_at_any_moment_changes_no_bit() {
    let policies = "revised = \"learn\"\nunlabelled = \"negative\"\nnegative_after = \"60s\"\n\
                    pending_max = 64";
    let contract = contract(policies, "positive_weight = 2");
    let steps: Vec<Step> = only_yes(300).collect();
    let mut offsets = [0; 2];
    let parts: Vec<Part> = steps.iter().map(|step| part(*step, &mut offsets)).collect();
    let take = |fitter: &mut Fitter, parts: &[Part]| {
        for part in parts {
            fitter.take(part, part.last, u64::MAX).unwrap();
        }
    };
    let mut whole = fitter(&contract);
    take(&mut whole, &parts);
    let expected = whole.advance().unwrap();
    let label = contract.label.as_ref().unwrap();
    for cut in (0..parts.len()).step_by(17) {
        let mut fitter = fitter(&contract);
        take(&mut fitter, &parts[..cut]);
        let bytes = checkpoint::encode(&fitter, Offset(0), &DeadEnds::new()).unwrap();
        let decoded = checkpoint::decode(&contract, label, LAYOUT, &bytes).unwrap();
        let mut restored = decoded.fitter;
        take(&mut restored, &parts[cut..]);
        let found = restored.advance().unwrap();
        assert_eq!(found.dense, expected.dense, "{cut}");
        assert_eq!(found.prequential, expected.prequential, "{cut}");
        assert_eq!(
            checkpoint::encode(&restored, Offset(0), &DeadEnds::new())
                .unwrap()
                .len(),
            checkpoint::encode(&whole, Offset(0), &DeadEnds::new())
                .unwrap()
                .len(),
        );
    }
}
