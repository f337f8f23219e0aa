//! Making a segment whole from what it still has, and getting its end ready to be appended to.

use std::io;
use std::ops::Range;

use bytes::Bytes;

use super::append::Tail;
use super::layout::{
    BLOCK_BYTES, IDENTIFIER_BLOCK_BYTES, IdentifierBlock, LogIdentity, RECORD_HEADER_BYTES,
    SECTOR_BYTES, SLOTS_A_BLOCK, SectorUse, SegmentHeader, SegmentSeed, encode_identifier_block,
    encode_segment_header, fill_free, sector_use,
};
use super::mend::{Patch, batch_header_patch, record_patch, write_patches};
use super::open::ReadSegment;
use super::segment::mark_free;
use crate::disk::File;
use crate::planted::{Bug, is_planted};

/// Writes anew what is damaged and known from elsewhere in the segment.
pub(crate) fn mend_segment(read: &ReadSegment, identity: &LogIdentity) -> io::Result<()> {
    write_mended(
        read.file.as_ref(),
        &read.header,
        &patches_of(read, identity),
    )
}

/// Puts patches in their places in a segment, which gets its full length first.
pub(crate) fn write_mended(
    file: &dyn File,
    header: &SegmentHeader,
    patches: &[Patch],
) -> io::Result<()> {
    if file.length_bytes()? < header.geometry.length_bytes {
        file.allocate(header.geometry.length_bytes)?;
    }
    if patches.is_empty() {
        return Ok(());
    }
    write_patches(file, patches)
}

/// What has to be written anew of a segment, and is known from elsewhere in it.
pub(crate) fn patches_of(read: &ReadSegment, identity: &LogIdentity) -> Vec<Patch> {
    let geometry = read.header.geometry;
    let seed = identity.seed(read.header.number, read.header.version);
    let mut patches = Vec::new();
    if let Some(copy) = read.damaged_header
        && !is_planted(Bug::HeaderNotMended)
    {
        patches.push(Patch {
            offset_bytes: [0, geometry.second_header()][copy.min(1)],
            bytes: encode_segment_header(identity, &read.header),
        });
    }
    for damage in &read.scan.damage {
        if let Some(header) = &damage.header {
            let offset = damage.offset_bytes;
            patches.push(batch_header_patch(&seed, offset, header));
        }
        for record in &damage.records {
            let slot = &read.scan.records[*record].slot;
            let payload_start = slot.offset_bytes + RECORD_HEADER_BYTES as u64;
            let payload = read
                .image
                .get(payload_start, slot.payload_bytes as u64)
                .unwrap_or_default();
            let payload = Bytes::copy_from_slice(payload);
            patches.push(record_patch(&seed, slot, &payload));
        }
    }
    for block in &read.scan.damaged_blocks {
        patches.push(identifier_patch(read, &seed, *block));
    }
    patches
}

/// An identifier block as its records say that it was.
fn identifier_patch(read: &ReadSegment, seed: &SegmentSeed, block: u64) -> Patch {
    let first = usize::try_from(block).unwrap_or(usize::MAX) * SLOTS_A_BLOCK;
    let records = &read.scan.records;
    let end = (first + SLOTS_A_BLOCK).min(records.len());
    let offset_bytes = read.header.geometry.identifiers_start() + block * IDENTIFIER_BLOCK_BYTES;
    let block = IdentifierBlock {
        // Every batch before the last was synced before the last was written.
        flushed_batch: read.scan.last_batch.saturating_sub(1),
        slots: records
            .get(first..end)
            .unwrap_or_default()
            .iter()
            .map(|record| record.slot)
            .collect(),
    };
    Patch {
        offset_bytes,
        bytes: encode_identifier_block(seed, offset_bytes, &block).to_vec(),
    }
}

