//! Where checkpoints lie: one object each in an object store, the newest few kept.

use std::time::Duration;

use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use schemas::{Digest, ModelVersion};
use tracing::warn;
use worker::Store;

use learn::model::Lineage;

/// Checkpoints that are kept: whoever reads one that was announced has two more intervals to finish.
const KEPT: usize = 3;

/// What was not finished for so long never will be.
const UNFINISHED_AGE_MAX: Duration = Duration::from_hours(1);

/// How the name of a checkpoint ends.
const SUFFIX: &str = ".safetensors";

/// Digits of the version in a name: so names sort as versions do.
const VERSION_DIGITS: usize = 20;

/// The checkpoints of one stream.
pub struct Shelf {
    store: Store,
    stream: String,
}

impl Shelf {
    /// Opens the shelf of a stream.
    pub fn new(store: Store, stream: &str) -> Shelf {
        Shelf {
            store,
            stream: stream.to_owned(),
        }
    }

    /// Returns the names of all checkpoints, the newest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn names(&self) -> object_store::Result<Vec<String>> {
        let folder = self.store.path(&self.stream);
        let listed = self
            .store
            .objects
            .list_with_delimiter(Some(&folder))
            .await?;
        let files = listed
            .objects
            .iter()
            .filter_map(|object| object.location.filename());
        let mut names: Vec<String> = files
            .filter(|file| is_checkpoint(file))
            .map(|file| format!("{}/{file}", self.stream))
            .collect();
        names.sort_unstable_by(|one, other| other.cmp(one));
        Ok(names)
    }

    /// Reads a checkpoint.
    ///
    /// # Errors
    /// The store's.
    pub async fn get(&self, name: &str) -> object_store::Result<Vec<u8>> {
        let object = self.store.objects.get(&self.store.path(name)).await?;
        Ok(object.bytes().await?.into())
    }

    /// Stores the checkpoint of a version, in one step or not at all; returns its name.
    ///
    /// # Errors
    /// The store's.
    pub async fn put(&self, lineage: Lineage, bytes: Vec<u8>) -> object_store::Result<String> {
        let name = format!("{}/{}", self.stream, file(lineage.version, lineage.digest));
        let payload = PutPayload::from(bytes);
        self.store
            .objects
            .put(&self.store.path(&name), payload)
            .await?;
        Ok(name)
    }

    /// Deletes all but the newest few, and what was never finished. A failure is only room that is not freed yet.
    pub async fn prune(&self) {
        let place = self.store.below(&self.stream).url;
        if let Err(error) = worker::sweep(&place, UNFINISHED_AGE_MAX, false).await {
            warn!(%error, "could not delete unfinished checkpoints");
        }
        let names = match self.names().await {
            Ok(names) => names,
            Err(error) => return warn!(%error, "could not list old checkpoints"),
        };
        for name in names.iter().skip(KEPT) {
            let path: Path = self.store.path(name);
            if let Err(error) = self.store.objects.delete(&path).await {
                warn!(name, %error, "could not delete an old checkpoint");
            }
        }
    }
}

/// Names a checkpoint: the digest tells apart what two trainers may make of one version.
fn file(version: ModelVersion, digest: Digest) -> String {
    format!(
        "{:0VERSION_DIGITS$}-{:.16}{SUFFIX}",
        version.0,
        digest.to_string()
    )
}

fn is_checkpoint(file: &str) -> bool {
    let stem = file
        .strip_suffix(SUFFIX)
        .and_then(|stem| stem.split_once('-'));
    stem.is_some_and(|(version, _)| {
        version.len() == VERSION_DIGITS && version.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_versions_do() {
        let name = |version| file(ModelVersion(version), Digest([0xab; 32]));
        assert_eq!(name(7), "00000000000000000007-abababababababab.safetensors");
        assert!(name(9) < name(10) && name(10) < name(u64::MAX));
        assert!(is_checkpoint(&name(1)) && !is_checkpoint("x.safetensors"));
    }

    #[tokio::test]
    async fn the_newest_few_are_kept_and_what_was_never_finished_goes() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().display().to_string()).unwrap();
        let shelf = Shelf::new(store, "flights");
        let mut put = Vec::new();
        for version in 0..=KEPT as u64 {
            let name = format!("flights/{}", file(ModelVersion(version), Digest([0; 32])));
            let path = shelf.store.path(&name);
            let stored = shelf.store.objects.put(&path, PutPayload::default());
            stored.await.unwrap();
            put.insert(0, name);
        }
        let unfinished = |number: u32, age| {
            let path = folder.path().join(format!("{}#{number}", put[0]));
            let file = std::fs::File::create(&path).unwrap();
            file.set_modified(std::time::SystemTime::now() - age)
                .unwrap();
            path
        };
        let old = unfinished(1, UNFINISHED_AGE_MAX * 2);
        let young = unfinished(2, UNFINISHED_AGE_MAX / 2);
        shelf.prune().await;
        assert_eq!(shelf.names().await.unwrap(), put[..KEPT]);
        assert!(!old.exists() && young.exists());
    }
}
