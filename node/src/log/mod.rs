//! The Raft log on disk.
//!
//! Bytes and meaning are kept apart: [`format`] knows how segments and records are laid out,
//! [`scan`] reads a segment and says exactly where and how it stops being whole, [`open`] decides
//! what that means for the log, [`files`] appends and removes, and [`store`] puts one ordered
//! queue in front, through which votes, appends and everything else go to the disk.

mod contents;
mod files;
mod format;
mod open;
mod scan;
mod store;

pub use contents::{ContentsError, EntryLocation, LogContents};
pub use files::{LogFiles, LogOptions, SegmentReaders};
pub use format::{LogIdentity, RecordKind};
pub use open::{LogError, OpenedLog, TornTail, inspect_log, open_log};
pub use store::{Completion, LogState, LogStore, StoreFailure};
