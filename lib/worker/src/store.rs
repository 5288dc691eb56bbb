//! The object store of checkpoints: a folder, S3, GCS or Azure.

use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, parse_url_opts};
use url::Url;

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
}

impl Store {
    /// Opens a folder (made if it is missing) or the store that a URL names. Credentials and regions come from
    /// the environment, in the names that each cloud's own tools use (`AWS_ACCESS_KEY_ID` and so on).
    ///
    /// # Errors
    /// [`StoreError`], with what would be right.
    pub fn open(place: &str) -> Result<Store, StoreError> {
        if !place.contains("://") {
            let refuse = |reason: String| StoreError::Folder {
                place: place.to_owned(),
                reason,
            };
            std::fs::create_dir_all(place).map_err(|error| refuse(error.to_string()))?;
            let folder = LocalFileSystem::new_with_prefix(place)
                .map_err(|error| refuse(error.to_string()))?;
            return Ok(Store {
                objects: Arc::new(folder),
                prefix: Path::default(),
            });
        }
        let refuse = |reason: String| StoreError::Place {
            place: place.to_owned(),
            reason,
        };
        // Two providers of cryptography are in this tree, and rustls picks none by itself; a second call changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = Url::parse(place).map_err(|error| refuse(error.to_string()))?;
        let environment = std::env::vars().map(|(name, value)| (name.to_lowercase(), value));
        let (objects, prefix) =
            parse_url_opts(&url, environment).map_err(|error| refuse(error.to_string()))?;
        Ok(Store {
            objects: Arc::from(objects),
            prefix,
        })
    }

    /// Returns the path of an object by its name.
    pub fn path(&self, name: &str) -> Path {
        let name = Path::from(name);
        self.prefix.parts().chain(name.parts()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_opened_or_refused_with_a_remedy() {
        let folder = std::env::temp_dir().join(format!("thalweg-store-{}", std::process::id()));
        let store = Store::open(&folder.display().to_string()).unwrap();
        assert_eq!(store.path("a/b").as_ref(), "a/b");
        std::fs::remove_dir_all(folder).unwrap();
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
