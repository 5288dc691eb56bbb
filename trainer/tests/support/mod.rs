//! A broker in memory, a log of made-up events and labels, and a trainer on them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use schemas::clean::{CleanEncoder, CleanHeader};
use schemas::model::{Assembler, ModelMessage, Update};
use schemas::{Columns, Contract, Offset, Partition, TopicId};
use telemetry::{Instruments, Traces};
use tokio::sync::mpsc;
use trainer::{Trainer, TrainerError};
use worker::{
    Batch, BatchBuilder, Broker, BrokerError, Lane, Outgoing, Stage, Start, Store, Subscription,
    TopicInfo, TopicPartition, Watermarks,
};

pub const PARTITIONS: i32 = 2;
pub const SOURCE: TopicId = TopicId([7; 16]);

const CONTRACT: &str = r#"
version = 1
[stream]
name = "s"
[event]
id = "id"
time = "at"
[[fields]]
id = 1
name = "id"
type = "string"
presence = "required"
[[fields]]
id = 2
name = "at"
type = "timestamp"
presence = "required"
[[fields]]
id = 3
name = "city"
type = "string"
[[fields]]
id = 4
name = "miles"
type = "int64"
[[features]]
kind = "category"
of = "city"
[[features]]
kind = "number"
of = "miles"
[label]
name = "late"
type = "bool"
event = "id"
time = "known"
wait_max = "48h"
pending_max = 4096
[learner]
bits = 10
"#;

pub fn contract() -> Contract {
    contract_of("type = \"bool\"")
}

/// Returns the contract with another type of label.
pub fn contract_of(label: &str) -> Contract {
    Contract::parse("s.toml", &CONTRACT.replace("type = \"bool\"", label)).unwrap()
}

type Message = (Vec<u8>, Vec<(String, Vec<u8>)>);

/// Topics in memory; clones share them.
#[derive(Clone)]
pub struct MemoryBroker {
    topics: Arc<Mutex<HashMap<TopicPartition, Vec<Message>>>>,
    /// Records of a batch that is read.
    pub batch: usize,
}

impl MemoryBroker {
    pub fn new(batch: usize) -> MemoryBroker {
        MemoryBroker {
            topics: Arc::default(),
            batch,
        }
    }

    pub fn push(&self, to: &TopicPartition, value: &[u8], headers: &[(&str, &[u8])]) -> usize {
        let own = |(name, value): &(&str, &[u8])| ((*name).to_owned(), value.to_vec());
        let message = (value.to_vec(), headers.iter().map(own).collect());
        let mut topics = self.topics.lock().unwrap();
        let log = topics.entry(to.clone()).or_default();
        log.push(message);
        log.len()
    }

    pub fn len(&self, of: &TopicPartition) -> usize {
        self.topics.lock().unwrap().get(of).map_or(0, Vec::len)
    }

    pub fn truncate(&self, of: &TopicPartition, len: usize) {
        if let Some(log) = self.topics.lock().unwrap().get_mut(of) {
            log.truncate(len);
        }
    }

    /// Copies all topics.
    pub fn fork(&self) -> MemoryBroker {
        let topics = self.topics.lock().unwrap().clone();
        MemoryBroker {
            topics: Arc::new(Mutex::new(topics)),
            batch: self.batch,
        }
    }

    pub fn batches(&self, from: &TopicPartition, range: Watermarks, each: usize) -> Vec<Batch> {
        let topics = self.topics.lock().unwrap();
        let log = topics.get(from).cloned().unwrap_or_default();
        let mut batches = Vec::new();
        let mut builder = BatchBuilder::new(from.clone());
        for at in range.low.0..range.high.0.min(log.len() as i64) {
            let (value, headers) = &log[at as usize];
            builder.record(Offset(at), 0, None, Some(value));
            for (name, value) in headers {
                builder.header(name, Some(value));
            }
            if each.max(1) <= builder.len() {
                batches.extend(builder.take());
            }
        }
        batches.extend(builder.take());
        batches
    }

    /// Returns the versions of the model topic.
    pub fn updates(&self) -> Vec<Update> {
        let (model, all) = (model(), everything());
        let mut assembler = Assembler::default();
        let mut updates = Vec::new();
        for batch in self.batches(&model, all, 1) {
            let record = batch.records().next().unwrap();
            if let Ok(ModelMessage::Chunk(chunk)) = ModelMessage::parse(record.value().unwrap()) {
                let whole = assembler.take(chunk).ok().flatten();
                updates.extend(whole.map(|(update, _)| update));
            }
        }
        updates
    }
}

