//! Messages to columns: what the trainer needs of clean batches and of labels, decoded once.
//!
//! Only the columns of features are decoded; sealed cells stay unread bytes.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, NullArray, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use learn::features::{FeatureError, FeatureSpace, Layout, Rows};
use learn::metrics::{Board, Mark};
use schemas::clean::{CleanDecoder, CleanError, CleanHeader};
use schemas::contract::{FeatureKind, Label};
use schemas::label::{LabelError, LabelEvent};
use schemas::model::Input;
use schemas::{ColumnRole, Columns, Contract, Digest, Offset, Partition, TopicId};
use worker::{Batch, Record};

use crate::join::{EventId, KnownLabel};

/// Slices that an event may be in.
const SLICES: usize = size_of::<Mark>();

/// Consecutive events or labels of one partition, as columns.
#[derive(Debug)]
pub struct Part {
    /// Which input.
    pub input: Input,
    /// Partition.
    pub partition: Partition,
    /// First offset that it covers: of the raw topic for events, of their own for labels.
    pub first: Offset,
    /// Last offset that it covers.
    pub last: Offset,
    /// Where its message is in the topic (the first one's, for labels).
    pub message: Offset,
    /// Offset of each event or label, ascending.
    pub offsets: Vec<i64>,
    /// Id of each.
    pub ids: Vec<EventId>,
    /// Columns of the values by which quality is told; none of labels, or if the contract names none.
    pub slices: Vec<ArrayRef>,
    /// Events, or labels.
    pub body: Body,
}

/// What a part holds.
#[derive(Debug)]
pub enum Body {
    /// Times of events, and their rows.
    Events(Vec<i64>, Rows),
    /// Labels.
    Labels(Vec<KnownLabel>),
}

impl Part {
    /// Makes an empty part for events.
    pub fn events(layout: Layout) -> Part {
        Part::new(Input::Clean, Body::Events(Vec::new(), Rows::new(layout)))
    }

    /// Makes an empty part for labels.
    pub fn labels() -> Part {
        Part::new(Input::Labels, Body::Labels(Vec::new()))
    }

    fn new(input: Input, body: Body) -> Part {
        Part {
            input,
            partition: Partition(0),
            first: Offset(0),
            last: Offset(-1),
            message: Offset(0),
            offsets: Vec::new(),
            ids: Vec::new(),
            slices: Vec::new(),
            body,
        }
    }

    /// Returns which slices an event is in.
    pub(crate) fn mark(&self, at: usize, board: &mut Board) -> Mark {
        mark(&self.slices, at, board)
    }

    fn clear(&mut self) {
        self.slices.clear();
        self.offsets.clear();
        self.ids.clear();
        match &mut self.body {
            Body::Events(times, rows) => {
                times.clear();
                rows.clear();
            }
            Body::Labels(labels) => labels.clear(),
        }
    }
}

/// A label that nobody can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Where it is.
    pub offset: Offset,
    /// How long it is.
    pub bytes: usize,
    /// What is wrong with it.
    pub reason: LabelError,
}

/// Decodes messages.
pub struct Decoder {
    contract: Digest,
    label: Label,
    space: FeatureSpace,
    clean: CleanDecoder,
    /// Columns that are decoded, ascending.
    kept: Vec<usize>,
    /// The full schema with every other column void.
    sparse: SchemaRef,
    id_column: usize,
    slice_columns: Vec<usize>,
}

impl Decoder {
    /// Makes a decoder for a contract and its label.
    ///
    /// # Errors
    /// [`FeatureError::Closed`]; a contract that was parsed has no such feature.
    pub fn new(contract: &Contract, label: Label) -> Result<Decoder, FeatureError> {
        let columns = Columns::of(contract);
        let id_column = columns
            .index(contract.event.id, ColumnRole::Open)
            .unwrap_or_default();
        let slices = contract.monitors.slices.iter();
        let slices = slices.filter_map(|field| columns.index(*field, ColumnRole::Open));
        let slice_columns: Vec<usize> = slices.collect();
        let mut needed = needed(contract, &columns, id_column);
        needed.extend(&slice_columns);
        let kept: Vec<usize> = needed.into_iter().collect();
        let full = columns.schema();
        let field = |(at, field): (usize, &Arc<Field>)| match kept.binary_search(&at) {
            Ok(_) => field.as_ref().clone(),
            Err(_) => Field::new(field.name(), DataType::Null, true),
        };
        let sparse: Vec<Field> = full.fields().iter().enumerate().map(field).collect();
        Ok(Decoder {
            contract: contract.digest(),
            label,
            space: FeatureSpace::new(contract)?,
            clean: CleanDecoder::with_projection(full.clone(), kept.clone()),
            kept,
            sparse: Arc::new(Schema::new(sparse)),
            id_column,
            slice_columns,
        })
    }

    /// Returns the layout of rows.
    pub fn layout(&self) -> Layout {
        self.space.layout()
    }

