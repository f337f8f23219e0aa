//! One segment that is open: its file, and who reads from it.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;

use super::contents::EntryLocation;
use super::error::LogError;
use super::layout::{
    BlockRead, FormatVersion, Geometry, IDENTIFIER_BLOCK_BYTES, IdentifierBlock, LogIdentity,
    PayloadDigest, RECORD_HEADER_BYTES, SLOTS_A_BLOCK, SegmentHeader, SegmentSeed, Slot,
    decode_identifier_block, decode_record_header, encode_segment_header, mark_sectors,
};
use super::mend::{record_patch, write_patches};
use super::scan::named_by;
use crate::disk::{File, FileSystem, OpenMode, failed_sync, read_exact_at};
use crate::planted::{Bug, is_planted};

/// Space is marked as free in pieces of this length.
const MARK_BYTES: u64 = 256 * 1024;
/// Space for identifiers, which are written by the sector, in pieces of this length: what is written
/// at once stays together in the page cache, and a sector is the dearer the more lies around it.
const NAMES_MARK_BYTES: u64 = 16 * 1024;

/// A segment file that is open.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) version: FormatVersion,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn File>,
    pub(crate) geometry: Geometry,
    /// The highest index of an entry that was written here, whether it still counts or not.
    pub(crate) highest_index: Option<u64>,
}

impl Segment {
    /// What checksums in it go on from, in a log of this identity.
    pub(crate) fn seed(&self, identity: &LogIdentity) -> SegmentSeed {
        identity.seed(self.number, self.version)
    }
}

/// The file of segment `number`.
pub(crate) fn segment_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:016}.log"))
}

/// A segment's name until it is whole.
fn temporary_path(folder: &Path, number: u64) -> PathBuf {
    segment_path(folder, number).with_extension("new")
}

/// Makes the file of a segment under a temporary name: allocated, and all of its space durably
/// marked as free. This takes as long as writing so many bytes, and can be done ahead.
pub(crate) fn prepare_segment(
    file_system: &dyn FileSystem,
    folder: &Path,
    identity: &LogIdentity,
    number: u64,
    geometry: Geometry,
) -> io::Result<Box<dyn File>> {
    let temporary = temporary_path(folder, number);
    if file_system.exists(&temporary)? {
        file_system.remove_file(&temporary)?;
    }
    let file = file_system.open(&temporary, OpenMode::CreateNew)?;
    let seed = identity.seed(number, FormatVersion::default());
    let names = geometry.identifiers_start()..geometry.payloads_start();
    let payloads = geometry.payloads_start()..geometry.payloads_end();
    let marked = file
        .allocate(geometry.length_bytes)
        .and_then(|()| {
            if is_planted(Bug::NothingMarkedFree) {
                return Ok(());
            }
            mark_free_in_pieces(file.as_ref(), &seed, names, NAMES_MARK_BYTES)
        })
        .and_then(|()| {
            if is_planted(Bug::NothingMarkedFree) {
                return Ok(());
            }
            mark_free(file.as_ref(), &seed, payloads)
        });
    if let Err(error) = marked {
        // What was taken of a full disk is given back.
        drop(file);
        file_system.remove_file(&temporary)?;
        return Err(error);
    }
    file.sync().map_err(failed_sync)?;
    Ok(file)
}

/// Marks a range of a segment as free; durable after the next sync.
pub(crate) fn mark_free(file: &dyn File, seed: &SegmentSeed, range: Range<u64>) -> io::Result<()> {
    mark_free_in_pieces(file, seed, range, MARK_BYTES)
}

fn mark_free_in_pieces(
    file: &dyn File,
    seed: &SegmentSeed,
    range: Range<u64>,
    piece_bytes: u64,
) -> io::Result<()> {
    let longest = piece_bytes.min(range.end.saturating_sub(range.start));
    let mut bytes = vec![0; usize::try_from(longest).unwrap_or(0)];
    let mut at = range.start;
    while at < range.end {
        let length = piece_bytes.min(range.end - at);
        let piece = &mut bytes[..usize::try_from(length).unwrap_or(0)];
        mark_sectors(piece, seed, at);
        file.write_at(piece, at)?;
        at += length;
    }
    Ok(())
}

/// Puts a prepared file in its place as a segment; durable when it returns.
pub(crate) fn create_segment(
    file_system: &dyn FileSystem,
    folder: &Path,
    identity: &LogIdentity,
    header: &SegmentHeader,
    prepared: Box<dyn File>,
) -> Result<Segment, LogError> {
    let path = segment_path(folder, header.number);
    let create = || -> io::Result<()> {
        let bytes = encode_segment_header(identity, header);
        prepared.write_at(&bytes, 0)?;
        prepared.write_at(&bytes, header.geometry.second_header())?;
        prepared.sync().map_err(failed_sync)?;
        file_system.rename(&temporary_path(folder, header.number), &path)?;
        if is_planted(Bug::SegmentNameNotSynced) {
            return Ok(());
        }
        file_system.sync_directory(folder).map_err(failed_sync)
    };
    create().map_err(|source| LogError::io("create", &path, source))?;
    Ok(Segment {
        number: header.number,
        version: header.version,
        path,
        file: Arc::from(prepared),
        geometry: header.geometry,
        highest_index: None,
    })
}

/// The segments as those see them who read entries while the log is written to.
#[derive(Clone, Debug)]
pub struct SegmentReaders {
    identity: LogIdentity,
    segments: Arc<RwLock<BTreeMap<u64, Segment>>>,
    /// Held while something that was written is written anew.
    mending: Arc<Mutex<()>>,
}

