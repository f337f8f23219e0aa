//! Opens a store, once its logs are known to come to an end.
//!
//! RocksDB keeps its write-ahead logs and its manifest as logs of records in blocks of 32 KiB
//! (`db/log_format.h`): the header of a record is a checksum, a length and a type. The reader of
//! RocksDB 11.0 looks at the type before the checksum, and where that is a type of recycled logs
//! behind a record of another kind it reads the same record for ever. One bit that a disk changes
//! would have a node never come up, or never end a scrub, without a word: it is found before.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use oxigraph::store::Store;

use super::StateError;

const BLOCK_BYTES: usize = 32 * 1024;
/// Checksum, length and type.
const HEADER_BYTES: usize = 7;
const ZERO_TYPE: u8 = 0;
/// Behind the header of each record of a recycled log: which log it belongs to.
const LOG_NUMBER_BYTES: usize = 4;
/// Whole, first, middle and last parts of records, sizes of timestamps, and what is said of the log
/// before, each of a log that is recycled.
const RECYCLED_TYPES: [u8; 6] = [5, 6, 7, 8, 11, 131];

/// Opens the store in a folder, or makes one there.
///
/// # Errors
/// When it is damaged, or the disk does not give it.
pub(super) fn open(folder: &Path) -> Result<Store, StateError> {
    check_logs(folder)?;
    // Its logs are checked.
    #[allow(clippy::disallowed_methods)]
    Ok(Store::open(folder)?)
}

/// As [`open`], for a store that must be there and to which nothing is written.
pub(super) fn open_read_only(folder: &Path) -> Result<Store, StateError> {
    check_logs(folder)?;
    // Its logs are checked.
    #[allow(clippy::disallowed_methods)]
    Ok(Store::open_read_only(folder)?)
}

fn check_logs(folder: &Path) -> Result<(), StateError> {
    let unreadable = |path: &Path, error: io::Error| {
        StateError::Inconsistent(format!("{} cannot be read: {error}", path.display()))
    };
    for path in logs(folder).map_err(|error| unreadable(folder, error))? {
        let endless = File::open(&path)
            .and_then(endless_record)
            .map_err(|error| unreadable(&path, error))?;
        if let Some(at_bytes) = endless {
            return Err(StateError::Inconsistent(format!(
                "{} is not recycled, and has a record of a recycled log at byte {at_bytes}",
                path.display()
            )));
        }
    }
    Ok(())
}

fn logs(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut logs = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("MANIFEST-") || path.extension() == Some(OsStr::new("log")) {
            logs.push(path);
        }
    }
    Ok(logs)
}

/// Where the record is that RocksDB would read for ever.
fn endless_record(mut log: impl Read) -> io::Result<Option<u64>> {
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    let mut start_bytes = 0;
    let mut is_recycled = None;
    loop {
        block.clear();
        log.by_ref()
            .take(BLOCK_BYTES as u64)
            .read_to_end(&mut block)?;
        if block.is_empty() {
            return Ok(None);
        }
        if let Some(left_bytes) = endless_in(&block, &mut is_recycled) {
            return Ok(Some(start_bytes + (block.len() - left_bytes) as u64));
        }
        start_bytes += block.len() as u64;
    }
}

/// How much of a block is left where such a record is. The first record says whether a log is
/// recycled. What RocksDB skips is skipped: it drops the rest of a block in which a record is not
/// whole.
fn endless_in(block: &[u8], is_recycled: &mut Option<bool>) -> Option<usize> {
    let mut left = block;
    while let Some((header, behind)) = left.split_first_chunk::<HEADER_BYTES>() {
        let [c0, c1, c2, c3, l0, l1, kind] = *header;
        let of_recycled = RECYCLED_TYPES.contains(&kind);
        if of_recycled && !*is_recycled.get_or_insert(true) {
            return Some(left.len());
        }
        let number_bytes = if of_recycled { LOG_NUMBER_BYTES } else { 0 };
        let length = number_bytes + usize::from(u16::from_le_bytes([l0, l1]));
        let payload = behind.get(..length)?;
        if kind == ZERO_TYPE && length == 0 {
            return None;
        }
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&[kind]), payload);
        if masked(checksum) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return None;
        }
        is_recycled.get_or_insert(false);
        left = behind.get(length..)?;
    }
    None
}

