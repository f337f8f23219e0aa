//! Snapshot files: made here or received from the leader, kept until a newer one is durable.
//!
//! A snapshot stands in `snapshots/TERM-INDEX.snapshot` and its content is the state module's
//! format. It is written beside its place, fsynced and renamed, so that a file of that name is
//! whole; its checksums are verified whenever it is put to use.

use std::io::{self, BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{FileStream, OpenMode, SharedFileSystem, create_directories, failed_sync};
use crate::position::LogPosition;
use crate::state::{SnapshotSummary, State, StateError, verify_snapshot};

/// A whole snapshot on this volume. Also what openraft hands around as "the snapshot".
#[derive(Clone, Debug)]
pub(crate) struct SnapshotFile {
    file_system: SharedFileSystem,
    path: Arc<PathBuf>,
    summary: Arc<SnapshotSummary>,
}

impl SnapshotFile {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its bytes. Whoever reads them can do so to the end, even if the file is removed meanwhile.
    pub(crate) fn open(&self) -> io::Result<FileStream> {
        let file = self.file_system.open(&self.path, OpenMode::Read)?;
        Ok(FileStream::new(file))
    }

    pub(crate) fn summary(&self) -> &SnapshotSummary {
        &self.summary
    }
}

/// Why a snapshot could not be written or used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("failed to {action} {path}", path = path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{path} cannot be used", path = path.display())]
    State {
        path: PathBuf,
        source: Box<StateError>,
    },
    #[error("{path} holds the state at {found:?}, expected {expected:?}", path = path.display())]
    OtherPosition {
        path: PathBuf,
        found: Option<LogPosition>,
        expected: Option<LogPosition>,
    },
}

impl SnapshotError {
    /// Whether there was no space: nothing is changed, and it may be tried again once there is.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        match self {
            Self::Io { source, .. } => crate::disk::is_out_of_space(source),
            Self::State { source, .. } => source.is_out_of_space(),
            Self::OtherPosition { .. } => false,
        }
    }
}

/// The folder of snapshots of one volume.
#[derive(Clone, Debug)]
pub(crate) struct Snapshots {
    file_system: SharedFileSystem,
    folder: PathBuf,
}

impl Snapshots {
    pub(crate) fn open(file_system: &SharedFileSystem, data: &Path) -> Result<Self, SnapshotError> {
        let snapshots = Self::of(file_system, data);
        create_directories(file_system.as_ref(), &snapshots.folder)
            .map_err(Self::io("create", &snapshots.folder))?;
        Ok(snapshots)
    }

    /// The folder of a volume where nothing may be written.
    pub(crate) fn of(file_system: &SharedFileSystem, data: &Path) -> Self {
        Self {
            file_system: file_system.clone(),
            folder: data.join("snapshots"),
        }
    }

    fn path_at(&self, position: Option<LogPosition>) -> PathBuf {
        let position = position.unwrap_or_default();
        self.folder.join(format!(
            "{:020}-{:020}.snapshot",
            position.term, position.index
        ))
    }