impl SegmentReaders {
    pub(crate) fn new(identity: LogIdentity, segments: &[Segment]) -> Self {
        let readers = Self {
            identity,
            segments: Arc::default(),
            mending: Arc::default(),
        };
        for segment in segments {
            readers.insert(segment);
        }
        readers
    }

    pub(crate) fn set_identity(&mut self, identity: LogIdentity) {
        self.identity = identity;
    }

    pub(crate) fn insert(&self, segment: &Segment) {
        self.segments
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(segment.number, segment.clone());
    }

    pub(crate) fn remove(&self, number: u64) {
        self.segments
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&number);
    }

    /// The numbers of all segments, in order.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        let segments = self.segments.read();
        let segments = segments.unwrap_or_else(PoisonError::into_inner);
        segments.keys().copied().collect()
    }

    /// Who writes this log.
    pub(crate) fn identity(&self) -> LogIdentity {
        self.identity
    }

    /// Nobody else writes anew what had been written, as long as this is held: blocks are read,
    /// changed and written as a whole.
    pub(crate) fn hold_mending(&self) -> MutexGuard<'_, ()> {
        self.mending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn segment(&self, number: u64) -> Result<Segment, LogError> {
        self.segments
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&number)
            .cloned()
            .ok_or(LogError::MissingSegment { number })
    }

    /// Reads one entry's payload and checks it.
    ///
    /// # Errors
    /// [`LogError::Unreadable`] when it is not what was written.
    pub fn read(&self, location: &EntryLocation) -> Result<Vec<u8>, LogError> {
        let segment = self.segment(location.segment)?;
        let unreadable = || LogError::Unreadable {
            path: segment.path.clone(),
            offset_bytes: location.offset_bytes,
            entry: location.position,
        };
        // Whatever the reason, an entry that the disk does not give is one that cannot be read.
        let mut bytes = read_exact_at(
            segment.file.as_ref(),
            location.offset_bytes,
            RECORD_HEADER_BYTES + location.payload_bytes,
        )
        .map_err(|_| unreadable())?;
        let header =
            decode_record_header(&bytes, &segment.seed(&self.identity), location.offset_bytes)
                .ok_or_else(unreadable)?;
        if header.position != location.position || header.payload_bytes != location.payload_bytes {
            return Err(unreadable());
        }
        let payload = bytes.split_off(RECORD_HEADER_BYTES);
        let is_as_written = PayloadDigest::of(&payload) == header.digest;
        if !is_as_written && !is_planted(Bug::PayloadIgnored) {
            return Err(unreadable());
        }
        Ok(payload)
    }

    /// What the log wrote down of an entry apart from its payload; else what its record says.
    pub(crate) fn name(&self, location: &EntryLocation) -> Result<Slot, LogError> {
        let segment = self.segment(location.segment)?;
        // The block may just be rewritten with more slots: then it is read again.
        (0..3)
            .find_map(|_| self.slot(&segment, location))
            .or_else(|| self.record_header(&segment, location))
            .ok_or(LogError::Damaged {
                path: segment.path,
                offset_bytes: location.offset_bytes,
                what: "the name of an entry cannot be read",
            })
    }

    fn slot(&self, segment: &Segment, location: &EntryLocation) -> Option<Slot> {
        let offset = segment.geometry.block_offset(location.slot);
        let length = usize::try_from(IDENTIFIER_BLOCK_BYTES).unwrap_or(512);
        let bytes = read_exact_at(segment.file.as_ref(), offset, length).ok()?;
        let BlockRead::Good(IdentifierBlock { slots, .. }) =
            decode_identifier_block(&bytes, &segment.seed(&self.identity), offset)
        else {
            return None;
        };
        let place = usize::try_from(location.slot % SLOTS_A_BLOCK as u64).ok()?;
        slots.get(place).copied().filter(|slot| {
            slot.position == location.position && slot.offset_bytes == location.offset_bytes
        })
    }

    fn record_header(&self, segment: &Segment, location: &EntryLocation) -> Option<Slot> {
        let offset = location.offset_bytes;
        let bytes = read_exact_at(segment.file.as_ref(), offset, RECORD_HEADER_BYTES).ok()?;
        decode_record_header(&bytes, &segment.seed(&self.identity), offset)
            .filter(|header| header.position == location.position)
            .map(|header| named_by(&header, offset))
    }

    /// Writes an entry's payload anew where it had been, after it was compared with the digest that
    /// was stored apart from it; durable and read back when it returns.
    ///
    /// # Errors
    /// [`LogError::OtherPayload`] when it is another payload than was written here; else those of
    /// the operating system.
    pub(crate) fn repair(&self, location: &EntryLocation, payload: &Bytes) -> Result<(), LogError> {
        let _mending = self.hold_mending();
        let slot = self.name(location)?;
        let found = PayloadDigest::of(payload);
        if (slot.digest != found || slot.payload_bytes != payload.len())
            && !is_planted(Bug::OtherPayloadTaken)
        {
            return Err(LogError::OtherPayload {
                entry: location.position,
                expected: slot.digest,
                found,
            });
        }
        let segment = self.segment(location.segment)?;
        let patch = record_patch(&segment.seed(&self.identity), &slot, payload);
        write_patches(segment.file.as_ref(), &[patch])
            .and_then(|()| segment.file.forget_cached())
            .map_err(|source| LogError::io("repair", &segment.path, source))?;
        self.read(location).map(|_| ())
    }
}
