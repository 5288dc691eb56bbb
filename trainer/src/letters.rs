//! Labels that cannot be read, on their way to `<s>.dead`: coordinates, reason and size, never their bytes.
//!
//! A version goes out once the letters about what it took are acknowledged, so what a restart replays has its
//! letters. What comes after the newest version is read again: a letter that came to the dead topic since the
//! checkpoint is not written twice. A trainer that was replaced may still repeat one; so whoever counts letters goes
//! by their coordinates.

use std::collections::BTreeMap;

use schemas::contract::Label;
use schemas::dead::{DeadHeader, WIRE_VERSION_LABEL, header};
use schemas::topics::Topics;
use schemas::{Contract, Offset, Partition, TopicId};
use worker::{Batch, Broker, BrokerError, Lane, Outgoing, TopicPartition, Watermarks};

use crate::input::Unreadable;

/// Messages of the dead topic that are read in one go: letters of events may be large.
const WINDOW: i64 = 64;

/// Where each partition of the dead topic went on when a checkpoint was made.
pub type DeadEnds = BTreeMap<Partition, Offset>;

/// Writes letters about labels, each once.
pub(crate) struct Letters<B: Broker> {
    broker: B,
    label: Label,
    contract: String,
    /// Id of the topic of labels.
    labels: TopicId,
    lanes: Vec<Outbox<B::Lane>>,
    /// The last label of each partition that has a letter.
    through: BTreeMap<Partition, Offset>,
}

/// One partition of the dead topic.
struct Outbox<L> {
    to: TopicPartition,
    /// Opened with the first letter; and the number of the last one.
    lane: Option<(L, u64)>,
}

impl<B: Broker> Letters<B> {
    /// Finds which labels have a letter, of those that came to the dead topic since a checkpoint.
    pub(crate) async fn open(
        broker: &B,
        contract: &Contract,
        label: &Label,
        topics: &Topics,
        since: &DeadEnds,
    ) -> Result<Letters<B>, BrokerError> {
        let partitions = broker.topic(&topics.dead).await?.partitions;
        let outbox = |partition| Outbox {
            to: (topics.dead.as_str(), Partition(partition)).into(),
            lane: None,
        };
        let mut letters = Letters {
            broker: broker.clone(),
            label: label.clone(),
            contract: contract.digest().to_string(),
            labels: broker.topic(&topics.labels).await?.id,
            lanes: (0..partitions).map(outbox).collect(),
            through: BTreeMap::new(),
        };
        for at in 0..letters.lanes.len() {
            let to = letters.lanes[at].to.clone();
            let ends = broker.watermarks(&to).await?;
            let noted = since.get(&to.partition).copied().unwrap_or(ends.low);
            // A topic that was made anew has no letters before its end.
            let mut low = if ends.high < noted {
                ends.low
            } else {
                noted.max(ends.low)
            };
            while low < ends.high {
                let high = ends.high.min(Offset(low.0 + WINDOW));
                for batch in broker.read(&to, Watermarks { low, high }).await? {
                    letters.note(&batch);
                }
                low = high;
            }
        }
        Ok(letters)
    }

    fn note(&mut self, batch: &Batch) {
        let headers = batch.records();
        for found in headers.filter_map(|record| DeadHeader::from_headers(record.headers())) {
            if !found.is_event() && found.source.topic_id == self.labels {
                let through = self.through.entry(found.source.partition);
                let through = through.or_insert(found.source.offset);
                *through = found.source.offset.max(*through);
            }
        }
    }

    /// Writes the letters of labels of one partition, in the order of their offsets.
    pub(crate) async fn send(
        &mut self,
        partition: Partition,
        labels: &[Unreadable],
    ) -> Result<(), BrokerError> {
        let through = self.through.get(&partition).copied();
        let new = |label: &&Unreadable| through.is_none_or(|through| through < label.offset);
        for label in labels.iter().filter(new) {
            self.letter(partition, label).await?;
            self.through.insert(partition, label.offset);
        }
        Ok(())
    }

    async fn letter(&mut self, of: Partition, label: &Unreadable) -> Result<(), BrokerError> {
        let (reason, field) = label.reason.letter(&self.label);
        let topic = self.labels.to_string();
        let (partition, offset) = (of.to_string(), label.offset.to_string());
        let bytes = label.bytes.to_string();
        let mut headers: Vec<(&str, &[u8])> = vec![
            (header::WIRE, WIRE_VERSION_LABEL.as_bytes()),
            (header::SOURCE_TOPIC_ID, topic.as_bytes()),
            (header::SOURCE_PARTITION, partition.as_bytes()),
            (header::SOURCE_OFFSET, offset.as_bytes()),
            (header::SOURCE_BYTES, bytes.as_bytes()),
            (header::REASON, reason.name().as_bytes()),
            (header::CONTRACT, self.contract.as_bytes()),
        ];
        headers.extend(field.map(|field| (header::FIELD, field.as_bytes())));
        let at = of.0 as usize % self.lanes.len().max(1);
        let Some(outbox) = self.lanes.get_mut(at) else {
            return Ok(());
        };
        let lane = match &outbox.lane {
            Some((lane, _)) => lane.clone(),
            None => self.broker.lane(&outbox.to)?,
        };
        // The label's key may be personal data; the letter's key is its coordinates, as those of events are.
        let key = format!("labels:{partition}:{offset}");
        let outgoing = Outgoing {
            key: Some(key.as_bytes()),
            value: &[],
            headers: &headers,
        };
        let sent = lane.send(outgoing).await?;
        outbox.lane = Some((lane, sent));
        Ok(())
    }

    /// Waits until all letters are written.
    pub(crate) async fn settle(&self) -> Result<(), BrokerError> {
        for (lane, sent) in self.lanes.iter().filter_map(|outbox| outbox.lane.as_ref()) {
            lane.wait(*sent).await?;
        }
        Ok(())
    }

    /// Returns where each partition of the dead topic goes on, all letters written.
    pub(crate) async fn ends(&self) -> Result<DeadEnds, BrokerError> {
        self.settle().await?;
        let mut ends = DeadEnds::new();
        for Outbox { to, .. } in &self.lanes {
            ends.insert(to.partition, self.broker.watermarks(to).await?.high);
        }
        Ok(ends)
    }
}
