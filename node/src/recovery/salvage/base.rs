//! The newest data on a volume that is whole: a copy of its store, or a snapshot.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::super::store::{DerivedError, install};
use super::{Progress, SalvageError, SalvageReport, nothing};
use crate::describe::describe;
use crate::disk::{SharedFileSystem, Unthrottled};
use crate::log::InspectedLog;
use crate::planted::{Bug, is_planted};
use crate::position::LogPosition;
use crate::snapshots::{SnapshotFile, Snapshots};
use crate::state::{State, StateError, StoreScrub, copy_store};

/// A store in `scratch` with the newest of what is whole.
pub(super) fn newest_whole(
    file_system: &SharedFileSystem,
    data: &Path,
    scratch: &Path,
    log: Option<&InspectedLog>,
    report: &mut SalvageReport,
    progress: Progress<'_>,
) -> Result<State, SalvageError> {
    let snapshot = newest_snapshot(file_system, data, report)?;
    let in_snapshot = snapshot
        .as_ref()
        .and_then(|snapshot| snapshot.summary().status.applied);
    let path = data.join("store");
    let copy = scratch.join("copy");
    match copied(&path, &copy, in_snapshot, progress) {
        Ok(state) => {
            report.source = path.display().to_string();
            return Ok(state);
        }
        Err(Unusable::Scratch(error)) => return Err(SalvageError::Scratch(error)),
        Err(Unusable::Store(what)) => report
            .passed_over
            .push(format!("{}: {what}", path.display())),
    }
    // Nothing of it is wanted any more, and the next needs the space.
    remove(&copy).map_err(SalvageError::Scratch)?;
    let state = State::open(&scratch.join("rebuilt")).map_err(SalvageError::Scratch)?;
    match snapshot {
        Some(snapshot) => {
            progress("installing a snapshot", 0, 1);
            install(&state, &snapshot).map_err(from_snapshot)?;
            report.source = snapshot.path().display().to_string();
            Ok(state)
        }
        None if log.is_some_and(|log| log.contents.purged().is_none()) => {
            report.source = data.join("log").display().to_string();
            Ok(state)
        }
        None => Err(nothing(
            report,
            "the log does not go back to its first entry",
        )),
    }
}

/// The snapshot was verified: what fails now is the scratch, or a disk that gives something else each
/// time.
fn from_snapshot(error: DerivedError) -> SalvageError {
    match error {
        DerivedError::State(error) => SalvageError::Scratch(error),
        error => SalvageError::Nothing(describe(&error)),
    }
}

fn newest_snapshot(
    file_system: &SharedFileSystem,
    data: &Path,
    report: &mut SalvageReport,
) -> Result<Option<SnapshotFile>, SalvageError> {
    let folder = data.join("snapshots");
    let found = match file_system.exists(&folder) {
        Ok(false) => return Ok(None),
        Ok(true) => Snapshots::of(file_system, data).newest(),
        Err(error) => {
            report
                .passed_over
                .push(format!("{}: {error}", folder.display()));
            return Ok(None);
        }
    };
    match found {
        Ok((newest, damaged)) => {
            let damaged = damaged.iter();
            let damaged = damaged.map(|path| format!("{} is damaged", path.display()));
            report.passed_over.extend(damaged);
            Ok(newest)
        }
        Err(error) if error.is_unknown_format() => {
            Err(SalvageError::UnknownFormat(describe(&error)))
        }
        Err(error) => {
            report.passed_over.push(describe(&error));
            Ok(None)
        }
    }
}

enum Unusable {
    /// The store of the volume is not to be used.
    Store(String),
    /// The folder that it is copied to is not.
    Scratch(StateError),
}

/// A copy of the store at `path`, all of whose quads were compared with its digest, and that is not
/// behind the newest snapshot.
fn copied(
    path: &Path,
    copy: &Path,
    in_snapshot: Option<LogPosition>,
    progress: Progress<'_>,
) -> Result<State, Unusable> {
    let failed = |error: StateError| match error.is_out_of_space() {
        true => Unusable::Scratch(error),
        false => Unusable::Store(error.to_string()),
    };
    let is_there = copy_store(path, copy, &mut |done, total| {
        progress("copying the store", done, total);
    })
    .map_err(failed)?;
    if !is_there {
        return Err(Unusable::Store("there is no store".to_owned()));
    }
    let state = State::open(copy).map_err(failed)?;
    if state.applied().is_none() {
        return Err(Unusable::Store("nothing was applied to it".to_owned()));
    }
    if state.applied() < in_snapshot {
        return Err(Unusable::Store(
            "it is behind the newest snapshot".to_owned(),
        ));
    }
    if is_planted(Bug::FalseStoreExported) {
        return Ok(state);
    }
    let scrub = state.scrub(&mut Unthrottled, &mut |done, total| {
        progress("comparing the store with its digest", done, total);
    });
    match scrub {
        Ok(StoreScrub::Whole { .. }) => Ok(state),
        Ok(StoreScrub::Damaged { what, .. }) => Err(Unusable::Store(what)),
        Ok(StoreScrub::Replaced) | Err(_) => Err(Unusable::Store(
            "it could not be read to its end".to_owned(),
        )),
    }
}

fn remove(path: &PathBuf) -> Result<(), StateError> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(StateError::Io {
            action: format!("could not remove {}", path.display()),
            source,
        }),
        _ => Ok(()),
    }
}
