//! The object store behind the lake: a folder, S3, Google Cloud Storage or Azure.

use std::sync::Arc;

use deltalake_core::DeltaResult;
use deltalake_core::logstore::{
    LogStore, LogStoreFactory, LogStoreRef, ObjectStoreRef, StorageConfig, default_logstore,
    logstore_factories, logstore_with,
};
use url::Url;
use worker::{Store, StoreError};

use crate::error::SinkError;

/// Opens the store of one table below a lake.
///
/// Cloud stores must put a commit only if no other is there yet; all of them do so by now. A folder's files and
/// commits outlive a power failure, in the order in which they were put.
///
/// # Errors
/// [`SinkError::Place`] if the lake is a URL that no store answers to, or its folder cannot be made.
pub fn open(lake: &str, table: &str) -> Result<LogStoreRef, SinkError> {
    let Store { objects, url, .. } = Store::open(lake)?.below(table);
    let refuse = |reason: String| StoreError::Place {
        place: lake.to_owned(),
        reason,
    };
    let scheme =
        Url::parse(&format!("{}://", url.scheme())).map_err(|error| refuse(error.to_string()))?;
    logstore_factories()
        .entry(scheme)
        .or_insert_with(|| Arc::new(PlainLog));
    let log = logstore_with(objects, &url, StorageConfig::default());
    Ok(log.map_err(|error| refuse(error.to_string()))?)
}

/// A log whose commits are put if absent, for schemes that deltalake-core leaves to other crates.
struct PlainLog;

impl LogStoreFactory for PlainLog {
    fn with_options(
        &self,
        prefixed_store: ObjectStoreRef,
        root_store: ObjectStoreRef,
        location: &Url,
        options: &StorageConfig,
    ) -> DeltaResult<Arc<dyn LogStore>> {
        Ok(default_logstore(
            prefixed_store,
            root_store,
            location,
            options,
        ))
    }
}
