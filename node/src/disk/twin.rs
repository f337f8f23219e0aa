//! Small facts kept twice: the superblock and the vote.
//!
//! A twin file holds two copies of one record, far enough apart that no sector, page or erase
//! block holds parts of both. Each copy is
//!
//! ```text
//! offset  bytes  field
//!      0      8  magic
//!      8      4  format version, little endian like every number here
//!     12      4  payload length
//!     16      8  generation: grows by one with every write
//!     24      n  payload
//!   24+n      4  CRC32C over all bytes before it
//! ```
//!
//! Writing is ordered: copy A, fsync, copy B, fsync. At every instant at least one copy is whole,
//! and a whole copy is either the newest record or, when the crash came before the first fsync
//! returned, the one before it, which nobody had been told was replaced.

use std::io;
use std::path::{Path, PathBuf};

use super::{File, FileSystem, OpenMode, read_exact_at};
use crate::planted::{Bug, is_planted};

/// Length of each copy in the file.
pub(crate) const COPY_BYTES: usize = 4096;
/// Where the second copy begins; the first is at the beginning of the file.
pub(crate) const SECOND_COPY_OFFSET_BYTES: u64 = 1024 * 1024;
const HEADER_BYTES: usize = 24;
const MAXIMUM_PAYLOAD_BYTES: usize = COPY_BYTES - HEADER_BYTES - 4;

/// Why a twin file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum TwinError {
    #[error("failed to {action} {path}", path = path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("both copies in {path} are unreadable", path = path.display())]
    BothDamaged { path: PathBuf },
    #[error("{path} has format version {found}; this version knows {known}", path = path.display())]
    UnknownFormat {
        path: PathBuf,
        found: u32,
        known: u32,
    },
    #[error("{path} cannot be written any more: no number is left for another version of it", path = path.display())]
    LastGeneration { path: PathBuf },
}

impl TwinError {
    /// Whether there was no space.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        matches!(self, Self::Io { source, .. } if super::is_out_of_space(source))
    }
}

/// What reading both copies gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TwinRead {
    pub payload: Vec<u8>,
    pub generation: u64,
    /// The copy (0 or 1) that is damaged, or older than the other.
    pub stale_copy: Option<usize>,
}

/// An open twin file.
#[derive(Debug)]
pub struct Twin {
    path: PathBuf,
    magic: [u8; 8],
    version: u32,
    file: Box<dyn File>,
    generation: u64,
}

enum Copy {
    Good { generation: u64, payload: Vec<u8> },
    Damaged,
    UnknownFormat(u32),
}

/// The bytes of a file with these two copies, of which none is longer than [`COPY_BYTES`].
pub(crate) fn file_of_copies(copies: [&[u8]; 2]) -> Vec<u8> {
    let second = usize::try_from(SECOND_COPY_OFFSET_BYTES).unwrap_or(0);
    let mut bytes = vec![0; second + COPY_BYTES];
    for (copy, place) in copies.into_iter().zip([0, second]) {
        bytes[place..place + copy.len()].copy_from_slice(copy);
    }
    bytes
}

/// Both copies of a file, one behind the other, without what lies between.
#[cfg(test)]
pub(crate) fn copies_of_file(bytes: &[u8]) -> Vec<u8> {
    let second = usize::try_from(SECOND_COPY_OFFSET_BYTES).unwrap_or(0);
    [&bytes[..COPY_BYTES], &bytes[second..]].concat()
}

/// The bytes of the file that [`copies_of_file`] were taken from.
#[cfg(test)]
pub(crate) fn file_of_stored_copies(stored: &[u8]) -> Vec<u8> {
    let (first, second) = stored.split_at(COPY_BYTES);
    file_of_copies([first, second])
}

fn encode(magic: [u8; 8], version: u32, generation: u64, payload: &[u8]) -> Vec<u8> {
    debug_assert!(payload.len() <= MAXIMUM_PAYLOAD_BYTES);
    let mut bytes = Vec::with_capacity(COPY_BYTES);
    bytes.extend_from_slice(&magic);
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.extend_from_slice(
        &u32::try_from(payload.len())
            .unwrap_or(u32::MAX)
            .to_le_bytes(),
    );
    bytes.extend_from_slice(&generation.to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    bytes.resize(COPY_BYTES, 0);
    bytes
}

fn number_u32(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(
        bytes.get(offset..offset + 4)?.try_into().ok()?,
    ))
}

fn number_u64(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(
        bytes.get(offset..offset + 8)?.try_into().ok()?,
    ))
}

