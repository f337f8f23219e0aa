//! What of a segment names its records and holds none of their payloads: to be looked at elsewhere.

use std::io;

use serde::Serialize;

use super::image::read_block;
use super::layout::{
    BATCH_HEADER_BYTES, BLOCK_BYTES, Geometry, IDENTIFIER_BLOCK_BYTES, SegmentHeader,
    SegmentHeaderRead, SegmentSeed, decode_batch_header, decode_segment_header,
};
use crate::disk::{File, read_exact_at};

/// Bytes of a segment's header that say something.
const HEADER_BYTES: usize = 180;
/// With what headers, blocks of identifiers, and sectors that were never written to begin.
const HEADER_MAGIC: &[u8] = b"QDRLOGS\0";
const IDENTIFIERS_MAGIC: &[u8] = b"QIDB";
const FREE_MAGIC: &[u8] = b"QDRFREE\0";

/// The header of a batch, as JSON shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct BatchSummary {
    pub offset_bytes: u64,
    pub batch: u64,
    pub boot_count: u64,
    pub records: u32,
    pub records_bytes: u32,
}

/// Headers and identifiers of one segment, as they stand on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentNames {
    /// The copies of its header that begin like one.
    pub headers: [Option<Vec<u8>>; 2],
    /// The identifier region; zeros in place of sectors that do not begin like a part of it.
    pub identifiers: Vec<u8>,
    /// The headers of batches that are good.
    pub batches: Vec<BatchSummary>,
    /// What is not here, one sentence each.
    pub left_out: Vec<String>,
}

/// Reads what names the records of a segment. What stands in its place but does not look like it,
/// for a write that went astray may have put a payload there, is left out.
///
/// # Errors
/// When the length of the file cannot be read.
pub fn read_segment_names(file: &dyn File) -> io::Result<SegmentNames> {
    let mut names = SegmentNames::default();
    let length_bytes = file.length_bytes()?;
    let mut good: Option<(SegmentHeader, SegmentSeed)> = None;
    for copy in [0, 1] {
        let offset = match (copy, &good) {
            (0, _) => Some(0),
            (_, Some((header, _))) => Some(header.geometry.second_header()),
            (_, None) => length_bytes.checked_sub(BLOCK_BYTES),
        };
        let block = offset.and_then(|offset| read_block(file, offset));
        match block {
            Some(block) if block.starts_with(HEADER_MAGIC) => {
                if let SegmentHeaderRead::Good { header, identity } = decode_segment_header(&block)
                {
                    good.get_or_insert((header, identity.seed(header.number, header.version)));
                }
                names.headers[copy] = Some(block[..HEADER_BYTES].to_vec());
            }
            Some(_) => names
                .left_out
                .push(format!("copy {copy} of the header does not begin like one")),
            None => names
                .left_out
                .push(format!("copy {copy} of the header cannot be read")),
        }
    }
    let Some((header, seed)) = good else {
        names.left_out.push(
            "identifiers and batches: no header is good, so where they are is not known".to_owned(),
        );
        return Ok(names);
    };
    read_identifiers(file, header.geometry, length_bytes, &mut names);
    read_batches(file, header.geometry, &seed, &mut names);
    Ok(names)
}

fn read_identifiers(
    file: &dyn File,
    geometry: Geometry,
    length_bytes: u64,
    names: &mut SegmentNames,
) {
    let end = geometry.payloads_start().min(length_bytes);
    let length = usize::try_from(IDENTIFIER_BLOCK_BYTES).unwrap_or(512);
    let mut others = 0;
    for offset in (geometry.identifiers_start()..end).step_by(length) {
        let sector = read_exact_at(file, offset, length)
            .ok()
            .filter(|sector| {
                sector.starts_with(IDENTIFIERS_MAGIC)
                    || sector.starts_with(FREE_MAGIC)
                    || sector.iter().all(|byte| *byte == 0)
            })
            .unwrap_or_else(|| {
                others += 1;
                vec![0; length]
            });
        names.identifiers.extend(sector);
    }
    if others > 0 {
        names.left_out.push(format!(
            "{others} sectors of the identifier region that cannot be read or hold something else"
        ));
    }
}

fn read_batches(file: &dyn File, geometry: Geometry, seed: &SegmentSeed, names: &mut SegmentNames) {
    let step = usize::try_from(BLOCK_BYTES).unwrap_or(4096);
    for offset_bytes in (geometry.payloads_start()..geometry.payloads_end()).step_by(step) {
        let header = read_exact_at(file, offset_bytes, BATCH_HEADER_BYTES)
            .ok()
            .and_then(|bytes| decode_batch_header(&bytes, seed, offset_bytes));
        if let Some(header) = header {
            names.batches.push(BatchSummary {
                offset_bytes,
                batch: header.batch,
                boot_count: header.boot_count,
                records: header.records,
                records_bytes: header.body_bytes,
            });
        }
    }
}
