//! Reading that gives way to others.

use std::io::{self, Read};

use super::FileStream;

/// The reading was told to end before it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reading was interrupted")]
pub struct Interrupted;

/// Told of everything that is about to be read; may wait before it lets the reading go on.
pub trait Throttle {
    /// Notes that so many bytes are read next.
    ///
    /// # Errors
    /// [`Interrupted`] when nothing more is to be read.
    fn note(&mut self, bytes: u64) -> Result<(), Interrupted>;
}

/// Reads as fast as the disk gives: for second looks, which are rare, and for tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unthrottled;

impl Throttle for Unthrottled {
    fn note(&mut self, _bytes: u64) -> Result<(), Interrupted> {
        Ok(())
    }
}

/// A file that is read from front to back, past the page cache, at the pace of a throttle.
pub struct ThrottledStream<'a> {
    stream: FileStream,
    throttle: &'a mut dyn Throttle,
    interrupted: bool,
}

impl std::fmt::Debug for ThrottledStream<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ThrottledStream")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

impl<'a> ThrottledStream<'a> {
    /// A stream that begins where `stream` stands.
    pub fn new(stream: FileStream, throttle: &'a mut dyn Throttle) -> Self {
        Self {
            stream,
            throttle,
            interrupted: false,
        }
    }

    /// Whether an error of this stream says nothing about the file.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        self.interrupted
    }
}

impl Read for ThrottledStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Err(interrupted) = self.throttle.note(buffer.len() as u64) {
            self.interrupted = true;
            // Not `ErrorKind::Interrupted`, after which readers try again.
            return Err(io::Error::other(interrupted));
        }
        self.stream.file().forget_cached()?;
        self.stream.read(buffer)
    }
}
