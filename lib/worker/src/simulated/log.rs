//! Topics: what is written stays, in order, and whoever waits for it is woken.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

use schemas::{Offset, TopicId};
use tokio::sync::Notify;

use crate::batch::{Batch, BatchBuilder, TopicPartition};
use crate::broker::{BrokerError, Outgoing, TopicInfo, Watermarks};

/// The topics of a broker.
#[derive(Default)]
pub(super) struct Topics {
    topics: BTreeMap<String, Topic>,
    /// Who wants to know of new records.
    listeners: Vec<Weak<Notify>>,
}

struct Topic {
    id: TopicId,
    partitions: Vec<Vec<Stored>>,
}

/// A record.
#[derive(Clone)]
pub(super) struct Stored {
    key: Option<Vec<u8>>,
    value: Vec<u8>,
    headers: Vec<(String, Vec<u8>)>,
}

impl From<Outgoing<'_>> for Stored {
    fn from(record: Outgoing<'_>) -> Stored {
        let header = |(name, value): &(&str, &[u8])| ((*name).to_owned(), value.to_vec());
        Stored {
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.to_vec(),
            headers: record.headers.iter().map(header).collect(),
        }
    }
}

/// Longer values of headers are of no use in a story.
const STORY_BYTES_MAX: usize = 12;

impl fmt::Display for Stored {
    /// Writes what tells a record from others: its short headers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.headers {
            if let Ok(value) = std::str::from_utf8(value)
                && value.len() <= STORY_BYTES_MAX
            {
                write!(f, " {name}={value}")?;
            }
        }
        Ok(())
    }
}

impl Topics {
    pub(super) fn create(&mut self, name: &str, partitions: usize) {
        let id = TopicId([self.topics.len() as u8 + 1; 16]);
        let partitions = vec![Vec::new(); partitions];
        self.topics
            .insert(name.to_owned(), Topic { id, partitions });
    }

    pub(super) fn append(
        &mut self,
        to: &TopicPartition,
        record: Stored,
    ) -> Result<Offset, BrokerError> {
        let log = self
            .topics
            .get_mut(to.topic.as_ref())
            .and_then(|topic| topic.partitions.get_mut(to.partition.0 as usize))
            .ok_or_else(|| BrokerError::Write {
                to: to.to_string(),
                reason: "no such partition".to_owned(),
            })?;
        log.push(record);
        let offset = Offset(log.len() as i64 - 1);
        self.listeners.retain(|listener| {
            let listener = listener.upgrade();
            listener.is_some_and(|listener| {
                listener.notify_one();
                true
            })
        });
        Ok(offset)
    }

    /// Returns at most so many records from an offset on; the timestamp of each is its offset.
    pub(super) fn records(
        &self,
        from: &TopicPartition,
        start: Offset,
        most: usize,
    ) -> Option<Batch> {
        let log = self.log(from)?;
        let mut builder = BatchBuilder::new(from.clone());
        let numbered = log.iter().enumerate().skip(start.0.max(0) as usize);
        for (offset, record) in numbered.take(most) {
            let at = offset as i64;
            builder.record(Offset(at), at, record.key.as_deref(), Some(&record.value));
            for (name, value) in &record.headers {
                builder.header(name, Some(value));
            }
        }
        builder.take()
    }

    pub(super) fn find(&self, name: &str) -> Result<TopicInfo, BrokerError> {
        let topic = self.topics.get(name).ok_or_else(|| BrokerError::Topic {
            topic: name.to_owned(),
            reason: "no such topic".to_owned(),
        })?;
        Ok(TopicInfo {
            id: topic.id,
            partitions: topic.partitions.len() as i32,
        })
    }

    pub(super) fn watermarks(&self, of: &TopicPartition) -> Result<Watermarks, BrokerError> {
        let log = self.log(of).ok_or_else(|| BrokerError::Read {
            from: of.to_string(),
            reason: "no such partition".to_owned(),
        })?;
        Ok(Watermarks {
            low: Offset(0),
            high: Offset(log.len() as i64),
        })
    }

    /// Says whether there are records from an offset on.
    pub(super) fn reaches(&self, of: &TopicPartition, offset: Offset) -> bool {
        self.log(of).is_some_and(|log| offset.0 < log.len() as i64)
    }

    /// Wakes somebody with each new record, until the last owner of the bell drops it.
    pub(super) fn listen(&mut self, bell: &Arc<Notify>) {
        self.listeners.push(Arc::downgrade(bell));
    }

    fn log(&self, of: &TopicPartition) -> Option<&Vec<Stored>> {
        let topic = self.topics.get(of.topic.as_ref())?;
        topic.partitions.get(of.partition.0 as usize)
    }
}
