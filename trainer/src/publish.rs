//! The model topic: versions and announcements of checkpoints go out, each once and in order.

use learn::model::Lineage;
use schemas::model::{SnapshotAnnouncement, SnapshotKind, Update};
use schemas::{Offset, Partition};
use worker::{Broker, Lane, Outgoing, TopicPartition};

use crate::error::TrainerError;

/// Partition of the model topic that carries the model.
pub const MODEL_PARTITION: Partition = Partition(0);

/// Version of an announcement's wire form.
const WIRE_VERSION: u32 = 1;

/// Writes to the model topic.
pub struct Publisher<B: Broker> {
    broker: B,
    topic: TopicPartition,
    lane: B::Lane,
    /// The topic's end when this publisher began.
    base: Offset,
    /// Messages sent since.
    sent: u64,
}

impl<B: Broker> Publisher<B> {
    /// Begins to write at the end of the topic, which was read up to there.
    ///
    /// # Errors
    /// The broker's.
    pub fn new(broker: B, topic: TopicPartition, end: Offset) -> Result<Self, TrainerError> {
        let lane = broker.lane(&topic)?;
        Ok(Publisher {
            broker,
            topic,
            lane,
            base: end,
            sent: 0,
        })
    }

    /// Sends a version.
    ///
    /// # Errors
    /// The broker's.
    pub async fn update(&mut self, update: &Update) -> Result<(), TrainerError> {
        for message in update.to_messages() {
            self.send(&message).await?;
        }
        Ok(())
    }

    /// Announces a checkpoint.
    ///
    /// # Errors
    /// The broker's.
    pub async fn announce(&mut self, of: Lineage, object: &str) -> Result<(), TrainerError> {
        let announcement = SnapshotAnnouncement {
            kind: SnapshotKind::Snapshot,
            wire: WIRE_VERSION,
            version: of.version,
            digest: of.digest,
            contract: of.contract,
            object: object.to_owned(),
        };
        self.send(&announcement.to_message()).await
    }

    /// Waits until all that was sent is written, and makes sure that nobody else has written meanwhile; returns
    /// where the topic goes on.
    ///
    /// So all versions up to here are those that count, and a checkpoint of them may be stored.
    ///
    /// # Errors
    /// [`TrainerError::Overtaken`], or the broker's.
    pub async fn settle(&self) -> Result<Offset, TrainerError> {
        self.flush().await?;
        let end = self.broker.watermarks(&self.topic).await?.high;
        if end.0 == self.base.0 + self.sent as i64 {
            return Ok(end);
        }
        Err(TrainerError::Overtaken {
            topic: self.topic.topic.to_string(),
        })
    }

    /// Waits until all that was sent is written.
    ///
    /// # Errors
    /// The broker's.
    pub async fn flush(&self) -> Result<(), TrainerError> {
        Ok(self.lane.wait(self.sent).await?)
    }

    async fn send(&mut self, value: &[u8]) -> Result<(), TrainerError> {
        let outgoing = Outgoing {
            value,
            ..Outgoing::default()
        };
        self.sent = self.lane.send(outgoing).await?;
        Ok(())
    }
}
