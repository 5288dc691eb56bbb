//! Topics: their names, ids and configs, and the partitions with whoever waits for their data.

mod catalog;
mod config;
pub mod definitions;
mod partition;

pub use catalog::{Catalog, CreateTopic};
pub use config::TopicConfig;
pub use partition::Partition;

use std::path::Path;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use tracing::warn;
use uuid::Uuid;

use crate::error::BrokerError;
use crate::folder;

/// Why a client does not get what it wants, and in words.
pub type Denied = (ResponseError, String);

/// How long a topic's name may be: a folder's name has room for it.
const NAME_BYTES_MAX: usize = 249;

/// One topic, as it is now: whoever changes its configs or adds partitions puts a new value in its place.
#[derive(Debug)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id, which a topic of the same name made later does not have.
    pub id: Uuid,
    /// What was set for it.
    pub config: TopicConfig,
    /// Its partitions, by number.
    pub partitions: Vec<Arc<Partition>>,
}

impl Topic {
    /// Returns a partition by the number on the wire.
    pub fn partition(&self, index: i32) -> Option<&Arc<Partition>> {
        self.partitions.get(usize::try_from(index).ok()?)
    }
}

/// Says whether Kafka allows this name.
pub fn is_valid_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name != "."
        && name != ".."
        && name.bytes().all(allowed)
}

/// What the file `topic` in a topic's folder says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Description {
    id: Uuid,
    partitions: i32,
    config: TopicConfig,
}

impl Description {
    fn store(&self, path: &Path) -> Result<(), BrokerError> {
        let mut text = format!("id {}\npartitions {}\n", self.id, self.partitions);
        for (key, value) in self.config.entries() {
            text.push_str(&format!("config {key}={value}\n"));
        }
        folder::replace(path, text.as_bytes())
    }

    fn load(path: &Path) -> Result<Self, BrokerError> {
        let text = std::fs::read_to_string(path).map_err(BrokerError::storage(path))?;
        let problem = "it should have an id, a number of partitions and configs, one a line";
        Self::parse(&text).ok_or_else(|| BrokerError::Damaged {
            path: path.to_owned(),
            problem,
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let (mut id, mut partitions, mut config) = (None, None, TopicConfig::new());
        for line in text.lines() {
            match line.split_once(' ')? {
                ("id", value) => id = Some(value.parse().ok()?),
                ("partitions", value) => partitions = Some(value.parse().ok()?),
                ("config", value) => {
                    let (key, value) = value.split_once('=')?;
                    if let Err(reason) = config.set(key, value) {
                        warn!(reason, "dropped a config that an earlier version took");
                    }
                }
                _ => return None,
            }
        }
        Some(Self {
            id: id?,
            partitions: partitions?,
            config,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kafkas() {
        for good in ["flights.raw", "a", "A_b-9", "..."] {
            assert!(is_valid_name(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "ü", &"x".repeat(250)] {
            assert!(!is_valid_name(bad), "{bad}");
        }
    }

    #[test]
    fn a_description_survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("topic");
        let mut config = TopicConfig::new();
        config.set("max.message.bytes", "2097152").unwrap();
        config.set("cleanup.policy", "delete").unwrap();
        let description = Description {
            id: Uuid::new_v4(),
            partitions: 4,
            config,
        };
        description.store(&path).unwrap();
        assert_eq!(Description::load(&path).unwrap(), description);
        assert_eq!(Description::parse("nonsense"), None);
        let earlier = format!(
            "id {}\npartitions 1\nconfig retention.ms=x\n",
            Uuid::new_v4()
        );
        let kept = Description::parse(&earlier).unwrap();
        assert_eq!(kept.config, TopicConfig::new());
    }
}
