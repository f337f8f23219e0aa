//! The file system of the machine.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Advice, FallocateFlags, FlockOperation, fadvise, fallocate, flock, statvfs};
use rustix::io::{Errno, ReadWriteFlags, pwritev2};

/// RWF_DONTCACHE of pwritev2(2): writing back begins with the call instead of with the next sync,
/// and pages that were not cached before do not stay. Linux 6.14 and later, on file systems that
/// take part; the library has no name for it yet.
const BEGIN_WRITEBACK: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);

use super::{File, FileLock, FileSystem, OpenMode};

/// The file system of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFileSystem;

#[derive(Debug)]
struct RealFile {
    file: fs::File,
    /// Whether [`BEGIN_WRITEBACK`] is known to be refused here.
    cannot_begin: AtomicBool,
}

impl RealFile {
    /// Writes a part, asking that it be written back at once; `None` when that cannot be asked.
    fn begin_writing(&self, bytes: &[u8], offset_bytes: u64) -> io::Result<Option<usize>> {
        if self.cannot_begin.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let parts = [io::IoSlice::new(bytes)];
        match pwritev2(&self.file, &parts, offset_bytes, BEGIN_WRITEBACK) {
            Ok(0) if !bytes.is_empty() => Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => Ok(Some(written)),
            Err(Errno::INTR) => Ok(Some(0)),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                self.cannot_begin.store(true, Ordering::Relaxed);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl FileSystem for RealFileSystem {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::ReadWrite => {
                options.write(true);
            }
            OpenMode::CreateNew => {
                options.write(true).create_new(true);
            }
        }
        Ok(Box::new(RealFile {
            file: options.open(path)?,
            cannot_begin: AtomicBool::new(false),
        }))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let mut paths = fs::read_dir(directory)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<Vec<_>>>()?;
        paths.sort();
        Ok(paths)
    }

    fn create_directory(&self, directory: &Path) -> io::Result<()> {
        match fs::create_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        fs::File::open(directory)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn FileLock>>> {
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Box::new(RealLock(file)))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn reads_ahead(&self) -> bool {
        true
    }

    fn available_bytes(&self, directory: &Path) -> io::Result<u64> {
        let space = statvfs(directory)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }
}

/// Unlocks when the file is closed.
#[derive(Debug)]
struct RealLock(#[expect(dead_code, reason = "held open")] fs::File);

impl FileLock for RealLock {}

impl File for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset_bytes: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self
                .file
                .read_at(&mut buffer[filled..], offset_bytes + filled as u64)
            {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, bytes: &[u8], offset_bytes: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset_bytes)
    }

    fn write_at_early(&self, bytes: &[u8], offset_bytes: u64) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            match self.begin_writing(&bytes[done..], offset_bytes + done as u64)? {
                Some(written) => done += written,
                None => return self.write_at(&bytes[done..], offset_bytes + done as u64),
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        // fdatasync: with the size and every block that is needed to read the data back.
        self.file.sync_data()
    }

    fn length_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn allocate(&self, length_bytes: u64) -> io::Result<()> {
        match fallocate(&self.file, FallocateFlags::empty(), 0, length_bytes) {
            Ok(()) => Ok(()),
            // Some file systems cannot reserve space; the length is still what the format needs.
            Err(rustix::io::Errno::OPNOTSUPP) => self.file.set_len(length_bytes),
            Err(error) => Err(error.into()),
        }
    }

    fn forget_cached(&self) -> io::Result<()> {
        Ok(fadvise(&self.file, 0, None, Advice::DontNeed)?)
    }
}
