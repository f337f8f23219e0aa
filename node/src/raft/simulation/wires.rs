//! The network between simulated nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use async_trait::async_trait;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::storage::Snapshot;
use openraft::{OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use quadraft_protocol::v1;

use super::super::codec::encode_payload;
use super::super::node::Node;
use super::super::peers::Peers;
use super::super::repair::{Fetched, PeerEntries, RepairSource};
use super::super::seen::SeenMember;
use super::super::state_machine::StateMachine;
use super::super::types::{MemberAddresses, TypeConfig, Vote, to_position, to_stored_vote};
use super::history::History;
use crate::position::LogPosition;
use crate::snapshots::{SnapshotFile, Snapshots, receive_snapshot};

type Raft = openraft::Raft<TypeConfig, StateMachine>;
type Response<T> = Result<T, RPCError<TypeConfig>>;

/// Who can be reached, by node id.
#[derive(Clone, Debug, Default)]
pub(super) struct Wires {
    sources: Arc<Mutex<BTreeMap<u64, Arc<RepairSource>>>>,
    /// Who wants a node to go on holds it; a node holds its wires.
    nodes: Arc<Mutex<BTreeMap<u64, Weak<Node>>>>,
    /// How many snapshots to come arrive with a bit turned, and how many were refused.
    turned: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    /// Nodes that reach nobody and are reached by nobody.
    cut_off: Arc<Mutex<BTreeSet<u64>>>,
    history: Option<History>,
}

impl Wires {
    /// Wires that note what is promised over them.
    pub(super) fn noting(history: &History) -> Self {
        Self {
            history: Some(history.clone()),
            ..Self::default()
        }
    }

    pub(super) fn cut_off(&self, ids: impl IntoIterator<Item = u64>) {
        *self.cut_off.lock().unwrap() = ids.into_iter().collect();
    }

    fn is_cut(&self, from: u64, to: u64) -> bool {
        let cut_off = self.cut_off.lock().unwrap();
        cut_off.contains(&from) || cut_off.contains(&to)
    }

    fn note(&self, note: impl FnOnce(&History)) {
        if let Some(history) = &self.history {
            note(history);
        }
    }

    pub(super) fn offer_entries(&self, id: u64, source: Arc<RepairSource>) {
        self.sources.lock().unwrap().insert(id, source);
    }

    pub(super) fn serve(&self, node: &Arc<Node>) {
        let id = node.node_id().0;
        self.nodes.lock().unwrap().insert(id, Arc::downgrade(node));
    }

    /// Turns a bit of each of the next snapshots on their way.
    pub(super) fn damage_snapshots(&self, count: usize) {
        self.turned.store(count, Ordering::SeqCst);
    }

    /// How many snapshots were refused by who received them.
    pub(super) fn refused_snapshots(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }

    fn carry_snapshot(&self, bytes: &mut [u8]) {
        let left = |count: usize| count.checked_sub(1);
        if self
            .turned
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, left)
            .is_ok()
        {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
        }
    }

    /// Takes a node off the network.
    pub(super) fn cut(&self, id: u64) {
        self.nodes.lock().unwrap().remove(&id);
        self.sources.lock().unwrap().remove(&id);
    }

    fn node(&self, id: u64) -> Option<Arc<Node>> {
        self.nodes.lock().unwrap().get(&id)?.upgrade()
    }
}

/// Entries from whoever can be reached.
#[derive(Debug)]
pub(super) struct WiredEntries {
    pub(super) wires: Wires,
    pub(super) peers: Arc<Peers>,
}

#[async_trait]
impl PeerEntries for WiredEntries {
    fn peers(&self) -> Vec<u64> {
        let own = self.peers.identity().node_id.0;
        let sources = self.wires.sources.lock().unwrap();
        sources.keys().copied().filter(|id| *id != own).collect()
    }

    async fn fetch(&self, peer: u64, names: &[LogPosition]) -> Result<Fetched, String> {
        let source = self.source(peer)?;
        Ok(Fetched {
            entries: names.iter().map(|name| source.entry(*name)).collect(),
            message_bytes: 0,
        })
    }

    async fn fetch_snapshot(
        &self,
        peer: u64,
        _entry: LogPosition,
        snapshots: &Snapshots,
    ) -> Result<SnapshotFile, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let snapshot = self
            .source(peer)?
            .snapshot()
            .map_err(|error| text(&error))?
            .ok_or("it has no snapshot")?;
        let mut bytes = Vec::new();
        let read = snapshot
            .open()
            .and_then(|mut file| file.read_to_end(&mut bytes));
        read.map_err(|error| text(&error))?;
        let total_bytes = bytes.len() as u64;
        let data = futures::stream::iter([Ok(bytes.into())]);
        receive_snapshot(
            snapshots,
            snapshot.summary().status.applied,
            total_bytes,
            data,
        )
        .await
        .map_err(|status| text(&status))
    }

    async fn seen(&self, peer: u64) -> Result<Option<SeenMember>, String> {
        let source = self.unchecked_source(peer)?;
        let identity = self.peers.identity();
        let seen = source.seen(&v1::SeenRequest {
            cluster_uuid: identity.cluster_uuid.to_string(),
            node_id: identity.node_id.0,
        })?;
        Ok(seen.as_ref().and_then(SeenMember::read))
    }
}

impl WiredEntries {
    fn unchecked_source(&self, peer: u64) -> Result<Arc<RepairSource>, String> {
        self.wires.note(History::called);
        let own = self.peers.identity().node_id.0;
        let source = self.wires.sources.lock().unwrap().get(&peer).cloned();
        source
            .filter(|_| !self.wires.is_cut(own, peer))
            .ok_or_else(|| "it cannot be reached".to_owned())
    }