/// Gets the end of the active segment ready: what stands behind it is marked as free, everything
/// that is kept is synced, and marked as synced.
///
/// A process that was killed may have left what was never synced; from here on it counts, so it
/// has to be durable.
pub(crate) fn reopen_tail(read: &ReadSegment, identity: &LogIdentity) -> io::Result<Tail> {
    let geometry = read.header.geometry;
    let seed = identity.seed(read.header.number, read.header.version);
    let slots = read.scan.records.len() as u64;
    let end = read.scan.end_bytes;
    if !is_planted(Bug::TailNotCleared) {
        free_what_is_not(read, &seed, end..geometry.payloads_end())?;
    }
    let block = slots / SLOTS_A_BLOCK as u64;
    let first = usize::try_from(block).unwrap_or(usize::MAX) * SLOTS_A_BLOCK;
    let in_block = read.scan.records.get(first..).unwrap_or_default();
    let free_start = geometry.block_offset(slots)
        + if in_block.is_empty() {
            0
        } else {
            IDENTIFIER_BLOCK_BYTES
        };
    if !is_planted(Bug::TailNotCleared) {
        free_what_is_not(read, &seed, free_start..geometry.payloads_start())?;
    }
    if !is_planted(Bug::KilledWritesBelieved) {
        read.file.sync()?;
    }

    let mut tail = Tail {
        end_bytes: end,
        slots,
        block: IdentifierBlock {
            flushed_batch: read.scan.last_batch,
            slots: in_block.iter().map(|record| record.slot).collect(),
        },
        chain: read.scan.chain,
        last_batch: read.scan.last_batch,
    };
    if slots > 0 {
        write_last_block(read, &seed, &mut tail)?;
        if !is_planted(Bug::KilledWritesBelieved) {
            read.file.sync()?;
        }
    }
    Ok(tail)
}

/// The newest slot's block, with the mark that everything was synced.
fn write_last_block(read: &ReadSegment, seed: &SegmentSeed, tail: &mut Tail) -> io::Result<()> {
    let last = tail.slots - 1;
    if tail.block.slots.is_empty() {
        // The newest slot fills its block; the next one begins another.
        let first = usize::try_from(last).unwrap_or(0) / SLOTS_A_BLOCK * SLOTS_A_BLOCK;
        let records = read.scan.records.get(first..).unwrap_or_default();
        tail.block.slots = records.iter().map(|record| record.slot).collect();
    }
    let offset = read.header.geometry.block_offset(last);
    let bytes = encode_identifier_block(seed, offset, &tail.block);
    read.file.write_at(&bytes, offset)
}

/// Marks as free what should be and is not, from the first such sector of a range to the last.
fn free_what_is_not(read: &ReadSegment, seed: &SegmentSeed, range: Range<u64>) -> io::Result<()> {
    let is_free = |offset: u64| {
        read.image
            .get(offset, SECTOR_BYTES)
            .is_some_and(|bytes| sector_use(bytes, seed, offset) == SectorUse::Free)
    };
    let sectors = range.end.saturating_sub(range.start) / SECTOR_BYTES;
    let offset_of = |sector: u64| range.start + sector * SECTOR_BYTES;
    let mut other = (0..sectors).filter(|sector| !is_free(offset_of(*sector)));
    let Some(first) = other.next() else {
        return Ok(());
    };
    let last = other.next_back().unwrap_or(first);
    let file = read.file.as_ref();
    // Whole blocks: a sector that the disk does not give can only be written with all of its page.
    let start = (offset_of(first) / BLOCK_BYTES * BLOCK_BYTES).max(range.start);
    let end = (offset_of(last) + SECTOR_BYTES)
        .next_multiple_of(BLOCK_BYTES)
        .min(range.end);
    let whole_blocks = start.next_multiple_of(BLOCK_BYTES).min(end);
    if start < whole_blocks {
        // The first block holds names too, which stay as they are.
        let patch = Patch {
            offset_bytes: start,
            bytes: fill_free(seed, start, whole_blocks - start),
        };
        write_patches(file, &[patch])?;
    }
    mark_free(file, seed, whole_blocks..end)
}
