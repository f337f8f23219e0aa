//! Reading one segment: which records it has, which of them can be read, and how it ends.
//!
//! Nothing here touches a disk. Every record is known from two places, its own header and its slot
//! in the identifier region; either is enough to name it. What can be made whole from the other
//! place is listed to be mended, what cannot is known by name and has to come from a peer, and what
//! has lost its name is damage that ends the reading.

use super::identifiers::{Identifiers, SlotState};
use super::image::SegmentImage;
use super::layout::{
    BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader, PayloadDigest, RECORD_HEADER_BYTES, RecordHeader,
    RecordKind, SECTOR_BYTES, SLOTS_A_BLOCK, SectorUse, SegmentHeader, SegmentSeed, Slot,
    decode_batch_header, decode_record_header, next_chain, record_bytes, sector_use,
};
use crate::planted::{Bug, is_planted};

/// One record of a segment. Its number among the records is the number of its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ScannedRecord {
    pub(crate) slot: Slot,
    /// Whether its payload is the one that was written.
    pub(crate) readable: bool,
}

/// A batch of which something has to be written anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BatchDamage {
    pub(crate) offset_bytes: u64,
    /// The header to write, when it is damaged.
    pub(crate) header: Option<BatchHeader>,
    /// Numbers of records whose headers are damaged while their payloads are good or empty.
    pub(crate) records: Vec<usize>,
}

/// How a segment ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SegmentEnd {
    /// Nothing was written behind the last record.
    Clean,
    /// The next segment goes on.
    Sealed,
    /// What stands behind the last whole batch provably was never acknowledged: a part of it, or
    /// of its identifiers, was never durably written, and no later batch exists.
    Torn { bytes: u64 },
    /// Something that was written is not readable and has lost its name.
    Damaged {
        offset_bytes: u64,
        what: &'static str,
    },
}

/// What is in a segment.
#[derive(Debug)]
pub(crate) struct SegmentScan {
    pub(crate) records: Vec<ScannedRecord>,
    pub(crate) damage: Vec<BatchDamage>,
    /// Numbers of identifier blocks to write anew.
    pub(crate) damaged_blocks: Vec<u64>,
    /// Where the next batch belongs.
    pub(crate) end_bytes: u64,
    /// The last batch that is here, or the one before the segment's first.
    pub(crate) last_batch: u64,
    /// The chain over everything up to the end.
    pub(crate) chain: [u8; 32],
    pub(crate) end: SegmentEnd,
}

/// Reads all records of a segment; `identifiers` are those of the same image.
pub(crate) fn scan_segment(
    image: &SegmentImage,
    seed: &SegmentSeed,
    header: &SegmentHeader,
    identifiers: Identifiers,
) -> SegmentScan {
    let mut scanner = Scanner {
        image,
        seed,
        header,
        scan: SegmentScan {
            records: Vec::with_capacity(identifiers.len()),
            damage: Vec::new(),
            damaged_blocks: identifiers.damaged_blocks.clone(),
            end_bytes: header.geometry.payloads_start(),
            last_batch: header.first_batch.saturating_sub(1),
            chain: header.chain,
            end: SegmentEnd::Clean,
        },
        identifiers,
    };
    loop {
        if let Some(end) = scanner.read_batch() {
            scanner.scan.end = end;
            // Blocks without records are free space, which is seen to where the log goes on.
            let records = scanner.scan.records.len() as u64;
            scanner
                .scan
                .damaged_blocks
                .retain(|block| block * (SLOTS_A_BLOCK as u64) < records);
            return scanner.scan;
        }
    }
}

struct Scanner<'a> {
    image: &'a SegmentImage,
    seed: &'a SegmentSeed,
    header: &'a SegmentHeader,
    identifiers: Identifiers,
    scan: SegmentScan,
}

/// What walking over the records of one batch gave.
struct Walk {
    batch: u64,
    records: Vec<ScannedRecord>,
    /// Numbers, within the segment, of records with damaged headers that can be rebuilt.
    rebuildable: Vec<usize>,
    /// Where the records end.
    end_bytes: u64,
    /// A record without a name stands here.
    nameless: Option<u64>,
    /// A slot of this batch was never written.
    unwritten_slot: bool,
    contradiction: bool,
}

