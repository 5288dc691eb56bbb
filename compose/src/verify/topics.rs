//! Reads the topics: partitions go in, their accounts and the chain of models come out.
//!
//! Each partition is read by a client of its own, from where the topic begins to where it ended when the audit began.
//! It joins no group, commits nothing and writes nothing; of raw records it looks at the offsets alone.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use schemas::clean::{CleanDecoder, CleanHeader};
use schemas::dead::DeadHeader;
use schemas::topics::Topics;
use schemas::{ColumnRole, Columns, Digest, Partition, TopicId};
use worker::{Broker, Kafka, Taken, TopicPartition, Watermarks, scan};

use super::accounts::{Account, Begin, Rows, tag};
use super::chain::Chain;
use super::ledger::Promise;
use super::messages::read_score;
use super::{Plan, Progress};

/// How long a broker may take to answer, and how long nothing may come.
const DEADLINE: Duration = Duration::from_secs(30);

/// Messages between two moves of the progress bar.
const MESSAGES_PER_STEP: u64 = 8192;

/// Closes clients aside: it takes each a tenth of a second, and an audit has a dozen of them.
#[derive(Default)]
struct Aside(Mutex<Vec<JoinHandle<()>>>);

impl Aside {
    fn close(&self, client: impl Send + 'static) {
        let closing = std::thread::spawn(move || drop(client));
        let mut threads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|thread| !thread.is_finished());
        threads.push(closing);
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let threads = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            // A client that cannot be closed has nothing left to tell.
            let _ = thread.join();
        }
    }
}

/// The topics of a stream as they are when an audit begins.
pub(super) struct Cluster {
    config: ClientConfig,
    aside: Aside,
    topics: Topics,
    digest: Digest,
    decoder: CleanDecoder,
    /// Whether events have an id in the clear, which scores then carry.
    has_id: bool,
    /// Id of the raw topic: what came of one that it replaces is not held against it.
    pub(super) raw_id: TopicId,
    compacted: bool,
    complete: bool,
    model: Range<i64>,
    pub(super) partitions: Vec<Ends>,
}

/// Where the topics of one partition begin and end.
pub(super) struct Ends {
    partition: i32,
    raw: Range<i64>,
    dead: Range<i64>,
    clean: Range<i64>,
    scores: Range<i64>,
}

impl Ends {
    /// Returns the partition.
    pub(super) fn partition(&self) -> i32 {
        self.partition
    }

    fn messages(&self) -> u64 {
        [&self.raw, &self.dead, &self.clean, &self.scores]
            .into_iter()
            .map(length)
            .sum()
    }
}

impl Cluster {
    /// Finds the topics and where they begin and end: what follows from another topic first, so that all that it
    /// follows from is within the other's end.
    pub(super) fn open(plan: &Plan) -> Result<Cluster> {
        let contract = &plan.contract;
        let topics = Topics::of(&contract.stream.name);
        let config = config(plan)?;
        let consumer: BaseConsumer = config
            .create()
            .context("the Kafka settings are not right")?;
        let partitions = partitions(&consumer, &topics.raw, &plan.brokers)?;
        for name in [&topics.clean, &topics.dead, &topics.scores] {
            let found = self::partitions(&consumer, name, &plan.brokers)?;
            ensure!(
                found == partitions,
                "topic {name} and {} do not have the same partitions",
                topics.raw
            );
        }
        self::partitions(&consumer, &topics.model, &plan.brokers)?;
        let all = |name: &str| -> Result<Vec<Range<i64>>> {
            partitions
                .iter()
                .map(|partition| ends(&consumer, name, *partition))
                .collect()
        };
        let model = ends(&consumer, &topics.model, 0)?;
        let scores = all(&topics.scores)?;
        let (clean, dead, raw) = (all(&topics.clean)?, all(&topics.dead)?, all(&topics.raw)?);
        let partitions = partitions
            .iter()
            .enumerate()
            .map(|(at, partition)| Ends {
                partition: *partition,
                raw: raw[at].clone(),
                dead: dead[at].clone(),
                clean: clean[at].clone(),
                scores: scores[at].clone(),
            })
            .collect();
        let aside = Aside::default();
        aside.close(consumer);
        let columns = Columns::of(contract);
        let id = columns.index(contract.event.id, ColumnRole::Open);
        let wanted = std::iter::once(Columns::SOURCE_OFFSET).chain(id);
        Ok(Cluster {
            digest: contract.digest(),
            decoder: CleanDecoder::with_projection(columns.schema().clone(), wanted.collect()),
            has_id: id.is_some(),
            raw_id: topic_id(plan, &topics.raw)?,
            compacted: is_compacted(&config, &topics.raw, &aside),
            complete: plan.complete,
            config,
            aside,
            topics,
            model,
            partitions,
        })
    }

