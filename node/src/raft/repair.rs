//! Repair of entries that cannot be read, from peers, while the node runs.
//!
//! An entry that is known by name only is asked for by that name. Raft gives one name to one entry
//! for ever (the log matching property: Ongaro and Ousterhout, "In Search of an Understandable
//! Consensus Algorithm", 2014, section 5.3), so whoever holds it holds the same bytes, whether it is
//! committed or not; they are compared with the digest that was stored apart from the payload, and
//! written where they had been (Alagappan et al., "Protocol-Aware Recovery for Consensus-Based
//! Storage", FAST 2018). Raft itself knows nothing of this: to it the entry was there all the time,
//! and who reads it waits.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use prometheus_client::registry::Registry;
use prost::Message as _;
use quadraft_protocol::v1::repair_client::RepairClient;
use quadraft_protocol::{NodeId, connect_peer, v1};
use tokio::sync::{Notify, watch};
use tonic::transport::Channel;

use super::codec::{decode_stored_membership, position_message};
use super::network::{CONNECT_TIMEOUT, MAXIMUM_MESSAGE_BYTES};
use super::peers::{EnvelopeError, Peers};
use super::receive::receive_snapshot;
use super::repair_figures::RepairFigures;
use super::repair_round::{Elsewhere, Round};
use super::seen::SeenMember;
use super::snapshots::{SnapshotError, SnapshotFile, Snapshots};
use crate::log::{LogError, LogStore};
use crate::position::LogPosition;
use crate::state::State;

/// Names asked for in one call.
const MAXIMUM_NAMES: usize = 64;
const FETCH_DEADLINE: Duration = Duration::from_secs(20);
/// When no peer has what is missing, they are asked again after this: one may have been down.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

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

/// Repairs what cannot be read. Readers wait for it.
#[derive(Debug)]
pub(crate) struct Repairer {
    log: LogStore,
    source: Arc<dyn PeerEntries>,
    wanted: Notify,
    rounds: watch::Sender<u64>,
    repaired: Mutex<Vec<LogPosition>>,
    started: AtomicBool,
    /// A reason why repair cannot go on, once there is one: a write of it failed.
    failure: Mutex<Option<String>>,
    figures: RepairFigures,
    /// Entries that no peer gave in the last round.
    elsewhere: Mutex<BTreeMap<LogPosition, Elsewhere>>,
}

/// Why an entry will not be repaired.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RepairError {
    #[error("entry {entry} cannot be repaired: {reason}")]
    Failed { entry: LogPosition, reason: String },
    #[error("the node is stopping")]
    Stopped,
}

impl Repairer {
    pub(crate) fn new(log: LogStore, source: Arc<dyn PeerEntries>) -> Arc<Self> {
        Arc::new(Self {
            log,
            source,
            wanted: Notify::new(),
            rounds: watch::channel(0).0,
            repaired: Mutex::default(),
            started: AtomicBool::new(false),
            failure: Mutex::default(),
            figures: RepairFigures::default(),
            elsewhere: Mutex::default(),
        })
    }

