//! The store and the snapshots: what is derived, and may be dropped and rebuilt.

use std::path::Path;

use quadraft_protocol::RecoveryReport;

use super::volume::{OpenOptions, StorePlace};
use crate::disk::{
    FileSystem, OpenMode, SharedFileSystem, quarantine, read_exact_at, remove_durably,
    write_durably,
};
use crate::position::LogPosition;
use crate::snapshots::{SnapshotError, SnapshotFile, Snapshots};
use crate::state::{State, StateError};

/// Why derived data could not be opened or rebuilt.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DerivedError {
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("the store cannot be used")]
    State(#[from] StateError),
    #[error("failed to move {what} to quarantine")]
    Quarantine {
        what: String,
        source: std::io::Error,
    },
}

impl DerivedError {
    /// Whether a version wrote it that this one does not know.
    pub(crate) fn is_unknown_format(&self) -> bool {
        matches!(self, Self::Snapshot(error) if error.is_unknown_format())
    }

    /// Whether nothing is wrong but that the disk is full.
    pub(crate) fn is_out_of_space(&self) -> bool {
        match self {
            Self::Snapshot(error) => error.is_out_of_space(),
            Self::State(error) => error.is_out_of_space(),
            Self::Quarantine { source, .. } => crate::disk::is_out_of_space(source),
        }
    }
}

/// Opens the newest snapshot; damaged ones go to quarantine. One whose position is covered is not needed
/// now, and its beginning is enough.
pub(crate) fn open_snapshots(
    file_system: &SharedFileSystem,
    data: &Path,
    covers: impl Fn(Option<LogPosition>) -> bool,
    report: &mut RecoveryReport,
) -> Result<(Snapshots, Option<SnapshotFile>), DerivedError> {
    let snapshots = Snapshots::open(file_system, data)?;
    snapshots.remove_unfinished()?;
    let (newest, damaged) = snapshots.newest_unless_covered(covers)?;
    for path in damaged {
        report.corrupted_files.push(path.display().to_string());
        move_away(file_system.as_ref(), data, &path, report)?;
    }
    Ok((snapshots, newest))
}

/// Opens the store; one that cannot be opened goes to quarantine, and an empty one takes its place,
/// to be filled from the snapshot and the log.
pub(crate) fn open_store(
    file_system: &dyn FileSystem,
    options: &OpenOptions,
    report: &mut RecoveryReport,
) -> Result<State, DerivedError> {
    if options.store == StorePlace::Memory {
        return Ok(State::in_memory()?);
    }
    let data = options.data.as_path();
    let path = data.join("store");
    obey_rebuild_order(file_system, data, report)?;
    match State::open(&path) {
        Ok(state) => Ok(state),
        // A full disk is no damage.
        Err(error) if error.is_out_of_space() => Err(error.into()),
        Err(error) => {
            tracing::warn!(%error, "the store cannot be opened and is rebuilt");
            report
                .corrupted_files
                .push(format!("{}: {error}", path.display()));
            move_store_away(file_system, data, &path, report)?;
            report.state_machine_repaired = true;
            Ok(State::open(&path)?)
        }
    }
}

/// Where an order to rebuild the store is left for the next start.
fn rebuild_order(data: &Path) -> std::path::PathBuf {
    data.join("store.rebuild")
}

/// Has the next start move the store to quarantine and rebuild it; durable when it returns.
///
/// # Errors
/// Those of the operating system.
pub(crate) fn order_rebuild(
    file_system: &dyn FileSystem,
    data: &Path,
    reason: &str,
) -> std::io::Result<()> {
    write_durably(file_system, &rebuild_order(data), reason.as_bytes())
}

/// Why the rebuild was ordered, in words.
fn read_reason(file_system: &dyn FileSystem, order: &Path) -> std::io::Result<String> {
    let file = file_system.open(order, OpenMode::Read)?;
    let length = usize::try_from(file.length_bytes()?.min(4096)).unwrap_or(0);
    let bytes = read_exact_at(file.as_ref(), 0, length)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A crash on the way moves an empty store to quarantine as well, which costs nothing.
fn obey_rebuild_order(
    file_system: &dyn FileSystem,
    data: &Path,
    report: &mut RecoveryReport,
) -> Result<(), DerivedError> {
    let order = rebuild_order(data);
    let failed = |source| DerivedError::Quarantine {
        what: "a damaged store".to_owned(),
        source,
    };
    if !file_system.exists(&order).map_err(failed)? {
        return Ok(());
    }
    let path = data.join("store");
    tracing::warn!("the store was found to be damaged and is rebuilt");
    let reason = read_reason(file_system, &order).unwrap_or_default();
    report
        .corrupted_files
        .push(format!("{}: {reason}", path.display()));
    if file_system.exists(&path).map_err(failed)? {
        move_store_away(file_system, data, &path, report)?;
    }
    report.state_machine_repaired = true;
    remove_durably(file_system, &order).map_err(failed)
}

/// A store is derived: the one that was moved last is kept for a person to look at, and no others,
/// which would fill the volume.
fn move_store_away(
    file_system: &dyn FileSystem,
    data: &Path,
    path: &Path,
    report: &mut RecoveryReport,
) -> Result<(), DerivedError> {
    let kept = move_away(file_system, data, path, report)?;
    let others = std::fs::read_dir(data.join("quarantine"))
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|other| *other != kept && other.is_dir())
        .filter(|other| other.file_stem() == path.file_name());
    for other in others {
        if let Err(error) = std::fs::remove_dir_all(&other) {
            // Not fatal: it takes space and nothing else.
            tracing::warn!(%error, path = %other.display(), "a store in quarantine is not removed");
        }
    }
    Ok(())
}

fn move_away(
    file_system: &dyn FileSystem,
    data: &Path,
    path: &Path,
    report: &mut RecoveryReport,
) -> Result<std::path::PathBuf, DerivedError> {
    let kept = quarantine(file_system, data, path).map_err(|source| DerivedError::Quarantine {
        what: path.display().to_string(),
        source,
    })?;
    report
        .recovered_files
        .push(format!("{} (kept as {})", path.display(), kept.display()));
    Ok(kept)
}

/// Replaces the store's content by the snapshot's.
pub(crate) fn install(state: &State, snapshot: &SnapshotFile) -> Result<(), DerivedError> {
    let file = snapshot.open().map_err(|source| SnapshotError::Io {
        action: "open",
        path: snapshot.path().to_owned(),
        source,
    })?;
    state.install_snapshot(&mut std::io::BufReader::with_capacity(1024 * 1024, file))?;
    Ok(())
}