    /// Returns how many messages there are to read.
    pub(super) fn messages(&self) -> u64 {
        let partitions = self.partitions.iter().map(Ends::messages);
        length(&self.model) + partitions.sum::<u64>()
    }

    /// Returns where the raw partitions ended when the audit began.
    pub(super) fn through(&self) -> BTreeMap<i32, i64> {
        let ends = self.partitions.iter();
        ends.map(|ends| (ends.partition, ends.raw.end)).collect()
    }

    /// Reads one partition of raw, dead, clean and scores.
    pub(super) fn account(&self, ends: &Ends, progress: Progress<'_>) -> Result<Account> {
        let mut account = Account::open(Begin {
            partition: ends.partition,
            raw: ends.raw.clone(),
            compacted: self.compacted,
            clean_cut: 0 < ends.clean.start,
            dead_cut: 0 < ends.dead.start,
            scores_cut: 0 < ends.scores.start,
            complete: self.complete,
        });
        let (partition, topics) = (ends.partition, &self.topics);
        self.read(
            &topics.raw,
            partition,
            &ends.raw,
            progress,
            &mut |message| {
                account.raw(message.offset().0);
            },
        )?;
        self.read(
            &topics.dead,
            partition,
            &ends.dead,
            progress,
            &mut |message| {
                self.letter(&mut account, message);
            },
        )?;
        self.read(
            &topics.clean,
            partition,
            &ends.clean,
            progress,
            &mut |message| {
                self.batch(&mut account, message);
            },
        )?;
        account.settle();
        let raw_id = self.raw_id.to_string();
        self.read(
            &topics.scores,
            partition,
            &ends.scores,
            progress,
            &mut |message| {
                self.score(&mut account, message, &raw_id);
            },
        )?;
        account.settle_scores();
        Ok(account)
    }

    fn letter(&self, account: &mut Account, message: &Taken<'_>) {
        let promise = Promise::Conservation;
        let (topic, offset) = (&self.topics.dead, message.offset().0);
        match DeadHeader::from_headers(message.headers()) {
            None => account.unreadable(promise, topic, offset, "it is no dead letter"),
            // Labels are no raw records.
            Some(header) if !header.is_event() => {}
            Some(header) if header.source.topic_id != self.raw_id => {}
            Some(header) if header.source.partition != message.partition() => {
                let why = format!("it is of raw partition {}", header.source.partition);
                account.unreadable(promise, topic, offset, &why);
            }
            Some(header) => account.letter(header.source.offset.0),
        }
    }

    fn batch(&self, account: &mut Account, message: &Taken<'_>) {
        let promise = Promise::Coverage;
        let (topic, offset) = (&self.topics.clean, message.offset().0);
        let header = match CleanHeader::from_headers(message.headers()) {
            Ok(header) => header,
            Err(error) => return account.unreadable(promise, topic, offset, &error.to_string()),
        };
        if header.topic_id != self.raw_id {
            return;
        }
        if header.partition != message.partition() {
            let why = format!("it is of raw partition {}", header.partition);
            return account.unreadable(promise, topic, offset, &why);
        }
        let (first, last) = (header.first.0, header.last.0);
        if header.contract != self.digest {
            return account.batch(first, last, None);
        }
        let batch = match self.decoder.decode(message.value().unwrap_or_default()) {
            Ok(batch) => batch,
            Err(error) => return account.unreadable(promise, topic, offset, &error.to_string()),
        };
        let offsets = batch.column(0).as_primitive::<Int64Type>().values();
        let tags: Vec<u16> = match self.has_id {
            true => {
                let ids = batch.column(1).as_string::<i32>();
                (0..offsets.len()).map(|row| tag(ids.value(row))).collect()
            }
            false => Vec::new(),
        };
        let rows = Rows {
            offsets,
            tags: &tags,
        };
        account.batch(first, last, Some(rows));
    }

