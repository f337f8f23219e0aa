//! Progress of whatever reads a whole volume.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};

use crate::disk::{File, FileLock, FileSystem, OpenMode, SharedFileSystem};

type Count = Arc<dyn Fn(u64) + Send + Sync>;

/// A file system that counts how many bytes are read through it.
pub(super) struct Watched {
    inner: SharedFileSystem,
    count: Count,
    bar: Option<ProgressBar>,
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Watched").finish_non_exhaustive()
    }
}

impl Watched {
    /// Shows on a terminal how far reading the volume at `data` is, when it is read `passes` times. What
    /// cannot be looked at is not counted.
    pub(super) fn reading(inner: &SharedFileSystem, data: &Path, passes: u64) -> SharedFileSystem {
        let bar = super::output_progress(volume_bytes(inner, data) * passes);
        let shown = bar.clone();
        Arc::new(Self {
            inner: inner.clone(),
            count: Arc::new(move |bytes| shown.inc(bytes)),
            bar: Some(bar),
        })
    }

    /// Tells `count` of the bytes of each read.
    pub(super) fn counting(
        inner: &SharedFileSystem,
        count: impl Fn(u64) + Send + Sync + 'static,
    ) -> SharedFileSystem {
        Arc::new(Self {
            inner: inner.clone(),
            count: Arc::new(count),
            bar: None,
        })
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Bytes of what is read of a volume: identity, log and snapshots.
pub(super) fn volume_bytes(file_system: &SharedFileSystem, data: &Path) -> u64 {
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
            count: self.count.clone(),
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

struct WatchedFile {
    inner: Box<dyn File>,
    count: Count,
}

impl std::fmt::Debug for WatchedFile {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(formatter)
    }
}

impl File for WatchedFile {
    fn read_at(&self, buffer: &mut [u8], offset_bytes: u64) -> io::Result<usize> {
        let read = self.inner.read_at(buffer, offset_bytes)?;
        (self.count)(read as u64);
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