    fn io<'a>(
        action: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> SnapshotError + 'a {
        move |source| SnapshotError::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// Files that look like snapshots by name, newest first, and those left unfinished.
    fn list(&self) -> Result<(Vec<PathBuf>, Vec<PathBuf>), SnapshotError> {
        let mut whole = Vec::new();
        let mut unfinished = Vec::new();
        let paths = self
            .file_system
            .list(&self.folder)
            .map_err(Self::io("list", &self.folder))?;
        for path in paths {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("snapshot") => whole.push(path),
                Some("new") => unfinished.push(path),
                _ => {}
            }
        }
        whole.sort();
        whole.reverse();
        Ok((whole, unfinished))
    }

    /// Verifies the newest snapshot; those that are damaged are returned by path and passed over.
    pub(crate) fn newest(&self) -> Result<(Option<SnapshotFile>, Vec<PathBuf>), SnapshotError> {
        let mut damaged = Vec::new();
        for path in self.list()?.0 {
            match self.verify(&path) {
                Ok(snapshot) => return Ok((Some(snapshot), damaged)),
                Err(_) => damaged.push(path),
            }
        }
        Ok((None, damaged))
    }

    /// Removes what a crash left unfinished.
    pub(crate) fn remove_unfinished(&self) -> Result<(), SnapshotError> {
        for path in self.list()?.1 {
            self.file_system
                .remove_file(&path)
                .map_err(Self::io("remove", &path))?;
        }
        Ok(())
    }

    fn verify(&self, path: &Path) -> Result<SnapshotFile, SnapshotError> {
        let file = self
            .file_system
            .open(path, OpenMode::Read)
            .map_err(Self::io("open", path))?;
        file.forget_cached().map_err(Self::io("read", path))?;
        let mut reader = BufReader::with_capacity(1024 * 1024, FileStream::new(file));
        let summary = verify_snapshot(&mut reader).map_err(|source| SnapshotError::State {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        Ok(SnapshotFile {
            file_system: self.file_system.clone(),
            path: Arc::new(path.to_owned()),
            summary: Arc::new(summary),
        })
    }

    /// Writes the state as a new snapshot. The store is flushed first: from now on the log below
    /// the snapshot may be purged.
    pub(crate) fn build(&self, state: &State) -> Result<SnapshotFile, SnapshotError> {
        let temporary = self.folder.join(format!("{}.new", uuid::Uuid::new_v4()));
        let state_error = |source| SnapshotError::State {
            path: temporary.clone(),
            source: Box::new(source),
        };
        state.flush().map_err(state_error)?;
        let file = self.create(&temporary)?;
        let mut writer = BufWriter::with_capacity(1024 * 1024, file);
        let written = state
            .write_snapshot(&mut writer)
            .map_err(state_error)
            .and_then(|summary| {
                let file = writer.into_inner().map_err(io::IntoInnerError::into_error);
                file.and_then(|stream| stream.file().sync().map_err(failed_sync))
                    .map_err(Self::io("write", &temporary))?;
                Ok(summary)
            });
        match written {
            Ok(summary) => self.put_in_place(&temporary, summary),
            Err(error) => {
                // What was taken of a full disk is given back.
                self.discard(&temporary)?;
                Err(error)
            }
        }
    }

    fn create(&self, path: &Path) -> Result<FileStream, SnapshotError> {
        self.file_system
            .open(path, OpenMode::CreateNew)
            .map(FileStream::new)
            .map_err(Self::io("create", path))
    }

    /// A new file to receive a snapshot into.
    pub(crate) fn receive(&self) -> Result<(PathBuf, FileStream), SnapshotError> {
        let path = self.folder.join(format!("{}.new", uuid::Uuid::new_v4()));
        let stream = self.create(&path)?;
        Ok((path, stream))
    }

    /// Removes a received file that is not wanted.
    pub(crate) fn discard(&self, received: &Path) -> Result<(), SnapshotError> {
        self.file_system
            .remove_file(received)
            .map_err(Self::io("remove", received))
    }

    /// Verifies a received file, which must be synced, and puts it in its place.
    pub(crate) fn accept(
        &self,
        received: &Path,
        expected: Option<LogPosition>,
    ) -> Result<SnapshotFile, SnapshotError> {
        let snapshot = self.verify(received)?;
        if snapshot.summary.status.applied != expected {
            return Err(SnapshotError::OtherPosition {
                path: received.to_owned(),
                found: snapshot.summary.status.applied,
                expected,
            });
        }
        self.put_in_place(received, (*snapshot.summary).clone())
    }

    fn put_in_place(
        &self,
        temporary: &Path,
        summary: SnapshotSummary,
    ) -> Result<SnapshotFile, SnapshotError> {
        let path = self.path_at(summary.status.applied);
        self.file_system
            .rename(temporary, &path)
            .map_err(Self::io("rename", temporary))?;
        self.sync()?;
        Ok(SnapshotFile {
            file_system: self.file_system.clone(),
            path: Arc::new(path),
            summary: Arc::new(summary),
        })
    }

    fn sync(&self) -> Result<(), SnapshotError> {
        self.file_system
            .sync_directory(&self.folder)
            .map_err(Self::io("sync", &self.folder))
    }

    /// Removes snapshots older than `newest`. Whoever still reads one keeps its open file.
    pub(crate) fn remove_older_than(&self, newest: &SnapshotFile) -> Result<(), SnapshotError> {
        for path in self.list()?.0 {
            if path < *newest.path {
                self.file_system
                    .remove_file(&path)
                    .map_err(Self::io("remove", &path))?;
            }
        }
        self.sync()
    }
}