impl Walk {
    fn is_whole(&self) -> bool {
        self.nameless.is_none() && self.records.iter().all(|record| record.readable)
    }
}

impl Scanner<'_> {
    fn damaged(&self, what: &'static str) -> SegmentEnd {
        SegmentEnd::Damaged {
            offset_bytes: self.scan.end_bytes,
            what,
        }
    }

    fn batch_header_at(&self, offset_bytes: u64) -> Option<BatchHeader> {
        let bytes = self.image.get(offset_bytes, BATCH_HEADER_BYTES as u64)?;
        decode_batch_header(bytes, self.seed, offset_bytes)
            .filter(|header| header.batch > self.scan.last_batch)
    }

    fn record_header_at(&self, offset_bytes: u64, batch: u64) -> Option<RecordHeader> {
        let bytes = self.image.get(offset_bytes, RECORD_HEADER_BYTES as u64)?;
        decode_record_header(bytes, self.seed, offset_bytes).filter(|header| header.batch == batch)
    }

    /// The next slot, when it names a record at `offset_bytes`.
    fn slot_at(&self, number: usize, offset_bytes: u64) -> Option<Slot> {
        self.identifiers
            .known(number)
            .filter(|slot| slot.offset_bytes == offset_bytes)
    }

    /// Reads the next batch; gives the end of the segment instead when there is none.
    fn read_batch(&mut self) -> Option<SegmentEnd> {
        let start = self.scan.end_bytes;
        let first = self.scan.records.len();
        let header = self.batch_header_at(start);
        let slot = self
            .slot_at(first, start + BATCH_HEADER_BYTES as u64)
            .filter(|slot| slot.batch > self.scan.last_batch);
        let batch = match (header, slot) {
            (None, None) => return Some(self.judge_end()),
            (Some(header), Some(slot)) if header.batch != slot.batch => {
                return Some(self.damaged("a batch and its identifiers contradict each other"));
            }
            (Some(BatchHeader { batch, .. }), _) | (None, Some(Slot { batch, .. })) => batch,
        };
        let walk = self.walk(start, first, batch, header.as_ref());
        if walk.contradiction {
            return Some(self.damaged("a record and its identifiers contradict each other"));
        }
        // A header that was never written is that of a batch which was never acknowledged, even if
        // all that is known of its records is whole: there may have been more of them.
        let whole = walk.is_whole()
            && (header.is_some() || self.sector_use(start) != Some(SectorUse::Free));
        if !whole && self.is_torn(start, &walk, header.as_ref()) {
            return Some(SegmentEnd::Torn {
                bytes: self.written_bytes_from(start),
            });
        }
        if let Some(offset_bytes) = walk.nameless {
            return Some(SegmentEnd::Damaged {
                offset_bytes,
                what: "a record that was written cannot be read and has lost its name",
            });
        }
        self.take_in(start, walk, header)
    }

    fn walk(&self, start: u64, first: usize, batch: u64, header: Option<&BatchHeader>) -> Walk {
        let mut walk = Walk {
            batch,
            records: Vec::new(),
            rebuildable: Vec::new(),
            end_bytes: start + BATCH_HEADER_BYTES as u64,
            nameless: None,
            unwritten_slot: false,
            contradiction: false,
        };
        let body_end =
            header.map(|header| start + BATCH_HEADER_BYTES as u64 + u64::from(header.body_bytes));
        loop {
            let number = first + walk.records.len();
            if let Some(header) = header
                && walk.records.len() == header.records as usize
            {
                walk.contradiction |= body_end != Some(walk.end_bytes);
                return walk;
            }
            let found = self.record_header_at(walk.end_bytes, batch);
            let slot = self
                .slot_at(number, walk.end_bytes)
                .filter(|slot| slot.batch == batch);
            walk.unwritten_slot |= self.identifiers.get(number) == SlotState::NeverWritten
                && (header.is_some() || found.is_some());
            let slot = match (&found, slot) {
                (Some(found), Some(slot)) => {
                    if !agree(found, &slot) {
                        walk.contradiction = true;
                        return walk;
                    }
                    slot
                }
                (Some(found), None) => named_by(found, walk.end_bytes),
                (None, Some(slot)) => slot,
                (None, None) => {
                    // Without the batch's header its end is where slots say that it ends.
                    let may_go_on = match self.identifiers.get(number) {
                        SlotState::NeverWritten => false,
                        SlotState::Known(next) => next.batch == batch,
                        SlotState::Unknown => true,
                    };
                    if header.is_some() || may_go_on {
                        walk.nameless = Some(walk.end_bytes);
                    }
                    return walk;
                }
            };
            let readable = self.payload_is_good(&slot);
            if readable && found.is_none() {
                walk.rebuildable.push(number);
            }
            walk.end_bytes += record_bytes(slot.payload_bytes);
            walk.records.push(ScannedRecord { slot, readable });
            if body_end.is_some_and(|end| walk.end_bytes > end) {
                walk.contradiction = true;
                return walk;
            }
        }
    }

    /// An empty payload cannot be damaged: its record is rebuilt from its slot.
    fn payload_is_good(&self, slot: &Slot) -> bool {
        if slot.payload_bytes == 0 {
            return true;
        }
        let offset = slot.offset_bytes + RECORD_HEADER_BYTES as u64;
        let Some(payload) = self.image.get(offset, slot.payload_bytes as u64) else {
            return false;
        };
        if is_planted(Bug::PayloadIgnored) {
            return true;
        }
        PayloadDigest::of(payload) == slot.digest
    }

    fn take_in(
        &mut self,
        start: u64,
        walk: Walk,
        header: Option<BatchHeader>,
    ) -> Option<SegmentEnd> {
        if header.is_some_and(|header| header.chain != self.scan.chain)
            && !is_planted(Bug::ChainIgnored)
        {
            return Some(self.damaged("the chain is broken: something before was replaced"));
        }
        let body_bytes = walk.end_bytes - start - BATCH_HEADER_BYTES as u64;
        let rebuilt = header.is_none().then(|| BatchHeader {
            batch: walk.batch,
            boot_count: 0,
            body_bytes: u32::try_from(body_bytes).unwrap_or(u32::MAX),
            records: u32::try_from(walk.records.len()).unwrap_or(u32::MAX),
            chain: self.scan.chain,
        });
        let slots = walk.records.iter().map(|record| &record.slot);
        self.scan.chain = next_chain(&self.scan.chain, walk.batch, slots);
        if rebuilt.is_some() || !walk.rebuildable.is_empty() {
            self.scan.damage.push(BatchDamage {
                offset_bytes: start,
                header: rebuilt,
                records: walk.rebuildable,
            });
        }
        let sealed = walk
            .records
            .last()
            .is_some_and(|record| record.slot.kind == RecordKind::Sealed);
        let first = self.scan.records.len();
        self.scan.records.extend(walk.records);
        for number in first..self.scan.records.len() {
            self.note_slot(number);
        }
        self.scan.last_batch = walk.batch;
        self.scan.end_bytes = walk.end_bytes.next_multiple_of(BLOCK_BYTES);
        sealed.then_some(SegmentEnd::Sealed)
    }

    /// Lists the block of a record whose slot is not there to be written anew.
    fn note_slot(&mut self, number: usize) {
        if matches!(self.identifiers.get(number), SlotState::Known(_)) {
            return;
        }
        let block = (number / SLOTS_A_BLOCK) as u64;
        if !self.scan.damaged_blocks.contains(&block) {
            self.scan.damaged_blocks.push(block);
        }
    }

    /// Whether a batch that is not whole provably was never acknowledged: it is the last one, it
    /// is not marked as flushed, and a sector of it or of its identifiers was never written. A
    /// batch is acknowledged only after the sync of all of these.
    fn is_torn(&self, start: u64, walk: &Walk, header: Option<&BatchHeader>) -> bool {
        if is_planted(Bug::EveryBadEndIsTorn) {
            return true;
        }
        if self.identifiers.flushed_batch >= walk.batch || self.exists_after(start, walk.batch) {
            return false;
        }
        // The mark would stand where the batch's slots do: what cannot be read proves nothing.
        let first = self.scan.records.len();
        let records = header.map_or(walk.records.len(), |header| header.records as usize);
        if (first..=first + records).any(|slot| self.identifiers.get(slot) == SlotState::Unknown)
            && !is_planted(Bug::UnreadableMarkMeansNone)
        {
            return false;
        }
        // Without its header the batch reaches as far as its records are known.
        let end = header.map_or(walk.end_bytes, |header| {
            start + BATCH_HEADER_BYTES as u64 + u64::from(header.body_bytes)
        });
        walk.unwritten_slot || self.has_free_sector(start, end.max(start + SECTOR_BYTES))
    }

    fn has_free_sector(&self, start: u64, end: u64) -> bool {
        (start
            ..end
                .next_multiple_of(BLOCK_BYTES)
                .min(self.header.geometry.payloads_end()))
            .step_by(usize::try_from(SECTOR_BYTES).unwrap_or(512))
            .any(|offset| self.sector_use(offset) == Some(SectorUse::Free))
    }

    fn sector_use(&self, offset_bytes: u64) -> Option<SectorUse> {
        if offset_bytes >= self.image.end_bytes() {
            return Some(SectorUse::Zero);
        }
        self.image
            .get(offset_bytes, SECTOR_BYTES)
            .map(|bytes| sector_use(bytes, self.seed, offset_bytes))
    }

    /// Whether a batch after `batch` exists anywhere behind `start`: then `batch` was synced.
    fn exists_after(&self, start: u64, batch: u64) -> bool {
        self.identifiers
            .known_from(self.scan.records.len())
            .any(|slot| slot.batch > batch)
            || self
                .headers_behind(start)
                .any(|header| header.batch > batch)
    }

    fn headers_behind(&self, start: u64) -> impl Iterator<Item = BatchHeader> {
        let end = self
            .image
            .end_bytes()
            .min(self.header.geometry.payloads_end());
        (start + BLOCK_BYTES..end)
            .step_by(usize::try_from(BLOCK_BYTES).unwrap_or(4096))
            .filter_map(|offset| self.batch_header_at(offset))
    }

    /// Nothing at the end of what was read can be recognised as a batch: what is it?
    fn judge_end(&self) -> SegmentEnd {
        let start = self.scan.end_bytes;
        let number = self.scan.records.len();
        if self.identifiers.flushed_batch > self.scan.last_batch {
            return self.damaged("a batch that was acknowledged is gone");
        }
        // A torn batch may have lost its header and its first slots, but it is the only one.
        let mut later = self.identifiers.known_from(number).map(|slot| slot.batch);
        let torn_batch = later.next();
        if later.any(|batch| Some(batch) != torn_batch)
            || self.headers_behind(start).next().is_some()
        {
            return self.damaged("a batch that was acknowledged cannot be recognised");
        }
        if start >= self.header.geometry.payloads_end() {
            return SegmentEnd::Clean;
        }
        let slot_was_never_written = self.identifiers.get(number) == SlotState::NeverWritten;
        let first_sector = self.sector_use(start);
        if !slot_was_never_written && first_sector != Some(SectorUse::Free) {
            return self.damaged("what stands behind the last record cannot be recognised");
        }
        let bytes = self.written_bytes_from(start);
        if bytes == 0 && torn_batch.is_none() {
            SegmentEnd::Clean
        } else {
            SegmentEnd::Torn { bytes }
        }
    }

    /// Length of what is neither free nor zero from `start` on.
    fn written_bytes_from(&self, start: u64) -> u64 {
        let end = self
            .image
            .end_bytes()
            .min(self.header.geometry.payloads_end());
        let sectors = end.saturating_sub(start) / SECTOR_BYTES;
        (0..sectors)
            .rev()
            .map(|sector| start + sector * SECTOR_BYTES)
            .find(|offset| {
                !matches!(
                    self.sector_use(*offset),
                    Some(SectorUse::Free | SectorUse::Zero)
                )
            })
            .map_or(0, |offset| offset + SECTOR_BYTES - start)
    }
}

fn agree(found: &RecordHeader, slot: &Slot) -> bool {
    found.kind == slot.kind
        && found.position == slot.position
        && found.payload_bytes == slot.payload_bytes
        && found.digest == slot.digest
}

/// What a record says of itself, as its slot would.
pub(crate) fn named_by(found: &RecordHeader, offset_bytes: u64) -> Slot {
    Slot {
        kind: found.kind,
        position: found.position,
        batch: found.batch,
        offset_bytes,
        payload_bytes: found.payload_bytes,
        digest: found.digest,
    }
}
