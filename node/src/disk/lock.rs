//! One process at a time on a volume.

use std::io;
use std::path::{Path, PathBuf};

use super::{FileLock, FileSystem};
use crate::planted::{Bug, is_planted};

/// Why a volume could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("another process uses the volume: {path} is locked", path = path.display())]
    InUse { path: PathBuf },
    #[error("failed to lock {path}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// Holds the volume for this process until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct VolumeLock {
    _lock: Box<dyn FileLock>,
}

impl VolumeLock {
    /// Locks the volume at `data`.
    ///
    /// # Errors
    /// [`LockError::InUse`] when another process holds it.
    pub fn acquire(file_system: &dyn FileSystem, data: &Path) -> Result<Self, LockError> {
        let path = if is_planted(Bug::LockIgnored) {
            data.join(format!("lock-{}", uuid::Uuid::new_v4()))
        } else {
            data.join("lock")
        };
        match file_system.lock(&path) {
            Ok(Some(lock)) => Ok(Self { _lock: lock }),
            Ok(None) => Err(LockError::InUse { path }),
            Err(source) => Err(LockError::Io { path, source }),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::RealFileSystem;
    use super::*;

    #[test]
    fn a_second_holder_is_refused_until_the_first_lets_go() {
        let folder = tempfile::tempdir().unwrap();
        let first = VolumeLock::acquire(&RealFileSystem, folder.path()).unwrap();
        assert!(matches!(
            VolumeLock::acquire(&RealFileSystem, folder.path()),
            Err(LockError::InUse { .. })
        ));
        drop(first);
        VolumeLock::acquire(&RealFileSystem, folder.path()).unwrap();
    }
}
