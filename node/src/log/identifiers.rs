//! The identifier region of a segment as it was found.

use super::image::SegmentImage;
use super::layout::{
    BlockRead, Geometry, IDENTIFIER_BLOCK_BYTES, SLOTS_A_BLOCK, SegmentSeed, Slot,
    decode_identifier_block,
};

/// What is known of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotState {
    Known(Slot),
    /// Its block is free, or of a time before the slot was written: a write that was finished
    /// would have put it there.
    NeverWritten,
    /// Its block cannot be read.
    Unknown,
}

/// All slots of a segment, in the order of its records.
#[derive(Debug, Default)]
pub(crate) struct Identifiers {
    slots: Vec<SlotState>,
    /// Blocks that have to be written anew, by number.
    pub(crate) damaged_blocks: Vec<u64>,
    /// Every batch up to this one was synced.
    pub(crate) flushed_batch: u64,
}

impl Identifiers {
    pub(crate) fn read(image: &SegmentImage, seed: &SegmentSeed, geometry: Geometry) -> Self {
        let count = geometry.identifier_bytes / IDENTIFIER_BLOCK_BYTES;
        let mut blocks: Vec<BlockRead> = (0..count)
            .map(|number| {
                let offset = geometry.identifiers_start() + number * IDENTIFIER_BLOCK_BYTES;
                image
                    .get(offset, IDENTIFIER_BLOCK_BYTES)
                    .map_or(BlockRead::Damaged, |bytes| {
                        // Space is marked as free before it is used; zeros behind that are free.
                        if bytes.iter().all(|byte| *byte == 0) {
                            BlockRead::Damaged
                        } else {
                            decode_identifier_block(bytes, seed, offset)
                        }
                    })
            })
            .collect();
        let used = blocks
            .iter()
            .rposition(|block| matches!(block, BlockRead::Good(_)))
            .map_or(0, |last| last + 1);
        // Damaged blocks behind the last good one may have held slots, up to the first that is free.
        let damaged = blocks
            .iter()
            .skip(used)
            .take_while(|block| **block == BlockRead::Damaged)
            .count();
        blocks.truncate(used + damaged);
        let mut identifiers = Self::default();
        for (number, block) in blocks.into_iter().enumerate() {
            identifiers.take_in(number, block, used);
        }
        identifiers
    }

    /// Takes in block `number`; those before `used` are all full, if nothing is wrong, but for the
    /// last of them.
    fn take_in(&mut self, number: usize, block: BlockRead, used: usize) {
        match block {
            BlockRead::Good(block) => {
                self.flushed_batch = self.flushed_batch.max(block.flushed_batch);
                let missing = SLOTS_A_BLOCK - block.slots.len();
                self.slots
                    .extend(block.slots.into_iter().map(SlotState::Known));
                self.slots
                    .extend(std::iter::repeat_n(SlotState::NeverWritten, missing));
                if missing > 0 && number + 1 < used {
                    self.damaged_blocks.push(number as u64);
                }
            }
            BlockRead::Free => {
                self.damaged_blocks.push(number as u64);
                self.slots.extend([SlotState::NeverWritten; SLOTS_A_BLOCK]);
            }
            BlockRead::Damaged => {
                self.damaged_blocks.push(number as u64);
                self.slots.extend([SlotState::Unknown; SLOTS_A_BLOCK]);
            }
        }
    }

    /// Number of slots whose blocks are in use.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn get(&self, slot: usize) -> SlotState {
        self.slots
            .get(slot)
            .copied()
            .unwrap_or(SlotState::NeverWritten)
    }

    pub(crate) fn known(&self, slot: usize) -> Option<Slot> {
        match self.get(slot) {
            SlotState::Known(slot) => Some(slot),
            _ => None,
        }
    }

    /// Known slots from `slot` on.
    pub(crate) fn known_from(&self, slot: usize) -> impl Iterator<Item = Slot> {
        self.slots
            .get(slot..)
            .unwrap_or_default()
            .iter()
            .filter_map(|state| match state {
                SlotState::Known(slot) => Some(*slot),
                _ => None,
            })
    }

    /// The end of the last record that any slot speaks of.
    pub(crate) fn reach_bytes(&self) -> u64 {
        self.known_from(0)
            .map(|slot| slot.offset_bytes + super::layout::record_bytes(slot.payload_bytes))
            .max()
            .unwrap_or(0)
    }
}
