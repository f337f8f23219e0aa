//! What a batch of records comes to as bytes, and where the next one goes.

use super::contents::EntryLocation;
use super::layout::{
    BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader, BatchNames, IdentifierBlock, RecordHeader,
    RecordKind, SLOTS_A_BLOCK, SegmentHeader, SegmentSeed, Slot, encode_batch_header,
    encode_record, encoded_digest, record_bytes,
};
use crate::position::LogPosition;

/// A buffer that has grown beyond this is let go.
const MAXIMUM_KEPT_BYTES: usize = 1024 * 1024;

/// A record to append.
pub type NewRecord<'a> = (RecordKind, LogPosition, &'a [u8]);

/// Where the next batch goes in the segment that is appended to.
#[derive(Clone, Debug)]
pub(crate) struct Tail {
    pub(crate) end_bytes: u64,
    /// Slots that are in use.
    pub(crate) slots: u64,
    /// The identifier block that the next slot goes to, as it stands.
    pub(crate) block: IdentifierBlock,
    pub(crate) chain: [u8; 32],
    pub(crate) last_batch: u64,
}

impl Tail {
    /// That of a segment which was just made.
    pub(crate) fn of_new(header: &SegmentHeader) -> Self {
        Self {
            end_bytes: header.geometry.payloads_start(),
            slots: 0,
            block: IdentifierBlock::default(),
            chain: header.chain,
            last_batch: header.first_batch - 1,
        }
    }

    fn push(&mut self, slot: Slot) {
        if self.slots.is_multiple_of(SLOTS_A_BLOCK as u64) {
            self.block.slots.clear();
        }
        self.block.slots.push(slot);
        self.slots += 1;
    }
}

/// The bytes of one batch: its records, and apart from them their names. They are kept from batch to
/// batch: memory that is used for the first time costs more than to fill it.
#[derive(Debug, Default)]
pub(crate) struct BatchBytes {
    records: Vec<u8>,
    pub(crate) names: BatchNames,
}

impl BatchBytes {
    /// Header and records as they stand in the payload region, up to the end of a block.
    pub(crate) fn records(&self) -> &[u8] {
        &self.records
    }

    /// Encodes the batch behind `tail`, without the names of its records.
    pub(crate) fn encode(
        &mut self,
        seed: &SegmentSeed,
        tail: &Tail,
        boot_count: u64,
        records: &[NewRecord<'_>],
    ) {
        let batch = tail.last_batch + 1;
        let bytes = &mut self.records;
        bytes.clear();
        bytes.resize(BATCH_HEADER_BYTES, 0);
        for (kind, position, payload) in records {
            let header = RecordHeader::new(*kind, *position, batch, payload);
            let offset_bytes = tail.end_bytes + bytes.len() as u64;
            encode_record(bytes, seed, offset_bytes, &header, payload);
        }
        let header = BatchHeader {
            batch,
            boot_count,
            body_bytes: u32::try_from(bytes.len() - BATCH_HEADER_BYTES).unwrap_or(u32::MAX),
            records: u32::try_from(records.len()).unwrap_or(u32::MAX),
            chain: tail.chain,
        };
        let header = encode_batch_header(seed, tail.end_bytes, &header);
        bytes[..BATCH_HEADER_BYTES].copy_from_slice(&header);
        let block_bytes = usize::try_from(BLOCK_BYTES).unwrap_or(4096);
        bytes.resize(bytes.len().next_multiple_of(block_bytes), 0);
    }

    /// Names the records of the batch that was encoded behind `tail`, and moves `tail` behind it, all
    /// but the chain; where each record stands in `segment`.
    pub(crate) fn name(
        &mut self,
        segment: u64,
        tail: &mut Tail,
        records: &[NewRecord<'_>],
    ) -> Vec<EntryLocation> {
        self.names.begin(&tail.block);
        tail.last_batch += 1;
        let mut at = BATCH_HEADER_BYTES;
        let mut locations = Vec::with_capacity(records.len());
        for (kind, position, payload) in records {
            let slot = Slot {
                kind: *kind,
                position: *position,
                batch: tail.last_batch,
                offset_bytes: tail.end_bytes + at as u64,
                payload_bytes: payload.len(),
                digest: encoded_digest(&self.records[at..]),
            };
            locations.push(EntryLocation {
                position: slot.position,
                segment,
                slot: tail.slots,
                offset_bytes: slot.offset_bytes,
                payload_bytes: slot.payload_bytes,
            });
            self.names.push(&slot);
            tail.push(slot);
            at += usize::try_from(record_bytes(payload.len())).unwrap_or(0);
        }
        tail.end_bytes += self.records.len() as u64;
        locations
    }

    /// Lets go of what has grown too long to keep.
    pub(crate) fn shrink(&mut self) {
        if self.records.capacity() > MAXIMUM_KEPT_BYTES {
            *self = Self::default();
        }
    }
}
