//! The stored volume: one example of every format on disk, which every later version opens, and
//! what becomes of formats that this version does not know.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use quadraft_protocol::{ExitCode, NodeId, RefusalReason};
use uuid::Uuid;

use super::{OpenOptions, StorePlace, list_entries, log_identity, open_volume, verify_volume};
use crate::disk::simulated::{Damage, SimulatedDisk};
use crate::disk::twin::{COPY_BYTES, copies_of_file, file_of_stored_copies};
use crate::disk::{FileSystem as _, OpenMode, SharedFileSystem};
use crate::fuzzing::{seal_segment_header, seal_twin};
use crate::identity::{StoredVote, Superblock, SuperblockFile, VolumeState, VoteFile};
use crate::log::{
    InspectedLog, LogOptions, NewRecord, OpenedLog, RecordKind, inspect_log, open_log,
};
use crate::position::LogPosition;
use crate::state::{Command, Effects, RequestId, verify_snapshot};

const DATA: &str = "/volume";

/// Superblock and vote, format version 1: their two copies, without what lies between.
const SUPERBLOCK: &[u8] = include_bytes!("fixtures/superblock-1.bin");
const VOTE: &[u8] = include_bytes!("fixtures/vote-1.bin");
/// Segments of the log, format version 3.
const SEGMENTS: [&[u8]; 2] = [
    include_bytes!("fixtures/log-3-segment-1.bin"),
    include_bytes!("fixtures/log-3-segment-2.bin"),
];
/// The same log in format version 2.
const SEGMENTS_2: [&[u8]; 2] = [
    include_bytes!("fixtures/log-2-segment-1.bin"),
    include_bytes!("fixtures/log-2-segment-2.bin"),
];
/// A snapshot, format version 1.
const SNAPSHOT: &[u8] = include_bytes!("../state/fixtures/snapshot-1.bin");

const ADVICE: &str = "a format that changes gets a new version, the stored example of the old one \
    stays, and both are read: docs/formats/versions.md";

fn path(name: &str) -> PathBuf {
    Path::new(DATA).join(name)
}

fn segment_path(number: usize) -> PathBuf {
    path(&format!("log/{number:016}.log"))
}

fn snapshot_path() -> PathBuf {
    path(&format!("snapshots/{:020}-{:020}.snapshot", 1, 3))
}

/// The stored volume: names of its files within its folder, and their bytes.
fn stored_volume() -> Vec<(PathBuf, Vec<u8>)> {
    files(&stored())
        .into_iter()
        .map(|(path, bytes)| (path.strip_prefix(DATA).unwrap().to_owned(), bytes))
        .collect()
}

/// The stored volume in a real folder.
pub(crate) fn stored_volume_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, bytes) in stored_volume() {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    folder
}

/// The stored volume on a disk.
fn stored() -> SimulatedDisk {
    stored_with(SEGMENTS)
}

/// The stored volume with these segments.
fn stored_with(segments: [&[u8]; 2]) -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    disk.write(&path("superblock"), &file_of_stored_copies(SUPERBLOCK))
        .unwrap();
    disk.write(&path("vote"), &file_of_stored_copies(VOTE))
        .unwrap();
    for (number, segment) in (1..).zip(segments) {
        disk.write(&segment_path(number), segment).unwrap();
    }
    disk.write(&snapshot_path(), SNAPSHOT).unwrap();
    disk
}

fn superblock() -> Superblock {
    Superblock {
        node_id: NodeId(0x0123_4567_89ab_cdef),
        incarnation: Uuid::from_u128(0x33),
        cluster_uuid: Uuid::from_u128(0x11),
        boot_count: 4,
        previous_node_id: NodeId(0x77),
        state: VolumeState::Normal,
        made_promises: true,
    }
}

const VOTED: StoredVote = StoredVote {
    term: 2,
    candidate: NodeId(0x0123_4567_89ab_cdef),
    committed: true,
};

const fn at(term: u64, index: u64) -> LogPosition {
    LogPosition { term, index }
}

fn command(base_index: u64, value: &str) -> Vec<u8> {
    let node = |name: &str| oxrdf::NamedNode::new_unchecked(format!("http://example.com/{name}"));
    let effects = Effects {
        inserts: vec![oxrdf::Quad::new(
            node("a"),
            node("p"),
            oxrdf::Literal::new_simple_literal(value),
            node("g"),
        )],
        ..Effects::default()
    };
    let command = Command {
        base_index,
        requests: vec![(RequestId::from_key(value), effects)],
    };
    [&[1], command.encode().as_slice()].concat()
}

