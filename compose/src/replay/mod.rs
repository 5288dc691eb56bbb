//! Makes model versions again from the log, by the trainer's journal, and compares each with what was published.
//!
//! ```text
//! <s>.model ──► journals and digests ──┐
//! <s>.clean, <s>.labels ───────────────┴──► the trainer's own replay ──► digest, compared
//! ```
//!
//! It begins at version 0; if the log no longer reaches back so far, at the oldest checkpoint from which on it has
//! everything. It reads only, and joins no group.

mod start;

use anyhow::Result;
use schemas::contract::Label;
use schemas::model::{ModelMessage, Prequential};
use schemas::topics::Topics;
use schemas::{Contract, Digest, ModelVersion};
use serde_json::{Value, json};
use trainer::input::Decoder;
use trainer::journal::Chain;
use trainer::{MODEL_PARTITION, Replay, TrainerError};
use worker::{Broker, Store, TopicPartition};

use self::start::Starter;
use crate::tape::Tape;

/// What to make again.
pub struct Options {
    /// The last version; `None` is the newest in the log.
    pub version: Option<ModelVersion>,
    /// Where checkpoints are, for when the log does not reach back to version 0.
    pub store: Option<Store>,
}

/// Why a version is not what was published.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Why {
    /// The log makes another one.
    #[error("the log makes {found}, and {published} was published")]
    OtherDigest {
        /// What was published.
        published: Digest,
        /// What comes out.
        found: Digest,
    },
    /// The model topic does not lead to it.
    #[error("the model topic does not lead to it")]
    UnknownVersion,
    /// The log no longer has what it was made of.
    #[error("{0}")]
    LogLost(String),
    /// What it was made of cannot be taken.
    #[error("{0}")]
    Refused(String),
}

impl Why {
    /// Returns the kind, for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Why::OtherDigest { .. } => "other_digest",
            Why::UnknownVersion => "unknown_version",
            Why::LogLost(_) => "log_lost",
            Why::Refused(_) => "refused",
        }
    }
}

/// The first version that is not what was published.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The version.
    pub version: ModelVersion,
    /// Why.
    pub why: Why,
}

/// What came of a replay.
#[derive(Clone, Debug, PartialEq)]
pub struct Replayed {
    /// The version that it began with; 0 has learned nothing.
    pub from: ModelVersion,
    /// The last version that came out as it was published.
    pub through: ModelVersion,
    /// Digest of that version.
    pub digest: Digest,
    /// How well it predicted; `None` if no version was made.
    pub quality: Option<Prequential>,
    /// What differs; nothing was made after that.
    pub first: Option<Difference>,
}

impl Replayed {
    /// Returns how many versions are equal.
    pub fn equals(&self) -> u64 {
        self.through.0 - self.from.0
    }

    /// Returns all of it, for programs.
    pub fn json(&self) -> Value {
        let first = self.first.as_ref().map(|first| {
            json!({
                "version": first.version,
                "kind": first.why.kind(),
                "why": first.why.to_string(),
            })
        });
        json!({
            "from": self.from,
            "through": self.through,
            "digest": self.digest,
            "quality": self.quality,
            "compared": self.equals() + u64::from(first.is_some()),
            "equal": self.equals(),
            "first": first,
        })
    }
}

