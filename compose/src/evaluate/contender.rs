//! One learner on its way through the file: it predicts each event, and learns its label when that is due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use anyhow::Result;
use learn::features::{Layout, Row, Rows};
use learn::learners::{CheckedParams, Label, Learner, Opinions, Params};
use learn::metrics::{Board, Classes, Errors, Mark, Quality, Told};
use linfa::traits::FitWith;
use linfa::{DatasetBase, ParamGuard};
use schemas::contract::{self, Contract, LabelType, Loss, Revised};
use trainer::input::mark;
use trainer::revise::correct;

use super::input::{Chunk, NO, Outcome};
use super::{Figures, Labels, Placed, Point};

/// Events that are learned in one go where labels come at once; how many makes no difference to what is learned.
const MICRO_BATCH: usize = 256;

/// A learner, what it said so far, and what it waits for.
pub(super) struct Contender {
    name: String,
    contract: contract::Learner,
    params: CheckedParams,
    /// Lent to a fit only.
    learner: Option<Learner>,
    judge: Judge,
    waiting: Waiting,
    learns_revised: bool,
    cpu: Duration,
}

impl Contender {
    pub(super) fn new(
        name: &str,
        learner: &contract::Learner,
        label: &contract::Label,
        layout: Layout,
        judge: Judge,
    ) -> Result<Contender> {
        let params = Params::of(learner).check()?;
        Ok(Contender {
            name: name.to_owned(),
            contract: learner.clone(),
            params,
            learner: Some(Learner::new(params, layout)),
            judge,
            waiting: Waiting::new(layout),
            learns_revised: label.revised == Revised::Learn,
            cpu: Duration::ZERO,
        })
    }

    /// Takes the next events.
    pub(super) fn take(&mut self, chunk: &Chunk, labels: Labels) -> Result<()> {
        let before = thread_cpu();
        match labels {
            Labels::AtOnce => self.at_once(chunk)?,
            Labels::AtArrival => self.at_arrival(chunk)?,
        }
        self.cpu += thread_cpu().saturating_sub(before);
        Ok(())
    }

    fn at_once(&mut self, chunk: &Chunk) -> Result<()> {
        let labelled = chunk.outcomes.iter().enumerate();
        let labelled: Vec<(usize, f64, i64)> = labelled
            .filter_map(|(at, outcome)| {
                let (value, known) = outcome.label?;
                Some((at, value, known))
            })
            .collect();
        for part in labelled.chunks(MICRO_BATCH) {
            let mut rows = Rows::with_capacity(chunk.rows.layout(), part.len());
            part.iter()
                .for_each(|(at, ..)| rows.push(chunk.rows.row(*at)));
            let targets = part.iter();
            let targets = targets.map(|(_, value, _)| weighed(&self.contract, *value));
            let dataset = DatasetBase::new(rows, targets.collect());
            let learner = self.params.fit_with(self.learner.take(), &dataset)?;
            for (place, (at, value, known)) in part.iter().enumerate() {
                let predicted = learner.tested()[place];
                let told = match learner.likeliest().get(place) {
                    Some(likeliest) => Told::Class(predicted, *likeliest),
                    None => Told::Value(predicted),
                };
                let mark = mark(&chunk.slices, *at, &mut self.judge.board);
                self.judge.observe(told, *value, *known, mark);
            }
            self.learner = Some(learner);
        }
        Ok(())
    }

    fn at_arrival(&mut self, chunk: &Chunk) -> Result<()> {
        let Some(mut learner) = self.learner.take() else {
            return Ok(());
        };
        for (at, (row, outcome)) in chunk.rows.iter().zip(&chunk.outcomes).enumerate() {
            let Outcome {
                time,
                label,
                assumed,
            } = *outcome;
            while let Some(slot) = self.waiting.due(time) {
                let next = self.waiting.next(time);
                learner.expect(next.map_or(row, |slot| self.waiting.rows.row(slot)));
                self.arrived(slot, &mut learner)?;
            }
            if let Some((value, known)) = label {
                let foreseen = learner.foresee(row);
                let told = match self.judge.kind {
                    LabelType::Class => told_class(&learner.predict_classes(row), value),
                    _ => Told::Value(learner.predict_foreseen(row, foreseen)),
                };
                let mark = mark(&chunk.slices, at, &mut self.judge.board);
                self.judge.observe(told, value, known, mark);
                let waits = Waits {
                    next: assumed.map_or(Next::Label, |_| Next::No),
                    value,
                    known,
                    foreseen,
                };
                self.waiting.add(row, waits, assumed.unwrap_or(known));
            }
        }
        self.learner = Some(learner);
        Ok(())
    }

