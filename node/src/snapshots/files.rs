//! The files, and the folder that they are in.

use std::io::{self, BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use super::keeper::SnapshotKeeper;
use crate::disk::{
    FileStream, Interrupted, OpenMode, SharedFileSystem, Throttle, ThrottledStream,
    create_directories, failed_sync, quarantine,
};
use crate::planted::{Bug, is_planted};
use crate::position::LogPosition;
use crate::state::{SnapshotSummary, State, StateError, read_snapshot_summary, verify_snapshot};

/// Bytes of a snapshot that are read at once while it is checked.
const CHECKED_BYTES: usize = 256 * 1024;

/// A whole snapshot on this volume. Also what openraft hands around as "the snapshot".
#[derive(Clone, Debug)]
pub(crate) struct SnapshotFile {
    file_system: SharedFileSystem,
    path: Arc<PathBuf>,
    summary: Arc<SnapshotSummary>,
    /// Whether all of it was read, and not its beginning alone: then the whole summary is known.
    is_read: bool,
    /// Who writes another one should this be damaged; none before the node runs.
    keeper: Weak<SnapshotKeeper>,
}

/// What reading a whole snapshot again said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SnapshotCheck {
    Whole,
    Damaged(String),
}

impl SnapshotFile {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this is what was read of the whole file.
    fn is_told_by(&self, read: &SnapshotSummary) -> bool {
        if self.is_read {
            return *read == *self.summary;
        }
        read.status == self.summary.status && read.bytes == self.summary.bytes
    }

    /// Its bytes. Whoever reads them can do so to the end, even if the file is removed meanwhile.
    pub(crate) fn open(&self) -> io::Result<FileStream> {
        let file = self.file_system.open(&self.path, OpenMode::Read)?;
        Ok(FileStream::new(file))
    }

    /// As [`Self::open`], with an error that names the file.
    pub(crate) fn open_for_reading(&self) -> Result<FileStream, SnapshotError> {
        self.open().map_err(Snapshots::io("open", &self.path))
    }

    /// The same snapshot, which knows who keeps it.
    pub(crate) fn kept_by(mut self, keeper: &Arc<SnapshotKeeper>) -> Self {
        self.keeper = Arc::downgrade(keeper);
        self
    }

    /// Its bytes, to be sent to a follower: only when all of them are what they should be. Reads
    /// the whole file.
    ///
    /// # Errors
    /// When it is damaged, which is seen to, or cannot be opened.
    pub(crate) fn open_to_send(&self) -> Result<FileStream, SnapshotError> {
        match self.keeper.upgrade() {
            Some(keeper) => keeper.open_to_send(self),
            None => self.open_for_reading(),
        }
    }

