//! What was learned, held against the log: the sets, and every version and checkpoint made again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use learn::model::{Lineage, Snapshot};
use object_store::{ObjectStore, ObjectStoreExt};
use schemas::contract::Label;
use schemas::label::LabelEvent;
use schemas::model::{Input, ModelMessage};
use schemas::topics::Topics;
use schemas::{Digest, Offset};
use trainer::Replay;
use trainer::checkpoint;
use trainer::fit::Fitter;
use trainer::input::{Decoder, Part};
use trainer::join::EventId;
use trainer::journal::{Chain, Published};
use worker::{Batch, Simulated};

use super::accounts::Clean;
use super::backlog::Backlog;
use super::plan::{PARTITIONS, STREAM};
use super::progress::newest_checkpoint;
use super::world::{World, partition};

/// Checks what was learned; returns the digest of each version that was published.
///
/// # Errors
/// The first promise that is broken.
pub async fn check(world: &Arc<World>, all: &[Clean]) -> Result<BTreeMap<u64, Digest>, String> {
    let label = world
        .contract
        .label
        .clone()
        .ok_or("the contract has a label")?;
    let (_, bytes) = newest_checkpoint(world)
        .await
        .ok_or("there is a checkpoint")?;
    let newest = Snapshot::from_bytes(&bytes).map_err(text)?;
    let published = published(world);
    backlog(world, all, &label, &newest, &published)?;
    if world.plan.room.is_none() {
        sets(world, all, &label, &newest)?;
    }
    again(world, &label, &published).await
}

/// What was learned, and what waits, follows from the journal.
fn backlog(
    world: &World,
    all: &[Clean],
    label: &Label,
    newest: &Snapshot,
    published: &[Published],
) -> Result<(), String> {
    let known = published.partition_point(|version| version.version <= newest.lineage.version);
    let backlog = Backlog::of(&published[..known], all, &world.broker, label);
    let (waiting, settled) = (ids(newest, "waiting", 24), ids(newest, "settled", 24));
    backlog.check(all, newest, &waiting, &settled)?;
    let crowded_out = backlog.crowded_out();
    if 0 < crowded_out {
        let story = &world.story;
        story.tell(format_args!("{crowded_out} events were crowded out"));
    }
    Ok(())
}

/// Every clean event was learned if it has a label, and waits for one if it has not.
fn sets(world: &World, all: &[Clean], label: &Label, newest: &Snapshot) -> Result<(), String> {
    let labelled = labelled(&world.broker, label);
    let (mut expected_learned, mut expected_waiting) = (BTreeMap::new(), BTreeMap::new());
    for (at, clean) in (0..PARTITIONS).zip(all) {
        for (offset, id) in &clean.ids {
            let expected = match labelled.contains(id) {
                true => &mut expected_learned,
                false => &mut expected_waiting,
            };
            expected.insert(EventId::of(id.as_bytes()).0, (at, *offset));
        }
    }
    let learned = ids(newest, "settled", 24);
    let waiting = ids(newest, "waiting", 24);
    let missing = |expected: &BTreeMap<u128, (i32, i64)>, found: &BTreeSet<u128>| {
        let missing = expected.iter().find(|(id, _)| !found.contains(id));
        missing.map(|(_, place)| *place)
    };
    if let Some((at, offset)) = missing(&expected_learned, &learned) {
        return Err(format!(
            "the learned set is the clean set: raw {at}@{offset} has a label and was not learned"
        ));
    }
    if let Some((at, offset)) = missing(&expected_waiting, &waiting) {
        return Err(format!(
            "the learned set is the clean set: raw {at}@{offset} does not wait for its label"
        ));
    }
    let (examples, events) = (newest.learner.examples(), learned.len() as u64);
    let counts = [learned.len(), waiting.len()];
    if counts != [expected_learned.len(), expected_waiting.len()] || examples != events {
        return Err(format!(
            "the learned set is the clean set: {examples} examples of {events} events were learned, {} wait; \
             {} and {} are expected",
            waiting.len(),
            expected_learned.len(),
            expected_waiting.len()
        ));
    }
    Ok(())
}

fn ids(snapshot: &Snapshot, section: &str, each: usize) -> BTreeSet<u128> {
    let bytes = snapshot
        .sections
        .get(section)
        .map_or(&[][..], Vec::as_slice);
    let id = |entry: &[u8]| entry.first_chunk().map(|id| u128::from_le_bytes(*id));
    bytes.chunks(each).filter_map(id).collect()
}

/// Returns the ids of events that have a label.
fn labelled(broker: &Simulated, label: &Label) -> BTreeSet<String> {
    let mut labelled = BTreeSet::new();
    for at in 0..PARTITIONS {
        let log = broker.records(&partition("s.labels", at), Offset(0), usize::MAX);
        for record in log.iter().flat_map(Batch::records) {
            if let Ok(read) = LabelEvent::parse(label, record.value().unwrap_or_default()) {
                labelled.insert(read.event_id.to_string());
            }
        }
    }
    labelled
}

