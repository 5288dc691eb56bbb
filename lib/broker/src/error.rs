//! Why a broker cannot start or stop; what happens to single requests is answered with Kafka's own error codes.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::log::LogError;

/// Why a broker cannot start or stop.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// Another process uses the folder.
    #[error("the folder `{folder}` is in use by another broker")]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// The address cannot be listened on.
    #[error("could not listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A file or folder cannot be used.
    #[error("could not use `{path}`")]
    Storage {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the broker's own makes no sense.
    #[error("`{path}` is damaged: {problem}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
    /// A partition's log cannot be used.
    #[error("could not use a partition")]
    Log(#[from] LogError),
}

impl BrokerError {
    /// Names the path that an I/O error is about.
    pub(crate) fn storage(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        |source| Self::Storage { path, source }
    }
}
