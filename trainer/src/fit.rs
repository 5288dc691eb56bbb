//! The whole of learning as one value: events and labels go in, versions come out.
//!
//! It decides purely: the same parts taken in the same order make the same bits, wherever parts begin and end. All
//! of it is in a checkpoint.

use std::collections::BTreeMap;
use std::time::Duration;

use learn::learners::{self, CheckedParams, LearnError, Learner, Params, ParamsError};
use learn::metrics::{Board, Metrics, MetricsConfig, Told};
use learn::model::Lineage;
use linfa::ParamGuard;
use linfa::traits::FitWith;
use schemas::contract::{Label, Revised, Unlabelled};
use schemas::model::{Input, Prequential, Segment, Update};
use schemas::{Contract, Offset, Partition, TopicId};

use crate::cohorts::{AGES, Cohorts};
use crate::config::EARLY_LABELS_MIN;
use crate::input::{Body, Part};
use crate::join::{Join, KnownLabel, Limits, Pairs, Revision, Tally};
use crate::journal::Journal;
use crate::revise::correct;

/// Pairs that are learned in one go; how many makes no difference to what is learned.
const MICRO_BATCH: usize = 256;

/// Events or labels ahead of the one being taken that the join is told of.
const AHEAD: usize = 8;

/// Labels of the window of recent quality.
const RECENT_LABELS: u64 = 10_000;

/// How far one partition of one input was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The last offset taken: of the raw topic for events, of their own for labels.
    pub passed: Offset,
    /// The first message of the topic that is not wholly taken.
    pub message: Offset,
}

/// How far each partition of each input was taken.
pub type Positions = BTreeMap<(Input, Partition), Position>;

/// Everything that learning has come to.
pub struct Fitter {
    params: CheckedParams,
    contract: schemas::contract::Learner,
    /// `None` only after a failure to learn, which ends the process.
    learner: Option<Learner>,
    pub(crate) lineage: Lineage,
    pub(crate) metrics: Metrics,
    pub(crate) board: Board,
    pub(crate) join: Join,
    pub(crate) cohorts: Cohorts,
    pub(crate) positions: Positions,
    /// The raw topic that clean batches come from, once one was looked at.
    pub(crate) source: Option<TopicId>,
    pairs: Pairs,
    waited: Vec<i64>,
    journal: Journal,
    /// Pairs learned since the last version.
    learned: u64,
}

/// A failure to take what was read.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// The learner refuses.
    #[error(transparent)]
    Learn(#[from] LearnError),
    /// The learner refused before.
    #[error("the learner failed before")]
    Broken,
    /// Offsets are missing.
    #[error("offsets {expected} to {} are missing", found.0 - 1)]
    Gap {
        /// The offset that should come next.
        expected: Offset,
        /// The one that came.
        found: Offset,
    },
}

impl Fitter {
    /// Begins at version 0 of a contract's model.
    ///
    /// # Errors
    /// [`ParamsError`] if the contract's learner cannot be.
    pub fn new(
        contract: &Contract,
        label: &Label,
        layout: learn::features::Layout,
    ) -> Result<Fitter, ParamsError> {
        let params = Params::of(&contract.learner).check()?;
        Ok(Fitter {
            params,
            contract: contract.learner.clone(),
            learner: Some(Learner::new(params, layout)),
            lineage: Lineage::root(contract),
            metrics: Metrics::new(metrics_config(contract)),
            board: Board::new(contract, label),
            join: Join::new(limits(label), layout),
            cohorts: Cohorts::default(),
            positions: Positions::new(),
            source: None,
            pairs: Pairs::new(layout),
            waited: Vec::new(),
            journal: Journal::default(),
            learned: 0,
        })
    }

    /// Goes on with a learner of a version.
    pub(crate) fn resume(&mut self, learner: Learner, lineage: Lineage) {
        self.learner = Some(learner);
        self.lineage = lineage;
    }

    /// Takes what is new in a part, up to an offset, until `most` pairs were learned since the last version.
    ///
    /// What was taken before is passed over, so a part may be offered as often as one likes.
    ///
    /// # Errors
    /// [`FitError::Gap`] if events are missing before the part; [`FitError::Learn`].
    pub fn take(&mut self, part: &Part, through: Offset, most: u64) -> Result<(), FitError> {
        let key = (part.input, part.partition);
        let passed = self.positions.get(&key).map(|position| position.passed);
        let next = passed.map_or(part.first, Offset::next);
        let through = through.min(part.last);
        // Labels have holes where Kafka has them; what a clean batch claims to cover has none.
        if part.input == Input::Clean && next < part.first {
            let found = part.first;
            return Err(FitError::Gap {
                expected: next,
                found,
            });
        }
        if through < next {
            self.skip(part);
            return Ok(());
        }
        let begin = part.offsets.partition_point(|offset| *offset < next.0);
        let mut last = through;
        for at in begin..part.offsets.len() {
            let offset = Offset(part.offsets[at]);
            if through < offset {
                break;
            }
            if let Some(next) = part.ids.get(at + AHEAD) {
                self.join.fetch(*next);
            }
            self.one(part, at)?;
            if MICRO_BATCH <= self.pairs.len() {
                self.learn()?;
            }
            if most <= self.learned {
                last = offset;
                break;
            }
        }
        self.learn()?;
        self.journal.push(Segment {
            input: part.input,
            partition: part.partition,
            first: next,
            last,
        });
        self.positions.insert(key, position(part, last));
        Ok(())
    }

