//! Evaluates learners on a file, without Kafka: each event is predicted first, and its label learned afterwards, at
//! once or when it became known.
//!
//! ```text
//! file ─► rows ─► JSON ─► clean ─► features ─┬─► learner: predict, judge, learn ─► figures
//!          (input)                           └─► learner …        (contender)
//! ```
//!
//! It is the path of live events: the same cleaning, the same features, the same learner. Nothing is written.

mod contender;
mod figures;
mod input;
mod page;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use learn::learners::Params;
use learn::metrics::{self, ClassSummary, ErrorSummary, Summary};
use linfa::ParamGuard;
use schemas::Contract;
use schemas::contract::{Crosses, Learner, Update};
use serde_json::Value;

use self::contender::{Contender, Judge};
pub use self::figures::{HEADINGS, PLACE_HEADINGS};
pub use self::input::Counts;
use self::input::Input;
pub use self::page::html;
use crate::produce::{Layout, Source};

/// Points of a curve, about.
const POINTS: u64 = 60;

/// Examples between two points where nobody knows how many there are.
const EVERY: u64 = 5000;

/// When labels are learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labels {
    /// Right after their events.
    AtOnce,
    /// When they became known.
    AtArrival,
}

/// What to evaluate.
#[derive(Clone, Debug)]
pub struct Options {
    /// When labels are learned.
    pub labels: Labels,
    /// Column that says when a label became known, if it is not the contract's.
    pub label_time_column: Option<String>,
    /// Whether every kind of learner is run beside the contract's.
    pub compare: bool,
    /// Rows at most.
    pub events_max: u64,
}

/// How good a stretch of predictions was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Examples up to its end.
    pub examples: u64,
    /// Log loss, or root of the mean squared error.
    pub loss: f64,
    /// The same without a model: always the base rate so far, or the mean.
    pub base: f64,
}

/// How good predictions of a part of the examples were.
#[derive(Clone, Debug)]
pub struct Placed {
    /// Field and value of the slice; `None` is all examples.
    pub slice: Option<(String, String)>,
    /// The window of stream time: the last full one of five minutes, an hour or a day, or all time.
    pub window: &'static str,
    /// The figures.
    pub figures: metrics::Figures,
}

/// What one learner came to.
#[derive(Clone, Debug)]
pub struct Figures {
    /// What it is called.
    pub name: String,
    /// Examples predicted.
    pub examples: u64,
    /// How good probabilities were.
    pub quality: Option<Summary>,
    /// How good numbers were.
    pub errors: Option<ErrorSummary>,
    /// How good probabilities of classes were.
    pub classes: Option<ClassSummary>,
    /// CPU time of predicting and learning alone, in seconds.
    pub cpu_seconds: f64,
    /// Examples predicted and learned in a CPU second.
    pub examples_per_cpu_second: f64,
    /// Memory of the model.
    pub model_bytes: usize,
    /// How good it was over time.
    pub curve: Vec<Point>,
    /// How good it was in parts.
    pub places: Vec<Placed>,
}

/// What an evaluation came to.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// When labels were learned.
    pub labels: Labels,
    /// What the file had.
    pub counts: Counts,
    /// The contract's learner, then those that it was compared with.
    pub learners: Vec<Figures>,
}

/// Evaluates; calls `progress` with the rows done and, where the file says, their number.
///
/// # Errors
/// A file that cannot be read, a contract without a label, or a label that is none.
pub fn evaluate(
    file: &Path,
    contract: &Arc<Contract>,
    options: &Options,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<Evaluation> {
    let label = contract.label.as_ref();
    let label = label.context("the contract has no [label]: there is nothing to learn")?;
    let layout = Layout {
        number_rows: true,
        ..Layout::of(contract, options.label_time_column.as_deref())
    };
    let source = Source::open(file, contract.clone(), layout)?;
    let mut input = Input::new(source, contract, label, options)?;
    let every = input.rows_total().map_or(EVERY, |rows| rows / POINTS);
    let judge = Judge::new(contract, label, every);
    let mut contenders = learners(contract, options.compare)
        .iter()
        .map(|(name, learner)| Contender::new(name, learner, label, input.layout(), judge.clone()))
        .collect::<Result<Vec<_>>>()?;
    while let Some(chunk) = input.next()? {
        for contender in &mut contenders {
            contender.take(&chunk, options.labels)?;
        }
        progress(input.counts.events, input.rows_total());
    }
    let learners: Vec<Figures> = contenders.iter().map(Contender::figures).collect();
    if learners.iter().all(|figures| figures.examples == 0) {
        bail!(
            "none of the {} rows is clean and has a label: {}",
            input.counts.events,
            why_none(&input.counts)
        );
    }
    Ok(Evaluation {
        labels: options.labels,
        counts: input.counts,
        learners,
    })
}

fn why_none(counts: &Counts) -> String {
    let dead: Vec<String> = counts
        .dead
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    format!("{} clean, refused: [{}]", counts.clean, dead.join(", "))
}

/// Returns the contract's learner, and those that it is compared with.
fn learners(contract: &Contract, compare: bool) -> Vec<(String, Learner)> {
    let own = &contract.learner;
    let mut learners = vec![(name(own.update).to_owned(), own.clone())];
    let others = [
        Update::Blend,
        Update::Ftrl,
        Update::Adagrad,
        Update::Normalised,
        Update::Coin,
        Update::Sgd,
    ];
    for update in others
        .into_iter()
        .filter(|update| compare && *update != own.update)
    {
        let crosses = match update {
            Update::Blend => Crosses::Auto,
            _ => own.crosses,
        };
        let learner = Learner {
            update,
            crosses,
            ..own.clone()
        };
        // Not every update knows every loss.
        if Params::of(&learner).check().is_ok() {
            learners.push((name(update).to_owned(), learner));
        }
    }
    learners
}

fn name(update: Update) -> &'static str {
    match update {
        Update::Adagrad => "adagrad",
        Update::Ftrl => "ftrl",
        Update::Sgd => "sgd",
        Update::Normalised => "normalised",
        Update::Coin => "coin",
        Update::Blend => "blend",
    }
}

impl Evaluation {
    /// Returns the evaluation for programs: the contract's learner at the top, the others in `compared`.
    pub fn json(&self) -> Value {
        let mut learners = self.learners.iter().map(Figures::json);
        let mut json = learners.next().unwrap_or_default();
        let labels = match self.labels {
            Labels::AtOnce => "at_once",
            Labels::AtArrival => "at_arrival",
        };
        json.insert("labels".to_owned(), labels.into());
        json.insert("rows".to_owned(), self.counts.events.into());
        json.insert("clean".to_owned(), self.counts.clean.into());
        json.insert("unlabelled".to_owned(), self.counts.unlabelled.into());
        json.insert("late".to_owned(), self.counts.late.into());
        json.insert("dead".to_owned(), serde_json::json!(self.counts.dead));
        let compared: Vec<Value> = learners.map(Value::Object).collect();
        if !compared.is_empty() {
            json.insert("compared".to_owned(), compared.into());
        }
        Value::Object(json)
    }
}
