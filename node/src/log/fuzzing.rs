//! Fuzzing of what the log reads from its disk.

#![allow(clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use quadraft_protocol::NodeId;
use uuid::Uuid;

use super::layout::{
    BATCH_HEADER_BYTES, BlockRead, FormatVersion, IDENTIFIER_BLOCK_BYTES, RECORD_HEADER_BYTES,
    SECTOR_BYTES, SegmentHeaderRead, SegmentSeed, decode_batch_header, decode_identifier_block,
    decode_record_header, decode_segment_header, encode_batch_header, encode_identifier_block,
    encode_record, encode_segment_header, fill_free, fuzzing as seals, record_bytes,
};
use super::open::{inspect_log, open_log};
use super::{LogContents, LogError, LogIdentity, LogOptions, OpenedLog, PayloadDigest, RecordKind};
use crate::disk::SharedFileSystem;
use crate::disk::simulated::SimulatedDisk;
use crate::fuzzing::Input;
use crate::position::LogPosition;

const FOLDER: &str = "/volume/log";
const IDENTITY: LogIdentity = LogIdentity {
    cluster_uuid: Uuid::from_u128(0x11),
    node_id: NodeId(0x22),
    incarnation: Uuid::from_u128(0x33),
};
const OPTIONS: LogOptions = LogOptions {
    segment_bytes: 32 * 1024,
};

#[cfg(test)]
pub(crate) use seals::seal_segment_header;

/// What checksums in a segment of the newest version go on from.
fn seed_of(segment: u64) -> SegmentSeed {
    IDENTITY.seed(segment, FormatVersion::default())
}

/// One header or one block of identifiers: a byte says which, the next whether its checksum is made
/// to match, and then come its bytes.
///
/// What is read is, encoded and read again, the same.
pub fn log_parts(data: &[u8]) {
    const SEGMENT: u64 = 3;
    const OFFSET: u64 = 8192;
    let mut input = Input::new(data);
    let (kind, sealed) = (input.byte(), input.byte() & 1 != 0);
    let mut bytes = input.rest().to_vec();
    let seed = seed_of(SEGMENT);
    match kind % 4 {
        0 => {
            if sealed {
                seals::seal_segment_header(&mut bytes);
            }
            let read = decode_segment_header(&bytes);
            if let SegmentHeaderRead::Good { header, identity } = read {
                let again = decode_segment_header(&encode_segment_header(&identity, &header));
                assert_eq!(again, read);
            }
        }
        1 => {
            if sealed {
                seals::seal(&mut bytes, BATCH_HEADER_BYTES, &seed, OFFSET);
            }
            if let Some(header) = decode_batch_header(&bytes, &seed, OFFSET) {
                let encoded = encode_batch_header(&seed, OFFSET, &header);
                assert_eq!(encoded, bytes[..BATCH_HEADER_BYTES]);
                let elsewhere = decode_batch_header(&bytes, &seed, OFFSET + 4096);
                assert_eq!(elsewhere, None, "it is believed at another place");
            }
        }
        2 => {
            if sealed {
                seals::seal(&mut bytes, RECORD_HEADER_BYTES, &seed, OFFSET);
            }
            if let Some(header) = decode_record_header(&bytes, &seed, OFFSET) {
                let mut encoded = Vec::new();
                let payload = bytes.get(RECORD_HEADER_BYTES..).unwrap_or_default();
                let payload = &payload[..payload.len().min(header.payload_bytes)];
                if payload.len() == header.payload_bytes {
                    encode_record(&mut encoded, &seed, OFFSET, &header, payload);
                    assert_eq!(encoded[..RECORD_HEADER_BYTES], bytes[..RECORD_HEADER_BYTES]);
                    assert_eq!(encoded.len() as u64, record_bytes(header.payload_bytes));
                }
            }
        }
        _ => {
            bytes.resize(usize::try_from(IDENTIFIER_BLOCK_BYTES).unwrap_or(512), 0);
            if sealed {
                let length = bytes.len();
                seals::seal(&mut bytes, length, &seed, OFFSET);
            }
            let read = decode_identifier_block(&bytes, &seed, OFFSET);
            if let BlockRead::Good(block) = &read {
                let encoded = encode_identifier_block(&seed, OFFSET, block);
                let again = decode_identifier_block(&encoded, &seed, OFFSET);
                assert_eq!(again, read);
            }
        }
    }
}

/// The parts of the original log, as seeds of [`log_parts`].
#[cfg(test)]
pub(crate) fn part_seeds() -> Vec<Vec<u8>> {
    let original = original();
    let image = original
        .disk
        .read(&original.segments[1])
        .expect("the original is whole");
    let batch = image
        .chunks(4096)
        .position(|block| block.starts_with(b"QBAT"))
        .expect("a batch")
        * 4096;
    let record = batch + BATCH_HEADER_BYTES;
    [
        (0, &image[..180]),
        (1, &image[batch..record]),
        (2, &image[record..record + 120]),
        (3, &image[4096..4608]),
    ]
    .into_iter()
    .flat_map(|(kind, bytes)| [0, 1].map(|sealed| [&[kind, sealed], bytes].concat()))
    .collect()
}