    fn source(&self, peer: u64) -> Result<Arc<RepairSource>, String> {
        let source = self.unchecked_source(peer)?;
        source
            .check(Some(&self.peers.envelope(peer)))
            .map_err(|error| error.to_string())?;
        Ok(source)
    }
}

/// Makes clients of one node.
#[derive(Clone, Debug)]
pub(super) struct WiredNetwork {
    pub(super) wires: Wires,
    pub(super) peers: Arc<Peers>,
}

impl RaftNetworkFactory<TypeConfig> for WiredNetwork {
    type Network = WiredClient;

    async fn new_client(&mut self, target: u64, _node: &MemberAddresses) -> WiredClient {
        WiredClient {
            network: self.clone(),
            target,
        }
    }
}

/// A client of one peer.
#[derive(Debug)]
pub(super) struct WiredClient {
    network: WiredNetwork,
    target: u64,
}

fn unreachable(why: impl std::fmt::Display) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::new(&std::io::Error::other(why.to_string())))
}

impl WiredClient {
    fn own_id(&self) -> u64 {
        self.network.peers.identity().node_id.0
    }

    fn note(&self, note: impl FnOnce(&History)) {
        self.network.wires.note(note);
    }

    fn node(&self) -> Response<Arc<Node>> {
        let wires = &self.network.wires;
        wires.note(History::called);
        let node = wires.node(self.target);
        let node = node
            .filter(|_| !wires.is_cut(self.own_id(), self.target))
            .ok_or_else(|| unreachable("it cannot be reached"))?;
        let envelope = self.network.peers.envelope(self.target);
        node.peers().check(Some(&envelope)).map_err(unreachable)?;
        self.network
            .peers
            .note_responder(self.target, Some(&node.peers().responder()))
            .map_err(unreachable)?;
        Ok(node)
    }

    fn raft(&self) -> Response<Raft> {
        self.node().map(|node| node.raft().clone())
    }
}

impl RaftNetworkV2<TypeConfig> for WiredClient {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Response<AppendEntriesResponse<TypeConfig>> {
        let raft = self.raft()?;
        let vote = to_stored_vote(&rpc.vote);
        let last = rpc
            .entries
            .last()
            .map_or(rpc.prev_log_id, |last| Some(last.log_id));
        self.note(|history| {
            history.voted(self.own_id(), vote);
            history.leader_heard(self.target, vote.term);
            for entry in &rpc.entries {
                let position = to_position(&entry.log_id);
                history.entry(position, encode_payload(&entry.payload));
            }
        });
        let response = raft.append_entries(rpc).await.map_err(unreachable)?;
        self.note(|history| {
            let held = match &response {
                AppendEntriesResponse::Success => last,
                AppendEntriesResponse::PartialSuccess(held) => *held,
                _ => return,
            };
            history.voted(self.target, vote);
            if let Some(held) = held {
                history.holds(self.target, vote.term, to_position(&held));
            }
        });
        // The answer may be lost on its way.
        self.node()?;
        Ok(response)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Response<VoteResponse<TypeConfig>> {
        let raft = self.raft()?;
        let vote = to_stored_vote(&rpc.vote);
        self.note(|history| history.voted(self.own_id(), vote));
        let response = raft.vote(rpc).await.map_err(unreachable)?;
        if response.vote_granted {
            self.note(|history| history.voted(self.target, vote));
        }
        Ok(response)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Response<VoteResponse<TypeConfig>> {
        self.raft()?.pre_vote(rpc).await.map_err(unreachable)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::type_config::alias::SnapshotOf<TypeConfig, SnapshotFile>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let failed = |error: &dyn std::fmt::Display| {
            StreamingError::Unreachable(Unreachable::new(&std::io::Error::other(error.to_string())))
        };
        let node = self.node().map_err(|_| failed(&"it cannot be reached"))?;
        let mut bytes = Vec::new();
        snapshot
            .snapshot
            .open_to_send()
            .map_err(std::io::Error::other)
            .and_then(|mut file| file.read_to_end(&mut bytes))
            .map_err(|error| failed(&error))?;
        self.network.wires.carry_snapshot(&mut bytes);
        let (path, mut file) = node.snapshots().receive().map_err(|error| failed(&error))?;
        file.write_all(&bytes)
            .and_then(|()| file.file().sync())
            .map_err(|error| failed(&error))?;
        let position = snapshot.meta.last_log_id.as_ref().map(to_position);
        let stored_vote = to_stored_vote(&vote);
        self.note(|history| {
            history.voted(self.own_id(), stored_vote);
            history.leader_heard(self.target, stored_vote.term);
        });
        let accepted = node.snapshots().accept(&path, position).map_err(|error| {
            self.network.wires.refused.fetch_add(1, Ordering::SeqCst);
            node.snapshots().discard(&path).unwrap();
            failed(&error)
        })?;
        let installed = Snapshot {
            meta: snapshot.meta,
            snapshot: accepted,
        };
        let response = node
            .raft()
            .install_full_snapshot(vote, installed)
            .await
            .map_err(|error| failed(&error))?;
        if to_stored_vote(&response.vote) == stored_vote {
            self.note(|history| {
                history.voted(self.target, stored_vote);
                if let Some(position) = position {
                    history.holds(self.target, stored_vote.term, position);
                }
            });
        }
        Ok(response)
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Response<TransferLeaderResponse<TypeConfig>> {
        self.raft()?
            .handle_transfer_leader(rpc)
            .await
            .map_err(unreachable)
    }
}
