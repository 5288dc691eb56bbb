//! The sections `[label]` and `[learner]`: what is to be learned, and how.
//!
//! Nothing of `[learner]` has to be written: the loss follows from the label's type, and the default update needs no
//! rate. What is written must fit together.

use std::time::Duration;

use serde::Serialize;

use super::parse::{NOT_NEGATIVE, POSITIVE, duration};
use super::walk::{At, Problems, Walk};

/// Most classes of a label.
const CLASSES_MAX: usize = 64;

/// Where labels come from.
#[derive(Clone, Debug, Serialize)]
pub struct Label {
    /// Field of the label message that carries the label.
    pub name: String,
    /// Type of the label.
    pub kind: LabelType,
    /// Field of the label message that carries the event's id.
    pub event: String,
    /// Field of the label message that says when the label became known.
    pub time: String,
    /// Event time after which an event waits no longer.
    pub wait_max: Duration,
    /// Events that wait for their label, at most.
    pub pending_max: usize,
    /// The classes of a label that is one of several, in the order of the contract.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// What a label does that comes again with another value.
    #[serde(skip_serializing_if = "Revised::is_ignored")]
    pub revised: Revised,
    /// What becomes of an event without a label.
    #[serde(skip_serializing_if = "Unlabelled::is_waiting")]
    pub unlabelled: Unlabelled,
}

/// What a label does that comes again with another value; with the same value it is never learned again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Revised {
    /// It is counted.
    Ignore,
    /// Its event is learned again, weighed so that what was learned before is undone too.
    Learn,
}

/// What becomes of an event without a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unlabelled {
    /// It waits until its room is needed, and is then counted: that it has no label says nothing.
    Wait,
    /// After so long in the time of the labels it is learned as no.
    Negative(Duration),
}

impl Revised {
    fn is_ignored(&self) -> bool {
        *self == Revised::Ignore
    }
}

impl Unlabelled {
    fn is_waiting(&self) -> bool {
        *self == Unlabelled::Wait
    }
}

/// Type of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelType {
    /// true or false, 1 or 0.
    Bool,
    /// A finite number.
    Number,
    /// One of the label's classes.
    Class,
}

/// How the model learns.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Learner {
    /// What is minimised.
    pub loss: Loss,
    /// How a weight moves.
    pub update: Update,
    /// The model has 2^bits weights.
    pub bits: u8,
    /// Learning rate (SGD's and AdaGrad's eta, FTRL's alpha).
    pub rate: f64,
    /// L1 strength.
    pub l1: f64,
    /// L2 strength.
    pub l2: f64,
    /// How the rate of SGD falls.
    #[serde(skip_serializing_if = "Schedule::is_constant")]
    pub schedule: Schedule,
    /// Which crosses are made beside those that the features name.
    #[serde(skip_serializing_if = "Crosses::is_none")]
    pub crosses: Crosses,
    /// How much an example counts whose label is no and yes, or each of the classes; empty if all count as one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<f64>,
}

/// What is minimised.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Log loss of a probability.
    Logistic,
    /// Half the squared error.
    Squared,
    /// The absolute error: its least is the median.
    Absolute,
    /// The pinball loss: its least is a quantile.
    Quantile(f64),
    /// Squared up to so many standard deviations of the label, absolute beyond.
    Huber(f64),
    /// Deviance of a count.
    Poisson,
    /// Distance on the wrong side of the margin.
    Hinge,
    /// Log loss of the probabilities of so many classes.
    Softmax(u16),
}

/// How a weight moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Update {
    /// AdaGrad (Duchi 2011).
    Adagrad,
    /// FTRL-Proximal (McMahan 2013).
    Ftrl,
    /// Stochastic gradient descent.
    Sgd,
    /// AdaGrad whose steps are free of the features' scale (Ross 2013).
    Normalised,
    /// Coin betting, which has no rate (Orabona 2017).
    Coin,
    /// Several learners on the same features, combined online; it has no rate.
    Blend,
}

/// How the rate of SGD falls with the number of examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// It does not.
    Constant,
    /// With the square root.
    Root,
    /// In proportion.
    Inverse,
}

/// Which crosses are made beside those that the features name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Crosses {
    /// None.
    None,
    /// All pairs of features when there are few, those of the most useful features when there are many.
    Auto,
}

