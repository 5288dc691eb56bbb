//! What a partition must remember, rebuilt from the tail of `ingest`'s own outputs.

use arrow_array::Array;
use arrow_array::cast::AsArray;
use schemas::clean::{CleanDecoder, CleanHeader};
use schemas::dead::DeadHeader;
use schemas::{ColumnRole, Columns, Contract, Digest, Offset, TopicId};
use tracing::{info, warn};
use worker::{Batch, Broker, TopicPartition, Watermarks};

use crate::clean::{Cleaner, Memory};
use crate::error::IngestError;
use crate::moments::Moments;

/// Clean messages that are read back at first.
const READ_BACK: i64 = 64;

/// So many times as many are read back until the window is full: each time is a trip to the broker, in which the other
/// partitions wait.
const READ_BACK_GROWTH: i64 = 8;

/// Dead letters that are read back: a zombie may have written a few after the newest.
const LETTERS_BACK: i64 = 64;

/// Dead letters that are read in one go, at most, while none of an event is found.
const LETTERS_BACK_MAX: i64 = 4096;

/// Where a partition goes on.
pub(crate) struct Restored {
    /// The next raw offset to decide; `None` where nothing was ever decided.
    pub(crate) next: Option<Offset>,
    /// The last raw offset of which the dead letter is written, if any is.
    pub(crate) letters_through: Option<Offset>,
    /// What the rules must know.
    pub(crate) memory: Memory,
}

/// What is restored for, and with what.
pub(crate) struct Restorer<'a, B> {
    pub(crate) broker: &'a B,
    pub(crate) contract: &'a Contract,
    pub(crate) digest: Digest,
    pub(crate) topic_id: TopicId,
}

impl<B: Broker> Restorer<'_, B> {
    /// Reads back how far a partition is, and what its decisions depend on.
    pub(crate) async fn restore(
        &self,
        clean: &TopicPartition,
        dead: &TopicPartition,
        cleaner: &Cleaner,
    ) -> Result<Restored, IngestError> {
        let letters_through = self.letters_through(dead).await?;
        let mut restored = Restored {
            next: None,
            letters_through,
            memory: cleaner.fresh_memory(),
        };
        let ends = self.broker.watermarks(clean).await?;
        let mut reach = READ_BACK;
        loop {
            let low = Offset((ends.high.0 - reach).max(ends.low.0));
            let tail = self
                .broker
                .read(
                    clean,
                    Watermarks {
                        low,
                        high: ends.high,
                    },
                )
                .await?;
            (restored.next, restored.memory) = (None, cleaner.fresh_memory());
            let full = self.replay(&tail, clean, &mut restored)?;
            if full || low == ends.low {
                break;
            }
            reach *= READ_BACK_GROWTH;
        }
        info!(partition = %clean, next = ?restored.next, ids = restored.memory.window.len(), "restored");
        Ok(restored)
    }

    /// Takes ids and moments from clean messages; says whether the window is full.
    fn replay(
        &self,
        tail: &[Batch],
        from: &TopicPartition,
        restored: &mut Restored,
    ) -> Result<bool, IngestError> {
        let columns = Columns::of(self.contract);
        let Some(id) = columns.index(self.contract.event.id, ColumnRole::Open) else {
            return Ok(true);
        };
        let decoder = CleanDecoder::with_projection(
            columns.schema().clone(),
            vec![Columns::SOURCE_OFFSET, id],
        );
        let wrong = |source| IngestError::Tail {
            from: from.to_string(),
            source,
        };
        let mut rows = 0;
        for record in tail.iter().flat_map(Batch::records) {
            let header = CleanHeader::from_headers(record.headers()).map_err(wrong)?;
            // A raw topic that was made anew begins at offset 0 again; a batch that a zombie wrote says nothing new.
            let next = restored.next.unwrap_or(header.first);
            if header.topic_id != self.topic_id || header.last < next {
                continue;
            }
            restored.next = Some(header.last.next());
            if header.contract != self.digest {
                warn!(partition = %from, contract = %header.contract, "another contract shaped the tail: windows begin anew");
                continue;
            }
            let moments = Moments::read_all(&header.ingest_state, restored.memory.moments.len());
            restored.memory.moments = moments.unwrap_or_else(|| restored.memory.moments.clone());
            let batch = decoder
                .decode(record.value().unwrap_or_default())
                .map_err(wrong)?;
            let offsets = batch
                .column(0)
                .as_primitive::<arrow_array::types::Int64Type>();
            let ids = batch.column(1).as_string::<i32>();
            for row in (0..ids.len()).filter(|row| next.0 <= offsets.value(*row)) {
                restored.memory.window.accept(ids.value(row).as_bytes());
                rows += 1;
            }
        }
        Ok(self.contract.event.duplicates_window <= rows)
    }

    /// Finds the newest letter of an event: those of labels may stand in any number behind it.
    async fn letters_through(&self, dead: &TopicPartition) -> Result<Option<Offset>, IngestError> {
        let ends = self.broker.watermarks(dead).await?;
        let (mut high, mut back) = (ends.high, LETTERS_BACK);
        while ends.low < high {
            let low = Offset((high.0 - back).max(ends.low.0));
            let tail = self.broker.read(dead, Watermarks { low, high }).await?;
            let headers = tail
                .iter()
                .flat_map(Batch::records)
                .filter_map(|r| DeadHeader::from_headers(r.headers()));
            let newest = headers
                .filter(|h| h.is_event() && h.source.topic_id == self.topic_id)
                .map(|h| h.source.offset)
                .max();
            if newest.is_some() {
                return Ok(newest);
            }
            (high, back) = (low, (2 * back).min(LETTERS_BACK_MAX));
        }
        Ok(None)
    }
}
