//! Opening a volume: identity, vote, log, store and snapshot, in this order.

use std::path::{Path, PathBuf};
use std::time::Instant;

use quadraft_protocol::{NodeId, RecoveryOutcome, RecoveryReport, RefusalReason};
use uuid::Uuid;

use super::let_go::{can_let_go, let_go};
use super::order::{Mending, Positions, judge};
use super::refusal::Refusal;
use super::store::{DerivedError, install, open_snapshots, open_store};
use crate::disk::{
    Ballast, LockError, OpenMode, SharedFileSystem, TwinError, VolumeLock, create_directories,
};
use crate::identity::{
    IdentityError, Superblock, SuperblockFile, VolumeState, VoteError, VoteFile,
};
use crate::log::{LogError, LogIdentity, LogOptions, OpenedLog, RecordKind, open_log};
use crate::position::LogPosition;
use crate::snapshots::{SnapshotFile, Snapshots};
use crate::state::State;

/// How a volume is opened.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    pub data: PathBuf,
    /// The cluster that the volume must belong to; `None` accepts any, and leaves an empty volume
    /// unclaimed.
    pub cluster_uuid: Option<Uuid>,
    pub log: LogOptions,
    pub store: StorePlace,
    /// Whether a cluster of one lets go of entries that cannot be read, when its store has applied
    /// them. Otherwise such a volume is refused.
    pub lets_go_of_applied: bool,
}

/// Where the store of a volume is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StorePlace {
    /// In a folder of the volume.
    #[default]
    Volume,
    /// In memory: it is lost and rebuilt at each start. For tests on simulated disks, which RocksDB
    /// does not write to.
    Memory,
}

/// A volume that may be served from. The lock is held as long as this exists.
#[derive(Debug)]
pub struct Volume {
    pub data: PathBuf,
    pub superblock: SuperblockFile,
    pub vote: VoteFile,
    pub log: OpenedLog,
    pub state: State,
    pub(crate) snapshots: Snapshots,
    pub(crate) snapshot: Option<SnapshotFile>,
    /// The newest membership that is found on the volume, encoded as the state keeps it: who may
    /// have what cannot be read here.
    pub(crate) membership: Option<Vec<u8>>,
    pub lock: VolumeLock,
}

/// The names that only a volume in use has.
const KNOWN_NAMES: [&str; 4] = ["vote", "log", "store", "snapshots"];

#[derive(Debug, thiserror::Error)]
enum IdentityProblem {
    #[error("the superblock is missing, but {found} exists: the identity of this volume is lost")]
    Missing { found: String },
    #[error(
        "the volume belongs to cluster {found}, but this node was started for cluster {expected}"
    )]
    OtherCluster { found: Uuid, expected: Uuid },
    #[error(
        "entry {entry} of the log cannot be read, and no other member is known that has it: `recover` \
         lets go of it when the store has applied it, and `export` writes out what the volume holds"
    )]
    NobodyToRepairFrom { entry: LogPosition },
    #[error("a restore onto this volume has not finished: run it again, or empty the volume")]
    RestoreIncomplete,
    #[error(
        "a peer has seen more of this node than is on the volume: it was set back to an earlier state"
    )]
    SetBack,
}