fn decode(bytes: &[u8], magic: [u8; 8], version: u32) -> Copy {
    let decoded = || {
        if bytes.get(..8)? != magic {
            return None;
        }
        let length = number_u32(bytes, 12)? as usize;
        if length > MAXIMUM_PAYLOAD_BYTES {
            return None;
        }
        let end = HEADER_BYTES + length;
        let checksum = crc32c::crc32c(bytes.get(..end)?);
        if checksum != number_u32(bytes, end)? && !is_planted(Bug::TwinChecksumIgnored) {
            return None;
        }
        // The checksum comes before the version: a damaged version is damage, not a new format.
        let found = number_u32(bytes, 8)?;
        if found != version {
            return Some(Copy::UnknownFormat(found));
        }
        Some(Copy::Good {
            // Every generation is followed by another one.
            generation: number_u64(bytes, 16).filter(|generation| *generation < u64::MAX)?,
            payload: bytes.get(HEADER_BYTES..end)?.to_vec(),
        })
    };
    decoded().unwrap_or(Copy::Damaged)
}

impl Twin {
    /// Makes a new twin file with its first record; durable when it returns.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn create(
        file_system: &dyn FileSystem,
        path: &Path,
        magic: [u8; 8],
        version: u32,
        payload: &[u8],
    ) -> Result<Self, TwinError> {
        let io_error = |action| {
            let path = path.to_owned();
            move |source| TwinError::Io {
                action,
                path,
                source,
            }
        };
        let copy = encode(magic, version, 1, payload);
        let bytes = file_of_copies([&copy, &copy]);
        super::write_durably(file_system, path, &bytes).map_err(io_error("create"))?;
        let file = file_system
            .open(path, OpenMode::ReadWrite)
            .map_err(io_error("open"))?;
        Ok(Self {
            path: path.to_owned(),
            magic,
            version,
            file,
            generation: 1,
        })
    }

    /// Opens a twin file and reads the newest whole copy. Nothing is written: see [`Self::mend`].
    ///
    /// # Errors
    /// [`TwinError::BothDamaged`] when no copy is whole.
    pub fn open(
        file_system: &dyn FileSystem,
        path: &Path,
        magic: [u8; 8],
        version: u32,
        mode: OpenMode,
    ) -> Result<(Self, TwinRead), TwinError> {
        let file = file_system
            .open(path, mode)
            .map_err(|source| TwinError::Io {
                action: "open",
                path: path.to_owned(),
                source,
            })?;
        // A copy that cannot be read is a damaged copy; the other one decides.
        let copies = [0, SECOND_COPY_OFFSET_BYTES].map(|offset| {
            read_exact_at(file.as_ref(), offset, COPY_BYTES)
                .map_or(Copy::Damaged, |bytes| decode(&bytes, magic, version))
        });
        let read = match copies {
            [
                Copy::Good {
                    generation: first,
                    payload,
                },
                Copy::Good {
                    generation: second,
                    payload: other,
                },
            ] => match if is_planted(Bug::TwinOlderCopyBelieved) {
                second.cmp(&first)
            } else {
                first.cmp(&second)
            } {
                std::cmp::Ordering::Equal => TwinRead {
                    payload,
                    generation: first,
                    stale_copy: None,
                },
                std::cmp::Ordering::Greater => TwinRead {
                    payload,
                    generation: first,
                    stale_copy: Some(1),
                },
                std::cmp::Ordering::Less => TwinRead {
                    payload: other,
                    generation: second,
                    stale_copy: Some(0),
                },
            },
            [Copy::UnknownFormat(found), _] | [_, Copy::UnknownFormat(found)] => {
                return Err(TwinError::UnknownFormat {
                    path: path.to_owned(),
                    found,
                    known: version,
                });
            }
            [
                Copy::Good {
                    generation,
                    payload,
                },
                Copy::Damaged,
            ] => TwinRead {
                payload,
                generation,
                stale_copy: Some(1),
            },
            [
                Copy::Damaged,
                Copy::Good {
                    generation,
                    payload,
                },
            ] => TwinRead {
                payload,
                generation,
                stale_copy: Some(0),
            },
            [Copy::Damaged, Copy::Damaged] => {
                return Err(TwinError::BothDamaged {
                    path: path.to_owned(),
                });
            }
        };
        let twin = Self {
            path: path.to_owned(),
            magic,
            version,
            file,
            generation: read.generation,
        };
        Ok((twin, read))
    }

    /// Writes the next record to both copies; durable when it returns.
    ///
    /// # Errors
    /// Those of the operating system; the process must stop, as it is unknown what is durable.
    pub fn write(&mut self, payload: &[u8]) -> Result<(), TwinError> {
        let next = self.generation.checked_add(1);
        let next =
            next.filter(|next| *next < u64::MAX)
                .ok_or_else(|| TwinError::LastGeneration {
                    path: self.path.clone(),
                })?;
        let bytes = encode(self.magic, self.version, next, payload);
        for offset in [0, SECOND_COPY_OFFSET_BYTES] {
            self.write_copy(&bytes, offset)?;
        }
        self.generation = next;
        Ok(())
    }

    /// Rewrites the copy that was found damaged or old from the good one.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn mend(&mut self, read: &TwinRead) -> Result<(), TwinError> {
        let bytes = encode(self.magic, self.version, read.generation, &read.payload);
        match read.stale_copy {
            Some(0) => self.write_copy(&bytes, 0),
            Some(_) => self.write_copy(&bytes, SECOND_COPY_OFFSET_BYTES),
            None => Ok(()),
        }
    }

    /// Reads both copies past the page cache and writes those anew that do not hold `payload`, the
    /// record that was written or read last: this process knows it, so also two damaged copies are
    /// no loss while it runs. Gives the numbers of the copies that were mended.
    ///
    /// # Errors
    /// Those of the operating system; when writing failed, the process must stop.
    pub fn scrub(&mut self, payload: &[u8]) -> Result<Vec<usize>, TwinError> {
        self.file.forget_cached().map_err(|source| TwinError::Io {
            action: "read",
            path: self.path.clone(),
            source,
        })?;
        let bytes = encode(self.magic, self.version, self.generation, payload);
        let mut mended = Vec::new();
        for (copy, offset) in [0, SECOND_COPY_OFFSET_BYTES].into_iter().enumerate() {
            let found = read_exact_at(self.file.as_ref(), offset, COPY_BYTES);
            if !found.is_ok_and(|found| found == bytes) {
                self.write_copy(&bytes, offset)?;
                mended.push(copy);
            }
        }
        Ok(mended)
    }

    /// Bytes that [`Self::scrub`] reads.
    pub const SCRUBBED_BYTES: u64 = 2 * COPY_BYTES as u64;

    fn write_copy(&self, bytes: &[u8], offset: u64) -> Result<(), TwinError> {
        let unsynced =
            is_planted(Bug::TwinNotSynced) || (offset == 0 && is_planted(Bug::TwinCopiesTogether));
        self.file
            .write_at(bytes, offset)
            .and_then(|()| {
                if unsynced {
                    return Ok(());
                }
                self.file.sync().map_err(super::failed_sync)
            })
            .map_err(|source| TwinError::Io {
                action: "write",
                path: self.path.clone(),
                source,
            })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::RealFileSystem;
    use super::*;

    const MAGIC: [u8; 8] = *b"QDRTEST\0";

    fn open(path: &Path) -> Result<(Twin, TwinRead), TwinError> {
        Twin::open(&RealFileSystem, path, MAGIC, 1, OpenMode::ReadWrite)
    }

    fn damage(path: &Path, offset: usize) {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[offset] ^= 0x40;
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn the_last_record_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("twin");
        let mut twin = Twin::create(&RealFileSystem, &path, MAGIC, 1, b"one").unwrap();
        twin.write(b"two").unwrap();
        twin.write(b"three").unwrap();
        let (_, read) = open(&path).unwrap();
        assert_eq!(
            (read.payload.as_slice(), read.generation, read.stale_copy),
            (&b"three"[..], 3, None)
        );
    }

    #[test]
    fn any_byte_of_one_copy_may_be_damaged_and_is_mended_from_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("twin");
        let record = b"a vote that was cast";
        for copy in [0, 1] {
            for offset in 0..HEADER_BYTES + record.len() + 4 {
                let mut twin = Twin::create(&RealFileSystem, &path, MAGIC, 1, b"old").unwrap();
                twin.write(record).unwrap();
                damage(&path, offset + copy * 1024 * 1024);
                let (mut twin, read) = open(&path).unwrap();
                assert_eq!(
                    (read.payload.as_slice(), read.stale_copy),
                    (&record[..], Some(copy))
                );
                twin.mend(&read).unwrap();
                assert_eq!(open(&path).unwrap().1.stale_copy, None);
            }
        }
    }

    #[test]
    fn two_damaged_copies_are_refused_and_so_is_a_newer_format() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("twin");
        Twin::create(&RealFileSystem, &path, MAGIC, 1, b"one").unwrap();
        damage(&path, 30);
        damage(&path, 30 + 1024 * 1024);
        assert!(matches!(
            open(&path),
            Err(TwinError::BothDamaged { .. }) | Ok(_)
        ));
        damage(&path, 24);
        damage(&path, 24 + 1024 * 1024);
        assert!(matches!(open(&path), Err(TwinError::BothDamaged { .. })));
        Twin::create(&RealFileSystem, &path, MAGIC, 2, b"one").unwrap();
        assert!(matches!(
            open(&path),
            Err(TwinError::UnknownFormat { found: 2, .. })
        ));
    }

    #[test]
    fn a_crash_between_the_two_copies_leaves_the_newer_record_in_force() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("twin");
        let mut twin = Twin::create(&RealFileSystem, &path, MAGIC, 1, b"one").unwrap();
        let before = std::fs::read(&path).unwrap();
        twin.write(b"two").unwrap();
        let after = std::fs::read(&path).unwrap();
        let mut between = after.clone();
        between[COPY_BYTES..].copy_from_slice(&before[COPY_BYTES..]);
        std::fs::write(&path, between).unwrap();
        let (_, read) = open(&path).unwrap();
        assert_eq!(
            (read.payload.as_slice(), read.stale_copy),
            (&b"two"[..], Some(1))
        );
    }
}
