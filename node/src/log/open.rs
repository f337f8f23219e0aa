//! Opening the log: reading every segment and deciding what its state means.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::contents::{ContentsError, EntryLocation, LogContents};
use super::files::{LogFiles, LogOptions, Segment, SegmentReaders, create_segment};
use super::format::{
    LogIdentity, RecordKind, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentHeaderRead,
    decode_segment_header,
};
use super::scan::{SegmentEnd, SegmentScan, scan_segment};
use crate::disk::{OpenMode, SharedFileSystem, read_exact_at};
use crate::position::LogPosition;

/// Why a log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("failed to {action} {path}", path = path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("the volume has made promises, but its log is gone")]
    Missing,
    #[error("{path} is damaged at byte {offset_bytes}{}", entry.map(|entry| format!(" (entry {entry})")).unwrap_or_default(), path = path.display())]
    Damaged {
        path: PathBuf,
        offset_bytes: u64,
        entry: Option<LogPosition>,
    },
    #[error("segment {number} of the log is missing")]
    MissingSegment { number: u64 },
    #[error("{path} belongs to node {found:?}, not to {expected:?}", path = path.display())]
    WrongIdentity {
        path: PathBuf,
        found: LogIdentity,
        expected: LogIdentity,
    },
    #[error("{path} has format version {version}, which this version does not know", path = path.display())]
    UnknownFormat { path: PathBuf, version: u32 },
    #[error("the log contradicts itself")]
    Inconsistent(#[from] ContentsError),
    #[error("entry {position} has {bytes} bytes, more than an entry may have")]
    TooLarge { position: LogPosition, bytes: usize },
}

impl LogError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

/// The end of the log that was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    pub path: PathBuf,
    pub offset_bytes: u64,
    pub bytes: u64,
}

/// A log that can be used.
#[derive(Debug)]
pub struct OpenedLog {
    pub files: LogFiles,
    pub contents: LogContents,
    pub torn_tail: Option<TornTail>,
}

/// What reading all segments gave, before anything is changed.
struct ReadLog {
    segments: Vec<Segment>,
    contents: LogContents,
    end_bytes: u64,
    next_batch: u64,
    torn_tail: Option<TornTail>,
    /// Segments behind the active one in which nothing was written yet.
    unused: Vec<PathBuf>,
}

/// Opens the log in `folder`, cuts off a torn tail, and makes the first segment of a new log.
/// `must_exist` is what the superblock says: a log was there.
///
/// # Errors
/// When anything is damaged or missing that may have been acknowledged.
pub fn open_log(
    file_system: &SharedFileSystem,
    folder: &Path,
    identity: LogIdentity,
    options: LogOptions,
    must_exist: bool,
) -> Result<OpenedLog, LogError> {
    file_system
        .create_directories(folder)
        .map_err(|source| LogError::io("create", folder, source))?;
    let mut read = read_log(
        file_system,
        folder,
        &identity,
        OpenMode::ReadWrite,
        must_exist,
    )?;
    for path in &read.unused {
        crate::disk::remove_durably(file_system.as_ref(), path)
            .map_err(|source| LogError::io("remove", path, source))?;
    }
    if read.segments.is_empty() {
        let header = SegmentHeader {
            number: 1,
            next_batch: 1,
            ..SegmentHeader::default()
        };
        read.segments.push(create_segment(
            file_system,
            folder,
            &identity,
            &header,
            options.segment_bytes,
        )?);
    }
    if let (Some(torn), Some(active)) = (&read.torn_tail, read.segments.last()) {
        cut_off(active, torn)?;
    }
    Ok(OpenedLog {
        files: LogFiles {
            file_system: file_system.clone(),
            folder: folder.to_owned(),
            identity,
            options,
            readers: SegmentReaders::new(identity, &read.segments),
            segments: read.segments,
            end_bytes: read.end_bytes,
            next_batch: read.next_batch,
        },
        contents: read.contents,
        torn_tail: read.torn_tail,
    })
}

/// Reads the log without changing anything: its contents and the torn tail that opening it for
/// writing would cut off.
///
/// # Errors
/// As [`open_log`].
pub fn inspect_log(
    file_system: &SharedFileSystem,
    folder: &Path,
    identity: LogIdentity,
    must_exist: bool,
) -> Result<(LogContents, Option<TornTail>), LogError> {
    let exists = file_system
        .exists(folder)
        .map_err(|source| LogError::io("look for", folder, source))?;
    if !exists {
        return if must_exist {
            Err(LogError::Missing)
        } else {
            Ok((LogContents::default(), None))
        };
    }
    let read = read_log(file_system, folder, &identity, OpenMode::Read, must_exist)?;
    Ok((read.contents, read.torn_tail))
}

