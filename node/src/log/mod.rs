//! The Raft log on disk.
//!
//! Bytes and meaning are kept apart: [`layout`] knows how segments are laid out, [`image`] holds
//! what could be read of one, [`identifiers`] and [`scan`] say exactly which records it has, which
//! of them cannot be read, and how it ends; [`open`] decides what that means for the log and
//! [`restore`] makes whole what can be. [`append`] makes bytes of a batch, [`files`] writes and
//! removes, [`segment`] reads and repairs, and [`store`] puts one ordered queue in front, through
//! which votes, appends and everything else go to the disk. [`scrub`] reads what is there again
//! while all that goes on.

mod append;
mod contents;
mod error;
mod files;
mod identifiers;
mod image;
mod layout;
mod load;
mod mend;
mod names;
mod open;
mod places;
mod restore;
mod scan;
mod scrub;
mod segment;
mod store;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;

pub use append::NewRecord;
pub use contents::{ContentsError, EntryLocation, LogContents};
pub use error::LogError;
pub use files::{LogFiles, LogOptions};
pub use layout::{LogIdentity, PayloadDigest, RecordKind};
pub use names::{BatchSummary, SegmentNames, read_segment_names};
pub use open::{InspectedLog, LogFindings, OpenedLog, TornTail, inspect_log, open_log};
pub(crate) use scrub::{LogScrubError, Lost, ScrubbedChain};
pub use segment::SegmentReaders;
pub use store::{Completion, LogState, LogStore, StoreFailure};