/// Returns the versions that count, in order.
fn published(world: &World) -> Vec<Published> {
    let log = world
        .broker
        .records(&partition("s.model", 0), Offset(0), usize::MAX);
    let mut chain = Chain::after(Lineage::root(&world.contract));
    let mut published = Vec::new();
    for record in log.iter().flat_map(Batch::records) {
        if let Ok(ModelMessage::Chunk(chunk)) =
            ModelMessage::parse(record.value().unwrap_or_default())
        {
            published.extend(chain.take(chunk));
        }
    }
    published
}

/// Makes every version again, undisturbed, from the log and the journals, and each checkpoint of one.
async fn again(
    world: &World,
    label: &Label,
    published: &[Published],
) -> Result<BTreeMap<u64, Digest>, String> {
    let mut stored = stored(world).await?;
    let topics = Topics::of(STREAM);
    let mut decoder = Decoder::new(&world.contract, label.clone()).map_err(text)?;
    let mut fitter = Fitter::new(&world.contract, label, decoder.layout()).map_err(text)?;
    let root = Lineage::root(&world.contract);
    let mut versions = BTreeMap::from([(root.version.0, root.digest)]);
    let calm = calm(world, &topics)?;
    for version in published {
        // A replay reads ahead, so each version has one of its own: so it ends where its checkpoint begins.
        let mut replay = Replay::new(&calm, &topics, &mut decoder);
        replay
            .version(&mut fitter, version)
            .await
            .map_err(|error| {
                format!(
                    "a model version is a function of the log: version {}: {error}",
                    version.version
                )
            })?;
        versions.insert(version.version.0, version.digest);
        if let Some(bytes) = stored.remove(&version.digest.0) {
            let number = version.version.0;
            same_bytes(world, label, &mut decoder, &mut fitter, &bytes)
                .map_err(|error| format!("a checkpoint is byte-equal to an undisturbed one: that of version {number} is not: {error}"))?;
        }
    }
    match stored.values().next() {
        Some(bytes) => {
            let version = Snapshot::from_bytes(bytes).map_err(text)?.lineage.version;
            Err(format!(
                "a checkpoint is of a version that was published: that of version {version} is not"
            ))
        }
        None => Ok(versions),
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Copies what models are made of to a broker that does everything at once.
fn calm(world: &World, topics: &Topics) -> Result<Simulated, String> {
    let calm = Simulated::default();
    super::world::create_topics(&calm);
    for topic in [&topics.clean, &topics.labels] {
        for at in 0..PARTITIONS {
            let of = partition(topic, at);
            let log = world.broker.records(&of, Offset(0), usize::MAX);
            for record in log.iter().flat_map(Batch::records) {
                let headers: Vec<_> = record.headers().collect();
                let copy = worker::Outgoing {
                    key: record.key(),
                    value: record.value().unwrap_or_default(),
                    headers: &headers,
                };
                calm.append(&of, copy).map_err(text)?;
            }
        }
    }
    Ok(calm)
}

/// Returns the checkpoints that are kept, by digest.
async fn stored(world: &World) -> Result<BTreeMap<[u8; 32], Vec<u8>>, String> {
    let store = &world.checkpoints.inner;
    let listed = store.list_with_delimiter(Some(&STREAM.into())).await;
    let mut stored = BTreeMap::new();
    for meta in listed.map_err(text)?.objects {
        let object = store.get(&meta.location).await.map_err(text)?;
        let bytes = object.bytes().await.map_err(text)?.to_vec();
        let snapshot = Snapshot::from_bytes(&bytes).map_err(text)?;
        stored.insert(snapshot.lineage.digest.0, bytes);
    }
    Ok(stored)
}

/// Holds a checkpoint against what an undisturbed trainer would store.
///
/// It may have passed messages that said nothing new: those are offered, and must say nothing new here either.
fn same_bytes(
    world: &World,
    label: &Label,
    decoder: &mut Decoder,
    fitter: &mut Fitter,
    bytes: &[u8],
) -> Result<(), String> {
    let layout = decoder.layout();
    let decoded = checkpoint::decode(&world.contract, label, layout, bytes).map_err(text)?;
    let (found, model, dead) = (decoded.fitter, decoded.model, decoded.dead);
    for ((input, at), position) in found.positions() {
        let own = fitter.positions().get(&(*input, *at)).copied();
        let (Input::Clean, Some(own)) = (input, own) else {
            continue;
        };
        let log = world.broker.records(
            &partition("s.clean", at.0),
            own.message,
            (position.message.0 - own.message.0).max(0) as usize,
        );
        for record in log.iter().flat_map(Batch::records) {
            let mut part = Part::events(layout);
            decoder.clean(&record, &mut part).map_err(text)?;
            let last = part.last;
            fitter.take(&part, last, u64::MAX).map_err(text)?;
        }
    }
    let again = checkpoint::encode(fitter, model, &dead).map_err(text)?;
    if again == bytes {
        return Ok(());
    }
    let (again, found) = (Snapshot::from_bytes(&again), Snapshot::from_bytes(bytes));
    let (again, found) = (again.map_err(text)?, found.map_err(text)?);
    let section = again
        .sections
        .iter()
        .find(|(name, bytes)| found.sections.get(*name) != Some(bytes));
    Err(match section {
        Some((name, _)) => format!("section `{name}` differs"),
        None => "its weights differ".to_owned(),
    })
}
