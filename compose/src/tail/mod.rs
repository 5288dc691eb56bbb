//! Reads any topic of ours as JSON: one object for each event, whatever the topic has it in.
//!
//! What a message is, it says itself: a clean batch and a dead letter by their headers, a model update by its
//! first bytes; everything else is JSON, or bytes that are shown as their number.

mod columns;

use std::collections::HashMap;

use rdkafka::message::{BorrowedMessage, Headers, Message};
use schemas::clean::{self, CleanHeader};
use schemas::dead;
use schemas::model::{Assembler, ModelMessage, Update};
use schemas::{Columns, Contract, Digest};
use serde_json::{Value, json};

pub use columns::ColumnsReader;

/// Turns messages into lines of JSON.
pub struct Reader {
    clean: Option<ColumnsReader>,
    /// Model updates that are not complete yet, by partition.
    updates: HashMap<i32, Assembler>,
    envelope: bool,
}

/// A clean batch that cannot be shown without its contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("clean batches have no schema of their own: name their contract with --contract FILE")]
pub struct NeedsContract;

impl Reader {
    /// Makes a reader; clean batches need their contract. With an envelope, coordinates, key and headers go
    /// around each object.
    pub fn new(contract: Option<&Contract>, envelope: bool) -> Reader {
        let clean = contract.map(|contract| ColumnsReader::new(Columns::of(contract)));
        Reader {
            clean,
            updates: HashMap::new(),
            envelope,
        }
    }

    /// Returns the objects that a message says, each without line breaks.
    ///
    /// # Errors
    /// [`NeedsContract`] for a clean batch, if the reader has none.
    pub fn lines(&mut self, message: &BorrowedMessage<'_>) -> Result<Vec<String>, NeedsContract> {
        let headers: Vec<(&str, &[u8])> = message
            .headers()
            .into_iter()
            .flat_map(|headers| headers.iter())
            .map(|header| (header.key, header.value.unwrap_or_default()))
            .collect();
        let payload = message.payload().unwrap_or_default();
        let values = self.values(&headers, payload, message.partition())?;
        if !self.envelope {
            return Ok(values);
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let named: serde_json::Map<String, Value> = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), text(value).into()))
            .collect();
        let around = |value: String| {
            let coordinates = json!({
                "topic": message.topic(),
                "partition": message.partition(),
                "offset": message.offset(),
                "timestamp": message.timestamp().to_millis(),
                "key": message.key().map(text),
                "headers": &named,
            });
            let open = coordinates.to_string();
            format!("{},\"value\":{value}}}", &open[..open.len() - 1])
        };
        Ok(values.into_iter().map(around).collect())
    }

    fn values(
        &mut self,
        headers: &[(&str, &[u8])],
        payload: &[u8],
        partition: i32,
    ) -> Result<Vec<String>, NeedsContract> {
        let pairs = headers.iter().copied();
        let has = |name: &str| headers.iter().any(|(key, _)| *key == name);
        if has(clean::header::SOURCE_FIRST) {
            let reader = self.clean.as_ref().ok_or(NeedsContract)?;
            let header = CleanHeader::from_headers(pairs);
            return Ok(
                match header.and_then(|header| reader.read(&header, payload)) {
                    Ok(lines) => lines,
                    Err(error) => vec![
                        json!({ "unreadable": error.to_string(), "bytes": payload.len() })
                            .to_string(),
                    ],
                },
            );
        }
        if has(dead::header::REASON) {
            return Ok(vec![dead_letter(pairs, payload.len()).to_string()]);
        }
        match ModelMessage::parse(payload) {
            Ok(ModelMessage::Snapshot(_)) | Err(_) => Ok(vec![plain(payload)]),
            Ok(ModelMessage::Chunk(chunk)) => {
                let version = chunk.version;
                let whole = self.updates.entry(partition).or_default().take(chunk);
                Ok(match whole {
                    Ok(None) => Vec::new(),
                    Ok(Some((update, digest))) => vec![summed_up(&update, digest).to_string()],
                    Err(error) => {
                        vec![json!({ "kind": "update", "version": version.0, "unreadable": error.to_string() }).to_string()]
                    }
                })
            }
        }
    }
}

/// Shows an update: what it is made of, and how well the model predicted so far.
fn summed_up(update: &Update, digest: Digest) -> Value {
    let mut shown = json!({
        "kind": "update",
        "version": update.version.0,
        "digest": digest.to_string(),
        "parent": update.parent.to_string(),
        "contract": update.contract.to_string(),
        "segments": update.segments.len(),
        "weights": update.weights.len(),
        "dense": update.dense.len(),
    });
    if let (Some(shown), Value::Object(figures)) =
        (shown.as_object_mut(), json!(update.prequential))
    {
        shown.extend(figures);
    }
    shown
}

