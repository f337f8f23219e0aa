//! The bytes of one segment, with what could not be read.

use std::io;

use super::layout::{Geometry, SECTOR_BYTES};
use crate::disk::{File, Interrupted, Throttle, read_what_can_be_read};

const CHUNK_BYTES: u64 = 1024 * 1024;

/// A segment as it was read. A sector that the disk does not give is known as such: it is never
/// taken for one that holds nothing.
#[derive(Debug)]
pub(crate) struct SegmentImage {
    /// What was read, and behind it what is left in memory of an earlier image.
    bytes: Vec<u8>,
    end: usize,
    /// Numbers of the sectors that could not be read, sorted.
    unreadable: Vec<u64>,
}

impl SegmentImage {
    /// Reads a segment of `length_bytes`, whatever the length of its file: what is beyond its end
    /// is unreadable. Reading stops early where space was never written to, behind `needed_bytes`.
    /// `buffer` is memory to use, whatever it holds.
    pub(crate) fn read(
        file: &dyn File,
        geometry: Geometry,
        needed_bytes: u64,
        buffer: Vec<u8>,
    ) -> Self {
        let mut image = Self {
            bytes: buffer,
            end: 0,
            unreadable: Vec::new(),
        };
        let mut at = 0;
        while at < geometry.length_bytes {
            let length = CHUNK_BYTES.min(geometry.length_bytes - at);
            let before = image.end;
            image.read_chunk(file, at, length);
            at += length;
            let nothing = image.bytes[before..image.end].iter().all(|byte| *byte == 0)
                && image
                    .unreadable
                    .last()
                    .is_none_or(|sector| (sector * SECTOR_BYTES) < before as u64);
            if nothing && at > geometry.payloads_start() && at >= needed_bytes {
                break;
            }
        }
        image
    }

    /// Reads the first `length_bytes` of a segment that is in use, past the page cache and at the
    /// pace of `throttle`.
    pub(crate) fn read_throttled(
        file: &dyn File,
        length_bytes: u64,
        throttle: &mut dyn Throttle,
    ) -> Result<Self, Interrupted> {
        let mut image = Self {
            bytes: Vec::new(),
            end: 0,
            unreadable: Vec::new(),
        };
        let mut at = 0;
        while at < length_bytes {
            let length = CHUNK_BYTES.min(length_bytes - at);
            throttle.note(length)?;
            // A disk that cannot be asked past its cache is still read.
            let _ = file.forget_cached();
            image.read_chunk(file, at, length);
            at += length;
        }
        Ok(image)
    }

    /// Takes these bytes for what stands at `offset_bytes`, whatever was read there. Whole sectors.
    pub(crate) fn overlay(&mut self, offset_bytes: u64, bytes: &[u8]) {
        let end = offset_bytes + bytes.len() as u64;
        self.unreadable.retain(|sector| {
            let start = sector * SECTOR_BYTES;
            start + SECTOR_BYTES <= offset_bytes || start >= end
        });
        let start = usize::try_from(offset_bytes).unwrap_or(usize::MAX);
        if let Some(place) = self.bytes.get_mut(start..start + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    fn read_chunk(&mut self, file: &dyn File, offset_bytes: u64, length_bytes: u64) {
        let start = self.end;
        let length = usize::try_from(length_bytes).unwrap_or(0);
        self.end += length;
        if self.bytes.len() < self.end {
            self.bytes.resize(self.end, 0);
        }
        let chunk = &mut self.bytes[start..self.end];
        let sectors = read_what_can_be_read(file, chunk, offset_bytes);
        self.unreadable.extend(
            sectors
                .into_iter()
                .map(|place| (offset_bytes + place as u64) / SECTOR_BYTES),
        );
    }

    /// The bytes of a range, or `None` when a part of it could not be read.
    pub(crate) fn get(&self, offset_bytes: u64, length_bytes: u64) -> Option<&[u8]> {
        let end = offset_bytes.checked_add(length_bytes)?;
        if self.touches_unreadable(offset_bytes, end) {
            return None;
        }
        self.bytes[..self.end].get(usize::try_from(offset_bytes).ok()?..usize::try_from(end).ok()?)
    }

    fn touches_unreadable(&self, start: u64, end: u64) -> bool {
        let first = start / SECTOR_BYTES;
        let next = self.unreadable.partition_point(|sector| *sector < first);
        self.unreadable
            .get(next)
            .is_some_and(|sector| sector * SECTOR_BYTES < end)
    }

    /// Lets the bytes go, for another image: from now on nothing of it can be read.
    pub(crate) fn release(&mut self) -> Vec<u8> {
        self.end = 0;
        std::mem::take(&mut self.bytes)
    }

    /// How far the image goes; behind it the segment was never written to.
    pub(crate) fn end_bytes(&self) -> u64 {
        self.end as u64
    }
}

/// Reads one block on its own; `None` when the disk does not give it.
pub(crate) fn read_block(file: &dyn File, offset_bytes: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(super::layout::BLOCK_BYTES).unwrap_or(4096)];
    let read: io::Result<usize> = file.read_at(&mut bytes, offset_bytes);
    read.is_ok_and(|read| read == bytes.len()).then_some(bytes)
}
