//! Layout of log segments and records; docs/formats/log.md describes it for readers of the files.
//!
//! All numbers are little endian. Every checksum begins with the identity of the log (cluster,
//! node, incarnation), the segment's number and the record's offset, so that a record which a
//! misdirected write put elsewhere, or which came from another volume, is not taken for ours.

use quadraft_protocol::NodeId;
use uuid::Uuid;

use crate::position::LogPosition;

pub(crate) const SEGMENT_MAGIC: [u8; 8] = *b"QDRLOGS\0";
pub(crate) const SEGMENT_VERSION: u32 = 1;
/// The header has a block of its own, so that writing records never rewrites its sectors.
pub(crate) const SEGMENT_HEADER_BYTES: u64 = 4096;
const SEGMENT_HEADER_FIELDS_BYTES: usize = 128;

pub(crate) const RECORD_MAGIC: [u8; 4] = *b"QREC";
pub(crate) const RECORD_HEADER_BYTES: usize = 48;
/// Closes each record, so that the last sector of a record that was written is never all zeros.
pub(crate) const RECORD_TRAILER: [u8; 4] = *b"QEND";
/// Records begin at multiples of this, so that a reader can look for them behind damage.
pub(crate) const RECORD_ALIGNMENT_BYTES: u64 = 8;
/// A longer payload is never written, and never believed.
pub(crate) const MAXIMUM_PAYLOAD_BYTES: usize = 256 * 1024 * 1024;
pub(crate) const SECTOR_BYTES: u64 = 512;

/// Who writes this log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogIdentity {
    pub cluster_uuid: Uuid,
    pub node_id: NodeId,
    pub incarnation: Uuid,
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

/// The state of the log at the beginning of a segment, so that older segments can be removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// Grows by one from segment to segment.
    pub(crate) number: u64,
    /// Batches written before this segment.
    pub(crate) next_batch: u64,
    pub(crate) last: Option<LogPosition>,
    pub(crate) purged: Option<LogPosition>,
    pub(crate) committed: Option<LogPosition>,
}

/// The header of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) kind: RecordKind,
    pub(crate) position: LogPosition,
    pub(crate) payload_bytes: usize,
    pub(crate) payload_crc: u32,
    /// Records written and synced together share a batch; batches grow by one.
    pub(crate) batch: u64,
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

fn seed(identity: &LogIdentity, segment: u64, offset_bytes: u64) -> u32 {
    let mut crc = crc32c::crc32c(identity.cluster_uuid.as_bytes());
    crc = crc32c::crc32c_append(crc, &identity.node_id.0.to_le_bytes());
    crc = crc32c::crc32c_append(crc, identity.incarnation.as_bytes());
    crc = crc32c::crc32c_append(crc, &segment.to_le_bytes());
    crc32c::crc32c_append(crc, &offset_bytes.to_le_bytes())
}

/// Length of a record on disk, with its padding.
pub(crate) fn record_bytes(payload_bytes: usize) -> u64 {
    ((RECORD_HEADER_BYTES + payload_bytes + RECORD_TRAILER.len()) as u64)
        .next_multiple_of(RECORD_ALIGNMENT_BYTES)
}

/// A record to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewRecord<'a> {
    pub(crate) kind: RecordKind,
    pub(crate) position: LogPosition,
    pub(crate) payload: &'a [u8],
}

/// Where a record is to stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordPlace {
    pub(crate) segment: u64,
    pub(crate) offset_bytes: u64,
    pub(crate) batch: u64,
}

/// Appends one record to `buffer`, as it must stand at `place`.
pub(crate) fn encode_record(
    buffer: &mut Vec<u8>,
    identity: &LogIdentity,
    place: RecordPlace,
    record: NewRecord<'_>,
) {
    let NewRecord {
        kind,
        position,
        payload,
    } = record;
    let start = buffer.len();
    let crc_seed = seed(identity, place.segment, place.offset_bytes);
    let payload_crc = crc32c::crc32c_append(crc_seed, payload);
    buffer.extend_from_slice(&RECORD_MAGIC);
    buffer.extend_from_slice(&[0; 4]); // the header's checksum, below
    buffer.extend_from_slice(&payload_crc.to_le_bytes());
    buffer.extend_from_slice(
        &u32::try_from(payload.len())
            .unwrap_or(u32::MAX)
            .to_le_bytes(),
    );
    buffer.extend_from_slice(&position.term.to_le_bytes());
    buffer.extend_from_slice(&position.index.to_le_bytes());
    buffer.extend_from_slice(&place.batch.to_le_bytes());
    buffer.push(kind as u8);
    buffer.extend_from_slice(&[0; 7]);
    let header_crc =
        crc32c::crc32c_append(crc_seed, &buffer[start + 8..start + RECORD_HEADER_BYTES]);
    buffer[start + 4..start + 8].copy_from_slice(&header_crc.to_le_bytes());
    buffer.extend_from_slice(payload);
    buffer.extend_from_slice(&RECORD_TRAILER);
    let padded = start as u64 + record_bytes(payload.len());
    buffer.resize(usize::try_from(padded).unwrap_or(buffer.len()), 0);
}

