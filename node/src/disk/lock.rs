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

    /// Locks a volume that must not change: no lock is made where there is none, or where the file
    /// system takes no writes.
    ///
    /// # Errors
    /// As [`Self::acquire`].
    pub fn acquire_existing(
        file_system: &dyn FileSystem,
        data: &Path,
    ) -> Result<Option<Self>, LockError> {
        let path = data.join("lock");
        match file_system.exists(&path) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(source) => return Err(LockError::Io { path, source }),
        }
        match Self::acquire(file_system, data) {
            Ok(lock) => Ok(Some(lock)),
            Err(LockError::Io { source, .. })
                if source.kind() == io::ErrorKind::ReadOnlyFilesystem =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
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
        assert!(matches!(
            VolumeLock::acquire_existing(&RealFileSystem, folder.path()),
            Err(LockError::InUse { .. })
        ));
        drop(first);
        VolumeLock::acquire(&RealFileSystem, folder.path()).unwrap();
    }

    #[test]
    fn a_volume_that_must_not_change_gets_no_lock_that_it_has_not() {
        let folder = tempfile::tempdir().unwrap();
        let lock = || VolumeLock::acquire_existing(&RealFileSystem, folder.path()).unwrap();
        assert!(lock().is_none());
        assert!(!folder.path().join("lock").exists());
        drop(VolumeLock::acquire(&RealFileSystem, folder.path()).unwrap());
        let held = lock();
        assert!(held.is_some());
        assert!(matches!(
            VolumeLock::acquire(&RealFileSystem, folder.path()),
            Err(LockError::InUse { .. })
        ));
    }
}
