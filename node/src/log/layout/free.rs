//! Sectors that were never written to.
//!
//! Space is marked as free, and the mark is synced, before a batch may be written there. A sector
//! that still has its mark was therefore never durably written: that is how a write which a crash
//! interrupted is told from one that was finished and damaged later. Zeros would not do: a disk
//! that loses a block gives zeros.

use super::{SECTOR_BYTES, SegmentSeed};

const MAGIC: [u8; 8] = *b"QDRFREE\0";
const MARK_BYTES: usize = 28;

/// What a sector's content says about its use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SectorUse {
    /// It has its mark: never written since.
    Free,
    /// All zeros: beyond what was marked, or lost.
    Zero,
    /// Anything else.
    Written,
}

fn mark(seed: &SegmentSeed, offset_bytes: u64) -> [u8; MARK_BYTES] {
    let mut bytes = [0; MARK_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..16].copy_from_slice(&seed.number.to_le_bytes());
    bytes[16..24].copy_from_slice(&offset_bytes.to_le_bytes());
    bytes[24..].copy_from_slice(&seed.at(offset_bytes).to_le_bytes());
    bytes
}

/// Free sectors for the range of `length_bytes` at `offset_bytes`; both are multiples of
/// [`SECTOR_BYTES`].
pub(crate) fn fill_free(seed: &SegmentSeed, offset_bytes: u64, length_bytes: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(length_bytes).unwrap_or(0)];
    mark_sectors(&mut bytes, seed, offset_bytes);
    bytes
}

/// Marks sectors which are zeros, or are marked already, as free ones at `offset_bytes`.
pub(crate) fn mark_sectors(bytes: &mut [u8], seed: &SegmentSeed, offset_bytes: u64) {
    let sector = usize::try_from(SECTOR_BYTES).unwrap_or(512);
    for (number, part) in bytes.chunks_exact_mut(sector).enumerate() {
        let at = offset_bytes + number as u64 * SECTOR_BYTES;
        part[..MARK_BYTES].copy_from_slice(&mark(seed, at));
    }
}

/// What the sector at `offset_bytes` is used for.
pub(crate) fn sector_use(bytes: &[u8], seed: &SegmentSeed, offset_bytes: u64) -> SectorUse {
    let sector = usize::try_from(SECTOR_BYTES).unwrap_or(512);
    let Some(bytes) = bytes.get(..sector) else {
        return SectorUse::Written;
    };
    let (head, rest) = bytes.split_at(MARK_BYTES);
    if rest.iter().any(|byte| *byte != 0) {
        return SectorUse::Written;
    }
    if head == mark(seed, offset_bytes) {
        SectorUse::Free
    } else if head.iter().all(|byte| *byte == 0) {
        SectorUse::Zero
    } else {
        SectorUse::Written
    }
}
