//! The configs of a topic: what was set, checked, and what follows from it.

use std::collections::BTreeMap;

use super::definitions::{self, Definition, Kind, find, words};
use crate::log::{Compaction, Upkeep};

/// How long a config's value may be.
const VALUE_BYTES_MAX: usize = 1_000;

/// What was set for a topic.
///
/// What every append needs is kept ready; the rest is looked up when it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicConfig {
    entries: BTreeMap<String, String>,
    /// `max.message.bytes`, if set.
    pub message_bytes_max: Option<usize>,
    /// Whether `message.timestamp.type` is `LogAppendTime`.
    pub append_time: bool,
    /// How far ahead of the clock a record's time may be, in milliseconds.
    pub ahead_max_ms: i64,
    /// How far behind the clock a record's time may be, in milliseconds.
    pub behind_max_ms: i64,
    /// Whether `cleanup.policy` has `compact`, so that every record needs a key.
    pub compacted: bool,
}

impl TopicConfig {
    /// Nothing set.
    #[allow(
        clippy::new_without_default,
        reason = "a topic's configs are never there by default"
    )]
    pub fn new() -> Self {
        let mut config = Self {
            entries: BTreeMap::new(),
            message_bytes_max: None,
            append_time: false,
            ahead_max_ms: 0,
            behind_max_ms: 0,
            compacted: false,
        };
        config.refresh();
        config
    }

    /// Sets one config.
    ///
    /// # Errors
    /// What is wrong with it, for the client to read.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let definition = known(key)?;
        let value = value.trim();
        if VALUE_BYTES_MAX < value.len() || value.chars().any(char::is_control) {
            return Err(format!(
                "the value of {key} is too long or has control characters"
            ));
        }
        definition.check(value)?;
        self.entries.insert(key.to_owned(), value.to_owned());
        self.refresh();
        Ok(())
    }

    /// Takes a config back, so that its default holds.
    ///
    /// # Errors
    /// If there is no such config.
    pub fn reset(&mut self, key: &str) -> Result<(), String> {
        known(key)?;
        self.entries.remove(key);
        self.refresh();
        Ok(())
    }

    /// Adds words to a list.
    ///
    /// # Errors
    /// If it is no list, or cannot have these.
    pub fn append(&mut self, key: &str, value: &str) -> Result<(), String> {
        let mut list = self.list(key)?;
        for word in words(value) {
            if list.iter().all(|present| present != word) {
                list.push(word.to_owned());
            }
        }
        self.set(key, &list.join(","))
    }

    /// Takes words off a list.
    ///
    /// # Errors
    /// If it is no list.
    pub fn subtract(&mut self, key: &str, value: &str) -> Result<(), String> {
        let mut list = self.list(key)?;
        list.retain(|present| words(value).all(|word| word != present));
        self.set(key, &list.join(","))
    }

    fn list(&self, key: &str) -> Result<Vec<String>, String> {
        match known(key)?.kind {
            Kind::Choices(_) | Kind::List => {
                Ok(words(self.value(key)).map(str::to_owned).collect())
            }
            _ => Err(format!("configuration {key} is not a list")),
        }
    }

    /// Says what is wrong with all configs together, if anything.
    ///
    /// # Errors
    /// Which do not fit together.
    pub fn check(&self) -> Result<(), String> {
        let (min, max) = (
            definitions::MIN_COMPACTION_LAG_MS,
            definitions::MAX_COMPACTION_LAG_MS,
        );
        if self.number(max) < self.number(min) {
            return Err(format!("{min} should not be greater than {max}"));
        }
        Ok(())
    }

    /// Returns everything that was set, by name.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Returns what was set for one config.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.entries.get(key).map(String::as_str)
    }

    /// Returns what housekeeping goes by, with the broker's own size of segments where the topic has none.
    pub fn upkeep(&self, segment_bytes_default: u64) -> Upkeep {
        let positive = |key| u64::try_from(self.number(key)).ok();
        let deletes = self.cleans_by("delete");
        let compaction = self.compacted.then(|| Compaction {
            tombstones_ms: self.number(definitions::DELETE_RETENTION_MS),
            lag_min_ms: self.number(definitions::MIN_COMPACTION_LAG_MS),
            lag_max_ms: self.number(definitions::MAX_COMPACTION_LAG_MS),
            dirty_ratio: self
                .value(definitions::MIN_CLEANABLE_DIRTY_RATIO)
                .parse()
                .unwrap_or(0.5),
        });
        Upkeep {
            segment_bytes: match self.get(definitions::SEGMENT_BYTES) {
                Some(_) => positive(definitions::SEGMENT_BYTES).unwrap_or(segment_bytes_default),
                None => segment_bytes_default,
            },
            segment_ms: self.number(definitions::SEGMENT_MS),
            retention_ms: Some(self.number(definitions::RETENTION_MS))
                .filter(|&age| deletes && 0 <= age),
            retention_bytes: positive(definitions::RETENTION_BYTES).filter(|_| deletes),
            compaction,
        }
    }

    /// Returns what holds: what was set, or else the default.
    fn value(&self, key: &str) -> &str {
        let default = || find(key).map_or("", |definition| definition.default);
        self.get(key).unwrap_or_else(default)
    }

    fn cleans_by(&self, policy: &str) -> bool {
        words(self.value(definitions::CLEANUP_POLICY)).any(|word| word == policy)
    }

    fn number(&self, key: &str) -> i64 {
        self.value(key).parse().unwrap_or(-1)
    }

    fn refresh(&mut self) {
        self.message_bytes_max = self
            .get(definitions::MAX_MESSAGE_BYTES)
            .and_then(|bytes| bytes.parse().ok());
        self.append_time = self.value(definitions::TIMESTAMP_TYPE) == "LogAppendTime";
        self.ahead_max_ms = self.number(definitions::TIMESTAMP_AFTER_MAX_MS);
        self.behind_max_ms = self.number(definitions::TIMESTAMP_BEFORE_MAX_MS);
        self.compacted = self.cleans_by("compact");
    }
}

