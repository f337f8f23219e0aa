//! One record: a header, then its payload.

use super::{
    FormatVersion, MAXIMUM_PAYLOAD_BYTES, PayloadDigest, RecordKind, SegmentSeed, index_at,
    number_u32, number_u64,
};
use crate::planted::{Bug, is_planted};
use crate::position::LogPosition;

const MAGIC: [u8; 4] = *b"QREC";
pub(crate) const RECORD_HEADER_BYTES: usize = 56;
const DIGEST_AT: usize = 40;
const ALIGNMENT_BYTES: u64 = 8;
/// Batch numbers share eight bytes with the kind.
const BATCH_BITS: u32 = 56;

/// The header of one record. Its checksum covers the payload's digest, so that a payload which
/// matches it is the one that was written here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) kind: RecordKind,
    pub(crate) position: LogPosition,
    pub(crate) batch: u64,
    pub(crate) payload_bytes: usize,
    pub(crate) digest: PayloadDigest,
}

impl RecordHeader {
    #[inline]
    pub(crate) fn new(kind: RecordKind, position: LogPosition, batch: u64, payload: &[u8]) -> Self {
        Self {
            kind,
            position,
            batch,
            payload_bytes: payload.len(),
            digest: PayloadDigest::of(payload),
        }
    }

    /// Length of the record on disk, with its padding.
    #[inline]
    pub(crate) fn record_bytes(&self) -> u64 {
        record_bytes(self.payload_bytes)
    }
}

/// Length of a record on disk, with its padding.
pub(crate) fn record_bytes(payload_bytes: usize) -> u64 {
    ((RECORD_HEADER_BYTES + payload_bytes) as u64).next_multiple_of(ALIGNMENT_BYTES)
}

/// Kind and batch in eight bytes.
#[inline]
pub(super) fn pack_kind(kind: RecordKind, batch: u64) -> u64 {
    (u64::from(kind as u8) << BATCH_BITS) | (batch & ((1 << BATCH_BITS) - 1))
}

/// The inverse of [`pack_kind`].
pub(super) fn unpack_kind(packed: u64) -> Option<(RecordKind, u64)> {
    let kind = RecordKind::from_number(u8::try_from(packed >> BATCH_BITS).ok()?)?;
    Some((kind, packed & ((1 << BATCH_BITS) - 1)))
}

/// Appends one record to `buffer`, as it must stand at `offset_bytes` of the segment.
#[inline]
pub(crate) fn encode_record(
    buffer: &mut Vec<u8>,
    seed: &SegmentSeed,
    offset_bytes: u64,
    header: &RecordHeader,
    payload: &[u8],
) {
    let mut bytes = [0; RECORD_HEADER_BYTES];
    if seed.version == FormatVersion::Two && !is_planted(Bug::OtherVersionInSegment) {
        bytes[8..12].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    }
    bytes[12..16].copy_from_slice(
        &u32::try_from(header.payload_bytes)
            .unwrap_or(u32::MAX)
            .to_le_bytes(),
    );
    bytes[16..24].copy_from_slice(&header.position.term.to_le_bytes());
    bytes[24..32].copy_from_slice(&header.position.index.to_le_bytes());
    bytes[32..40].copy_from_slice(&pack_kind(header.kind, header.batch).to_le_bytes());
    bytes[DIGEST_AT..].copy_from_slice(&header.digest.0);
    seed.seal(&mut bytes, MAGIC, offset_bytes);
    let end = buffer.len() + usize::try_from(header.record_bytes()).unwrap_or(0);
    buffer.extend_from_slice(&bytes);
    buffer.extend_from_slice(payload);
    buffer.resize(end, 0);
}

/// The digest in a record that [`encode_record`] has just encoded.
#[inline]
pub(crate) fn encoded_digest(record: &[u8]) -> PayloadDigest {
    let mut digest = [0; 16];
    digest.copy_from_slice(&record[DIGEST_AT..RECORD_HEADER_BYTES]);
    PayloadDigest(digest)
}

/// Reads a record's header; `None` when it is not one that belongs exactly here.
pub(crate) fn decode_record_header(
    bytes: &[u8],
    seed: &SegmentSeed,
    offset_bytes: u64,
) -> Option<RecordHeader> {
    let header = bytes.get(..RECORD_HEADER_BYTES)?;
    if !seed.is_sealed(header, MAGIC, offset_bytes) {
        return None;
    }
    let payload_bytes = number_u32(header, 12)? as usize;
    let is_unused = seed.version == FormatVersion::Two || header[8..12] == [0; 4];
    if payload_bytes > MAXIMUM_PAYLOAD_BYTES || !is_unused {
        return None;
    }
    let (kind, batch) = unpack_kind(number_u64(header, 32)?)?;
    Some(RecordHeader {
        kind,
        position: LogPosition {
            term: number_u64(header, 16)?,
            index: index_at(header, 24)?,
        },
        batch,
        payload_bytes,
        digest: PayloadDigest(header.get(DIGEST_AT..)?.try_into().ok()?),
    })
}
