//! The simulated disk does what it says, and no more.

#![allow(clippy::unwrap_used)]

mod chances;
mod contents;
mod damages;
mod failures;
mod likeness;
mod names;
mod promises;
mod recordings;
mod speed;

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use super::super::{File, FileSystem, OpenMode};
use super::*;

/// A file that most tests use.
const FILE: &str = "/data/file";

fn path() -> &'static Path {
    Path::new(FILE)
}

/// A disk with one file, all durable.
fn disk_with(bytes: &[u8]) -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    disk.write(path(), bytes).unwrap();
    disk
}

fn open(disk: &SimulatedDisk) -> Box<dyn File> {
    disk.open(path(), OpenMode::ReadWrite).unwrap()
}

/// Every content that a crash may leave in the file; `None` when there is no file.
fn outcomes(disk: &SimulatedDisk) -> BTreeSet<Option<Vec<u8>>> {
    let mut found = BTreeSet::new();
    let coverage = Exhaustive::every(100_000, |choice| {
        found.insert(disk.crash(choice).read(path()).ok());
    });
    assert!(coverage.complete, "{coverage:?}");
    found
}

/// The number of the operating system in an error.
fn number<T: std::fmt::Debug>(result: io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

/// Sectors of one byte each.
fn sectors_of(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|&byte| [byte; 512]).collect()
}