impl Schedule {
    fn is_constant(&self) -> bool {
        *self == Schedule::Constant
    }
}

impl Crosses {
    fn is_none(&self) -> bool {
        *self == Crosses::None
    }
}

impl Learner {
    /// Returns how labels of a type are learned when the contract does not say; `classes` is how many there are.
    pub fn of(kind: LabelType, classes: u16) -> Learner {
        Learner {
            loss: default_loss(kind, classes),
            update: Update::Blend,
            bits: 18,
            rate: default_rate(Update::Blend),
            l1: 0.0,
            l2: 0.0,
            schedule: Schedule::Constant,
            crosses: Crosses::Auto,
            weights: Vec::new(),
        }
    }

    /// Returns how much an example with a label counts.
    pub fn weight(&self, label: f64) -> f64 {
        self.weights.get(label as usize).copied().unwrap_or(1.0)
    }
}

fn default_loss(kind: LabelType, classes: u16) -> Loss {
    match kind {
        LabelType::Bool => Loss::Logistic,
        LabelType::Number => Loss::Squared,
        LabelType::Class => Loss::Softmax(classes),
    }
}

fn default_rate(update: Update) -> f64 {
    match update {
        Update::Sgd => 0.05,
        Update::Adagrad | Update::Ftrl | Update::Normalised | Update::Coin | Update::Blend => 0.1,
    }
}

/// Takes the section `[label]`; `None` if there is none.
pub(super) fn label(mut walk: Walk, problems: &mut Problems) -> Option<Label> {
    if !walk.exists() {
        return None;
    }
    let name = walk.required_text("name", problems);
    let kinds = [
        ("bool", LabelType::Bool),
        ("number", LabelType::Number),
        ("class", LabelType::Class),
    ];
    let kind = walk.word("type", &kinds, Some(LabelType::Bool), problems);
    let classes = classes(&mut walk, kind, problems);
    let event = walk.required_text("event", problems);
    let time = walk.required_text("time", problems);
    let week = Duration::from_secs(7 * 86_400);
    let wait_max = duration(&mut walk, "wait_max", week, problems);
    let pending_max = walk.integer("pending_max", 1..(1 << 26) + 1, 1 << 17, problems) as usize;
    let words = [("ignore", Revised::Ignore), ("learn", Revised::Learn)];
    let revised = walk.word("revised", &words, Some(Revised::Ignore), problems);
    let unlabelled = unlabelled(&mut walk, kind, wait_max, problems);
    walk.finish(problems);
    let owned = |at: At<&str>| at.value.to_owned();
    let (name, event, time) = (owned(name?), owned(event?), owned(time?));
    Some(Label {
        name,
        kind: kind?,
        event,
        time,
        wait_max,
        pending_max,
        classes,
        revised: revised?,
        unlabelled,
    })
}

fn unlabelled(
    walk: &mut Walk,
    kind: Option<LabelType>,
    wait_max: Duration,
    problems: &mut Problems,
) -> Unlabelled {
    let span = |walk: &mut Walk, key| walk.value(key).map(toml::Spanned::span);
    let words = [("wait", false), ("negative", true)];
    let said = span(walk, "unlabelled");
    let negative = walk.word("unlabelled", &words, Some(false), problems);
    let after_said = span(walk, "negative_after");
    let after = duration(walk, "negative_after", wait_max, problems);
    match (negative, &after_said) {
        (Some(true), None) => walk.missing("negative_after", problems),
        (Some(false), Some(span)) => {
            let what = "`label.negative_after` where events without a label wait";
            problems.note(span, what, "remove it, or write unlabelled = \"negative\"");
        }
        _ => {}
    }
    if negative != Some(true) {
        return Unlabelled::Wait;
    }
    if kind.is_some_and(|kind| kind != LabelType::Bool) {
        let what = "`label.unlabelled` is \"negative\" on a label that is no bool";
        problems.note(&said.unwrap_or_default(), what, "write \"wait\"");
    }
    if wait_max < after {
        let what = "`label.negative_after` is longer than `label.wait_max`";
        let remedy = "no label counts that comes after `wait_max`: make it shorter";
        problems.note(&after_said.unwrap_or_default(), what, remedy);
    }
    Unlabelled::Negative(after)
}

