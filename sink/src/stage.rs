//! The sink as a stage of the worker: messages in, durable offsets out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use schemas::clean::{CleanDecoder, CleanError, CleanHeader};
use schemas::{Columns, Contract, Digest, Offset, TopicId};
use telemetry::{Traces, names};
use worker::{Batch, Record, Stage, Start, TopicPartition};

use crate::error::SinkError;
use crate::lander::{Covers, Lander, Source};
use crate::roll::Cause;

/// Sampled events of one commit whose spans are emitted; those beyond have none.
const TRACED_MAX: usize = 10_000;

/// Lands clean messages.
pub struct Sink {
    lander: Lander,
    decoder: CleanDecoder,
    contract: Digest,
    /// Id of the raw topic as it is now.
    raw: TopicId,
    /// The next clean offset of each partition: what was handled, and what of it has landed.
    handled: BTreeMap<TopicPartition, Offset>,
    durable: Vec<(TopicPartition, Offset)>,
    /// Whether something was handled since all that was handled had landed.
    behind: bool,
    traces: Traces,
    /// The trace parents of sampled events that wait for a commit, and when each was handled.
    traced: Vec<(String, SystemTime)>,
}

impl Sink {
    /// Makes the stage of a stream whose raw topic has this id.
    pub fn new(
        lander: Lander,
        contract: &Arc<Contract>,
        columns: &Columns,
        raw: TopicId,
        traces: Traces,
    ) -> Sink {
        Sink {
            lander,
            decoder: CleanDecoder::new(columns.schema().clone()),
            contract: contract.digest(),
            raw,
            handled: BTreeMap::new(),
            durable: Vec::new(),
            behind: false,
            traces,
            traced: Vec::new(),
        }
    }

    async fn land(&mut self, record: Record<'_>, from: &TopicPartition) -> Result<(), SinkError> {
        let refuse = |source| SinkError::Clean {
            from: from.to_string(),
            offset: record.offset(),
            source,
        };
        let header = CleanHeader::from_headers(record.headers()).map_err(refuse)?;
        if header.contract != self.contract {
            let (found, expected) = (header.contract, self.contract);
            return Err(refuse(CleanError::OtherContract { found, expected }));
        }
        let payload = record.value().unwrap_or_default();
        let rows = self.decoder.decode(payload).map_err(refuse)?;
        let source = Source {
            topic_id: header.topic_id,
            partition: header.partition,
        };
        self.lander.own(source).await?;
        let covers = Covers {
            first: header.first,
            last: header.last,
        };
        self.trace(&rows);
        self.lander.take(source, covers, rows, payload.len())
    }

    /// Keeps the trace parents of rows until they have landed.
    fn trace(&mut self, rows: &RecordBatch) {
        if !self.traces.enabled() {
            return;
        }
        let now = SystemTime::now();
        let parents = rows.column(Columns::TRACE_PARENT).as_string::<i32>();
        let room = TRACED_MAX.saturating_sub(self.traced.len());
        let parents = parents.iter().flatten().take(room);
        self.traced
            .extend(parents.map(|parent| (parent.to_owned(), now)));
    }

    /// Notes that all that was handled has landed.
    fn landed(&mut self) {
        self.durable = self
            .handled
            .iter()
            .map(|(partition, next)| (partition.clone(), *next))
            .collect();
        self.behind = false;
        for (parent, handled) in self.traced.drain(..) {
            self.traces
                .emit(names::span::LAND, &parent, handled, Vec::new());
        }
    }
}

impl Stage for Sink {
    type Error = SinkError;

    async fn assign(&mut self, partition: &TopicPartition) -> Result<Start, SinkError> {
        let source = Source {
            topic_id: self.raw,
            partition: partition.partition,
        };
        // A lake without the partition wants all of it, whatever the group has committed for another lake.
        Ok(match self.lander.own(source).await? {
            Some(_) => Start::Committed,
            None => Start::At(Offset(0)),
        })
    }

    async fn handle(&mut self, batch: Batch) -> Result<(), SinkError> {
        let from = batch.from().clone();
        for record in batch.records() {
            self.land(record, &from).await?;
            self.handled.insert(from.clone(), record.offset().next());
        }
        self.behind = true;
        Ok(())
    }

    async fn tick(&mut self, now: Instant) -> Result<(), SinkError> {
        let landed = self.lander.land_if_due(now).await?.is_some();
        // After a restart, messages come again of which all has landed: nothing is open after them.
        if landed || (self.behind && self.lander.is_empty()) {
            self.landed();
        }
        Ok(())
    }

    fn durable(&mut self) -> Result<Vec<(TopicPartition, Offset)>, SinkError> {
        Ok(std::mem::take(&mut self.durable))
    }

    async fn drain(&mut self, _: &[TopicPartition]) -> Result<(), SinkError> {
        self.lander.land(Cause::Drain).await?;
        self.landed();
        Ok(())
    }

    fn release(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.lander.disown(partition.partition);
            self.handled.remove(partition);
        }
    }
}
