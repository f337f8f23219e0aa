//! Getting entries and snapshots from the other members.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use prost::Message as _;
use quadraft_protocol::v1::repair_client::RepairClient;
use quadraft_protocol::{connect_peer, v1};
use tonic::transport::Channel;

use super::super::codec::position_message;
use super::super::network::{CONNECT_TIMEOUT, MAXIMUM_MESSAGE_BYTES};
use super::super::peers::Peers;
use super::super::seen::SeenMember;
use super::{Fetched, PeerEntries, PeerEntry};
use crate::entry::other_members;
use crate::position::LogPosition;
use crate::snapshots::{SnapshotFile, Snapshots, receive_snapshot};
use crate::state::State;

const FETCH_DEADLINE: Duration = Duration::from_secs(20);

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
