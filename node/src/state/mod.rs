//! The RDF store, its applied position and its digest.
//!
//! [`State`] keeps user quads and, in the same transactions, what the node must know about them:
//! the position of the last applied log entry, the membership, an incremental digest and the ids
//! of recent requests. The log is the source of truth: the store may be dropped and rebuilt from
//! a snapshot and the log at any time.

mod apply;
mod codec;
mod command;
mod damage;
mod digest;
mod effects;
mod error;
mod export;
mod files;
mod folder;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod indexes;
mod normalise;
mod opening;
mod records;
mod request;
mod scrub;
mod snapshot;
mod store;
mod view;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use crate::position::LogPosition;
pub use apply::{Apply, Outcome};
pub use codec::DecodeError;
pub use digest::{Digest, ParseDigestError};
pub use effects::{Command, Effects, RESERVED_GRAPH};
pub use error::StateError;
pub use export::WrittenQuads;
pub use normalise::normalise_quad;
pub use request::{
    MAXIMUM_REQUESTS_AN_ENTRY, REMEMBERED_REQUESTS, RequestId, RequestKey, RequestOutcome,
};
pub use scrub::{StoreScrub, StoreScrubError};
pub use snapshot::{SnapshotSummary, read_snapshot_summary, verify_snapshot};
pub use store::{State, StateStatus};
pub use view::{Reading, View};

pub(crate) use apply::named;
pub(crate) use damage::Damage;
pub(crate) use effects::is_reserved_node;
pub(crate) use folder::copy_store;
