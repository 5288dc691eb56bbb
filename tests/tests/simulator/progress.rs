//! How far everything is, seen from outside: whether all has settled, and whether what a worker holds is bounded. It
//! looks often, so it reads only what is new.

use std::sync::atomic::Ordering;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use object_store::path::Path;
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

/// Raw records that ingest may hold: batches of at most 12 in the channel (8) and in a round (8), and rounds in the
/// outbox (8), in its task (1) and on their way (8).
const INGEST_HOLDS_MAX: i64 = 12 * (8 + 8 + 8 * (8 + 1 + 8));

/// How far everything was when somebody looked last.
pub struct Progress {
    clean: Vec<Clean>,
    scored: Vec<Reached>,
    lake: Lake,
    decoder: CleanDecoder,
    checkpoint: Option<(Path, Positions)>,
}

/// How far a partition of clean batches goes, in raw offsets; -1 is nothing.
struct Clean {
    covers: Reached,
    /// The last event.
    row: i64,
}

/// How far a topic goes, in raw offsets.
struct Reached {
    of: TopicPartition,
    next: Offset,
    raw: i64,
}

impl Reached {
    fn of(topic: &str, at: i32) -> Reached {
        Reached {
            of: partition(topic, at),
            next: Offset(0),
            raw: -1,
        }
    }

    fn read_on(&mut self, broker: &Simulated) -> Option<Batch> {
        let new = broker.records(&self.of, self.next, usize::MAX)?;
        self.next = new.last()?.next();
        Some(new)
    }
}

impl Progress {
    /// Begins to look.
    pub fn new(world: &World) -> Progress {
        let columns = Columns::of(&world.contract);
        let (schema, kept) = (columns.schema().clone(), vec![Columns::SOURCE_OFFSET]);
        let clean = |at| Clean {
            covers: Reached::of("s.clean", at),
            row: -1,
        };
        Progress {
            clean: (0..PARTITIONS).map(clean).collect(),
            scored: (0..PARTITIONS)
                .map(|at| Reached::of("s.scores", at))
                .collect(),
            lake: Lake::default(),
            decoder: CleanDecoder::with_projection(schema, kept),
            checkpoint: None,
        }
    }

    /// Returns what has not settled yet.
    ///
    /// # Errors
    /// What can be seen to be broken already.
    pub async fn behind(&mut self, world: &World) -> Result<Option<String>, String> {
        let zombies = world.zombies.load(Ordering::Relaxed);
        if 0 < zombies {
            return Ok(Some(format!("{zombies} processes go on unheard")));
        }
        if !world.is_written() {
            return Ok(Some("more is to be written".to_owned()));
        }
        self.read_clean(world);
        self.read_scores(&world.broker);
        self.lake.read_on(&world.lake.inner).await?;
        let mut ends = Vec::new();
        for (at, (clean, scored)) in self.clean.iter().zip(&self.scored).enumerate() {
            let end = |topic| world.broker.end(&partition(topic, at as i32)).0;
            let (raw, covered) = (end("s.raw"), clean.covers.raw);
            if covered + 1 < raw {
                return Ok(Some(format!(
                    "raw {at} is clean or dead up to {covered} of {raw}"
                )));
            }
            if scored.raw < clean.row {
                let (scored, row) = (scored.raw, clean.row);
                return Ok(Some(format!(
                    "clean {at} is scored up to {scored} of {row}"
                )));
            }
            let landed = self.lake.landed(at as i32).unwrap_or(-1);
            if landed < covered {
                return Ok(Some(format!(
                    "clean {at} has landed up to {landed} of {covered}"
                )));
            }
            ends.push((covered, end("s.labels") - 1));
        }
        Ok(self.unlearned(world, &ends).await)
    }

    async fn unlearned(&mut self, world: &World, ends: &[(i64, i64)]) -> Option<String> {
        let Some((path, _)) = newest_checkpoint(world).await else {
            return Some("there is no checkpoint".to_owned());
        };
        if self.checkpoint.as_ref().is_none_or(|(of, _)| *of != path) {
            self.checkpoint = positions(world, &path)
                .await
                .map(|positions| (path, positions));
        }
        let positions = self.checkpoint.as_ref().map(|(_, positions)| positions);
        for (at, (clean, labels)) in (0..).zip(ends) {
            for (input, last) in [(Input::Clean, clean), (Input::Labels, labels)] {
                let passed = positions.and_then(|all| all.get(&(input, Partition(at))));
                let passed = passed.map_or(-1, |position| position.passed.0);
                if passed < *last {
                    return Some(format!(
                        "{input:?} {at} is learned up to {passed} of {last}"
                    ));
                }
            }
        }
        None
    }

    /// Checks that what ingest holds is bounded: what it was given and has not written.
    ///
    /// # Errors
    /// By how much it is not.
    pub fn within_bounds(&mut self, world: &World) -> Result<(), String> {
        let group = Kind::Ingest.group();
        self.read_clean(world);
        for (at, clean) in self.clean.iter().enumerate() {
            let handed = world.broker.handed(&group, &partition("s.raw", at as i32));
            let handed = handed.map_or(0, |next| next.0);
            let held = handed - (clean.covers.raw + 1);
            if INGEST_HOLDS_MAX < held {
                return Err(format!(
                    "memory and queues stay within their bounds: ingest holds {held} records of raw {at}, up to \
                     offset {handed}; {INGEST_HOLDS_MAX} are allowed"
                ));
            }
        }
        Ok(())
    }

    fn read_clean(&mut self, world: &World) {
        for clean in &mut self.clean {
            let new = clean.covers.read_on(&world.broker);
            for record in new.iter().flat_map(Batch::records) {
                if let Ok(header) = CleanHeader::from_headers(record.headers()) {
                    clean.covers.raw = clean.covers.raw.max(header.last.0);
                }
                if let Ok(rows) = self.decoder.decode(record.value().unwrap_or_default()) {
                    let offsets = rows.column(0).as_primitive::<Int64Type>().values();
                    clean.row = offsets.last().copied().unwrap_or(-1).max(clean.row);
                }
            }
        }
    }

    fn read_scores(&mut self, broker: &Simulated) {
        for scored in &mut self.scored {
            let new = scored.read_on(broker);
            for record in new.iter().flat_map(Batch::records) {
                let score = serde_json::from_slice::<Score>(record.value().unwrap_or_default());
                if let Ok(score) = score {
                    scored.raw = scored.raw.max(score.source.offset.0);
                }
            }
        }
    }
}

/// Returns name and bytes of the newest checkpoint.
pub async fn newest_checkpoint(world: &World) -> Option<(Path, Vec<u8>)> {
    let store = &world.checkpoints.inner;
    let listed = store.list_with_delimiter(Some(&"s".into())).await.ok()?;
    let newest = listed.objects.into_iter().map(|meta| meta.location).max()?;
    let object = store.get(&newest).await.ok()?;
    let bytes = object.bytes().await.ok()?.to_vec();
    Some((newest, bytes))
}

async fn positions(world: &World, path: &Path) -> Option<Positions> {
    let object = world.checkpoints.inner.get(path).await.ok()?;
    let bytes = object.bytes().await.ok()?;
    let label = world.contract.label.clone()?;
    let decoder = Decoder::new(&world.contract, label.clone()).ok()?;
    let layout = decoder.layout();
    let decoded = trainer::checkpoint::decode(&world.contract, &label, layout, &bytes).ok()?;
    Some(decoded.fitter.positions().clone())
}
