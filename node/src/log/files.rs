//! Appending to segments, going on to the next one, and removing those no longer needed.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use super::contents::{EntryLocation, LogContents};
use super::format::{
    LogIdentity, MAXIMUM_PAYLOAD_BYTES, NewRecord, RECORD_HEADER_BYTES, RecordKind, RecordPlace,
    SEGMENT_HEADER_BYTES, SegmentHeader, decode_record_header, encode_record,
    encode_segment_header, payload_matches, record_bytes,
};
use super::open::LogError;
use crate::disk::{File, OpenMode, SharedFileSystem, read_exact_at};
use crate::position::LogPosition;

/// Sizes of the log.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// Length that segments are preallocated with; a longer batch gets a longer segment.
    pub segment_bytes: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * 1024 * 1024,
        }
    }
}

/// A segment file that is open.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn File>,
    pub(crate) length_bytes: u64,
    /// The highest index of an entry that was written here, whether it still counts or not.
    pub(crate) highest_index: Option<u64>,
}

/// The segments as those see them who read entries while the log is written to.
#[derive(Clone, Debug)]
pub struct SegmentReaders {
    identity: LogIdentity,
    segments: Arc<RwLock<OpenSegments>>,
}

/// By their numbers.
type OpenSegments = BTreeMap<u64, (PathBuf, Arc<dyn File>)>;

impl SegmentReaders {
    pub(crate) fn new(identity: LogIdentity, segments: &[Segment]) -> Self {
        let readers = Self {
            identity,
            segments: Arc::default(),
        };
        for segment in segments {
            readers.insert(segment);
        }
        readers
    }

    fn insert(&self, segment: &Segment) {
        self.segments
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(segment.number, (segment.path.clone(), segment.file.clone()));
    }

    fn remove(&self, number: u64) {
        self.segments
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&number);
    }

    /// Reads one entry's payload and checks it.
    ///
    /// # Errors
    /// [`LogError::Damaged`] when it is not what was written.
    pub fn read(&self, location: &EntryLocation) -> Result<Vec<u8>, LogError> {
        let (path, file) = self
            .segments
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&location.segment)
            .cloned()
            .ok_or(LogError::MissingSegment {
                number: location.segment,
            })?;
        read_entry(file.as_ref(), &path, &self.identity, location)
    }
}

/// The segments of one log, open for appending.
#[derive(Debug)]
pub struct LogFiles {
    pub(crate) file_system: SharedFileSystem,
    pub(crate) folder: PathBuf,
    pub(crate) identity: LogIdentity,
    pub(crate) options: LogOptions,
    /// In order of their numbers; the last one is appended to.
    pub(crate) segments: Vec<Segment>,
    pub(crate) readers: SegmentReaders,
    pub(crate) end_bytes: u64,
    pub(crate) next_batch: u64,
}

/// The file of segment `number`.
pub(crate) fn segment_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:016}.log"))
}

pub(crate) fn create_segment(
    file_system: &SharedFileSystem,
    folder: &Path,
    identity: &LogIdentity,
    header: &SegmentHeader,
    length_bytes: u64,
) -> Result<Segment, LogError> {
    let path = segment_path(folder, header.number);
    let temporary = path.with_extension("new");
    let create = || -> io::Result<Box<dyn File>> {
        if file_system.exists(&temporary)? {
            file_system.remove_file(&temporary)?;
        }
        let file = file_system.open(&temporary, OpenMode::CreateNew)?;
        file.allocate(length_bytes)?;
        file.write_at(&encode_segment_header(identity, header), 0)?;
        file.sync()?;
        file_system.rename(&temporary, &path)?;
        file_system.sync_directory(folder)?;
        Ok(file)
    };
    let file = create().map_err(|source| LogError::io("create", &path, source))?;
    Ok(Segment {
        number: header.number,
        path,
        file: Arc::from(file),
        length_bytes,
        highest_index: None,
    })
}

impl LogFiles {
    fn active(&self) -> Result<&Segment, LogError> {
        self.segments.last().ok_or(LogError::Missing)
    }