/// Opens the volume, mends what may be mended, and counts the start.
///
/// # Errors
/// A [`Refusal`] with its report when the volume must not be served from.
pub fn open_volume(
    file_system: &SharedFileSystem,
    options: &OpenOptions,
) -> Result<(Volume, RecoveryReport), Refusal> {
    let started = Instant::now();
    let mut report = RecoveryReport::new(RecoveryOutcome::Clean, "the volume is whole");
    let data = options.data.as_path();
    if let Err(error) = create_directories(file_system.as_ref(), data) {
        return Err(Refusal::disk_failure(report, &error));
    }
    let lock = match VolumeLock::acquire(file_system.as_ref(), data) {
        Ok(lock) => lock,
        Err(error @ LockError::InUse { .. }) => {
            return Err(Refusal::new(report, RefusalReason::InUse, &error));
        }
        Err(error @ LockError::Io { .. }) => return Err(Refusal::disk_failure(report, &error)),
    };

    // Opening the store takes space.
    match Ballast::of(data).release_if_needed(file_system.as_ref()) {
        Ok(true) => tracing::warn!("the disk is full; the space that was kept for a start is used"),
        Ok(false) => {}
        Err(error) => return Err(Refusal::disk_failure(report, &error)),
    }
    let superblock = open_identity(file_system, options, &mut report)?;
    let identity = superblock.current().clone();
    let mut vote = open_vote(file_system, data, &identity, &mut report)?;
    let mut log = open_the_log(file_system, options, &identity, &mut report)?;
    let derived_error = |report: &RecoveryReport, error: &DerivedError| {
        let reason = if error.is_unknown_format() {
            RefusalReason::UnknownFormat
        } else if error.is_out_of_space() {
            RefusalReason::DiskFull
        } else {
            RefusalReason::StoreUnrecoverable
        };
        Refusal::new(report.clone(), reason, error)
    };
    let state = open_store(file_system.as_ref(), options, &mut report)
        .map_err(|error| derived_error(&report, &error))?;
    // A store and a log that reach as far as the snapshot need nothing of it: see `judge`.
    let covers = |position: Option<LogPosition>| {
        position.is_some() && state.applied() >= position && log.contents.last() >= position
    };
    let (snapshots, mut snapshot) = open_snapshots(file_system, data, covers, &mut report)
        .map_err(|error| derived_error(&report, &error))?;

    let membership = known_membership(&log, &state, snapshot.as_ref());
    let in_snapshot = snapshot
        .as_ref()
        .and_then(|snapshot| snapshot.summary().status.applied);
    let lets_go = options.lets_go_of_applied && can_let_go(&log, state.applied().max(in_snapshot));
    let nobody_has = what_nobody_can_repair(&log, membership.as_deref(), &identity);
    if let Some(problem) = nobody_has.as_ref().filter(|_| !lets_go) {
        return Err(Refusal::new(report, RefusalReason::LogDamaged, problem));
    }
    let positions = Positions {
        last: log.contents.last(),
        purged: log.contents.purged(),
        committed: log.contents.committed(),
        applied: state.applied(),
        snapshot: in_snapshot,
        vote_term: vote.current().map(|vote| vote.term),
    };
    let mending = judge(&positions).map_err(|error| {
        report.log_inconsistencies.push(error.to_string());
        let reason = if error.is_about_the_store() {
            RefusalReason::StoreUnrecoverable
        } else if vote.current().is_none() {
            RefusalReason::VoteUnreadable
        } else {
            RefusalReason::LogInconsistent
        };
        Refusal::new(report.clone(), reason, &error)
    })?;
    mend(
        mending,
        (identity.node_id, &mut vote),
        &mut log,
        &state,
        &snapshots,
        &mut snapshot,
        &mut report,
    )
    .map_err(|error| derived_error(&report, &error))?;

    if nobody_has.is_some() {
        let snapshots = (&snapshots, &mut snapshot);
        let_go(file_system, data, &mut log, &state, snapshots, &mut report)
            .map_err(|error| derived_error(&report, &error))?;
        report.unreadable_entries.clear();
    }

    note_replay(&log, &state, &mut report);
    conclude(&mut report, started);
    Ok((
        Volume {
            data: data.to_owned(),
            superblock,
            vote,
            log,
            state,
            snapshots,
            snapshot,
            membership,
            lock,
        },
        report,
    ))
}

fn open_identity(
    file_system: &SharedFileSystem,
    options: &OpenOptions,
    report: &mut RecoveryReport,
) -> Result<SuperblockFile, Refusal> {
    let refuse = |report: &RecoveryReport, error: &IdentityError| {
        let reason = match error {
            IdentityError::Twin(TwinError::UnknownFormat { .. }) => RefusalReason::UnknownFormat,
            _ => RefusalReason::SuperblockUnreadable,
        };
        Refusal::new(report.clone(), reason, error)
    };
    let opened = SuperblockFile::open(file_system.as_ref(), &options.data, OpenMode::ReadWrite)
        .map_err(|error| refuse(report, &error))?;
    let mut superblock = match opened {
        Some((superblock, stale_copy)) => {
            if let Some(copy) = stale_copy {
                note_mended(report, &SuperblockFile::path(&options.data), copy);
            }
            superblock
        }
        None => {
            refuse_headless(file_system, &options.data, report)?;
            report.outcome = RecoveryOutcome::Created;
            let born = Superblock::new(options.cluster_uuid.unwrap_or(Uuid::nil()), NodeId(0));
            SuperblockFile::create(file_system.as_ref(), &options.data, born)
                .map_err(|error| Refusal::disk_failure(report.clone(), &error))?
        }
    };
    let found = superblock.current().cluster_uuid;
    report.node_id = Some(superblock.current().node_id);
    if superblock.current().previous_node_id.0 != 0 {
        report.previous_node_id = Some(superblock.current().previous_node_id);
    }
    if !found.is_nil() {
        report.cluster_uuid = Some(found.to_string());
    }
    let unusable = match superblock.current().state {
        VolumeState::Normal => None,
        VolumeState::Restoring => Some((
            RefusalReason::RestoreIncomplete,
            IdentityProblem::RestoreIncomplete,
        )),
        VolumeState::SetBack => Some((RefusalReason::SetBack, IdentityProblem::SetBack)),
    };
    if let Some((reason, problem)) = unusable {
        return Err(Refusal::new(report.clone(), reason, &problem));
    }
    if let Some(expected) = options.cluster_uuid
        && !found.is_nil()
        && found != expected
    {
        return Err(Refusal::new(
            report.clone(),
            RefusalReason::WrongCluster,
            &IdentityProblem::OtherCluster { found, expected },
        ));
    }
    superblock
        .update(|superblock| {
            superblock.boot_count += 1;
            if let Some(expected) = options.cluster_uuid {
                superblock.cluster_uuid = expected;
            }
        })
        .map_err(|error| Refusal::disk_failure(report.clone(), &error))?;
    report.boot_count = superblock.current().boot_count;
    Ok(superblock)
}

