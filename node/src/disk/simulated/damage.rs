//! Damage to the content of a disk, as bad media, firmware and people do it.

use std::io;

use super::choice::SplitMix;
use super::content::{PAGE_BYTES, SECTOR_BYTES, spans};
use super::error::misuse;
use super::inode::Inode;

/// Damage to one file, visible to reads at once and durable. A plain value, so that a test can
/// print a case and run it again. Where it strikes bytes that are not synced yet, their sectors
/// count as having reached the platter just before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// One bit is turned, as a cosmic ray or a worn cell does.
    FlipBit { offset_bytes: u64, bit: u8 },
    /// One byte has another value, which must differ from what is there.
    Byte { offset_bytes: u64, value: u8 },
    /// The 512-byte sector that holds this byte is zeroes.
    ZeroSector { offset_bytes: u64 },
    /// The 512-byte sector that holds this byte is random, as a shorn write leaves it.
    GarbageSector { offset_bytes: u64, seed: u64 },
    /// The 4 KiB page that holds this byte is zeroes, as a lost block of the file system is.
    Zero4KiB { offset_bytes: u64 },
    /// Reads that touch the 512-byte sector that holds this byte fail with EIO, until a write
    /// replaces the sector completely. A write that replaces only a part of it fails too, as it
    /// needs the rest.
    UnreadableSector { offset_bytes: u64 },
    /// The file ends here, before where it ended.
    Truncate { length_bytes: u64 },
    /// The name is gone, and with it the file, or the folder and all in it.
    Remove,
    /// The bytes are those from before the last write of each sector, as after a write that the
    /// disk acknowledged and lost.
    StaleRange {
        offset_bytes: u64,
        length_bytes: u64,
    },
    /// The last write of a range went elsewhere in the file: its bytes are at `to_offset_bytes`, and
    /// where it should have gone are those from before it (Alagappan et al., "Protocol-Aware
    /// Recovery for Consensus-Based Storage", FAST 2018).
    MisdirectedWrite {
        from_offset_bytes: u64,
        to_offset_bytes: u64,
        length_bytes: u64,
    },
}

type Patch = (u64, Vec<u8>);

impl Damage {
    /// Strikes a file. When it fails, nothing is changed.
    pub(super) fn strike(&self, inode: &mut Inode) -> io::Result<()> {
        let patches = match *self {
            Self::Remove => return Err(misuse("a name is removed from its folder")),
            Self::Truncate { length_bytes } => {
                if length_bytes >= inode.cached.length_bytes {
                    return Err(misuse("the file is not longer than that"));
                }
                inode.truncate(length_bytes);
                return Ok(());
            }
            Self::UnreadableSector { offset_bytes } => return unreadable(inode, offset_bytes),
            Self::FlipBit { offset_bytes, bit } => {
                if bit > 7 {
                    return Err(misuse("a byte has eight bits"));
                }
                let byte = current(inode, offset_bytes, 1)?[0];
                vec![(offset_bytes, vec![byte ^ 1 << bit])]
            }
            Self::Byte {
                offset_bytes,
                value,
            } => vec![(offset_bytes, vec![value])],
            Self::ZeroSector { offset_bytes } => {
                let (start, size) = block(inode, offset_bytes, SECTOR_BYTES)?;
                vec![(start, vec![0; size])]
            }
            Self::GarbageSector { offset_bytes, seed } => {
                let (start, size) = block(inode, offset_bytes, SECTOR_BYTES)?;
                let mut random = SplitMix::new(seed);
                let bytes = (0..size).map(|_| random.next_u64().to_le_bytes()[7]);
                vec![(start, bytes.collect())]
            }
            Self::Zero4KiB { offset_bytes } => {
                let (start, size) = block(inode, offset_bytes, PAGE_BYTES)?;
                vec![(start, vec![0; size])]
            }
            Self::StaleRange {
                offset_bytes,
                length_bytes,
            } => vec![(offset_bytes, former(inode, offset_bytes, length_bytes)?)],
            Self::MisdirectedWrite {
                from_offset_bytes,
                to_offset_bytes,
                length_bytes,
            } => {
                if from_offset_bytes.abs_diff(to_offset_bytes) < length_bytes {
                    return Err(misuse("the two ranges overlap"));
                }
                let stray = current(inode, from_offset_bytes, length_bytes)?;
                let former = former(inode, from_offset_bytes, length_bytes)?;
                vec![(to_offset_bytes, stray), (from_offset_bytes, former)]
            }
        };
        patch(inode, &patches)
    }
}

/// The bytes of a range that must lie in the file.
fn current(inode: &Inode, offset_bytes: u64, length_bytes: u64) -> io::Result<Vec<u8>> {
    let end = offset_bytes.checked_add(length_bytes);
    if length_bytes == 0 || end.is_none_or(|end| end > inode.cached.length_bytes) {
        return Err(misuse("the damage does not lie in the file"));
    }
    let size = usize::try_from(length_bytes).map_err(|_| misuse("the range is too long"))?;
    let mut bytes = vec![0; size];
    inode.cached.read(&mut bytes, offset_bytes);
    Ok(bytes)
}

fn former(inode: &Inode, offset_bytes: u64, length_bytes: u64) -> io::Result<Vec<u8>> {
    let now = current(inode, offset_bytes, length_bytes)?;
    Ok(inode.former(offset_bytes, now.len()))
}

/// Start and size of the block that holds a byte, up to the end of the file.
fn block(inode: &Inode, offset_bytes: u64, block_bytes: usize) -> io::Result<(u64, usize)> {
    current(inode, offset_bytes, 1)?;
    let start = offset_bytes - offset_bytes % block_bytes as u64;
    let left = inode.cached.length_bytes - start;
    Ok((start, left.min(block_bytes as u64) as usize))
}

fn unreadable(inode: &mut Inode, offset_bytes: u64) -> io::Result<()> {
    current(inode, offset_bytes, 1)?;
    for span in spans(offset_bytes, 1) {
        if inode.cached.unreadable.mask(span.page) & span.touched() != 0 {
            return Err(misuse("the damage changes nothing"));
        }
        inode.cached.unreadable.insert(span.page, span.touched());
        inode.settle(span.page, span.touched());
    }
    Ok(())
}

/// Replaces bytes that must lie in the file and of which at least one must change.
fn patch(inode: &mut Inode, patches: &[Patch]) -> io::Result<()> {
    let mut changes = false;
    for (offset, bytes) in patches {
        let now = current(inode, *offset, bytes.len() as u64)?;
        changes |= spans(*offset, now.len()).any(|span| {
            let unreadable = inode.cached.unreadable.mask(span.page);
            (span.start..span.end).any(|at| {
                let position = span.position + at - span.start;
                now[position] != bytes[position] && unreadable & 1 << (at / SECTOR_BYTES) == 0
            })
        });
    }
    if !changes {
        return Err(misuse("the damage changes nothing"));
    }
    for (offset, bytes) in patches {
        for span in spans(*offset, bytes.len()) {
            let part = &bytes[span.position..][..span.end - span.start];
            inode.cached.put(span.page, span.start, part);
            inode.settle(span.page, span.touched());
        }
    }
    Ok(())
}
