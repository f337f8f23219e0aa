//! The log, in every place.

use std::path::Path;

use super::{InUse, at, flip, in_use, payload, restarted, segments};
use crate::disk::simulated::{Damage, SimulatedDisk};
use crate::disk::{Interrupted, Throttle};
use crate::log::EntryLocation;
use crate::scrub::parts::{PartError, scrub_log};

const ENTRIES: u64 = 60;
const RECORD_HEADER_BYTES: u64 = 56;

fn place_of(
    disk: &SimulatedDisk,
    volume: &InUse,
    index: u64,
) -> (std::path::PathBuf, EntryLocation) {
    let location = volume.log.location(index).unwrap();
    let path = Path::new("/data/log").join(format!("{:016}.log", location.segment));
    assert!(disk.files().contains(&path));
    (path, location)
}

/// Offset of the slot of an entry in its segment.
fn slot_of(location: &EntryLocation) -> u64 {
    4096 + location.slot / 10 * 512 + 32 + location.slot % 10 * 48
}

#[test]
fn a_log_that_is_whole_is_left_alone() {
    let (disk, volume) = in_use(ENTRIES);
    assert!(segments(&disk).len() > 1);
    let before: Vec<_> = segments(&disk)
        .iter()
        .map(|path| disk.read(path).unwrap())
        .collect();
    let part = volume.scrub();
    assert!(part.tally.checked >= ENTRIES, "{part:?}");
    assert!(part.tally.findings.is_empty(), "{part:?}");
    assert!(part.unreadable.is_empty() && part.lost.is_empty());
    let after: Vec<_> = segments(&disk)
        .iter()
        .map(|path| disk.read(path).unwrap())
        .collect();
    assert!(before == after, "nothing is written");
}

#[test]
fn a_payload_comes_from_memory_or_is_asked_of_peers_by_its_name() {
    let (disk, volume) = in_use(ENTRIES);
    let strike = |disk: &SimulatedDisk, volume: &InUse, index| {
        let (path, location) = place_of(disk, volume, index);
        disk.damage(&path, flip(location.offset_bytes + RECORD_HEADER_BYTES + 5))
            .unwrap();
    };
    for index in [0, 7, ENTRIES - 1] {
        strike(&disk, &volume, index);
    }
    let part = volume.scrub();
    assert_eq!(
        (part.tally.mended, part.unreadable.len()),
        (3, 0),
        "{part:?}"
    );
    assert!(volume.scrub().tally.findings.is_empty());

    let (disk, volume) = restarted(&disk);
    volume.assert_readable(0..ENTRIES);
    for index in [3, ENTRIES - 1] {
        strike(&disk, &volume, index);
    }
    let part = volume.scrub();
    assert_eq!(part.unreadable, [at(3), at(ENTRIES - 1)], "{part:?}");
    assert_eq!(volume.log.unreadable(), part.unreadable);
    assert!(part.lost.is_empty());
    for entry in part.unreadable {
        volume.log.repair(entry, &payload(entry.index)).unwrap();
    }
    volume.assert_readable(0..ENTRIES);
    assert!(volume.scrub().tally.findings.is_empty());
}

#[test]
fn names_and_headers_are_written_anew_from_their_other_copy() {
    let (disk, _volume) = in_use(ENTRIES);
    // Nothing comes from memory here.
    let (disk, volume) = restarted(&disk);
    volume.append(ENTRIES..ENTRIES + 3);
    let whole = |path: &Path| disk.read(path).unwrap();
    for index in [0, 9, 30, ENTRIES - 1, ENTRIES + 2] {
        let (path, location) = place_of(&disk, &volume, index);
        let before = whole(&path);
        let length = before.len() as u64;
        let batch = location.offset_bytes / 4096 * 4096;
        for (what, offset_bytes) in [
            ("first header", 60),
            ("second header", length - 4096 + 60),
            ("slot", slot_of(&location)),
            ("mark", slot_of(&location) / 512 * 512 + 9),
            ("record", location.offset_bytes + 26),
            ("batch", batch + 20),
        ] {
            disk.damage(&path, flip(offset_bytes)).unwrap();
            let part = volume.scrub();
            assert_eq!(part.tally.mended, 1, "{what} of {index}: {part:?}");
            assert!(part.unreadable.is_empty() && part.lost.is_empty(), "{what}");
            assert!(volume.scrub().tally.findings.is_empty(), "{what}");
            volume.assert_readable(index..index + 1);
        }
    }
    let (_, volume) = restarted(&disk);
    assert!(
        volume.report.corrupted_files.is_empty(),
        "{:?}",
        volume.report
    );
    volume.assert_readable(0..ENTRIES + 3);
}

