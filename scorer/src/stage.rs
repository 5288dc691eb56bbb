//! The stage: clean batches in, scores out.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Instant, SystemTime};

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use schemas::clean::{CleanDecoder, CleanError, CleanHeader};
use schemas::score::Score;
use schemas::topics::Topics;
use schemas::{Columns, Contract, Digest, Offset, Partition, TopicId};
use telemetry::{Instruments, Traces, names};
use tracing::info;
use worker::{
    Batch, Broker, Lane, Outgoing, Record, Stage, Start, Store, TopicPartition, Watermarks,
};

use crate::error::ScorerError;
use crate::model::LiveModel;
use crate::reference::Reference;
use crate::score::Scorer;
use crate::signals::Signals;

/// Scores that are read back: a zombie may have written a few after the newest.
const SCORES_BACK: i64 = 64;

/// Clean messages that are read back: a zombie may have written a few after the newest.
const CLEAN_BACK: i64 = 32;

/// Header that carries the trace context.
const TRACE_PARENT: &str = "traceparent";

/// Clean batches in; one score for each event out.
pub struct ScoreStage<B: Broker> {
    broker: B,
    topics: Topics,
    raw_id: TopicId,
    digest: Digest,
    threshold: f64,
    decoder: CleanDecoder,
    scorer: Scorer,
    model: LiveModel,
    reference: Reference,
    signals: Signals,
    traces: Traces,
    partitions: BTreeMap<Partition, Owned<B::Lane>>,
    json: String,
}

/// A partition that is ours.
struct Owned<L> {
    lane: L,
    /// The last raw offset that is scored or was refused.
    passed: Option<Offset>,
    /// Whether a batch came since the assignment.
    begun: bool,
    /// The last raw offset that the messages so far cover: behind it there may be no gap.
    covered: Option<Offset>,
    /// Number of the last score of a clean message, and the clean offset after that message.
    sent: VecDeque<(u64, Offset)>,
    last: u64,
}

impl<B: Broker> ScoreStage<B> {
    /// Finds the topics, builds the model as it is now, and makes the stage.
    ///
    /// # Errors
    /// [`ScorerError`] if a topic is missing or the model cannot be built.
    pub async fn build(
        contract: &Contract,
        broker: B,
        store: &Store,
        instruments: &Instruments,
        traces: Traces,
    ) -> Result<ScoreStage<B>, ScorerError> {
        let topics = Topics::of(&contract.stream.name);
        let raw_id = broker.topic(&topics.raw).await?.id;
        broker.topic(&topics.model).await?;
        let scorer = Scorer::new(contract)?;
        let model =
            LiveModel::build(&broker, &topics.model, contract, scorer.layout(), store).await?;
        Ok(ScoreStage {
            broker,
            topics,
            raw_id,
            digest: contract.digest(),
            threshold: contract.decision.threshold,
            decoder: CleanDecoder::new(Columns::of(contract).schema().clone()),
            scorer,
            model,
            reference: Reference::of(contract, store.clone()),
            signals: Signals::new(instruments),
            traces,
            partitions: BTreeMap::new(),
            json: String::new(),
        })
    }

    /// Reads how far the scores of a partition are.
    async fn passed(&self, scores: &TopicPartition) -> Result<Option<Offset>, ScorerError> {
        let ends = self.broker.watermarks(scores).await?;
        let low = Offset((ends.high.0 - SCORES_BACK).max(ends.low.0));
        let tail = self
            .broker
            .read(
                scores,
                Watermarks {
                    low,
                    high: ends.high,
                },
            )
            .await?;
        let read = |record: Record<'_>| serde_json::from_slice::<Score>(record.value()?).ok();
        let sources = tail
            .iter()
            .flat_map(Batch::records)
            .filter_map(read)
            .map(|score| score.source);
        Ok(sources
            .filter(|source| source.topic_id == self.raw_id)
            .map(|source| source.offset)
            .max())
    }

    /// Sees how far the messages cover that are before the first one of an assignment. Scores do not say: events may
    /// be dead; nor does that message, if a worker that was replaced wrote it late.
    async fn begin(&mut self, clean: &TopicPartition, first: Offset) -> Result<(), ScorerError> {
        let Some(owned) = self.partitions.get_mut(&clean.partition) else {
            return Err(ScorerError::Unassigned(clean.to_string()));
        };
        if owned.begun {
            return Ok(());
        }
        let low = self.broker.watermarks(clean).await?.low;
        let range = Watermarks {
            low: Offset((first.0 - CLEAN_BACK).max(low.0)),
            high: first,
        };
        let before = self.broker.read(clean, range).await?;
        let headers = before
            .iter()
            .flat_map(Batch::records)
            .filter_map(|record| CleanHeader::from_headers(record.headers()).ok());
        owned.covered = headers
            .filter(|header| header.topic_id == self.raw_id)
            .map(|header| header.last)
            .max();
        // What was committed is scored.
        owned.passed = owned.passed.max(owned.covered);
        owned.begun = true;
        info!(partition = %clean, %first, covered = ?owned.covered, passed = ?owned.passed, "goes on");
        Ok(())
    }