fn classes(walk: &mut Walk, kind: Option<LabelType>, problems: &mut Problems) -> Vec<String> {
    let texts = walk.texts("classes", problems);
    let span = texts
        .first()
        .map_or(walk.span.clone(), |at| at.span.clone());
    match kind {
        Some(LabelType::Class) if !(2..=CLASSES_MAX).contains(&texts.len()) => {
            let what = format!("`label.classes` has {} classes", texts.len());
            let remedy = format!("write 2 to {CLASSES_MAX}, as `classes = [\"a\", \"b\"]`");
            problems.note(&span, what, remedy);
        }
        Some(LabelType::Bool | LabelType::Number) if !texts.is_empty() => {
            let what = "`label.classes` on a label that is no class";
            problems.note(&span, what, "remove it, or write type = \"class\"");
        }
        _ => {}
    }
    for (at, text) in texts.iter().enumerate() {
        if texts[..at].iter().any(|other| other.value == text.value) {
            let what = format!("`label.classes` has \"{}\" twice", text.value);
            problems.note(&text.span, what, "remove one");
        }
    }
    texts.iter().map(|at| at.value.to_owned()).collect()
}

/// Takes the section `[learner]`, which may be absent or empty.
pub(super) fn learner(mut walk: Walk, label: Option<&Label>, problems: &mut Problems) -> Learner {
    let kind = label.map_or(LabelType::Bool, |label| label.kind);
    let classes = label.map_or(0, |label| label.classes.len() as u16);
    let loss = loss(&mut walk, kind, classes, problems);
    let updates = [
        ("blend", Update::Blend),
        ("ftrl", Update::Ftrl),
        ("adagrad", Update::Adagrad),
        ("normalised", Update::Normalised),
        ("sgd", Update::Sgd),
        ("coin", Update::Coin),
    ];
    let update = walk.word("update", &updates, Some(Update::Blend), problems);
    let update = update.unwrap_or(Update::Blend);
    let bits_max = if update == Update::Blend { 24 } else { 28 };
    let bits = walk.integer("bits", 1..bits_max + 1, 18, problems) as u8;
    let rate = strength(&mut walk, "rate", update, POSITIVE, problems);
    let l1 = strength(&mut walk, "l1", update, NOT_NEGATIVE, problems);
    let l2 = strength(&mut walk, "l2", update, NOT_NEGATIVE, problems);
    let schedule = schedule(&mut walk, update, problems);
    let unsaid = match update {
        Update::Blend => Crosses::Auto,
        _ => Crosses::None,
    };
    let kinds = [("auto", Crosses::Auto), ("none", Crosses::None)];
    let crosses = walk.word("crosses", &kinds, Some(unsaid), problems);
    let weights = weights(&mut walk, kind, classes, problems);
    walk.finish(problems);
    Learner {
        loss,
        update,
        bits,
        rate: rate.unwrap_or(default_rate(update)),
        l1: l1.unwrap_or(0.0),
        l2: l2.unwrap_or(0.0),
        schedule,
        crosses: crosses.unwrap_or(unsaid),
        weights,
    }
}

/// Takes the weight of yes against no, or those of all classes.
fn weights(walk: &mut Walk, kind: LabelType, classes: u16, problems: &mut Problems) -> Vec<f64> {
    let sound: (&str, fn(f64) -> bool) = ("a number from 0.001 to 1000", |weight| {
        (0.001..=1000.0).contains(&weight)
    });
    let positive_span = walk.value("positive_weight").map(toml::Spanned::span);
    let positive = walk.number("positive_weight", sound, problems);
    let classes_span = walk.value("class_weights").map(toml::Spanned::span);
    let of_classes = walk.numbers("class_weights", sound, problems);
    if let Some(span) = positive_span.filter(|_| kind != LabelType::Bool) {
        let what = "`learner.positive_weight` on a label that is no bool";
        problems.note(&span, what, "remove it; classes have `class_weights`");
    }
    if let Some(span) = classes_span.filter(|_| of_classes.len() != usize::from(classes)) {
        let what = format!("`learner.class_weights` has {} weights", of_classes.len());
        let remedy = match kind {
            LabelType::Class => format!("write {classes}, in the order of `label.classes`"),
            _ => "remove it; the label is no class".to_owned(),
        };
        problems.note(&span, what, remedy);
    }
    match positive {
        Some(positive) if positive != 1.0 => vec![1.0, positive],
        _ if of_classes.iter().all(|weight| *weight == 1.0) => Vec::new(),
        _ => of_classes,
    }
}

