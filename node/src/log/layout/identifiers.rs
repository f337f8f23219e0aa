//! The identifier region: the name, place and digest of every record, apart from its payload
//! (Alagappan et al., "Protocol-Aware Recovery for Consensus-Based Storage", FAST 2018, section
//! 3.4), and the mark of how far the log is known to be flushed.
//!
//! A block is one sector, so that a crash leaves its old content or its new. It is rewritten in
//! place as slots are added; each slot is written together with its record, before the same sync.

use std::ops::Range;

use super::record::{pack_kind, unpack_kind};
use super::{PayloadDigest, RecordKind, SegmentSeed, index_at, number_u32, number_u64};
use crate::position::LogPosition;

const MAGIC: [u8; 4] = *b"QIDB";
const BLOCK_LENGTH: usize = 512;
pub(crate) const IDENTIFIER_BLOCK_BYTES: u64 = BLOCK_LENGTH as u64;
const HEADER_BYTES: usize = 32;
pub(super) const SLOT_BYTES: usize = 48;
pub(crate) const SLOTS_A_BLOCK: usize = 10;
/// Records stand at multiples of this; slots hold offsets divided by it.
const OFFSET_UNIT_BYTES: u64 = 8;

/// One record by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) kind: RecordKind,
    pub(crate) position: LogPosition,
    pub(crate) batch: u64,
    /// Where the record begins in its segment.
    pub(crate) offset_bytes: u64,
    pub(crate) payload_bytes: usize,
    pub(crate) digest: PayloadDigest,
}

/// One sector of the identifier region.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct IdentifierBlock {
    /// Every batch up to this one was synced before this block was written; 0 for none.
    pub(crate) flushed_batch: u64,
    pub(crate) slots: Vec<Slot>,
}

/// What a sector of the identifier region holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BlockRead {
    Good(IdentifierBlock),
    /// Never written.
    Free,
    Damaged,
}

/// A block as it must stand at `offset_bytes`.
pub(crate) fn encode_identifier_block(
    seed: &SegmentSeed,
    offset_bytes: u64,
    block: &IdentifierBlock,
) -> [u8; BLOCK_LENGTH] {
    debug_assert!(block.slots.len() <= SLOTS_A_BLOCK);
    let mut bytes = [0; BLOCK_LENGTH];
    let places = bytes[HEADER_BYTES..].chunks_exact_mut(SLOT_BYTES);
    for (place, slot) in places.zip(&block.slots) {
        place.copy_from_slice(&encode_slot(slot));
    }
    seal_block(
        &mut bytes,
        seed,
        offset_bytes,
        block.flushed_batch,
        block.slots.len(),
    );
    bytes
}

/// Puts its header in front of a block's slots.
fn seal_block(
    bytes: &mut [u8],
    seed: &SegmentSeed,
    offset_bytes: u64,
    flushed_batch: u64,
    slots: usize,
) {
    bytes[8..16].copy_from_slice(&flushed_batch.to_le_bytes());
    bytes[16..24].copy_from_slice(&(slots as u64).to_le_bytes());
    seed.seal(bytes, MAGIC, offset_bytes);
}

/// The slots of one batch, in the blocks that they go to: each is encoded once, for its block and for
/// the chain.
#[derive(Debug, Default)]
pub(crate) struct BatchNames {
    bytes: Vec<u8>,
    /// Where the slots of the batch begin and end; before them stand those of batches before it.
    slots: Range<usize>,
}

impl BatchNames {
    /// Begins anew, behind the slots of the newest block.
    pub(crate) fn begin(&mut self, newest: &IdentifierBlock) {
        self.bytes.clear();
        if newest.slots.len() < SLOTS_A_BLOCK {
            for slot in &newest.slots {
                self.push(slot);
            }
        }
        self.slots.start = self.bytes.len();
    }

    #[inline]
    pub(crate) fn push(&mut self, slot: &Slot) {
        if self.bytes.len().is_multiple_of(BLOCK_LENGTH) {
            self.bytes.extend_from_slice(&[0; HEADER_BYTES]);
        }
        self.bytes.extend_from_slice(&encode_slot(slot));
    }

    /// The blocks, which are to stand at `start_bytes`, one behind the other. No slot may follow.
    pub(crate) fn seal(
        &mut self,
        seed: &SegmentSeed,
        start_bytes: u64,
        flushed_batch: u64,
    ) -> &[u8] {
        self.slots.end = self.bytes.len();
        self.bytes
            .resize(self.slots.end.next_multiple_of(BLOCK_LENGTH), 0);
        let mut at = 0;
        for block in self.bytes.chunks_exact_mut(BLOCK_LENGTH) {
            let used = (self.slots.end - at).min(BLOCK_LENGTH) - HEADER_BYTES;
            let offset_bytes = start_bytes + at as u64;
            seal_block(block, seed, offset_bytes, flushed_batch, used / SLOT_BYTES);
            at += BLOCK_LENGTH;
        }
        &self.bytes
    }

