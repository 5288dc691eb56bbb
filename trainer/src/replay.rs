//! Replay: versions that were published after the checkpoint, made again from their journals.
//!
//! It reads the log itself, partition by partition, before the consumer begins; so nothing has to wait in memory
//! for its turn.

use std::collections::{HashMap, VecDeque};

use schemas::model::{Input, Segment};
use schemas::topics::Topics;
use schemas::{ModelVersion, Offset, Partition};
use worker::{Batch, Broker, TopicPartition, Watermarks};

use crate::error::TrainerError;
use crate::fit::Fitter;
use crate::input::{Decoder, Part};
use crate::intake::clean_part;
use crate::journal::Published;

/// Messages that are read in one go at first: doubled while they are small.
const WINDOW: i64 = 16;

/// Bytes of a window that are worth a trip to the broker.
const WINDOW_BYTES_MIN: usize = 1 << 20;

/// Bytes of a window that are too many.
const WINDOW_BYTES_MAX: usize = 4 << 20;

/// Reads what versions were made of.
pub struct Replay<'a, B> {
    broker: &'a B,
    topics: &'a Topics,
    decoder: &'a mut Decoder,
    windows: HashMap<(Input, Partition), Window>,
}

/// What was read of one partition.
struct Window {
    input: Input,
    from: TopicPartition,
    /// Where to read on.
    next: Offset,
    messages: i64,
    batches: VecDeque<Batch>,
    parts: VecDeque<Part>,
}

impl<'a, B: Broker> Replay<'a, B> {
    /// Begins where a fitter is.
    pub fn new(broker: &'a B, topics: &'a Topics, decoder: &'a mut Decoder) -> Self {
        Replay {
            broker,
            topics,
            decoder,
            windows: HashMap::new(),
        }
    }

    /// Makes a published version again.
    ///
    /// # Errors
    /// [`TrainerError::Replay`] if it comes out otherwise, [`TrainerError::Lost`] if the log no longer has what it
    /// was made of, and what reading and taking may meet.
    pub async fn version(
        &mut self,
        fitter: &mut Fitter,
        published: &Published,
    ) -> Result<(), TrainerError> {
        for segment in &published.segments {
            self.segment(fitter, segment, published.version).await?;
        }
        let made = fitter.advance_as(&published.prequential);
        let found = made.map_err(TrainerError::Version)?.digest();
        // What was counted was counted when the version was made first.
        fitter.take_tally();
        if found == published.digest {
            return Ok(());
        }
        Err(TrainerError::Replay {
            version: published.version,
            published: published.digest,
            found,
        })
    }

    async fn segment(
        &mut self,
        fitter: &mut Fitter,
        segment: &Segment,
        version: ModelVersion,
    ) -> Result<(), TrainerError> {
        let key = (segment.input, segment.partition);
        let mut window = match self.windows.remove(&key) {
            Some(window) => window,
            None => self.open(key, fitter).await?,
        };
        while !fitter.has_passed(segment) {
            if !window.fill(self.broker, self.decoder, fitter).await? {
                return Err(TrainerError::Lost {
                    from: window.from.to_string(),
                    wanted: window.next,
                    version,
                });
            }
            window.take(fitter, segment.last)?;
        }
        self.windows.insert(key, window);
        Ok(())
    }

    async fn open(&self, key: (Input, Partition), fitter: &Fitter) -> Result<Window, TrainerError> {
        let from: TopicPartition = (topic(self.topics, key.0), key.1).into();
        let next = match fitter.positions().get(&key) {
            Some(position) => position.message,
            None => self.broker.watermarks(&from).await?.low,
        };
        Ok(Window {
            input: key.0,
            from,
            next,
            messages: WINDOW,
            batches: VecDeque::new(),
            parts: VecDeque::new(),
        })
    }
}

impl Window {
    /// Makes sure that there is a part to take; says no at the end of the log.
    async fn fill<B: Broker>(
        &mut self,
        broker: &B,
        decoder: &mut Decoder,
        fitter: &mut Fitter,
    ) -> Result<bool, TrainerError> {
        while self.parts.is_empty() {
            if self.batches.is_empty() && !self.read(broker).await? {
                return Ok(false);
            }
            if let Some(batch) = self.batches.pop_front() {
                self.decode(decoder, &batch, fitter)?;
            }
        }
        Ok(true)
    }

    /// Takes of the next part what goes up to an offset.
    fn take(&mut self, fitter: &mut Fitter, through: Offset) -> Result<(), TrainerError> {
        let Some(part) = self.parts.front() else {
            return Ok(());
        };
        fitter
            .take(part, through, u64::MAX)
            .map_err(|source| TrainerError::Fit {
                from: self.from.to_string(),
                source,
            })?;
        if fitter.has_taken(part) {
            self.parts.pop_front();
        }
        Ok(())
    }

    /// Reads on; says whether anything came.
    async fn read<B: Broker>(&mut self, broker: &B) -> Result<bool, TrainerError> {
        let high = broker.watermarks(&self.from).await?.high;
        let range = Watermarks {
            low: self.next,
            high: high.min(Offset(self.next.0 + self.messages)),
        };
        if range.high <= range.low {
            return Ok(false);
        }
        self.batches = broker.read(&self.from, range).await?.into();
        self.next = range.high;
        let bytes: usize = self.batches.iter().map(Batch::bytes).sum();
        if bytes < WINDOW_BYTES_MIN {
            self.messages *= 2;
        } else if WINDOW_BYTES_MAX < bytes {
            self.messages = (self.messages / 2).max(1);
        }
        Ok(true)
    }

    fn decode(
        &mut self,
        decoder: &mut Decoder,
        batch: &Batch,
        fitter: &mut Fitter,
    ) -> Result<(), TrainerError> {
        if self.input == Input::Labels {
            let mut part = Part::labels();
            // Those that cannot be read were counted when they came first.
            decoder.labels(batch, &mut part);
            self.parts.push_back(part);
            return Ok(());
        }
        for record in batch.records() {
            let mut part = Part::events(decoder.layout());
            clean_part(decoder, batch.from(), &record, fitter, &mut part)?;
            self.parts.push_back(part);
        }
        Ok(())
    }
}

fn topic(topics: &Topics, input: Input) -> &str {
    match input {
        Input::Clean => &topics.clean,
        Input::Labels => &topics.labels,
    }
}