/// Makes versions again; `progress` gets how many messages of the model topic were read, of how many.
///
/// # Errors
/// A broker or store that does not answer. A version that differs is no error.
pub async fn replay<B: Broker>(
    broker: &B,
    contract: &Contract,
    label: &Label,
    options: &Options,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Replayed> {
    let topics = Topics::of(&contract.stream.name);
    let mut decoder = Decoder::new(contract, label.clone())?;
    let starter = Starter {
        broker,
        contract,
        label,
        topics: &topics,
        store: options.store.as_ref(),
    };
    let model: TopicPartition = (topics.model.as_str(), MODEL_PARTITION).into();
    let (mut fitter, from) = starter.start(decoder.layout(), options.version).await?;
    let begin = fitter.lineage();
    let mut replayed = Replayed {
        from: begin.version,
        through: begin.version,
        digest: begin.digest,
        quality: None,
        first: None,
    };
    let mut chain = Chain::after(begin);
    let mut replay = Replay::new(broker, &topics, &mut decoder);
    let mut tape = Tape::open(broker, model, from).await?;
    // The newest version of which the topic has a part that could continue the model.
    let mut newest = begin.version;
    while let Some(batch) = tape.next(broker).await? {
        for record in batch.records() {
            let message = ModelMessage::parse(record.value().unwrap_or_default());
            let Ok(ModelMessage::Chunk(chunk)) = message else {
                continue;
            };
            newest = newest.max(chunk.version);
            let Some(published) = chain.take(chunk) else {
                continue;
            };
            let version = published.version;
            if let Err(error) = replay.version(&mut fitter, &published).await {
                let why = why(error)?;
                replayed.first = Some(Difference { version, why });
                return Ok(replayed);
            }
            (replayed.through, replayed.digest) = (version, published.digest);
            replayed.quality = Some(published.prequential);
            if options.version == Some(version) {
                return Ok(replayed);
            }
        }
        let (done, total) = tape.passed();
        progress(done, total);
    }
    replayed.first = unreached(&replayed, options.version, newest);
    Ok(replayed)
}

/// Says which version should have come and did not: the one that was asked for, or the next if none came at all.
fn unreached(
    replayed: &Replayed,
    asked: Option<ModelVersion>,
    newest: ModelVersion,
) -> Option<Difference> {
    let none = replayed.equals() == 0 && replayed.through < newest;
    let next = ModelVersion(replayed.through.0 + 1);
    let version = match asked {
        Some(asked) if replayed.through < asked => asked,
        // The last update may still be on its way.
        None if none => next,
        _ => return None,
    };
    Some(Difference {
        version,
        why: Why::UnknownVersion,
    })
}

/// Tells what a version differs in from a failure to look.
fn why(error: TrainerError) -> Result<Why> {
    Ok(match error {
        TrainerError::Broker(_) | TrainerError::Place(_) | TrainerError::Store(_) => {
            return Err(error.into());
        }
        TrainerError::Replay {
            published, found, ..
        } => Why::OtherDigest { published, found },
        TrainerError::Lost { .. } => Why::LogLost(error.to_string()),
        error => Why::Refused(format!("{:#}", anyhow::Error::from(error))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(through: u64, asked: Option<u64>, newest: u64, expected: Option<u64>) {
        let replayed = Replayed {
            from: ModelVersion(5),
            through: ModelVersion(through),
            digest: Digest([1; 32]),
            quality: None,
            first: None,
        };
        let found = unreached(&replayed, asked.map(ModelVersion), ModelVersion(newest));
        assert_eq!(found.map(|first| first.version.0), expected);
    }

    #[test]
    fn a_version_that_should_have_come_is_said() {
        check(9, None, 9, None);
        // Its last chunk is on its way.
        check(9, None, 10, None);
        check(9, Some(12), 9, Some(12));
        check(5, None, 5, None);
        check(5, None, 9, Some(6));
        check(5, Some(5), 9, None);
    }

    #[test]
    fn a_replay_that_differs_is_reported_with_both_digests() {
        let (published, found) = (Digest([1; 32]), Digest([2; 32]));
        let error = TrainerError::Replay {
            version: ModelVersion(7),
            published,
            found,
        };
        let replayed = Replayed {
            from: ModelVersion(0),
            through: ModelVersion(6),
            digest: Digest([3; 32]),
            quality: None,
            first: Some(Difference {
                version: ModelVersion(7),
                why: why(error).unwrap(),
            }),
        };
        let report = replayed.json();
        assert_eq!(report["equal"], 6);
        assert_eq!(report["compared"], 7);
        assert_eq!(report["first"]["version"], 7);
        assert_eq!(report["first"]["kind"], "other_digest");
        let text = report["first"]["why"].as_str().unwrap();
        assert!(text.contains(&published.to_string()) && text.contains(&found.to_string()));
    }
}
