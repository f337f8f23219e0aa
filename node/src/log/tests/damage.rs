//! One place of a log that is at rest is damaged: no entry loses its name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::workload::{Workload, open};
use crate::disk::simulated::{Damage, KeepNothing, SimulatedDisk, SplitMix};
use crate::log::layout::{Geometry, SECTOR_BYTES};
use crate::log::{LogError, OpenedLog, RecordKind};
use crate::position::LogPosition;
use crate::testing::{Tally, Verdict, cases};

fn at_rest(seed: u64, steps: usize) -> Workload {
    let mut random = SplitMix::new(seed);
    let mut workload = Workload::new();
    for _ in 0..steps {
        workload.step(&mut random);
    }
    workload.files.flush_mark().unwrap();
    workload
}

fn segments(disk: &SimulatedDisk) -> Vec<PathBuf> {
    disk.files()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect()
}

/// What became of one damaged log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Nothing was lost.
    Whole,
    /// Entries are known by name only; given back, the log is whole.
    Repaired,
    Refused,
    /// The damage changed nothing.
    Nothing,
}

fn try_damage(workload: &Workload, path: &Path, damage: &Damage) -> Outcome {
    let disk = workload.disk.kill();
    if disk.damage(path, damage.clone()).is_err() {
        return Outcome::Nothing;
    }
    let context = || format!("{} {damage:?}", path.display());
    let opened = match open(&disk, true) {
        Ok(opened) => opened,
        Err(
            LogError::Damaged { .. }
            | LogError::MissingSegment { .. }
            | LogError::Missing
            | LogError::Inconsistent(_),
        ) => {
            return Outcome::Refused;
        }
        Err(error) => panic!("{}: {error:?}", context()),
    };
    let model = workload.model();
    if let Err(error) = model.check(&opened) {
        panic!("{}: {error}", context());
    }
    let unreadable: Vec<_> = opened.contents.unreadable().collect();
    let readers = opened.files.readers();
    for location in &unreadable {
        let payload = model.payload(location.position).unwrap();
        let mut other = payload.to_vec();
        other.push(1);
        assert!(
            matches!(
                readers.repair(location, &other.into()),
                Err(LogError::OtherPayload { .. })
            ),
            "{}: another payload was taken",
            context()
        );
        readers
            .repair(location, payload)
            .unwrap_or_else(|error| panic!("{}: {error:?}", context()));
    }
    drop(opened);
    // A power loss takes what was not synced.
    let again = open(&disk.crash(&mut KeepNothing), true)
        .unwrap_or_else(|error| panic!("{}: {error:?}", context()));
    model.check(&again).unwrap();
    assert_eq!(
        (again.contents.unreadable().count(), again.findings.mended),
        (0, Vec::new()),
        "{}",
        context()
    );
    if unreadable.is_empty() {
        Outcome::Whole
    } else {
        Outcome::Repaired
    }
}

/// What stands at an offset of a segment.
fn place_of(
    geometry: Geometry,
    ends: &BTreeMap<u64, u64>,
    number: u64,
    offset: u64,
) -> &'static str {
    let end = ends.get(&number).copied().unwrap_or_default();
    match offset {
        _ if offset < geometry.identifiers_start() => "first header",
        _ if offset < geometry.payloads_start() => "identifiers",
        _ if offset >= geometry.payloads_end() => "second header",
        _ if offset < end => "batches",
        _ => "free space",
    }
}

/// Where the entries of each segment end.
fn ends(opened: &OpenedLog) -> BTreeMap<u64, u64> {
    let mut ends = BTreeMap::new();
    let first = opened
        .contents
        .first()
        .map_or(0, |first| first.position.index);
    let entries = (first..).map_while(|index| opened.contents.get(index));
    for location in entries {
        let end = location.offset_bytes + 56 + location.payload_bytes as u64;
        ends.insert(location.segment, end.next_multiple_of(4096));
    }
    ends
}

