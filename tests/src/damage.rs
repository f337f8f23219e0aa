//! Damage to the files of a volume, as a disk would do it.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Length of a record's header and where its payload's length stands in it: docs/formats/log.md.
const RECORD_HEADER_BYTES: u64 = 56;
const PAYLOAD_LENGTH_OFFSET: usize = 12;
/// Where the two copies of a twin file stand, and a byte of the record in each.
const TWIN_COPIES_BYTES: [u64; 2] = [0, 1024 * 1024];
const TWIN_PAYLOAD_OFFSET_BYTES: u64 = 30;

/// Flips one bit of the byte at `offset_bytes`.
///
/// # Errors
/// When the file cannot be written, or is shorter.
pub fn flip_a_bit(path: &Path, offset_bytes: u64) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset_bytes)?;
    file.write_all_at(&[byte[0] ^ 0x20], offset_bytes)
}

/// Damages both copies of a volume's vote: the node must refuse the volume.
///
/// # Errors
/// As [`flip_a_bit`].
pub fn make_vote_unreadable(data: &Path) -> io::Result<()> {
    TWIN_COPIES_BYTES
        .iter()
        .try_for_each(|copy| flip_a_bit(&data.join("vote"), copy + TWIN_PAYLOAD_OFFSET_BYTES))
}

/// Where a segment has something that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentPart {
    Payload,
    RecordHeader,
    BatchHeader,
    Identifiers,
    Header,
}

/// Places of every part of a segment that is in use, each with its length.
///
/// # Errors
/// When the file cannot be read.
pub fn places(segment: &Path, part: SegmentPart) -> io::Result<Vec<(u64, u64)>> {
    const BLOCK_BYTES: u64 = 4096;
    let length = std::fs::metadata(segment)?.len();
    let find = |magic: &[u8; 4], step: usize, used: u64| -> io::Result<Vec<(u64, u64)>> {
        let bytes = std::fs::read(segment)?;
        let starts = (0..bytes.len().saturating_sub(4)).step_by(step);
        Ok(starts
            .filter(|start| &bytes[*start..start + 4] == magic)
            .map(|start| (start as u64, used))
            .collect())
    };
    match part {
        SegmentPart::Payload => payloads(segment),
        SegmentPart::RecordHeader => find(b"QREC", 8, RECORD_HEADER_BYTES),
        SegmentPart::BatchHeader => find(b"QBAT", 4096, 64),
        // The first slot; the others may not be in use.
        SegmentPart::Identifiers => find(b"QIDB", 512, 80),
        SegmentPart::Header => Ok(vec![(0, 180), (length - BLOCK_BYTES, 180)]),
    }
}

/// Segments of a volume's log, oldest first.
///
/// # Errors
/// When the folder cannot be read.
pub fn segments(data: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = std::fs::read_dir(data.join("log"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    paths.sort();
    Ok(paths)
}

/// Where in a segment the payloads of its records begin, each with its length; records without a
/// payload are left out.
///
/// # Errors
/// When the file cannot be read.
pub fn payloads(segment: &Path) -> io::Result<Vec<(u64, u64)>> {
    let bytes = std::fs::read(segment)?;
    let mut found = Vec::new();
    let mut at = 0;
    while at + 16 <= bytes.len() {
        if &bytes[at..at + 4] == b"QREC" {
            let start = at + PAYLOAD_LENGTH_OFFSET;
            let length = u32::from_le_bytes([
                bytes[start],
                bytes[start + 1],
                bytes[start + 2],
                bytes[start + 3],
            ]);
            if length > 0 {
                found.push((at as u64 + RECORD_HEADER_BYTES, u64::from(length)));
            }
        }
        at += 8;
    }
    Ok(found)
}

/// Flips a bit in the payload of every `step`-th record of a segment, beginning with number
/// `first`; gives how many were damaged.
///
/// # Errors
/// As [`flip_a_bit`].
pub fn damage_payloads(segment: &Path, first: usize, step: usize) -> io::Result<usize> {
    let places: Vec<u64> = payloads(segment)?
        .into_iter()
        .skip(first)
        .step_by(step)
        .map(|(offset, length)| offset + length / 2)
        .collect();
    for place in &places {
        flip_a_bit(segment, *place)?;
    }
    Ok(places.len())
}