/// A volume without a superblock is new only when nothing else of ours is on it.
fn refuse_headless(
    file_system: &SharedFileSystem,
    data: &Path,
    report: &RecoveryReport,
) -> Result<(), Refusal> {
    for name in KNOWN_NAMES {
        let path = data.join(name);
        let exists = file_system
            .exists(&path)
            .map_err(|error| Refusal::disk_failure(report.clone(), &error))?;
        if exists {
            let problem = IdentityProblem::Missing {
                found: path.display().to_string(),
            };
            return Err(Refusal::new(
                report.clone(),
                RefusalReason::SuperblockUnreadable,
                &problem,
            ));
        }
    }
    Ok(())
}

fn note_mended(report: &mut RecoveryReport, path: &Path, copy: usize) {
    report
        .corrupted_files
        .push(format!("{} (copy {copy})", path.display()));
    report
        .recovered_files
        .push(format!("{} (copy {copy})", path.display()));
}

fn open_vote(
    file_system: &SharedFileSystem,
    data: &Path,
    identity: &Superblock,
    report: &mut RecoveryReport,
) -> Result<VoteFile, Refusal> {
    let (mode, must_exist) = (OpenMode::ReadWrite, identity.made_promises);
    match VoteFile::open_promised(file_system.clone(), data, mode, must_exist) {
        Ok((vote, stale_copy)) => {
            if let Some(copy) = stale_copy {
                note_mended(report, &VoteFile::path(data), copy);
            }
            Ok(vote)
        }
        Err(error) => {
            report
                .corrupted_files
                .push(VoteFile::path(data).display().to_string());
            let reason = match &error {
                VoteError::Twin(TwinError::UnknownFormat { .. }) => RefusalReason::UnknownFormat,
                _ => RefusalReason::VoteUnreadable,
            };
            Err(Refusal::new(report.clone(), reason, &error))
        }
    }
}

fn open_the_log(
    file_system: &SharedFileSystem,
    options: &OpenOptions,
    identity: &Superblock,
    report: &mut RecoveryReport,
) -> Result<OpenedLog, Refusal> {
    let folder = options.data.join("log");
    let opened = open_log(
        file_system,
        &folder,
        log_identity(identity),
        options.log,
        identity.made_promises,
    );
    match opened {
        Ok(log) => {
            if let Some(torn) = &log.findings.torn_tail {
                report.torn_tail_truncated_bytes = torn.bytes;
                report.recovered_files.push(format!(
                    "{} (torn tail at byte {})",
                    torn.path.display(),
                    torn.offset_bytes
                ));
            }
            for mended in &log.findings.mended {
                report.corrupted_files.push(mended.clone());
                report.recovered_files.push(mended.clone());
            }
            report.unreadable_entries = log
                .contents
                .unreadable()
                .map(|location| location.position.to_string())
                .collect();
            Ok(log)
        }
        Err(error) => {
            let reason = match &error {
                LogError::Missing => RefusalReason::LogMissing,
                LogError::UnknownFormat { .. } => RefusalReason::UnknownFormat,
                LogError::Inconsistent(inconsistency) => {
                    report.log_inconsistencies.push(inconsistency.to_string());
                    RefusalReason::LogInconsistent
                }
                LogError::Io { .. } => return Err(Refusal::disk_failure(report.clone(), &error)),
                LogError::Damaged { path, .. } | LogError::WrongIdentity { path, .. } => {
                    report.corrupted_files.push(path.display().to_string());
                    RefusalReason::LogDamaged
                }
                LogError::MissingSegment { .. }
                | LogError::TooLarge { .. }
                | LogError::Unreadable { .. }
                | LogError::OtherPayload { .. } => RefusalReason::LogDamaged,
            };
            Err(Refusal::new(report.clone(), reason, &error))
        }
    }
}

