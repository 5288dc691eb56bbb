//! A learner's parameters as lines of a snapshot's metadata.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use schemas::contract::{Crosses, Loss, Schedule, Update};

use crate::learners::{CheckedParams, Params};

/// Most classes that a model can tell apart: their numbers have 16 bits.
const CLASSES_MAX: f64 = u16::MAX as f64;

const UPDATES: [(&str, Update); 6] = [
    ("adagrad", Update::Adagrad),
    ("ftrl", Update::Ftrl),
    ("sgd", Update::Sgd),
    ("normalised", Update::Normalised),
    ("coin", Update::Coin),
    ("blend", Update::Blend),
];

const SCHEDULES: [(&str, Schedule); 3] = [
    ("constant", Schedule::Constant),
    ("root", Schedule::Root),
    ("inverse", Schedule::Inverse),
];

const CROSSES: [(&str, Crosses); 2] = [("none", Crosses::None), ("auto", Crosses::Auto)];

/// Returns the lines of parameters.
pub(super) fn write(params: &CheckedParams) -> String {
    let CheckedParams {
        loss,
        update,
        bits,
        rate,
        l1,
        l2,
        schedule,
        crosses,
    } = *params;
    let (loss, parameter) = loss_words(loss);
    let mut text = String::new();
    let name = |found: Option<&'static str>| found.unwrap_or_default();
    let _ = writeln!(text, "loss={loss}");
    if let Some(parameter) = parameter {
        let _ = writeln!(text, "loss_parameter={parameter}");
    }
    let _ = writeln!(text, "update={}", name(word(&UPDATES, update)));
    let _ = writeln!(text, "bits={bits}\nrate={rate}\nl1={l1}\nl2={l2}");
    let _ = writeln!(text, "schedule={}", name(word(&SCHEDULES, schedule)));
    let _ = writeln!(text, "crosses={}", name(word(&CROSSES, crosses)));
    text
}

/// Reads the lines of parameters; returns the key of one that is wrong.
pub(super) fn read(lines: &BTreeMap<String, String>) -> Result<Params, &'static str> {
    let line = |key: &str| lines.get(key).map(String::as_str);
    let update = meaning(&UPDATES, line("update").unwrap_or_default()).ok_or("update")?;
    let bits = line("bits")
        .and_then(|bits| bits.parse().ok())
        .ok_or("bits")?;
    let number = |key: &'static str| {
        line(key)
            .and_then(|text| text.parse::<f64>().ok())
            .ok_or(key)
    };
    let params = Params::new(update).bits(bits).rate(number("rate")?);
    let params = params.l1(number("l1")?).l2(number("l2")?);
    // The first snapshots had one loss, and neither schedule nor crosses.
    let Some(loss) = line("loss") else {
        return Ok(params);
    };
    let parameter = |sound: fn(f64) -> bool| {
        let found = number("loss_parameter")?;
        sound(found).then_some(found).ok_or("loss_parameter")
    };
    let inside = |quantile| 0.0 < quantile && quantile < 1.0;
    let positive = |deviations: f64| 0.0 < deviations && deviations.is_finite();
    let classes = |classes: f64| (1.0..=CLASSES_MAX).contains(&classes) && classes.fract() == 0.0;
    let loss = match loss {
        "logistic" => Loss::Logistic,
        "squared" => Loss::Squared,
        "absolute" => Loss::Absolute,
        "quantile" => Loss::Quantile(parameter(inside)?),
        "huber" => Loss::Huber(parameter(positive)?),
        "poisson" => Loss::Poisson,
        "hinge" => Loss::Hinge,
        "softmax" => Loss::Softmax(parameter(classes)? as u16),
        _ => return Err("loss"),
    };
    let schedule = meaning(&SCHEDULES, line("schedule").unwrap_or_default()).ok_or("schedule")?;
    let crosses = meaning(&CROSSES, line("crosses").unwrap_or_default()).ok_or("crosses")?;
    Ok(params.loss(loss).schedule(schedule).crosses(crosses))
}

fn loss_words(loss: Loss) -> (&'static str, Option<f64>) {
    match loss {
        Loss::Logistic => ("logistic", None),
        Loss::Squared => ("squared", None),
        Loss::Absolute => ("absolute", None),
        Loss::Quantile(quantile) => ("quantile", Some(quantile)),
        Loss::Huber(deviations) => ("huber", Some(deviations)),
        Loss::Poisson => ("poisson", None),
        Loss::Hinge => ("hinge", None),
        Loss::Softmax(classes) => ("softmax", Some(f64::from(classes))),
    }
}

fn word<T: Copy + PartialEq>(words: &[(&'static str, T)], meaning: T) -> Option<&'static str> {
    let found = words.iter().find(|(_, other)| *other == meaning);
    found.map(|(word, _)| *word)
}

fn meaning<T: Copy>(words: &[(&'static str, T)], word: &str) -> Option<T> {
    let found = words.iter().find(|(other, _)| *other == word);
    found.map(|(_, meaning)| *meaning)
}
