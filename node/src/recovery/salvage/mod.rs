//! What a volume holds, put together in another folder without changing the volume: for one that no
//! node can serve from.
//!
//! The newest that is whole is taken, of the store, the snapshots, and nothing at all where the log
//! goes back to its first entry. The entries of the log that follow are applied to it, as far as they
//! can be read and the volume knows them to be committed.

mod base;
mod following;
#[cfg(test)]
mod tests;

use std::path::Path;

use quadraft_protocol::NodeId;
use serde::Serialize;

use super::volume::log_identity;
use crate::describe::describe;
use crate::disk::{OpenMode, SharedFileSystem, TwinError};
use crate::identity::{IdentityError, Superblock, SuperblockFile, VolumeState};
use crate::log::{InspectedLog, LogError, inspect_log};
use crate::state::{State, StateError};

/// What was put together, and what was not.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct SalvageReport {
    pub(crate) node_id: Option<NodeId>,
    pub(crate) cluster_uuid: Option<String>,
    /// What the data was taken from, before entries of the log were applied to it.
    pub(crate) source: String,
    /// The last entry that is in the data.
    pub(crate) applied: Option<String>,
    /// Entries of the log that were applied to the source.
    pub(crate) replayed_entries: u64,
    /// What could not be used; the data does not lack anything for it.
    pub(crate) passed_over: Vec<String>,
    /// What this volume is known to have held, or may have held, and the data lacks.
    pub(crate) left_out: Vec<String>,
    /// Entries at the end of the log that may never have been committed, and are not in the data.
    pub(crate) uncommitted: Option<String>,
}

impl SalvageReport {
    /// Whether the data has everything that this volume knows to be committed.
    #[must_use]
    pub(crate) fn is_complete(&self) -> bool {
        self.left_out.is_empty()
    }
}

/// Why nothing could be put together.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SalvageError {
    #[error("a restore onto this volume has not finished: the data is in its backup")]
    RestoreIncomplete,
    /// Nothing is known to be damaged.
    #[error("a later version wrote this volume: {0}")]
    UnknownFormat(String),
    #[error("the volume has no data that could be used: {0}")]
    Nothing(String),
    #[error("the folder for the copy of the store cannot be used")]
    Scratch(#[source] StateError),
}

/// How far a salvage is: what is being done, how much of it, and out of how much.
pub(crate) type Progress<'a> = &'a mut dyn FnMut(&'static str, u64, u64);

/// Puts together in the empty folder `scratch` what the volume at `data` holds. Writes nothing to the
/// volume; the caller holds its lock.
///
/// # Errors
/// When there is nothing to be had, or `scratch` cannot be written to.
pub(crate) fn salvage(
    file_system: &SharedFileSystem,
    data: &Path,
    scratch: &Path,
    progress: Progress<'_>,
) -> Result<(State, SalvageReport), SalvageError> {
    let mut report = SalvageReport::default();
    let identity = read_identity(file_system, data, &mut report)?;
    let log = match &identity {
        Some(identity) => read_log(file_system, data, identity, &mut report)?,
        None => None,
    };
    let state = base::newest_whole(
        file_system,
        data,
        scratch,
        log.as_ref(),
        &mut report,
        progress,
    )?;
    if let (Some(identity), Some(log)) = (&identity, &log) {
        following::apply(identity.node_id, log, &state, &mut report, progress)?;
    }
    let Some(applied) = state.applied() else {
        return Err(nothing(&report, "nothing in its log can be applied"));
    };
    report.applied = Some(applied.to_string());
    Ok((state, report))
}

/// There is nothing to be had; all that was found out says why.
fn nothing(report: &SalvageReport, why: &str) -> SalvageError {
    let found = report.passed_over.iter().chain(&report.left_out);
    let reasons: Vec<&str> = found.map(String::as_str).chain([why]).collect();
    SalvageError::Nothing(reasons.join("; "))
}

fn read_identity(
    file_system: &SharedFileSystem,
    data: &Path,
    report: &mut SalvageReport,
) -> Result<Option<Superblock>, SalvageError> {
    let superblock = match SuperblockFile::open(file_system.as_ref(), data, OpenMode::Read) {
        Ok(Some((file, _))) => file.current().clone(),
        Ok(None) => {
            report.left_out.push(
                "whatever is in the log alone: there is no superblock to read it by".to_owned(),
            );
            return Ok(None);
        }
        Err(error @ IdentityError::Twin(TwinError::UnknownFormat { .. })) => {
            return Err(SalvageError::UnknownFormat(describe(&error)));
        }
        Err(error) => {
            report.left_out.push(format!(
                "whatever is in the log alone: {}",
                describe(&error)
            ));
            return Ok(None);
        }
    };
    report.node_id = Some(superblock.node_id);
    report.cluster_uuid = Some(superblock.cluster_uuid.to_string());
    if superblock.state == VolumeState::Restoring {
        return Err(SalvageError::RestoreIncomplete);
    }
    Ok(Some(superblock))
}

fn read_log(
    file_system: &SharedFileSystem,
    data: &Path,
    identity: &Superblock,
    report: &mut SalvageReport,
) -> Result<Option<InspectedLog>, SalvageError> {
    match inspect_log(
        file_system,
        &data.join("log"),
        log_identity(identity),
        identity.made_promises,
    ) {
        Ok(log) => Ok(Some(log)),
        Err(error @ LogError::UnknownFormat { .. }) => {
            Err(SalvageError::UnknownFormat(describe(&error)))
        }
        Err(error) => {
            report.left_out.push(format!(
                "whatever is in the log alone: {}",
                describe(&error)
            ));
            Ok(None)
        }
    }
}
