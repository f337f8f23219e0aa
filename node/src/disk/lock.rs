//! One process at a time on a volume.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

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
    _file: fs::File,
}

impl VolumeLock {
    /// Locks the volume at `data`.
    ///
    /// # Errors
    /// [`LockError::InUse`] when another process holds it.
    pub fn acquire(data: &Path) -> Result<Self, LockError> {
        let path = data.join("lock");
        let io_error = |source| LockError::Io {
            path: path.clone(),
            source,
        };
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(io_error)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(LockError::InUse { path }),
            Err(error) => Err(io_error(error.into())),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_until_the_first_lets_go() {
        let folder = tempfile::tempdir().unwrap();
        let first = VolumeLock::acquire(folder.path()).unwrap();
        assert!(matches!(
            VolumeLock::acquire(folder.path()),
            Err(LockError::InUse { .. })
        ));
        drop(first);
        VolumeLock::acquire(folder.path()).unwrap();
    }
}
