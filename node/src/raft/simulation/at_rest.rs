//! Volumes that are at rest are damaged, file by file: identity, vote, log and snapshots.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use quadraft_protocol::{NodeId, RecoveryReport, RefusalReason};

use super::cluster::{DATA, open_options};
use super::run::{Recorded, disks_at, record};
use crate::disk::SharedFileSystem;
use crate::disk::simulated::{Damage, SimulatedDisk};
use crate::disk::twin::SECOND_COPY_OFFSET_BYTES;
use crate::identity::StoredVote;
use crate::log::LogStore;
use crate::recovery::{Refusal, Volume, open_volume};
use crate::testing::{Tally, Verdict, cases};

fn opened(disk: &SimulatedDisk) -> Result<(Volume, RecoveryReport), Refusal> {
    let file_system: SharedFileSystem = Arc::new(disk.fork());
    open_volume(&file_system, &open_options())
}

/// Whether one volume holds what another does. A store that was lost is rebuilt by replaying the log,
/// where the log goes on from what the store has.
fn holds(found: &Volume, whole: &Volume) -> bool {
    let applied = |volume: &Volume| volume.state.applied().map(|applied| applied.index);
    let purged = found.log.contents.purged().map(|purged| purged.index);
    let is_replayed = applied(found) >= purged && applied(found) < applied(whole);
    content(found) == content(whole)
        && (is_replayed || found.state.status() == whole.state.status())
}

/// What a volume holds, as far as it can be compared.
fn content(volume: &Volume) -> impl PartialEq + std::fmt::Debug {
    (
        volume.superblock.current().node_id,
        volume.superblock.current().incarnation,
        volume.vote.current(),
        volume.log.contents.last(),
        volume.log.contents.purged(),
    )
}

/// Kinds of damage to the sector at an offset.
fn kinds(offset_bytes: u64) -> [(&'static str, Damage); 6] {
    [
        (
            "bit",
            Damage::FlipBit {
                offset_bytes: offset_bytes + 20,
                bit: 3,
            },
        ),
        (
            "byte",
            Damage::Byte {
                offset_bytes: offset_bytes + 9,
                value: 0xa5,
            },
        ),
        ("sector of zeros", Damage::ZeroSector { offset_bytes }),
        (
            "sector of garbage",
            Damage::GarbageSector {
                offset_bytes,
                seed: offset_bytes,
            },
        ),
        (
            "4 KiB of zeros",
            Damage::Zero4KiB {
                offset_bytes: offset_bytes / 4096 * 4096,
            },
        ),
        (
            "sector that cannot be read",
            Damage::UnreadableSector { offset_bytes },
        ),
    ]
}

/// The volume as it is without damage, and with.
struct Case<'a> {
    tally: &'a mut Tally,
    whole: &'a Volume,
    disk: &'a SimulatedDisk,
}

