//! Writing parts of a segment anew, in place.
//!
//! What is written is what had been written there before, byte for byte, so a crash in between
//! leaves the segment as damaged as it was, or less.

use std::io;

use bytes::Bytes;

use super::layout::{
    BLOCK_BYTES, BatchHeader, RecordHeader, SegmentSeed, Slot, encode_batch_header, encode_record,
    record_bytes,
};
use crate::disk::{File, read_what_can_be_read};
use crate::planted::{Bug, is_planted};

/// Bytes that belong at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Patch {
    pub(crate) offset_bytes: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Patch {
    fn end_bytes(&self) -> u64 {
        self.offset_bytes + self.bytes.len() as u64
    }
}

/// A batch header as it belongs at `offset_bytes`.
pub(crate) fn batch_header_patch(
    seed: &SegmentSeed,
    offset_bytes: u64,
    header: &BatchHeader,
) -> Patch {
    Patch {
        offset_bytes,
        bytes: encode_batch_header(seed, offset_bytes, header).to_vec(),
    }
}

/// A record as its slot says that it was.
pub(crate) fn record_patch(seed: &SegmentSeed, slot: &Slot, payload: &Bytes) -> Patch {
    let header = RecordHeader::new(slot.kind, slot.position, slot.batch, payload);
    let mut bytes = Vec::with_capacity(usize::try_from(record_bytes(payload.len())).unwrap_or(0));
    encode_record(&mut bytes, seed, slot.offset_bytes, &header, payload);
    Patch {
        offset_bytes: slot.offset_bytes,
        bytes,
    }
}

/// Writes patches and syncs. Whole blocks are written: a sector that the disk does not give can
/// only be written together with all of its page. What else is in such a sector is zero afterwards
/// and goes on to be damaged.
pub(crate) fn write_patches(file: &dyn File, patches: &[Patch]) -> io::Result<()> {
    let mut blocks: Vec<u64> = patches
        .iter()
        .flat_map(|patch| patch.offset_bytes / BLOCK_BYTES..patch.end_bytes().div_ceil(BLOCK_BYTES))
        .collect();
    blocks.sort_unstable();
    blocks.dedup();
    for block in blocks {
        let start = block * BLOCK_BYTES;
        let mut bytes = vec![0; usize::try_from(BLOCK_BYTES).unwrap_or(4096)];
        read_what_can_be_read(file, &mut bytes, start);
        for patch in patches {
            overlay(&mut bytes, start, patch);
        }
        file.write_at(&bytes, start)?;
    }
    if is_planted(Bug::RepairNotSynced) {
        return Ok(());
    }
    file.sync()
}

fn overlay(bytes: &mut [u8], start: u64, patch: &Patch) {
    let end = start + bytes.len() as u64;
    let from = patch.offset_bytes.max(start);
    let to = patch.end_bytes().min(end);
    if from >= to {
        return;
    }
    let place = |offset: u64, base: u64| usize::try_from(offset - base).unwrap_or(0);
    bytes[place(from, start)..place(to, start)].copy_from_slice(
        &patch.bytes[place(from, patch.offset_bytes)..place(to, patch.offset_bytes)],
    );
}
