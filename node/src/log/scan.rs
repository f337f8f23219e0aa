//! Reading one segment and saying where and how it stops being whole.

use std::io;

use super::format::{
    LogIdentity, RECORD_ALIGNMENT_BYTES, RECORD_HEADER_BYTES, RECORD_MAGIC, RECORD_TRAILER,
    RecordHeader, RecordKind, SECTOR_BYTES, SEGMENT_HEADER_BYTES, decode_record_header,
    payload_matches, record_bytes,
};
use crate::disk::{File, read_exact_at};

/// One whole record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScannedRecord {
    pub(crate) header: RecordHeader,
    pub(crate) offset_bytes: u64,
}

/// How a segment ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SegmentEnd {
    /// Zeros up to the end of the file: nothing was written behind the last record.
    Clean,
    /// A seal: the next segment goes on.
    Sealed,
    /// The last batch is incomplete: a part of what should be there was never written, and no
    /// later batch exists. A batch is acknowledged only after its fsync, so this one never was.
    Torn { garbage_end_bytes: u64 },
    /// Something that had been written is not readable.
    Damaged {
        /// The name of the entry, when its header can still be read.
        entry: Option<RecordHeader>,
    },
}

/// What is in a segment.
#[derive(Debug)]
pub(crate) struct SegmentScan {
    pub(crate) records: Vec<ScannedRecord>,
    /// Where the next record belongs: behind the last whole one.
    pub(crate) end_bytes: u64,
    pub(crate) end: SegmentEnd,
}

/// Reads all records of a segment. Only the whole file is in memory, never more than one segment.
pub(crate) fn scan_segment(
    file: &dyn File,
    identity: &LogIdentity,
    segment: u64,
) -> io::Result<SegmentScan> {
    let length = file.length_bytes()?;
    let body_bytes = usize::try_from(length.saturating_sub(SEGMENT_HEADER_BYTES)).unwrap_or(0);
    let body = read_exact_at(file, SEGMENT_HEADER_BYTES, body_bytes)?;
    Ok(scan_body(&body, identity, segment))
}

fn scan_body(body: &[u8], identity: &LogIdentity, segment: u64) -> SegmentScan {
    let mut records: Vec<ScannedRecord> = Vec::new();
    let mut at = 0_usize;
    let end = loop {
        let offset_bytes = SEGMENT_HEADER_BYTES + at as u64;
        let Some(header) = body
            .get(at..)
            .and_then(|rest| decode_record_header(rest, identity, segment, offset_bytes))
        else {
            break judge_bad_header(body, at, identity, segment, last_batch(&records));
        };
        let payload_start = at + RECORD_HEADER_BYTES;
        let whole = body
            .get(payload_start..payload_start + header.payload_bytes)
            .is_some_and(|payload| {
                payload_matches(&header, payload, identity, segment, offset_bytes)
            });
        if !whole {
            break judge_bad_payload(body, at, &header, identity, segment);
        }
        records.push(ScannedRecord {
            header,
            offset_bytes,
        });
        at += usize::try_from(record_bytes(header.payload_bytes)).unwrap_or(usize::MAX);
        if header.kind == RecordKind::Sealed {
            break SegmentEnd::Sealed;
        }
    };
    SegmentScan {
        records,
        end_bytes: SEGMENT_HEADER_BYTES + at as u64,
        end,
    }
}

fn last_batch(records: &[ScannedRecord]) -> Option<u64> {
    records.last().map(|record| record.header.batch)
}

/// The end of the last byte that is not zero, at or after `from`.
fn garbage_end(body: &[u8], from: usize) -> Option<usize> {
    body.get(from..)?
        .iter()
        .rposition(|byte| *byte != 0)
        .map(|position| from + position + 1)
}

/// Any record behind `from` that belongs where it stands, of a batch later than `batch`.
fn later_batch_exists(
    body: &[u8],
    from: usize,
    batch: Option<u64>,
    identity: &LogIdentity,
    segment: u64,
) -> bool {
    let alignment = usize::try_from(RECORD_ALIGNMENT_BYTES).unwrap_or(8);
    let mut at = from.next_multiple_of(alignment);
    while at + RECORD_HEADER_BYTES <= body.len() {
        if body[at..at + 4] == RECORD_MAGIC
            && let Some(header) = decode_record_header(
                &body[at..],
                identity,
                segment,
                SEGMENT_HEADER_BYTES + at as u64,
            )
            && batch.is_none_or(|batch| header.batch > batch)
        {
            return true;
        }
        at += alignment;
    }
    false
}

/// Whether a whole sector of `range` was never written. Segments are zeroed before use and entries
/// never hold a sector of zeros (their payloads are text and compact binary), so a sector of zeros
/// inside a record means that the write of its batch did not finish.
fn has_unwritten_sector(body: &[u8], start: usize, end: usize) -> bool {
    let sector = usize::try_from(SECTOR_BYTES).unwrap_or(512);
    let end = end.min(body.len());
    // Sector borders are those of the file; the header block is a multiple of the sector.
    let mut at = start / sector * sector;
    while at < end {
        let from = at.max(start);
        let to = (at + sector).min(end);
        if body[from..to].iter().all(|byte| *byte == 0) {
            return true;
        }
        at += sector;
    }
    false
}

fn judge_bad_header(
    body: &[u8],
    at: usize,
    identity: &LogIdentity,
    segment: u64,
    last_batch: Option<u64>,
) -> SegmentEnd {
    let Some(garbage_end_bytes) = garbage_end(body, at) else {
        return SegmentEnd::Clean;
    };
    // The damaged record is of the last batch or the one after it; anything later than that was
    // written after this had been synced.
    let newest_possible = last_batch.map_or(0, |batch| batch + 1);
    if later_batch_exists(body, at, Some(newest_possible), identity, segment) {
        return SegmentEnd::Damaged { entry: None };
    }
    if has_unwritten_sector(body, at, at + RECORD_HEADER_BYTES) {
        return SegmentEnd::Torn {
            garbage_end_bytes: SEGMENT_HEADER_BYTES + garbage_end_bytes as u64,
        };
    }
    SegmentEnd::Damaged { entry: None }
}

fn judge_bad_payload(
    body: &[u8],
    at: usize,
    header: &RecordHeader,
    identity: &LogIdentity,
    segment: u64,
) -> SegmentEnd {
    let payload_start = at + RECORD_HEADER_BYTES;
    let end = payload_start + header.payload_bytes + RECORD_TRAILER.len();
    if !later_batch_exists(body, payload_start, Some(header.batch), identity, segment)
        && (end > body.len() || has_unwritten_sector(body, payload_start, end))
    {
        return SegmentEnd::Torn {
            garbage_end_bytes: SEGMENT_HEADER_BYTES + garbage_end(body, at).unwrap_or(at) as u64,
        };
    }
    SegmentEnd::Damaged {
        entry: Some(*header),
    }
}
