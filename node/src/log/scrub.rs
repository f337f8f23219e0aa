//! Scrubbing: reading segments of a log that is in use, and making whole what can be made whole.
//!
//! What was written and synced is never overwritten but by what stood there before, so it can be
//! read while the log is appended to, cut back and purged. Three things do change, and are not
//! taken for damage: the block of the newest names, which is looked at by the thread that writes
//! it; everything behind the end of the active segment, which is not read; and what is just being
//! written anew. So whatever is found is looked at a second time while nobody mends, and counts
//! only if it is found again.

use std::io;

use super::append::Tail;
use super::error::LogError;
use super::files::LogFiles;
use super::identifiers::Identifiers;
use super::image::SegmentImage;
use super::layout::{
    BLOCK_BYTES, Geometry, LogIdentity, RecordKind, SegmentSeed, Slot, encode_identifier_block,
    fill_free,
};
use super::mend::{Patch, write_patches};
use super::open::{ReadSegment, read_header};
use super::restore::{patches_of, write_mended};
use super::scan::{SegmentEnd, scan_segment};
use super::segment::Segment;
use super::store::{LogStore, StoreFailure};
use crate::disk::{Interrupted, Throttle, Unthrottled, read_exact_at};
use crate::position::LogPosition;

/// What became of one segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SegmentScrub {
    /// Records that were checked, with their names.
    pub(crate) records: u64,
    /// What was written anew from what this node itself has, one sentence each.
    pub(crate) mended: Vec<String>,
    /// Entries that only another member can give, marked as unreadable.
    pub(crate) unreadable: Vec<LogPosition>,
    /// Something that has lost its name: a start from this volume would be refused.
    pub(crate) lost: Option<Lost>,
}

/// Something of a segment that has lost its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) segment: u64,
    pub(crate) what: String,
    /// The highest index in the segment, when nothing is appended to it any more: once the log is
    /// purged through it, the segment is gone, and the damage with it.
    pub(crate) through_index: Option<u64>,
}

/// Why a segment could not be scrubbed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogScrubError {
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("the log does not go on")]
    Stopped(#[source] io::Error),
}

/// The chain at the end of the segment that was scrubbed last, with its number.
pub(crate) type ScrubbedChain = Option<(u64, [u8; 32])>;

/// A segment as the writer's thread shows it: with its tail, when it is the active one.
struct Shown {
    segment: Segment,
    tail: Option<Tail>,
    /// The block of the newest names was damaged, and was written anew.
    mended_tail: bool,
}

/// A segment as it was read.
struct Judged {
    /// None when neither copy of the header can be read.
    read: Option<ReadSegment>,
    unreadable: Vec<Slot>,
    lost: Option<String>,
}

impl Judged {
    fn is_whole(&self) -> bool {
        let needs_mending = self.read.as_ref().is_none_or(|read| {
            read.damaged_header.is_some()
                || !read.scan.damage.is_empty()
                || !read.scan.damaged_blocks.is_empty()
        });
        !needs_mending && self.unreadable.is_empty() && self.lost.is_none()
    }
}

impl LogStore {
    /// The numbers of the segments, oldest first, and the bytes that reading them takes at most.
    pub(crate) fn scrub_extent(&self) -> (Vec<u64>, u64) {
        let numbers = self.readers().numbers();
        let bytes = numbers
            .iter()
            .filter_map(|number| self.readers().segment(*number).ok())
            .map(|segment| segment.geometry.length_bytes)
            .sum();
        (numbers, bytes)
    }

    /// Whether a segment is still there.
    pub(crate) fn has_segment(&self, number: u64) -> bool {
        self.readers().segment(number).is_ok()
    }

    /// Reads a whole segment and checks headers, names, chain and the digest of each payload.
    /// What is damaged and known from elsewhere in the segment, or from memory, is written anew;
    /// an entry that is not is marked as unreadable. `None` when the segment was let go meanwhile.
    ///
    /// # Errors
    /// When the reading is interrupted, or the log has stopped.
    pub(crate) fn scrub_segment(
        &self,
        number: u64,
        chain: &mut ScrubbedChain,
        throttle: &mut dyn Throttle,
    ) -> Result<Option<SegmentScrub>, LogScrubError> {
        let Some(shown) = self.show(number)? else {
            return Ok(None);
        };
        let mut scrub = SegmentScrub::default();
        if shown.mended_tail {
            scrub.mended.push(format!(
                "{}: the block of the newest identifiers",
                shown.segment.path.display()
            ));
        }
        let identity = self.readers().identity();
        let mut judged = judge(&shown, &identity, *chain, throttle)?;
        if !judged.is_whole() {
            judged = match self.look_again(number, *chain, &mut scrub)? {
                Some(judged) => judged,
                None => return Ok(None),
            };
        }
        for slot in &judged.unreadable {
            self.settle_unreadable(&shown.segment, slot, &mut scrub)?;
        }
        *chain = judged
            .read
            .as_ref()
            .filter(|_| judged.lost.is_none())
            .map(|read| (number, read.scan.chain));
        scrub.records = judged
            .read
            .as_ref()
            .map_or(0, |read| read.scan.records.len() as u64);
        scrub.lost = judged.lost.map(|what| Lost {
            segment: number,
            what,
            through_index: shown
                .tail
                .is_none()
                .then_some(shown.segment.highest_index)
                .flatten(),
        });
        Ok(Some(scrub))
    }