    /// Learns, as the trainer does, what became known of a row that waited.
    fn arrived(&mut self, slot: usize, learner: &mut Learner) -> Result<()> {
        let (row, waits) = (self.waiting.rows.row(slot), self.waiting.waits[slot]);
        let label = match waits.next {
            Next::Label => weighed(&self.contract, waits.value),
            Next::No => weighed(&self.contract, NO),
            Next::Revision => {
                let told = learner.predict_classes(row);
                correct(&self.contract, &told, NO, waits.value)
            }
        };
        let foreseen = waits.foreseen;
        learner.learn(row, Label { foreseen, ..label })?;
        if waits.next == Next::No && waits.value != NO && self.learns_revised {
            self.waiting.wait_on(slot);
        } else {
            self.waiting.free.push(slot);
        }
        Ok(())
    }

    /// Returns what it came to.
    pub(super) fn figures(&self) -> Figures {
        let examples = self.judge.seen.1;
        let seconds = self.cpu.as_secs_f64();
        Figures {
            name: self.name.clone(),
            examples,
            quality: self.judge.all.quality.summary(),
            errors: self.judge.all.errors.summary(),
            classes: self.judge.all.classes.summary(),
            cpu_seconds: seconds,
            examples_per_cpu_second: if 0.0 < seconds {
                examples as f64 / seconds
            } else {
                0.0
            },
            model_bytes: self.learner.as_ref().map_or(0, Learner::bytes),
            curve: self.judge.curve.clone(),
            places: places(&self.judge.board),
        }
    }
}

/// Returns the probability of the class that came, and whether it was the likeliest.
fn told_class(probabilities: &[f64], value: f64) -> Told {
    let told = probabilities.get(value as usize).copied().unwrap_or(0.0);
    Told::Class(told, probabilities.iter().all(|other| *other <= told))
}

/// Returns the figures of all windows but the whole, and of all slices.
fn places(board: &Board) -> Vec<Placed> {
    let figures = board.figures();
    let part = figures.filter(|(place, _)| place.slice.is_some() || place.window != "all");
    part.map(|(place, figures)| Placed {
        slice: place
            .slice
            .map(|(field, value)| (field.to_owned(), value.to_owned())),
        window: place.window,
        figures,
    })
    .collect()
}

/// Makes a label that counts as much as the contract says.
fn weighed(learner: &contract::Learner, value: f64) -> Label {
    Label {
        weight: learner.weight(value),
        ..Label::new(value)
    }
}

/// Rows whose labels are not known yet.
struct Waiting {
    /// When something becomes known of each, in order of arrival where that is the same, and its slot.
    due: BinaryHeap<Reverse<(i64, u64, usize)>>,
    rows: Rows,
    waits: Vec<Waits>,
    free: Vec<usize>,
    added: u64,
}

/// What is known of a row that waits.
#[derive(Clone, Copy)]
struct Waits {
    next: Next,
    /// Its label.
    value: f64,
    /// When that becomes known.
    known: i64,
    /// What the learner's experts said of it when it came.
    foreseen: Option<Opinions>,
}

/// What a row waits for.
#[derive(Clone, Copy, PartialEq)]
enum Next {
    /// Its label.
    Label,
    /// To be taken for no.
    No,
    /// The yes that comes after that.
    Revision,
}

impl Waiting {
    fn new(layout: Layout) -> Waiting {
        Waiting {
            due: BinaryHeap::new(),
            rows: Rows::new(layout),
            waits: Vec::new(),
            free: Vec::new(),
            added: 0,
        }
    }

