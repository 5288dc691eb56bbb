//! What is in topics and lake, record by record, as anybody could read it.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use schemas::clean::{CleanDecoder, CleanHeader};
use schemas::dead::DeadHeader;
use schemas::model::{Assembler, ModelMessage};
use schemas::score::Score;
use schemas::topics::Topics;
use schemas::{ColumnRole, Columns, Contract};

use crate::{Produced, flights, lake, log};

/// A raw record: partition and offset.
pub type Coordinates = (i32, i64);

/// What is in topics and lake after everything has come to rest.
pub struct Audit {
    /// Raw records.
    pub raw: HashMap<Coordinates, Vec<u8>>,
    /// Clean events, with their ids.
    pub clean: Vec<(Coordinates, String)>,
    /// Dead letters.
    pub dead: Vec<Coordinates>,
    /// Scores, with the ids of their events.
    pub scores: Vec<(Coordinates, String)>,
    /// Rows of the lake.
    pub landed: Vec<Coordinates>,
    /// Ids of the events that labels are about.
    pub labels: HashSet<String>,
}

impl Audit {
    /// Reads topics and lake.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn read(brokers: &str, lake: &Path) -> Result<Audit> {
        let topics = &Topics::of("flights");
        let raw = log::read(brokers, &topics.raw)?.into_iter();
        let letter = |message: log::Read| {
            let header =
                DeadHeader::from_headers(message.headers()).context("a dead letter's headers")?;
            Ok((header.source.partition.0, header.source.offset.0))
        };
        let score = |message: log::Read| {
            let score: Score = serde_json::from_slice(&message.value)?;
            ensure!(
                score.source.partition.0 == message.partition,
                "scores keep the partition"
            );
            Ok(((score.source.partition.0, score.source.offset.0), score.id))
        };
        let label = |message: log::Read| Ok(String::from_utf8(message.key)?);
        Ok(Audit {
            raw: raw
                .map(|message| ((message.partition, message.offset), message.value))
                .collect(),
            clean: read_clean(brokers)?,
            dead: log::read(brokers, &topics.dead)?
                .into_iter()
                .map(letter)
                .collect::<Result<_>>()?,
            scores: log::read(brokers, &topics.scores)?
                .into_iter()
                .map(score)
                .collect::<Result<_>>()?,
            landed: read_lake(lake)?,
            labels: log::read(brokers, &topics.labels)?
                .into_iter()
                .map(label)
                .collect::<Result<_>>()?,
        })
    }

    /// Leaves out what was said again: readers of scores drop what they have passed, and letters name their record.
    ///
    /// A worker that was paused, and then goes on for a moment with partitions that it has lost, says again what its
    /// successor says.
    pub fn without_repeats(mut self) -> Audit {
        let mut passed: HashMap<i32, i64> = HashMap::new();
        self.scores.retain(|((partition, offset), _)| {
            let passed = passed.entry(*partition).or_insert(-1);
            let new = *passed < *offset;
            *passed = offset.max(passed).to_owned();
            new
        });
        let mut known = HashSet::new();
        self.dead.retain(|at| known.insert(*at));
        self
    }

    /// Compares what is where, record by record: nothing lost, nothing doubled.
    ///
    /// # Errors
    /// What is lost or doubled.
    pub fn check(&self, produced: Produced) -> Result<()> {
        let clean: HashSet<Coordinates> = self.clean.iter().map(|(at, _)| *at).collect();
        let dead: HashSet<Coordinates> = self.dead.iter().copied().collect();
        ensure!(
            self.raw.len() as u64 == produced.raw,
            "{} raw of {produced:?}",
            self.raw.len()
        );
        ensure!(
            clean.len() == self.clean.len(),
            "{} clean events twice",
            self.clean.len() - clean.len()
        );
        ensure!(
            dead.len() == self.dead.len(),
            "{} dead letters twice",
            self.dead.len() - dead.len()
        );
        ensure!(clean.is_disjoint(&dead), "a record is clean and dead");
        ensure!(
            clean.len() + dead.len() == self.raw.len(),
            "{} clean, {} dead, {} raw",
            clean.len(),
            dead.len(),
            self.raw.len()
        );
        let ids: HashSet<&String> = self.clean.iter().map(|(_, id)| id).collect();
        ensure!(ids.len() == clean.len(), "an id is clean twice");
        let scored: HashSet<Coordinates> = self.scores.iter().map(|(at, _)| *at).collect();
        ensure!(
            scored.len() == self.scores.len(),
            "{} scores twice",
            self.scores.len() - scored.len()
        );
        ensure!(
            scored == clean,
            "{} scored, {} clean",
            scored.len(),
            clean.len()
        );
        let landed: HashSet<Coordinates> = self.landed.iter().copied().collect();
        ensure!(
            landed.len() == self.landed.len(),
            "{} rows twice",
            self.landed.len() - landed.len()
        );
        ensure!(
            landed == clean,
            "{} landed, {} clean",
            landed.len(),
            clean.len()
        );
        Ok(())
    }

    /// Returns how many clean events have a label.
    pub fn labelled(&self) -> usize {
        self.clean
            .iter()
            .filter(|(_, id)| self.labels.contains(id))
            .count()
    }
}

