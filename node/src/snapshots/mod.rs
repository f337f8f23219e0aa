//! Snapshot files: made here or received from the leader, kept until a newer one is durable.
//!
//! A snapshot stands in `snapshots/TERM-INDEX.snapshot` and its content is the state module's
//! format. It is written beside its place, fsynced and renamed, so that a file of that name is
//! whole; its checksums are verified whenever it is put to use.

mod files;
mod growth;
mod keeper;
mod receive;

pub use files::SnapshotError;
pub(crate) use files::{SnapshotFile, Snapshots};
pub(crate) use keeper::{SnapshotKeeper, SnapshotScrub, SnapshotScrubError};
pub(crate) use receive::receive_snapshot;
