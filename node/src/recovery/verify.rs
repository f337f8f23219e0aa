//! Reading a whole volume without changing anything.

use std::path::Path;
use std::time::Instant;

use quadraft_protocol::{ExitCode, NodeId};
use serde::Serialize;

use super::order::{Positions, judge};
use super::volume::log_identity;
use crate::describe::describe;
use crate::disk::{OpenMode, SharedFileSystem, TwinError};
use crate::identity::{IdentityError, SuperblockFile, VolumeState, VoteError, VoteFile};
use crate::log::{InspectedLog, LogError, inspect_log};
use crate::snapshots::Snapshots;

/// What `verify` found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct VerifyReport {
    pub node_id: Option<NodeId>,
    pub cluster_uuid: Option<String>,
    pub boot_count: u64,
    pub vote: Option<String>,
    pub log_first_index: Option<u64>,
    pub log_last: Option<String>,
    pub log_entries: usize,
    pub log_purged: Option<String>,
    pub log_committed: Option<String>,
    pub torn_tail_bytes: u64,
    pub snapshot: Option<String>,
    pub snapshot_digest: Option<String>,
    /// The store's own files are checked when it is opened by `serve`; opening it writes.
    pub store_present: bool,
    /// Damage that `serve` mends by itself.
    pub mendable: Vec<String>,
    /// Damage for which the volume is refused.
    pub damage: Vec<String>,
    /// What has a format that this version does not know. Nothing is known to be damaged.
    pub unknown_formats: Vec<String>,
    pub duration_ms: u64,
}

impl VerifyReport {
    /// Whether nothing at all was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.mendable.is_empty() && self.damage.is_empty() && self.unknown_formats.is_empty()
    }

    /// The exit code of a command that only looks.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        if !self.unknown_formats.is_empty() {
            ExitCode::WrongIdentity
        } else if self.is_clean() {
            ExitCode::Success
        } else {
            ExitCode::DamageFound
        }
    }

    /// Notes why something could not be read.
    fn note(&mut self, error: &(dyn std::error::Error + 'static), is_unknown_format: bool) {
        let list = if is_unknown_format {
            &mut self.unknown_formats
        } else {
            &mut self.damage
        };
        list.push(describe(error));
    }
}

/// Verifies superblock, vote, every record of the log, and the snapshots; writes nothing.
#[must_use]
pub fn verify_volume(file_system: &SharedFileSystem, data: &Path) -> VerifyReport {
    let started = Instant::now();
    let mut report = VerifyReport::default();
    read_volume(file_system, data, &mut report);
    report.duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    report
}