/// Says whether every raw record is clean or dead, and every clean event scored.
///
/// # Errors
/// A broker that does not answer.
pub fn is_decided(brokers: &str, raw: u64) -> Result<bool> {
    let topics = Topics::of("flights");
    let clean = read_clean(brokers)?.len() as u64;
    Ok(raw <= clean + log::count(brokers, &topics.dead)?
        && clean <= log::count(brokers, &topics.scores)?)
}

/// Says whether every clean event is in the lake.
///
/// # Errors
/// A broker that does not answer.
pub fn is_landed(brokers: &str, lake: &Path) -> Result<bool> {
    let clean = read_clean(brokers)?.len();
    // There may be no table yet.
    Ok(read_lake(lake).is_ok_and(|landed| clean <= landed.len()))
}

/// Reads clean events, each source offset once.
fn read_clean(brokers: &str) -> Result<Vec<(Coordinates, String)>> {
    let topics = Topics::of("flights");
    let contract = Contract::read(&flights().join("stream.toml"))?;
    let columns = Columns::of(&contract);
    let id = columns
        .index(contract.event.id, ColumnRole::Open)
        .context("the id's column")?;
    let decoder = CleanDecoder::new(columns.schema().clone());
    let mut passed: HashMap<i32, i64> = HashMap::new();
    let mut events = Vec::new();
    for message in log::read(brokers, &topics.clean)? {
        let header = CleanHeader::from_headers(message.headers())?;
        let passed = passed.entry(message.partition).or_insert(-1);
        ensure!(
            header.first.0 <= *passed + 1,
            "clean batches leave offsets out after {passed}"
        );
        let batch = decoder.decode(&message.value)?;
        let offsets = batch
            .column(Columns::SOURCE_OFFSET)
            .as_primitive::<Int64Type>();
        let ids = batch.column(id).as_string::<i32>();
        for (offset, id) in offsets.values().iter().zip(ids.iter()) {
            // What a worker repeats after a crash, its readers drop: so do we.
            if *passed < *offset {
                events.push((
                    (message.partition, *offset),
                    id.unwrap_or_default().to_owned(),
                ));
            }
        }
        *passed = header.last.0.max(*passed);
    }
    Ok(events)
}

/// Returns how many labels the model has learned by the versions that count: of two that continue the same one, the
/// first.
///
/// # Errors
/// A broker that does not answer, or messages that cannot be read.
pub fn learned(brokers: &str, contract: &Contract) -> Result<u64> {
    let topics = Topics::of("flights");
    let mut assembler = Assembler::default();
    let (mut parent, mut learned) = (contract.digest(), 0);
    for message in log::read(brokers, &topics.model)? {
        let ModelMessage::Chunk(chunk) = ModelMessage::parse(&message.value)? else {
            continue;
        };
        // An update that another one tears apart comes again.
        if let Ok(Some((update, digest))) = assembler.take(chunk)
            && update.parent == parent
        {
            (parent, learned) = (digest, update.prequential.labels());
        }
    }
    Ok(learned)
}

/// Reads which raw records have a row in the lake.
///
/// # Errors
/// A table or file that cannot be read.
pub fn read_lake(lake: &Path) -> Result<Vec<Coordinates>> {
    let table = lake::table(lake)?;
    let mut rows = Vec::new();
    for batch in lake::read(&table)? {
        let column = |name| {
            batch
                .column_by_name(name)
                .with_context(|| format!("no column {name}"))
        };
        let partitions = column("_source_partition")?.as_primitive::<Int32Type>();
        let offsets = column("_source_offset")?.as_primitive::<Int64Type>();
        rows.extend(
            partitions
                .values()
                .iter()
                .copied()
                .zip(offsets.values().iter().copied()),
        );
    }
    Ok(rows)
}
