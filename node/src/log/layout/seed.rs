//! What the checksums within one segment go on from.

use super::{FormatVersion, LogIdentity};
use crate::planted::{Bug, is_planted};

/// Bytes in front of what a checksum is over: a magic number and the checksum.
const FRONT_BYTES: usize = 8;

/// One segment of one log. Every checksum but that of the segment's header begins with its log, its
/// number and the offset of what is checked, so that what a misdirected write put elsewhere, or what
/// came from another volume, is not taken for ours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentSeed {
    pub(crate) number: u64,
    pub(crate) version: FormatVersion,
    /// CRC32C of everything that goes before the offset.
    state: u32,
}

impl SegmentSeed {
    pub(crate) fn new(identity: &LogIdentity, number: u64, version: FormatVersion) -> Self {
        let mut bytes = [0; 48];
        bytes[..16].copy_from_slice(identity.cluster_uuid.as_bytes());
        bytes[16..24].copy_from_slice(&identity.node_id.0.to_le_bytes());
        bytes[24..40].copy_from_slice(identity.incarnation.as_bytes());
        bytes[40..].copy_from_slice(&number.to_le_bytes());
        let checked = if is_planted(Bug::PlaceNotInChecksum) {
            40
        } else {
            bytes.len()
        };
        Self {
            number,
            version,
            state: crc32c::crc32c(&bytes[..checked]),
        }
    }

    /// The seed for what stands at `offset_bytes`.
    #[inline]
    pub(super) fn at(&self, offset_bytes: u64) -> u32 {
        if is_planted(Bug::PlaceNotInChecksum) {
            return self.state;
        }
        crc32c::crc32c_append(self.state, &offset_bytes.to_le_bytes())
    }

    /// Puts `magic`, and the checksum of all that is behind the two, in front of `bytes`, which are
    /// to stand at `offset_bytes`.
    #[inline]
    pub(super) fn seal(&self, bytes: &mut [u8], magic: [u8; 4], offset_bytes: u64) {
        let checksum = if is_planted(Bug::PlaceNotInChecksum) {
            crc32c::crc32c_append(self.state, &bytes[FRONT_BYTES..])
        } else {
            // Offset and content in one go: for so few bytes, a call costs as much as they do.
            bytes[..FRONT_BYTES].copy_from_slice(&offset_bytes.to_le_bytes());
            crc32c::crc32c_append(self.state, bytes)
        };
        bytes[..4].copy_from_slice(&magic);
        bytes[4..FRONT_BYTES].copy_from_slice(&checksum.to_le_bytes());
    }

    /// Whether `bytes` are as [`Self::seal`] left them at `offset_bytes`.
    #[inline]
    pub(super) fn is_sealed(&self, bytes: &[u8], magic: [u8; 4], offset_bytes: u64) -> bool {
        let Some((front, content)) = bytes.split_at_checked(FRONT_BYTES) else {
            return false;
        };
        let checksum = crc32c::crc32c_append(self.at(offset_bytes), content);
        front[..4] == magic && front[4..] == checksum.to_le_bytes()
    }
}