/// The entries that the stored log holds.
fn entries() -> Vec<(LogPosition, Vec<u8>)> {
    vec![
        (at(1, 4), command(3, "short")),
        (at(2, 5), vec![0]),
        (at(2, 6), command(4, &"long ".repeat(700))),
        (at(2, 7), Vec::new()),
    ]
}

/// The stored volume, written by this version.
fn written() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let file_system: SharedFileSystem = Arc::new(disk.clone());
    disk.create_directory(Path::new(DATA)).unwrap();
    let born = Superblock {
        boot_count: 3,
        ..superblock()
    };
    let mut file = SuperblockFile::create(&disk, Path::new(DATA), born).unwrap();
    file.update(|superblock| superblock.boot_count = 4).unwrap();
    let (mut vote, _) =
        VoteFile::open(file_system.clone(), Path::new(DATA), OpenMode::ReadWrite).unwrap();
    for term in [1, 2] {
        vote.save(StoredVote { term, ..VOTED }).unwrap();
    }
    let options = LogOptions {
        segment_bytes: 28 * 1024,
    };
    let identity = log_identity(&superblock());
    let mut log = open_log(&file_system, &path("log"), identity, options, false).unwrap();
    log.files.set_writer(superblock().cluster_uuid, 4);
    let entries = entries();
    let entry = |number: usize| -> NewRecord<'_> {
        let (position, payload) = &entries[number];
        (RecordKind::Entry, *position, payload)
    };
    let batches: [&[NewRecord<'_>]; 6] = [
        &[
            (RecordKind::Entry, at(1, 0), b"\x02"),
            (RecordKind::Entry, at(1, 1), b"\0"),
            (RecordKind::Entry, at(1, 2), b"\0"),
            (RecordKind::Entry, at(1, 3), b"\0"),
        ],
        &[(RecordKind::Committed, at(1, 3), b""), entry(0)],
        &[(RecordKind::Entry, at(1, 5), b"\0")],
        &[(RecordKind::TruncateAfter, at(0, 5), b""), entry(1)],
        &[entry(2)],
        &[
            entry(3),
            (RecordKind::Purged, at(1, 3), b""),
            (RecordKind::Committed, at(2, 6), b""),
        ],
    ];
    for records in batches {
        let locations = log.files.append(records, &log.contents).unwrap();
        for ((kind, _, _), location) in records.iter().zip(locations) {
            log.contents.apply(*kind, location).unwrap();
        }
    }
    log.files.flush_mark().unwrap();
    disk.write(&snapshot_path(), SNAPSHOT).unwrap();
    disk
}

fn files(disk: &SimulatedDisk) -> Vec<(PathBuf, Vec<u8>)> {
    disk.files()
        .into_iter()
        .map(|path| {
            let bytes = disk.read(&path).unwrap();
            (path, bytes)
        })
        .collect()
}

fn options() -> OpenOptions {
    OpenOptions {
        data: DATA.into(),
        cluster_uuid: None,
        log: LogOptions::default(),
        store: StorePlace::Memory,
        lets_go_of_applied: false,
    }
}

#[test]
fn every_stored_file_is_read_as_it_was_written() {
    let disk = stored();
    let file_system: SharedFileSystem = Arc::new(disk.clone());
    let (read, stale) = SuperblockFile::open(&disk, Path::new(DATA), OpenMode::Read)
        .unwrap_or_else(|error| panic!("the stored superblock of format 1: {error}; {ADVICE}"))
        .unwrap();
    assert_eq!((read.current(), stale), (&superblock(), None), "{ADVICE}");
    let (vote, stale) = VoteFile::open(file_system.clone(), Path::new(DATA), OpenMode::Read)
        .unwrap_or_else(|error| panic!("the stored vote of format 1: {error}; {ADVICE}"));
    assert_eq!((vote.current(), stale), (Some(VOTED), None), "{ADVICE}");

    for (version, segments) in [(2, SEGMENTS_2), (3, SEGMENTS)] {
        let file_system: SharedFileSystem = Arc::new(stored_with(segments));
        let identity = log_identity(&superblock());
        let InspectedLog {
            contents, findings, ..
        } = inspect_log(&file_system, &path("log"), identity, true)
            .unwrap_or_else(|error| panic!("the log of format {version}: {error}; {ADVICE}"));
        assert_eq!(findings, Default::default(), "{ADVICE}");
        assert_eq!(
            (contents.purged(), contents.committed(), contents.last()),
            (Some(at(1, 3)), Some(at(2, 6)), Some(at(2, 7))),
            "{ADVICE}"
        );
        let log = open_stored_log(&file_system, LogOptions::default());
        assert_eq!(log.contents.len(), entries().len());
        assert_is_in(&log, &entries());
    }
    let snapshot = verify_snapshot(&mut &SNAPSHOT[..])
        .unwrap_or_else(|error| panic!("the stored snapshot of format 1: {error}; {ADVICE}"));
    assert_eq!(snapshot.status.applied, Some(at(1, 3)));
}