    /// Repairs whatever is found to be unreadable, until the last other holder is gone. Once is enough.
    pub(crate) fn start(self: &Arc<Self>) {
        if self.started.swap(true, Ordering::AcqRel) {
            return;
        }
        let weak = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some(this) = weak.upgrade() {
                // Nobody else holds it: nobody can ever want anything again.
                if Arc::strong_count(&this) == 1 {
                    return;
                }
                let progress = if this.log.unreadable().is_empty() {
                    false
                } else {
                    this.round().await
                };
                this.rounds.send_modify(|rounds| *rounds += 1);
                if !progress {
                    let _ = tokio::time::timeout(RETRY_PAUSE, this.wanted.notified()).await;
                }
            }
        });
    }

    pub(crate) fn register_metrics(&self, registry: &mut Registry) {
        self.figures.register(registry);
    }

    /// Log ids that were repaired since the start, in order of their repair.
    pub(crate) fn repaired(&self) -> Vec<LogPosition> {
        self.repaired
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether there is anybody to ask.
    pub(crate) fn has_peers(&self) -> bool {
        !self.source.peers().is_empty()
    }

    /// Waits until an entry, which a reader found to be unreadable, can be read.
    pub(crate) async fn wait_for(&self, entry: LogPosition) -> Result<(), RepairError> {
        self.log.mark_unreadable(entry);
        let mut rounds = self.rounds.subscribe();
        tracing::warn!(%entry, "an entry cannot be read; it is fetched from a peer");
        // Once: who is not satisfied waits for the next round, at its own pace.
        self.wanted.notify_one();
        loop {
            if !self.log.unreadable().contains(&entry) {
                return Ok(());
            }
            if let Some(reason) = self.failure() {
                return Err(RepairError::Failed { entry, reason });
            }
            if let Some(Elsewhere::InSnapshotOf(_)) = self.elsewhere().get(&entry) {
                // The running core takes in no snapshot that its leader does not send.
                let reason = "the others have it in snapshots only, from which this node takes it \
                              at its next start";
                return Err(RepairError::Failed {
                    entry,
                    reason: reason.to_owned(),
                });
            }
            rounds.changed().await.map_err(|_| RepairError::Stopped)?;
        }
    }

    /// Before the Raft core starts, which may read any entry: waits until all can be read, or some
    /// have to be had from a snapshot. Then it gives the last of those, and the peer that has it in
    /// a snapshot; no peer is needed for what is `applied` here.
    pub(crate) async fn settle(
        &self,
        applied: Option<LogPosition>,
    ) -> Result<Option<(LogPosition, Option<u64>)>, RepairError> {
        let mut rounds = self.rounds.subscribe();
        loop {
            let missing = self.log.unreadable();
            let Some(entry) = missing.first().copied() else {
                return Ok(None);
            };
            if let Some(reason) = self.failure() {
                return Err(RepairError::Failed { entry, reason });
            }
            let elsewhere = self.elsewhere();
            let is_applied =
                |entry: &LogPosition| Some(entry.index) <= applied.map(|applied| applied.index);
            let from_a_snapshot =
                missing
                    .into_iter()
                    .rev()
                    .find_map(|entry| match elsewhere.get(&entry)? {
                        _ if is_applied(&entry) => Some((entry, None)),
                        Elsewhere::InSnapshotOf(peer) => Some((entry, Some(*peer))),
                        Elsewhere::Nowhere => None,
                    });
            if from_a_snapshot.is_some() {
                return Ok(from_a_snapshot);
            }
            rounds.changed().await.map_err(|_| RepairError::Stopped)?;
        }
    }

    /// Waits until all peers were asked once more.
    pub(crate) async fn next_round(&self) -> Result<(), RepairError> {
        let mut rounds = self.rounds.subscribe();
        rounds.changed().await.map_err(|_| RepairError::Stopped)
    }

    /// See [`PeerEntries::fetch_snapshot`].
    pub(crate) async fn fetch_snapshot(
        &self,
        peer: u64,
        entry: LogPosition,
        snapshots: &Snapshots,
    ) -> Result<SnapshotFile, String> {
        self.source.fetch_snapshot(peer, entry, snapshots).await
    }

    fn elsewhere(&self) -> BTreeMap<LogPosition, Elsewhere> {
        self.elsewhere
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn failure(&self) -> Option<String> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Asks every peer once for what is missing; tells whether anything was repaired.
    async fn round(&self) -> bool {
        let mut progress = false;
        let mut round = Round::default();
        let peers = self.source.peers();
        for peer in peers.iter().copied() {
            let missing = self.log.unreadable();
            self.figures.note_unreadable(&missing);
            for names in missing.chunks(MAXIMUM_NAMES) {
                match self.source.fetch(peer, names).await {
                    Ok(fetched) => {
                        round.note(peer, names, &fetched.entries);
                        self.figures.count_message_bytes(fetched.message_bytes);
                        progress |= self.take_in(peer, names, fetched.entries).await;
                    }
                    Err(error) => {
                        tracing::info!(peer = %NodeId(peer), %error, "a peer gives no entries");
                        break;
                    }
                }
            }
        }
        *self
            .elsewhere
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = round.elsewhere(peers.len());
        progress
    }

    async fn take_in(&self, peer: u64, names: &[LogPosition], entries: Vec<PeerEntry>) -> bool {
        let mut progress = false;
        for (name, entry) in names.iter().copied().zip(entries) {
            let PeerEntry::Held(payload) = entry else {
                continue;
            };
            let log = self.log.clone();
            let written = tokio::task::spawn_blocking(move || log.repair(name, &payload)).await;
            match written {
                Ok(Ok(())) => {
                    self.figures.note_repaired(name);
                    tracing::info!(entry = %name, peer = %NodeId(peer), "an entry was repaired from a peer");
                    self.repaired
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(name);
                    progress = true;
                }
                Ok(Err(error @ LogError::OtherPayload { .. })) => {
                    tracing::error!(peer = %NodeId(peer), %error, "a peer's entry is another one");
                }
                Ok(Err(error)) => {
                    tracing::error!(entry = %name, %error, "an entry cannot be written anew");
                    *self.failure.lock().unwrap_or_else(PoisonError::into_inner) =
                        Some(error.to_string());
                }
                Err(error) => tracing::error!(%error, "a repair broke off"),
            }
        }
        progress
    }
}

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
            Err(LogError::Unreadable { entry, .. }) if entry == name => PeerEntry::Unreadable,
            Err(_) => PeerEntry::NotHeld,
        }
    }
}

/// Entries from the other members that the state knows, by gRPC.
#[derive(Debug)]
pub(crate) struct MemberEntries {
    pub(crate) peers: Arc<Peers>,
    pub(crate) state: Arc<State>,
    /// What was known of the members when the volume was opened: the store may have been lost.
    pub(crate) membership: Option<Vec<u8>>,
}

