//! The object store of the lake or of checkpoints: a folder, S3, GCS or Azure.

use std::io;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use object_store::path::Path;
use object_store::{ObjectStore, parse_url_opts};
use url::Url;

use crate::folder::Folder;
use crate::stage::{Fault, Next};

/// A place for objects that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No store answers to it.
    #[error(
        "could not open object store `{place}`: {reason}; write a folder, or s3://…, gs://…, az://…"
    )]
    Place {
        /// What was given.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A folder that cannot be used now: its disk may be full, or come back.
    #[error("could not use folder `{place}`: {reason}")]
    Folder {
        /// The folder.
        place: String,
        /// Why.
        reason: String,
    },
}

impl Fault for StoreError {
    fn next(&self) -> Next {
        match self {
            StoreError::Place { .. } => Next::Stop,
            StoreError::Folder { .. } => Next::Restart,
        }
    }
}

/// An object store, and the path in it below which everything of ours lies.
#[derive(Clone, Debug)]
pub struct Store {
    /// The store.
    pub objects: Arc<dyn ObjectStore>,
    /// The path.
    pub prefix: Path,
    /// Both as a URL.
    pub url: Url,
}

impl Store {
    /// Opens a folder (made if it is missing) or the store that a URL names. Credentials and regions come from
    /// the environment, in the names that each cloud's own tools use (`AWS_ACCESS_KEY_ID` and so on).
    ///
    /// What was put is there after a power failure, too.
    ///
    /// # Errors
    /// [`StoreError`], with what would be right.
    pub fn open(place: &str) -> Result<Store, StoreError> {
        let refuse = |reason: String| StoreError::Place {
            place: place.to_owned(),
            reason,
        };
        if let Some(path) = local(place) {
            return Store::folder(&path).map_err(|error| StoreError::Folder {
                place: place.to_owned(),
                reason: error.to_string(),
            });
        }
        // Two providers of cryptography are in this tree, and rustls picks none by itself; a second call changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = Url::parse(place).map_err(|error| refuse(error.to_string()))?;
        // object_store knows its options by the lower-case names of the variables.
        let environment = std::env::vars().map(|(name, value)| (name.to_lowercase(), value));
        let (objects, prefix) =
            parse_url_opts(&url, environment).map_err(|error| refuse(error.to_string()))?;
        Ok(Store {
            objects: Arc::from(objects),
            prefix,
            url,
        })
    }

    fn folder(path: &FilePath) -> io::Result<Store> {
        let folder = Folder::open(path)?;
        let no_name = || io::Error::from(io::ErrorKind::InvalidFilename);
        let url = Url::from_directory_path(folder.root()).map_err(|()| no_name())?;
        Ok(Store {
            prefix: Path::from_url_path(url.path()).map_err(|_| no_name())?,
            objects: Arc::new(folder),
            url,
        })
    }

    /// Says whether a place is a folder that is missing: opening would make it, and whoever only looks makes nothing.
    pub fn is_missing(place: &str) -> bool {
        local(place).is_some_and(|folder| !folder.is_dir())
    }

    /// Returns the part of the store below a folder.
    pub fn below(&self, folder: &str) -> Store {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push(folder).push("");
        }
        Store {
            objects: self.objects.clone(),
            prefix: self.path(folder),
            url,
        }
    }

    /// Returns the path of an object by its name.
    pub fn path(&self, name: &str) -> Path {
        let name = Path::from(name);
        self.prefix.parts().chain(name.parts()).collect()
    }
}

/// Returns the folder that a place names, by itself or as a `file://` URL.
fn local(place: &str) -> Option<PathBuf> {
    if !place.contains("://") {
        return Some(place.into());
    }
    let url = Url::parse(place).ok()?;
    let file = (url.scheme() == "file").then(|| url.to_file_path().ok());
    file.flatten()
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;

    use super::*;

    #[tokio::test]
    async fn a_folder_is_the_same_by_its_url() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("a b#7%20ü").display().to_string();
        assert!(Store::is_missing(&place));
        let store = Store::open(&place).unwrap().below("flights");
        let path = store.path("x/y");
        store.objects.put(&path, "rows".into()).await.unwrap();
        let written = folder.path().join("a b#7%20ü/flights/x/y");
        assert_eq!(std::fs::read(written).unwrap(), b"rows");

        let same = Url::from_directory_path(&place).unwrap();
        assert!(!Store::is_missing(same.as_str()));
        let same = Store::open(same.as_str()).unwrap();
        assert_eq!(same.below("flights").url, store.url);
        let got = same.objects.get(&same.path("flights/x/y")).await.unwrap();
        assert_eq!(got.bytes().await.unwrap(), "rows");
    }

    #[test]
    fn places_are_refused_with_a_remedy() {
        assert!(!Store::is_missing("s3://bucket"));
        let refused = Store::open("what://ever").unwrap_err();
        let said = refused.to_string();
        assert!(
            said.contains("what://ever") && said.contains("write a folder"),
            "{said}"
        );
        assert_eq!(refused.next(), Next::Stop);
    }

    #[test]
    fn a_folder_that_is_away_may_come_back() {
        let file = std::env::current_exe().unwrap();
        let refused = Store::open(&file.display().to_string()).unwrap_err();
        assert_eq!(refused.next(), Next::Restart);
    }
}