/// One of each kind of damage to a sector.
fn kinds(sector: u64) -> [(&'static str, Damage); 8] {
    let offset_bytes = sector * SECTOR_BYTES;
    let flip = Damage::FlipBit {
        offset_bytes: offset_bytes + sector % SECTOR_BYTES,
        bit: (sector % 8) as u8,
    };
    let byte = Damage::Byte {
        offset_bytes: offset_bytes + (sector * 7) % SECTOR_BYTES,
        value: 0xee,
    };
    let garbage = Damage::GarbageSector {
        offset_bytes,
        seed: sector,
    };
    let stale = |offset_bytes, length_bytes| Damage::StaleRange {
        offset_bytes,
        length_bytes,
    };
    [
        ("bit", flip),
        ("byte", byte),
        ("sector of zeros", Damage::ZeroSector { offset_bytes }),
        ("sector of garbage", garbage),
        (
            "sector that cannot be read",
            Damage::UnreadableSector { offset_bytes },
        ),
        ("older sector", stale(offset_bytes, SECTOR_BYTES)),
        ("4 KiB of zeros", Damage::Zero4KiB { offset_bytes }),
        ("older 4 KiB", stale(offset_bytes / 4096 * 4096, 4096)),
    ]
}

#[test]
fn damage_at_any_one_sector_of_any_kind_is_mended_or_repaired_by_name() {
    let mut tally = Tally::default();
    let (mut whole, mut repaired) = (0, 0);
    for seed in [3, 8, 21] {
        let workload = at_rest(seed, 14);
        let opened = open(&workload.disk.fork(), true).unwrap();
        let ends = ends(&opened);
        for segment in &opened.files.segments {
            let path = &segment.path;
            let length = workload.disk.read(path).unwrap().len() as u64;
            for sector in 0..length / SECTOR_BYTES {
                let offset = sector * SECTOR_BYTES;
                let place = place_of(segment.geometry, &ends, segment.number, offset);
                for (kind, damage) in kinds(sector) {
                    let verdict = match try_damage(&workload, path, &damage) {
                        Outcome::Nothing => continue,
                        Outcome::Whole => {
                            whole += 1;
                            Verdict::Healed
                        }
                        Outcome::Repaired => {
                            repaired += 1;
                            Verdict::Healed
                        }
                        // With one place damaged, all that was there is known from another.
                        Outcome::Refused => Verdict::Unsafe,
                    };
                    tally.count(place, kind, verdict);
                }
            }
        }
    }
    tally.print("one place of a log at rest, mended in it or repaired by name from a copy");
    println!("damage at rest: {whole} mended, {repaired} repaired by name, 0 refused, 0 unsafe");
    assert_eq!(tally.total(Verdict::Unsafe), 0);
    assert!(whole > 1000 && repaired > 300, "{whole} {repaired}");
}

#[test]
fn every_bit_of_the_headers_and_identifiers_may_flip() {
    let workload = at_rest(5, 6);
    let path = segments(&workload.disk).remove(0);
    let bytes = workload.disk.read(&path).unwrap();
    let mut cases = 0;
    for (offset, byte) in bytes.iter().enumerate().take(24 * 1024) {
        if *byte == 0 && offset % 97 != 0 {
            continue;
        }
        let damage = Damage::FlipBit {
            offset_bytes: offset as u64,
            bit: (offset % 8) as u8,
        };
        let outcome = try_damage(&workload, &path, &damage);
        assert!(
            matches!(outcome, Outcome::Whole | Outcome::Repaired),
            "{damage:?}: {outcome:?}"
        );
        cases += 1;
    }
    assert!(cases > 1000, "only {cases} cases");
}

#[test]
fn lost_segments_and_lost_ends_of_segments_are_refused_or_named_and_never_taken_for_an_end() {
    for seed in 0..12 {
        let workload = at_rest(seed, 20);
        let segments = segments(&workload.disk);
        for path in &segments {
            assert_eq!(
                try_damage(&workload, path, &Damage::Remove),
                Outcome::Refused,
                "{} of {}",
                path.display(),
                segments.len()
            );
            let length = workload.disk.read(path).unwrap().len() as u64;
            for length_bytes in [0, 100, 4096, length / 4, length / 2, length - 1] {
                try_damage(&workload, path, &Damage::Truncate { length_bytes });
            }
        }
    }
}

#[test]
fn a_misdirected_write_is_noticed_at_both_places() {
    let mut repaired = 0;
    for seed in 0..cases(2_000) {
        let mut random = SplitMix::new(seed);
        let workload = at_rest(seed % 7, 14);
        let segments = segments(&workload.disk);
        let path = &segments[random.below(segments.len())];
        let length = workload.disk.read(path).unwrap().len();
        let mut sector = || (random.below(length / 512) * 512) as u64;
        let damage = Damage::MisdirectedWrite {
            from_offset_bytes: sector(),
            to_offset_bytes: sector(),
            length_bytes: SECTOR_BYTES,
        };
        // Two places are damaged: a record may lose both its header and its slot, and is refused.
        repaired += usize::from(try_damage(&workload, path, &damage) == Outcome::Repaired);
    }
    assert!(repaired > 20, "only {repaired} repaired");
}

/// A log of several segments whose entries have the same names in all histories.
fn history(byte: u8) -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let mut opened = open(&disk, false).unwrap();
    for index in 0..60 {
        let position = LogPosition { term: 1, index };
        let record = [(RecordKind::Entry, position, &[byte; 3_000][..])];
        let locations = opened.files.append(&record, &opened.contents).unwrap();
        for location in locations {
            opened.contents.apply(RecordKind::Entry, location).unwrap();
        }
    }
    opened.files.flush_mark().unwrap();
    disk.kill()
}