    /// Writes records as one batch and makes them durable; returns where each stands. `contents`
    /// is the log before them.
    ///
    /// # Errors
    /// Those of the operating system. After one the log must not be used: what is durable is
    /// unknown until it is opened again.
    pub fn append(
        &mut self,
        records: &[(RecordKind, LogPosition, &[u8])],
        contents: &LogContents,
    ) -> Result<Vec<EntryLocation>, LogError> {
        if let Some((_, position, payload)) = records
            .iter()
            .find(|(_, _, payload)| payload.len() > MAXIMUM_PAYLOAD_BYTES)
        {
            return Err(LogError::TooLarge {
                position: *position,
                bytes: payload.len(),
            });
        }
        let batch_bytes: u64 = records
            .iter()
            .map(|(_, _, payload)| record_bytes(payload.len()))
            .sum();
        self.make_room(batch_bytes, contents)?;

        let batch = self.next_batch;
        let segment = self.active()?;
        let number = segment.number;
        let mut buffer = Vec::with_capacity(usize::try_from(batch_bytes).unwrap_or(0));
        let mut locations = Vec::with_capacity(records.len());
        for (kind, position, payload) in records {
            let offset_bytes = self.end_bytes + buffer.len() as u64;
            encode_record(
                &mut buffer,
                &self.identity,
                RecordPlace {
                    segment: number,
                    offset_bytes,
                    batch,
                },
                NewRecord {
                    kind: *kind,
                    position: *position,
                    payload,
                },
            );
            locations.push(EntryLocation {
                position: *position,
                segment: number,
                offset_bytes,
                payload_bytes: payload.len(),
            });
        }
        segment
            .file
            .write_at(&buffer, self.end_bytes)
            .and_then(|()| segment.file.sync())
            .map_err(|source| LogError::io("write", &segment.path, source))?;
        self.end_bytes += buffer.len() as u64;
        self.next_batch += 1;
        let highest = records
            .iter()
            .filter(|(kind, _, _)| *kind == RecordKind::Entry)
            .map(|(_, position, _)| position.index)
            .max();
        if let Some(segment) = self.segments.last_mut() {
            segment.highest_index = segment.highest_index.max(highest);
        }
        Ok(locations)
    }

    /// Goes on to a new segment when `batch_bytes` do not fit. The new one is made durable before
    /// the old one is sealed: a sealed segment without a successor is then always a loss.
    fn make_room(&mut self, batch_bytes: u64, contents: &LogContents) -> Result<(), LogError> {
        let seal_bytes = record_bytes(0);
        let active = self.active()?;
        if self.end_bytes + batch_bytes + seal_bytes <= active.length_bytes {
            return Ok(());
        }
        let header = SegmentHeader {
            number: active.number + 1,
            next_batch: self.next_batch + 1,
            last: contents.last(),
            purged: contents.purged(),
            committed: contents.committed(),
        };
        let length_bytes = self
            .options
            .segment_bytes
            .max(SEGMENT_HEADER_BYTES + batch_bytes + seal_bytes);
        let next = create_segment(
            &self.file_system,
            &self.folder,
            &self.identity,
            &header,
            length_bytes,
        )?;

        let mut seal = Vec::new();
        encode_record(
            &mut seal,
            &self.identity,
            RecordPlace {
                segment: active.number,
                offset_bytes: self.end_bytes,
                batch: self.next_batch,
            },
            NewRecord {
                kind: RecordKind::Sealed,
                position: contents.last().unwrap_or_default(),
                payload: &[],
            },
        );
        active
            .file
            .write_at(&seal, self.end_bytes)
            .and_then(|()| active.file.sync())
            .map_err(|source| LogError::io("seal", &active.path, source))?;
        self.next_batch += 1;
        self.end_bytes = SEGMENT_HEADER_BYTES;
        self.readers.insert(&next);
        self.segments.push(next);
        Ok(())
    }

    /// Removes segments, oldest first, whose entries are all purged. The purge itself must be
    /// durable already.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn remove_purged(&mut self, purged: LogPosition) -> Result<(), LogError> {
        while self.segments.len() > 1
            && self.segments[0]
                .highest_index
                .is_none_or(|highest| highest <= purged.index)
        {
            let segment = self.segments.remove(0);
            self.readers.remove(segment.number);
            crate::disk::remove_durably(self.file_system.as_ref(), &segment.path)
                .map_err(|source| LogError::io("remove", &segment.path, source))?;
        }
        Ok(())
    }

    /// Reads entries while this log is written to.
    #[must_use]
    pub fn readers(&self) -> SegmentReaders {
        self.readers.clone()
    }

    /// Bytes that the segments take on the disk.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.segments
            .iter()
            .map(|segment| segment.length_bytes)
            .sum()
    }
}

fn read_entry(
    file: &dyn File,
    path: &Path,
    identity: &LogIdentity,
    location: &EntryLocation,
) -> Result<Vec<u8>, LogError> {
    let mut bytes = read_exact_at(
        file,
        location.offset_bytes,
        RECORD_HEADER_BYTES + location.payload_bytes,
    )
    .map_err(|source| LogError::io("read", path, source))?;
    let damaged = || LogError::Damaged {
        path: path.to_owned(),
        offset_bytes: location.offset_bytes,
        entry: Some(location.position),
    };
    let header = decode_record_header(&bytes, identity, location.segment, location.offset_bytes)
        .ok_or_else(damaged)?;
    if header.position != location.position || header.payload_bytes != location.payload_bytes {
        return Err(damaged());
    }
    let payload = bytes.split_off(RECORD_HEADER_BYTES);
    if !payload_matches(
        &header,
        &payload,
        identity,
        location.segment,
        location.offset_bytes,
    ) {
        return Err(damaged());
    }
    Ok(payload)
}