/// Takes the loss and its parameter, and holds it against the label's type.
fn loss(walk: &mut Walk, label: LabelType, classes: u16, problems: &mut Problems) -> Loss {
    let losses = [
        ("logistic", Loss::Logistic),
        ("squared", Loss::Squared),
        ("absolute", Loss::Absolute),
        ("quantile", Loss::Quantile(0.5)),
        ("huber", Loss::Huber(1.0)),
        ("poisson", Loss::Poisson),
        ("hinge", Loss::Hinge),
        ("softmax", Loss::Softmax(classes)),
    ];
    let unsaid = default_loss(label, classes);
    let span = walk
        .value("loss")
        .map_or(walk.span.clone(), toml::Spanned::span);
    let loss = walk.word("loss", &losses, Some(unsaid), problems);
    let loss = loss.unwrap_or(unsaid);
    let inside = (
        "a number between 0 and 1",
        (|q| 0.0 < q && q < 1.0) as fn(f64) -> bool,
    );
    let quantile = parameter(
        walk,
        "quantile",
        inside,
        matches!(loss, Loss::Quantile(_)),
        problems,
    );
    let deviations = parameter(
        walk,
        "deviations",
        POSITIVE,
        matches!(loss, Loss::Huber(_)),
        problems,
    );
    let wanted = match loss {
        Loss::Logistic | Loss::Hinge => (LabelType::Bool, "bool"),
        Loss::Softmax(_) => (LabelType::Class, "class"),
        _ => (LabelType::Number, "number"),
    };
    if wanted.0 != label {
        let what = "`learner.loss` does not fit the label's type";
        let remedy = format!(
            "write type = \"{}\" in [label], or leave the loss out",
            wanted.1
        );
        problems.note(&span, what, remedy);
    }
    match loss {
        Loss::Quantile(unsaid) => Loss::Quantile(quantile.unwrap_or(unsaid)),
        Loss::Huber(unsaid) => Loss::Huber(deviations.unwrap_or(unsaid)),
        other => other,
    }
}

/// Takes a parameter that only one loss has.
fn parameter(
    walk: &mut Walk,
    key: &'static str,
    condition: (&str, fn(f64) -> bool),
    belongs: bool,
    problems: &mut Problems,
) -> Option<f64> {
    let span = walk.value(key).map(toml::Spanned::span);
    let number = walk.number(key, condition, problems);
    if let Some(span) = span.filter(|_| !belongs) {
        let what = format!("`learner.{key}` on a loss that has none");
        problems.note(&span, what, "remove it");
    }
    number
}

/// Takes a rate or strength, which the updates without a rate do not have.
fn strength(
    walk: &mut Walk,
    key: &'static str,
    update: Update,
    condition: (&str, fn(f64) -> bool),
    problems: &mut Problems,
) -> Option<f64> {
    let span = walk.value(key).map(toml::Spanned::span);
    let number = walk.number(key, condition, problems);
    let free = matches!(update, Update::Blend | Update::Coin);
    if let Some(span) = span.filter(|_| free && number.is_some()) {
        let what = format!("`learner.{key}` on an update that has none");
        problems.note(&span, what, "remove it, or name an update such as \"ftrl\"");
    }
    number
}

fn schedule(walk: &mut Walk, update: Update, problems: &mut Problems) -> Schedule {
    let kinds = [
        ("constant", Schedule::Constant),
        ("root", Schedule::Root),
        ("inverse", Schedule::Inverse),
    ];
    let span = walk.value("schedule").map(toml::Spanned::span);
    let schedule = walk.word("schedule", &kinds, Some(Schedule::Constant), problems);
    if let Some(span) = span.filter(|_| update != Update::Sgd) {
        let what = "`learner.schedule` on an update that is no SGD";
        problems.note(&span, what, "remove it, or write update = \"sgd\"");
    }
    schedule.unwrap_or(Schedule::Constant)
}