    /// Where an entry stands.
    #[cfg(test)]
    pub(crate) fn location(&self, index: u64) -> Option<super::EntryLocation> {
        self.located(index)
    }

    fn show(&self, number: u64) -> Result<Option<Shown>, LogScrubError> {
        self.alone(move |alone| Ok(alone.files.show(number)?))
            .map_err(LogScrubError::Stopped)
    }

    /// Judges a segment while nobody mends anything, and mends what is still found.
    fn look_again(
        &self,
        number: u64,
        chain: ScrubbedChain,
        scrub: &mut SegmentScrub,
    ) -> Result<Option<Judged>, LogScrubError> {
        let identity = self.readers().identity();
        let mending = self.readers().hold_mending();
        let Some(shown) = self.show(number)? else {
            return Ok(None);
        };
        let judged = judge(&shown, &identity, chain, &mut Unthrottled)?;
        // As at opening: where something has lost its name, nothing else is changed.
        let Some(read) = judged.read.as_ref().filter(|_| judged.lost.is_none()) else {
            return Ok(Some(judged));
        };
        let found = describe(read);
        if !found.is_empty() {
            let patches = patches_of(read, &identity);
            let (file, header) = (read.file.clone(), read.header);
            let path = read.path.clone();
            // Names that are being added may stand in the same page as those written anew.
            self.alone(move |_| {
                write_mended(file.as_ref(), &header, &patches)
                    .map_err(|source| StoreFailure::Log(LogError::io("mend", &path, source)))
            })
            .map_err(LogScrubError::Stopped)?;
            scrub.mended.extend(found);
        }
        drop(mending);
        Ok(Some(judged))
    }

    /// An entry that cannot be read comes from memory, or from a peer. One that is void or purged
    /// is needed by nobody.
    fn settle_unreadable(
        &self,
        segment: &Segment,
        slot: &Slot,
        scrub: &mut SegmentScrub,
    ) -> Result<(), LogScrubError> {
        let place = (segment.number, slot.offset_bytes, slot.position.index);
        let Some((location, payload)) = self.entry_at(place.0, place.1, place.2) else {
            return Ok(());
        };
        let position = location.position;
        if let Some(payload) = payload {
            match self.repair(position, &payload) {
                Ok(()) => {
                    scrub.mended.push(format!(
                        "{}: entry {position}, from memory",
                        segment.path.display()
                    ));
                    return Ok(());
                }
                Err(LogError::OtherPayload { .. }) => {}
                Err(error) => {
                    // What a failed write leaves is unknown: the log stops.
                    return self
                        .alone(move |_| Err::<(), _>(StoreFailure::Log(error)))
                        .map_err(LogScrubError::Stopped);
                }
            }
        }
        self.mark_unreadable(position);
        scrub.unreadable.push(position);
        Ok(())
    }
}

impl LogFiles {
    fn show(&mut self, number: u64) -> Result<Option<Shown>, LogError> {
        let Some(place) = self
            .segments
            .iter()
            .position(|segment| segment.number == number)
        else {
            return Ok(None);
        };
        let segment = self.segments[place].clone();
        let is_active = place + 1 == self.segments.len();
        let tail = self.tail.clone().filter(|_| is_active);
        let mended_tail = match &tail {
            Some(tail) => mend_newest_block(&segment, &self.identity, tail)
                .map_err(|source| LogError::io("mend", &segment.path, source))?,
            None => false,
        };
        Ok(Some(Shown {
            segment,
            tail,
            mended_tail,
        }))
    }
}

/// Compares the block of the newest slot with what was written last; tells whether it differed and
/// was written anew.
fn mend_newest_block(segment: &Segment, identity: &LogIdentity, tail: &Tail) -> io::Result<bool> {
    let Some(newest) = tail.slots.checked_sub(1) else {
        return Ok(false);
    };
    let offset_bytes = segment.geometry.block_offset(newest);
    let bytes = encode_identifier_block(&segment.seed(identity), offset_bytes, &tail.block);
    segment.file.forget_cached()?;
    let found = read_exact_at(segment.file.as_ref(), offset_bytes, bytes.len());
    if found.is_ok_and(|found| found == bytes) {
        return Ok(false);
    }
    let patch = Patch {
        offset_bytes,
        bytes: bytes.to_vec(),
    };
    write_patches(segment.file.as_ref(), &[patch])?;
    Ok(true)
}