fn known(key: &str) -> Result<&'static Definition, String> {
    find(key).ok_or_else(|| format!("unknown topic config name: {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_are_kept_and_nonsense_is_refused() {
        let mut config = TopicConfig::new();
        assert_eq!(config.set("retention.ms", " 1000 "), Ok(()));
        assert!(config.set("max.message.bytes", "-1").is_err());
        assert!(config.set("max.message.bytes", "2000000").is_ok());
        assert!(config.set("message.timestamp.type", "whenever").is_err());
        assert!(config.set("no.such.thing", "1").is_err());
        assert!(config.set("retention.ms", "1\nconfig x=y").is_err());
        assert_eq!(config.message_bytes_max, Some(2_000_000));
        assert_eq!(config.get("retention.ms"), Some("1000"));
        assert_eq!(config.entries().count(), 2);
        config.reset("max.message.bytes").unwrap();
        assert_eq!(config.message_bytes_max, None);
        assert!(config.reset("no.such.thing").is_err());
    }

    #[test]
    fn lists_grow_and_shrink_and_decide_about_the_upkeep() {
        let mut config = TopicConfig::new();
        config.set("retention.ms", "5").unwrap();
        assert_eq!(config.upkeep(7).retention_ms, Some(5));
        assert_eq!(config.upkeep(7).segment_bytes, 7);
        config.append("cleanup.policy", "compact").unwrap();
        assert_eq!(config.get("cleanup.policy"), Some("delete,compact"));
        assert!(config.compacted && config.upkeep(7).compaction.is_some());
        config.subtract("cleanup.policy", "delete").unwrap();
        assert_eq!(config.upkeep(7).retention_ms, None);
        assert!(config.append("cleanup.policy", "keep").is_err());
        assert!(config.append("retention.ms", "6").is_err());
    }

    #[test]
    fn lags_that_contradict_each_other_are_refused() {
        let mut config = TopicConfig::new();
        config.set("min.compaction.lag.ms", "10").unwrap();
        assert_eq!(config.check(), Ok(()));
        config.set("max.compaction.lag.ms", "9").unwrap();
        assert!(config.check().is_err());
    }
}