fn read_volume(file_system: &SharedFileSystem, data: &Path, report: &mut VerifyReport) {
    report.store_present = file_system.exists(&data.join("store")).unwrap_or(false);
    let superblock = match SuperblockFile::open(file_system.as_ref(), data, OpenMode::Read) {
        Ok(Some((file, stale_copy))) => {
            if let Some(copy) = stale_copy {
                report.mendable.push(format!(
                    "copy {copy} of the superblock is damaged or outdated"
                ));
            }
            file.current().clone()
        }
        Ok(None) => {
            report.damage.push("there is no superblock".to_owned());
            return;
        }
        Err(error) => {
            let unknown = matches!(error, IdentityError::Twin(TwinError::UnknownFormat { .. }));
            report.note(&error, unknown);
            return;
        }
    };
    report.node_id = Some(superblock.node_id);
    report.cluster_uuid = Some(superblock.cluster_uuid.to_string());
    report.boot_count = superblock.boot_count;
    match superblock.state {
        VolumeState::Normal => {}
        VolumeState::Restoring => report.damage.push("a restore has not finished".to_owned()),
        VolumeState::SetBack => report
            .damage
            .push("the volume was set back to an earlier state".to_owned()),
    }

    let mut positions = Positions::default();
    match VoteFile::open_promised(
        file_system.clone(),
        data,
        OpenMode::Read,
        superblock.made_promises,
    ) {
        Ok((vote, stale_copy)) => {
            if let Some(copy) = stale_copy {
                report
                    .mendable
                    .push(format!("copy {copy} of the vote is damaged or outdated"));
            }
            positions.vote_term = vote.current().map(|vote| vote.term);
            report.vote = vote
                .current()
                .map(|vote| format!("term {} for {}", vote.term, vote.candidate));
        }
        Err(error) => {
            let unknown = matches!(error, VoteError::Twin(TwinError::UnknownFormat { .. }));
            report.note(&error, unknown);
        }
    }
    let mut log_is_whole = false;
    match inspect_log(
        file_system,
        &data.join("log"),
        log_identity(&superblock),
        superblock.made_promises,
    ) {
        Ok(InspectedLog {
            contents, findings, ..
        }) => {
            log_is_whole = true;
            positions.last = contents.last();
            positions.purged = contents.purged();
            positions.committed = contents.committed();
            report.log_entries = contents.len();
            report.log_first_index = contents.first().map(|entry| entry.position.index);
            report.log_last = contents.last().map(|position| position.to_string());
            report.log_purged = contents.purged().map(|position| position.to_string());
            report.log_committed = contents.committed().map(|position| position.to_string());
            report.mendable.extend(findings.mended);
            for entry in contents.unreadable() {
                report.damage.push(format!(
                    "entry {} cannot be read; a peer may have it",
                    entry.position
                ));
            }
            if let Some(torn) = findings.torn_tail {
                report.torn_tail_bytes = torn.bytes;
                report.mendable.push(format!(
                    "{} has a torn tail of {} bytes at byte {}",
                    torn.path.display(),
                    torn.bytes,
                    torn.offset_bytes
                ));
            }
        }
        Err(error) => {
            let unknown = matches!(error, LogError::UnknownFormat { .. });
            report.note(&error, unknown);
        }
    }
    match file_system.exists(&data.join("snapshots")) {
        Ok(true) => read_snapshots(file_system, data, report, &mut positions),
        Ok(false) => {}
        Err(error) => report.damage.push(describe(&error)),
    }
    // What the store has applied is read by `serve`; here the log and the snapshot vouch for it.
    positions.applied = positions.snapshot.max(positions.purged);
    if log_is_whole
        && report.unknown_formats.is_empty()
        && let Err(error) = judge(&positions)
    {
        report.damage.push(error.to_string());
    }
}

fn read_snapshots(
    file_system: &SharedFileSystem,
    data: &Path,
    report: &mut VerifyReport,
    positions: &mut Positions,
) {
    match Snapshots::of(file_system, data).newest() {
        Ok((newest, damaged)) => {
            for path in damaged {
                report
                    .mendable
                    .push(format!("{} is damaged", path.display()));
            }
            if let Some(newest) = newest {
                let status = &newest.summary().status;
                positions.snapshot = status.applied;
                report.snapshot = status.applied.map(|position| position.to_string());
                report.snapshot_digest = Some(status.digest.to_string());
            }
        }
        Err(error) => report.note(&error, error.is_unknown_format()),
    }
}

/// The last `count` entries of a volume's log by name and size; none when the log is damaged.
#[must_use]
pub fn list_entries(
    file_system: &SharedFileSystem,
    data: &Path,
    superblock: &crate::identity::Superblock,
    count: usize,
) -> Vec<String> {
    let Ok(InspectedLog { contents, .. }) = inspect_log(
        file_system,
        &data.join("log"),
        log_identity(superblock),
        false,
    ) else {
        return Vec::new();
    };
    let Some(last) = contents.last() else {
        return Vec::new();
    };
    let first = (last.index + 1).saturating_sub(count as u64);
    (first..=last.index)
        .filter_map(|index| contents.get(index))
        .map(|entry| format!("{} ({} bytes)", entry.position, entry.payload_bytes))
        .collect()
}
