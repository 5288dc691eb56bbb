//! The object store behind the lake: a folder, S3, Google Cloud Storage or Azure.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use deltalake_core::DeltaResult;
use deltalake_core::logstore::{
    LogStore, LogStoreFactory, LogStoreRef, ObjectStoreRef, StorageConfig, default_logstore,
    logstore_factories, logstore_with,
};
use url::Url;

use crate::error::SinkError;

/// Opens the store of one table below a lake.
///
/// Cloud stores must put a commit only if no other is there yet; all of them do so by now.
///
/// # Errors
/// [`SinkError::Lake`] if the lake is a URL that no store answers to, [`SinkError::Folder`] if its folder cannot be made.
pub fn open(lake: &str, table: &str) -> Result<LogStoreRef, SinkError> {
    let refuse = |reason: String| SinkError::Lake {
        lake: lake.to_owned(),
        reason,
    };
    let mut url = match lake.contains("://") {
        true => Url::parse(lake).map_err(|error| refuse(error.to_string()))?,
        false => {
            let path = usable(Path::new(lake)).map_err(|source| SinkError::Folder {
                lake: lake.to_owned(),
                source,
            })?;
            Url::from_directory_path(&path)
                .map_err(|()| refuse("it is no absolute path".to_owned()))?
        }
    };
    url.path_segments_mut()
        .map_err(|()| refuse("it has no path".to_owned()))?
        .pop_if_empty()
        .push(table)
        .push("");
    // Two providers of cryptography are in this tree, and rustls picks none by itself; a second call changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // object_store knows its options by the lower-case names of the variables.
    let environment = std::env::vars().map(|(name, value)| (name.to_lowercase(), value));
    let (store, _) = object_store::parse_url_opts(&url, environment)
        .map_err(|error| refuse(error.to_string()))?;
    let scheme =
        Url::parse(&format!("{}://", url.scheme())).map_err(|error| refuse(error.to_string()))?;
    logstore_factories()
        .entry(scheme)
        .or_insert_with(|| Arc::new(PlainLog));
    logstore_with(Arc::new(store), &url, StorageConfig::default())
        .map_err(|error| refuse(error.to_string()))
}

/// Makes a folder if it is missing, and returns its absolute path.
fn usable(path: &Path) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(path)?;
    path.canonicalize()
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
