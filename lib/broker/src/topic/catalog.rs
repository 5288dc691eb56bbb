//! All topics, by name and by id; creates and deletes them so that a crash leaves whole topics or none.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use kafka_protocol::ResponseError;
use tracing::{error, info};
use uuid::Uuid;

use super::{Denied, Description, Partition, Topic, TopicConfig, is_valid_name};
use crate::error::BrokerError;
use crate::log::{Log, Upkeep};
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

    fn replace(&mut self, changed: Arc<Topic>) {
        let before = self.by_id.get(&changed.id);
        self.partitions -= before.map_or(0, |topic| topic.partitions.len());
        self.insert(changed);
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
    /// Held while a topic is made, changed or deleted, so that two of one name cannot be.
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

    /// Says whether any topic has retention or compaction.
    pub fn wants_upkeep(&self) -> bool {
        let topics = read(&self.topics);
        topics
            .by_name
            .values()
            .any(|topic| self.upkeep(topic).is_wanted())
    }

    /// Returns what housekeeping goes by in a topic.
    pub fn upkeep(&self, topic: &Topic) -> Upkeep {
        topic.config.upkeep(self.segment_bytes)
    }

    /// Says what would prevent a topic from being made.
    ///
    /// # Errors
    /// The Kafka error for the client, and why.
    pub fn check(&self, new: &CreateTopic<'_>) -> Result<(), Denied> {
        let partitions = usize::try_from(new.partitions).unwrap_or(0);
        new.config
            .check()
            .map_err(|reason| (ResponseError::InvalidConfig, reason))?;
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
        self.check_room(topics.partitions, partitions)
    }

    fn check_room(&self, present: usize, more: usize) -> Result<(), Denied> {
        if present.saturating_add(more) <= self.partitions_max {
            return Ok(());
        }
        let reason = format!(
            "this broker has room for {} partitions in all",
            self.partitions_max
        );
        Err((ResponseError::InvalidPartitions, reason))
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// The Kafka error for the client, and why.
    pub fn create(&self, new: CreateTopic<'_>) -> Result<Arc<Topic>, Denied> {
        let _making = lock(&self.making);
        self.check(&new)?;
        let description = Description {
            id: Uuid::new_v4(),
            partitions: new.partitions,
            config: new.config,
        };
        let path = self.topics_folder.join(new.name);
        let topic = self.stage(&description, &path).map_err(refused(new.name))?;
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

    /// Changes the configs of a topic, or only checks that it could.
    ///
    /// # Errors
    /// The Kafka error for the client, and why; nothing has changed then.
    pub fn reconfigure(
        &self,
        name: &str,
        change: impl FnOnce(&mut TopicConfig) -> Result<(), Denied>,
        only_check: bool,
    ) -> Result<(), Denied> {
        let _making = lock(&self.making);
        let topic = self.existing(name)?;
        let mut config = topic.config.clone();
        change(&mut config)?;
        config
            .check()
            .map_err(|reason| (ResponseError::InvalidConfig, reason))?;
        if only_check || config == topic.config {
            return Ok(());
        }
        self.put(Topic {
            name: topic.name.clone(),
            id: topic.id,
            partitions: topic.partitions.clone(),
            config,
        })?;
        info!(topic = name, id = %topic.id, "changed the configs of a topic");
        Ok(())
    }

    /// Adds partitions to a topic until it has `count`, or only checks that it could.
    ///
    /// # Errors
    /// The Kafka error for the client, and why; no partition has been added then.
    pub fn grow(&self, name: &str, count: i32, only_check: bool) -> Result<(), Denied> {
        let _making = lock(&self.making);
        let topic = self.existing(name)?;
        let present = topic.partitions.len();
        let wanted = usize::try_from(count).unwrap_or(0);
        if wanted <= present {
            let reason = format!("topic {name:?} has {present} partitions and cannot get {count}");
            return Err((ResponseError::InvalidPartitions, reason));
        }
        self.check_room(read(&self.topics).partitions, wanted - present)?;
        if only_check {
            return Ok(());
        }
        let upkeep = topic.config.upkeep(self.segment_bytes);
        let mut partitions = topic.partitions.clone();
        for index in present..wanted {
            let path = self.topics_folder.join(name).join(index.to_string());
            let opened = std::fs::create_dir_all(&path)
                .map_err(BrokerError::storage(&path))
                .and_then(|()| Ok(Log::open(&path, upkeep.clone())?));
            partitions.push(Arc::new(Partition::new(opened.map_err(refused(name))?)));
        }
        self.put(Topic {
            name: topic.name.clone(),
            id: topic.id,
            config: topic.config.clone(),
            partitions,
        })?;
        info!(topic = name, id = %topic.id, partitions = count, "added partitions to a topic");
        Ok(())
    }

    fn existing(&self, name: &str) -> Result<Arc<Topic>, Denied> {
        self.by_name(name).ok_or_else(|| {
            let reason = format!("there is no topic {name:?}");
            (ResponseError::UnknownTopicOrPartition, reason)
        })
    }

    /// Puts a changed topic in the place of what it was, first in its folder, then here.
    fn put(&self, changed: Topic) -> Result<(), Denied> {
        let description = Description {
            id: changed.id,
            partitions: i32::try_from(changed.partitions.len()).unwrap_or(i32::MAX),
            config: changed.config.clone(),
        };
        let path = self.topics_folder.join(&changed.name).join("topic");
        description.store(&path).map_err(refused(&changed.name))?;
        let upkeep = changed.config.upkeep(self.segment_bytes);
        for partition in &changed.partitions {
            partition.keep_by(&upkeep);
        }
        write(&self.topics).replace(Arc::new(changed));
        Ok(())
    }

    /// Deletes a topic with all its data.
    ///
    /// # Errors
    /// The Kafka error for the client.
    pub fn delete(&self, topic: &Topic) -> Result<(), ResponseError> {
        let _making = lock(&self.making);
        let mut topics = write(&self.topics);
        let topic = topics
            .by_id
            .remove(&topic.id)
            .ok_or(ResponseError::UnknownTopicOrPartition)?;
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

/// Says in the log and to the client that a topic could not be stored.
fn refused(topic: &str) -> impl FnOnce(BrokerError) -> Denied {
    move |cause| {
        error!(
            topic,
            error = &cause as &dyn std::error::Error,
            "could not store a topic"
        );
        (ResponseError::KafkaStorageError, cause.to_string())
    }
}

fn open_topic(path: &Path, segment_bytes: u64) -> Result<Topic, BrokerError> {
    let description = Description::load(&path.join("topic"))?;
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
        .to_owned();
    let upkeep = description.config.upkeep(segment_bytes);
    let open = |index: i32| -> Result<Arc<Partition>, BrokerError> {
        Ok(Arc::new(Partition::new(Log::open(
            &path.join(index.to_string()),
            upkeep.clone(),
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
