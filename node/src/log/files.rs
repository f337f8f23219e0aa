//! Appending to segments, going on to the next one, and removing those no longer needed.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use super::append::{BatchBytes, NewRecord, Tail};
use super::contents::{EntryLocation, LogContents};
use super::error::LogError;
use super::layout::{
    BATCH_HEADER_BYTES, BLOCK_BYTES, FormatVersion, Geometry, LogIdentity, MAXIMUM_PAYLOAD_BYTES,
    RecordHeader, RecordKind, SegmentHeader, SegmentSeed, encode_identifier_block, next_chain,
    next_chain_of_names, record_bytes,
};
use super::segment::{Segment, SegmentReaders, create_segment, prepare_segment};
use crate::disk::{File, SharedFileSystem, failed_sync};
use crate::planted::{Bug, is_planted};
use crate::position::LogPosition;

/// Identifiers of a batch are given to the disk ahead of the sync when they are longer than this; to
/// tell it of fewer costs more than is won.
const EARLY_NAMES_BYTES: usize = 12 * 1024;

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

/// The segments of one log, open for appending.
#[derive(Debug)]
pub struct LogFiles {
    pub(crate) file_system: SharedFileSystem,
    pub(crate) folder: PathBuf,
    pub(crate) identity: LogIdentity,
    pub(crate) boot_count: u64,
    pub(crate) options: LogOptions,
    /// In order of their numbers; the last one is appended to. None before the first batch.
    pub(crate) segments: Vec<Segment>,
    pub(crate) readers: SegmentReaders,
    pub(crate) tail: Option<Tail>,
    /// The newest batch was synced, and the mark that says so is not durable yet.
    pub(crate) mark_is_pending: bool,
    /// The next segment's file, when it is being made ahead.
    pub(crate) next: Option<Preparation>,
    pub(crate) bytes: BatchBytes,
    /// Making it failed: it is not tried again before [`Self::retry_preparation`].
    pub(crate) preparation_failed: bool,
}

/// A segment's file that another thread makes while this one appends.
#[derive(Debug)]
pub(crate) struct Preparation {
    number: u64,
    geometry: Geometry,
    failed: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Box<dyn File>>>,
}

impl LogFiles {
    /// Says which cluster the log belongs to, and which start of the node writes it: known only
    /// once the volume is claimed, before the first record.
    pub fn set_writer(&mut self, cluster_uuid: uuid::Uuid, boot_count: u64) {
        self.identity.cluster_uuid = cluster_uuid;
        self.readers.set_identity(self.identity);
        self.boot_count = boot_count;
    }

    /// Writes records as one batch and makes them durable; returns where each stands. `contents`
    /// is the log before them.
    ///
    /// # Errors
    /// Those of the operating system. When there was no space ([`LogError::is_out_of_space`]),
    /// nothing was synced and the very same records may be appended again. After any other the log
    /// must not be used: what is durable is unknown until it is opened again.
    pub fn append(
        &mut self,
        records: &[NewRecord<'_>],
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
            .sum::<u64>()
            + BATCH_HEADER_BYTES as u64;
        self.make_room(batch_bytes, records.len() as u64, contents)?;
        self.write_batch(records)
    }

    /// Makes the first segment when there is none. Done before the first promise of any kind: from
    /// then on a volume without a log has lost it.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn begin(&mut self, contents: &LogContents) -> Result<(), LogError> {
        if self.segments.is_empty() {
            self.make_room(0, 0, contents)?;
        }
        Ok(())
    }

    fn active(&self) -> Result<(&Segment, &Tail), LogError> {
        self.segments
            .last()
            .zip(self.tail.as_ref())
            .ok_or(LogError::Missing)
    }

