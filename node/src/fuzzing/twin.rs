//! Superblock and vote.

#![allow(clippy::expect_used)]

use std::path::Path;
use std::sync::Arc;

use super::Input;
use crate::disk::simulated::SimulatedDisk;
use crate::disk::twin::{COPY_BYTES, file_of_copies};
use crate::disk::{OpenMode, SharedFileSystem};
use crate::identity::{SuperblockFile, VoteFile};

/// What the first byte of the input asks for.
pub(super) mod flag {
    pub(crate) const VOTE: u8 = 1;
    /// Checksums are made to match.
    pub(crate) const SEAL: u8 = 2;
    /// The file ends with the bytes of the second copy.
    pub(crate) const SHORT: u8 = 4;
}

/// Two copies of a superblock or a vote: a byte of flags, the first copy after its length in two
/// bytes, and the second.
///
/// Reading changes nothing; opening finds what reading found, mends, and from then on both copies
/// are good and say the same.
pub fn twin(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.byte();
    let copies = [input.sized(), input.rest()].map(|copy| {
        let mut copy = copy[..copy.len().min(COPY_BYTES)].to_vec();
        if flags & flag::SEAL != 0 {
            seal(&mut copy);
        }
        copy
    });
    let mut file = file_of_copies([&copies[0], &copies[1]]);
    if flags & flag::SHORT != 0 {
        file.truncate(file.len() - COPY_BYTES + copies[1].len());
    }
    let volume = Path::new("/volume");
    let path = if flags & flag::VOTE != 0 {
        VoteFile::path(volume)
    } else {
        SuperblockFile::path(volume)
    };
    let disk = SimulatedDisk::new();
    disk.write(&path, &file).expect("the file is written");
    let file_system: SharedFileSystem = Arc::new(disk.clone());
    let open = |mode| {
        if flags & flag::VOTE != 0 {
            VoteFile::open(file_system.clone(), volume, mode)
                .map(|(vote, stale)| (format!("{:?}", vote.current()), stale))
                .map_err(|error| error.to_string())
        } else {
            SuperblockFile::open(file_system.as_ref(), volume, mode)
                .map(|opened| {
                    let (superblock, stale) = opened.expect("the file is there");
                    (format!("{:?}", superblock.current()), stale)
                })
                .map_err(|error| error.to_string())
        }
    };
    let read = open(OpenMode::Read);
    assert!(
        disk.read(&path).is_ok_and(|now| now == file),
        "reading changed it"
    );
    assert_eq!(read, open(OpenMode::ReadWrite), "opening is not reading");
    match read {
        Ok((content, _)) => assert_eq!(
            open(OpenMode::Read),
            Ok((content, None)),
            "it was not mended"
        ),
        Err(_) => assert!(
            disk.read(&path).is_ok_and(|now| now == file),
            "what is refused was changed"
        ),
    }
}

/// Puts the checksum behind the payload, where the length says that it ends.
pub(crate) fn seal(copy: &mut [u8]) {
    let Some(length) = copy.get(12..16).and_then(|bytes| bytes.try_into().ok()) else {
        return;
    };
    let end = (u32::from_le_bytes(length) as usize).saturating_add(24);
    if let Some((content, checksum)) = copy.split_at_mut_checked(end)
        && let Some(checksum) = checksum.get_mut(..4)
    {
        checksum.copy_from_slice(&crc32c::crc32c(content).to_le_bytes());
    }
}
