//! What one partition remembers of its idempotent producers: enough to spot gaps and repeats.
//!
//! In flow headers of batches, out flows a verdict for each. Pure: it does no I/O; the log saves and restores it
//! with each segment.

use std::collections::{HashMap, VecDeque};

use bytes::{Buf, BufMut};
use kafka_protocol::ResponseError;

use super::batch::{BatchHeader, sequence_after};

/// How many batches of each producer are remembered: Kafka's own number, and librdkafka's limit of requests in flight.
const BATCHES_REMEMBERED: usize = 5;

/// How many producers one partition remembers; beyond it, whoever wrote longest ago is forgotten.
const PRODUCERS_MAX: usize = 1_000;

/// What to do with a batch.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It continues its producer's sequence.
    Append,
    /// It is here already, from this offset on.
    Repeat {
        /// Where the first copy lies.
        base_offset: i64,
    },
    /// It must not be appended.
    Refuse(ResponseError),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Remembered {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    batches: VecDeque<Remembered>,
}

impl Producer {
    fn last_offset(&self) -> i64 {
        self.batches.back().map_or(-1, |batch| batch.base_offset)
    }
}

/// The producers of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Producers {
    by_id: HashMap<i64, Producer>,
}

impl Producers {
    /// Decides about a batch that has not been appended yet.
    ///
    /// A producer that is unknown here (new, or forgotten) may begin with any sequence number, as with Apache Kafka.
    pub fn judge(&self, batch: &BatchHeader) -> Verdict {
        if !batch.is_idempotent() {
            return Verdict::Append;
        }
        let Some(known) = self.by_id.get(&batch.producer_id) else {
            return Verdict::Append;
        };
        if batch.producer_epoch < known.epoch {
            return Verdict::Refuse(ResponseError::InvalidProducerEpoch);
        }
        if known.epoch < batch.producer_epoch {
            return match batch.base_sequence {
                0 => Verdict::Append,
                _ => Verdict::Refuse(ResponseError::OutOfOrderSequenceNumber),
            };
        }
        let repeat = known.batches.iter().find(|seen| {
            (seen.first_sequence, seen.last_sequence)
                == (batch.base_sequence, batch.last_sequence())
        });
        if let Some(seen) = repeat {
            return Verdict::Repeat {
                base_offset: seen.base_offset,
            };
        }
        match known.batches.back() {
            Some(last) if batch.base_sequence != sequence_after(last.last_sequence, 1) => {
                Verdict::Refuse(ResponseError::OutOfOrderSequenceNumber)
            }
            _ => Verdict::Append,
        }
    }

    /// Remembers a batch that has been appended, with its final offset in it.
    pub fn record(&mut self, batch: &BatchHeader) {
        if !batch.is_idempotent() {
            return;
        }
        if PRODUCERS_MAX <= self.by_id.len() && !self.by_id.contains_key(&batch.producer_id) {
            self.forget_oldest();
        }
        let producer = self.by_id.entry(batch.producer_id).or_default();
        if producer.epoch != batch.producer_epoch {
            producer.epoch = batch.producer_epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == BATCHES_REMEMBERED {
            producer.batches.pop_front();
        }
        producer.batches.push_back(Remembered {
            first_sequence: batch.base_sequence,
            last_sequence: batch.last_sequence(),
            base_offset: batch.base_offset,
        });
    }

    fn forget_oldest(&mut self) {
        let oldest = self
            .by_id
            .iter()
            .min_by_key(|(_, producer)| producer.last_offset());
        if let Some(id) = oldest.map(|(&id, _)| id) {
            self.by_id.remove(&id);
        }
    }

    /// Writes everything remembered to `out`.
    pub fn save(&self, out: &mut Vec<u8>) {
        out.put_u32(self.by_id.len() as u32);
        for (&id, producer) in &self.by_id {
            out.put_i64(id);
            out.put_i16(producer.epoch);
            out.put_u8(producer.batches.len() as u8);
            for batch in &producer.batches {
                out.put_i32(batch.first_sequence);
                out.put_i32(batch.last_sequence);
                out.put_i64(batch.base_offset);
            }
        }
    }

    /// Reads what [`Producers::save`] wrote, or says `None` if this is something else.
    pub fn restore(mut saved: &[u8]) -> Option<Self> {
        let mut producers = Self::default();
        let count = saved.try_get_u32().ok()?;
        for _ in 0..count {
            let id = saved.try_get_i64().ok()?;
            let epoch = saved.try_get_i16().ok()?;
            let mut batches = VecDeque::new();
            for _ in 0..saved.try_get_u8().ok()? {
                batches.push_back(Remembered {
                    first_sequence: saved.try_get_i32().ok()?,
                    last_sequence: saved.try_get_i32().ok()?,
                    base_offset: saved.try_get_i64().ok()?,
                });
            }
            producers.by_id.insert(id, Producer { epoch, batches });
        }
        saved.is_empty().then_some(producers)
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::tests::batch;
    use super::*;

    fn header(id: i64, epoch: i16, sequence: i32, count: u8, base_offset: i64) -> BatchHeader {
        let mut header = BatchHeader::parse(&batch(count, 0, (id, epoch, sequence))).unwrap();
        header.base_offset = base_offset;
        header
    }

    #[test]
    fn repeats_gaps_and_epochs_are_told_apart() {
        let mut producers = Producers::default();
        for n in 0..7 {
            let next = header(1, 0, n * 2, 2, i64::from(n) * 10);
            assert_eq!(producers.judge(&next), Verdict::Append);
            producers.record(&next);
        }
        let check = |epoch, sequence, expected| {
            assert_eq!(producers.judge(&header(1, epoch, sequence, 2, 0)), expected);
        };
        check(0, 12, Verdict::Repeat { base_offset: 60 });
        check(0, 4, Verdict::Repeat { base_offset: 20 });
        check(
            0,
            2,
            Verdict::Refuse(ResponseError::OutOfOrderSequenceNumber),
        ); // the sixth last: forgotten
        check(
            0,
            16,
            Verdict::Refuse(ResponseError::OutOfOrderSequenceNumber),
        );
        check(0, 14, Verdict::Append);
        check(1, 0, Verdict::Append);
        check(
            1,
            14,
            Verdict::Refuse(ResponseError::OutOfOrderSequenceNumber),
        );
        check(-1, 0, Verdict::Refuse(ResponseError::InvalidProducerEpoch));
        assert_eq!(producers.judge(&header(2, 0, 9, 1, 0)), Verdict::Append);
    }

    #[test]
    fn a_sequence_goes_on_at_zero_after_the_last_number() {
        let mut producers = Producers::default();
        producers.record(&header(1, 0, i32::MAX - 1, 2, 0));
        assert_eq!(producers.judge(&header(1, 0, 0, 1, 0)), Verdict::Append);
    }

    #[test]
    fn what_is_saved_is_restored() {
        let mut producers = Producers::default();
        producers.record(&header(1, 0, 0, 2, 5));
        producers.record(&header(9, 3, 0, 1, 7));
        let mut saved = Vec::new();
        producers.save(&mut saved);
        assert_eq!(Producers::restore(&saved), Some(producers));
        assert_eq!(Producers::restore(&saved[..saved.len() - 1]), None);
    }

    #[test]
    fn memory_is_bounded() {
        let mut producers = Producers::default();
        for id in 0..PRODUCERS_MAX as i64 + 10 {
            producers.record(&header(id, 0, 0, 1, id));
        }
        assert_eq!(producers.by_id.len(), PRODUCERS_MAX);
        assert!(!producers.by_id.contains_key(&9) && producers.by_id.contains_key(&10));
    }
}
