//! Opening the log: reading every segment, deciding what its state means, and making whole what
//! can be made whole from what is there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::append::BatchBytes;
use super::contents::{EntryLocation, LogContents};
use super::error::LogError;
use super::files::{LogFiles, LogOptions};
use super::identifiers::Identifiers;
use super::image::{SegmentImage, read_block};
use super::layout::{
    BLOCK_BYTES, LogIdentity, RecordKind, SegmentHeader, SegmentHeaderRead, decode_segment_header,
};
use super::load::Loading;
use super::restore::{mend_segment, reopen_tail};
use super::scan::{SegmentEnd, SegmentScan, scan_segment};
use super::scrub::describe;
use super::segment::{Segment, SegmentReaders};
use crate::disk::{File, OpenMode, SharedFileSystem};
use crate::planted::{Bug, is_planted};
use crate::position::LogPosition;

/// The end of the log that was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    pub path: PathBuf,
    pub offset_bytes: u64,
    pub bytes: u64,
}

/// What reading the log found, apart from its contents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFindings {
    pub torn_tail: Option<TornTail>,
    /// Damage that is made good from the log itself, one sentence each.
    pub mended: Vec<String>,
}

/// A log that can be used. Entries in [`LogContents::unreadable`] are known by name only.
#[derive(Debug)]
pub struct OpenedLog {
    pub files: LogFiles,
    pub contents: LogContents,
    pub findings: LogFindings,
}

/// A log that was read without changing anything.
#[derive(Debug)]
pub struct InspectedLog {
    /// What it holds, as opening it for writing would leave it.
    pub contents: LogContents,
    /// What opening it for writing would cut off or mend.
    pub findings: LogFindings,
    /// Gives payloads.
    pub readers: SegmentReaders,
}

/// One segment as it was read.
pub(crate) struct ReadSegment {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn File>,
    pub(crate) header: SegmentHeader,
    /// The copy of the header, 0 or 1, that is damaged.
    pub(crate) damaged_header: Option<usize>,
    pub(crate) image: SegmentImage,
    pub(crate) scan: SegmentScan,
    /// The highest index of an entry that was written here.
    pub(crate) highest_index: Option<u64>,
}

/// One segment in memory, not looked at yet.
pub(super) struct LoadedSegment {
    path: PathBuf,
    file: Box<dyn File>,
    header: SegmentHeader,
    damaged_header: Option<usize>,
    image: SegmentImage,
    identifiers: Identifiers,
}

/// What reading all segments gave, before anything is changed.
#[derive(Default)]
struct ReadLog {
    segments: Vec<ReadSegment>,
    contents: LogContents,
    findings: LogFindings,
    /// A segment behind the active one in which nothing was written yet.
    unused: Option<PathBuf>,
}

/// Opens the log in `folder`, cuts off a torn tail, and mends what can be mended without a peer.
/// `must_exist` is what the superblock says: a log was there.
///
/// # Errors
/// When anything is missing, or is damaged and has lost its name.
pub fn open_log(
    file_system: &SharedFileSystem,
    folder: &Path,
    identity: LogIdentity,
    options: LogOptions,
    must_exist: bool,
) -> Result<OpenedLog, LogError> {
    crate::disk::create_directories(file_system.as_ref(), folder)
        .map_err(|source| LogError::io("create", folder, source))?;
    let mode = OpenMode::ReadWrite;
    let read = read_log(file_system, folder, &identity, mode, must_exist)?;
    if let Some(path) = &read.unused {
        crate::disk::remove_durably(file_system.as_ref(), path)
            .map_err(|source| LogError::io("remove", path, source))?;
    }
    let mut tail = None;
    let mut segments = Vec::with_capacity(read.segments.len());
    let count = read.segments.len();
    for (number, segment) in read.segments.iter().enumerate() {
        let failed = |source| LogError::io("mend", &segment.path, source);
        mend_segment(segment, &identity).map_err(failed)?;
        if number + 1 == count {
            tail = Some(reopen_tail(segment, &identity).map_err(failed)?);
        }
    }
    for segment in read.segments {
        segments.push(to_segment(segment));
    }
    Ok(OpenedLog {
        files: LogFiles {
            file_system: file_system.clone(),
            folder: folder.to_owned(),
            identity,
            boot_count: 0,
            options,
            readers: SegmentReaders::new(identity, &segments),
            segments,
            tail,
            mark_is_pending: false,
            next: None,
            bytes: BatchBytes::default(),
            preparation_failed: false,
        },
        contents: read.contents,
        findings: read.findings,
    })
}

