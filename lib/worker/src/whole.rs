//! That a client leaves no record out. What a stage does not see is lost without a word, so where offsets jump, the log
//! is asked what lies between.

use std::collections::BTreeMap;

use schemas::Offset;
use tracing::warn;

use crate::batch::{Batch, Record, TopicPartition};
use crate::broker::{Assigned, Broker, BrokerError, Start, Watermarks};

/// Offsets in a row that are passed over unasked: where transactions end, there are offsets without records.
const MARKERS_MAX: i64 = 16;

/// How far into a hole to look: what a client leaves out begins where it jumped.
const LOOK: i64 = 64;

/// Watches the offsets of what is assigned.
pub(crate) struct Whole<'a, B> {
    broker: &'a B,
    /// Topics in which every offset has a record.
    unbroken: &'a [&'a str],
    /// The offset after the last that came; librdkafka may go back when partitions move, and forward to there again.
    next: BTreeMap<TopicPartition, Offset>,
}

impl<'a, B: Broker> Whole<'a, B> {
    pub(crate) fn new(broker: &'a B, unbroken: &'a [&'a str]) -> Whole<'a, B> {
        Whole {
            broker,
            unbroken,
            next: BTreeMap::new(),
        }
    }

    /// Notes where partitions begin.
    pub(crate) fn begin(&mut self, assigned: &[Assigned]) {
        for Assigned { partition, start } in assigned {
            match start {
                Start::At(offset) => self.next.insert(partition.clone(), *offset),
                Start::Committed => self.next.remove(partition),
            };
        }
    }

    /// Sees that nothing was left out before and between the records of a batch.
    ///
    /// # Errors
    /// [`BrokerError::LeftOut`] if something was; [`BrokerError`] if the log cannot be asked.
    pub(crate) async fn check(&mut self, batch: &Batch) -> Result<(), BrokerError> {
        let from = batch.from();
        let expected = self.next.get(from).copied();
        let Some(last) = batch.last() else {
            return Ok(());
        };
        let passed_over = match self.unbroken.contains(&&*from.topic) {
            true => 0,
            false => MARKERS_MAX,
        };
        for hole in holes(batch, expected) {
            if passed_over < hole.high.0 - hole.low.0 {
                self.look(from, hole).await?;
            }
        }
        match self.next.get_mut(from) {
            Some(next) => *next = last.next().max(*next),
            None => {
                self.next.insert(from.clone(), last.next());
            }
        }
        Ok(())
    }

    async fn look(&self, from: &TopicPartition, hole: Watermarks) -> Result<(), BrokerError> {
        let there = self.broker.watermarks(from).await?;
        let low = hole.low.max(there.low);
        if hole.low < low {
            warn!(partition = %from, first = %hole.low, before = %low.min(hole.high), "records were deleted before they were read");
        }
        let high = hole.high.min(Offset(low.0 + LOOK));
        let left_out = self.broker.read(from, Watermarks { low, high }).await?;
        let mut records = left_out.iter().flat_map(Batch::records);
        match records.next().as_ref().map(Record::offset) {
            Some(first) => Err(BrokerError::LeftOut {
                from: from.to_string(),
                first,
                before: hole.high,
            }),
            None => Ok(()),
        }
    }
}

/// Returns the ranges of offsets before and between the records of a batch of which no record came.
fn holes(batch: &Batch, expected: Option<Offset>) -> Vec<Watermarks> {
    let mut holes = Vec::new();
    let mut next = expected;
    for offset in batch.records().map(|record| record.offset()) {
        if let Some(low) = next.filter(|next| *next < offset) {
            holes.push(Watermarks { low, high: offset });
        }
        next = next.max(Some(offset.next()));
    }
    holes
}

#[cfg(test)]
mod tests {
    use schemas::Partition;

    use super::*;
    use crate::batch::BatchBuilder;
    use crate::broker::Outgoing;
    use crate::simulated::Simulated;

    fn from() -> TopicPartition {
        ("s.clean", Partition(0)).into()
    }

    fn batch(offsets: &[i64]) -> Batch {
        let mut builder = BatchBuilder::new(from());
        for offset in offsets {
            builder.record(Offset(*offset), 0, None, None);
        }
        builder.take().unwrap()
    }

    /// Says whether a client may go on like this where the log has a hundred records.
    async fn goes_on(unbroken: &[&str], start: Start, batches: &[&[i64]]) -> bool {
        let broker = Simulated::default();
        broker.create("s.clean", 1);
        for _ in 0..100 {
            broker.append(&from(), Outgoing::default()).unwrap();
        }
        let mut whole = Whole::new(&broker, unbroken);
        let partition = from();
        whole.begin(&[Assigned { partition, start }]);
        for offsets in batches {
            match whole.check(&batch(offsets)).await {
                Ok(()) => {}
                Err(BrokerError::LeftOut { .. }) => return false,
                Err(error) => panic!("{error}"),
            }
        }
        true
    }

    #[tokio::test]
    async fn what_a_client_leaves_out_is_seen() {
        let at = |offset| Start::At(Offset(offset));
        let ours: &[&str] = &["s.clean"];
        assert!(goes_on(ours, at(0), &[&[0, 1], &[2], &[3, 4]]).await);
        assert!(goes_on(ours, Start::Committed, &[&[50, 51], &[52]]).await);
        assert!(
            goes_on(ours, at(0), &[&[0, 1, 2], &[0], &[3]]).await,
            "again is not too little"
        );
        assert!(!goes_on(ours, at(0), &[&[1]]).await, "at once");
        assert!(!goes_on(ours, at(0), &[&[0, 2]]).await, "within");
        assert!(
            !goes_on(ours, Start::Committed, &[&[50], &[52]]).await,
            "between"
        );
        assert!(
            !goes_on(ours, Start::Committed, &[&[50], &[90]]).await,
            "far"
        );
    }

    #[tokio::test]
    async fn offsets_without_records_are_passed_over() {
        let (ours, at): (&[&str], _) = (&["s.clean"], Start::At(Offset(99)));
        assert!(goes_on(ours, at, &[&[99], &[102], &[5000]]).await);
        assert!(
            goes_on(&[], Start::Committed, &[&[0], &[17]]).await,
            "not asked"
        );
        assert!(!goes_on(&[], Start::Committed, &[&[0], &[18]]).await);
    }
}
