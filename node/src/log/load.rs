//! Reading the segments of a log one after another, the next while the one before is looked at.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{channel, sync_channel};
use std::thread;

use super::error::LogError;
use super::layout::LogIdentity;
use super::open::{LoadedSegment, load_segment};
use crate::disk::{OpenMode, SharedFileSystem};

/// How the files of a log are read.
#[derive(Clone, Copy)]
pub(super) struct Loading<'a> {
    pub(super) file_system: &'a SharedFileSystem,
    pub(super) folder: &'a Path,
    pub(super) identity: &'a LogIdentity,
    pub(super) mode: OpenMode,
}

impl Loading<'_> {
    fn load(&self, path: PathBuf, buffer: Vec<u8>) -> Result<LoadedSegment, LogError> {
        load_segment(self.file_system, path, self.identity, self.mode, buffer)
    }

    /// Hands the segments at `paths` to `take_in`, in order. It gives back the memory of a segment
    /// that it needs no more, for one that follows: two are held at a time.
    ///
    /// # Errors
    /// The first of reading and of `take_in`, in the order of the segments.
    pub(super) fn each(
        self,
        paths: Vec<PathBuf>,
        mut take_in: impl FnMut(LoadedSegment) -> Result<Vec<u8>, LogError>,
    ) -> Result<(), LogError> {
        if paths.len() < 2 || !self.file_system.reads_ahead() {
            let mut buffer = Vec::new();
            for path in paths {
                buffer = take_in(self.load(path, buffer)?)?;
            }
            return Ok(());
        }
        // Without room in the channel the thread waits until the segment it has is wanted.
        let (loaded_sender, loaded) = sync_channel(0);
        let (buffer_sender, buffers) = channel();
        thread::scope(|scope| {
            thread::Builder::new()
                .name("log-read".to_owned())
                .spawn_scoped(scope, move || {
                    for path in paths {
                        let buffer = buffers.try_recv().unwrap_or_default();
                        let segment = self.load(path, buffer);
                        let failed = segment.is_err();
                        if loaded_sender.send(segment).is_err() || failed {
                            return;
                        }
                    }
                })
                .map_err(|source| LogError::io("read", self.folder, source))?;
            for segment in loaded {
                // The thread may have ended: then nobody needs it.
                let _ = buffer_sender.send(take_in(segment?)?);
            }
            Ok(())
        })
    }
}