    fn write_batch(&mut self, records: &[NewRecord<'_>]) -> Result<Vec<EntryLocation>, LogError> {
        let (segment, tail) = self.active()?;
        let (segment, mut tail) = (segment.clone(), tail.clone());
        let seed = segment.seed(&self.identity);
        let names_start = segment.geometry.block_offset(tail.slots);
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.encode(&seed, &tail, self.boot_count, records);
        let mut write = || -> io::Result<Vec<EntryLocation>> {
            segment
                .file
                .write_at_early(bytes.records(), tail.end_bytes)?;
            // The disk is at work from here on. All that can be done meanwhile comes after it.
            let locations = bytes.name(segment.number, &mut tail, records);
            if is_planted(Bug::FlushedTooEarly) {
                tail.block.flushed_batch = tail.last_batch;
            }
            let blocks = bytes
                .names
                .seal(&seed, names_start, tail.block.flushed_batch);
            if blocks.len() < EARLY_NAMES_BYTES {
                segment.file.write_at(blocks, names_start)?;
            } else {
                segment.file.write_at_early(blocks, names_start)?;
            }
            tail.chain = next_chain_of_names(&tail.chain, tail.last_batch, &bytes.names);
            if !is_planted(Bug::AppendNotSynced) {
                segment.file.sync().map_err(failed_sync)?;
            }
            tail.block.flushed_batch = tail.last_batch;
            // From here on the batch is durable: it must not be written again.
            write_block(&segment, &seed, &tail).map_err(io::Error::other)?;
            Ok(locations)
        };
        let locations = write().map_err(|source| LogError::io("write", &segment.path, source))?;
        bytes.shrink();
        self.bytes = bytes;
        self.tail = Some(tail);
        self.mark_is_pending = true;
        if let Some(segment) = self.segments.last_mut() {
            let highest = records
                .iter()
                .filter(|(kind, _, _)| *kind == RecordKind::Entry)
                .map(|(_, position, _)| position.index)
                .max();
            segment.highest_index = segment.highest_index.max(highest);
        }
        Ok(locations)
    }

    /// Makes the mark of the newest batch durable, when nothing else is to be written: from then on
    /// no damage to it can look like a write that was interrupted.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn flush_mark(&mut self) -> Result<(), LogError> {
        if !std::mem::take(&mut self.mark_is_pending) {
            return Ok(());
        }
        let (segment, _) = self.active()?;
        segment
            .file
            .sync()
            .map_err(|source| LogError::io("write", &segment.path, failed_sync(source)))
    }

    /// Goes on to a new segment when a batch does not fit. The new one is made durable before the
    /// old one is sealed: a sealed segment without a successor is then always a loss.
    fn make_room(
        &mut self,
        batch_bytes: u64,
        records: u64,
        contents: &LogContents,
    ) -> Result<(), LogError> {
        let seal_bytes = BATCH_HEADER_BYTES as u64 + record_bytes(0);
        let fits = |segment: &Segment, tail: &Tail| {
            let batch_end = (tail.end_bytes + batch_bytes).next_multiple_of(BLOCK_BYTES);
            batch_end + seal_bytes <= segment.geometry.payloads_end()
                && tail.slots + records < segment.geometry.slots()
        };
        let active = self.segments.last().zip(self.tail.as_ref());
        if active.is_some_and(|(segment, tail)| fits(segment, tail)) {
            return Ok(());
        }
        let seal = [(
            RecordKind::Sealed,
            contents.last().unwrap_or_default(),
            &[][..],
        )];
        let (number, first_batch, chain) = match active {
            // The seal's own batch and what its chain will be are known before it is written.
            Some((segment, tail)) => {
                let batch = tail.last_batch + 1;
                let offset = tail.end_bytes + BATCH_HEADER_BYTES as u64;
                let record = RecordHeader::new(seal[0].0, seal[0].1, batch, &[]);
                let slot = super::scan::named_by(&record, offset);
                let chain = next_chain(&tail.chain, batch, std::iter::once(&slot));
                (segment.number + 1, batch + 1, chain)
            }
            None => (1, 1, [0; 32]),
        };
        let header = SegmentHeader {
            version: FormatVersion::default(),
            number,
            first_batch,
            last: contents.last(),
            purged: contents.purged(),
            committed: contents.committed(),
            geometry: Geometry::fitting(
                self.options.segment_bytes,
                records + 1,
                batch_bytes.next_multiple_of(BLOCK_BYTES) + seal_bytes,
            ),
            chain,
        };
        let next = if is_planted(Bug::SealedBeforeNext) && !self.segments.is_empty() {
            self.write_batch(&seal)?;
            self.create_segment(&header)?
        } else {
            let next = self.create_segment(&header)?;
            if !self.segments.is_empty() {
                self.write_batch(&seal)?;
            }
            next
        };
        self.readers.insert(&next);
        self.segments.push(next);
        self.tail = Some(Tail::of_new(&header));
        Ok(())
    }

