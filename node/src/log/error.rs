//! Why a log cannot be used.

use std::io;
use std::path::{Path, PathBuf};

use super::contents::ContentsError;
use super::layout::{FormatVersion, LogIdentity, PayloadDigest};
use crate::position::LogPosition;

/// Why a log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("failed to {action} {path}", path = path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("the volume has made promises, but its log is gone")]
    Missing,
    #[error("{path} is damaged at byte {offset_bytes}: {what}", path = path.display())]
    Damaged {
        path: PathBuf,
        offset_bytes: u64,
        what: &'static str,
    },
    #[error("entry {entry} cannot be read from {path} at byte {offset_bytes}", path = path.display())]
    Unreadable {
        path: PathBuf,
        offset_bytes: u64,
        entry: LogPosition,
    },
    #[error("entry {entry} has the digest {expected}, but {found} was offered in its place")]
    OtherPayload {
        entry: LogPosition,
        expected: PayloadDigest,
        found: PayloadDigest,
    },
    #[error("segment {number} of the log is missing")]
    MissingSegment { number: u64 },
    #[error("{path} belongs to node {found:?}, not to {expected:?}", path = path.display())]
    WrongIdentity {
        path: PathBuf,
        found: LogIdentity,
        expected: LogIdentity,
    },
    #[error("{path} has format version {version}; this version knows {first} to {last}", path = path.display(), first = FormatVersion::Two as u32, last = FormatVersion::default() as u32)]
    UnknownFormat { path: PathBuf, version: u32 },
    #[error("the log contradicts itself")]
    Inconsistent(#[from] ContentsError),
    #[error("entry {position} has {bytes} bytes, more than an entry may have")]
    TooLarge { position: LogPosition, bytes: usize },
}

impl LogError {
    /// Whether nothing failed but finding room: what was asked for can be asked for again once there
    /// is. Never so for a sync, after which it is unknown what is durable.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        matches!(self, Self::Io { source, .. } if crate::disk::is_out_of_space(source))
    }

    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}
