//! The model in use: the newest snapshot, then every update.
//!
//! [`Versions`] goes from version to version by the messages of the model topic, for the scorer that follows it and
//! for whoever computes a score anew.

use std::time::{Duration, Instant};

use learn::features::Layout;
use learn::model::{Applied, ApplyError, ServedModel};
use object_store::ObjectStoreExt;
use schemas::model::{Assembler, Chunk, ModelError, ModelMessage, SnapshotAnnouncement};
use schemas::{Contract, Offset, Partition};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;
use tracing::{info, warn};
use worker::{Batch, Broker, Store, TopicPartition, Watermarks};

use crate::error::ScorerError;

/// Messages that are read back at first in search of a snapshot; doubled until one is found.
const READ_BACK: i64 = 64;

/// A model that goes from version to version by the updates of its topic.
pub struct Versions {
    served: ServedModel,
    assembler: Assembler,
}

impl Versions {
    /// Begins with a model.
    pub fn after(served: ServedModel) -> Versions {
        Versions {
            served,
            assembler: Assembler::default(),
        }
    }

    /// Returns the model as it is now.
    pub fn served(&self) -> &ServedModel {
        &self.served
    }

    /// Takes the next chunk of the topic; says whether the model is of a new version now.
    ///
    /// What an older version says is passed over, and so is an update that is torn, or that another trainer wrote:
    /// the version that came first counts.
    ///
    /// # Errors
    /// [`ScorerError::Model`] or [`ScorerError::Apply`]; the model stays as it was.
    pub fn take(&mut self, chunk: Chunk) -> Result<bool, ScorerError> {
        // What an older version says is known, and may begin in the middle.
        if chunk.version <= self.served.lineage().version {
            return Ok(false);
        }
        let update = match self.assembler.take(chunk) {
            Ok(update) => update,
            // A trainer died between two chunks: its successor sends the whole update again.
            Err(ModelError::OutOfOrder { version, chunk }) => {
                warn!(%version, chunk, "an update is torn; waiting for it to come whole");
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        };
        let Some((update, _)) = update else {
            return Ok(false);
        };
        match self.served.apply(&update) {
            Ok(applied) => Ok(applied == Applied::New),
            // A trainer that has lost its partitions went on for a while: the version that came first counts.
            Err(error @ ApplyError::Parent { .. }) => {
                warn!(%error, "an update of another trainer is left out");
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// A model that follows its topic.
pub(crate) struct LiveModel {
    versions: Versions,
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
                let served = start.unwrap_or_else(|| ServedModel::new(contract, layout));
                let updates = broker.follow(&partition, ends.high)?;
                let mut live = LiveModel {
                    versions: Versions::after(served),
                    updates,
                    updated_at: Instant::now(),
                };
                for batch in &tail {
                    live.take(batch)?;
                }
                info!(version = %live.served().lineage().version, "model ready");
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
                Ok(batch) => applied += self.take(&batch)?,
                Err(TryRecvError::Empty) => return Ok(applied),
                Err(TryRecvError::Disconnected) => return Err(ScorerError::Followed),
            }
        }
    }

    /// Returns the model.
    pub(crate) fn served(&self) -> &ServedModel {
        self.versions.served()
    }

    /// Returns how long ago the model was updated.
    pub(crate) fn age(&self) -> Duration {
        self.updated_at.elapsed()
    }

    fn take(&mut self, batch: &Batch) -> Result<u64, ScorerError> {
        let mut applied = 0;
        for record in batch.records() {
            let ModelMessage::Chunk(chunk) =
                ModelMessage::parse(record.value().unwrap_or_default())?
            else {
                continue;
            };
            if self.versions.take(chunk)? {
                applied += 1;
                self.updated_at = Instant::now();
            }
        }
        Ok(applied)
    }
}

/// Loads the newest snapshot that is announced in these messages and can be read.
///
/// That is the one of the highest version, wherever it is announced: what a trainer had on its way when it died may
/// come behind versions that its successor made, and so behind what continues the snapshot.
async fn newest_snapshot(
    tail: &[Batch],
    contract: &Contract,
    store: &Store,
) -> Option<ServedModel> {
    let mut announcements: Vec<SnapshotAnnouncement> = tail
        .iter()
        .flat_map(Batch::records)
        .filter_map(|record| match ModelMessage::parse(record.value()?) {
            Ok(ModelMessage::Snapshot(announcement)) => Some(announcement),
            _ => None,
        })
        .filter(|announcement| announcement.contract == contract.digest())
        .collect();
    announcements.sort_by_key(|announcement| announcement.version);
    for announcement in announcements.into_iter().rev() {
        match load(&announcement, store).await {
            Ok(model) => return Some(model),
            Err(reason) => warn!(
                object = announcement.object,
                reason, "a snapshot cannot be used; trying the one before"
            ),
        }
    }
    None
}

/// Loads a snapshot that was announced.
///
/// # Errors
/// Why it cannot be used.
pub async fn load(
    announcement: &SnapshotAnnouncement,
    store: &Store,
) -> Result<ServedModel, String> {
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]
mod tests {
    use learn::learners::{Learner, Params};
    use learn::model::{Lineage, Snapshot};
    use linfa::ParamGuard;
    use schemas::model::{Prequential, SnapshotKind};
    use worker::{Outgoing, Simulated};

    use super::*;

    const CONTRACT: &str = r#"
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
[[features]]
kind = "time"
of = "at"
parts = ["hour"]
[learner]
update = "sgd"
bits = 4
"#;

    #[tokio::test(flavor = "current_thread")]
    async fn an_announcement_that_comes_late_is_not_the_newest_version() {
        let contract = Contract::parse("s.toml", CONTRACT).unwrap();
        let layout = Layout {
            slots: 1,
            numbers: 0,
            crosses: 0,
        };
        let (broker, folder) = (Simulated::default(), tempfile::tempdir().unwrap());
        broker.create("s.model", 1);
        let model: TopicPartition = ("s.model", Partition(0)).into();
        let send = |value: &[u8]| {
            let record = Outgoing {
                value,
                ..Outgoing::default()
            };
            broker.append(&model, record).unwrap();
        };
        let params = Params::of(&contract.learner).check().unwrap();
        let mut learner = Learner::new(params, layout);
        let mut lineage = Lineage::root(&contract);
        let mut announcements = Vec::new();
        for version in 1..=3 {
            let update = lineage.advance(&mut learner, Vec::new(), Prequential::default());
            // Retention has left the third update alone.
            if version == 3 {
                update
                    .to_messages()
                    .iter()
                    .for_each(|message| send(message));
            }
            let object = format!("{}.safetensors", lineage.version);
            let snapshot = Snapshot {
                learner: learner.clone(),
                lineage,
                sections: Default::default(),
            };
            std::fs::write(folder.path().join(&object), snapshot.to_bytes()).unwrap();
            let announcement = SnapshotAnnouncement {
                kind: SnapshotKind::Snapshot,
                wire: 1,
                version: lineage.version,
                digest: lineage.digest,
                contract: lineage.contract,
                object,
            };
            announcements.push(announcement.to_message());
        }
        // The second is announced in time; of the first, a trainer that has died had the announcement on its way.
        send(&announcements[1]);
        send(&announcements[0]);
        let store = Store::open(&folder.path().display().to_string()).unwrap();
        let live = LiveModel::build(&broker, "s.model", &contract, layout, &store).await;
        assert_eq!(live.unwrap().served().lineage(), lineage);
    }
}