/// Reads a segment up to its end and says what is wrong with it.
fn judge(
    shown: &Shown,
    identity: &LogIdentity,
    chain: ScrubbedChain,
    throttle: &mut dyn Throttle,
) -> Result<Judged, LogScrubError> {
    let Segment {
        number,
        version,
        path,
        file,
        geometry,
        ..
    } = &shown.segment;
    let nameless = |what: String| Judged {
        read: None,
        unreadable: Vec::new(),
        lost: Some(what),
    };
    throttle.note(2 * BLOCK_BYTES)?;
    let _ = file.forget_cached();
    let (header, damaged_header) = match read_header(file.as_ref(), path, identity) {
        Ok(read) => read,
        Err(error @ LogError::Io { .. }) => return Err(error.into()),
        Err(error) => return Ok(nameless(error.to_string())),
    };
    if header.number != *number || header.version != *version || header.geometry != *geometry {
        return Ok(nameless(format!(
            "{} has the header of another segment",
            path.display()
        )));
    }
    let seed = shown.segment.seed(identity);
    let length = shown
        .tail
        .as_ref()
        .map_or(geometry.length_bytes, |tail| tail.end_bytes);
    let mut image = SegmentImage::read_throttled(file.as_ref(), length, throttle)?;
    if let Some(tail) = &shown.tail {
        overlay_names(&mut image, *geometry, &seed, tail);
    }
    let identifiers = Identifiers::read(&image, &seed, *geometry);
    let scan = scan_segment(&image, &seed, &header, identifiers);
    let lost = match (&shown.tail, &scan.end) {
        (_, SegmentEnd::Damaged { offset_bytes, what }) => Some(
            LogError::Damaged {
                path: path.clone(),
                offset_bytes: *offset_bytes,
                what,
            }
            .to_string(),
        ),
        (None, SegmentEnd::Sealed) => None,
        (Some(tail), SegmentEnd::Clean)
            if tail.last_batch == scan.last_batch && tail.chain == scan.chain =>
        {
            None
        }
        _ => Some(format!(
            "{}: what was written behind byte {} is gone",
            path.display(),
            scan.end_bytes
        )),
    };
    let follows =
        chain.is_none_or(|(before, chain)| before + 1 != *number || chain == header.chain);
    let lost = lost.or_else(|| {
        (!follows).then(|| {
            format!(
                "{} does not go on from the segment before it",
                path.display()
            )
        })
    });
    let unreadable = scan
        .records
        .iter()
        .filter(|record| record.slot.kind == RecordKind::Entry)
        .filter(|record| !record.readable)
        .map(|record| record.slot)
        .collect();
    Ok(Judged {
        unreadable,
        lost,
        read: Some(ReadSegment {
            path: path.clone(),
            file: file.clone(),
            header,
            damaged_header,
            image,
            scan,
            highest_index: shown.segment.highest_index,
        }),
    })
}

/// Puts the names as they were at the tail's time in the place of those that are being written.
fn overlay_names(image: &mut SegmentImage, geometry: Geometry, seed: &SegmentSeed, tail: &Tail) {
    let mut free_start = geometry.identifiers_start();
    if let Some(newest) = tail.slots.checked_sub(1) {
        let offset = geometry.block_offset(newest);
        let bytes = encode_identifier_block(seed, offset, &tail.block);
        free_start = offset + bytes.len() as u64;
        image.overlay(offset, &bytes);
    }
    let free_bytes = geometry.payloads_start() - free_start;
    image.overlay(free_start, &fill_free(seed, free_start, free_bytes));
}

/// What of a segment can be made whole from itself, one sentence each.
pub(crate) fn describe(segment: &ReadSegment) -> Vec<String> {
    let path = segment.path.display();
    let mut found = Vec::new();
    if let Some(copy) = segment.damaged_header {
        found.push(format!("{path}: copy {copy} of its header"));
    }
    for damage in &segment.scan.damage {
        found.push(format!(
            "{path}: headers of a batch at byte {}, from the identifiers",
            damage.offset_bytes
        ));
    }
    if !segment.scan.damaged_blocks.is_empty() {
        found.push(format!(
            "{path}: {} blocks of identifiers, from the records",
            segment.scan.damaged_blocks.len()
        ));
    }
    found
}
