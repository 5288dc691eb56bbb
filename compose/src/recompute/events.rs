//! Finds the events that receipts name in the clean topic, and keeps their rows of features.

use std::collections::BTreeMap;

use anyhow::Result;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use learn::features::{Row, Rows};
use schemas::clean::{CleanDecoder, CleanHeader};
use schemas::{ColumnRole, Columns, Contract, Digest, EventTime, Offset, Partition, TopicId};
use scorer::score::Scorer;
use worker::{Broker, Record, TopicPartition};

use super::receipt::Receipt;
use super::verdict::{Difference, Verdict, Why};
use super::{Phase, Step};
use crate::tape::Tape;

/// What became of the search for a receipt's event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// Nothing so far.
    No,
    /// It is this row.
    Row(u32),
    /// Another event is there; that was said.
    Other,
}

/// The events of receipts.
pub(super) struct Events {
    rows: Rows,
    found: Vec<Found>,
}

impl Events {
    /// Makes events of rows, one for each receipt.
    #[cfg(test)]
    pub fn of(rows: Rows) -> Events {
        let found = (0..rows.len() as u32).map(Found::Row).collect();
        Events { rows, found }
    }

    /// Returns the row of a receipt's event.
    pub fn row(&self, receipt: usize) -> Option<Row<'_>> {
        match self.found.get(receipt) {
            Some(Found::Row(row)) => Some(self.rows.row(*row as usize)),
            _ => None,
        }
    }
}

/// Events of one partition that are wanted: raw topic, offset, and the number of the receipt; ascending.
#[derive(Debug, Default, PartialEq)]
struct Wanted(Vec<(TopicId, Offset, u32)>);

impl Wanted {
    /// Groups what receipts want by partition.
    fn of(receipts: &[Receipt]) -> BTreeMap<Partition, Wanted> {
        let mut wanted: BTreeMap<Partition, Wanted> = BTreeMap::new();
        for (at, receipt) in receipts.iter().enumerate() {
            let source = receipt.source;
            let of = wanted.entry(source.partition).or_default();
            of.0.push((source.topic_id, source.offset, at as u32));
        }
        for of in wanted.values_mut() {
            of.0.sort_unstable();
        }
        wanted
    }

    /// Returns what is wanted of a range of offsets of a raw topic.
    fn within(&self, topic: TopicId, first: Offset, last: Offset) -> &[(TopicId, Offset, u32)] {
        let begin = self
            .0
            .partition_point(|(of, offset, _)| (*of, *offset) < (topic, first));
        let end = self
            .0
            .partition_point(|(of, offset, _)| (*of, *offset) <= (topic, last));
        &self.0[begin..end.max(begin)]
    }
}

/// Reads the clean topic.
pub(super) struct Finder {
    topic: String,
    partitions: i32,
    decoder: CleanDecoder,
    contract: Digest,
    id: Option<usize>,
}

impl Finder {
    /// Makes a finder for a contract and its clean topic.
    pub fn new(contract: &Contract, topic: &str, partitions: i32) -> Finder {
        let columns = Columns::of(contract);
        Finder {
            topic: topic.to_owned(),
            partitions,
            decoder: CleanDecoder::new(columns.schema().clone()),
            contract: contract.digest(),
            id: columns.index(contract.event.id, ColumnRole::Open),
        }
    }

    /// Finds the events of receipts; those that are not there are said.
    pub async fn find<B: Broker>(
        &self,
        broker: &B,
        receipts: &[Receipt],
        scorer: &mut Scorer,
        verdict: &mut Verdict,
        progress: &mut dyn FnMut(Step),
    ) -> Result<Events> {
        let layout = scorer.layout();
        let mut search = Search {
            finder: self,
            receipts,
            scorer,
            verdict,
            scratch: Rows::new(layout),
            events: Events {
                rows: Rows::with_capacity(layout, receipts.len()),
                found: vec![Found::No; receipts.len()],
            },
        };
        for (partition, wanted) in Wanted::of(receipts) {
            if !(0..self.partitions).contains(&partition.0) {
                continue;
            }
            let mut left = wanted.0.len();
            let from: TopicPartition = (self.topic.as_str(), partition).into();
            let mut tape = Tape::open(broker, from, Offset(0)).await?;
            while 0 < left
                && let Some(batch) = tape.next(broker).await?
            {
                progress(Step::new(Phase::Events, tape.passed()));
                for record in batch.records() {
                    left -= search.message(record, &wanted);
                }
            }
        }
        search.say_missing();
        Ok(search.events)
    }

