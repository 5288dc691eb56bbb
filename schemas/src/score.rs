//! Scores: one JSON object a message on `<s>.scores`, keyed by event id.
//!
//! A score carries its receipt: where the event came from, which weights and which contract made it.

use serde::{Deserialize, Serialize};

use crate::ids::{Digest, ModelVersion, Offset, Partition, SourceCoordinates, TopicId};
use crate::time::{EventTime, write_rfc3339};

/// Version of this wire form.
pub const WIRE_VERSION: u32 = 1;

/// The score of one event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Version of the wire form.
    pub wire: u32,
    /// The event's id.
    pub id: String,
    /// Probability that the label is yes, the number to expect, or the probability of the class.
    pub score: f64,
    /// The likeliest class, if labels are classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Whether the score reaches the contract's threshold.
    pub decision: bool,
    /// When the event happened, RFC 3339.
    pub event_time: String,
    /// The model that made the score.
    pub model: ModelReference,
    /// Digest of the contract.
    pub contract: Digest,
    /// Where the event came from.
    pub source: SourceCoordinates,
    /// The features that moved the score most, strongest first.
    pub reasons: Vec<ScoreReason>,
}

/// Which weights made a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelReference {
    /// Version.
    pub version: ModelVersion,
    /// Digest of the chain of updates up to that version.
    pub digest: Digest,
}

/// How much one feature moved a score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreReason {
    /// Name of the feature.
    pub feature: String,
    /// Its share of the log-odds.
    pub log_odds: f64,
}

impl ScoreReason {
    /// Makes a reason of one feature, or of two that say it together (else the second is empty), named as
    /// [`ScoreWriter`] names it.
    pub fn new([feature, other]: [&str; 2], log_odds: f64) -> ScoreReason {
        let feature = match other {
            "" => feature.to_owned(),
            other => format!("{feature}*{other}"),
        };
        ScoreReason { feature, log_odds }
    }
}

/// Writes the scores of one batch: what is common to them is rendered once.
#[derive(Debug)]
pub struct ScoreWriter {
    threshold: f64,
    common: String,
}

/// What a [`ScoreWriter`] writes for one event.
#[derive(Clone, Copy, Debug)]
pub struct ScoreRow<'a> {
    /// The event's id.
    pub id: &'a str,
    /// Probability that the label is yes, the number to expect, or the probability of the class.
    pub score: f64,
    /// The likeliest class, if labels are classes.
    pub class: Option<&'a str>,
    /// When the event happened.
    pub event_time: EventTime,
    /// Offset of the raw record.
    pub source_offset: Offset,
    /// Names of the feature, or of the two that say it together (else the second is empty), and their share of the
    /// log-odds, strongest first.
    pub reasons: &'a [([&'a str; 2], f64)],
}

impl ScoreWriter {
    /// Makes a writer for events of one raw partition scored by one model.
    pub fn new(
        model: ModelReference,
        contract: Digest,
        threshold: f64,
        topic_id: TopicId,
        partition: Partition,
    ) -> ScoreWriter {
        let ModelReference { version, digest } = model;
        let common = format!(
            r#","model":{{"version":{version},"digest":"{digest}"}},"contract":"{contract}","source":{{"topic_id":"{topic_id}","partition":{partition},"offset":"#
        );
        ScoreWriter { threshold, common }
    }

    /// Appends the JSON of one score.
    pub fn write(&self, row: &ScoreRow<'_>, out: &mut String) {
        out.push_str(r#"{"wire":1,"id":"#);
        write_json_text(row.id, out);
        out.push_str(r#","score":"#);
        write_number(row.score, out);
        if let Some(class) = row.class {
            out.push_str(r#","class":"#);
            write_json_text(class, out);
        }
        out.push_str(r#","decision":"#);
        out.push_str(if self.threshold <= row.score {
            "true"
        } else {
            "false"
        });
        out.push_str(r#","event_time":""#);
        write_rfc3339(row.event_time, out);
        out.push('"');
        out.push_str(&self.common);
        out.push_str(itoa::Buffer::new().format(row.source_offset.0));
        out.push_str(r#"},"reasons":["#);
        for (at, ([feature, other], log_odds)) in row.reasons.iter().enumerate() {
            out.push_str(if at == 0 {
                r#"{"feature":"#
            } else {
                r#",{"feature":"#
            });
            if other.is_empty() {
                write_json_text(feature, out);
            } else {
                out.push('"');
                write_escaped(feature, out);
                out.push('*');
                write_escaped(other, out);
                out.push('"');
            }
            out.push_str(r#","log_odds":"#);
            write_number(*log_odds, out);
            out.push('}');
        }
        out.push_str("]}");
    }
}

/// Writes the shortest text that reads back as the same number; JSON has no NaN, so that becomes `null`.
fn write_number(number: f64, out: &mut String) {
    if number.is_finite() {
        out.push_str(ryu::Buffer::new().format_finite(number));
    } else {
        out.push_str("null");
    }
}

fn write_json_text(text: &str, out: &mut String) {
    out.push('"');
    write_escaped(text, out);
    out.push('"');
}

fn write_escaped(text: &str, out: &mut String) {
    use std::fmt::Write;
    if text
        .bytes()
        .all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\')
    {
        out.push_str(text);
    } else {
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                c if c < ' ' => {
                    let _ = write!(out, "\\u{:04x}", c as u32);
                }
                c => out.push(c),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let model = ModelReference {
            version: ModelVersion(12),
            digest: Digest([3; 32]),
        };
        let writer = ScoreWriter::new(model, Digest([4; 32]), 0.25, TopicId([5; 16]), Partition(2));
        let reasons = [(["carrier", ""], -0.5), (["origin", "\"hour\""], 1e-9)];
        let row = ScoreRow {
            id: "a\"\\\u{1}é",
            score: 0.1 + 0.2,
            class: Some("b\""),
            event_time: EventTime(1_357_035_300_000_000),
            source_offset: Offset(77),
            reasons: &reasons,
        };
        let mut text = String::new();
        writer.write(&row, &mut text);
        let score: Score = serde_json::from_str(&text).unwrap();
        assert_eq!(score.id, row.id);
        assert_eq!(score.score.to_bits(), row.score.to_bits());
        assert!(score.decision);
        assert_eq!(score.class.as_deref(), Some("b\""));
        assert_eq!(score.event_time, "2013-01-01T10:15:00Z");
        assert_eq!(score.model, model);
        assert_eq!(
            (score.source.partition, score.source.offset),
            (Partition(2), Offset(77))
        );
        assert_eq!(
            score.reasons[1],
            ScoreReason {
                feature: "origin*\"hour\"".to_owned(),
                log_odds: 1e-9
            }
        );
    }

    #[test]
    fn every_published_score_still_reads() {
        let score: Score = serde_json::from_str(include_str!("../fixtures/score-1.json")).unwrap();
        assert_eq!(score.wire, WIRE_VERSION);
        assert_eq!(score.source.offset, Offset(77));
    }
}
