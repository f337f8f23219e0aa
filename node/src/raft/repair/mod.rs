//! Repair of entries that cannot be read, from peers, while the node runs.
//!
//! An entry that is known by name only is asked for by that name. Raft gives one name to one entry
//! for ever (the log matching property: Ongaro and Ousterhout, "In Search of an Understandable
//! Consensus Algorithm", 2014, section 5.3), so whoever holds it holds the same bytes, whether it is
//! committed or not; they are compared with the digest that was stored apart from the payload, and
//! written where they had been (Alagappan et al., "Protocol-Aware Recovery for Consensus-Based
//! Storage", FAST 2018). Raft itself knows nothing of this: to it the entry was there all the time,
//! and who reads it waits.

mod figures;
mod members;
mod repairer;
mod round;
mod snapshot;
mod source;
mod stand_aside;

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;

use super::seen::SeenMember;
use crate::position::LogPosition;
use crate::snapshots::{SnapshotFile, Snapshots};

pub(crate) use members::MemberEntries;
pub(crate) use repairer::{RepairError, Repairer};
pub(crate) use snapshot::settle;
pub use source::RepairSource;
pub(crate) use stand_aside::start_standing_aside;

/// What a peer says of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerEntry {
    Held(Bytes),
    /// It has the entry and cannot read it either.
    Unreadable,
    NotHeld,
    /// It has the entry in a snapshot, and not in its log any more.
    Purged,
}

/// What a peer answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fetched {
    /// In the order of the names.
    pub(crate) entries: Vec<PeerEntry>,
    /// Length of request and answer, without what carries them.
    pub(crate) message_bytes: u64,
}

/// Where entries can be had from, and what is known of this node there.
#[async_trait]
pub(crate) trait PeerEntries: Debug + Send + Sync + 'static {
    /// The other members that are known.
    fn peers(&self) -> Vec<u64>;

    /// What `peer` says of each name, in their order.
    async fn fetch(&self, peer: u64, names: &[LogPosition]) -> Result<Fetched, String>;

    /// What `peer` remembers of this node.
    async fn seen(&self, peer: u64) -> Result<Option<SeenMember>, String>;

    /// The snapshot of `peer`, which must hold `entry`, verified and durable in `snapshots`.
    async fn fetch_snapshot(
        &self,
        peer: u64,
        entry: LogPosition,
        snapshots: &Snapshots,
    ) -> Result<SnapshotFile, String>;
}
