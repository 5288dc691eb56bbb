//! Worlds that are broken on purpose, so that it is known that the simulator would see it.

use std::collections::BTreeMap;

use learn::model::Snapshot;
use object_store::PutPayload;
use schemas::Offset;
use tokio::sync::mpsc;
use worker::{
    Batch, Broker, BrokerError, Lane, Outgoing, Simulated, SimulatedLane, Stage, Start,
    Subscription, TopicInfo, TopicPartition, Watermarks,
};

use super::store::Trouble;

/// What is broken, each against one promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Nothing: the world of the suite.
    Nothing,
    /// The broker loses a dead letter that it has acknowledged.
    LoseLetter,
    /// A commit of the lake is acknowledged and dropped.
    DropLakeCommit,
    /// The trainer does not hand its labels on.
    SwallowLabels,
    /// The broker loses a score that it has acknowledged.
    LoseScore,
    /// The scorer commits what is not durable.
    CommitEarly,
    /// A checkpoint says something else than was learned.
    ChangeCheckpoint,
    /// A stage commits an offset, and then one before it.
    GoBack,
    /// The trainer lets fewer events wait than the contract says.
    Cramp,
    /// Ingest takes whatever comes, and hands nothing on.
    Hoard,
}

/// A broker that may be broken.
#[derive(Clone)]
pub struct Wire {
    pub broker: Simulated,
    pub trouble: Trouble,
}

/// A lane that may be broken.
#[derive(Clone)]
pub struct WireLane {
    lane: SimulatedLane,
    to: TopicPartition,
    trouble: Trouble,
}

impl Broker for Wire {
    type Lane = WireLane;

    fn subscribe(&self, group: &str, topics: &[&str]) -> Result<Subscription, BrokerError> {
        self.broker.subscribe(group, topics)
    }

    fn follow(
        &self,
        from: &TopicPartition,
        start: Offset,
    ) -> Result<mpsc::Receiver<Batch>, BrokerError> {
        self.broker.follow(from, start)
    }

    fn lane(&self, to: &TopicPartition) -> Result<WireLane, BrokerError> {
        Ok(WireLane {
            lane: self.broker.lane(to)?,
            to: to.clone(),
            trouble: self.trouble.clone(),
        })
    }

    async fn topic(&self, name: &str) -> Result<TopicInfo, BrokerError> {
        self.broker.topic(name).await
    }

    async fn watermarks(&self, of: &TopicPartition) -> Result<Watermarks, BrokerError> {
        self.broker.watermarks(of).await
    }

    async fn read(
        &self,
        from: &TopicPartition,
        range: Watermarks,
    ) -> Result<Vec<Batch>, BrokerError> {
        self.broker.read(from, range).await
    }
}

impl Lane for WireLane {
    async fn send(&self, record: Outgoing<'_>) -> Result<u64, BrokerError> {
        let lost = match &*self.to.topic {
            "s.dead" => Sabotage::LoseLetter,
            "s.scores" => Sabotage::LoseScore,
            _ => return self.lane.send(record).await,
        };
        // A second record: the first of a lane has no number before it to acknowledge.
        if 0 < self.lane.acked()? && self.trouble.spoils(lost) {
            return self.lane.acked();
        }
        self.lane.send(record).await
    }

    fn acked(&self) -> Result<u64, BrokerError> {
        self.lane.acked()
    }

    async fn wait(&self, number: u64) -> Result<(), BrokerError> {
        self.lane.wait(number).await
    }
}

/// A stage that may be broken; one that is not does what the stage in it does.
pub struct Stand<S> {
    pub stage: S,
    pub sabotage: Sabotage,
    pub hoard: Vec<Batch>,
    pub early: BTreeMap<TopicPartition, Offset>,
}

impl<S: Stage> Stage for Stand<S> {
    type Error = S::Error;

    async fn assign(&mut self, partition: &TopicPartition) -> Result<Start, S::Error> {
        self.stage.assign(partition).await
    }

    async fn handle(&mut self, batch: Batch) -> Result<(), S::Error> {
        match self.sabotage {
            Sabotage::Hoard => {
                self.hoard.push(batch);
                return Ok(());
            }
            Sabotage::SwallowLabels if &*batch.from().topic == "s.labels" => return Ok(()),
            Sabotage::CommitEarly | Sabotage::GoBack => {
                let next = batch.last().map_or(Offset(0), Offset::next);
                self.early.insert(batch.from().clone(), next);
            }
            _ => {}
        }
        self.stage.handle(batch).await
    }

    async fn tick(&mut self, now: std::time::Instant) -> Result<(), S::Error> {
        self.stage.tick(now).await
    }

    fn durable(&mut self) -> Result<Vec<(TopicPartition, Offset)>, S::Error> {
        let durable = self.stage.durable()?;
        let early = std::mem::take(&mut self.early);
        Ok(match self.sabotage {
            Sabotage::CommitEarly => early.into_iter().collect(),
            Sabotage::GoBack => {
                let before = |(of, next): (TopicPartition, Offset)| {
                    let back = Offset(next.0 - i64::from(early.contains_key(&of)));
                    [(of.clone(), next), (of, back)]
                };
                durable.into_iter().flat_map(before).collect()
            }
            _ => durable,
        })
    }

    fn held(&self) -> Vec<TopicPartition> {
        self.stage.held()
    }

    async fn drain(&mut self, partitions: &[TopicPartition]) -> Result<(), S::Error> {
        self.stage.drain(partitions).await
    }

    fn release(&mut self, partitions: &[TopicPartition]) {
        self.stage.release(partitions);
    }
}

/// Changes what a checkpoint says of its metrics; it reads as well as before.
pub fn change_checkpoint(payload: PutPayload) -> PutPayload {
    let bytes: Vec<u8> = payload.iter().flatten().copied().collect();
    let Ok(mut snapshot) = Snapshot::from_bytes(&bytes) else {
        return payload;
    };
    if let Some(byte) = snapshot
        .sections
        .get_mut("waiting")
        .and_then(|section| section.get_mut(16))
    {
        *byte ^= 1;
    }
    snapshot.to_bytes().into()
}
