//! All topics, by name and by id; creates and deletes them so that a crash leaves whole topics or none.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use kafka_protocol::ResponseError;
use tracing::{error, info};
use uuid::Uuid;

use super::{Description, Partition, Topic, TopicConfig, is_valid_name};
use crate::error::BrokerError;
use crate::log::Log;
use crate::sync::{lock, read, write};

/// A topic to be made.
#[derive(Debug)]
pub struct CreateTopic<'a> {
    /// Its name.
    pub name: &'a str,
    /// How many partitions.
    pub partitions: i32,
    /// Its configs.
    pub config: TopicConfig,
}

#[derive(Debug, Default)]
struct Topics {
    by_name: HashMap<String, Arc<Topic>>,
    by_id: HashMap<Uuid, Arc<Topic>>,
    partitions: usize,
}

impl Topics {
    fn insert(&mut self, topic: Arc<Topic>) {
        self.partitions += topic.partitions.len();
        self.by_id.insert(topic.id, Arc::clone(&topic));
        self.by_name.insert(topic.name.clone(), topic);
    }
}

/// All topics.
#[derive(Debug)]
pub struct Catalog {
    topics_folder: PathBuf,
    staging: PathBuf,
    segment_bytes: u64,
    partitions_max: usize,
    topics: RwLock<Topics>,
    /// Held while a topic is made, so that two of one name cannot be.
    making: Mutex<()>,
}

impl Catalog {
    /// Opens every topic in the broker's folder.
    ///
    /// # Errors
    /// If a topic cannot be read.
    pub fn open(
        folder: &Path,
        segment_bytes: u64,
        partitions_max: usize,
    ) -> Result<Self, BrokerError> {
        let topics_folder = folder.join("topics");
        let mut topics = Topics::default();
        let entries =
            std::fs::read_dir(&topics_folder).map_err(BrokerError::storage(&topics_folder))?;
        for entry in entries {
            let path = entry.map_err(BrokerError::storage(&topics_folder))?.path();
            topics.insert(Arc::new(open_topic(&path, segment_bytes)?));
        }
        let staging = folder.join("staging");
        Ok(Self {
            topics_folder,
            staging,
            segment_bytes,
            partitions_max,
            topics: RwLock::new(topics),
            making: Mutex::default(),
        })
    }

    /// Returns a topic by name.
    pub fn by_name(&self, name: &str) -> Option<Arc<Topic>> {
        read(&self.topics).by_name.get(name).cloned()
    }

    /// Returns a topic by id.
    pub fn by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        read(&self.topics).by_id.get(&id).cloned()
    }

    /// Returns all topics, sorted by name.
    pub fn all(&self) -> Vec<Arc<Topic>> {
        let mut topics: Vec<_> = read(&self.topics).by_name.values().cloned().collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        topics
    }

    /// Says what would prevent a topic from being made.
    ///
    /// # Errors
    /// The Kafka error for the client, and why.
    pub fn check(&self, new: &CreateTopic<'_>) -> Result<(), (ResponseError, String)> {
        let partitions = usize::try_from(new.partitions).unwrap_or(0);
        let topics = read(&self.topics);
        if !is_valid_name(new.name) {
            let reason = "a name has 1 to 249 of the characters a-z, A-Z, 0-9, '.', '_' and '-'";
            return Err((ResponseError::InvalidTopicException, reason.to_owned()));
        }
        if topics.by_name.contains_key(new.name) {
            return Err((
                ResponseError::TopicAlreadyExists,
                format!("topic {:?} exists already", new.name),
            ));
        }
        if partitions == 0 {
            let reason = "a topic has at least one partition".to_owned();
            return Err((ResponseError::InvalidPartitions, reason));
        }
        if self.partitions_max < topics.partitions.saturating_add(partitions) {
            let reason = format!(
                "this broker has room for {} partitions in all",
                self.partitions_max
            );
            return Err((ResponseError::InvalidPartitions, reason));
        }
        Ok(())
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// The Kafka error for the client, and why.
    pub fn create(&self, new: CreateTopic<'_>) -> Result<Arc<Topic>, (ResponseError, String)> {
        let _making = lock(&self.making);
        self.check(&new)?;
        let description = Description {
            id: Uuid::new_v4(),
            partitions: new.partitions,
            config: new.config,
        };
        let path = self.topics_folder.join(new.name);
        let topic = self.stage(&description, &path).map_err(|cause| {
            error!(
                topic = new.name,
                error = &cause as &dyn std::error::Error,
                "could not create a topic"
            );
            (ResponseError::KafkaStorageError, cause.to_string())
        })?;
        let topic = Arc::new(topic);
        write(&self.topics).insert(Arc::clone(&topic));
        info!(topic = new.name, id = %topic.id, partitions = new.partitions, "created a topic");
        Ok(topic)
    }

    fn stage(&self, description: &Description, path: &Path) -> Result<Topic, BrokerError> {
        let staged = self.staging.join(description.id.to_string());
        for index in 0..description.partitions {
            let partition = staged.join(index.to_string());
            std::fs::create_dir_all(&partition).map_err(BrokerError::storage(&partition))?;
        }
        description.store(&staged.join("topic"))?;
        std::fs::rename(&staged, path).map_err(BrokerError::storage(path))?;
        open_topic(path, self.segment_bytes)
    }

    /// Deletes a topic with all its data.
    ///
    /// # Errors
    /// The Kafka error for the client.
    pub fn delete(&self, topic: &Topic) -> Result<(), ResponseError> {
        let mut topics = write(&self.topics);
        if topics.by_id.remove(&topic.id).is_none() {
            return Err(ResponseError::UnknownTopicOrPartition);
        }
        topics.by_name.remove(&topic.name);
        topics.partitions -= topic.partitions.len();
        for partition in &topic.partitions {
            partition.delete();
        }
        let staged = self.staging.join(format!("deleted-{}", topic.id));
        let path = self.topics_folder.join(&topic.name);
        let removed =
            std::fs::rename(&path, &staged).and_then(|()| std::fs::remove_dir_all(&staged));
        if let Err(cause) = removed {
            error!(topic = topic.name, %cause, "could not remove the files of a deleted topic");
            return Err(ResponseError::KafkaStorageError);
        }
        info!(topic = topic.name, id = %topic.id, "deleted a topic");
        Ok(())
    }

    /// Syncs and ends every log.
    ///
    /// # Errors
    /// The first that the file system refuses; the others are ended all the same.
    pub fn close(&self) -> Result<(), BrokerError> {
        let mut first = Ok(());
        for topic in self.all() {
            for partition in &topic.partitions {
                let closed = partition.close();
                first = first.and(closed);
            }
        }
        first
    }
}

fn open_topic(path: &Path, segment_bytes: u64) -> Result<Topic, BrokerError> {
    let description = Description::load(&path.join("topic"))?;
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
        .to_owned();
    let open = |index: i32| -> Result<Arc<Partition>, BrokerError> {
        Ok(Arc::new(Partition::new(Log::open(
            &path.join(index.to_string()),
            segment_bytes,
        )?)))
    };
    let partitions = (0..description.partitions)
        .map(open)
        .collect::<Result<_, _>>()?;
    Ok(Topic {
        name,
        id: description.id,
        config: description.config,
        partitions,
    })
}
