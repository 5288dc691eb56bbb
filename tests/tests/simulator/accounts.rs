//! The accounts of a world that has settled: what is in topics, lake and checkpoints, held against the promises.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use deltalake_core::arrow::compute::concat_batches;
use ingest::Ingester;
use schemas::clean::{CleanDecoder, CleanHeader};
use schemas::dead::DeadHeader;
use schemas::score::Score;
use schemas::{ColumnRole, Columns, Digest, Offset};
use telemetry::{Instruments, Traces};
use worker::{Batch, Outgoing, Record, Simulated, Stage, TopicPartition};

use super::lake_rows::Lake;
use super::learned;
use super::plan::PARTITIONS;
use super::process;
use super::world::{World, create_topics, partition};

/// What became of the raw records of one partition, as a reader sees it who drops what it has passed.
pub struct Clean {
    /// Id of each clean event, by its raw offset.
    pub ids: BTreeMap<i64, String>,
    rows: RecordBatch,
    /// Reason and sealed bytes of each dead letter.
    dead: BTreeMap<i64, (String, Vec<u8>)>,
}

/// Checks every promise.
///
/// # Errors
/// The first one that is broken, and where.
pub async fn check(world: &Arc<World>) -> Result<(), String> {
    let calm = undisturbed(world).await?;
    let mut all = Vec::new();
    for at in 0..PARTITIONS {
        let clean = read(world, &world.broker, at)?;
        conserved(world, at, &clean)?;
        same(at, &clean, &read(world, &calm, at)?)?;
        all.push(clean);
    }
    landed(world, &all).await?;
    let versions = learned::check(world, &all).await?;
    for (at, clean) in (0..PARTITIONS).zip(&all) {
        scored(world, at, clean, &versions)?;
    }
    Ok(())
}

fn every(broker: &Simulated, of: &TopicPartition) -> Option<Batch> {
    broker.records(of, Offset(0), usize::MAX)
}

/// Reads clean batches and dead letters of a partition.
fn read(world: &World, broker: &Simulated, at: i32) -> Result<Clean, String> {
    let columns = Columns::of(&world.contract);
    let id = columns.index(world.contract.event.id, ColumnRole::Open);
    let id = id.ok_or("the contract's id is open")?;
    let decoder = CleanDecoder::new(columns.schema().clone());
    let (mut passed, mut pieces) = (-1, Vec::new());
    let log = every(broker, &partition("s.clean", at));
    for record in log.iter().flat_map(Batch::records) {
        let wrong = |what: &dyn std::fmt::Display| {
            format!("clean {at} can be read: offset {}: {what}", record.offset())
        };
        let header = CleanHeader::from_headers(record.headers()).map_err(|error| wrong(&error))?;
        let (first, last) = (header.first.0, header.last.0);
        if last <= passed {
            continue;
        }
        if passed + 1 < first {
            return Err(format!(
                "conservation: clean {at} leaves raw offsets {} to {} out, before its offset {}",
                passed + 1,
                first - 1,
                record.offset()
            ));
        }
        let rows = decoder
            .decode(record.value().unwrap_or_default())
            .map_err(|error| wrong(&error))?;
        let offsets = rows.column(Columns::SOURCE_OFFSET);
        let offsets = offsets.as_primitive::<Int64Type>().values();
        let known = offsets.partition_point(|offset| *offset <= passed);
        pieces.push(rows.slice(known, rows.num_rows() - known));
        passed = last;
    }
    let rows = concat_batches(columns.schema(), &pieces).map_err(|error| error.to_string())?;
    let offsets = rows.column(Columns::SOURCE_OFFSET);
    let offsets = offsets.as_primitive::<Int64Type>().values().iter().copied();
    let ids = rows.column(id).as_string::<i32>().iter();
    let ids = offsets.zip(ids.map(|id| id.unwrap_or_default().to_owned()));
    Ok(Clean {
        ids: ids.collect(),
        dead: letters(broker, at)?,
        rows,
    })
}

/// Reads the dead letters of a partition; one that is there twice says the same twice.
fn letters(broker: &Simulated, at: i32) -> Result<BTreeMap<i64, (String, Vec<u8>)>, String> {
    let mut letters = BTreeMap::new();
    let log = every(broker, &partition("s.dead", at));
    for record in log.iter().flat_map(Batch::records) {
        let header = DeadHeader::from_headers(record.headers());
        let header = header.ok_or_else(|| format!("dead {at} can be read"))?;
        if !header.is_event() {
            continue;
        }
        let letter = (
            header.reason.to_string(),
            record.value().unwrap_or_default().to_vec(),
        );
        let before = letters.insert(header.source.offset.0, letter.clone());
        if before.is_some_and(|before| before != letter) {
            let offset = header.source.offset;
            return Err(format!(
                "decisions are the same each time: two letters of raw {at}@{offset} differ"
            ));
        }
    }
    Ok(letters)
}

