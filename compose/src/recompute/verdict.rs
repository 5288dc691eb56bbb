//! What came of computing scores anew: how many are equal, and the first that is not, with the reason. Pure.

use std::collections::BTreeMap;

use schemas::score::ScoreReason;
use schemas::{Digest, ModelVersion};
use serde_json::{Value, json};

use super::receipt::{Place, Receipt};

/// Why a score differs.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Why {
    /// It cannot be read.
    #[error("it is no score: {0}")]
    Unreadable(String),
    /// An id was asked for that no score has.
    #[error("no score has this id")]
    NoReceipt,
    /// It was made under another contract.
    #[error("it names contract {receipt}, and the contract given is {given}")]
    OtherContract {
        /// What the score names.
        receipt: Digest,
        /// What was given.
        given: Digest,
    },
    /// The clean topic does not have the event.
    #[error(
        "no clean batch has the event that it names: offset {offset} of partition {partition} of raw topic {topic}"
    )]
    EventNotFound {
        /// Raw topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// Offset.
        offset: i64,
    },
    /// Another event is where the score says.
    #[error("the event that it names has id `{found}` or another time")]
    OtherEvent {
        /// Id of that event.
        found: String,
    },
    /// No such version can be made from the model topic.
    #[error("the model topic does not lead to version {0}")]
    UnknownVersion(ModelVersion),
    /// The version has another digest.
    #[error("it names digest {receipt} of version {version}, and that version has {found}")]
    OtherDigest {
        /// The version.
        version: ModelVersion,
        /// What the score names.
        receipt: Digest,
        /// What the version has.
        found: Digest,
    },
    /// The score is another number.
    #[error("it says {receipt:?}, and {found:?} comes out")]
    OtherScore {
        /// What it says.
        receipt: f64,
        /// What comes out.
        found: f64,
    },
    /// The class is another.
    #[error("it says class {}, and {} comes out", named(receipt), named(found))]
    OtherClass {
        /// What it says.
        receipt: Option<String>,
        /// What comes out.
        found: Option<String>,
    },
    /// The decision is another.
    #[error("it decides {receipt}, and {} comes out", !receipt)]
    OtherDecision {
        /// What it says.
        receipt: bool,
    },
    /// The reasons are others.
    #[error("its reasons are {}, and {} come out", list(receipt), list(found))]
    OtherReasons {
        /// What it says.
        receipt: Vec<ScoreReason>,
        /// What comes out.
        found: Vec<ScoreReason>,
    },
}

fn named(class: &Option<String>) -> String {
    class
        .as_ref()
        .map_or("none".to_owned(), |class| format!("`{class}`"))
}

fn list(reasons: &[ScoreReason]) -> String {
    let each = reasons.iter();
    let texts: Vec<String> = each
        .map(|reason| format!("{} {:?}", reason.feature, reason.log_odds))
        .collect();
    format!("[{}]", texts.join(", "))
}

impl Why {
    /// Returns the kind, for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Why::Unreadable(_) => "unreadable",
            Why::NoReceipt => "no_receipt",
            Why::OtherContract { .. } => "other_contract",
            Why::EventNotFound { .. } => "event_not_found",
            Why::OtherEvent { .. } => "other_event",
            Why::UnknownVersion(_) => "unknown_version",
            Why::OtherDigest { .. } => "other_digest",
            Why::OtherScore { .. } => "other_score",
            Why::OtherClass { .. } => "other_class",
            Why::OtherDecision { .. } => "other_decision",
            Why::OtherReasons { .. } => "other_reasons",
        }
    }
}

/// A score that was computed anew.
#[derive(Clone, Debug, PartialEq)]
pub struct Anew {
    /// The score.
    pub score: f64,
    /// The likeliest class, if labels are classes.
    pub class: Option<String>,
    /// The decision.
    pub decision: bool,
    /// The reasons, strongest first.
    pub reasons: Vec<ScoreReason>,
}

/// Compares a receipt, its class and its reasons with what comes out, bit for bit; says the first thing that differs.
pub fn compare(
    receipt: &Receipt,
    class: Option<&str>,
    reasons: Vec<ScoreReason>,
    anew: Anew,
) -> Option<Why> {
    if receipt.score.to_bits() != anew.score.to_bits() {
        return Some(Why::OtherScore {
            receipt: receipt.score,
            found: anew.score,
        });
    }
    if class != anew.class.as_deref() {
        return Some(Why::OtherClass {
            receipt: class.map(str::to_owned),
            found: anew.class,
        });
    }
    if receipt.decision != anew.decision {
        return Some(Why::OtherDecision {
            receipt: receipt.decision,
        });
    }
    let same = |(one, other): (&ScoreReason, &ScoreReason)| {
        one.feature == other.feature && one.log_odds.to_bits() == other.log_odds.to_bits()
    };
    let equal = reasons.len() == anew.reasons.len() && reasons.iter().zip(&anew.reasons).all(same);
    (!equal).then_some(Why::OtherReasons {
        receipt: reasons,
        found: anew.reasons,
    })
}

