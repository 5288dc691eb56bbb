//! Watches a run from outside: reads what comes out of the topics, and joins it with what went in.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use schemas::clean::{CleanDecoder, CleanHeader};
use schemas::dead::{DeadHeader, Reason};
use schemas::topics::Topics;
use schemas::{Columns, Contract};
use sonic_rs::JsonValueTrait;

use super::acks::Acks;
use super::histogram::Histogram;
use super::quality::{Judged, Running};

/// The longest wait for a message.
const POLL: Duration = Duration::from_millis(20);
/// How long it may take until every partition is read.
const START_MAX: Duration = Duration::from_secs(30);
/// Scores that come before their acknowledgement wait here, at most so many.
const UNMATCHED_MAX: usize = 1 << 20;

/// What the file says about each row: when it happened, and its label.
pub type Truth = Vec<(i64, Option<bool>)>;

/// What was seen of one raw message.
#[derive(Clone, Copy, Debug, Default)]
struct Fate {
    clean: bool,
    dead: bool,
    scored: bool,
}

/// What has come out so far.
#[derive(Default)]
pub struct Observed {
    /// Events in clean batches, each raw offset once.
    pub clean: u64,
    /// Messages that those events came in.
    pub clean_messages: u64,
    /// Dead letters by reason, each raw offset once.
    pub dead: BTreeMap<Reason, u64>,
    /// Scores, each raw offset once.
    pub scored: u64,
    /// Messages about a raw offset that had been told of before.
    pub repeated: u64,
    /// Raw offsets that are both clean and dead.
    pub contradictions: u64,
    /// Messages that are not what the topic should have.
    pub unreadable: u64,
    /// From the acknowledgement of a raw message to its score.
    pub latency: Histogram,
    /// The same since somebody last took it away.
    pub latency_lately: Histogram,
    /// Of the scores that have a label.
    pub running: Running,
    /// Scores by row of the file.
    scores: Vec<Option<f64>>,
    fates: Vec<Vec<Fate>>,
}

impl Observed {
    /// Returns the number of dead letters.
    pub fn dead_total(&self) -> u64 {
        self.dead.values().sum()
    }

    /// Returns scores with labels, in the order of the file.
    pub fn judged(&self, truth: &Truth) -> Vec<Judged> {
        let rows = truth.iter().zip(&self.scores);
        rows.filter_map(|((micros, label), score)| {
            Some(Judged {
                micros: *micros,
                score: (*score)?,
                label: (*label)?,
            })
        })
        .collect()
    }

    /// Counts the labels that were sent for events that were found clean: what must be learned.
    pub fn labelled_clean(&self, acks: &Acks) -> u64 {
        let labelled = acks.labelled();
        let clean = self
            .fates
            .iter()
            .enumerate()
            .flat_map(|(partition, fates)| {
                fates
                    .iter()
                    .enumerate()
                    .filter(|(_, fate)| fate.clean)
                    .map(move |(offset, _)| (partition, offset))
            });
        clean
            .filter_map(|(partition, offset)| acks.raw(partition, offset)?.row())
            .filter(|row| labelled.get(*row).copied().unwrap_or(false))
            .count() as u64
    }

    fn fate(&mut self, partition: i32, offset: i64) -> Option<&mut Fate> {
        let (partition, offset) = (
            usize::try_from(partition).ok()?,
            usize::try_from(offset).ok()?,
        );
        let fates = self.fates.get_mut(partition)?;
        if fates.len() <= offset {
            fates.resize(offset + 1, Fate::default());
        }
        Some(&mut fates[offset])
    }

    fn clean(&mut self, partition: i32, offset: i64) {
        let Some(fate) = self.fate(partition, offset) else {
            return;
        };
        let (seen, dead) = (std::mem::replace(&mut fate.clean, true), fate.dead);
        self.clean += u64::from(!seen);
        self.repeated += u64::from(seen);
        self.contradictions += u64::from(dead);
    }

    fn dead(&mut self, header: &DeadHeader) {
        let Some(fate) = self.fate(header.source.partition.0, header.source.offset.0) else {
            return;
        };
        let (seen, clean) = (std::mem::replace(&mut fate.dead, true), fate.clean);
        *self.dead.entry(header.reason).or_default() += u64::from(!seen);
        self.repeated += u64::from(seen);
        self.contradictions += u64::from(clean);
    }
}

/// A score that came, and when.
#[derive(Clone, Copy, Debug)]
struct Arrived {
    partition: i32,
    offset: i64,
    score: f64,
    at: Instant,
}

