//! Housekeeping: retention and compaction, from time to time, for the topics that want it.
//!
//! While no topic does, it sleeps for good. The work is done on a thread for blocking work, one partition after the
//! other, so it never takes more than one core and one partition's memory.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::{error, warn};

use crate::clock::now_ms;
use crate::services::Services;
use crate::topic::Partition;

/// Keeps house until it is aborted.
pub async fn run(services: Arc<Services>) {
    loop {
        wait(&services, services.config.upkeep_every).await;
        let working = Arc::clone(&services);
        let round = tokio::task::spawn_blocking(move || round(&working));
        if let Err(cause) = round.await {
            error!(%cause, "housekeeping panicked; it goes on with the next round");
        }
    }
}

/// Waits for the next round: for a while, or for good if no topic wants one, but never beyond a change of configs.
async fn wait(services: &Services, every: Duration) {
    let changed = services.upkeep_changed.notified();
    if services.catalog.wants_upkeep() {
        // Woken early or late, the next round looks anew.
        let _ = timeout(every, changed).await;
    } else {
        changed.await;
    }
}

fn round(services: &Services) {
    for topic in services.catalog.all() {
        if !services.catalog.upkeep(&topic).is_wanted() {
            continue;
        }
        for (index, partition) in topic.partitions.iter().enumerate() {
            if let Err(cause) = keep(partition)
                && !partition.is_ending()
            {
                warn!(topic = topic.name, index, %cause, "could not keep a partition small");
            }
        }
    }
}

fn keep(partition: &Partition) -> io::Result<()> {
    partition.expire(now_ms())?;
    partition.compact(now_ms())
}