/// A score that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Where it was read.
    pub place: Place,
    /// Id of its event, where that is known.
    pub id: Option<String>,
    /// Why.
    pub why: Why,
}

/// What came of all scores.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    equal: u64,
    differing: BTreeMap<&'static str, u64>,
    first: Option<Difference>,
}

impl Verdict {
    /// Counts a score that is equal.
    pub fn equal(&mut self) {
        self.equal += 1;
    }

    /// Counts a score that differs; the first by its place is kept.
    pub fn differs(&mut self, difference: Difference) {
        *self.differing.entry(difference.why.kind()).or_default() += 1;
        let earlier = |first: &Difference| difference.place < first.place;
        if self.first.as_ref().is_none_or(earlier) {
            self.first = Some(difference);
        }
    }

    /// Returns how many scores are equal.
    pub fn equals(&self) -> u64 {
        self.equal
    }

    /// Returns how many scores differ.
    pub fn differences(&self) -> u64 {
        self.differing.values().sum()
    }

    /// Returns how many differ, by kind.
    pub fn kinds(&self) -> &BTreeMap<&'static str, u64> {
        &self.differing
    }

    /// Returns the first that differs.
    pub fn first(&self) -> Option<&Difference> {
        self.first.as_ref()
    }

    /// Returns all of it, for programs.
    pub fn json(&self) -> Value {
        let first = self.first.as_ref().map(|first| {
            let place = match first.place {
                Place::Record { partition, offset } => {
                    json!({"partition": partition, "offset": offset})
                }
                Place::Line(line) => json!({"line": line}),
                Place::Nowhere => Value::Null,
            };
            json!({
                "id": first.id,
                "place": place,
                "kind": first.why.kind(),
                "why": first.why.to_string(),
            })
        });
        json!({
            "compared": self.equal + self.differences(),
            "equal": self.equal,
            "different": self.differences(),
            "kinds": self.differing,
            "first": first,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::receipt::Receipts;
    use super::super::receipt::tests::{CONTRACT, json};
    use super::*;

    fn check(change: impl FnOnce(&mut Anew), expected: Option<&str>) {
        let mut receipts = Receipts::default();
        let text = json("a", 0.75, 3, 7);
        receipts
            .add(Place::Line(1), text.as_bytes(), CONTRACT, |_| true)
            .unwrap();
        let receipt = &receipts.list()[0];
        let mut anew = Anew {
            score: 0.75,
            class: Some("late".to_owned()),
            decision: true,
            reasons: receipts.reasons(receipt),
        };
        change(&mut anew);
        let class = receipts.class(receipt);
        let why = compare(receipt, class, receipts.reasons(receipt), anew);
        assert_eq!(why.as_ref().map(Why::kind), expected);
    }

    #[test]
    fn one_bit_makes_the_difference() {
        check(|_| {}, None);
        let up = |number: f64| f64::from_bits(number.to_bits() + 1);
        check(|anew| anew.score = up(anew.score), Some("other_score"));
        check(|anew| anew.class = None, Some("other_class"));
        check(|anew| anew.decision = false, Some("other_decision"));
        let reasons = Some("other_reasons");
        check(
            |anew| anew.reasons[0].log_odds = up(anew.reasons[0].log_odds),
            reasons,
        );
        check(|anew| anew.reasons[1].feature.push('s'), reasons);
        check(|anew| anew.reasons.truncate(1), reasons);
    }

    #[test]
    fn the_first_by_its_place_is_kept() {
        let mut verdict = Verdict::default();
        for line in [9, 4, 6] {
            verdict.differs(Difference {
                place: Place::Line(line),
                id: Some(line.to_string()),
                why: Why::UnknownVersion(ModelVersion(line)),
            });
        }
        verdict.differs(Difference {
            place: Place::Nowhere,
            id: Some("x".to_owned()),
            why: Why::NoReceipt,
        });
        verdict.equal();
        let report = verdict.json();
        assert_eq!((verdict.equals(), verdict.differences()), (1, 4));
        assert_eq!(report["first"]["id"], "4");
        assert_eq!(report["first"]["place"]["line"], 4);
        assert_eq!(report["kinds"]["unknown_version"], 3);
        assert_eq!(report["compared"], 5);
    }
}
