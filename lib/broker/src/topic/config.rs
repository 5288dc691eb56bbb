//! The configs of a topic: all of Kafka's names are kept, those that this broker acts upon are also checked.

use std::collections::BTreeMap;

/// Kafka's names of topic configs.
const NAMES: [&str; 29] = [
    "cleanup.policy",
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.type",
    "compression.zstd.level",
    "delete.retention.ms",
    "file.delete.delay.ms",
    "flush.messages",
    "flush.ms",
    "index.interval.bytes",
    "local.retention.bytes",
    "local.retention.ms",
    "max.compaction.lag.ms",
    "max.message.bytes",
    "message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms",
    "message.timestamp.difference.max.ms",
    "message.timestamp.type",
    "min.cleanable.dirty.ratio",
    "min.compaction.lag.ms",
    "min.insync.replicas",
    "preallocate",
    "remote.storage.enable",
    "retention.bytes",
    "retention.ms",
    "segment.bytes",
    "segment.jitter.ms",
    "segment.ms",
    "unclean.leader.election.enable",
];

/// How long a config's value may be.
const VALUE_BYTES_MAX: usize = 1_000;

/// What was set when a topic was created.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicConfig {
    entries: BTreeMap<String, String>,
    /// `max.message.bytes`, if set.
    pub message_bytes_max: Option<usize>,
    /// Whether `message.timestamp.type` is `LogAppendTime`.
    pub append_time: bool,
}

impl TopicConfig {
    /// Sets one config.
    ///
    /// # Errors
    /// What is wrong with it, for the client to read.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        if !NAMES.contains(&key) {
            return Err(format!("unknown topic config {key:?}"));
        }
        if VALUE_BYTES_MAX < value.len() || value.chars().any(char::is_control) {
            return Err(format!(
                "the value of {key} is too long or has control characters"
            ));
        }
        match key {
            "max.message.bytes" => {
                let bytes = value
                    .parse::<i32>()
                    .ok()
                    .and_then(|bytes| usize::try_from(bytes).ok());
                let bytes = bytes
                    .ok_or_else(|| format!("{key} should be a number of bytes, not {value:?}"))?;
                self.message_bytes_max = Some(bytes);
            }
            "message.timestamp.type" => match value {
                "CreateTime" => self.append_time = false,
                "LogAppendTime" => self.append_time = true,
                _ => {
                    return Err(format!(
                        "{key} should be CreateTime or LogAppendTime, not {value:?}"
                    ));
                }
            },
            _ => {}
        }
        self.entries.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    /// Returns everything that was set, by name.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_are_kept_and_nonsense_is_refused() {
        let mut config = TopicConfig::default();
        assert!(config.set("retention.ms", "1000").is_ok());
        assert!(config.set("max.message.bytes", "-1").is_err());
        assert!(config.set("max.message.bytes", "2000000").is_ok());
        assert!(config.set("message.timestamp.type", "whenever").is_err());
        assert!(config.set("no.such.thing", "1").is_err());
        assert!(config.set("retention.ms", "1\nconfig x=y").is_err());
        assert_eq!(config.message_bytes_max, Some(2_000_000));
        assert_eq!(config.entries().count(), 2);
    }
}
