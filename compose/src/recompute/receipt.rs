//! Receipts: what a score says of how it was made, kept small, for a million wait at a time.

use std::collections::HashMap;

use schemas::score::{ModelReference, Score, ScoreReason};
use schemas::{Digest, EventTime, SourceCoordinates, parse_rfc3339};

/// Where a receipt was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the topic of scores.
    Record {
        /// Partition.
        partition: i32,
        /// Offset.
        offset: i64,
    },
    /// In a file, counted from 1.
    Line(u64),
    /// Nowhere: none was found.
    Nowhere,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Record { partition, offset } => {
                write!(f, "offset {offset} of partition {partition}")
            }
            Place::Line(line) => write!(f, "line {line}"),
            Place::Nowhere => f.write_str("nowhere"),
        }
    }
}

/// One score to compute anew.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// Where it was read.
    pub place: Place,
    /// The event's id.
    pub id: Box<str>,
    /// When the event happened; `None` if that cannot be read.
    pub event_time: Option<EventTime>,
    /// Where the event came from.
    pub source: SourceCoordinates,
    /// The model that made the score.
    pub model: ModelReference,
    /// The score.
    pub score: f64,
    /// The decision.
    pub decision: bool,
    class: Option<u32>,
    reasons: Box<[(u32, f64)]>,
}

/// Names of features and classes, each kept once.
#[derive(Debug, Default)]
struct Names {
    numbers: HashMap<String, u32>,
    names: Vec<String>,
}

impl Names {
    fn number(&mut self, name: String) -> u32 {
        if let Some(number) = self.numbers.get(&name) {
            return *number;
        }
        let number = self.names.len() as u32;
        self.names.push(name.clone());
        self.numbers.insert(name, number);
        number
    }
}

/// Receipts of one pass.
#[derive(Debug, Default)]
pub struct Receipts {
    list: Vec<Receipt>,
    names: Names,
}

/// Why a line is no receipt of ours.
#[derive(Clone, Debug, PartialEq)]
pub enum Foreign {
    /// It is no score.
    Unreadable(String),
    /// It is of another contract.
    OtherContract {
        /// Id of its event.
        id: String,
        /// Its contract.
        contract: Digest,
    },
    /// It is none of those that are asked for.
    Unasked,
}

impl Receipts {
    /// Returns all, in the order in which they were read.
    pub fn list(&self) -> &[Receipt] {
        &self.list
    }

    /// Returns the class that a receipt names.
    pub fn class(&self, receipt: &Receipt) -> Option<&str> {
        Some(&self.names.names[receipt.class? as usize])
    }

    /// Returns the reasons of a receipt.
    pub fn reasons(&self, receipt: &Receipt) -> Vec<ScoreReason> {
        let reason = |(name, log_odds): &(u32, f64)| ScoreReason {
            feature: self.names.names[*name as usize].clone(),
            log_odds: *log_odds,
        };
        receipt.reasons.iter().map(reason).collect()
    }

    /// Takes the JSON of a score in, if it is asked for and of a contract.
    ///
    /// # Errors
    /// [`Foreign`].
    pub fn add(
        &mut self,
        place: Place,
        json: &[u8],
        contract: Digest,
        asked: impl FnOnce(&str) -> bool,
    ) -> Result<(), Foreign> {
        // This reader, unlike serde_json as we build it, gives back each number to the last bit.
        let score: Score = sonic_rs::from_slice(json)
            .map_err(|error| Foreign::Unreadable(first_line(&error.to_string())))?;
        if !asked(&score.id) {
            return Err(Foreign::Unasked);
        }
        if score.contract != contract {
            return Err(Foreign::OtherContract {
                id: score.id,
                contract: score.contract,
            });
        }
        let reasons = score.reasons.into_iter();
        let names = &mut self.names;
        let class = score.class.map(|class| names.number(class));
        let reasons = reasons.map(|reason| (names.number(reason.feature), reason.log_odds));
        self.list.push(Receipt {
            place,
            id: score.id.into_boxed_str(),
            event_time: parse_rfc3339(&score.event_time),
            source: score.source,
            model: score.model,
            score: score.score,
            decision: score.decision,
            class,
            reasons: reasons.collect(),
        });
        Ok(())
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use schemas::score::{ScoreRow, ScoreWriter};
    use schemas::{ModelVersion, Offset, Partition, TopicId};

    pub const CONTRACT: Digest = Digest([4; 32]);

    /// Writes a score as the scorer does.
    pub fn json(id: &str, score: f64, version: u64, offset: i64) -> String {
        let model = ModelReference {
            version: ModelVersion(version),
            digest: Digest([version as u8; 32]),
        };
        let writer = ScoreWriter::new(model, CONTRACT, 0.5, TopicId([5; 16]), Partition(2));
        let row = ScoreRow {
            id,
            score,
            class: Some("late"),
            event_time: EventTime(1_357_035_300_000_000),
            source_offset: Offset(offset),
            reasons: &[(["carrier", "hour"], -0.1), (["origin", ""], 1e-9)],
        };
        let mut text = String::new();
        writer.write(&row, &mut text);
        text
    }

    #[test]
    fn a_receipt_keeps_every_bit_of_a_score() {
        let mut receipts = Receipts::default();
        let score = 0.1_f64 + 0.2;
        let place = Place::Line(1);
        let text = json("a", score, 3, 7);
        let added = receipts.add(place, text.as_bytes(), CONTRACT, |id| id == "a");
        assert_eq!(added, Ok(()));
        let receipt = &receipts.list()[0];
        assert_eq!(receipt.score.to_bits(), score.to_bits());
        assert_eq!(receipt.event_time, Some(EventTime(1_357_035_300_000_000)));
        assert_eq!(receipt.source.offset, Offset(7));
        assert_eq!(receipts.class(receipt), Some("late"));
        let reasons = receipts.reasons(receipt);
        assert_eq!(reasons[0], ScoreReason::new(["carrier", "hour"], -0.1));
        assert_eq!(reasons[1], ScoreReason::new(["origin", ""], 1e-9));
    }

    #[test]
    fn what_is_no_receipt_of_ours_is_said() {
        let mut receipts = Receipts::default();
        let text = json("a", 0.5, 3, 7);
        let mut add = |json: &str, contract, id: &str| {
            receipts.add(Place::Line(1), json.as_bytes(), contract, |found| {
                found == id
            })
        };
        let refused = add("{", CONTRACT, "a");
        assert!(matches!(refused, Err(Foreign::Unreadable(_))));
        assert_eq!(add(&text, CONTRACT, "b"), Err(Foreign::Unasked));
        let other = Foreign::OtherContract {
            id: "a".to_owned(),
            contract: CONTRACT,
        };
        assert_eq!(add(&text, Digest([9; 32]), "a"), Err(other));
        assert!(receipts.list().is_empty());
    }
}