/// Overwrites the torn part with zeros, so that nothing of it can ever look like a later record.
fn cut_off(active: &Segment, torn: &TornTail) -> Result<(), LogError> {
    let zeros = vec![0; usize::try_from(torn.bytes).unwrap_or(0)];
    active
        .file
        .write_at(&zeros, torn.offset_bytes)
        .and_then(|()| active.file.sync())
        .map_err(|source| LogError::io("truncate", &active.path, source))
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
    let mut read = ReadLog {
        segments: Vec::new(),
        contents: LogContents::default(),
        end_bytes: SEGMENT_HEADER_BYTES,
        next_batch: 1,
        torn_tail: None,
        unused: Vec::new(),
    };
    let mut sealed = true;
    for path in paths {
        let file = file_system
            .open(&path, mode)
            .map_err(|source| LogError::io("open", &path, source))?;
        let header = read_header(file.as_ref(), &path, identity)?;
        let scan = scan_segment(file.as_ref(), identity, header.number)
            .map_err(|source| LogError::io("read", &path, source))?;
        if let Some(previous) = read.segments.last() {
            if header.number != previous.number + 1 {
                return Err(LogError::MissingSegment {
                    number: previous.number + 1,
                });
            }
            if !sealed {
                // The crash came after the next segment was made and before this one was sealed.
                if scan.records.is_empty() && scan.end == SegmentEnd::Clean {
                    read.unused.push(path);
                    continue;
                }
                return Err(LogError::Damaged {
                    path: previous.path.clone(),
                    offset_bytes: read.end_bytes,
                    entry: None,
                });
            }
        } else {
            read.contents =
                LogContents::starting_after(header.last, header.purged, header.committed);
        }
        sealed = take_in(&mut read, &header, &scan, file, path)?;
    }
    if sealed && let Some(last) = read.segments.last() {
        return Err(LogError::MissingSegment {
            number: last.number + 1,
        });
    }
    read.contents.validate()?;
    Ok(read)
}

fn read_header(
    file: &dyn crate::disk::File,
    path: &Path,
    identity: &LogIdentity,
) -> Result<SegmentHeader, LogError> {
    let damaged = LogError::Damaged {
        path: path.to_owned(),
        offset_bytes: 0,
        entry: None,
    };
    let Ok(bytes) = read_exact_at(file, 0, usize::try_from(SEGMENT_HEADER_BYTES).unwrap_or(0))
    else {
        return Err(damaged);
    };
    match decode_segment_header(&bytes) {
        SegmentHeaderRead::Good {
            header,
            identity: found,
        } if found == *identity => Ok(header),
        SegmentHeaderRead::Good {
            identity: found, ..
        } => Err(LogError::WrongIdentity {
            path: path.to_owned(),
            found,
            expected: *identity,
        }),
        SegmentHeaderRead::UnknownFormat(version) => Err(LogError::UnknownFormat {
            path: path.to_owned(),
            version,
        }),
        SegmentHeaderRead::Damaged => Err(damaged),
    }
}

/// Takes in one segment; returns whether it is sealed.
fn take_in(
    read: &mut ReadLog,
    header: &SegmentHeader,
    scan: &SegmentScan,
    file: Box<dyn crate::disk::File>,
    path: PathBuf,
) -> Result<bool, LogError> {
    read.next_batch = read.next_batch.max(header.next_batch);
    let mut highest_index = None;
    for record in &scan.records {
        let location = EntryLocation {
            position: record.header.position,
            segment: header.number,
            offset_bytes: record.offset_bytes,
            payload_bytes: record.header.payload_bytes,
        };
        read.contents.apply(record.header.kind, location)?;
        read.next_batch = read.next_batch.max(record.header.batch + 1);
        if record.header.kind == RecordKind::Entry {
            highest_index = highest_index.max(Some(record.header.position.index));
        }
    }
    let sealed = match &scan.end {
        SegmentEnd::Clean => false,
        SegmentEnd::Sealed => true,
        SegmentEnd::Torn { garbage_end_bytes } => {
            read.torn_tail = Some(TornTail {
                path: path.clone(),
                offset_bytes: scan.end_bytes,
                bytes: garbage_end_bytes - scan.end_bytes,
            });
            // The torn batch used this number; the next one must be told apart from it.
            read.next_batch += 1;
            false
        }
        SegmentEnd::Damaged { entry } => {
            return Err(LogError::Damaged {
                path,
                offset_bytes: scan.end_bytes,
                entry: entry.map(|entry| entry.position),
            });
        }
    };
    read.end_bytes = scan.end_bytes;
    let length_bytes = file
        .length_bytes()
        .map_err(|source| LogError::io("read the length of", &path, source))?;
    read.segments.push(Segment {
        number: header.number,
        path,
        file: Arc::from(file),
        length_bytes,
        highest_index,
    });
    Ok(sealed)
}