/// Reads the topics of one run.
pub struct Observer {
    consumer: BaseConsumer,
    join: Join,
}

/// Joins what comes out with what went in.
struct Join {
    topics: Topics,
    decoder: CleanDecoder,
    acks: Arc<Acks>,
    truth: Arc<Truth>,
    observed: Arc<Mutex<Observed>>,
    unmatched: Vec<Arrived>,
}

/// Looks at what has been observed.
pub fn look(observed: &Mutex<Observed>) -> MutexGuard<'_, Observed> {
    observed.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Observer {
    /// Begins to read clean, dead and scores from the start.
    ///
    /// # Errors
    /// A broker that does not answer.
    pub fn connect(
        brokers: &str,
        contract: &Contract,
        partitions: i32,
        acks: Arc<Acks>,
        truth: Arc<Truth>,
    ) -> Result<Observer> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", "thalweg-demo")
            .set("client.id", "thalweg-demo")
            .set("enable.auto.commit", "false")
            .set("fetch.wait.max.ms", "100")
            .set("auto.offset.reset", "earliest")
            .set("enable.partition.eof", "true")
            .create()
            .context("the observer could not be made")?;
        let topics = Topics::of(&contract.stream.name);
        let mut list = TopicPartitionList::new();
        for topic in [&topics.clean, &topics.dead, &topics.scores] {
            for partition in 0..partitions {
                list.add_partition_offset(topic, partition, Offset::Beginning)?;
            }
        }
        consumer.assign(&list)?;
        let schema = Columns::of(contract).schema().clone();
        let observed = Observed {
            scores: vec![None; truth.len()],
            fates: vec![Vec::new(); partitions.max(0) as usize],
            ..Observed::default()
        };
        let join = Join {
            topics,
            decoder: CleanDecoder::with_projection(schema, vec![Columns::SOURCE_OFFSET]),
            acks,
            truth,
            observed: Arc::new(Mutex::new(observed)),
            unmatched: Vec::new(),
        };
        let observer = Observer { consumer, join };
        observer.reach_ends(list.count())?;
        Ok(observer)
    }

    /// Waits until each of the partitions, which are empty yet, is being read: a reader that comes later would take
    /// its own start for latency.
    fn reach_ends(&self, partitions: usize) -> Result<()> {
        let deadline = Instant::now() + START_MAX;
        let mut reached = 0;
        while reached < partitions {
            ensure!(
                Instant::now() < deadline,
                "the observer reads {reached} of {partitions} partitions after {START_MAX:?}"
            );
            match self.consumer.poll(POLL) {
                Some(Err(KafkaError::PartitionEOF(_))) => reached += 1,
                Some(Err(error)) => return Err(error).context("the observer cannot read"),
                Some(Ok(_)) => bail!("a topic of the run is not empty before it begins"),
                None => {}
            }
        }
        Ok(())
    }

    /// Returns what it fills.
    pub fn observed(&self) -> Arc<Mutex<Observed>> {
        self.join.observed.clone()
    }

    /// Reads until told to stop.
    ///
    /// # Errors
    /// A broker that is gone.
    pub fn run(self, stop: &AtomicBool) -> Result<()> {
        let Observer { consumer, mut join } = self;
        let observed = join.observed.clone();
        while !stop.load(Ordering::Relaxed) {
            match consumer.poll(POLL) {
                None | Some(Err(KafkaError::PartitionEOF(_))) => {
                    join.match_late(&mut look(&observed));
                }
                Some(message) => {
                    let message = message.context("the observer lost the broker")?;
                    let at = Instant::now();
                    join.message(&message, at, &mut look(&observed));
                }
            }
        }
        Ok(())
    }
}

impl Join {
    fn message(&mut self, message: &BorrowedMessage<'_>, at: Instant, observed: &mut Observed) {
        let payload = message.payload().unwrap_or_default();
        if message.topic() == self.topics.scores {
            return match score(payload) {
                Some((partition, offset, score)) => {
                    self.scored(
                        Arrived {
                            partition,
                            offset,
                            score,
                            at,
                        },
                        observed,
                    );
                }
                None => observed.unreadable += 1,
            };
        }
        let headers: Vec<(&str, &[u8])> = message
            .headers()
            .into_iter()
            .flat_map(|headers| headers.iter())
            .map(|header| (header.key, header.value.unwrap_or_default()))
            .collect();
        if message.topic() == self.topics.dead {
            return match DeadHeader::from_headers(headers.iter().copied()) {
                Some(header) if header.is_event() => observed.dead(&header),
                // A label that cannot be read: the trainer counts it.
                Some(_) => {}
                None => observed.unreadable += 1,
            };
        }
        observed.clean_messages += 1;
        let header = CleanHeader::from_headers(headers.iter().copied());
        match header.and_then(|header| Ok((header.partition, self.decoder.decode(payload)?))) {
            Ok((partition, batch)) => {
                use arrow_array::cast::AsArray;
                use arrow_array::types::Int64Type;
                let offsets = batch.column(0).as_primitive::<Int64Type>();
                offsets
                    .values()
                    .iter()
                    .for_each(|offset| observed.clean(partition.0, *offset));
            }
            Err(_) => observed.unreadable += 1,
        }
    }

