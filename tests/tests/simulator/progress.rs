//! How far everything is, seen from outside: whether all has settled, and whether what a worker holds is bounded.

use std::sync::atomic::Ordering;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use object_store::{ObjectStore, ObjectStoreExt};
use schemas::clean::{CleanDecoder, CleanHeader};
use schemas::model::Input;
use schemas::score::Score;
use schemas::{Columns, Offset, Partition};
use trainer::fit::Positions;
use trainer::input::Decoder;
use worker::{Batch, Simulated, TopicPartition};

use super::lake_rows::Lake;
use super::plan::PARTITIONS;
use super::process::Kind;
use super::world::{World, partition};

/// Records that are looked at to see how far a topic is: more than a zombie writes late.
const TAIL: i64 = 64;

/// Raw records that ingest may hold: batches of at most 12 in the channel (8) and in a round (8), and rounds in the
/// outbox (8), in its task (1) and on their way (8).
const INGEST_HOLDS_MAX: i64 = 12 * (8 + 8 + 8 * (8 + 1 + 8));

/// Returns what has not settled yet.
pub async fn behind(world: &World) -> Option<String> {
    let zombies = world.zombies.load(Ordering::Relaxed);
    if 0 < zombies {
        return Some(format!("{zombies} processes go on unheard"));
    }
    let (broker, topics) = (&world.broker, ["s.raw", "s.labels"]);
    let mut ends = Vec::new();
    for at in 0..PARTITIONS {
        let [raw, labels] = topics.map(|topic| broker.end(&partition(topic, at)).0);
        let clean = covered(broker, at);
        if clean + 1 < raw {
            return Some(format!("raw {at} is clean or dead up to {clean} of {raw}"));
        }
        let (rows, scored) = (last_row(world, at), last_score(broker, at));
        if scored < rows {
            return Some(format!("clean {at} is scored up to {scored} of {rows}"));
        }
        ends.push((clean, labels));
    }
    let lake = Lake::read(&world.lake.inner).await.ok()?;
    let positions = newest_positions(world).await;
    for (at, (clean, labels)) in (0..PARTITIONS).zip(ends) {
        let landed = lake.landed(at).unwrap_or(-1);
        if landed < clean {
            return Some(format!("clean {at} has landed up to {landed} of {clean}"));
        }
        for (input, last) in [(Input::Clean, clean), (Input::Labels, labels - 1)] {
            let passed = positions.get(&(input, Partition(at)));
            let passed = passed.map_or(-1, |position| position.passed.0);
            if passed < last {
                return Some(format!(
                    "{input:?} {at} is learned up to {passed} of {last}"
                ));
            }
        }
    }
    None
}

/// Checks that what ingest holds is bounded: what it was given and has not written.
pub fn within_bounds(world: &World) -> Result<(), String> {
    let group = Kind::Ingest.group();
    for at in 0..PARTITIONS {
        let handed = world.broker.handed(&group, &partition("s.raw", at));
        let handed = handed.map_or(0, |next| next.0);
        let held = handed - (covered(&world.broker, at) + 1);
        if INGEST_HOLDS_MAX < held {
            return Err(format!(
                "memory and queues stay within their bounds: ingest holds {held} records of raw {at}, up to \
                 offset {handed}; {INGEST_HOLDS_MAX} are allowed"
            ));
        }
    }
    Ok(())
}

fn tail(broker: &Simulated, of: &TopicPartition) -> Option<Batch> {
    let low = (broker.end(of).0 - TAIL).max(0);
    broker.records(of, Offset(low), TAIL as usize)
}

/// Returns the last raw offset of a partition that clean batches cover, or -1.
fn covered(broker: &Simulated, at: i32) -> i64 {
    let Some(tail) = tail(broker, &partition("s.clean", at)) else {
        return -1;
    };
    let headers = tail
        .records()
        .filter_map(|record| CleanHeader::from_headers(record.headers()).ok());
    headers.map(|header| header.last.0).max().unwrap_or(-1)
}

fn last_score(broker: &Simulated, at: i32) -> i64 {
    let Some(tail) = tail(broker, &partition("s.scores", at)) else {
        return -1;
    };
    let scores = tail
        .records()
        .filter_map(|record| serde_json::from_slice::<Score>(record.value()?).ok());
    scores
        .map(|score| score.source.offset.0)
        .max()
        .unwrap_or(-1)
}

/// Returns the raw offset of the last clean event of a partition, or -1.
fn last_row(world: &World, at: i32) -> i64 {
    let columns = Columns::of(&world.contract);
    let decoder =
        CleanDecoder::with_projection(columns.schema().clone(), vec![Columns::SOURCE_OFFSET]);
    let all = world
        .broker
        .records(&partition("s.clean", at), Offset(0), usize::MAX);
    let mut last = -1;
    for record in all.iter().flat_map(Batch::records) {
        if let Ok(rows) = decoder.decode(record.value().unwrap_or_default()) {
            let offsets = rows.column(0).as_primitive::<Int64Type>().values();
            last = offsets.last().copied().unwrap_or(-1).max(last);
        }
    }
    last
}

/// Returns the bytes of the newest checkpoint.
pub async fn newest_checkpoint(world: &World) -> Option<Vec<u8>> {
    let store = &world.checkpoints.inner;
    let listed = store.list_with_delimiter(Some(&"s".into())).await.ok()?;
    let newest = listed.objects.into_iter().map(|meta| meta.location).max()?;
    let object = store.get(&newest).await.ok()?;
    Some(object.bytes().await.ok()?.to_vec())
}

async fn newest_positions(world: &World) -> Positions {
    let Some(bytes) = newest_checkpoint(world).await else {
        return Positions::new();
    };
    let label = world.contract.label.clone().expect("the contract has one");
    let Ok(decoder) = Decoder::new(&world.contract, label.clone()) else {
        return Positions::new();
    };
    match trainer::checkpoint::decode(&world.contract, &label, decoder.layout(), &bytes) {
        Ok(decoded) => decoded.fitter.positions().clone(),
        Err(_) => Positions::new(),
    }
}