pub fn everything() -> Watermarks {
    Watermarks {
        low: Offset(0),
        high: Offset(i64::MAX),
    }
}

pub fn model() -> TopicPartition {
    ("s.model", Partition(0)).into()
}

pub fn inputs() -> Vec<TopicPartition> {
    let of = |topic: &'static str| (0..PARTITIONS).map(move |at| (topic, Partition(at)).into());
    of("s.clean").chain(of("s.labels")).collect()
}

#[derive(Clone)]
pub struct MemoryLane(MemoryBroker, TopicPartition, Arc<Mutex<u64>>);

impl Lane for MemoryLane {
    async fn send(&self, record: Outgoing<'_>) -> Result<u64, BrokerError> {
        self.0.push(&self.1, record.value, record.headers);
        let mut sent = self.2.lock().unwrap();
        *sent += 1;
        Ok(*sent)
    }

    fn acked(&self) -> Result<u64, BrokerError> {
        Ok(*self.2.lock().unwrap())
    }

    async fn wait(&self, _: u64) -> Result<(), BrokerError> {
        Ok(())
    }
}

impl Broker for MemoryBroker {
    type Lane = MemoryLane;

    fn subscribe(&self, _: &str, _: &[&str]) -> Result<Subscription, BrokerError> {
        Err(BrokerError::Stopped)
    }

    fn follow(&self, _: &TopicPartition, _: Offset) -> Result<mpsc::Receiver<Batch>, BrokerError> {
        Err(BrokerError::Stopped)
    }

    fn lane(&self, to: &TopicPartition) -> Result<MemoryLane, BrokerError> {
        Ok(MemoryLane(self.clone(), to.clone(), Arc::default()))
    }

    async fn topic(&self, _: &str) -> Result<TopicInfo, BrokerError> {
        Ok(TopicInfo {
            id: TopicId([1; 16]),
            partitions: PARTITIONS,
        })
    }

    async fn watermarks(&self, of: &TopicPartition) -> Result<Watermarks, BrokerError> {
        Ok(Watermarks {
            low: Offset(0),
            high: Offset(self.len(of) as i64),
        })
    }

    async fn read(
        &self,
        from: &TopicPartition,
        range: Watermarks,
    ) -> Result<Vec<Batch>, BrokerError> {
        Ok(self.batches(from, range, self.batch))
    }
}

/// Appends a clean message that covers raw offsets `first` to `last`; every fifth event was dead.
pub fn push_clean(
    broker: &MemoryBroker,
    contract: &Contract,
    partition: i32,
    first: i64,
    last: i64,
) {
    let alive: Vec<i64> = (first..=last).filter(|at| at % 5 != 3).collect();
    let times = || {
        let micros = alive.iter().map(|at| at * 1_000_000);
        TimestampMicrosecondArray::from_iter_values(micros).with_timezone("+00:00")
    };
    let schema = Columns::of(contract).schema().clone();
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        match field.name().as_str() {
            "_source_offset" => Arc::new(Int64Array::from(alive.clone())),
            "_event_time" | "_ingest_time" | "at" => Arc::new(times()),
            "id" => Arc::new(StringArray::from_iter_values(
                alive.iter().map(|at| format!("{partition}:{at}")),
            )),
            "city" => Arc::new(StringArray::from_iter_values(
                alive.iter().map(|at| format!("c{}", at % 7)),
            )),
            "miles" => Arc::new(Int64Array::from_iter_values(alive.iter().map(|at| at % 11))),
            _ => Arc::new(StringArray::from_iter(alive.iter().map(|_| None::<&str>))),
        }
    });
    let batch = RecordBatch::try_new(schema.clone(), columns.collect()).unwrap();
    let mut payload = Vec::new();
    CleanEncoder::default()
        .encode(&batch, &mut payload)
        .unwrap();
    let header = CleanHeader {
        topic_id: SOURCE,
        partition: Partition(partition),
        first: Offset(first),
        last: Offset(last),
        contract: contract.digest(),
        ingest_state: Vec::new(),
    };
    let headers = header.to_headers();
    let headers: Vec<(&str, &[u8])> = headers
        .iter()
        .map(|(name, value)| (*name, &value[..]))
        .collect();
    broker.push(
        &("s.clean", Partition(partition)).into(),
        &payload,
        &headers,
    );
}

/// Fills the log: `events` raw offsets a partition, `each` to a clean message, and a label for each, some of them
/// in the other partition, some twice, some unreadable.
pub fn fill(broker: &MemoryBroker, contract: &Contract, events: i64, each: i64) {
    fill_with(broker, contract, events, each, |late| {
        if late { "true" } else { "false" }
    });
}