    /// Scores the events of one clean message that were not scored before.
    async fn message(
        &mut self,
        from: &TopicPartition,
        record: Record<'_>,
    ) -> Result<(), ScorerError> {
        let wrong = |source| ScorerError::Clean {
            from: from.to_string(),
            offset: record.offset(),
            source,
        };
        let Some(owned) = self.partitions.get(&from.partition) else {
            return Err(ScorerError::Unassigned(from.to_string()));
        };
        let header = CleanHeader::from_headers(record.headers()).map_err(wrong)?;
        if header.topic_id != self.raw_id {
            // Events of a raw topic that is no more were scored, or not, in its time.
            return Ok(());
        }
        if header.contract != self.digest {
            return Err(wrong(CleanError::OtherContract {
                found: header.contract,
                expected: self.digest,
            }));
        }
        owned.check_gap(from, record.offset(), header.first)?;
        let (lane, passed, mut last) = (owned.lane.clone(), owned.passed, owned.last);
        if passed.is_none_or(|passed| passed < header.last) {
            let batch = self
                .decoder
                .decode(record.value().unwrap_or_default())
                .map_err(wrong)?;
            let known = known_rows(&batch, passed);
            let batch = batch.slice(known, batch.num_rows() - known);
            if 0 < batch.num_rows() {
                last = self.emit(&lane, from.partition, &batch).await?;
            }
        }
        if let Some(owned) = self.partitions.get_mut(&from.partition) {
            owned.advance(header.last, last, record.offset().next());
        }
        Ok(())
    }

    /// Sends the scores of a batch; returns the number of the last one.
    async fn emit(
        &mut self,
        lane: &B::Lane,
        partition: Partition,
        batch: &RecordBatch,
    ) -> Result<u64, ScorerError> {
        let started = SystemTime::now();
        let scored = self
            .scorer
            .score(batch, self.model.served(), self.raw_id, partition)?;
        let mut last = 0;
        for row in 0..scored.len() {
            self.json.clear();
            scored.write(row, &mut self.json);
            let parent = scored.trace_parent(row);
            let header = parent.map(|parent| (TRACE_PARENT, parent.as_bytes()));
            let outgoing = Outgoing {
                key: Some(scored.id(row).as_bytes()),
                value: self.json.as_bytes(),
                headers: header.as_slice(),
            };
            last = lane.send(outgoing).await?;
            if let Some(parent) = parent
                && self.traces.enabled()
            {
                self.traces
                    .emit(names::span::SCORE, parent, started, Vec::new());
            }
        }
        let decisions = scored.at_least(self.threshold);
        self.signals.scored(
            scored.len(),
            decisions,
            scored.ingest_micros(0),
            SystemTime::now(),
        );
        Ok(last)
    }
}

/// Returns how many of the first rows are of raw offsets that were passed.
fn known_rows(batch: &RecordBatch, passed: Option<Offset>) -> usize {
    let offsets = batch
        .column(Columns::SOURCE_OFFSET)
        .as_primitive::<Int64Type>();
    passed.map_or(0, |passed| {
        offsets
            .values()
            .partition_point(|offset| *offset <= passed.0)
    })
}

impl<L> Owned<L> {
    fn check_gap(
        &self,
        from: &TopicPartition,
        offset: Offset,
        first: Offset,
    ) -> Result<(), ScorerError> {
        match self.covered {
            Some(covered) if covered.next() < first => Err(ScorerError::Gap {
                from: from.to_string(),
                offset,
                first: covered.next(),
                last: Offset(first.0 - 1),
            }),
            _ => Ok(()),
        }
    }

    fn advance(&mut self, covered: Offset, last: u64, next: Offset) {
        self.passed = self.passed.max(Some(covered));
        self.covered = self.covered.max(Some(covered));
        self.last = last;
        self.sent.push_back((last, next));
    }
}

impl<B: Broker> Stage for ScoreStage<B> {
    type Error = ScorerError;

    async fn assign(&mut self, clean: &TopicPartition) -> Result<Start, ScorerError> {
        let scores: TopicPartition = (self.topics.scores.as_str(), clean.partition).into();
        let passed = self.passed(&scores).await?;
        let lane = self.broker.lane(&scores)?;
        let owned = Owned {
            lane,
            passed,
            begun: false,
            covered: None,
            sent: VecDeque::new(),
            last: 0,
        };
        self.partitions.insert(clean.partition, owned);
        // What the group has committed is scored; what is scored beyond that is dropped as it comes.
        Ok(Start::Committed)
    }

    async fn handle(&mut self, batch: Batch) -> Result<(), ScorerError> {
        for record in batch.records() {
            self.begin(batch.from(), record.offset()).await?;
            self.message(batch.from(), record).await?;
        }
        Ok(())
    }

    async fn tick(&mut self, now: Instant) -> Result<(), ScorerError> {
        let updates = self.model.refresh()?;
        let version = self.model.served().lineage().version;
        self.signals.model(version.0, self.model.age(), updates);
        let (space, drift) = self.scorer.watched();
        self.reference.tend(now, space, drift);
        let drift = self.scorer.drift();
        self.signals
            .drifted(drift.windows(), drift.last(), |slot| self.scorer.name(slot));
        Ok(())
    }

    fn durable(&mut self) -> Result<Vec<(TopicPartition, Offset)>, ScorerError> {
        let mut durable = Vec::new();
        for (partition, owned) in &mut self.partitions {
            let acked = owned.lane.acked()?;
            let mut through = None;
            while let Some((number, next)) = owned.sent.front().copied()
                && number <= acked
            {
                through = Some(next);
                owned.sent.pop_front();
            }
            if let Some(next) = through {
                durable.push(((self.topics.clean.as_str(), *partition).into(), next));
            }
        }
        Ok(durable)
    }

    async fn drain(&mut self, partitions: &[TopicPartition]) -> Result<(), ScorerError> {
        for partition in partitions {
            if let Some(owned) = self.partitions.get(&partition.partition) {
                owned.lane.wait(owned.last).await?;
            }
        }
        Ok(())
    }

    fn release(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.partitions.remove(&partition.partition);
        }
    }
}
