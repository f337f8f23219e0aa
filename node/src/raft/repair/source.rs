//! What others get from here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use quadraft_protocol::v1;

use super::super::peers::{EnvelopeError, Peers};
use super::super::seen::SeenMember;
use super::PeerEntry;
use crate::log::LogStore;
use crate::position::LogPosition;
use crate::snapshots::{SnapshotError, SnapshotFile, Snapshots};

/// What this node gives to peers that cannot read an entry.
#[derive(Debug)]
pub struct RepairSource {
    log: LogStore,
    peers: Arc<Peers>,
    snapshots: Snapshots,
    is_open: AtomicBool,
}

impl RepairSource {
    pub(crate) fn new(log: LogStore, peers: Arc<Peers>, snapshots: Snapshots) -> Self {
        Self {
            log,
            peers,
            snapshots,
            is_open: AtomicBool::new(false),
        }
    }

    /// The newest snapshot, verified just now.
    pub(crate) fn snapshot(&self) -> Result<Option<SnapshotFile>, SnapshotError> {
        Ok(self.snapshots.newest()?.0)
    }

    /// Lets entries be given. Before, every answer would tell of this start, and the others could not
    /// say any more whether they knew of it from another process.
    pub(crate) fn open(&self) {
        self.is_open.store(true, Ordering::Release);
    }

    pub(crate) fn check(&self, envelope: Option<&v1::Envelope>) -> Result<(), EnvelopeError> {
        if !self.is_open.load(Ordering::Acquire) {
            return Err(EnvelopeError::Starting);
        }
        self.peers.check(envelope)
    }

    pub(crate) fn responder(&self) -> v1::Responder {
        self.peers.responder()
    }

    /// What this node remembers of a member of its cluster; an error for another cluster.
    pub(crate) fn seen(&self, request: &v1::SeenRequest) -> Result<Option<v1::SeenOf>, String> {
        let ours = self.peers.identity().cluster_uuid;
        if request.cluster_uuid != ours.to_string() {
            return Err(format!(
                "the call is from cluster {}, this node belongs to {ours}",
                request.cluster_uuid
            ));
        }
        let seen = self.peers.seen_of(request.node_id);
        Ok(seen.as_ref().map(SeenMember::message))
    }

    /// What this node says of an entry that a peer asks for by name.
    pub(crate) fn entry(&self, name: LogPosition) -> PeerEntry {
        let purged = self.log.state().purged;
        if purged.is_some_and(|purged| name.index <= purged.index) {
            return PeerEntry::Purged;
        }
        match self.log.read(name.index, name.index.saturating_add(1), 1) {
            Ok(entries) => entries
                .into_iter()
                .find(|(position, _)| *position == name)
                .map_or(PeerEntry::NotHeld, |(_, payload)| PeerEntry::Held(payload)),
            // Whatever the reason: not to have it is another answer.
            Err(_) if self.log.position(name.index) == Some(name) => PeerEntry::Unreadable,
            Err(_) => PeerEntry::NotHeld,
        }
    }
}