/// A log at rest, with what it holds.
struct Original {
    disk: SimulatedDisk,
    segments: Vec<PathBuf>,
    entries: Vec<(LogPosition, Vec<u8>)>,
}

/// Three segments, with entries of many lengths, entries that were taken back, and a purge.
fn original() -> &'static Original {
    static ORIGINAL: OnceLock<Original> = OnceLock::new();
    ORIGINAL.get_or_init(|| {
        let disk = SimulatedDisk::new();
        let mut log = open(&disk, false).expect("an empty log opens");
        let at = |term, index| LogPosition { term, index };
        let payload = |index: u64, length: usize| vec![index as u8 + 1; length];
        let lengths = [0, 1, 56, 3000, 500, 7, 4096, 2000, 9000, 64, 1000, 300];
        let mut entries = Vec::new();
        let mut append = |log: &mut OpenedLog, records: &[(RecordKind, LogPosition, Vec<u8>)]| {
            let records: Vec<_> = records
                .iter()
                .map(|(kind, position, payload)| (*kind, *position, payload.as_slice()))
                .collect();
            let locations = log.files.append(&records, &log.contents).expect("append");
            for ((kind, position, payload), location) in records.into_iter().zip(locations) {
                log.contents.apply(kind, location).expect("in order");
                match kind {
                    RecordKind::Entry => entries.push((position, payload.to_vec())),
                    RecordKind::TruncateAfter => {
                        entries
                            .retain(|(entry, _): &(LogPosition, _)| entry.index < position.index);
                    }
                    _ => {}
                }
            }
        };
        for (index, length) in (0..).zip(lengths) {
            let record = (RecordKind::Entry, at(1, index), payload(index, length));
            append(&mut log, &[record]);
        }
        append(
            &mut log,
            &[
                (RecordKind::Committed, at(1, 8), Vec::new()),
                (RecordKind::TruncateAfter, at(0, 10), Vec::new()),
            ],
        );
        let more: Vec<_> = (10..22)
            .map(|index| (RecordKind::Entry, at(2, index), payload(index, 40)))
            .collect();
        append(&mut log, &more);
        append(&mut log, &[(RecordKind::Purged, at(1, 2), Vec::new())]);
        log.files.flush_mark().expect("the mark is written");
        entries.retain(|(position, _)| position.index > 2);
        let segments: Vec<_> = disk
            .files()
            .into_iter()
            .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
            .collect();
        assert!(segments.len() >= 3, "{segments:?}");
        Original {
            disk,
            segments,
            entries,
        }
    })
}

fn open(disk: &SimulatedDisk, must_exist: bool) -> Result<OpenedLog, LogError> {
    let file_system: SharedFileSystem = Arc::new(disk.clone());
    open_log(
        &file_system,
        Path::new(FOLDER),
        IDENTITY,
        OPTIONS,
        must_exist,
    )
}

fn inspect(disk: &SimulatedDisk) -> Result<LogContents, LogError> {
    let file_system: SharedFileSystem = Arc::new(disk.clone());
    inspect_log(&file_system, Path::new(FOLDER), IDENTITY, true).map(|log| log.contents)
}

fn files(disk: &SimulatedDisk) -> Vec<(PathBuf, Vec<u8>)> {
    disk.files()
        .into_iter()
        .map(|path| {
            let bytes = disk.read(&path).expect("the disk is whole");
            (path, bytes)
        })
        .collect()
}

/// A whole log, changed: a byte that says whether checksums of headers and names are made to match,
/// and then changes, each a byte for its kind, one for the segment, four for the place, and more.
///
/// Inspecting writes nothing and finds what opening finds; what is refused is not changed; what
/// opens is in order, lies within its segments, and no entry is read whose payload has another
/// digest than its name. It opens again as the same log.
pub fn log_segments(data: &[u8]) {
    let original = original();
    let mut input = Input::new(data);
    let forged = input.byte() & 1 != 0;
    let mut images: Vec<Vec<u8>> = original
        .segments
        .iter()
        .map(|path| original.disk.read(path).expect("the original is whole"))
        .collect();
    // A disk that gives back what stood there before a write that it had acknowledged cannot always be
    // found out (docs/formats/log.md): then what is left need only be a log.
    let mut comparable = !forged;
    while !input.is_empty() {
        comparable &= change(&mut images, &mut input) != Change::Reverted;
    }
    let disk = SimulatedDisk::new();
    for ((number, image), path) in (1..).zip(&mut images).zip(&original.segments) {
        if forged {
            seals::seal_segment(image, &seed_of(number));
        }
        if !image.is_empty() {
            disk.write(path, image).expect("the segment is written");
        }
    }
    let before = files(&disk);
    let inspected = inspect(&disk);
    assert_eq!(before, files(&disk), "inspecting changed something");
    let opened = match (inspected, open(&disk, true)) {
        (Ok(inspected), Ok(opened)) => {
            assert_eq!(inspected, opened.contents, "inspecting is not opening");
            opened
        }
        (Err(_), Err(_)) => {
            assert_eq!(before, files(&disk), "what is refused was changed");
            return;
        }
        (inspected, opened) => panic!("inspected: {inspected:?}, opened: {opened:?}"),
    };
    check(&opened, original, comparable);
    let contents = opened.contents.clone();
    drop(opened);
    let again = open_again(&disk, &contents);
    // A forged block of names behind the last record stays, and is mended around each time.
    if !forged && !again.findings.mended.is_empty() {
        // A sector that the end of a short file cut in two can be read once the file has its length:
        // then it serves to mend what it names.
        assert!(contents.unreadable().next().is_some());
        let contents = again.contents.clone();
        drop(again);
        let again = open_again(&disk, &contents);
        assert_eq!(again.findings.mended, Vec::<String>::new());
    }
}

