//! Makes checksums match, so that fuzzing gets behind them.

use super::{
    BATCH_HEADER_BYTES, BLOCK_BYTES, IDENTIFIER_BLOCK_BYTES, RECORD_HEADER_BYTES, SegmentSeed,
    number_u32, number_u64, record_bytes,
};

/// Longer segments than this are not made from headers that the fuzzer invents: no disk has them.
const MAXIMUM_SEGMENT_BYTES: u64 = 1024 * 1024;

/// The checksum of one copy of a segment's header.
pub(crate) fn seal_segment_header(bytes: &mut [u8]) {
    if let Some((fields, rest)) = bytes.split_at_mut_checked(176)
        && let Some(checksum) = rest.get_mut(..4)
    {
        checksum.copy_from_slice(&crc32c::crc32c(fields).to_le_bytes());
    }
}

/// The checksum at byte 4 over the bytes from 8 to `length`, for everything but that header.
pub(crate) fn seal(bytes: &mut [u8], length: usize, seed: &SegmentSeed, offset_bytes: u64) {
    let Some(content) = bytes.get(8..length) else {
        return;
    };
    let checksum = crc32c::crc32c_append(seed.at(offset_bytes), content);
    bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
}

/// All checksums of a segment but those of payloads, where something stands that looks right.
pub(crate) fn seal_segment(image: &mut [u8], seed: &SegmentSeed) {
    let block = usize::try_from(BLOCK_BYTES).unwrap_or(4096);
    let last = image.len().saturating_sub(block);
    for place in [0, last] {
        let Some(header) = image.get_mut(place..) else {
            continue;
        };
        let length = number_u64(header, 120).unwrap_or(u64::MAX);
        if header.starts_with(b"QDRLOGS\0") && length <= MAXIMUM_SEGMENT_BYTES {
            seal_segment_header(header);
        }
    }
    let identifier_block = usize::try_from(IDENTIFIER_BLOCK_BYTES).unwrap_or(512);
    for place in (block..last).step_by(identifier_block) {
        let offset = place as u64;
        let bytes = &mut image[place..];
        if bytes.starts_with(b"QIDB") {
            seal(bytes, identifier_block, seed, offset);
        } else if bytes.starts_with(b"QBAT") {
            seal(bytes, BATCH_HEADER_BYTES, seed, offset);
            seal_records(image, place + BATCH_HEADER_BYTES, seed);
        }
    }
}

fn seal_records(image: &mut [u8], start: usize, seed: &SegmentSeed) {
    let mut place = start;
    while let Some(bytes) = image.get_mut(place..)
        && bytes.starts_with(b"QREC")
    {
        seal(bytes, RECORD_HEADER_BYTES, seed, place as u64);
        let payload_bytes = number_u32(bytes, 12).unwrap_or(0) as usize;
        place += usize::try_from(record_bytes(payload_bytes)).unwrap_or(usize::MAX / 2);
    }
}
