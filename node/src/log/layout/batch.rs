//! The header of a batch: records that were written and synced together.

use sha2::{Digest as _, Sha256};

use super::identifiers::{BatchNames, SLOT_BYTES, encode_slot};
use super::{SegmentSeed, Slot, number_u32, number_u64};

const MAGIC: [u8; 4] = *b"QBAT";
pub(crate) const BATCH_HEADER_BYTES: usize = 64;

/// Stands at the beginning of a block, before the records of its batch.
///
/// The chain is the SHA-256 of the chain before, the number of the batch (8 bytes) and the slots of
/// its records as they stand in the identifier region, which hold the digests of all payloads. So
/// it can be computed while a payload cannot be read. Each header holds the chain over all batches
/// before its own; a sealed segment's is in the header of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    /// Grows from batch to batch.
    pub(crate) batch: u64,
    /// The start of the node that wrote it: two processes on one volume would be told apart.
    pub(crate) boot_count: u64,
    /// Length of the records, without this header.
    pub(crate) body_bytes: u32,
    pub(crate) records: u32,
    pub(crate) chain: [u8; 32],
}

/// The header as it must stand at `offset_bytes`.
pub(crate) fn encode_batch_header(
    seed: &SegmentSeed,
    offset_bytes: u64,
    header: &BatchHeader,
) -> [u8; BATCH_HEADER_BYTES] {
    let mut bytes = [0; BATCH_HEADER_BYTES];
    bytes[8..16].copy_from_slice(&header.batch.to_le_bytes());
    bytes[16..24].copy_from_slice(&header.boot_count.to_le_bytes());
    bytes[24..28].copy_from_slice(&header.body_bytes.to_le_bytes());
    bytes[28..32].copy_from_slice(&header.records.to_le_bytes());
    bytes[32..].copy_from_slice(&header.chain);
    seed.seal(&mut bytes, MAGIC, offset_bytes);
    bytes
}

/// Reads a batch header; `None` when it is not one that belongs exactly here.
pub(crate) fn decode_batch_header(
    bytes: &[u8],
    seed: &SegmentSeed,
    offset_bytes: u64,
) -> Option<BatchHeader> {
    let header = bytes.get(..BATCH_HEADER_BYTES)?;
    if !seed.is_sealed(header, MAGIC, offset_bytes) {
        return None;
    }
    Some(BatchHeader {
        batch: number_u64(header, 8)?,
        boot_count: number_u64(header, 16)?,
        body_bytes: number_u32(header, 24)?,
        records: number_u32(header, 28)?,
        chain: header.get(32..64)?.try_into().ok()?,
    })
}

/// The chain after a batch; see [`BatchHeader`].
pub(crate) fn next_chain<'a>(
    chain: &[u8; 32],
    batch: u64,
    slots: impl Iterator<Item = &'a Slot>,
) -> [u8; 32] {
    let mut bytes = [0; 64 * SLOT_BYTES];
    let mut used = 0;
    let mut hasher = chain_hasher(chain, batch);
    for slot in slots {
        bytes[used..used + SLOT_BYTES].copy_from_slice(&encode_slot(slot));
        used += SLOT_BYTES;
        if used == bytes.len() {
            hasher.update(bytes);
            used = 0;
        }
    }
    hasher.update(&bytes[..used]);
    hasher.finalize().into()
}

/// [`next_chain`] of a batch whose slots are encoded already.
pub(crate) fn next_chain_of_names(chain: &[u8; 32], batch: u64, names: &BatchNames) -> [u8; 32] {
    let mut hasher = chain_hasher(chain, batch);
    for piece in names.slot_pieces() {
        hasher.update(piece);
    }
    hasher.finalize().into()
}

fn chain_hasher(chain: &[u8; 32], batch: u64) -> Sha256 {
    Sha256::new()
        .chain_update(chain)
        .chain_update(batch.to_le_bytes())
}