fn to_segment(read: ReadSegment) -> Segment {
    Segment {
        number: read.header.number,
        version: read.header.version,
        path: read.path,
        file: read.file,
        geometry: read.header.geometry,
        highest_index: read.highest_index,
    }
}

/// Reads the log without changing anything.
///
/// # Errors
/// As [`open_log`].
pub fn inspect_log(
    file_system: &SharedFileSystem,
    folder: &Path,
    identity: LogIdentity,
    must_exist: bool,
) -> Result<InspectedLog, LogError> {
    let exists = file_system
        .exists(folder)
        .map_err(|source| LogError::io("look for", folder, source))?;
    if !exists && must_exist {
        return Err(LogError::Missing);
    }
    let read = if exists {
        read_log(file_system, folder, &identity, OpenMode::Read, must_exist)?
    } else {
        ReadLog::default()
    };
    let segments: Vec<_> = read.segments.into_iter().map(to_segment).collect();
    Ok(InspectedLog {
        contents: read.contents,
        findings: read.findings,
        readers: SegmentReaders::new(identity, &segments),
    })
}

fn read_log(
    file_system: &SharedFileSystem,
    folder: &Path,
    identity: &LogIdentity,
    mode: OpenMode,
    must_exist: bool,
) -> Result<ReadLog, LogError> {
    let paths: Vec<PathBuf> = file_system
        .list(folder)
        .map_err(|source| LogError::io("list", folder, source))?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    if paths.is_empty() && must_exist {
        return Err(LogError::Missing);
    }
    let mut read = ReadLog::default();
    let loading = Loading {
        file_system,
        folder,
        identity,
        mode,
    };
    loading.each(paths, |loaded| {
        let segment = scan_loaded(loaded, identity);
        match read.segments.last() {
            Some(previous) => {
                if segment.header.number != previous.header.number + 1 {
                    return Err(LogError::MissingSegment {
                        number: previous.header.number + 1,
                    });
                }
                if previous.scan.end != SegmentEnd::Sealed {
                    // The crash came after this one was made and before the one before it was
                    // sealed.
                    if segment.scan.records.is_empty() && segment.scan.end == SegmentEnd::Clean {
                        read.unused = Some(segment.path);
                        return Ok(Vec::new());
                    }
                    return Err(broken_off(previous));
                }
                if segment.header.chain != previous.scan.chain && !is_planted(Bug::ChainIgnored) {
                    return Err(LogError::Damaged {
                        path: segment.path,
                        offset_bytes: 0,
                        what: "it does not go on from the segment before it",
                    });
                }
            }
            None => {
                let SegmentHeader {
                    last,
                    purged,
                    committed,
                    ..
                } = segment.header;
                read.contents = LogContents::starting_after(last, purged, committed);
            }
        }
        read.take_in(segment)
    })?;
    if let Some(last) = read.segments.last()
        && last.scan.end == SegmentEnd::Sealed
    {
        return Err(LogError::MissingSegment {
            number: last.header.number + 1,
        });
    }
    read.contents.validate()?;
    Ok(read)
}

fn broken_off(segment: &ReadSegment) -> LogError {
    LogError::Damaged {
        path: segment.path.clone(),
        offset_bytes: segment.scan.end_bytes,
        what: "its end is gone, though the next segment was written",
    }
}

/// Reads one segment into memory; `buffer` is used for that.
pub(super) fn load_segment(
    file_system: &SharedFileSystem,
    path: PathBuf,
    identity: &LogIdentity,
    mode: OpenMode,
    buffer: Vec<u8>,
) -> Result<LoadedSegment, LogError> {
    let file = file_system
        .open(&path, mode)
        .map_err(|source| LogError::io("open", &path, source))?;
    // What the page cache shows may never have reached the disk.
    file.forget_cached()
        .map_err(|source| LogError::io("read", &path, source))?;
    let (header, damaged_header) = read_header(file.as_ref(), &path, identity)?;
    let geometry = header.geometry;
    let seed = identity.seed(header.number, header.version);
    let mut image = SegmentImage::read(file.as_ref(), geometry, 0, buffer);
    let mut identifiers = Identifiers::read(&image, &seed, geometry);
    let reach = identifiers.reach_bytes();
    if reach > image.end_bytes() {
        image = SegmentImage::read(file.as_ref(), geometry, reach, image.release());
        identifiers = Identifiers::read(&image, &seed, geometry);
    }
    Ok(LoadedSegment {
        path,
        file,
        header,
        damaged_header,
        image,
        identifiers,
    })
}

