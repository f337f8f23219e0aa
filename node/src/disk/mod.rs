//! The file system as the node sees it.
//!
//! Everything that the node keeps as a promise (superblock, vote, log) and every snapshot touches
//! the disk through these traits, so that tests can put a faulty or recording disk in their place.
//! RocksDB has its own way to the disk; what it holds is derived and may always be rebuilt.

mod ballast;
mod durable;
mod lock;
mod real;
pub mod simulated;
mod stream;
mod throttle;
pub(crate) mod twin;

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use ballast::Ballast;
pub use durable::{create_directories, keep_copy, quarantine, remove_durably, write_durably};
pub use lock::{LockError, VolumeLock};
pub use real::RealFileSystem;
pub use stream::FileStream;
pub use throttle::{Interrupted, Throttle, ThrottledStream, Unthrottled};
pub use twin::{Twin, TwinError, TwinRead};

/// What a disk writes as a whole or not at all, and gives or does not give as a whole.
pub const SECTOR_BYTES: usize = 512;

/// A shared file system.
pub type SharedFileSystem = Arc<dyn FileSystem>;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Must exist; writing fails.
    Read,
    /// Must exist.
    ReadWrite,
    /// Must not exist.
    CreateNew,
}

/// Operations on names. Renames and removals are durable only after [`FileSystem::sync_directory`].
pub trait FileSystem: Debug + Send + Sync + 'static {
    /// Opens a file.
    ///
    /// # Errors
    /// Those of the operating system.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>>;

    /// Whether a name exists.
    ///
    /// # Errors
    /// Those of the operating system.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Names in a folder, sorted.
    ///
    /// # Errors
    /// Those of the operating system.
    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>>;

    /// Makes one folder in a folder that exists; one that is there already is no error. Its name is
    /// durable only after [`FileSystem::sync_directory`] of the folder above it: see
    /// [`create_directories`].
    ///
    /// # Errors
    /// Those of the operating system.
    fn create_directory(&self, directory: &Path) -> io::Result<()>;

    /// Renames a file or folder, replacing a file.
    ///
    /// # Errors
    /// Those of the operating system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// Those of the operating system.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// Those of the operating system. A failure is never retried: the process must stop.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;

    /// Locks the file at `path`, which is made when it is absent, until the guard is dropped or the
    /// process ends, however it ends. `None` when another process, or another guard, holds it.
    ///
    /// # Errors
    /// Those of the operating system.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn FileLock>>>;

    /// Whether files are read ahead by a second thread where that is faster. A simulated disk decides
    /// by the order of what is asked of it.
    fn reads_ahead(&self) -> bool;

    /// Bytes that can still be written in the file system that holds `directory`.
    ///
    /// # Errors
    /// Those of the operating system.
    fn available_bytes(&self, directory: &Path) -> io::Result<u64>;
}

/// A lock that is held as long as this exists.
pub trait FileLock: Debug + Send + Sync {}

/// Operations on the content of one open file.
pub trait File: Debug + Send + Sync {
    /// Reads up to `buffer.len()` bytes at `offset_bytes`; fewer only at the end of the file.
    ///
    /// # Errors
    /// Those of the operating system.
    fn read_at(&self, buffer: &mut [u8], offset_bytes: u64) -> io::Result<usize>;

    /// Writes all bytes at `offset_bytes`.
    ///
    /// # Errors
    /// Those of the operating system.
    fn write_at(&self, bytes: &[u8], offset_bytes: u64) -> io::Result<()>;

    /// As [`Self::write_at`], and the disk may begin at once: the caller has more to do before it
    /// syncs. This promises nothing about what is durable.
    ///
    /// # Errors
    /// Those of the operating system.
    fn write_at_early(&self, bytes: &[u8], offset_bytes: u64) -> io::Result<()> {
        self.write_at(bytes, offset_bytes)
    }

    /// Makes everything written durable, with the length of the file.
    ///
    /// # Errors
    /// Those of the operating system. A failure is never retried: the process must stop
    /// (Rebello et al., "Can Applications Recover from fsync Failures?", ATC 2020).
    fn sync(&self) -> io::Result<()>;

    /// Length in bytes.
    ///
    /// # Errors
    /// Those of the operating system.
    fn length_bytes(&self) -> io::Result<u64>;

    /// Extends the file to `length_bytes`, with space reserved on the disk; new bytes read as zero.
    ///
    /// # Errors
    /// Those of the operating system, among them a full disk.
    fn allocate(&self, length_bytes: u64) -> io::Result<()>;

    /// Asks that the next reads come from the disk and not from the page cache: after a failed
    /// fsync the cache shows what the disk may not have (Rebello et al., ATC 2020). Only what is
    /// synced can be let go; the rest stays.
    ///
    /// # Errors
    /// Those of the operating system.
    fn forget_cached(&self) -> io::Result<()>;
}

/// Whether an operation failed for want of space: the disk is full, or a quota is used up.
#[must_use]
pub fn is_out_of_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Whether the operating system refused an operation for a reason that says nothing of what is on the
/// disk: rights, a file system that is mounted to be read, too many open files, too little memory.
#[must_use]
pub fn is_denied(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errors = [
        Errno::ACCESS,
        Errno::PERM,
        Errno::ROFS,
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
    ];
    let code = error.raw_os_error();
    errors
        .iter()
        .any(|known| Some(known.raw_os_error()) == code)
}

/// The failure of a sync, whatever it was: what is durable is unknown, so it is never taken for one
/// that may be tried again.
pub(crate) fn failed_sync(error: io::Error) -> io::Error {
    io::Error::other(error)
}

/// Reads exactly `length_bytes` at `offset_bytes`.
///
/// # Errors
/// `UnexpectedEof` when the file is shorter.
pub fn read_exact_at(
    file: &dyn File,
    offset_bytes: u64,
    length_bytes: usize,
) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; length_bytes];
    let read = file.read_at(&mut buffer, offset_bytes)?;
    if read < length_bytes {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("{read} of {length_bytes} bytes at offset {offset_bytes}"),
        ));
    }
    Ok(buffer)
}

/// Fills `buffer` with what stands at `offset_bytes`; a sector that the disk does not give, or that
/// lies behind the end of the file, becomes zeros. Returns the places of such sectors in `buffer`.
/// Both the offset and the beginning of the buffer are those of a sector.
pub(crate) fn read_what_can_be_read(
    file: &dyn File,
    buffer: &mut [u8],
    offset_bytes: u64,
) -> Vec<usize> {
    let is_given =
        |part: &mut [u8], at: u64| file.read_at(part, at).is_ok_and(|read| read == part.len());
    if is_given(buffer, offset_bytes) {
        return Vec::new();
    }
    let mut unreadable = Vec::new();
    for (number, sector) in buffer.chunks_mut(SECTOR_BYTES).enumerate() {
        let place = number * SECTOR_BYTES;
        if !is_given(sector, offset_bytes + place as u64) {
            sector.fill(0);
            unreadable.push(place);
        }
    }
    unreadable
}