/// Reads a record's header; `None` when it is not one that belongs exactly here.
pub(crate) fn decode_record_header(
    bytes: &[u8],
    identity: &LogIdentity,
    segment: u64,
    offset_bytes: u64,
) -> Option<RecordHeader> {
    let header = bytes.get(..RECORD_HEADER_BYTES)?;
    if header[..4] != RECORD_MAGIC {
        return None;
    }
    let crc = crc32c::crc32c_append(seed(identity, segment, offset_bytes), &header[8..]);
    if crc != number_u32(header, 4)? {
        return None;
    }
    let payload_bytes = number_u32(header, 12)? as usize;
    if payload_bytes > MAXIMUM_PAYLOAD_BYTES || header[41..48] != [0; 7] {
        return None;
    }
    Some(RecordHeader {
        kind: RecordKind::from_number(header[40])?,
        position: LogPosition {
            term: number_u64(header, 16)?,
            index: number_u64(header, 24)?,
        },
        payload_bytes,
        payload_crc: number_u32(header, 8)?,
        batch: number_u64(header, 32)?,
    })
}

/// Whether the payload is the one that the header was written with.
pub(crate) fn payload_matches(
    header: &RecordHeader,
    payload: &[u8],
    identity: &LogIdentity,
    segment: u64,
    offset_bytes: u64,
) -> bool {
    crc32c::crc32c_append(seed(identity, segment, offset_bytes), payload) == header.payload_crc
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

/// The header block of a segment.
pub(crate) fn encode_segment_header(identity: &LogIdentity, header: &SegmentHeader) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4096);
    bytes.extend_from_slice(&SEGMENT_MAGIC);
    bytes.extend_from_slice(&SEGMENT_VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(identity.cluster_uuid.as_bytes());
    bytes.extend_from_slice(&identity.node_id.0.to_le_bytes());
    bytes.extend_from_slice(identity.incarnation.as_bytes());
    bytes.extend_from_slice(&header.number.to_le_bytes());
    bytes.extend_from_slice(&header.next_batch.to_le_bytes());
    push_position(&mut bytes, header.last);
    push_position(&mut bytes, header.purged);
    push_position(&mut bytes, header.committed);
    bytes.resize(SEGMENT_HEADER_FIELDS_BYTES, 0);
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.resize(usize::try_from(SEGMENT_HEADER_BYTES).unwrap_or(4096), 0);
    bytes
}

/// What a segment's first block says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SegmentHeaderRead {
    Good {
        header: SegmentHeader,
        identity: LogIdentity,
    },
    UnknownFormat(u32),
    Damaged,
}

/// Reads a segment's header block.
pub(crate) fn decode_segment_header(bytes: &[u8]) -> SegmentHeaderRead {
    let decoded = || {
        let fields = bytes.get(..SEGMENT_HEADER_FIELDS_BYTES)?;
        if fields[..8] != SEGMENT_MAGIC {
            return None;
        }
        if crc32c::crc32c(fields) != number_u32(bytes, SEGMENT_HEADER_FIELDS_BYTES)? {
            return None;
        }
        let version = number_u32(fields, 8)?;
        if version != SEGMENT_VERSION {
            return Some(SegmentHeaderRead::UnknownFormat(version));
        }
        Some(SegmentHeaderRead::Good {
            identity: LogIdentity {
                cluster_uuid: Uuid::from_slice(fields.get(16..32)?).ok()?,
                node_id: NodeId(number_u64(fields, 32)?),
                incarnation: Uuid::from_slice(fields.get(40..56)?).ok()?,
            },
            header: SegmentHeader {
                number: number_u64(fields, 56)?,
                next_batch: number_u64(fields, 64)?,
                last: position_at(fields, 72)?,
                purged: position_at(fields, 88)?,
                committed: position_at(fields, 104)?,
            },
        })
    };
    decoded().unwrap_or(SegmentHeaderRead::Damaged)
}