    /// Whether this is the very file that `other` is, and no later one at its place.
    pub(crate) fn is_the_same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.summary, &other.summary)
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
    /// Whether a version wrote it that this one does not know: then it is not damaged.
    pub(crate) fn is_unknown_format(&self) -> bool {
        matches!(
            self,
            Self::State { source, .. }
                if matches!(**source, StateError::UnknownSnapshotVersion { .. })
        )
    }

    pub(crate) fn state(path: &Path, source: StateError) -> Self {
        Self::State {
            path: path.to_owned(),
            source: Box::new(source),
        }
    }

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

    pub(crate) fn file_system(&self) -> &SharedFileSystem {
        &self.file_system
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
    /// One that a later version wrote is no damage: it is an error, and stays where it is.
    pub(crate) fn newest(&self) -> Result<(Option<SnapshotFile>, Vec<PathBuf>), SnapshotError> {
        let mut damaged = Vec::new();
        for path in self.list()?.0 {
            match self.verify(&path) {
                Ok(snapshot) => return Ok((Some(snapshot), damaged)),
                Err(error) if error.is_unknown_format() => return Err(error),
                Err(_) => damaged.push(path),
            }
        }
        Ok((None, damaged))
    }

    /// As [`Self::newest`], but a snapshot that nobody needs now, because what `covers` its position is
    /// there, is not read further than its beginning: scrubbing reads the rest.
    pub(crate) fn newest_unless_covered(
        &self,
        covers: impl Fn(Option<LogPosition>) -> bool,
    ) -> Result<(Option<SnapshotFile>, Vec<PathBuf>), SnapshotError> {
        if let Some(path) = self.list()?.0.first()
            && let Ok(snapshot) = self.look(path)
            && covers(snapshot.summary.status.applied)
        {
            return Ok((Some(snapshot), Vec::new()));
        }
        self.newest()
    }

    /// Reads the beginning of a snapshot.
    fn look(&self, path: &Path) -> Result<SnapshotFile, SnapshotError> {
        let file = self
            .file_system
            .open(path, OpenMode::Read)
            .map_err(Self::io("open", path))?;
        let bytes = file.length_bytes().map_err(Self::io("read", path))?;
        let mut reader = BufReader::new(FileStream::new(file));
        let summary = read_snapshot_summary(&mut reader)
            .map_err(|source| SnapshotError::state(path, source))?;
        Ok(SnapshotFile {
            file_system: self.file_system.clone(),
            path: Arc::new(path.to_owned()),
            summary: Arc::new(SnapshotSummary { bytes, ..summary }),
            is_read: false,
            keeper: Weak::new(),
        })
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
            is_read: true,
            keeper: Weak::new(),
        })
    }

    /// Reads a whole snapshot again, past the page cache: every chunk, and the digest of all quads.
    pub(crate) fn check(
        &self,
        snapshot: &SnapshotFile,
        throttle: &mut dyn Throttle,
    ) -> Result<SnapshotCheck, Interrupted> {
        let stream = match snapshot.open() {
            Ok(stream) => stream,
            Err(error) => return Ok(SnapshotCheck::Damaged(error.to_string())),
        };
        let mut stream = ThrottledStream::new(stream, throttle);
        let verified = verify_snapshot(&mut BufReader::with_capacity(CHECKED_BYTES, &mut stream));
        Ok(match verified {
            _ if stream.is_interrupted() => return Err(Interrupted),
            Ok(summary) if snapshot.is_told_by(&summary) => SnapshotCheck::Whole,
            Ok(_) => SnapshotCheck::Damaged("it holds another state than was written".to_owned()),
            // Whatever the reason, a snapshot that the disk does not give is of no use.
            Err(error) => SnapshotCheck::Damaged(error.to_string()),
        })
    }

    /// Moves a damaged snapshot out of the way, and says where it is now; nowhere when the file is
    /// gone.
    pub(crate) fn quarantine(
        &self,
        snapshot: &SnapshotFile,
    ) -> Result<Option<PathBuf>, SnapshotError> {
        let path = snapshot.path();
        let data = self.folder.parent().unwrap_or(&self.folder);
        let file_system = self.file_system.as_ref();
        let moved = file_system.exists(path).and_then(|exists| {
            exists
                .then(|| quarantine(file_system, data, path))
                .transpose()
        });
        moved.map_err(Self::io("move to quarantine", path))
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
                file.and_then(|stream| {
                    if is_planted(Bug::SnapshotNotSynced) {
                        return Ok(());
                    }
                    stream.file().sync().map_err(failed_sync)
                })
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
            is_read: true,
            keeper: Weak::new(),
        })
    }

    fn sync(&self) -> Result<(), SnapshotError> {
        if is_planted(Bug::SnapshotNameNotSynced) {
            return Ok(());
        }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::FileExt as _;

    use super::*;
    use crate::disk::{RealFileSystem, Unthrottled};

    #[test]
    fn of_a_snapshot_that_nobody_needs_the_beginning_is_read_and_scrubbing_reads_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let file_system: SharedFileSystem = Arc::new(RealFileSystem);
        let snapshots = Snapshots::open(&file_system, folder.path()).unwrap();
        let state = State::in_memory().unwrap();
        let built = snapshots.build(&state).unwrap();
        let (found, _) = snapshots.newest_unless_covered(|_| true).unwrap();
        let found = found.unwrap();
        assert_eq!(found.summary().status, built.summary().status);
        assert_eq!(found.summary().bytes, built.summary().bytes);
        let checked = snapshots.check(&found, &mut Unthrottled).unwrap();
        assert_eq!(checked, SnapshotCheck::Whole);

        let file = std::fs::File::options()
            .write(true)
            .open(built.path())
            .unwrap();
        file.write_all_at(b"?", built.summary().bytes - 1).unwrap();
        let (found, damaged) = snapshots.newest_unless_covered(|_| true).unwrap();
        assert!(damaged.is_empty());
        let checked = snapshots.check(&found.unwrap(), &mut Unthrottled).unwrap();
        assert!(matches!(checked, SnapshotCheck::Damaged(_)), "{checked:?}");
        // Whoever needs it is told.
        let (found, damaged) = snapshots.newest_unless_covered(|_| false).unwrap();
        assert!(found.is_none() && damaged == [built.path().to_owned()]);
        // A beginning that cannot be read is damage at once.
        file.write_all_at(b"????????", 0).unwrap();
        let (found, damaged) = snapshots.newest_unless_covered(|_| true).unwrap();
        assert!(found.is_none() && damaged.len() == 1);
    }
}