    /// Reads a clean message into a part; returns the id of the raw topic.
    ///
    /// # Errors
    /// [`CleanError`] if it is no batch of the contract.
    pub fn clean(&mut self, record: &Record<'_>, part: &mut Part) -> Result<TopicId, CleanError> {
        let header = CleanHeader::from_headers(record.headers())?;
        if header.contract != self.contract {
            return Err(CleanError::OtherContract {
                found: header.contract,
                expected: self.contract,
            });
        }
        part.clear();
        part.partition = header.partition;
        (part.first, part.last) = (header.first, header.last);
        part.message = record.offset();
        let batch = self
            .clean
            .decode(record.value().unwrap_or_default())
            .and_then(|batch| self.widen(&batch))?;
        let offsets = batch
            .column(Columns::SOURCE_OFFSET)
            .as_primitive::<Int64Type>()
            .values();
        let inside = offsets.first().is_none_or(|first| header.first.0 <= *first)
            && offsets.last().is_none_or(|last| *last <= header.last.0)
            && offsets.is_sorted();
        if !inside {
            let problem = "its rows are not in the order of the offsets that it covers";
            return Err(CleanError::Payload(problem.to_owned()));
        }
        part.offsets.extend_from_slice(offsets);
        ids(batch.column(self.id_column), &mut part.ids);
        let slices = self.slice_columns.iter();
        part.slices
            .extend(slices.map(|column| batch.column(*column).clone()));
        if let Body::Events(times, rows) = &mut part.body {
            let column = batch.column(Columns::EVENT_TIME);
            times.extend_from_slice(column.as_primitive::<TimestampMicrosecondType>().values());
            self.space
                .encode(&batch, rows)
                .map_err(|error| CleanError::Payload(error.to_string()))?;
        }
        Ok(header.topic_id)
    }

    /// Reads label messages into a part; returns those that cannot be read.
    pub fn labels(&self, batch: &Batch, part: &mut Part) -> Vec<Unreadable> {
        part.clear();
        part.partition = batch.from().partition;
        let mut unreadable = Vec::new();
        let mut first = None;
        for record in batch.records() {
            let offset = record.offset();
            first = first.or(Some(offset));
            part.last = offset;
            let value = record.value().unwrap_or_default();
            match LabelEvent::parse(&self.label, value) {
                Ok(label) => {
                    part.offsets.push(offset.0);
                    part.ids.push(EventId::of(label.event_id.as_bytes()));
                    if let Body::Labels(labels) = &mut part.body {
                        labels.push(KnownLabel {
                            outcome: label.label,
                            time: label.time.0,
                        });
                    }
                }
                Err(reason) => unreadable.push(Unreadable {
                    offset,
                    bytes: value.len(),
                    reason,
                }),
            }
        }
        part.first = first.unwrap_or(part.last.next());
        part.message = part.first;
        unreadable
    }

    /// Puts decoded columns back where the feature space looks for them.
    fn widen(&self, batch: &RecordBatch) -> Result<RecordBatch, CleanError> {
        let void: ArrayRef = Arc::new(NullArray::new(batch.num_rows()));
        let mut columns = vec![void; self.sparse.fields().len()];
        for (at, column) in self.kept.iter().zip(batch.columns()) {
            columns[*at] = column.clone();
        }
        RecordBatch::try_new(self.sparse.clone(), columns)
            .map_err(|error| CleanError::Payload(error.to_string()))
    }
}

/// Returns which slices a row is in, of columns in the order of the contract's slices.
pub fn mark(slices: &[ArrayRef], at: usize, board: &mut Board) -> Mark {
    if slices.is_empty() {
        return Mark::default();
    }
    let mut digits = [itoa::Buffer::new(); SLICES];
    let mut digits = digits.iter_mut();
    board.mark(|slice| {
        let column = slices.get(slice).filter(|column| column.is_valid(at))?;
        let digits = digits.next()?;
        Some(match column.data_type() {
            DataType::Int64 => digits.format(column.as_primitive::<Int64Type>().value(at)),
            DataType::Boolean if column.as_boolean().value(at) => "true",
            DataType::Boolean => "false",
            _ => column.as_string::<i32>().value(at),
        })
    })
}

/// Returns the columns that join and features are made of.
fn needed(contract: &Contract, columns: &Columns, id_column: usize) -> BTreeSet<usize> {
    let mut needed = BTreeSet::from([Columns::SOURCE_OFFSET, Columns::EVENT_TIME, id_column]);
    for feature in &contract.features {
        let (field, token) = match &feature.kind {
            FeatureKind::Category { field } => (*field, columns.index(*field, ColumnRole::Token)),
            FeatureKind::Number { field }
            | FeatureKind::Bucket { field, .. }
            | FeatureKind::Time { field, .. }
            | FeatureKind::Bag { field, .. } => (*field, None),
            FeatureKind::Cross { .. } => continue,
        };
        needed.extend(token.or_else(|| columns.index(field, ColumnRole::Open)));
    }
    needed
}

/// Hashes the ids of events: of numbers, their decimal digits, since a label says its event's id as a text.
fn ids(column: &ArrayRef, out: &mut Vec<EventId>) {
    match column.data_type() {
        DataType::Int64 => {
            let mut buffer = itoa::Buffer::new();
            let numbers = column.as_primitive::<Int64Type>().values().iter();
            out.extend(numbers.map(|number| EventId::of(buffer.format(*number).as_bytes())));
        }
        _ => {
            let texts = column.as_string::<i32>();
            out.extend((0..texts.len()).map(|at| EventId::of(texts.value(at).as_bytes())));
        }
    }
}
