//! The header of a segment, written twice: in its first block and in its last.

use quadraft_protocol::NodeId;
use uuid::Uuid;

use super::{
    BLOCK_BYTES, Geometry, LogIdentity, number_u32, number_u64, position_at, push_position,
};
use crate::position::LogPosition;

const MAGIC: [u8; 8] = *b"QDRLOGS\0";
/// The first version; no released version wrote it.
const FIRST_VERSION: u32 = 1;
const FIELDS_BYTES: usize = 176;

/// How a segment is written. It stays as it began; the next one is of the newest version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum FormatVersion {
    /// Records have a CRC32C of their payload besides its digest.
    Two = 2,
    #[default]
    Three = 3,
}

impl FormatVersion {
    fn from_number(number: u32) -> Option<Self> {
        [Self::Two, Self::Three]
            .into_iter()
            .find(|version| *version as u32 == number)
    }
}

/// The state of the log at the beginning of a segment, so that older segments can be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) version: FormatVersion,
    /// Grows by one from segment to segment.
    pub(crate) number: u64,
    /// The number of the segment's first batch.
    pub(crate) first_batch: u64,
    pub(crate) last: Option<LogPosition>,
    pub(crate) purged: Option<LogPosition>,
    pub(crate) committed: Option<LogPosition>,
    pub(crate) geometry: Geometry,
    /// The chain over all segments before this one; see [`super::BatchHeader`].
    pub(crate) chain: [u8; 32],
}

/// What one copy of a segment's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SegmentHeaderRead {
    Good {
        header: SegmentHeader,
        identity: LogIdentity,
    },
    UnknownFormat(u32),
    Damaged,
}

/// One copy of the header, a whole block.
pub(crate) fn encode_segment_header(identity: &LogIdentity, header: &SegmentHeader) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4096);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&(header.version as u32).to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(identity.cluster_uuid.as_bytes());
    bytes.extend_from_slice(&identity.node_id.0.to_le_bytes());
    bytes.extend_from_slice(identity.incarnation.as_bytes());
    bytes.extend_from_slice(&header.number.to_le_bytes());
    bytes.extend_from_slice(&header.first_batch.to_le_bytes());
    push_position(&mut bytes, header.last);
    push_position(&mut bytes, header.purged);
    push_position(&mut bytes, header.committed);
    bytes.extend_from_slice(&header.geometry.length_bytes.to_le_bytes());
    bytes.extend_from_slice(&header.geometry.identifier_bytes.to_le_bytes());
    bytes.extend_from_slice(&header.chain);
    bytes.resize(FIELDS_BYTES, 0);
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.resize(usize::try_from(BLOCK_BYTES).unwrap_or(4096), 0);
    bytes
}

/// Reads one copy of the header.
pub(crate) fn decode_segment_header(bytes: &[u8]) -> SegmentHeaderRead {
    let decoded = || {
        let fields = bytes.get(..FIELDS_BYTES)?;
        if fields[..8] != MAGIC {
            return None;
        }
        let version = number_u32(fields, 8)?;
        // It had its checksum elsewhere.
        if version == FIRST_VERSION {
            let whole = crc32c::crc32c(bytes.get(..128)?) == number_u32(bytes, 128)?;
            return whole.then_some(SegmentHeaderRead::UnknownFormat(version));
        }
        if crc32c::crc32c(fields) != number_u32(bytes, FIELDS_BYTES)? {
            return None;
        }
        let Some(version) = FormatVersion::from_number(version) else {
            return Some(SegmentHeaderRead::UnknownFormat(version));
        };
        let geometry = Geometry {
            length_bytes: number_u64(fields, 120)?,
            identifier_bytes: number_u64(fields, 128)?,
        };
        if !geometry.is_valid() {
            return None;
        }
        Some(SegmentHeaderRead::Good {
            identity: LogIdentity {
                cluster_uuid: Uuid::from_slice(fields.get(16..32)?).ok()?,
                node_id: NodeId(number_u64(fields, 32)?),
                incarnation: Uuid::from_slice(fields.get(40..56)?).ok()?,
            },
            header: SegmentHeader {
                version,
                number: number_u64(fields, 56)?,
                first_batch: number_u64(fields, 64)?,
                last: position_at(fields, 72)?,
                purged: position_at(fields, 88)?,
                committed: position_at(fields, 104)?,
                geometry,
                chain: fields.get(136..168)?.try_into().ok()?,
            },
        })
    };
    decoded().unwrap_or(SegmentHeaderRead::Damaged)
}
