//! Reads one partition of a topic from an offset to where it ended when reading began; writes nothing, joins no group.

use std::collections::VecDeque;
use std::time::Duration;

use schemas::Offset;
use tokio::sync::mpsc;
use worker::{Batch, Broker, BrokerError, TopicPartition, Watermarks};

/// How long nothing may come before the broker is asked whether there is more.
const STALL: Duration = Duration::from_secs(10);

/// One partition, read forward once. What waits in memory is bounded by the broker's channel.
pub struct Tape {
    from: TopicPartition,
    begin: Offset,
    next: Offset,
    high: Offset,
    /// `None` if there is nothing to read.
    batches: Option<mpsc::Receiver<Batch>>,
    /// What is left once the broker was asked whether there is more.
    rest: VecDeque<Batch>,
}

impl Tape {
    /// Begins at the first offset that is there, or at a later one.
    ///
    /// # Errors
    /// The broker's.
    pub async fn open<B: Broker>(
        broker: &B,
        from: TopicPartition,
        start: Offset,
    ) -> Result<Tape, BrokerError> {
        let Watermarks { low, high } = broker.watermarks(&from).await?;
        let begin = low.max(start);
        let batches = match begin < high {
            true => Some(broker.follow(&from, begin)?),
            false => None,
        };
        Ok(Tape {
            from,
            begin,
            next: begin,
            high,
            batches,
            rest: VecDeque::new(),
        })
    }

    /// Returns the next records; `None` at the end. The last ones may go beyond it.
    ///
    /// # Errors
    /// The broker's.
    pub async fn next<B: Broker>(&mut self, broker: &B) -> Result<Option<Batch>, BrokerError> {
        if let Some(batch) = self.rest.pop_front() {
            return Ok(Some(batch));
        }
        let Some(batches) = self.batches.as_mut().filter(|_| self.next < self.high) else {
            return Ok(None);
        };
        match tokio::time::timeout(STALL, batches.recv()).await {
            Ok(Some(batch)) => {
                self.next = batch.last().map_or(self.next, Offset::next);
                Ok(Some(batch))
            }
            Ok(None) => Err(BrokerError::Stopped),
            Err(_) => {
                // The last offsets may hold no records; a closed range sees the end, and a broker that has gone.
                let range = Watermarks {
                    low: self.next,
                    high: self.high,
                };
                self.rest = broker.read(&self.from, range).await?.into();
                self.next = self.high;
                Ok(self.rest.pop_front())
            }
        }
    }

    /// Returns how many offsets were passed, and how many there are.
    pub fn passed(&self) -> (u64, u64) {
        let offsets = |to: Offset| u64::try_from(to.0 - self.begin.0).unwrap_or(0);
        let total = offsets(self.high);
        (offsets(self.next).min(total), total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::Partition;
    use worker::{Outgoing, Simulated};

    #[tokio::test(flavor = "current_thread")]
    async fn a_tape_gives_every_record_once_and_ends() {
        let broker = Simulated::default();
        broker.create("t", 1);
        let of: TopicPartition = ("t", Partition(0)).into();
        for at in 0..1000_u32 {
            let value = at.to_le_bytes();
            let record = Outgoing {
                value: &value,
                ..Outgoing::default()
            };
            broker.append(&of, record).unwrap();
        }
        for (start, expected) in [(0, 1000), (990, 10), (1000, 0), (2000, 0)] {
            let mut tape = Tape::open(&broker, of.clone(), Offset(start))
                .await
                .unwrap();
            let mut offsets = Vec::new();
            while let Some(batch) = tape.next(&broker).await.unwrap() {
                offsets.extend(batch.records().map(|record| record.offset().0));
            }
            let all: Vec<i64> = (start..1000).collect();
            assert_eq!(offsets, all);
            assert_eq!(tape.passed(), (expected, expected));
        }
    }
}
