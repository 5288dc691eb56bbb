//! Restart: the newest checkpoint that can be read, then every version that was published after it.

use learn::model::Lineage;
use schemas::contract::Label;
use schemas::model::ModelMessage;
use schemas::topics::Topics;
use schemas::{Contract, Offset};
use tracing::{info, warn};
use worker::{Batch, Broker, TopicPartition, Watermarks};

use crate::checkpoint::{self, Decoded};
use crate::error::TrainerError;
use crate::fit::Fitter;
use crate::input::Decoder;
use crate::journal::Chain;
use crate::letters::{DeadEnds, Letters};
use crate::publish::{MODEL_PARTITION, Publisher};
use crate::replay::Replay;
use crate::shelf::Shelf;

/// Messages of the model topic that are read in one go: 8 MiB at most.
const WINDOW: i64 = 16;

/// What a restart is made from.
pub(crate) struct Restorer<'a, B> {
    pub(crate) broker: &'a B,
    pub(crate) contract: &'a Contract,
    pub(crate) label: &'a Label,
    pub(crate) topics: &'a Topics,
    pub(crate) shelf: &'a Shelf,
}

/// What a restart comes to.
pub(crate) struct Restored<B: Broker> {
    /// As it was when the last version was published.
    pub(crate) fitter: Fitter,
    /// Who publishes from there on.
    pub(crate) publisher: Publisher<B>,
    /// Who writes letters from there on.
    pub(crate) letters: Letters<B>,
    /// Whether there are versions after the newest checkpoint.
    pub(crate) replayed: bool,
}

/// Where a restart begins.
struct Begin {
    fitter: Fitter,
    dead: DeadEnds,
    /// Name of the checkpoint, and where the model topic went on after it.
    checkpoint: Option<(String, Offset)>,
}

impl<B: Broker> Restorer<'_, B> {
    /// Makes learning again as it was when the last version was published.
    pub(crate) async fn restore(&self, decoder: &mut Decoder) -> Result<Restored<B>, TrainerError> {
        let Begin {
            mut fitter,
            dead,
            checkpoint,
        } = self.begin(decoder).await?;
        let from = fitter.lineage();
        let topic: TopicPartition = (self.topics.model.as_str(), MODEL_PARTITION).into();
        let ends = self.broker.watermarks(&topic).await?;
        let start = self.start(ends, checkpoint.as_ref().map(|(_, model)| *model))?;
        let mut chain = Chain::after(from);
        let mut replay = Replay::new(self.broker, self.topics, decoder);
        let (mut low, mut announced) = (start, false);
        while low < ends.high {
            let high = ends.high.min(Offset(low.0 + WINDOW));
            for batch in self.broker.read(&topic, Watermarks { low, high }).await? {
                announced |= self
                    .messages(&batch, from, &mut chain, &mut replay, &mut fitter)
                    .await?;
            }
            low = high;
        }
        let mut publisher = Publisher::new(self.broker.clone(), topic, ends.high)?;
        if let Some((name, _)) = checkpoint
            && !announced
        {
            // A crash came between storing and announcing.
            publisher.announce(from, &name).await?;
        }
        info!(checkpoint = %from.version, version = %fitter.lineage().version, waiting = fitter.waiting(), "restored");
        let (contract, label) = (self.contract, self.label);
        let letters = Letters::open(self.broker, contract, label, self.topics, &dead).await?;
        Ok(Restored {
            replayed: fitter.lineage() != from,
            fitter,
            publisher,
            letters,
        })
    }

    /// Replays the versions in messages of the model topic; says whether they announce the checkpoint.
    async fn messages(
        &self,
        batch: &Batch,
        checkpoint: Lineage,
        chain: &mut Chain,
        replay: &mut Replay<'_, B>,
        fitter: &mut Fitter,
    ) -> Result<bool, TrainerError> {
        let mut announced = false;
        for record in batch.records() {
            match ModelMessage::parse(record.value().unwrap_or_default()) {
                Ok(ModelMessage::Chunk(chunk)) => {
                    if let Some(published) = chain.take(chunk) {
                        replay.version(fitter, &published).await?;
                    }
                }
                Ok(ModelMessage::Snapshot(found)) => {
                    announced |= found.digest == checkpoint.digest;
                }
                Err(error) => {
                    warn!(offset = %record.offset(), %error, "skipped a message on the model topic");
                }
            }
        }
        Ok(announced)
    }

    /// Returns where to read the model topic from.
    fn start(&self, ends: Watermarks, wanted: Option<Offset>) -> Result<Offset, TrainerError> {
        let topic = &self.topics.model;
        match wanted {
            Some(wanted) if ends.high < wanted => {
                warn!(topic, %wanted, high = %ends.high, "the model topic was made anew; the checkpoint lives on");
                Ok(ends.low)
            }
            wanted => {
                let (low, wanted) = (ends.low, wanted.unwrap_or(Offset(0)));
                let topic = topic.clone();
                if wanted < low {
                    return Err(TrainerError::HistoryLost { topic, low, wanted });
                }
                Ok(wanted)
            }
        }
    }

    async fn begin(&self, decoder: &Decoder) -> Result<Begin, TrainerError> {
        for name in self.shelf.names().await? {
            let bytes = self.shelf.get(&name).await?;
            match checkpoint::decode(self.contract, self.label, decoder.layout(), &bytes) {
                Ok(Decoded {
                    fitter,
                    model,
                    dead,
                }) => {
                    return Ok(Begin {
                        fitter,
                        dead,
                        checkpoint: Some((name, model)),
                    });
                }
                Err(error) => {
                    warn!(name, %error, "skipped a checkpoint that cannot be used");
                }
            }
        }
        Ok(Begin {
            fitter: Fitter::new(self.contract, self.label, decoder.layout())?,
            dead: DeadEnds::new(),
            checkpoint: None,
        })
    }
}