    /// Reads a clean batch of the contract; what cannot be read has no events.
    fn decode(&self, record: &Record<'_>) -> Option<RecordBatch> {
        let value = record.value().unwrap_or_default();
        self.decoder.decode(value).ok()
    }
}

/// One search for the events of receipts.
struct Search<'a> {
    finder: &'a Finder,
    receipts: &'a [Receipt],
    scorer: &'a mut Scorer,
    verdict: &'a mut Verdict,
    scratch: Rows,
    events: Events,
}

impl Search<'_> {
    /// Takes what is wanted out of one clean message; returns how many events were found.
    fn message(&mut self, record: Record<'_>, wanted: &Wanted) -> usize {
        let Ok(header) = CleanHeader::from_headers(record.headers()) else {
            return 0;
        };
        let within = wanted.within(header.topic_id, header.first, header.last);
        let found = &self.events.found;
        let open = |(_, _, at): &&(TopicId, Offset, u32)| found[*at as usize] == Found::No;
        let within: Vec<_> = within.iter().filter(open).copied().collect();
        if within.is_empty() || header.contract != self.finder.contract {
            return 0;
        }
        let Some(batch) = self.finder.decode(&record) else {
            return 0;
        };
        self.scratch.clear();
        if self.scorer.encode(&batch, &mut self.scratch).is_err() {
            return 0;
        }
        let offsets = batch
            .column(Columns::SOURCE_OFFSET)
            .as_primitive::<Int64Type>();
        let mut count = 0;
        for (_, offset, at) in within {
            if let Ok(row) = offsets.values().binary_search(&offset.0) {
                self.event(&batch, row, at as usize);
                count += 1;
            }
        }
        count
    }

    /// Takes the event in if it is the one that the receipt is about.
    fn event(&mut self, batch: &RecordBatch, row: usize, at: usize) {
        let receipt = &self.receipts[at];
        let column = batch.column(self.finder.id.unwrap_or(Columns::TRACE_PARENT));
        let ids = column.as_string_opt::<i32>();
        let id = ids.filter(|ids| !ids.is_null(row));
        let id = id.map_or("", |ids| ids.value(row));
        let times = batch
            .column(Columns::EVENT_TIME)
            .as_primitive::<TimestampMicrosecondType>();
        let time = Some(EventTime(times.value(row)));
        if id == &*receipt.id && time == receipt.event_time {
            self.events.found[at] = Found::Row(self.events.rows.len() as u32);
            self.events.rows.push(self.scratch.row(row));
            return;
        }
        self.events.found[at] = Found::Other;
        let found = id.to_owned();
        self.verdict
            .differs(difference(receipt, Why::OtherEvent { found }));
    }

    fn say_missing(&mut self) {
        for (receipt, found) in self.receipts.iter().zip(&self.events.found) {
            if *found == Found::No {
                let source = receipt.source;
                let why = Why::EventNotFound {
                    topic: source.topic_id.to_string(),
                    partition: source.partition.0,
                    offset: source.offset.0,
                };
                self.verdict.differs(difference(receipt, why));
            }
        }
    }
}

/// Says that a receipt differs.
pub(super) fn difference(receipt: &Receipt, why: Why) -> Difference {
    Difference {
        place: receipt.place,
        id: Some(receipt.id.to_string()),
        why,
    }
}

#[cfg(test)]
mod tests {
    use super::super::receipt::tests::{CONTRACT, json};
    use super::super::receipt::{Place, Receipts};
    use super::*;

    #[test]
    fn wanted_offsets_are_found_by_topic_and_range() {
        let mut receipts = Receipts::default();
        for offset in [9, 3, 5, 5, 20] {
            let text = json("a", 0.5, 1, offset);
            receipts
                .add(Place::Line(1), text.as_bytes(), CONTRACT, |_| true)
                .unwrap();
        }
        let wanted = Wanted::of(receipts.list());
        assert_eq!(wanted.len(), 1);
        let wanted = &wanted[&Partition(2)];
        let topic = receipts.list()[0].source.topic_id;
        let within = |topic, first, last| -> Vec<u32> {
            let within = wanted.within(topic, Offset(first), Offset(last));
            within.iter().map(|(_, _, at)| *at).collect()
        };
        assert_eq!(within(topic, 3, 9), [1, 2, 3, 0]);
        assert_eq!(within(topic, 4, 8), [2, 3]);
        assert_eq!(within(topic, 10, 19), [0; 0]);
        assert_eq!(within(topic, 20, i64::MAX), [4]);
        assert_eq!(within(TopicId([6; 16]), 0, 100), [0; 0]);
    }
}