    fn add(&mut self, row: Row<'_>, waits: Waits, due: i64) {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.rows.replace(slot, row);
                self.waits[slot] = waits;
                slot
            }
            None => {
                self.rows.push(row);
                self.waits.push(waits);
                self.waits.len() - 1
            }
        };
        self.push(slot, due);
    }

    /// Lets a row that was taken for no wait for its yes.
    fn wait_on(&mut self, slot: usize) {
        let waits = &mut self.waits[slot];
        waits.next = Next::Revision;
        let known = waits.known;
        self.push(slot, known);
    }

    fn push(&mut self, slot: usize, due: i64) {
        self.due.push(Reverse((due, self.added, slot)));
        self.added += 1;
    }

    /// Returns the slot of the next row of which something is known by a time.
    fn next(&self, time: i64) -> Option<usize> {
        let Reverse((due, _, slot)) = *self.due.peek()?;
        (due <= time).then_some(slot)
    }

    /// Takes the next row of which something is known by a time; whoever does lets it wait on or frees its slot.
    fn due(&mut self, time: i64) -> Option<usize> {
        let slot = self.next(time)?;
        self.due.pop();
        Some(slot)
    }
}

/// Holds predictions against what became of the events.
#[derive(Clone)]
pub(super) struct Judge {
    kind: LabelType,
    board: Board,
    all: Sums,
    /// Since the last point of the curve.
    window: Sums,
    fresh: Sums,
    /// Examples between two points.
    every: u64,
    /// Sum and count of labels so far, for what one would say without a model; and how often each class came.
    seen: (f64, u64),
    classes_seen: Vec<u64>,
    curve: Vec<Point>,
}

#[derive(Clone)]
struct Sums {
    quality: Quality,
    errors: Errors,
    classes: Classes,
}

impl Judge {
    /// Makes a judge of predictions of a label, whose curve has a point for `every` so many examples.
    pub(super) fn new(contract: &Contract, label: &contract::Label, every: u64) -> Judge {
        let quantile = match contract.learner.loss {
            Loss::Quantile(quantile) => quantile,
            _ => 0.5,
        };
        let sums = Sums {
            quality: Quality::new(contract.decision.threshold),
            errors: Errors::new(quantile),
            classes: Classes::default(),
        };
        Judge {
            kind: label.kind,
            board: Board::new(contract, label),
            classes_seen: vec![0; label.classes.len()],
            all: sums.clone(),
            window: sums.clone(),
            fresh: sums,
            every: every.max(1),
            seen: (0.0, 0),
            curve: Vec::new(),
        }
    }

    fn observe(&mut self, told: Told, value: f64, known: i64, mark: Mark) {
        self.board.observe(told, value, known, mark);
        let (sum, count) = self.seen;
        match (self.kind, told) {
            (LabelType::Bool, Told::Value(predicted)) => {
                let base = (sum + 0.5) / (count as f64 + 1.0);
                for sums in [&mut self.all, &mut self.window] {
                    sums.quality.observe(predicted, value == 1.0, base);
                }
            }
            (LabelType::Number, Told::Value(predicted)) => {
                let base = if count == 0 { 0.0 } else { sum / count as f64 };
                for sums in [&mut self.all, &mut self.window] {
                    sums.errors.observe(predicted, value, base);
                }
            }
            (LabelType::Class, Told::Class(predicted, likeliest)) => {
                let classes = self.classes_seen.len() as f64;
                let Some(seen) = self.classes_seen.get_mut(value as usize) else {
                    return;
                };
                let base = (*seen as f64 + 1.0) / (count as f64 + classes);
                *seen += 1;
                for sums in [&mut self.all, &mut self.window] {
                    sums.classes.observe(predicted, likeliest, base);
                }
            }
            _ => return,
        }
        self.count(value);
    }

    fn count(&mut self, value: f64) {
        let (sum, count) = self.seen;
        self.seen = (sum + value, count + 1);
        if self.seen.1.is_multiple_of(self.every) {
            self.mark();
        }
    }

    /// Adds a point to the curve.
    fn mark(&mut self) {
        let window = &self.window;
        let figures = if let Some(quality) = window.quality.summary() {
            (quality.log_loss, quality.base_log_loss)
        } else if let Some(errors) = window.errors.summary() {
            (errors.rmse, errors.base_rmse)
        } else if let Some(classes) = window.classes.summary() {
            (classes.log_loss, classes.base_log_loss)
        } else {
            return;
        };
        self.curve.push(Point {
            examples: self.seen.1,
            loss: figures.0,
            base: figures.1,
        });
        self.window = self.fresh.clone();
    }
}

/// Returns the CPU time of this thread.
fn thread_cpu() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a local.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    if done != 0 {
        return Duration::ZERO;
    }
    Duration::new(
        time.tv_sec.max(0) as u64,
        time.tv_nsec.clamp(0, 999_999_999) as u32,
    )
}