/// The same with other words for late and not late.
pub fn fill_with(
    broker: &MemoryBroker,
    contract: &Contract,
    events: i64,
    each: i64,
    word: fn(bool) -> &'static str,
) {
    for partition in 0..PARTITIONS {
        for first in (0..events).step_by(each as usize) {
            push_clean(
                broker,
                contract,
                partition,
                first,
                (first + each).min(events) - 1,
            );
        }
        let labels: TopicPartition = ("s.labels", Partition(partition)).into();
        for at in 0..events {
            let of = if at % 4 == 0 {
                1 - partition
            } else {
                partition
            };
            let late = word((at % 7 + at % 3) % 2 == 0);
            let label = format!(
                r#"{{"id":"{of}:{at}","late":{late},"known":{}}}"#,
                at * 1000 + 500
            );
            broker.push(&labels, label.as_bytes(), &[]);
            if at % 10 == 0 {
                broker.push(&labels, label.as_bytes(), &[]);
                broker.push(&labels, b"{", &[]);
            }
        }
    }
}

/// Events of [`fill`] that are learned.
pub fn learned(events: i64) -> u64 {
    PARTITIONS as u64 * (0..events).filter(|at| at % 5 != 3).count() as u64
}

/// Names where a checkpoint is kept when the trainer deletes it.
pub fn archive(object: &str) -> String {
    format!("archive/{object}")
}

/// A trainer, and the time that it is told.
pub struct Run {
    folder: PathBuf,
    pub trainer: Trainer<MemoryBroker>,
    pub now: Instant,
    starts: HashMap<TopicPartition, i64>,
}

impl Run {
    /// Starts a trainer on a broker and a folder of checkpoints.
    pub async fn start(broker: &MemoryBroker, folder: &Path) -> Result<Run, TrainerError> {
        Run::start_with(contract(), broker, folder).await
    }

    /// The same with another contract.
    pub async fn start_with(
        contract: Contract,
        broker: &MemoryBroker,
        folder: &Path,
    ) -> Result<Run, TrainerError> {
        let store = Store::open(&folder.display().to_string()).unwrap();
        let interval = Duration::from_secs(10);
        let label = contract.label.clone().unwrap();
        let (nowhere, traces) = (Instruments::nowhere(), Traces::nowhere());
        let built = Trainer::build(
            Arc::new(contract),
            broker.clone(),
            label,
            store,
            interval,
            &nowhere,
            traces,
        );
        let mut trainer = built.await?;
        let mut starts = HashMap::new();
        for partition in inputs() {
            if let Start::At(offset) = trainer.assign(&partition).await? {
                starts.insert(partition, offset.0);
            }
        }
        Ok(Run {
            folder: folder.to_owned(),
            trainer,
            now: Instant::now(),
            starts,
        })
    }

    /// Hands over what is there, `each` records at a time, partitions in turn; ticks after each.
    pub async fn take(&mut self, broker: &MemoryBroker, each: usize) -> Result<(), TrainerError> {
        let mut queues: Vec<_> = inputs()
            .iter()
            .map(|from| {
                let range = Watermarks {
                    low: Offset(self.starts[from]),
                    ..everything()
                };
                broker.batches(from, range, each).into_iter()
            })
            .collect();
        let mut more = true;
        while more {
            more = false;
            for queue in &mut queues {
                let Some(batch) = queue.next() else { continue };
                more = true;
                self.starts
                    .insert(batch.from().clone(), batch.last().unwrap().0 + 1);
                self.trainer.handle(batch).await?;
                self.now += Duration::from_millis(400);
                self.trainer.tick(self.now).await?;
                self.archive();
            }
        }
        Ok(())
    }

    /// Returns where a partition is to be read on.
    pub fn starts(&self, of: &TopicPartition) -> Offset {
        Offset(self.starts.get(of).copied().unwrap_or_default())
    }

    pub async fn drain(&mut self) -> Result<(), TrainerError> {
        self.trainer.drain(&inputs()).await?;
        self.archive();
        Ok(())
    }

    fn archive(&self) {
        let Ok(files) = std::fs::read_dir(self.folder.join("s")) else {
            return;
        };
        let kept = self.folder.join(archive("s"));
        std::fs::create_dir_all(&kept).unwrap();
        for file in files.map(Result::unwrap) {
            let target = kept.join(file.file_name());
            if !target.exists() {
                std::fs::copy(file.path(), target).unwrap();
            }
        }
    }
}
