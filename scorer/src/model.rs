//! The model in use: the newest snapshot, then every update.

use std::time::{Duration, Instant};

use learn::features::Layout;
use learn::model::{Applied, ApplyError, ServedModel};
use object_store::ObjectStoreExt;
use schemas::model::{Assembler, ModelError, ModelMessage, SnapshotAnnouncement};
use schemas::{Contract, Offset, Partition};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;
use tracing::{info, warn};
use worker::{Batch, Broker, Store, TopicPartition, Watermarks};

use crate::error::ScorerError;

/// Messages that are read back at first in search of a snapshot; doubled until one is found.
const READ_BACK: i64 = 64;

/// A model that follows its topic.
pub(crate) struct LiveModel {
    served: ServedModel,
    assembler: Assembler,
    updates: mpsc::Receiver<Batch>,
    updated_at: Instant,
}

impl LiveModel {
    /// Builds the model as its topic has it now, and begins to follow the topic.
    pub(crate) async fn build<B: Broker>(
        broker: &B,
        topic: &str,
        contract: &Contract,
        layout: Layout,
        store: &Store,
    ) -> Result<LiveModel, ScorerError> {
        let partition: TopicPartition = (topic, Partition(0)).into();
        let ends = broker.watermarks(&partition).await?;
        let mut reach = READ_BACK;
        loop {
            let low = Offset((ends.high.0 - reach).max(ends.low.0));
            let tail = broker
                .read(
                    &partition,
                    Watermarks {
                        low,
                        high: ends.high,
                    },
                )
                .await?;
            let start = newest_snapshot(&tail, contract, store).await;
            if start.is_some() || low == ends.low {
                let (served, after) =
                    start.unwrap_or((ServedModel::new(contract, layout), Offset(-1)));
                let updates = broker.follow(&partition, ends.high)?;
                let assembler = Assembler::default();
                let mut live = LiveModel {
                    served,
                    assembler,
                    updates,
                    updated_at: Instant::now(),
                };
                for batch in &tail {
                    live.take(batch, after)?;
                }
                info!(version = %live.served.lineage().version, "model ready");
                return Ok(live);
            }
            reach *= 2;
        }
    }

    /// Applies the updates that have come; returns how many.
    pub(crate) fn refresh(&mut self) -> Result<u64, ScorerError> {
        let mut applied = 0;
        loop {
            match self.updates.try_recv() {
                Ok(batch) => applied += self.take(&batch, Offset(-1))?,
                Err(TryRecvError::Empty) => return Ok(applied),
                Err(TryRecvError::Disconnected) => return Err(ScorerError::Followed),
            }
        }
    }

    /// Returns the model.
    pub(crate) fn served(&self) -> &ServedModel {
        &self.served
    }

    /// Returns how long ago the model was updated.
    pub(crate) fn age(&self) -> Duration {
        self.updated_at.elapsed()
    }

    fn take(&mut self, batch: &Batch, after: Offset) -> Result<u64, ScorerError> {
        let mut applied = 0;
        for record in batch.records().filter(|record| after < record.offset()) {
            let ModelMessage::Chunk(chunk) =
                ModelMessage::parse(record.value().unwrap_or_default())?
            else {
                continue;
            };
            // What an older version says is known, and may begin in the middle.
            if chunk.version <= self.served.lineage().version {
                continue;
            }
            let update = match self.assembler.take(chunk) {
                Ok(update) => update,
                // A trainer died between two chunks: its successor sends the whole update again.
                Err(ModelError::OutOfOrder { version, chunk }) => {
                    warn!(%version, chunk, "an update is torn; waiting for it to come whole");
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let Some((update, _)) = update else { continue };
            match self.served.apply(&update) {
                Ok(Applied::New) => {
                    applied += 1;
                    self.updated_at = Instant::now();
                }
                Ok(Applied::Known) => {}
                // A trainer that has lost its partitions went on for a while: the version that came first counts.
                Err(error @ ApplyError::Parent { .. }) => {
                    warn!(%error, "an update of another trainer is left out")
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(applied)
    }
}

/// Loads the newest snapshot that is announced in these messages and can be read; returns where it is announced.
async fn newest_snapshot(
    tail: &[Batch],
    contract: &Contract,
    store: &Store,
) -> Option<(ServedModel, Offset)> {
    let announcements: Vec<(SnapshotAnnouncement, Offset)> = tail
        .iter()
        .flat_map(Batch::records)
        .filter_map(|record| match ModelMessage::parse(record.value()?) {
            Ok(ModelMessage::Snapshot(announcement)) => Some((announcement, record.offset())),
            _ => None,
        })
        .filter(|(announcement, _)| announcement.contract == contract.digest())
        .collect();
    for (announcement, offset) in announcements.into_iter().rev() {
        match load(&announcement, store).await {
            Ok(model) => return Some((model, offset)),
            Err(reason) => warn!(
                object = announcement.object,
                reason, "a snapshot cannot be used; trying the one before"
            ),
        }
    }
    None
}

async fn load(announcement: &SnapshotAnnouncement, store: &Store) -> Result<ServedModel, String> {
    let object = store
        .objects
        .get(&store.path(&announcement.object))
        .await
        .map_err(|error| error.to_string())?;
    let bytes = object.bytes().await.map_err(|error| error.to_string())?;
    let model = ServedModel::from_snapshot(&bytes).map_err(|error| error.to_string())?;
    if model.lineage().digest != announcement.digest {
        return Err("it is not the version that was announced".to_owned());
    }
    Ok(model)
}
