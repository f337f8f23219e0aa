//! Progress of commands that read a whole volume, on a terminal.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};

use crate::disk::{File, FileLock, FileSystem, OpenMode, SharedFileSystem};

/// A file system that shows how much was read through it.
#[derive(Debug)]
pub(super) struct Watched {
    inner: SharedFileSystem,
    bar: ProgressBar,
}

impl Watched {
    /// Shows how far reading the volume at `data` is, when it is read `passes` times. What cannot be
    /// looked at is not counted.
    pub(super) fn reading(inner: &SharedFileSystem, data: &Path, passes: u64) -> SharedFileSystem {
        let bar = super::output_progress(volume_bytes(inner, data) * passes);
        Arc::new(Self {
            inner: inner.clone(),
            bar,
        })
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Bytes of what is read of a volume: identity, log and snapshots.
fn volume_bytes(file_system: &SharedFileSystem, data: &Path) -> u64 {
    let mut paths = vec![data.join("superblock"), data.join("vote")];
    for folder in ["log", "snapshots"] {
        paths.extend(file_system.list(&data.join(folder)).unwrap_or_default());
    }
    paths
        .iter()
        .filter_map(|path| file_system.open(path, OpenMode::Read).ok())
        .filter_map(|file| file.length_bytes().ok())
        .sum()
}

/// Shows how far work of several steps is, by name.
pub(super) struct Steps {
    bar: ProgressBar,
}

impl Steps {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{msg}: {pos}/{len} {bar:40} {eta}") {
            bar.set_style(style);
        }
        Self { bar }
    }

    /// `step` is at `done` of `total`.
    pub(super) fn show(&self, step: &'static str, done: u64, total: u64) {
        if self.bar.message() != step {
            self.bar.set_message(step);
            self.bar.reset_eta();
        }
        self.bar.set_length(total);
        self.bar.set_position(done);
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl FileSystem for Watched {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        Ok(Box::new(WatchedFile {
            inner: self.inner.open(path, mode)?,
            bar: self.bar.clone(),
        }))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.inner.exists(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        self.inner.list(directory)
    }

    fn create_directory(&self, directory: &Path) -> io::Result<()> {
        self.inner.create_directory(directory)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.inner.sync_directory(directory)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn FileLock>>> {
        self.inner.lock(path)
    }

    fn reads_ahead(&self) -> bool {
        self.inner.reads_ahead()
    }

    fn available_bytes(&self, directory: &Path) -> io::Result<u64> {
        self.inner.available_bytes(directory)
    }
}

#[derive(Debug)]
struct WatchedFile {
    inner: Box<dyn File>,
    bar: ProgressBar,
}

impl File for WatchedFile {
    fn read_at(&self, buffer: &mut [u8], offset_bytes: u64) -> io::Result<usize> {
        let read = self.inner.read_at(buffer, offset_bytes)?;
        self.bar.inc(read as u64);
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset_bytes: u64) -> io::Result<()> {
        self.inner.write_at(bytes, offset_bytes)
    }

    fn write_at_early(&self, bytes: &[u8], offset_bytes: u64) -> io::Result<()> {
        self.inner.write_at_early(bytes, offset_bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }

    fn length_bytes(&self) -> io::Result<u64> {
        self.inner.length_bytes()
    }

    fn allocate(&self, length_bytes: u64) -> io::Result<()> {
        self.inner.allocate(length_bytes)
    }

    fn forget_cached(&self) -> io::Result<()> {
        self.inner.forget_cached()
    }
}
