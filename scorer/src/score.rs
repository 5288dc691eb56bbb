//! From the rows of a clean batch to the JSON of its scores. Pure.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use learn::drift::DriftMonitor;
use learn::features::{FeatureError, FeatureSpace, Rows};
use learn::model::{REASONS, Scored, ServedModel};
use schemas::score::{ModelReference, ScoreReason, ScoreRow, ScoreWriter};
use schemas::{ColumnRole, Columns, Contract, Digest, EventTime, Offset, Partition, TopicId};

/// Scores batches of one stream.
pub struct Scorer {
    space: FeatureSpace,
    names: Vec<String>,
    classes: Vec<String>,
    id: Option<usize>,
    contract: Digest,
    threshold: f64,
    drift: DriftMonitor,
    rows: Rows,
    scored: Vec<Scored>,
    probabilities: Vec<f64>,
}

/// A batch and its scores.
pub struct ScoredBatch<'a> {
    ids: &'a StringArray,
    offsets: &'a Int64Array,
    event_times: &'a TimestampMicrosecondArray,
    ingest_times: &'a TimestampMicrosecondArray,
    parents: &'a StringArray,
    scored: &'a [Scored],
    names: &'a [String],
    classes: &'a [String],
    writer: ScoreWriter,
}

impl Scorer {
    /// Makes a scorer for a contract.
    ///
    /// # Errors
    /// [`FeatureError`] if a feature is of a field that is closed.
    pub fn new(contract: &Contract) -> Result<Scorer, FeatureError> {
        let space = FeatureSpace::new(contract)?;
        Ok(Scorer {
            names: space.names().map(str::to_owned).collect(),
            classes: contract
                .label
                .as_ref()
                .map_or_else(Vec::new, |label| label.classes.clone()),
            id: Columns::of(contract).index(contract.event.id, ColumnRole::Open),
            contract: contract.digest(),
            threshold: contract.decision.threshold,
            drift: DriftMonitor::new(&space, contract.monitors.window),
            rows: Rows::new(space.layout()),
            scored: Vec::new(),
            probabilities: Vec::new(),
            space,
        })
    }

    /// Returns the shape of the rows that it makes.
    pub fn layout(&self) -> learn::features::Layout {
        self.space.layout()
    }

    /// Returns what watches for drift.
    pub fn drift(&self) -> &DriftMonitor {
        &self.drift
    }

    /// Lends the features and what watches them.
    pub(crate) fn watched(&mut self) -> (&FeatureSpace, &mut DriftMonitor) {
        (&self.space, &mut self.drift)
    }

    /// Returns the score from which on the decision is yes.
    pub fn threshold(&self) -> f64 {
        self.threshold
    }

    /// Makes the rows of a clean batch's events: those that [`Scorer::score`] scores.
    ///
    /// # Errors
    /// [`FeatureError::Column`] if the batch is not of the contract.
    pub fn encode(&mut self, batch: &RecordBatch, rows: &mut Rows) -> Result<(), FeatureError> {
        self.space.encode(batch, rows)
    }

    /// Names the reasons of a score, as its JSON does.
    pub fn reasons(&self, scored: &Scored) -> Vec<ScoreReason> {
        let (reasons, count) = named(scored, &self.names);
        let reasons = reasons[..count].iter();
        reasons
            .map(|(names, log_odds)| ScoreReason::new(*names, *log_odds))
            .collect()
    }

    /// Names the class of a score, if labels are classes.
    pub fn class(&self, scored: &Scored) -> Option<&str> {
        class(scored, &self.classes)
    }

    /// Returns the name of a slot's feature.
    pub fn name(&self, slot: usize) -> &str {
        &self.names[slot]
    }

    /// Scores the events of a clean batch, all with one model.
    ///
    /// # Errors
    /// [`FeatureError::Column`] if the batch is not of the contract.
    pub fn score<'a>(
        &'a mut self,
        batch: &'a RecordBatch,
        model: &ServedModel,
        topic_id: TopicId,
        partition: Partition,
    ) -> Result<ScoredBatch<'a>, FeatureError> {
        self.rows.clear();
        self.scored.clear();
        self.probabilities.clear();
        self.space.encode(batch, &mut self.rows)?;
        model.score_all(&self.rows, &mut self.scored);
        self.probabilities
            .extend(self.scored.iter().map(|scored| scored.probability));
        self.drift.observe(&self.rows, &self.probabilities);
        let lineage = model.lineage();
        let reference = ModelReference {
            version: lineage.version,
            digest: lineage.digest,
        };
        let id = self.id.unwrap_or(Columns::TRACE_PARENT);
        Ok(ScoredBatch {
            ids: batch.column(id).as_string(),
            offsets: batch
                .column(Columns::SOURCE_OFFSET)
                .as_primitive::<Int64Type>(),
            event_times: batch
                .column(Columns::EVENT_TIME)
                .as_primitive::<TimestampMicrosecondType>(),
            ingest_times: batch
                .column(Columns::INGEST_TIME)
                .as_primitive::<TimestampMicrosecondType>(),
            parents: batch.column(Columns::TRACE_PARENT).as_string(),
            scored: &self.scored,
            names: &self.names,
            classes: &self.classes,
            writer: ScoreWriter::new(
                reference,
                self.contract,
                self.threshold,
                topic_id,
                partition,
            ),
        })
    }
}

impl ScoredBatch<'_> {
    /// Returns how many scores there are.
    pub fn len(&self) -> usize {
        self.scored.len()
    }

    /// Says whether there are none.
    pub fn is_empty(&self) -> bool {
        self.scored.is_empty()
    }

    /// Returns how many scores reach a threshold.
    pub fn at_least(&self, threshold: f64) -> usize {
        self.scored
            .iter()
            .filter(|scored| threshold <= scored.probability)
            .count()
    }

    /// Returns an event's id.
    pub fn id(&self, row: usize) -> &str {
        self.ids.value(row)
    }

    /// Returns an event's trace parent.
    pub fn trace_parent(&self, row: usize) -> Option<&str> {
        (!self.parents.is_null(row)).then(|| self.parents.value(row))
    }

    /// Returns when Kafka took an event's raw record, in microseconds since 1970.
    pub fn ingest_micros(&self, row: usize) -> i64 {
        self.ingest_times.value(row)
    }

    /// Appends the JSON of one score.
    pub fn write(&self, row: usize, out: &mut String) {
        let scored = &self.scored[row];
        let (reasons, count) = named(scored, self.names);
        let row = ScoreRow {
            id: self.ids.value(row),
            score: scored.probability,
            class: class(scored, self.classes),
            event_time: EventTime(self.event_times.value(row)),
            source_offset: Offset(self.offsets.value(row)),
            reasons: &reasons[..count],
        };
        self.writer.write(&row, out);
    }
}

fn class<'a>(scored: &Scored, classes: &'a [String]) -> Option<&'a str> {
    let class = classes.get(usize::from(scored.class?))?;
    Some(class)
}

/// Reasons by name, and how many there are.
type Named<'a> = ([([&'a str; 2], f64); REASONS], usize);

/// Puts names to the reasons of a score.
fn named<'a>(scored: &Scored, names: &'a [String]) -> Named<'a> {
    let mut reasons = [([""; 2], 0.0); REASONS];
    let mut count = 0;
    for (place, reason) in reasons.iter_mut().zip(scored.reasons.iter().flatten()) {
        let name = |slot: usize| names[slot].as_str();
        let names = [name(reason.slot), reason.with.map_or("", name)];
        *place = (names, reason.contribution);
        count += 1;
    }
    (reasons, count)
}