impl MemberEntries {
    fn client(&self, peer: u64) -> Result<RepairClient<Channel>, String> {
        let address = self
            .addresses()
            .remove(&peer)
            .ok_or_else(|| "it is not a member any more".to_owned())?;
        let channel = connect_peer(&address, CONNECT_TIMEOUT).map_err(|error| error.to_string())?;
        Ok(RepairClient::new(channel).max_decoding_message_size(MAXIMUM_MESSAGE_BYTES))
    }

    fn addresses(&self) -> BTreeMap<u64, String> {
        let applied = self.state.membership();
        let membership = applied.as_deref().or(self.membership.as_deref());
        other_members(membership, self.peers.identity().node_id)
    }
}

/// The peer addresses of all members but this one, as an applied membership has them.
pub(crate) fn other_members(membership: Option<&[u8]>, own: NodeId) -> BTreeMap<u64, String> {
    let Some(Ok(stored)) = membership.map(decode_stored_membership) else {
        return BTreeMap::new();
    };
    stored
        .membership()
        .nodes()
        .filter(|(node_id, _)| **node_id != own.0)
        .map(|(node_id, addresses)| (*node_id, addresses.peer.clone()))
        .collect()
}

#[async_trait]
impl PeerEntries for MemberEntries {
    fn peers(&self) -> Vec<u64> {
        self.addresses().into_keys().collect()
    }

    async fn fetch(&self, peer: u64, names: &[LogPosition]) -> Result<Fetched, String> {
        let mut client = self.client(peer)?;
        let message = v1::FetchEntriesRequest {
            envelope: Some(self.peers.envelope(peer)),
            log_ids: names.iter().copied().map(position_message).collect(),
        };
        let request_bytes = message.encoded_len();
        let mut request = tonic::Request::new(message);
        request.set_timeout(FETCH_DEADLINE);
        let call = client.fetch_entries(request);
        let response = tokio::time::timeout(FETCH_DEADLINE, call)
            .await
            .map_err(|_| format!("no answer within {FETCH_DEADLINE:?}"))?
            .map_err(|status| format!("{:?}: {}", status.code(), status.message()))?
            .into_inner();
        self.peers
            .note_responder(peer, response.responder.as_ref())
            .map_err(|error| error.to_string())?;
        let message_bytes = (request_bytes + response.encoded_len()) as u64;
        let entries = response
            .entries
            .into_iter()
            .map(|entry| match entry.state() {
                v1::fetched_entry::State::Held => PeerEntry::Held(entry.payload),
                v1::fetched_entry::State::Unreadable => PeerEntry::Unreadable,
                v1::fetched_entry::State::Purged => PeerEntry::Purged,
                _ => PeerEntry::NotHeld,
            })
            .collect();
        Ok(Fetched {
            entries,
            message_bytes,
        })
    }

    async fn seen(&self, peer: u64) -> Result<Option<SeenMember>, String> {
        let identity = self.peers.identity();
        let request = v1::SeenRequest {
            cluster_uuid: identity.cluster_uuid.to_string(),
            node_id: identity.node_id.0,
        };
        let response = self
            .client(peer)?
            .seen(request)
            .await
            .map_err(|status| format!("{:?}: {}", status.code(), status.message()))?;
        let seen = response.into_inner().seen;
        Ok(seen.as_ref().and_then(SeenMember::read))
    }

    async fn fetch_snapshot(
        &self,
        peer: u64,
        entry: LogPosition,
        snapshots: &Snapshots,
    ) -> Result<SnapshotFile, String> {
        use v1::fetch_snapshot_response::Part;
        let refused = |status: tonic::Status| format!("{:?}: {}", status.code(), status.message());
        let mut client = self.client(peer)?;
        let request = v1::FetchSnapshotRequest {
            envelope: Some(self.peers.envelope(peer)),
            entry: Some(position_message(entry)),
        };
        let call = client.fetch_snapshot(request).await.map_err(refused)?;
        let mut parts = call.into_inner();
        let first = parts.message().await.map_err(refused)?;
        let Some(Part::Header(header)) = first.and_then(|message| message.part) else {
            return Err("the stream does not begin with a header".to_owned());
        };
        self.peers
            .note_responder(peer, header.responder.as_ref())
            .map_err(|error| error.to_string())?;
        let position = header.last_log_id.map(|log_id| LogPosition {
            term: log_id.term,
            index: log_id.index,
        });
        let data = parts.map(|message| match message?.part {
            Some(Part::Data(data)) => Ok(data),
            _ => Err(tonic::Status::invalid_argument(
                "the stream has a second header",
            )),
        });
        receive_snapshot(snapshots, position, header.total_bytes, data)
            .await
            .map_err(|status| status.message().to_owned())
    }
}