    fn scored(&mut self, arrived: Arrived, observed: &mut Observed) {
        let Some(fate) = observed.fate(arrived.partition, arrived.offset) else {
            return;
        };
        if std::mem::replace(&mut fate.scored, true) {
            observed.repeated += 1;
            return;
        }
        observed.scored += 1;
        if !self.matched(arrived, observed) && self.unmatched.len() < UNMATCHED_MAX {
            self.unmatched.push(arrived);
        }
    }

    /// Joins a score with the acknowledgement of its raw message; says no if that has not come yet.
    fn matched(&self, arrived: Arrived, observed: &mut Observed) -> bool {
        let place = usize::try_from(arrived.partition)
            .ok()
            .zip(usize::try_from(arrived.offset).ok());
        let Some(ack) = place.and_then(|(partition, offset)| self.acks.raw(partition, offset))
        else {
            return false;
        };
        let latency = self.acks.since(ack, arrived.at);
        observed.latency.add(latency);
        observed.latency_lately.add(latency);
        if let Some(row) = ack.row()
            && let Some((_, label)) = self.truth.get(row)
        {
            observed.scores[row] = Some(arrived.score);
            if let Some(label) = label {
                observed.running.add(arrived.score, *label);
            }
        }
        true
    }

    fn match_late(&mut self, observed: &mut Observed) {
        let unmatched = std::mem::take(&mut self.unmatched);
        self.unmatched = unmatched
            .into_iter()
            .filter(|arrived| !self.matched(*arrived, observed))
            .collect();
    }
}

/// Reads what the demo needs of a score: partition and offset of the raw message, and the probability.
fn score(payload: &[u8]) -> Option<(i32, i64, f64)> {
    let (mut score, mut partition, mut offset) = (None, None, None);
    for entry in sonic_rs::to_object_iter(payload) {
        let (key, value) = entry.ok()?;
        match &*key {
            "score" => score = value.as_f64(),
            "source" => {
                for entry in sonic_rs::to_object_iter(value.as_raw_str()) {
                    let (key, value) = entry.ok()?;
                    match &*key {
                        "partition" => partition = value.as_i64(),
                        "offset" => offset = value.as_i64(),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Some((
        i32::try_from(partition?).ok()?,
        offset?,
        score.filter(|score| (0.0..=1.0).contains(score))?,
    ))
}

#[cfg(test)]
mod tests {
    use schemas::dead::About;
    use schemas::{Offset, Partition, SourceCoordinates, TopicId};

    use super::*;

    #[test]
    fn scores_are_read_and_nonsense_is_not() {
        let text = include_bytes!("../../../schemas/fixtures/score-1.json");
        let expected: serde_json::Value = serde_json::from_slice(text).unwrap();
        let (partition, offset, probability) = score(text).unwrap();
        assert_eq!(expected["source"]["partition"], partition);
        assert_eq!(expected["source"]["offset"], offset);
        assert_eq!(expected["score"], probability);
        assert_eq!(
            score(br#"{"score":1.5,"source":{"partition":0,"offset":1}}"#),
            None
        );
        assert_eq!(score(b"{"), None);
    }

    #[test]
    fn every_raw_offset_counts_once() {
        let mut observed = Observed {
            fates: vec![Vec::new(); 2],
            ..Observed::default()
        };
        let dead = |offset| DeadHeader {
            about: About::Event,
            source: SourceCoordinates {
                topic_id: TopicId([0; 16]),
                partition: Partition(1),
                offset: Offset(offset),
            },
            reason: Reason::Duplicate,
            field: None,
        };
        observed.clean(1, 5);
        observed.clean(1, 5);
        observed.clean(9, 5);
        observed.dead(&dead(6));
        observed.dead(&dead(6));
        observed.dead(&dead(5));
        assert_eq!((observed.clean, observed.dead_total()), (1, 2));
        assert_eq!((observed.repeated, observed.contradictions), (2, 1));
    }
}
