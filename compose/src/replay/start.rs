//! Where a replay begins: version 0, or the oldest checkpoint from which on the log has everything.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use learn::features::Layout;
use schemas::contract::Label;
use schemas::model::Input;
use schemas::topics::Topics;
use schemas::{Contract, ModelVersion, Offset, Partition};
use trainer::checkpoint::{self, Decoded};
use trainer::fit::{Fitter, Positions};
use trainer::{MODEL_PARTITION, Shelf};
use worker::{Broker, Store, TopicPartition, Watermarks};

/// What the log still has.
#[derive(Debug)]
struct Log {
    /// The ends of the model topic.
    model: Watermarks,
    /// The first message of each partition of each input.
    first: BTreeMap<(Input, Partition), Offset>,
}

impl Log {
    /// Says whether it has everything after a place: all messages of the model topic and of each partition.
    fn reaches(&self, model: Offset, positions: &Positions) -> bool {
        let Watermarks { low, high } = self.model;
        let next = |key: &(Input, Partition)| {
            let position = positions.get(key);
            position.map_or(Offset(0), |position| position.message)
        };
        let inside = low <= model && model <= high;
        inside && self.first.iter().all(|(key, first)| *first <= next(key))
    }
}

/// Finds where to begin.
pub(super) struct Starter<'a, B> {
    pub broker: &'a B,
    pub contract: &'a Contract,
    pub label: &'a Label,
    pub topics: &'a Topics,
    pub store: Option<&'a Store>,
}

impl<B: Broker> Starter<'_, B> {
    /// Returns the fitter to go on with, of a version before the one that is wanted, and where the model topic goes
    /// on after it.
    pub async fn start(
        &self,
        layout: Layout,
        wanted: Option<ModelVersion>,
    ) -> Result<(Fitter, Offset)> {
        let log = self.log().await?;
        let root = Fitter::new(self.contract, self.label, layout)?;
        if log.reaches(Offset(0), root.positions()) {
            return Ok((root, Offset(0)));
        }
        if let Some(store) = self.store {
            let shelf = Shelf::new(store.clone(), &self.contract.stream.name);
            let names = shelf.names().await?;
            // The oldest first: so as many versions as possible are made again.
            for name in names.iter().rev() {
                let bytes = shelf.get(name).await?;
                let decoded = checkpoint::decode(self.contract, self.label, layout, &bytes);
                let Ok(Decoded { fitter, model, .. }) = decoded else {
                    continue;
                };
                let early = wanted.is_none_or(|wanted| fitter.lineage().version < wanted);
                if early && log.reaches(model, fitter.positions()) {
                    return Ok((fitter, model));
                }
            }
        }
        // Labels and events from before the first version may be gone without harm.
        if log.model.low == Offset(0) {
            return Ok((root, Offset(0)));
        }
        bail!(
            "`{}` begins at offset {}, and no checkpoint{} goes on from where the log begins: say with --checkpoints \
             where older ones are",
            self.topics.model,
            log.model.low,
            if self.store.is_some() { " there" } else { "" },
        )
    }

    async fn log(&self) -> Result<Log> {
        let model: TopicPartition = (self.topics.model.as_str(), MODEL_PARTITION).into();
        let model = self.broker.watermarks(&model).await?;
        let mut first = BTreeMap::new();
        for (input, topic) in [
            (Input::Clean, &self.topics.clean),
            (Input::Labels, &self.topics.labels),
        ] {
            let partitions = self.broker.topic(topic).await?.partitions;
            for partition in (0..partitions).map(Partition) {
                let of: TopicPartition = (topic.as_str(), partition).into();
                let low = self.broker.watermarks(&of).await?.low;
                first.insert((input, partition), low);
            }
        }
        Ok(Log { model, first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trainer::fit::Position;

    fn check(model: i64, clean: Option<i64>, expected: bool) {
        let log = Log {
            model: Watermarks {
                low: Offset(10),
                high: Offset(20),
            },
            first: BTreeMap::from([
                ((Input::Clean, Partition(0)), Offset(100)),
                ((Input::Labels, Partition(0)), Offset(0)),
            ]),
        };
        let position = |message| Position {
            passed: Offset(message * 7),
            message: Offset(message),
        };
        let key = (Input::Clean, Partition(0));
        let positions = clean.map(|message| (key, position(message)));
        let positions: Positions = positions.into_iter().collect();
        assert_eq!(log.reaches(Offset(model), &positions), expected);
    }

    #[test]
    fn a_start_needs_all_that_comes_after_it() {
        check(10, Some(100), true);
        check(20, Some(200), true);
        check(9, Some(100), false);
        // The model topic was made anew.
        check(21, Some(100), false);
        check(10, Some(99), false);
        check(10, None, false);
    }
}
