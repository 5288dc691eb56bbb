//! One partition: its log, and whoever waits for data.
//!
//! A reader that found too little registers, reads once more and then sleeps; an append wakes it at once. Nobody polls.

use std::io;
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
    /// Tells housekeeping to leave off.
    ending: AtomicBool,
}

impl Partition {
    /// Serves a log.
    pub fn new(log: Log) -> Self {
        Self {
            log: Mutex::new(log),
            waiting: Mutex::default(),
            deleted: AtomicBool::new(false),
            ending: AtomicBool::new(false),
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
        if self.deleted.load(Ordering::Acquire) {
            return Err(ResponseError::UnknownTopicOrPartition);
        }
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

    /// Has the log begin at an offset, or later already; returns where it begins.
    ///
    /// # Errors
    /// The Kafka error that the client gets.
    pub fn delete_before(&self, offset: i64) -> Result<i64, ResponseError> {
        lock(&self.log).delete_before(offset)
    }

    /// Does what retention wants; finished segments are synced.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn expire(&self, now_ms: i64) -> io::Result<()> {
        let finished = lock(&self.log).expire(now_ms)?;
        finished.map_or(Ok(()), |file| file.sync_data())
    }

    /// Compacts the log if it is time to; the log can be used all the while.
    ///
    /// # Errors
    /// If the file system refuses, or the log ends meanwhile; another round does it all again.
    pub fn compact(&self, now_ms: i64) -> io::Result<()> {
        let Some(job) = lock(&self.log).compaction_due(now_ms) else {
            return Ok(());
        };
        let keys = job.learn(&self.ending)?;
        lock(&self.log).begin_compaction(&keys)?;
        job.rewrite(&keys, &self.ending, |rewritten| {
            lock(&self.log).replace(rewritten)
        })?;
        lock(&self.log).end_compaction(&keys, now_ms)
    }

    /// Says whether the partition is being closed or deleted.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
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
        self.ending.store(true, Ordering::Release);
        // A topic of the same name may get the same folder.
        lock(&self.log).abandon();
        self.wake();
    }

    /// Syncs the log and ends it; appends fail from here on.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn close(&self) -> Result<(), BrokerError> {
        self.ending.store(true, Ordering::Release);
        Ok(lock(&self.log).close()?)
    }
}
