//! Entries of a cluster of one that cannot be read, and that the store has applied: nobody can give
//! them, and what they did is there.

use std::path::{Path, PathBuf};

use quadraft_protocol::RecoveryReport;

use super::store::DerivedError;
use super::volume::purge_through;
use crate::disk::{SharedFileSystem, keep_copy};
use crate::log::OpenedLog;
use crate::planted::{Bug, is_planted};
use crate::position::LogPosition;
use crate::snapshots::{SnapshotFile, Snapshots};
use crate::state::State;

/// Whether every entry that cannot be read was applied, in the store or in a snapshot, and there is
/// one.
pub(super) fn can_let_go(log: &OpenedLog, applied: Option<LogPosition>) -> bool {
    log.contents
        .unreadable()
        .last()
        .is_some_and(|last| applied.is_some_and(|applied| applied.index >= last.position.index))
}

/// Puts a snapshot of the store in the place of the entries, and lets the log begin behind it. The
/// segments in which they stand are copied to quarantine before: the log may remove them.
///
/// Can be interrupted and run again: until the log has let go, everything is as it was.
///
/// # Errors
/// When the store holds other data than was applied to it, or the disk fails or is full.
pub(super) fn let_go(
    file_system: &SharedFileSystem,
    data: &Path,
    log: &mut OpenedLog,
    state: &State,
    (snapshots, newest): (&Snapshots, &mut Option<SnapshotFile>),
    report: &mut RecoveryReport,
) -> Result<(), DerivedError> {
    let unreadable: Vec<_> = log.contents.unreadable().collect();
    let Some(last) = unreadable.last() else {
        return Ok(());
    };
    let reaches = |snapshot: &SnapshotFile| {
        snapshot
            .summary()
            .status
            .applied
            .filter(|position| position.index >= last.position.index)
    };
    let position = match newest.as_ref().and_then(reaches) {
        Some(position) => position,
        None => {
            let built = snapshots.build(state)?;
            let position = built.summary().status.applied.unwrap_or_default();
            *newest = Some(built);
            position
        }
    };
    let damaged = log.files.segments.iter().filter(|segment| {
        unreadable
            .iter()
            .any(|entry| entry.segment == segment.number)
    });
    let mut segments: Vec<PathBuf> = damaged.map(|segment| segment.path.clone()).collect();
    if is_planted(Bug::LetGoWithoutCopy) {
        segments.clear();
    }
    for path in &segments {
        let kept = keep_copy(file_system.as_ref(), data, path).map_err(|source| {
            DerivedError::Quarantine {
                what: format!("a copy of {}", path.display()),
                source,
            }
        })?;
        report.recovered_files.push(format!(
            "{} (entries that cannot be read are let go: the snapshot of {position} holds what they \
             did; a copy is kept as {})",
            path.display(),
            kept.display()
        ));
    }
    purge_through(log, position)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::sync::Arc;

    use quadraft_protocol::{RecoveryOutcome, RefusalReason};

    use super::*;
    use crate::disk::simulated::{Damage, SeededChoice, SimulatedDisk};
    use crate::identity::StoredVote;
    use crate::log::{LogOptions, RecordKind};
    use crate::recovery::{OpenOptions, Refusal, StorePlace, open_volume};
    use crate::state::Apply;

    const DATA: &str = "/volume";

    fn open(disk: &SimulatedDisk, lets_go: bool) -> Result<RecoveryReport, Refusal> {
        let file_system: SharedFileSystem = Arc::new(disk.clone());
        open_volume(&file_system, &options(lets_go)).map(|(_, report)| report)
    }

    fn options(lets_go_of_applied: bool) -> OpenOptions {
        OpenOptions {
            data: DATA.into(),
            cluster_uuid: None,
            log: LogOptions {
                segment_bytes: 64 * 1024,
            },
            store: StorePlace::Memory,
            lets_go_of_applied,
        }
    }

    const fn at(index: u64) -> LogPosition {
        LogPosition { term: 1, index }
    }

    /// A volume of a cluster of one whose snapshot reaches entry 7 of 10, in several segments.
    fn volume() -> SimulatedDisk {
        let disk = SimulatedDisk::new();
        let file_system: SharedFileSystem = Arc::new(disk.clone());
        let (mut volume, _) = open_volume(&file_system, &options(false)).unwrap();
        let vote = StoredVote {
            term: 1,
            candidate: quadraft_protocol::NodeId(1),
            committed: true,
        };
        volume.log.files.begin(&volume.log.contents).unwrap();
        volume.vote.begin().unwrap();
        volume.vote.save(vote).unwrap();
        volume
            .superblock
            .update(|superblock| superblock.made_promises = true)
            .unwrap();
        let mut append = |kind, index, payload: &[u8]| {
            let record = (kind, at(index), payload);
            let location = volume
                .log
                .files
                .append(&[record], &volume.log.contents)
                .unwrap()[0];
            volume.log.contents.apply(kind, location).unwrap();
        };
        for index in 0..10 {
            append(RecordKind::Entry, index, &vec![index as u8; 20_000]);
        }
        append(RecordKind::Committed, 9, b"");
        volume.log.files.flush_mark().unwrap();
        let blanks: Vec<_> = (0..8).map(|index| (at(index), Apply::Blank)).collect();
        volume.state.apply(&blanks).unwrap();
        volume.snapshots.build(&volume.state).unwrap();
        disk
    }

    fn segments(disk: &SimulatedDisk) -> Vec<(PathBuf, Vec<u8>)> {
        disk.files()
            .into_iter()
            .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
            .map(|path| {
                let bytes = disk.read(&path).unwrap();
                (path, bytes)
            })
            .collect()
    }

    /// Damages the payload of entry `index`; gives the segment that it stands in.
    fn damage(disk: &SimulatedDisk, index: u64) -> PathBuf {
        let payload = [index as u8; 600];
        let (path, offset) = segments(disk)
            .into_iter()
            .find_map(|(path, bytes)| {
                let found = bytes.windows(600).position(|window| window == payload)?;
                Some((path, found as u64))
            })
            .unwrap();
        let damage = Damage::FlipBit {
            offset_bytes: offset + 100,
            bit: 3,
        };
        disk.damage(&path, damage).unwrap();
        path
    }

    #[test]
    fn what_the_store_has_applied_is_let_go_and_kept_wherever_it_is_interrupted() {
        let disk = volume();
        let path = damage(&disk, 2);
        let damaged = disk.read(&path).unwrap();
        let refused = open(&disk, false).unwrap_err();
        assert_eq!(refused.report.reason, Some(RefusalReason::LogDamaged));
        let start = disk.fork();
        start.record();
        let report = open(&start, true).unwrap();
        assert_eq!(report.outcome, RecoveryOutcome::Recovered);
        assert!(report.unreadable_entries.is_empty(), "{report:?}");
        for point in 0..=start.operations() {
            let crashed = start.at(point).crash(&mut SeededChoice::new(point as u64));
            let again = open(&crashed, true)
                .unwrap_or_else(|refusal| panic!("point {point}: {:?}", refusal.report));
            assert!(again.unreadable_entries.is_empty());
            let served = open(&crashed, false)
                .unwrap_or_else(|refusal| panic!("point {point}: {:?}", refusal.report));
            assert!(served.unreadable_entries.is_empty());
            // A crash may take back the newest mark, which stands among the identifiers.
            let records = 12 * 1024..;
            let kept = crashed.files().iter().any(|path| {
                let bytes = crashed.read(path).unwrap();
                bytes.get(records.clone()) == damaged.get(records.clone())
            });
            assert!(kept, "point {point}: what was damaged is gone");
        }
    }

    #[test]
    fn what_the_store_has_not_applied_is_refused_and_nothing_is_changed() {
        for applied_too in [false, true] {
            let disk = volume();
            if applied_too {
                damage(&disk, 2);
            }
            let path = damage(&disk, 8);
            let before = disk.read(&path).unwrap();
            let refused = open(&disk, true).unwrap_err();
            assert_eq!(refused.report.reason, Some(RefusalReason::LogDamaged));
            assert!(disk.read(&path).unwrap() == before);
            let quarantine = Path::new(DATA).join("quarantine");
            assert!(
                !disk
                    .files()
                    .iter()
                    .any(|path| path.starts_with(&quarantine))
            );
        }
    }
}
