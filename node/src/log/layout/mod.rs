//! Layout of the log on disk; docs/formats/log.md describes it for readers of the files.
//!
//! A segment is one preallocated file:
//!
//! ```text
//! block 0                     segment header
//! identifier region           who is where: one slot a record, apart from the payloads
//! payload region              batches, each at the beginning of a 4 KiB block
//! last block                  segment header once more
//! ```
//!
//! All numbers are little endian. Checksums: [`SegmentSeed`].

mod batch;
mod free;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod header;
mod identifiers;
mod record;
mod seed;

use quadraft_protocol::NodeId;
use twox_hash::XxHash3_128;
use uuid::Uuid;

pub(crate) use batch::{
    BATCH_HEADER_BYTES, BatchHeader, decode_batch_header, encode_batch_header, next_chain,
    next_chain_of_names,
};
pub(crate) use free::{SectorUse, fill_free, mark_sectors, sector_use};
pub(crate) use header::{
    FormatVersion, SegmentHeader, SegmentHeaderRead, decode_segment_header, encode_segment_header,
};
pub(crate) use identifiers::{
    BatchNames, BlockRead, IDENTIFIER_BLOCK_BYTES, IdentifierBlock, SLOTS_A_BLOCK, Slot,
    decode_identifier_block, encode_identifier_block,
};
pub(crate) use record::{
    RECORD_HEADER_BYTES, RecordHeader, decode_record_header, encode_record, encoded_digest,
    record_bytes,
};
pub(crate) use seed::SegmentSeed;

use crate::position::LogPosition;

/// Batches and headers begin at multiples of this, so that writing one never rewrites a page that
/// holds another.
pub(crate) const BLOCK_BYTES: u64 = 4096;
/// What a disk writes as a whole or not at all.
pub(crate) const SECTOR_BYTES: u64 = crate::disk::SECTOR_BYTES as u64;
/// A longer payload is never written, and never believed.
pub(crate) const MAXIMUM_PAYLOAD_BYTES: usize = 256 * 1024 * 1024;
/// The smallest segment: both headers, eight identifier blocks, one payload block.
pub(crate) const MINIMUM_SEGMENT_BYTES: u64 = 4 * BLOCK_BYTES;

/// Who writes this log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogIdentity {
    pub cluster_uuid: Uuid,
    pub node_id: NodeId,
    pub incarnation: Uuid,
}

impl LogIdentity {
    /// What the checksums within a segment of this log go on from.
    pub(crate) fn seed(&self, segment: u64, version: FormatVersion) -> SegmentSeed {
        SegmentSeed::new(self, segment, version)
    }
}

/// What a record means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordKind {
    /// A log entry: its position and payload.
    Entry = 1,
    /// All entries after the position's index are void; index 0 voids everything.
    TruncateAfter = 2,
    /// All entries up to the position are in a snapshot and may be gone.
    Purged = 3,
    /// All entries up to the position were known to be committed.
    Committed = 4,
    /// The segment ends here; the next one exists.
    Sealed = 5,
}

impl RecordKind {
    fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Entry,
            2 => Self::TruncateAfter,
            3 => Self::Purged,
            4 => Self::Committed,
            5 => Self::Sealed,
            _ => return None,
        })
    }
}

/// The digest by which an entry's payload is known apart from it: XXH3, 128 bits. It tells damage,
/// not forgery; docs/decisions/0007-two-digests.md says why it is not SHA-256.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PayloadDigest(pub [u8; 16]);

impl PayloadDigest {
    /// Of a payload.
    #[must_use]
    pub fn of(payload: &[u8]) -> Self {
        Self(XxHash3_128::oneshot(payload).to_le_bytes())
    }
}

impl std::fmt::Display for PayloadDigest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0
            .iter()
            .try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// Where the regions of a segment are, in bytes from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Length of the whole segment, a multiple of [`BLOCK_BYTES`].
    pub(crate) length_bytes: u64,
    /// Length of the identifier region, a multiple of [`BLOCK_BYTES`].
    pub(crate) identifier_bytes: u64,
}

impl Geometry {
    /// The regions of a segment of about `wanted_bytes` that can hold a batch of `records` records
    /// and `batch_bytes` bytes. An eighth of it are identifiers.
    pub(crate) fn fitting(wanted_bytes: u64, records: u64, batch_bytes: u64) -> Self {
        let wanted = wanted_bytes
            .max(MINIMUM_SEGMENT_BYTES)
            .next_multiple_of(BLOCK_BYTES);
        let blocks_needed = records.div_ceil(SLOTS_A_BLOCK as u64) * IDENTIFIER_BLOCK_BYTES;
        let identifier_bytes = (wanted / 8)
            .max(blocks_needed)
            .max(BLOCK_BYTES)
            .next_multiple_of(BLOCK_BYTES);
        let payload_bytes = batch_bytes.next_multiple_of(BLOCK_BYTES);
        Self {
            length_bytes: wanted.max(identifier_bytes + payload_bytes + 2 * BLOCK_BYTES),
            identifier_bytes,
        }
    }

    pub(crate) fn is_valid(&self) -> bool {
        self.length_bytes.is_multiple_of(BLOCK_BYTES)
            && self.identifier_bytes.is_multiple_of(BLOCK_BYTES)
            && self.identifier_bytes >= BLOCK_BYTES
            && self
                .identifier_bytes
                .checked_add(3 * BLOCK_BYTES)
                .is_some_and(|least| least <= self.length_bytes)
    }

    pub(crate) fn identifiers_start(&self) -> u64 {
        BLOCK_BYTES
    }

    pub(crate) fn payloads_start(&self) -> u64 {
        BLOCK_BYTES + self.identifier_bytes
    }

    pub(crate) fn payloads_end(&self) -> u64 {
        self.length_bytes - BLOCK_BYTES
    }

    pub(crate) fn second_header(&self) -> u64 {
        self.length_bytes - BLOCK_BYTES
    }

    /// Records that the identifier region has slots for.
    pub(crate) fn slots(&self) -> u64 {
        self.identifier_bytes / IDENTIFIER_BLOCK_BYTES * SLOTS_A_BLOCK as u64
    }

    /// Offset of the identifier block that holds slot `slot`.
    pub(crate) fn block_offset(&self, slot: u64) -> u64 {
        self.identifiers_start() + slot / SLOTS_A_BLOCK as u64 * IDENTIFIER_BLOCK_BYTES
    }
}

fn number_u32(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(
        bytes.get(offset..offset + 4)?.try_into().ok()?,
    ))
}

fn number_u64(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(
        bytes.get(offset..offset + 8)?.try_into().ok()?,
    ))
}

/// An index; the highest number is none, as every index is followed by another one.
fn index_at(bytes: &[u8], offset: usize) -> Option<u64> {
    number_u64(bytes, offset).filter(|index| *index < u64::MAX)
}

fn push_position(bytes: &mut Vec<u8>, position: Option<LogPosition>) {
    // An index of zero means "none": entry 0 is the membership that the cluster begins with, so
    // indices are stored plus one.
    bytes.extend_from_slice(&position.map_or(0, |position| position.term).to_le_bytes());
    bytes.extend_from_slice(
        &position
            .map_or(0, |position| position.index + 1)
            .to_le_bytes(),
    );
}

fn position_at(bytes: &[u8], offset: usize) -> Option<Option<LogPosition>> {
    let term = number_u64(bytes, offset)?;
    let index = number_u64(bytes, offset + 8)?;
    Some(
        index
            .checked_sub(1)
            .map(|index| LogPosition { term, index }),
    )
}