    /// Says whether all of a part was taken.
    pub fn has_taken(&self, part: &Part) -> bool {
        let position = self.positions.get(&(part.input, part.partition));
        position.is_some_and(|position| part.last <= position.passed)
    }

    /// Says whether all of a segment was taken.
    pub fn has_passed(&self, segment: &Segment) -> bool {
        let position = self.positions.get(&(segment.input, segment.partition));
        position.is_some_and(|position| segment.last <= position.passed)
    }

    /// Makes the next version of what was taken since the last one.
    ///
    /// # Errors
    /// [`FitError::Broken`].
    pub fn advance(&mut self) -> Result<Update, FitError> {
        self.advance_with(self.prequential())
    }

    /// Makes the next version once more as it was published: with the figures that its wire version can say.
    ///
    /// # Errors
    /// [`FitError::Broken`].
    pub(crate) fn advance_as(&mut self, published: &Prequential) -> Result<Update, FitError> {
        let told = self.prequential();
        let can_be_told = told.is_first_wire() || !published.is_first_wire();
        self.advance_with(if can_be_told {
            told
        } else {
            Prequential::default()
        })
    }

    fn advance_with(&mut self, prequential: Prequential) -> Result<Update, FitError> {
        let learner = self.learner.as_mut().ok_or(FitError::Broken)?;
        self.learned = 0;
        let segments = self.journal.take();
        Ok(self.lineage.advance(learner, segments, prequential))
    }

    /// Returns the figures that go with the next version.
    fn prequential(&self) -> Prequential {
        let board = self.board.prequential();
        board.unwrap_or_else(|| self.metrics.prequential())
    }

    /// Returns the learner.
    ///
    /// # Errors
    /// [`FitError::Broken`].
    pub fn learner(&self) -> Result<&Learner, FitError> {
        self.learner.as_ref().ok_or(FitError::Broken)
    }

    /// Returns the version and its digest.
    pub fn lineage(&self) -> Lineage {
        self.lineage
    }

    /// Returns how many labels were learned.
    pub fn labels(&self) -> u64 {
        self.learner.as_ref().map_or(0, Learner::examples)
    }

    /// Returns how well it predicted what it then learned.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Returns the same by window of stream time and by slice, for labels of every type.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Returns how far each partition was taken.
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// Returns the raw topic of the events that were taken. Those that were only looked at leave no trace, so that a
    /// replay, which never looks at them, comes to the same checkpoint.
    pub(crate) fn source(&self) -> Option<TopicId> {
        let mut inputs = self.positions.keys().map(|(input, _)| *input);
        self.source
            .filter(|_| inputs.any(|input| input == Input::Clean))
    }

    /// Returns what share of the events of an hour has its label, by how long ago that was.
    pub fn maturity(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let ages = AGES.into_iter();
        ages.filter_map(|(age, name)| Some((name, self.cohorts.maturity(age)?)))
    }

    /// Returns how many events wait for their label.
    pub fn waiting(&self) -> usize {
        self.join.events_waiting()
    }

    /// Says whether the next event would take the room of one that a label of this time may still be in time for.
    pub fn is_crowded(&mut self, label_time: i64) -> bool {
        self.join.is_crowded(label_time)
    }

    /// Returns how many labels wait for their event.
    pub fn early(&self) -> usize {
        self.join.labels_waiting()
    }

    /// Returns how many pairs were learned since the last version.
    pub fn learned(&self) -> u64 {
        self.learned
    }

    /// Returns how many segments were taken since the last version.
    pub fn segments(&self) -> usize {
        self.journal.len()
    }

    /// Returns the counts since the last call, and how long each pair learned was apart, in microseconds.
    pub fn take_tally(&mut self) -> (Tally, Vec<i64>) {
        (self.join.take_tally(), std::mem::take(&mut self.waited))
    }

