//! Snapshots: one consistent state as one stream of checked chunks. `docs/formats/snapshot.md`
//! describes the format.

mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod read;
mod write;

use serde::Serialize;

use super::StateStatus;

pub(crate) use read::{load, verify};
pub use read::{read_snapshot_summary, verify_snapshot};
pub(crate) use write::write;

/// What a snapshot holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SnapshotSummary {
    /// Position, membership, digest and counts of the state that was written.
    pub status: StateStatus,
    /// The number of named graphs, empty ones included.
    pub graphs: u64,
    /// The number of remembered requests.
    pub requests: u64,
    /// The size of the whole snapshot; 0 when only the header was read.
    pub bytes: u64,
}