    /// Makes the next segment from the file that was made ahead, if it is of the right size.
    fn create_segment(&mut self, header: &SegmentHeader) -> Result<Segment, LogError> {
        let failed = |source| LogError::io("make space in", &self.folder, source);
        let ahead = match self.next.take() {
            Some(ahead) => {
                let file = ahead.thread.join().unwrap_or_else(|_| {
                    Err(io::Error::other("the thread that made space has ended"))
                });
                let fits = ahead.number == header.number && ahead.geometry == header.geometry;
                match file {
                    // There may be space by now.
                    Err(error) if crate::disk::is_out_of_space(&error) => None,
                    file => fits.then_some(file),
                }
            }
            None => None,
        };
        let file_system = self.file_system.as_ref();
        let file = match ahead {
            Some(file) => file.map_err(failed)?,
            None => prepare_segment(
                file_system,
                &self.folder,
                &self.identity,
                header.number,
                header.geometry,
            )
            .map_err(failed)?,
        };
        create_segment(file_system, &self.folder, &self.identity, header, file)
    }

    /// Begins to make the next segment's file in another thread, as soon as there is an active one.
    /// Marking all of its space takes a while, which nobody should have to wait for; and it is the
    /// room in which the log goes on when the disk is full.
    ///
    /// # Errors
    /// Why it could not be made, once; or when no thread can be started.
    pub fn prepare_next(&mut self) -> io::Result<()> {
        let Some(segment) = self.segments.last() else {
            return Ok(());
        };
        match &self.next {
            Some(ahead) if ahead.failed.load(Ordering::Acquire) => {
                self.preparation_failed = true;
                return match self.next.take().map(|ahead| ahead.thread.join()) {
                    Some(Ok(Err(error))) => Err(error),
                    _ => Err(io::Error::other("the thread that made space has ended")),
                };
            }
            Some(_) => return Ok(()),
            None if self.preparation_failed => return Ok(()),
            None => {}
        }
        let number = segment.number + 1;
        let geometry = Geometry::fitting(self.options.segment_bytes, 0, 0);
        let (file_system, folder) = (self.file_system.clone(), self.folder.clone());
        let identity = self.identity;
        let failed = Arc::new(AtomicBool::new(false));
        let says_failed = failed.clone();
        let thread = thread::Builder::new()
            .name("log-space".to_owned())
            .spawn(move || {
                prepare_segment(file_system.as_ref(), &folder, &identity, number, geometry)
                    .inspect_err(|_| says_failed.store(true, Ordering::Release))
            })?;
        self.next = Some(Preparation {
            number,
            geometry,
            failed,
            thread,
        });
        Ok(())
    }

    /// Lets [`Self::prepare_next`] try again what had failed.
    pub fn retry_preparation(&mut self) {
        self.preparation_failed = false;
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
            .map(|segment| segment.geometry.length_bytes)
            .sum()
    }
}

/// Writes the block of the newest slot again, for its mark.
fn write_block(segment: &Segment, seed: &SegmentSeed, tail: &Tail) -> std::io::Result<()> {
    let offset = segment.geometry.block_offset(tail.slots.saturating_sub(1));
    let bytes = encode_identifier_block(seed, offset, &tail.block);
    segment.file.write_at(&bytes, offset)
}
