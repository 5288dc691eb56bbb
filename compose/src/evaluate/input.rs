//! Rows of a file become rows of features, on the path that live events take: JSON, cleaning, columns, features.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use arrow_array::ArrayRef;
use ingest::clean::{Cleaner, Memory};
use ingest::columns::{self, ColumnWriter};
use ingest::parse::RawEvent;
use learn::features::{FeatureSpace, Layout, Rows};
use schemas::contract::{Label, Unlabelled};
use schemas::{ColumnRole, Columns, Contract, Offset, Partition, TopicId};
use seal::{Sealer, StreamId, StreamKeys};

use super::{Labels, Options};
use crate::produce;
use crate::produce::{Known, LabelValue, Source};

/// The outcome of an event without a label that is taken for no.
pub(super) const NO: f64 = 0.0;

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Outcome {
    /// When the event happened, in microseconds.
    pub time: i64,
    /// The label, and when it became known; `None` if there is nothing to learn.
    pub label: Option<(f64, i64)>,
    /// When the event is taken for no, if its label is not known by then.
    pub assumed: Option<i64>,
}

/// Consecutive clean events.
pub(super) struct Chunk {
    /// Their features.
    pub rows: Rows,
    /// What became of each.
    pub outcomes: Vec<Outcome>,
    /// Columns of the contract's slices.
    pub slices: Vec<ArrayRef>,
}

/// What the file had.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// Rows.
    pub events: u64,
    /// Rows that passed the contract's rules.
    pub clean: u64,
    /// Rows that did not, by reason.
    pub dead: BTreeMap<&'static str, u64>,
    /// Clean rows without a label.
    pub unlabelled: u64,
    /// Clean rows whose label came later than counts, if labels are learned when they arrive.
    pub late: u64,
}

/// Reads a file as chunks of clean events.
pub(super) struct Input {
    source: Source,
    label: Label,
    labels: Labels,
    cleaner: Cleaner,
    memory: Memory,
    columns: ColumnWriter,
    sealer: Sealer,
    space: FeatureSpace,
    slice_columns: Vec<usize>,
    events_max: u64,
    pub counts: Counts,
}

impl Input {
    pub(super) fn new(
        source: Source,
        contract: &Arc<Contract>,
        label: &Label,
        options: &Options,
    ) -> Result<Input> {
        let id = StreamId::new(&contract.stream.tenant, &contract.stream.name)?;
        // With the same tokens every time, two evaluations of one file say the same.
        let keys = StreamKeys::of_a_trial(id)?;
        let cleaner = Cleaner::new(contract);
        Ok(Input {
            source,
            label: label.clone(),
            labels: options.labels,
            memory: cleaner.fresh_memory(),
            cleaner,
            columns: ColumnWriter::new(contract, &keys),
            sealer: columns::sealer(contract, keys)?,
            space: FeatureSpace::new(contract)?,
            slice_columns: {
                let columns = Columns::of(contract);
                let slices = contract.monitors.slices.iter();
                let open = |field: &usize| columns.index(*field, ColumnRole::Open);
                slices.filter_map(open).collect()
            },
            events_max: options.events_max,
            counts: Counts::default(),
        })
    }

    /// Returns the shape of the rows.
    pub(super) fn layout(&self) -> Layout {
        self.space.layout()
    }

    /// Returns how many rows there are, where the file says.
    pub(super) fn rows_total(&self) -> Option<u64> {
        let total = self.source.rows_total();
        total.map(|rows| rows.min(self.events_max))
    }

    /// Reads the next events; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Chunk>> {
        if self.events_max <= self.counts.events {
            return Ok(None);
        }
        let Some(rows) = self.source.next_rows()? else {
            return Ok(None);
        };
        let mut json = Vec::new();
        let ends: Vec<usize> = (0..rows.len())
            .map(|row| {
                rows.render(row, &mut json);
                json.len()
            })
            .collect();
        let (mut event, mut clean) = (RawEvent::default(), Vec::new());
        let (mut outcomes, mut start) = (Vec::with_capacity(rows.len()), 0);
        for (row, end) in ends.into_iter().enumerate() {
            if self.events_max <= self.counts.events {
                break;
            }
            let (text, offset) = (&json[start..end], Offset(self.counts.events as i64));
            start = end;
            self.counts.events += 1;
            let decided = self
                .cleaner
                .decide(Some(text), &mut self.memory, &mut event, &mut clean);
            if let Err(rejection) = decided {
                *self.counts.dead.entry(rejection.reason.name()).or_default() += 1;
                continue;
            }
            self.columns.push(offset, 0, None, &clean);
            outcomes.push(self.outcome(&rows, row)?);
        }
        self.counts.clean += outcomes.len() as u64;
        let (rows, slices) = self.encode()?;
        Ok(Some(Chunk {
            rows,
            outcomes,
            slices,
        }))
    }

    fn outcome(&mut self, rows: &produce::Rows, row: usize) -> Result<Outcome> {
        let time = rows.time(row)?;
        let told = |label: LabelValue| {
            label.told(&self.label).with_context(|| {
                format!(
                    "row {}: a class that the contract does not name in label.classes",
                    self.counts.events
                )
            })
        };
        let mut label = match rows.label(row)? {
            Known::Never => None,
            Known::WithEvent(label) => Some((told(label)?, time)),
            Known::At(label, known) => Some((told(label)?, known)),
        };
        self.counts.unlabelled += u64::from(label.is_none());
        if let (Labels::AtArrival, Some((_, known))) = (self.labels, label)
            && micros(self.label.wait_max) < known.saturating_sub(time)
        {
            label = None;
            self.counts.late += 1;
        }
        let assumed = match self.label.unlabelled {
            Unlabelled::Wait => None,
            Unlabelled::Negative(after) => Some(time.saturating_add(micros(after))),
        };
        let assumed = assumed.filter(|ripe| label.is_none_or(|(_, known)| *ripe < known));
        Ok(Outcome {
            time,
            label: label.or(assumed.map(|ripe| (NO, ripe))),
            assumed,
        })
    }

    /// Makes rows of the events that were gathered; returns them and the columns of the slices.
    fn encode(&mut self) -> Result<(Rows, Vec<ArrayRef>)> {
        let mut slots = Vec::new();
        self.sealer.resolve(self.columns.subjects(), &mut slots)?;
        let batch = self
            .columns
            .finish(&self.sealer, &slots, TopicId([0; 16]), Partition(0))?;
        let mut rows = Rows::with_capacity(self.space.layout(), batch.num_rows());
        self.space.encode(&batch, &mut rows)?;
        let slices = self.slice_columns.iter();
        let slices = slices.map(|column| batch.column(*column).clone());
        Ok((rows, slices.collect()))
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