/// The newest membership that the store, the snapshot or a readable entry of the log tells.
fn known_membership(
    log: &OpenedLog,
    state: &State,
    snapshot: Option<&SnapshotFile>,
) -> Option<Vec<u8>> {
    let in_snapshot = || snapshot?.summary().status.membership.clone();
    let in_log = || {
        let readers = log.files.readers();
        let last = log.contents.last()?.index;
        let first = log.contents.first()?.position.index;
        (first..=last)
            .rev()
            .filter_map(|index| log.contents.get(index))
            .find_map(|location| {
                let payload = readers.read(&location).ok()?;
                crate::entry::membership_in_entry(location.position, &payload.into())
            })
    };
    state.membership().or_else(in_snapshot).or_else(in_log)
}

/// An entry that cannot be read is fetched from another member while the node runs. Without one, it
/// is lost as far as this volume knows: every byte is kept, and nothing is served.
fn what_nobody_can_repair(
    log: &OpenedLog,
    membership: Option<&[u8]>,
    identity: &Superblock,
) -> Option<IdentityProblem> {
    let first = log.contents.unreadable().next()?;
    let others = crate::entry::other_members(membership, identity.node_id);
    others
        .is_empty()
        .then_some(IdentityProblem::NobodyToRepairFrom {
            entry: first.position,
        })
}

/// Who writes the log of this volume.
pub(crate) fn log_identity(superblock: &Superblock) -> LogIdentity {
    LogIdentity {
        cluster_uuid: superblock.cluster_uuid,
        node_id: superblock.node_id,
        incarnation: superblock.incarnation,
    }
}

fn mend(
    mending: Mending,
    (node_id, vote): (NodeId, &mut VoteFile),
    log: &mut OpenedLog,
    state: &State,
    snapshots: &Snapshots,
    snapshot: &mut Option<SnapshotFile>,
    report: &mut RecoveryReport,
) -> Result<(), DerivedError> {
    if let Some(newest) = snapshot.as_ref() {
        if mending.install_snapshot {
            install(state, newest)?;
            report.state_machine_repaired = true;
            report
                .recovered_files
                .push(format!("store (from {})", newest.path().display()));
        }
        if mending.purge_through_snapshot
            && let Some(position) = newest.summary().status.applied
        {
            vote.take_up(position.term, node_id)
                .map_err(vote_not_raised)?;
            purge_through(log, position)?;
        }
    }
    if mending.write_snapshot {
        *snapshot = Some(snapshots.build(state)?);
    }
    Ok(())
}

fn vote_not_raised(error: crate::identity::VoteError) -> DerivedError {
    DerivedError::Snapshot(crate::snapshots::SnapshotError::Io {
        action: "take up the term of a snapshot in",
        path: PathBuf::from("vote"),
        source: std::io::Error::other(error),
    })
}

/// Finishes the installation of a snapshot that a crash interrupted.
pub(super) fn purge_through(
    log: &mut OpenedLog,
    position: LogPosition,
) -> Result<(), DerivedError> {
    let as_snapshot_error = |error: LogError| crate::snapshots::SnapshotError::Io {
        action: "purge the log through",
        path: PathBuf::from("log"),
        source: if error.is_out_of_space() {
            std::io::Error::new(std::io::ErrorKind::StorageFull, error)
        } else {
            std::io::Error::other(error)
        },
    };
    let locations = log
        .files
        .append(&[(RecordKind::Purged, position, &[])], &log.contents)
        .map_err(as_snapshot_error)?;
    for location in locations {
        log.contents
            .apply(RecordKind::Purged, location)
            .map_err(|error| as_snapshot_error(error.into()))?;
    }
    log.files
        .remove_purged(position)
        .map_err(as_snapshot_error)?;
    Ok(())
}

fn note_replay(log: &OpenedLog, state: &State, report: &mut RecoveryReport) {
    let next = |position: Option<LogPosition>| position.map_or(0, |position| position.index + 1);
    let entries = next(log.contents.committed()).saturating_sub(next(state.applied()));
    report.entries_replayed = entries;
    report.wal_recovered = entries > 0;
}

fn conclude(report: &mut RecoveryReport, started: Instant) {
    let mended = !report.recovered_files.is_empty() || report.state_machine_repaired;
    match (report.outcome, mended) {
        (RecoveryOutcome::Created, _) => {
            report.message = "a new identity was born on an empty volume".to_owned();
        }
        (_, true) => {
            report.outcome = RecoveryOutcome::Recovered;
            report.message = format!("recovered: {}", report.recovered_files.join("; "));
        }
        (_, false) if report.wal_recovered => {
            report.message = format!(
                "the volume is whole; {} entries are replayed from the log",
                report.entries_replayed
            );
        }
        _ => {}
    }
    report.duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
}