    /// What the chain is over, in pieces: the slots of the batch as they stand in sealed blocks.
    pub(crate) fn slot_pieces(&self) -> impl Iterator<Item = &[u8]> {
        let blocks = self.bytes[..self.slots.end].chunks(BLOCK_LENGTH);
        blocks.enumerate().map(|(number, block)| {
            let first = self.slots.start.saturating_sub(number * BLOCK_LENGTH);
            &block[first.max(HEADER_BYTES)..]
        })
    }
}

/// One slot as it stands in its block.
#[inline]
pub(super) fn encode_slot(slot: &Slot) -> [u8; SLOT_BYTES] {
    let mut bytes = [0; SLOT_BYTES];
    bytes[..8].copy_from_slice(&slot.position.index.to_le_bytes());
    bytes[8..16].copy_from_slice(&slot.position.term.to_le_bytes());
    bytes[16..24].copy_from_slice(&pack_kind(slot.kind, slot.batch).to_le_bytes());
    let offset = u32::try_from(slot.offset_bytes / OFFSET_UNIT_BYTES).unwrap_or(u32::MAX);
    bytes[24..28].copy_from_slice(&offset.to_le_bytes());
    let length = u32::try_from(slot.payload_bytes).unwrap_or(u32::MAX);
    bytes[28..32].copy_from_slice(&length.to_le_bytes());
    bytes[32..].copy_from_slice(&slot.digest.0);
    bytes
}

/// Reads one sector of the identifier region.
pub(crate) fn decode_identifier_block(
    bytes: &[u8],
    seed: &SegmentSeed,
    offset_bytes: u64,
) -> BlockRead {
    let decoded = || {
        let block = bytes.get(..BLOCK_LENGTH)?;
        if !seed.is_sealed(block, MAGIC, offset_bytes) {
            return None;
        }
        let count = usize::try_from(number_u64(bytes, 16)?).ok()?;
        if count > SLOTS_A_BLOCK {
            return None;
        }
        let slots = (0..count)
            .map(|slot| decode_slot(bytes.get(HEADER_BYTES + slot * SLOT_BYTES..)?))
            .collect::<Option<Vec<_>>>()?;
        Some(IdentifierBlock {
            flushed_batch: number_u64(bytes, 8)?,
            slots,
        })
    };
    if super::sector_use(bytes, seed, offset_bytes) == super::SectorUse::Free {
        return BlockRead::Free;
    }
    decoded().map_or(BlockRead::Damaged, BlockRead::Good)
}

fn decode_slot(bytes: &[u8]) -> Option<Slot> {
    let (kind, batch) = unpack_kind(number_u64(bytes, 16)?)?;
    Some(Slot {
        kind,
        position: LogPosition {
            index: index_at(bytes, 0)?,
            term: number_u64(bytes, 8)?,
        },
        batch,
        offset_bytes: u64::from(number_u32(bytes, 24)?) * OFFSET_UNIT_BYTES,
        payload_bytes: number_u32(bytes, 28)? as usize,
        digest: PayloadDigest(bytes.get(32..48)?.try_into().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::{FormatVersion, LogIdentity, next_chain, next_chain_of_names};
    use super::*;

    fn slots(first: u64, count: usize) -> Vec<Slot> {
        (first..)
            .take(count)
            .map(|index| Slot {
                kind: RecordKind::Entry,
                position: LogPosition { term: 3, index },
                batch: 7,
                offset_bytes: index * 64,
                payload_bytes: 5,
                digest: PayloadDigest([index.to_le_bytes()[0]; 16]),
            })
            .collect()
    }

    #[test]
    fn names_of_a_batch_are_its_slots_in_whole_blocks() {
        let identity = LogIdentity {
            cluster_uuid: Uuid::from_u128(1),
            node_id: quadraft_protocol::NodeId(2),
            incarnation: Uuid::from_u128(3),
        };
        let seed = identity.seed(1, FormatVersion::default());
        let mut names = BatchNames::default();
        for before in 0..=SLOTS_A_BLOCK {
            for added in 1..=2 * SLOTS_A_BLOCK + 1 {
                let old = slots(0, before);
                let new = slots(before as u64, added);
                names.begin(&IdentifierBlock {
                    flushed_batch: 6,
                    slots: old.clone(),
                });
                new.iter().for_each(|slot| names.push(slot));
                let start_bytes = 4096;
                let found = names.seal(&seed, start_bytes, 6).to_vec();
                let kept = if before < SLOTS_A_BLOCK {
                    &old[..]
                } else {
                    &[]
                };
                let all = [kept, &new].concat();
                let expected: Vec<u8> = all
                    .chunks(SLOTS_A_BLOCK)
                    .zip((start_bytes..).step_by(BLOCK_LENGTH))
                    .flat_map(|(slots, offset_bytes)| {
                        let block = IdentifierBlock {
                            flushed_batch: 6,
                            slots: slots.to_vec(),
                        };
                        encode_identifier_block(&seed, offset_bytes, &block)
                    })
                    .collect();
                assert!(found == expected, "{before} slots, and {added} more");
                assert_eq!(
                    next_chain_of_names(&[9; 32], 7, &names),
                    next_chain(&[9; 32], 7, new.iter()),
                    "{before} slots, and {added} more"
                );
            }
        }
    }
}