/// Every raw offset is in exactly one of clean and dead.
fn conserved(world: &World, at: i32, clean: &Clean) -> Result<(), String> {
    let end = world.broker.end(&partition("s.raw", at)).0;
    for offset in 0..end {
        match (
            clean.ids.contains_key(&offset),
            clean.dead.contains_key(&offset),
        ) {
            (true, true) => {
                return Err(format!(
                    "conservation: raw {at}@{offset} is both clean and dead"
                ));
            }
            (false, false) => {
                return Err(format!(
                    "conservation: raw {at}@{offset} is neither clean nor dead"
                ));
            }
            _ => {}
        }
    }
    let (last, dead) = (clean.ids.keys().last(), clean.dead.keys().last());
    match last.max(dead).filter(|last| end <= **last) {
        Some(beyond) => Err(format!(
            "conservation: there is no raw {at}@{beyond}, it ends before {end}"
        )),
        None => Ok(()),
    }
}

/// What was decided is what an undisturbed worker decides.
fn same(at: i32, clean: &Clean, calm: &Clean) -> Result<(), String> {
    let differs = |offset: &i64| {
        clean.ids.get(offset) != calm.ids.get(offset)
            || clean.dead.get(offset) != calm.dead.get(offset)
    };
    let all = calm.ids.keys().chain(calm.dead.keys());
    if let Some(offset) = all.copied().filter(|offset| differs(offset)).min() {
        let said = |of: &Clean| match (of.ids.get(&offset), of.dead.get(&offset)) {
            (Some(id), _) => format!("clean ({id})"),
            (None, Some((reason, _))) => format!("dead ({reason})"),
            (None, None) => "nothing".to_owned(),
        };
        return Err(format!(
            "decisions are the same each time: raw {at}@{offset} is {}, and undisturbed {}",
            said(clean),
            said(calm)
        ));
    }
    if clean.rows != calm.rows {
        return Err(format!(
            "decisions are the same each time: rows of clean {at} differ from those of an undisturbed run"
        ));
    }
    Ok(())
}

/// Lets ingest work on the same raw records with nothing in its way.
async fn undisturbed(world: &World) -> Result<Simulated, String> {
    let broker = Simulated::default();
    create_topics(&broker);
    let keys = process::keys(world).map_err(|error| error.to_string())?;
    let (nowhere, traces) = (Instruments::nowhere(), Traces::nowhere());
    let contract = world.contract.clone();
    let built = Ingester::build(contract, broker.clone(), keys, &nowhere, traces).await;
    let mut stage = built.map_err(|error| error.to_string())?;
    for at in 0..PARTITIONS {
        let raw = partition("s.raw", at);
        let Some(records) = every(&world.broker, &raw) else {
            continue;
        };
        for record in records.records() {
            let copy = Outgoing {
                value: record.value().unwrap_or_default(),
                ..Outgoing::default()
            };
            let copied = broker.append(&raw, copy);
            copied.map_err(|error| error.to_string())?;
        }
        let work = async {
            stage.assign(&raw).await?;
            stage.handle(records).await?;
            stage.drain(std::slice::from_ref(&raw)).await
        };
        work.await.map_err(|error| error.to_string())?;
    }
    Ok(broker)
}

/// The lake is the clean set.
async fn landed(world: &World, all: &[Clean]) -> Result<(), String> {
    let mut lake = Lake::default();
    lake.read_on(&world.lake.inner).await?;
    let rows = lake.rows(&world.lake.inner).await?;
    let mut seen = BTreeSet::new();
    for (at, offset) in rows {
        if !seen.insert((at, offset)) {
            return Err(format!(
                "the lake is the clean set: raw {at}@{offset} is in it twice"
            ));
        }
    }
    let clean: BTreeSet<(i32, i64)> = (0..PARTITIONS)
        .zip(all)
        .flat_map(|(at, clean)| clean.ids.keys().map(move |offset| (at, *offset)))
        .collect();
    match seen.symmetric_difference(&clean).next() {
        Some((at, offset)) if clean.contains(&(*at, *offset)) => Err(format!(
            "the lake is the clean set: raw {at}@{offset} is not in it"
        )),
        Some((at, offset)) => Err(format!(
            "the lake is the clean set: raw {at}@{offset} is in it, and not clean"
        )),
        None => Ok(()),
    }
}

/// The scored set is the clean set, and each score names a version that was published.
fn scored(
    world: &World,
    at: i32,
    clean: &Clean,
    versions: &BTreeMap<u64, Digest>,
) -> Result<(), String> {
    let log = every(&world.broker, &partition("s.scores", at));
    let read = |record: Record<'_>| serde_json::from_slice::<Score>(record.value()?).ok();
    let (mut passed, mut seen) = (-1, BTreeSet::new());
    for record in log.iter().flat_map(Batch::records) {
        let score = read(record).ok_or_else(|| format!("scores {at} can be read"))?;
        let (offset, version) = (score.source.offset.0, score.model.version.0);
        if versions.get(&version) != Some(&score.model.digest) {
            return Err(format!(
                "a score names its model: that of raw {at}@{offset} is of version {version} ({}), which was not \
                 published",
                score.model.digest
            ));
        }
        if passed < offset {
            passed = offset;
            seen.insert(offset);
        }
    }
    let clean: BTreeSet<i64> = clean.ids.keys().copied().collect();
    match seen.symmetric_difference(&clean).next() {
        Some(offset) => Err(format!(
            "the scored set is the clean set: raw {at}@{offset} is {}scored",
            if clean.contains(offset) {
                "not "
            } else {
                "dead and "
            }
        )),
        None => Ok(()),
    }
}