#[test]
fn what_has_lost_its_name_is_told_with_what_makes_it_go() {
    let (disk, _volume) = in_use(ENTRIES);
    let (disk, volume) = restarted(&disk);
    let (path, location) = place_of(&disk, &volume, 2);
    disk.damage(&path, flip(slot_of(&location))).unwrap();
    disk.damage(&path, flip(location.offset_bytes + 26))
        .unwrap();
    let before = disk.read(&path).unwrap();
    let part = volume.scrub();
    assert_eq!(part.lost.len(), 1, "{part:?}");
    assert_eq!(disk.read(&path).unwrap(), before, "nothing is changed");
    let lost = &part.lost[0];
    assert_eq!(lost.segment, location.segment);
    let through = lost.through_index.unwrap();
    assert!(through > 2);
    volume
        .log
        .purge(at(through), Box::new(|purged| purged.unwrap()));
    assert!(!volume.log.has_segment(lost.segment));
    let part = volume.scrub();
    assert!(
        part.lost.is_empty() && part.tally.findings.is_empty(),
        "{part:?}"
    );
}

#[test]
fn both_headers_of_a_segment_or_its_end_are_never_overlooked() {
    let (disk, _volume) = in_use(ENTRIES);
    for damages in [
        vec![flip(60), flip(64 * 1024 - 4096 + 60)],
        vec![Damage::Truncate {
            length_bytes: 20_000,
        }],
    ] {
        let (disk, volume) = restarted(&disk);
        let path = &segments(&disk)[0];
        for damage in damages {
            disk.damage(path, damage).unwrap();
        }
        let part = volume.scrub();
        assert!(
            !part.lost.is_empty() || !part.unreadable.is_empty(),
            "{part:?}"
        );
    }
}

#[test]
fn damage_of_any_kind_at_any_sector_that_holds_something_is_made_good() {
    let (disk, volume) = in_use(24);
    let kinds: [fn(u64) -> Damage; 6] = [
        |offset_bytes| flip(offset_bytes + 11),
        |offset_bytes| Damage::ZeroSector { offset_bytes },
        |offset_bytes| Damage::GarbageSector {
            offset_bytes,
            seed: offset_bytes,
        },
        |offset_bytes| Damage::UnreadableSector { offset_bytes },
        |offset_bytes| Damage::Zero4KiB { offset_bytes },
        |offset_bytes| Damage::StaleRange {
            offset_bytes,
            length_bytes: 512,
        },
    ];
    let (mut struck, mut healed) = (0, 0);
    for path in segments(&disk) {
        let before = disk.read(&path).unwrap();
        for sector in 0..before.len() as u64 / 512 {
            for kind in kinds {
                let damage = kind(sector * 512);
                if disk.damage(&path, damage.clone()).is_err() {
                    continue;
                }
                struck += 1;
                let part = volume.scrub();
                let context = format!("{} {damage:?}: {part:?}", path.display());
                assert!(
                    part.lost.is_empty() && part.unreadable.is_empty(),
                    "{context}"
                );
                assert_eq!(part.tally.unrepairable, 0, "{context}");
                healed += u64::from(part.tally.mended > 0);
                let again = volume.scrub();
                assert!(again.tally.findings.is_empty(), "{context}: {again:?}");
            }
        }
    }
    // The rest is free space and padding, where there is nothing to lose.
    assert!(healed > 400 && struck > healed, "{healed} of {struck}");
    let (_, volume) = restarted(&disk);
    assert_eq!(volume.report.unreadable_entries, Vec::<String>::new());
    volume.assert_readable(0..24);
}

/// Lets so many bytes pass.
struct UpTo(u64);

impl Throttle for UpTo {
    fn note(&mut self, bytes: u64) -> Result<(), Interrupted> {
        self.0 = self.0.checked_sub(bytes).ok_or(Interrupted)?;
        Ok(())
    }
}

#[test]
fn an_interruption_at_any_point_reports_nothing() {
    let (disk, volume) = in_use(ENTRIES);
    let total = volume.log.scrub_extent().1 + 100_000;
    let mut finished = 0;
    for bytes in (0..total).step_by(5_000) {
        match scrub_log(&volume.log, &mut UpTo(bytes)) {
            Ok(part) => {
                assert!(part.tally.findings.is_empty());
                finished += 1;
            }
            Err(PartError::Interrupted(_)) => {}
            Err(PartError::Failed(error)) => panic!("{error}"),
        }
    }
    assert!(finished > 0, "of {} segments", segments(&disk).len());
}