/// Opens a log that was opened before: as the same log, of which no less can be read.
fn open_again(disk: &SimulatedDisk, before: &LogContents) -> OpenedLog {
    let again = open(disk, true).expect("what was opened opens again");
    assert!(
        again
            .contents
            .unreadable()
            .all(|entry| before.unreadable().any(|before| before == entry))
    );
    let by_name = |contents: &LogContents| {
        let mut readable = contents.clone();
        for entry in contents.unreadable() {
            readable.mark_repaired(entry.position.index);
        }
        readable
    };
    assert_eq!(
        by_name(&again.contents),
        by_name(before),
        "it opens as another log"
    );
    assert_eq!(again.findings.torn_tail, None);
    again
}

/// What kind of change was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Damaged,
    /// A sector has its free mark again.
    Reverted,
}

fn change(images: &mut [Vec<u8>], input: &mut Input<'_>) -> Change {
    let kind = input.byte();
    let segment = usize::from(input.byte()) % images.len();
    let place = input.number() as usize;
    let length = images[segment].len();
    if length == 0 {
        return Change::Damaged;
    }
    let at = place % length;
    let sector_bytes = usize::try_from(SECTOR_BYTES).unwrap_or(512);
    let sector = at / sector_bytes * sector_bytes;
    let whole_sector = sector..(sector + sector_bytes).min(length);
    match kind % 7 {
        0 => {
            let count = usize::from(input.byte());
            let bytes = input.take(count);
            let end = (at + bytes.len()).min(length);
            images[segment][at..end].copy_from_slice(&bytes[..end - at]);
        }
        1 => images[segment][whole_sector].fill(0),
        2 => {
            let other = usize::from(input.byte()) % images.len();
            let from = input.short() * sector_bytes;
            if let Some(bytes) = images[other].get(from..from + whole_sector.len()) {
                let bytes = bytes.to_vec();
                images[segment][whole_sector].copy_from_slice(&bytes);
            }
        }
        3 => images[segment].truncate(at),
        4 => {
            if whole_sector.len() == sector_bytes {
                let free = fill_free(&seed_of(segment as u64 + 1), sector as u64, SECTOR_BYTES);
                images[segment][whole_sector].copy_from_slice(&free);
                return Change::Reverted;
            }
        }
        5 => images[segment][at] ^= 1 << (input.byte() % 8),
        // The file is gone.
        _ => images[segment].clear(),
    }
    Change::Damaged
}

fn check(opened: &OpenedLog, original: &Original, comparable: bool) {
    let contents = &opened.contents;
    contents.validate().expect("positions are in order");
    let readers = opened.files.readers();
    let first = contents.first().map_or(0, |entry| entry.position.index);
    let entries: Vec<_> = (first..).map_while(|index| contents.get(index)).collect();
    assert_eq!(entries.len(), contents.len());
    let unreadable: Vec<_> = contents.unreadable().map(|entry| entry.position).collect();
    for location in &entries {
        let end = location.offset_bytes + record_bytes(location.payload_bytes);
        let segment = &opened
            .files
            .segments
            .iter()
            .find(|segment| segment.number == location.segment)
            .expect("the segment of an entry is open");
        assert!(
            location.offset_bytes >= segment.geometry.payloads_start()
                && end <= segment.geometry.payloads_end(),
            "{location:?} lies outside of {:?}",
            segment.geometry
        );
        match readers.read(location) {
            Ok(payload) => {
                let name = readers.name(location).expect("an entry has a name");
                assert_eq!(PayloadDigest::of(&payload), name.digest, "{location:?}");
                let written = original
                    .entries
                    .iter()
                    .find(|(position, _)| *position == location.position);
                if comparable {
                    let (_, written) = written.expect("no entry appears");
                    assert_eq!(&payload, written, "{location:?}");
                }
            }
            Err(LogError::Unreadable { entry, .. }) => {
                assert!(unreadable.contains(&entry), "{entry} is not known as lost");
            }
            Err(error) => panic!("{location:?}: {error}"),
        }
    }
}