fn scan_loaded(loaded: LoadedSegment, identity: &LogIdentity) -> ReadSegment {
    let LoadedSegment {
        path,
        file,
        header,
        damaged_header,
        image,
        identifiers,
    } = loaded;
    let seed = identity.seed(header.number, header.version);
    let scan = scan_segment(&image, &seed, &header, identifiers);
    let entries = scan
        .records
        .iter()
        .filter(|record| record.slot.kind == RecordKind::Entry);
    let highest_index = entries.map(|record| record.slot.position.index).max();
    ReadSegment {
        path,
        file: Arc::from(file),
        header,
        damaged_header,
        image,
        scan,
        highest_index,
    }
}

/// Reads the header from either of its copies.
pub(crate) fn read_header(
    file: &dyn File,
    path: &Path,
    identity: &LogIdentity,
) -> Result<(SegmentHeader, Option<usize>), LogError> {
    let read_copy = |offset: Option<u64>| {
        offset
            .and_then(|offset| read_block(file, offset))
            .map_or(SegmentHeaderRead::Damaged, |bytes| {
                decode_segment_header(&bytes)
            })
    };
    let length = file
        .length_bytes()
        .map_err(|source| LogError::io("read the length of", path, source))?;
    let first = read_copy(Some(0));
    let second_offset = match first {
        SegmentHeaderRead::Good { header, .. } => Some(header.geometry.second_header()),
        _ => length.checked_sub(BLOCK_BYTES),
    };
    let second = read_copy(second_offset);
    let (found, damaged) = match (first, second) {
        (SegmentHeaderRead::UnknownFormat(version), _)
        | (_, SegmentHeaderRead::UnknownFormat(version)) => {
            return Err(LogError::UnknownFormat {
                path: path.to_owned(),
                version,
            });
        }
        (SegmentHeaderRead::Damaged, SegmentHeaderRead::Damaged) => {
            return Err(LogError::Damaged {
                path: path.to_owned(),
                offset_bytes: 0,
                what: "both copies of the segment's header are unreadable",
            });
        }
        (first @ SegmentHeaderRead::Good { .. }, second) if first == second => (first, None),
        (first @ SegmentHeaderRead::Good { .. }, _) => (first, Some(1)),
        (SegmentHeaderRead::Damaged, second) => (second, Some(0)),
    };
    let SegmentHeaderRead::Good {
        header,
        identity: found,
    } = found
    else {
        return Err(LogError::Missing);
    };
    if found != *identity {
        return Err(LogError::WrongIdentity {
            path: path.to_owned(),
            found,
            expected: *identity,
        });
    }
    Ok((header, damaged))
}

impl ReadLog {
    /// Takes in the next segment; gives back the memory of its image when that is not needed.
    fn take_in(&mut self, mut segment: ReadSegment) -> Result<Vec<u8>, LogError> {
        for (slot, record) in segment.scan.records.iter().enumerate() {
            let location = EntryLocation {
                position: record.slot.position,
                segment: segment.header.number,
                slot: slot as u64,
                offset_bytes: record.slot.offset_bytes,
                payload_bytes: record.slot.payload_bytes,
            };
            self.contents.apply(record.slot.kind, location)?;
            if !record.readable && is_planted(Bug::UnreadableMeansAbsent) {
                let location = EntryLocation {
                    position: LogPosition {
                        term: 0,
                        index: location.position.index,
                    },
                    ..location
                };
                self.contents.apply(RecordKind::TruncateAfter, location)?;
                break;
            }
            if !record.readable {
                self.contents.mark_unreadable(record.slot.position.index);
            }
        }
        self.note_damage(&segment);
        match &segment.scan.end {
            SegmentEnd::Clean | SegmentEnd::Sealed => {}
            SegmentEnd::Torn { bytes } => {
                self.findings.torn_tail = Some(TornTail {
                    path: segment.path.clone(),
                    offset_bytes: segment.scan.end_bytes,
                    bytes: *bytes,
                });
            }
            SegmentEnd::Damaged { offset_bytes, what } => {
                return Err(LogError::Damaged {
                    path: segment.path,
                    offset_bytes: *offset_bytes,
                    what,
                });
            }
        }
        // Payloads are needed where a record's header is written anew, and at the end of the log,
        // names where their blocks are. All others go at once: a log may be larger than memory.
        let is_whole = segment.scan.end == SegmentEnd::Sealed && segment.scan.damage.is_empty();
        let buffer = if is_whole {
            segment.image.release()
        } else {
            Vec::new()
        };
        if is_whole && segment.scan.damaged_blocks.is_empty() {
            segment.scan.records = Vec::new();
        }
        self.segments.push(segment);
        Ok(buffer)
    }

    fn note_damage(&mut self, segment: &ReadSegment) {
        self.findings.mended.extend(describe(segment));
    }
}
