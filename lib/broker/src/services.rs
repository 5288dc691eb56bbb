//! Everything that requests are served from: one value, shared by all connections.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::{Notify, Semaphore, watch};

use crate::config::Config;
use crate::error::BrokerError;
use crate::folder::{Folder, ProducerIds};
use crate::group::Coordinator;
use crate::offsets::Offsets;
use crate::topic::Catalog;

/// The only node of the cluster.
pub const NODE_ID: i32 = 1;

/// Everything that requests are served from.
#[derive(Debug)]
pub struct Services {
    /// What the broker was told.
    pub config: Config,
    /// The folder and the cluster's id.
    pub folder: Folder,
    /// Topics and their data.
    pub catalog: Catalog,
    /// Consumer groups.
    pub groups: Coordinator,
    /// What they have committed.
    pub offsets: Offsets,
    /// How many bytes of large requests may still come in.
    pub frame_budget: Arc<Semaphore>,
    /// Rung when a topic's configs change, so that housekeeping looks anew.
    pub upkeep_changed: Notify,
    /// Ids for idempotent producers.
    pub producer_ids: ProducerIds,
}

impl Services {
    /// Opens everything in the configured folder.
    ///
    /// # Errors
    /// If the folder is in use, unusable or damaged.
    pub fn open(config: Config) -> Result<Self, BrokerError> {
        let folder = Folder::open(&config.folder)?;
        let limits = &config.limits;
        Ok(Self {
            catalog: Catalog::open(folder.path(), limits.segment_bytes, limits.partitions_max)?,
            groups: Coordinator::new(limits.groups_max, limits.group_members_max),
            offsets: Offsets::open(folder.path(), limits.groups_max)?,
            frame_budget: Arc::new(Semaphore::new(
                limits.frames_bytes_max.max(limits.produce_bytes_max),
            )),
            upkeep_changed: Notify::new(),
            producer_ids: ProducerIds::open(folder.path())?,
            folder,
            config,
        })
    }

    /// Syncs everything to the disk and ends every log.
    ///
    /// # Errors
    /// The first that the file system refuses.
    pub fn close(&self) -> Result<(), BrokerError> {
        self.catalog.close().and(self.offsets.close())
    }
}

/// What is known of the connection that a request came on.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The client's address.
    pub remote: SocketAddr,
    /// The address that it connected to.
    pub local: SocketAddr,
    /// Turns true when the broker stops.
    pub stopping: watch::Receiver<bool>,
}
