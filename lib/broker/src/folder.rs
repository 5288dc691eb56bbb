//! The broker's folder: whose it is, which cluster it makes, and which producer ids have been given away.
//!
//! ```text
//! lock                        held by the process that uses the folder
//! cluster                     the cluster's id
//! producers                   the first producer id that nobody can have got yet
//! offsets                     what consumer groups have committed
//! topics/<topic>/topic        id, number of partitions, configs
//! topics/<topic>/<n>/*.log    batches of partition n
//! topics/<topic>/<n>/start    where the log begins, if records were deleted up to an offset
//! topics/<topic>/<n>/cleaned  how far compaction has come, if there was any
//! staging/                    topics that are being created or deleted; emptied at start
//! ```

use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use uuid::Uuid;

use crate::error::BrokerError;
use crate::sync::lock;

/// How many producer ids are set aside with one write.
const PRODUCER_ID_BLOCK: i64 = 1_000;

/// The folder, locked for this process.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    cluster_id: String,
    _lock: File,
}

impl Folder {
    /// Creates the folder if need be and takes its lock.
    ///
    /// # Errors
    /// If another process has the lock, or the file system refuses.
    pub fn open(path: &Path) -> Result<Self, BrokerError> {
        for folder in [path, &path.join("topics")] {
            std::fs::create_dir_all(folder).map_err(BrokerError::storage(folder))?;
        }
        let lock_path = path.join("lock");
        let lock = File::create(&lock_path).map_err(BrokerError::storage(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(BrokerError::InUse {
                    folder: path.to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => {
                return Err(BrokerError::Storage {
                    path: lock_path,
                    source,
                });
            }
        }
        let staging = path.join("staging");
        if staging.exists() {
            std::fs::remove_dir_all(&staging).map_err(BrokerError::storage(&staging))?;
        }
        std::fs::create_dir(&staging).map_err(BrokerError::storage(&staging))?;
        let cluster_path = path.join("cluster");
        let cluster_id = match read_if_present(&cluster_path)? {
            Some(id) => id.trim().to_owned(),
            None => {
                let id = Uuid::new_v4().simple().to_string();
                replace(&cluster_path, id.as_bytes())?;
                id
            }
        };
        Ok(Self {
            path: path.to_owned(),
            cluster_id,
            _lock: lock,
        })
    }

    /// Returns the folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the cluster's id.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }
}

/// Reads a small text file; `None` if there is none.
pub fn read_if_present(path: &Path) -> Result<Option<String>, BrokerError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(BrokerError::Storage {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Writes a small file so that a crash leaves the old content or the new.
pub fn replace(path: &Path, content: &[u8]) -> Result<(), BrokerError> {
    replace_file(path, content).map_err(BrokerError::storage(path))
}

/// Writes a small file so that a crash leaves the old content or the new.
pub fn replace_file(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let staged = path.with_extension("new");
    let mut file = File::create(&staged)?;
    file.write_all(content)?;
    file.sync_data()?;
    std::fs::rename(&staged, path)
}

/// Gives every idempotent producer an id that no other ever had or gets.
#[derive(Debug)]
pub struct ProducerIds {
    path: PathBuf,
    block: Mutex<std::ops::Range<i64>>,
}

impl ProducerIds {
    /// Continues where the folder's last broker cannot have come.
    ///
    /// # Errors
    /// If the note of it cannot be read.
    pub fn open(folder: &Path) -> Result<Self, BrokerError> {
        let path = folder.join("producers");
        let first = match read_if_present(&path)? {
            None => 0,
            Some(text) => {
                let problem = "it should be one number";
                text.trim().parse().map_err(|_| BrokerError::Damaged {
                    path: path.clone(),
                    problem,
                })?
            }
        };
        Ok(Self {
            path,
            block: Mutex::new(first..first),
        })
    }

    /// Returns a new id.
    ///
    /// # Errors
    /// If the next block of ids cannot be set aside.
    pub fn next(&self) -> Result<i64, BrokerError> {
        let mut block = lock(&self.block);
        if block.is_empty() {
            let end = block.end.saturating_add(PRODUCER_ID_BLOCK);
            replace(&self.path, end.to_string().as_bytes())?;
            *block = block.end..end;
        }
        let problem = "no producer ids are left";
        block.next().ok_or_else(|| BrokerError::Damaged {
            path: self.path.clone(),
            problem,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_user_and_keeps_its_cluster() {
        let folder = tempfile::tempdir().unwrap();
        let first = Folder::open(folder.path()).unwrap();
        assert!(matches!(
            Folder::open(folder.path()),
            Err(BrokerError::InUse { .. })
        ));
        let id = first.cluster_id().to_owned();
        drop(first);
        assert_eq!(Folder::open(folder.path()).unwrap().cluster_id(), id);
    }

    #[test]
    fn producer_ids_are_never_given_twice() {
        let folder = tempfile::tempdir().unwrap();
        let mut last = -1;
        for _ in 0..3 {
            let ids = ProducerIds::open(folder.path()).unwrap();
            for _ in 0..PRODUCER_ID_BLOCK + 1 {
                let id = ids.next().unwrap();
                assert!(last < id);
                last = id;
            }
        }
    }
}