impl Case<'_> {
    /// Damages a file in some places at once; the volume must open as it was, or, where that is
    /// allowed, be refused for one of these reasons.
    fn try_damage(
        &mut self,
        place: &'static str,
        kind: &str,
        damages: &[(PathBuf, Damage)],
        allowed: &[RefusalReason],
    ) {
        let disk = self.disk.fork();
        for (path, damage) in damages {
            // Damage that changes nothing is none.
            if disk.damage(path, damage.clone()).is_err() {
                return;
            }
        }
        let verdict = match opened(&disk) {
            Ok((volume, _)) if holds(&volume, self.whole) => Verdict::Healed,
            Ok((volume, report)) => {
                println!(
                    "{place}, {kind}, {damages:?}: {:?} instead of {:?}: {report:?}",
                    content(&volume),
                    content(self.whole)
                );
                Verdict::Unsafe
            }
            Err(refusal)
                if allowed
                    .iter()
                    .any(|reason| refusal.report.reason == Some(*reason)) =>
            {
                Verdict::Refused
            }
            Err(refusal) => {
                println!("{place}, {kind}, {damages:?}: {:?}", refusal.report);
                Verdict::Unsafe
            }
        };
        self.tally.count(place, kind, verdict);
    }

    fn twins(
        &mut self,
        place: &'static str,
        both: &'static str,
        name: &str,
        reason: RefusalReason,
    ) {
        let path = Path::new(DATA).join(name);
        let copies = [0, SECOND_COPY_OFFSET_BYTES];
        for number in 0..kinds(0).len() {
            let damaged = copies.map(|copy| {
                let (kind, damage) = kinds(copy)[number].clone();
                (kind, (path.clone(), damage))
            });
            for (kind, damage) in &damaged {
                self.try_damage(place, kind, std::slice::from_ref(damage), &[]);
            }
            let kind = damaged[0].0;
            self.try_damage(both, kind, &damaged.map(|(_, damage)| damage), &[reason]);
        }
        for length_bytes in [
            0,
            10,
            SECOND_COPY_OFFSET_BYTES,
            SECOND_COPY_OFFSET_BYTES + 30,
        ] {
            let damage = (path.clone(), Damage::Truncate { length_bytes });
            // With the first copy whole it is enough.
            let refused = [reason];
            let allowed = &refused[..usize::from(length_bytes < 4096)];
            self.try_damage(place, "truncated", &[damage], allowed);
        }
        self.try_damage(place, "removed", &[(path, Damage::Remove)], &[reason]);
    }

    fn log_is_gone(&mut self) {
        let segments: Vec<_> = self
            .disk
            .files()
            .into_iter()
            .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
            .map(|path| (path, Damage::Remove))
            .collect();
        let reasons = [
            RefusalReason::LogMissing,
            RefusalReason::LogDamaged,
            RefusalReason::LogInconsistent,
        ];
        self.try_damage("log", "all segments removed", &segments, &reasons[..1]);
        if segments.len() > 1 {
            self.try_damage("log", "first segment removed", &segments[..1], &reasons);
            let last = &segments[segments.len() - 1..];
            self.try_damage("log", "last segment removed", last, &reasons);
        }
    }

    /// The store is in memory and lost at each start. With its only snapshot damaged, a purged log
    /// does not suffice to rebuild it; nor does anything say who the members are, which may have an
    /// entry that cannot be read.
    fn snapshots(&mut self) {
        let has_unreadable = self.whole.log.contents.unreadable().next().is_some();
        let allowed = [RefusalReason::StoreUnrecoverable, RefusalReason::LogDamaged];
        let allowed = &allowed[..1 + usize::from(has_unreadable)];
        for path in self.disk.files() {
            if path
                .extension()
                .is_none_or(|extension| extension != "snapshot")
            {
                continue;
            }
            let length_bytes = self.disk.read(&path).unwrap().len() as u64;
            for sector in (0..length_bytes / 512).step_by(3) {
                for (kind, damage) in kinds(sector * 512) {
                    self.try_damage("snapshot", kind, &[(path.clone(), damage)], allowed);
                }
            }
            for part in 0..8 {
                let damage = Damage::Truncate {
                    length_bytes: length_bytes * part / 8,
                };
                self.try_damage("snapshot", "truncated", &[(path.clone(), damage)], allowed);
            }
            self.try_damage("snapshot", "removed", &[(path, Damage::Remove)], allowed);
        }
    }
}

#[test]
fn damaged_files_of_a_volume_are_mended_or_refused_for_the_right_reason() {
    let mut tally = Tally::default();
    for seed in 0..cases(3).min(30) {
        let recorded = record(seed + 1_000, 25);
        for disk in ends(&recorded) {
            let (whole, _) = opened(&disk).map_err(|refusal| refusal.report).unwrap();
            let mut case = Case {
                tally: &mut tally,
                whole: &whole,
                disk: &disk,
            };
            case.twins(
                "superblock, one copy",
                "superblock, both copies",
                "superblock",
                RefusalReason::SuperblockUnreadable,
            );
            case.twins(
                "vote, one copy",
                "vote, both copies",
                "vote",
                RefusalReason::VoteUnreadable,
            );
            case.log_is_gone();
            case.snapshots();
        }
    }
    tally.print("volumes at rest");
    assert_eq!(tally.total(Verdict::Unsafe), 0);
    assert!(tally.total(Verdict::Healed) > 200 && tally.total(Verdict::Refused) > 200);
}

/// The log is empty: nothing else tells that there was a vote.
#[test]
fn a_lost_vote_is_missed_even_where_the_log_is_empty() {
    let disk = SimulatedDisk::new();
    let file_system: SharedFileSystem = Arc::new(disk.clone());
    let (volume, _) = open_volume(&file_system, &open_options())
        .map_err(|refusal| refusal.report)
        .unwrap();
    let superblock = Arc::new(Mutex::new(volume.superblock));
    let log = LogStore::start_inline(volume.log, volume.vote, superblock).unwrap();
    let vote = StoredVote {
        term: 3,
        candidate: NodeId(7),
        committed: false,
    };
    log.save_vote(vote, Box::new(|saved| saved.unwrap()));
    let disk = disk.kill();
    let (whole, _) = opened(&disk).map_err(|refusal| refusal.report).unwrap();
    let mut tally = Tally::default();
    let mut case = Case {
        tally: &mut tally,
        whole: &whole,
        disk: &disk,
    };
    case.twins(
        "vote, one copy",
        "vote, both copies",
        "vote",
        RefusalReason::VoteUnreadable,
    );
    case.log_is_gone();
    assert_eq!(tally.total(Verdict::Unsafe), 0);
}

/// The disks at the end of a run, with everything durable.
fn ends(recorded: &Recorded) -> Vec<SimulatedDisk> {
    let disks = disks_at(recorded, &recorded.history.end(), 0);
    // The first start after a power loss mends what is to be mended; damage comes after it.
    for disk in &disks {
        let file_system: SharedFileSystem = Arc::new(disk.clone());
        open_volume(&file_system, &open_options())
            .map_err(|refusal| refusal.report)
            .unwrap();
    }
    disks
}