fn open_stored_log(file_system: &SharedFileSystem, options: LogOptions) -> OpenedLog {
    let identity = log_identity(&superblock());
    open_log(file_system, &path("log"), identity, options, true).unwrap()
}

fn assert_is_in(log: &OpenedLog, entries: &[(LogPosition, Vec<u8>)]) {
    for (position, payload) in entries {
        let location = log.contents.get(position.index).unwrap();
        assert_eq!(location.position, *position, "{ADVICE}");
        let read = log.files.readers().read(&location).unwrap();
        assert!(read == *payload, "entry {position}; {ADVICE}");
    }
}

#[test]
fn the_stored_volume_can_be_served_from() {
    for segments in [SEGMENTS_2, SEGMENTS] {
        let file_system: SharedFileSystem = Arc::new(stored_with(segments));
        assert!(verify_volume(&file_system, Path::new(DATA)).is_clean());
        let (volume, report) = open_volume(&file_system, &options())
            .unwrap_or_else(|refusal| panic!("{}; {ADVICE}", refusal.report.message));
        assert_eq!(report.boot_count, 5);
        assert_eq!(volume.state.applied(), Some(at(1, 3)));
        assert_eq!((report.entries_replayed, volume.state.quads()), (3, 6));
    }
}

/// A segment stays in the version that it began with; what comes after it is of the newest.
#[test]
fn a_log_of_the_version_before_goes_on() {
    let disk = stored_with(SEGMENTS_2);
    let file_system: SharedFileSystem = Arc::new(disk.clone());
    let options = LogOptions {
        segment_bytes: 28 * 1024,
    };
    let version_of = |number| {
        u32::from_le_bytes(
            disk.read(&segment_path(number)).unwrap()[8..12]
                .try_into()
                .unwrap(),
        )
    };
    let mut log = open_stored_log(&file_system, options);
    log.files.set_writer(superblock().cluster_uuid, 5);
    let mut entries = entries();
    for index in 8..20 {
        let (position, payload) = (at(2, index), vec![index as u8; 1000]);
        let record = (RecordKind::Entry, position, payload.as_slice());
        let location = log.files.append(&[record], &log.contents).unwrap()[0];
        log.contents.apply(RecordKind::Entry, location).unwrap();
        entries.push((position, payload));
    }
    log.files.flush_mark().unwrap();
    drop(log);
    let versions: Vec<_> = (1..=5)
        .map_while(|number| {
            disk.read(&segment_path(number))
                .ok()
                .map(|_| version_of(number))
        })
        .collect();
    assert_eq!(versions, [2, 2, 3, 3, 3], "{ADVICE}");

    // In each version, a record with a damaged header is written again as it was.
    let log = open_stored_log(&file_system, options);
    assert_is_in(&log, &entries);
    let places: Vec<_> = entries
        .iter()
        .map(|(position, _)| log.contents.get(position.index).unwrap())
        .collect();
    drop(log);
    for place in places {
        let path = segment_path(usize::try_from(place.segment).unwrap());
        let before = disk.read(&path).unwrap();
        let damage = Damage::FlipBit {
            offset_bytes: place.offset_bytes + 20,
            bit: 3,
        };
        disk.damage(&path, damage).unwrap();
        drop(open_stored_log(&file_system, options));
        assert!(disk.read(&path).unwrap() == before, "{place:?}; {ADVICE}");
    }
}

/// Bytes that changed while the version did not would make two formats with one number.
#[test]
fn this_version_writes_what_is_stored() {
    let written = written();
    for (path, stored) in files(&stored()) {
        let now = written.read(&path).unwrap_or_default();
        assert!(
            now == stored,
            "{} is written in another way than the stored one; {ADVICE}",
            path.display()
        );
    }
    assert_eq!(written.files(), stored().files(), "{ADVICE}");
}