/// A checksum as RocksDB stores it (`util/crc32c.h`).
fn masked(checksum: u32) -> u32 {
    checksum.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]

    use std::os::unix::fs::FileExt as _;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use oxrdf::{GraphName, NamedNode, Quad};

    use super::*;

    fn quads(from: u32, count: u32) -> impl Iterator<Item = Quad> {
        (from..from + count).map(|number| {
            let node = NamedNode::new_unchecked(format!("http://example.com/{number}"));
            Quad::new(node.clone(), node.clone(), node, GraphName::DefaultGraph)
        })
    }

    fn closed_store(folder: &Path) {
        let store = Store::open(folder).unwrap();
        for part in 0..3 {
            for quad in quads(part * 10, 10) {
                store.insert(&quad).unwrap();
            }
            store.flush().unwrap();
        }
        for quad in quads(30, 6) {
            store.insert(&quad).unwrap();
        }
    }

    fn log_named(folder: &Path, is_it: impl Fn(&str) -> bool) -> PathBuf {
        let mut logs = logs(folder).unwrap();
        logs.retain(|path| is_it(path.file_name().unwrap().to_str().unwrap()));
        logs.retain(|path| fs::metadata(path).unwrap().len() > 0);
        logs.swap_remove(0)
    }

    /// Opens it as the scrub and as a start do.
    fn ends(folder: &Path) -> bool {
        let (sender, ended) = channel();
        let folder = folder.to_owned();
        std::thread::spawn(move || {
            let reading = open_read_only(&folder).map(drop);
            let copy = tempfile::tempdir().unwrap();
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
            }
            let writing = open(copy.path()).map(drop);
            let _ = sender.send((reading, writing));
        });
        ended.recv_timeout(Duration::from_secs(60)).is_ok()
    }

    /// Where each record of a log begins.
    fn records(bytes: &[u8]) -> Vec<usize> {
        let mut records = Vec::new();
        for (number, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
            let mut left = block;
            while let Some((header, behind)) = left.split_first_chunk::<HEADER_BYTES>() {
                records.push(number * BLOCK_BYTES + block.len() - left.len());
                let number_bytes = if RECYCLED_TYPES.contains(&header[6]) {
                    LOG_NUMBER_BYTES
                } else {
                    0
                };
                let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
                left = &behind[number_bytes + length..];
            }
        }
        records
    }

    /// Each bit of the lengths and types in turn, and a bit of each checksum and payload: whatever
    /// comes of it, it comes. Gives how many were found before RocksDB read them.
    fn every_record_comes_to_an_end(is_it: impl Fn(&str) -> bool) -> usize {
        let folder = tempfile::tempdir().unwrap();
        closed_store(folder.path());
        let log = log_named(folder.path(), is_it);
        let whole = fs::read(&log).unwrap();
        assert_eq!(endless_record(whole.as_slice()).unwrap(), None);
        let file = File::options().write(true).open(&log).unwrap();
        let records = records(&whole);
        assert!(records.len() > 5);
        let mut found = 0;
        for record in records {
            for (place, bit) in (32..HEADER_BYTES * 8)
                .map(|bit| (record + bit / 8, bit % 8))
                .chain([(record, 0), (record + HEADER_BYTES, 0)])
                .filter(|(place, _)| *place < whole.len())
            {
                let damaged = whole[place] ^ (1 << bit);
                file.write_all_at(&[damaged], place as u64).unwrap();
                assert!(ends(folder.path()), "byte {place}, bit {bit}");
                found += usize::from(check_logs(folder.path()).is_err());
                file.write_all_at(&whole[place..=place], place as u64)
                    .unwrap();
            }
        }
        found
    }

    #[test]
    fn a_manifest_comes_to_an_end_whatever_bit_changes() {
        let found = every_record_comes_to_an_end(|name| name.starts_with("MANIFEST-"));
        assert!(found > 0);
    }

    #[test]
    fn a_write_ahead_log_comes_to_an_end_whatever_bit_changes() {
        // These are recycled.
        let found = every_record_comes_to_an_end(|name| !name.starts_with("MANIFEST-"));
        assert_eq!(found, 0);
    }

    #[test]
    fn what_is_no_store_is_made_one_only_by_who_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        assert!(open_read_only(&path).is_err());
        assert!(open(&path).is_ok());
        open_read_only(&path).unwrap();
    }
}
