//! What can go wrong in the store.

use std::io;

use oxigraph::store::{LoaderError, StorageError};

use super::LogPosition;

/// An error of the store, of its files or of what it was asked to do.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// RocksDB or the file system below it failed, or found damage.
    #[error("the store failed: {0}")]
    Storage(#[from] StorageError),
    /// Loading a snapshot into a fresh store failed.
    #[error("loading into the store failed: {0}")]
    Loader(#[from] LoaderError),
    /// Reading or writing a file failed.
    #[error("{action}: {source}")]
    Io {
        /// What was being done.
        action: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The store opened, but its own records contradict each other: it must be rebuilt.
    #[error("the store is inconsistent: {0}")]
    Inconsistent(String),
    /// A snapshot is not what it should be.
    #[error("the snapshot is damaged: {0}")]
    DamagedSnapshot(String),
    /// The snapshot was written by a version that this one does not know.
    #[error("the snapshot has format version {found}, this program reads version {known}")]
    UnknownSnapshotVersion {
        /// The version in the file.
        found: u32,
        /// The version that can be read.
        known: u32,
    },
    /// An entry was handed over that does not follow the last applied one.
    #[error("entry {entry} does not follow the applied position {}", .applied.map_or_else(|| "none".to_owned(), |position| position.to_string()))]
    OutOfOrder {
        /// The entry.
        entry: LogPosition,
        /// What was applied before.
        applied: Option<LogPosition>,
    },
    /// An earlier write to this store failed, so that its content is unknown until it is opened again.
    #[error(
        "an earlier write to the store failed, it takes no more writes until it is opened again"
    )]
    Broken,
}

impl StateError {
    /// Whether there was no space: the store is as it was, and may be tried again once there is.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        match self {
            Self::Storage(StorageError::Io(error))
            | Self::Loader(LoaderError::Storage(StorageError::Io(error))) => {
                crate::disk::is_out_of_space(error)
            }
            Self::Io { source, .. } => crate::disk::is_out_of_space(source),
            _ => false,
        }
    }

    /// Whether a store fails so that is damaged or whose disk fails: what it holds can be rebuilt,
    /// and nothing that it still says is to be relied on.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Storage(_) | Self::Loader(LoaderError::Storage(_)) | Self::Inconsistent(_) => {
                !self.is_out_of_space()
            }
            Self::Loader(_)
            | Self::Io { .. }
            | Self::DamagedSnapshot(_)
            | Self::UnknownSnapshotVersion { .. }
            | Self::OutOfOrder { .. }
            | Self::Broken => false,
        }
    }

    /// Adds what was being done to an error of the operating system.
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }
}