    fn one(&mut self, part: &Part, at: usize) -> Result<(), FitError> {
        let (id, before) = (part.ids[at], self.pairs.len());
        match &part.body {
            Body::Events(times, rows) => {
                let (row, mark) = (rows.row(at), part.mark(at, &mut self.board));
                let pairs = &mut self.pairs;
                let waiting = self.join.event(id, times[at], row, mark, pairs);
                let has_label = before < self.pairs.len();
                // Neither of both is a second event of the same id, or one whose label came too late.
                if waiting.is_some() || has_label {
                    self.cohorts.event(times[at]);
                }
                if has_label {
                    self.learned += 1;
                    self.cohorts.label(times[at]);
                }
                if let Some(waiting) = waiting {
                    // What is foreseen comes of all pairs before the event, however parts are cut.
                    self.learn()?;
                    let learner = self.learner.as_mut().ok_or(FitError::Broken)?;
                    if at + 1 < rows.len() {
                        learner.expect(rows.row(at + 1));
                    }
                    let opinions = learner.foresee(row);
                    self.join.foresee(waiting, opinions);
                }
            }
            Body::Labels(labels) => {
                let label = labels[at];
                let revision = self.join.label(id, label, &mut self.pairs);
                if before < self.pairs.len() {
                    self.learned += 1;
                    self.join.pass(part.partition, label.time);
                    if let Some(waited) = self.pairs.waited.last() {
                        self.cohorts.label(label.time.saturating_sub(*waited));
                    }
                }
                if let Some(revision) = revision {
                    self.revise(revision, label)?;
                }
                while self.join.ripen(&mut self.pairs) {
                    self.learned += 1;
                    if MICRO_BATCH <= self.pairs.len() {
                        self.learn()?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Tests and learns the pairs.
    fn learn(&mut self) -> Result<(), FitError> {
        if self.pairs.is_empty() {
            return Ok(());
        }
        let learner = self.learner.take().ok_or(FitError::Broken)?;
        if !self.contract.weights.is_empty() {
            for label in &mut self.pairs.dataset.targets {
                label.weight = self.contract.weight(label.value);
            }
        }
        let learner = self.params.fit_with(Some(learner), &self.pairs.dataset)?;
        let yes_or_no = self.params.predicts_yes_or_no();
        let times = self.pairs.known.iter().zip(&self.pairs.marks);
        let labels = self.pairs.dataset.targets.iter().zip(times);
        for (at, (told, (label, (known, mark)))) in learner.tested().iter().zip(labels).enumerate()
        {
            let told = if yes_or_no {
                let yes = label.value == 1.0;
                let tested = self.metrics.observe(*told, yes, *known);
                tested.map(Told::Tested)
            } else {
                let likeliest = learner.likeliest().get(at);
                Some(likeliest.map_or(Told::Value(*told), |likeliest| {
                    Told::Class(*told, *likeliest)
                }))
            };
            if let Some(told) = told {
                self.board.observe(told, label.value, *known, *mark);
            }
        }
        self.learner = Some(learner);
        self.waited.extend_from_slice(&self.pairs.waited);
        self.pairs.clear();
        Ok(())
    }

    /// Learns an event again whose label says something else by now, after all pairs before it.
    ///
    /// It is no prediction that is tested: the event was learned before.
    fn revise(&mut self, revision: Revision, label: KnownLabel) -> Result<(), FitError> {
        self.learn()?;
        let mut learner = self.learner.take().ok_or(FitError::Broken)?;
        if let Some(past) = self.join.revised(revision) {
            let told = learner.predict_classes(past.row);
            let corrected = correct(&self.contract, &told, revision.before, label.outcome);
            let corrected = learners::Label {
                foreseen: past.foreseen,
                ..corrected
            };
            learner
                .learn(past.row, corrected)
                .map_err(LearnError::from)?;
        }
        self.learner = Some(learner);
        self.learned += 1;
        Ok(())
    }

    /// Notes that a part says nothing new: a replaced worker wrote it, or a restart brought it again.
    fn skip(&mut self, part: &Part) {
        if let Some(held) = self.positions.get_mut(&(part.input, part.partition))
            && part.last <= held.passed
        {
            held.message = held.message.max(position(part, part.last).message);
        }
    }
}

fn position(part: &Part, passed: Offset) -> Position {
    let message = match part.input {
        Input::Labels => passed.next(),
        Input::Clean if part.last <= passed => part.message.next(),
        Input::Clean => part.message,
    };
    Position { passed, message }
}

pub(crate) fn limits(label: &Label) -> Limits {
    Limits {
        events_max: label.pending_max,
        labels_max: label.pending_max.max(EARLY_LABELS_MIN),
        wait_micros_max: micros(label.wait_max),
        learns_revised: label.revised == Revised::Learn,
        negative_after: match label.unlabelled {
            Unlabelled::Wait => None,
            Unlabelled::Negative(after) => Some(micros(after)),
        },
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

pub(crate) fn metrics_config(contract: &Contract) -> MetricsConfig {
    MetricsConfig {
        threshold: contract.decision.threshold,
        recent_labels: RECENT_LABELS,
        // By stretches of stream time, dashboards keep them.
        stretch_micros: i64::MAX,
        stretches_max: 0,
    }
}