    fn score(&self, account: &mut Account, message: &Taken<'_>, raw_id: &str) {
        let promise = Promise::Scores;
        let (topic, offset) = (&self.topics.scores, message.offset().0);
        match read_score(message.value().unwrap_or_default()) {
            None => account.unreadable(promise, topic, offset, "it is no score"),
            Some(score) if !score.is_of(raw_id) => {}
            Some(score) if score.partition != i64::from(message.partition().0) => {
                let why = format!("it is of raw partition {}", score.partition);
                account.unreadable(promise, topic, offset, &why);
            }
            Some(score) => account.score(score.offset, score.tag),
        }
    }

    /// Reads the model topic.
    pub(super) fn chain(&self, progress: Progress<'_>) -> Result<Chain> {
        let mut chain = Chain::new(self.digest);
        self.read(
            &self.topics.model,
            0,
            &self.model,
            progress,
            &mut |message| {
                chain.message(message.offset().0, message.value().unwrap_or_default());
            },
        )?;
        Ok(chain)
    }

    /// Hands over every message of a partition in a range.
    fn read(
        &self,
        topic: &str,
        partition: i32,
        range: &Range<i64>,
        progress: Progress<'_>,
        on: &mut dyn FnMut(&Taken<'_>),
    ) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let from = TopicPartition::from((topic, Partition(partition)));
        let ends = Watermarks {
            low: schemas::Offset(range.start),
            high: schemas::Offset(range.end),
        };
        let mut read = 0;
        let scanned = scan(&self.config, &from, ends, DEADLINE, &mut |message| {
            on(message);
            read += 1;
            if read % MESSAGES_PER_STEP == 0 {
                progress.done(MESSAGES_PER_STEP);
            }
        })
        .with_context(|| format!("cannot read {topic}/{partition}"))?;
        progress.done(read % MESSAGES_PER_STEP);
        self.aside.close(scanned);
        Ok(())
    }
}

fn length(range: &Range<i64>) -> u64 {
    u64::try_from(range.end - range.start).unwrap_or_default()
}

fn config(plan: &Plan) -> Result<ClientConfig> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &plan.brokers)
        .set("client.id", "thalweg-verify")
        .set("group.id", "thalweg-verify")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("check.crcs", "true")
        .set("fetch.queue.backoff.ms", "2")
        .set("fetch.message.max.bytes", "4194304")
        .set("queued.max.messages.kbytes", "32768");
    for (name, value) in &plan.kafka {
        config.set(name, value);
    }
    Ok(config)
}

/// Returns the partitions of a topic, ascending.
fn partitions(consumer: &BaseConsumer, topic: &str, brokers: &str) -> Result<Vec<i32>> {
    let metadata = consumer.fetch_metadata(Some(topic), DEADLINE);
    let metadata = metadata.with_context(|| format!("no answer from Kafka at {brokers}"))?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let found = found.map_or(&[][..], |found| found.partitions());
    let mut partitions: Vec<i32> = found.iter().map(|partition| partition.id()).collect();
    if partitions.is_empty() {
        bail!("Kafka at {brokers} has no topic {topic}");
    }
    partitions.sort_unstable();
    Ok(partitions)
}

fn ends(consumer: &BaseConsumer, topic: &str, partition: i32) -> Result<Range<i64>> {
    let ends = consumer.fetch_watermarks(topic, partition, DEADLINE);
    let (low, high) =
        ends.with_context(|| format!("no answer about the ends of {topic}/{partition}"))?;
    Ok(low.max(0)..high.max(0))
}

fn topic_id(plan: &Plan, topic: &str) -> Result<TopicId> {
    let properties: Vec<String> = plan
        .kafka
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let kafka = Kafka::connect(&plan.brokers, &properties)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot begin to ask Kafka")?;
    Ok(runtime.block_on(kafka.topic(topic))?.id)
}

/// Says whether a topic is compacted; who may not ask for its settings must take that for possible.
fn is_compacted(config: &ClientConfig, topic: &str, aside: &Aside) -> bool {
    let Ok(admin) = config.create::<AdminClient<DefaultClientContext>>() else {
        return true;
    };
    let resource = ResourceSpecifier::Topic(topic);
    let options = AdminOptions::new().request_timeout(Some(DEADLINE));
    let answer = futures::executor::block_on(admin.describe_configs([&resource], &options));
    aside.close(admin);
    let policy = || {
        let settings = answer.ok()?.into_iter().next()?.ok()?;
        let policy = settings.get("cleanup.policy")?.value.clone()?;
        Some(policy.contains("compact"))
    };
    policy().unwrap_or(true)
}
