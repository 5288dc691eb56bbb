//! One partition: its log, and whoever waits for data.
//!
//! A reader that found too little registers, reads once more and then sleeps; an append wakes it at once. Nobody polls.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use kafka_protocol::ResponseError;
use tokio::sync::Notify;

use crate::error::BrokerError;
use crate::log::batch::BatchHeader;
use crate::log::{Appended, Log, Upkeep};
use crate::sync::lock;

/// One partition.
#[derive(Debug)]
pub struct Partition {
    log: Mutex<Log>,
    waiting: Mutex<Vec<Arc<Notify>>>,
    deleted: AtomicBool,
}

impl Partition {
    /// Serves a log.
    pub fn new(log: Log) -> Self {
        Self {
            log: Mutex::new(log),
            waiting: Mutex::default(),
            deleted: AtomicBool::new(false),
        }
    }

    /// Appends a checked batch and wakes whoever waits.
    ///
    /// # Errors
    /// The Kafka error that the producer gets.
    pub fn append(
        &self,
        header: &BatchHeader,
        records: &[u8],
        append_time: Option<i64>,
    ) -> Result<Appended, ResponseError> {
        let appended = lock(&self.log).append(header, records, append_time)?;
        self.wake();
        Ok(appended)
    }

    /// Reads from the log.
    ///
    /// # Errors
    /// The Kafka error that the client gets, also if the partition has been deleted.
    pub fn read<T>(
        &self,
        read: impl FnOnce(&Log) -> Result<T, ResponseError>,
    ) -> Result<T, ResponseError> {
        if self.deleted.load(Ordering::Acquire) {
            return Err(ResponseError::UnknownTopicOrPartition);
        }
        read(&lock(&self.log))
    }

    /// Changes what the log's housekeeping goes by.
    pub fn keep_by(&self, upkeep: &Upkeep) {
        lock(&self.log).keep_by(upkeep.clone());
    }

    /// Has `reader` woken by the next append. Bounded by the connections, each of which waits once.
    pub fn register(&self, reader: &Arc<Notify>) {
        lock(&self.waiting).push(Arc::clone(reader));
    }

    /// Takes `reader` off again.
    pub fn deregister(&self, reader: &Arc<Notify>) {
        lock(&self.waiting).retain(|waiting| !Arc::ptr_eq(waiting, reader));
    }

    fn wake(&self) {
        for reader in lock(&self.waiting).iter() {
            reader.notify_one();
        }
    }

    /// Lets every reader know that the partition is gone.
    pub fn delete(&self) {
        self.deleted.store(true, Ordering::Release);
        self.wake();
    }

    /// Syncs the log and ends it; appends fail from here on.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn close(&self) -> Result<(), BrokerError> {
        Ok(lock(&self.log).close()?)
    }
}