/// Only the chain tells: every checksum of the other file is right, and belongs where it stands.
#[test]
fn a_segment_of_another_history_is_refused() {
    let (ours, theirs) = (history(1), history(2));
    let paths = segments(&ours);
    assert!(paths.len() > 2, "{paths:?}");
    for path in &paths {
        let disk = ours.fork();
        disk.write(path, &theirs.read(path).unwrap()).unwrap();
        let opened = open(&disk, true);
        assert!(
            matches!(opened, Err(LogError::Damaged { .. })),
            "{}: {opened:?}",
            path.display()
        );
    }
}

/// A part of the last batch is as it was before it was written, which would prove that it was never
/// finished, and the mark that says that it was cannot be read.
#[test]
fn a_mark_that_cannot_be_read_is_not_taken_for_one_that_was_never_made() {
    let mut tried = 0;
    for seed in 0..60 {
        let workload = at_rest(seed, 10);
        let disk = workload.disk.kill();
        let opened = open(&disk.fork(), true).unwrap();
        let last = opened.contents.last().map(|last| last.index);
        let Some(location) = last.and_then(|last| opened.contents.get(last)) else {
            continue;
        };
        let payload = location.offset_bytes + 56;
        let sector = payload.next_multiple_of(SECTOR_BYTES);
        if sector + SECTOR_BYTES > payload + location.payload_bytes as u64 {
            continue;
        }
        let path = segments(&disk).pop().unwrap();
        let lost = Damage::StaleRange {
            offset_bytes: sector,
            length_bytes: SECTOR_BYTES,
        };
        let block = location.slot / 10 * SECTOR_BYTES;
        let unreadable = Damage::UnreadableSector {
            offset_bytes: 4096 + block,
        };
        if disk.damage(&path, lost).is_err() || disk.damage(&path, unreadable).is_err() {
            continue;
        }
        if let Ok(opened) = open(&disk, true) {
            workload
                .model()
                .check(&opened)
                .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
        tried += 1;
    }
    assert!(tried > 10, "only {tried} cases");
}