/// Writes the files of the stored volume to the folder in `QUADRAFT_FIXTURES`.
#[test]
#[ignore = "writes files"]
fn write_fixtures() {
    let folder = PathBuf::from(std::env::var("QUADRAFT_FIXTURES").unwrap());
    let disk = written();
    let put = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).unwrap();
    for name in ["superblock", "vote"] {
        put(
            &format!("{name}-1.bin"),
            &copies_of_file(&disk.read(&path(name)).unwrap()),
        );
    }
    for number in 1..=SEGMENTS.len() {
        let name = format!("log-3-segment-{number}.bin");
        put(&name, &disk.read(&segment_path(number)).unwrap());
    }
}

/// The stored volume with one file of a later version.
fn with_later_version(name: &str) -> SimulatedDisk {
    let disk = stored();
    let path = match name {
        "log" => segment_path(1),
        "snapshot" => snapshot_path(),
        name => path(name),
    };
    let mut bytes = disk.read(&path).unwrap();
    let raise = |bytes: &mut [u8]| bytes[8..12].copy_from_slice(&99_u32.to_le_bytes());
    match name {
        "log" => {
            let second = bytes.len() - COPY_BYTES;
            for place in [0, second] {
                raise(&mut bytes[place..]);
                seal_segment_header(&mut bytes[place..]);
            }
        }
        "snapshot" => {
            raise(&mut bytes);
            // Its checksums begin otherwise.
            let length = u32::from_le_bytes(bytes[13..17].try_into().unwrap());
            bytes[17 + length as usize] ^= 1;
        }
        _ => {
            let mut copies = copies_of_file(&bytes);
            for copy in copies.chunks_exact_mut(COPY_BYTES) {
                raise(copy);
                seal_twin(copy);
            }
            bytes = file_of_stored_copies(&copies);
        }
    }
    disk.write(&path, &bytes).unwrap();
    disk
}

#[test]
fn a_format_that_is_not_known_is_refused_by_its_number_and_kept() {
    for name in ["superblock", "vote", "log", "snapshot"] {
        let disk = with_later_version(name);
        let file_system: SharedFileSystem = Arc::new(disk.clone());
        let verified = verify_volume(&file_system, Path::new(DATA));
        assert_eq!(verified.exit_code(), ExitCode::WrongIdentity, "{name}");
        assert_eq!((verified.damage.len(), verified.mendable.len()), (0, 0));
        assert!(
            verified.unknown_formats[0].contains("version 99"),
            "{verified:?}"
        );

        let before = files(&disk);
        let refusal = open_volume(&file_system, &options()).unwrap_err();
        assert_eq!(refusal.exit_code, ExitCode::WrongIdentity, "{name}");
        assert_eq!(refusal.report.reason, Some(RefusalReason::UnknownFormat));
        assert!(refusal.report.message.contains("version 99"), "{refusal:?}");
        // The start was counted, and the volume locked; nothing else.
        let kept = |files: Vec<(PathBuf, Vec<u8>)>| -> Vec<_> {
            let others = [path("superblock"), path("lock")];
            let mut files = files;
            files.retain(|(path, _)| !others.contains(path));
            files
        };
        assert_eq!(kept(files(&disk)), kept(before), "{name}");
    }
}

#[test]
fn looking_at_a_volume_writes_nothing() {
    let flip = |offset_bytes| Damage::FlipBit {
        offset_bytes,
        bit: 3,
    };
    let damages: [&[(PathBuf, u64)]; 8] = [
        &[],
        &[(path("superblock"), 30)],
        &[
            (path("superblock"), 30),
            (path("superblock"), 1024 * 1024 + 30),
        ],
        &[(path("vote"), 30), (path("vote"), 1024 * 1024 + 30)],
        &[(segment_path(1), 20)],
        &[(segment_path(2), 4100)],
        &[(segment_path(2), 8200)],
        &[(snapshot_path(), 100)],
    ];
    for damage in damages {
        let disk = stored();
        for (path, offset_bytes) in damage {
            disk.damage(path, flip(*offset_bytes)).unwrap();
        }
        let before = files(&disk);
        let file_system: SharedFileSystem = Arc::new(disk.clone());
        let report = verify_volume(&file_system, Path::new(DATA));
        assert_eq!(
            report.is_clean(),
            damage.is_empty(),
            "{damage:?}: {report:?}"
        );
        let _names = list_entries(&file_system, Path::new(DATA), &superblock(), 100);
        assert_eq!(files(&disk), before, "{damage:?}");
    }
}