/// Shows a dead letter: why, and where its record is; an event's bytes are sealed, a label's are not in it.
fn dead_letter<'a>(
    headers: impl Iterator<Item = (&'a str, &'a [u8])> + Clone,
    bytes: usize,
) -> Value {
    match dead::DeadHeader::from_headers(headers) {
        Some(header) => {
            let mut shown = json!({
                "reason": header.reason.name(),
                "field": header.field,
                "source": {
                    "topic_id": header.source.topic_id.to_string(),
                    "partition": header.source.partition.0,
                    "offset": header.source.offset.0,
                },
            });
            match header.about {
                dead::About::Event => shown["sealed"] = bytes.into(),
                dead::About::Label(bytes) => shown["label_bytes"] = bytes.into(),
            }
            shown
        }
        None => json!({ "unreadable": "not a dead letter of this version", "bytes": bytes }),
    }
}

/// Shows JSON as it is, on one line; anything else as its number of bytes.
fn plain(payload: &[u8]) -> String {
    let json = std::str::from_utf8(payload).ok().and_then(|text| {
        let value: &serde_json::value::RawValue = serde_json::from_str(text).ok()?;
        if !value.get().contains(['\n', '\r']) {
            return Some(value.get().to_owned());
        }
        serde_json::from_str::<Value>(text)
            .ok()
            .map(|value| value.to_string())
    });
    json.unwrap_or_else(|| json!({ "unreadable": "not JSON", "bytes": payload.len() }).to_string())
}

#[cfg(test)]
mod tests {
    use schemas::ModelVersion;
    use schemas::model::Prequential;

    use super::*;

    fn reader() -> Reader {
        Reader::new(None, false)
    }

    #[test]
    fn json_stays_and_the_rest_is_counted() {
        let lines = reader().values(&[], br#" {"b":1.50,"a":"x"} "#, 0).unwrap();
        assert_eq!(lines, [r#"{"b":1.50,"a":"x"}"#]);
        assert_eq!(
            reader().values(&[], b"{\n\"a\":1}", 0).unwrap(),
            [r#"{"a":1}"#]
        );
        assert_eq!(
            reader().values(&[], b"{\"a\":", 0).unwrap(),
            [r#"{"bytes":5,"unreadable":"not JSON"}"#]
        );
    }

    #[test]
    fn dead_letters_show_why_and_never_their_bytes() {
        let id = "07".repeat(16);
        let headers: [(&str, &[u8]); 6] = [
            (dead::header::WIRE, b"1"),
            (dead::header::SOURCE_TOPIC_ID, id.as_bytes()),
            (dead::header::SOURCE_PARTITION, b"2"),
            (dead::header::SOURCE_OFFSET, b"77"),
            (dead::header::REASON, b"wrong_type"),
            (dead::header::FIELD, b"flight"),
        ];
        let lines = reader().values(&headers, b"sealed bytes", 0).unwrap();
        let shown: Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(
            (&shown["reason"], &shown["field"]),
            (&json!("wrong_type"), &json!("flight"))
        );
        assert_eq!(
            (&shown["source"]["offset"], &shown["sealed"]),
            (&json!(77), &json!(12))
        );
        let mut label = headers.to_vec();
        label[0] = (dead::header::WIRE, b"2");
        label.push((dead::header::SOURCE_BYTES, b"40"));
        let lines = reader().values(&label, b"", 0).unwrap();
        let shown: Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(
            (&shown["label_bytes"], &shown["sealed"]),
            (&json!(40), &Value::Null)
        );
    }

    fn update(prequential: Prequential) -> Update {
        Update {
            version: ModelVersion(3),
            parent: Digest([1; 32]),
            contract: Digest([2; 32]),
            segments: Vec::new(),
            prequential,
            dense: vec![1.0],
            weights: (0..200_000).map(|at| (at, 0.5)).collect(),
        }
    }

    #[test]
    fn updates_are_summed_up_once_complete() {
        let figures = [
            Prequential::YesOrNo {
                labels: 4,
                log_loss: 0.5,
                base_log_loss: 0.6,
                auc: 0.7,
            },
            Prequential::Numbers {
                labels: 4,
                rmse: 0.5,
                base_rmse: 0.6,
                mae: 0.4,
                quantile_loss: 0.2,
            },
            Prequential::Classes {
                labels: 4,
                log_loss: 0.5,
                base_log_loss: 0.6,
                accuracy: 0.75,
            },
        ];
        let names: [&[&str]; 3] = [
            &["labels", "log_loss", "base_log_loss", "auc"],
            &["labels", "rmse", "base_rmse", "mae", "quantile_loss"],
            &["labels", "log_loss", "base_log_loss", "accuracy"],
        ];
        for (figures, names) in figures.into_iter().zip(names) {
            let shown = check_summed_up(&update(figures));
            let of = |name: &&str| ((*name).to_owned(), shown[*name].clone());
            let found: Value = names.iter().map(of).collect();
            assert_eq!(found, json!(figures));
        }
    }

    /// Returns what is shown of an update, which comes with the last of its messages.
    fn check_summed_up(update: &Update) -> Value {
        let mut reader = reader();
        let messages = update.to_messages();
        assert!(1 < messages.len());
        let lines: Vec<String> = messages
            .iter()
            .flat_map(|message| reader.values(&[], message, 0).unwrap())
            .collect();
        assert_eq!(lines.len(), 1);
        let shown: Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(
            (&shown["version"], &shown["weights"]),
            (&json!(3), &json!(200_000))
        );
        shown
    }
}
