//! Calls to the peers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use quadraft_protocol::v1::raft_client::RaftClient;
use quadraft_protocol::{connect_peer, v1};
use tonic::transport::Channel;

use super::codec::{
    encode_payload, log_id_message, read_log_id, read_vote, stored_membership_message, vote_message,
};
use super::peers::Peers;
use super::types::{MemberAddresses, TypeConfig, Vote, to_position};
use crate::snapshots::SnapshotFile;

/// Above every entry that is accepted (see the request bounds of the HTTP edge).
pub(super) const MAXIMUM_MESSAGE_BYTES: usize = 256 * 1024 * 1024;
/// Bytes of a snapshot in one message.
pub(crate) const SNAPSHOT_CHUNK_BYTES: usize = 256 * 1024;
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a peer may take to make entries durable. The library proposes one heartbeat interval,
/// which is less than one sync of a slow disk, or than a large entry on a slow line; what is sent
/// again after that comes no faster. A peer that is gone ends the call by keep-alive, and heartbeats
/// tell by themselves, since the library ends those after an interval.
const APPEND_DEADLINE: Duration = Duration::from_secs(30);

type Response<T> = Result<T, RPCError<TypeConfig>>;

/// Makes a client for every peer.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    peers: Arc<Peers>,
}

impl Network {
    pub(crate) fn new(peers: Arc<Peers>) -> Self {
        Self { peers }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = PeerClient;

    async fn new_client(&mut self, target: u64, node: &MemberAddresses) -> Self::Network {
        let client = connect_peer(&node.peer, CONNECT_TIMEOUT)
            .map(|channel| {
                RaftClient::new(channel)
                    .max_decoding_message_size(MAXIMUM_MESSAGE_BYTES)
                    .max_encoding_message_size(MAXIMUM_MESSAGE_BYTES)
            })
            .map_err(|error| error.to_string());
        PeerClient {
            target,
            peers: self.peers.clone(),
            client,
        }
    }
}

/// A client of one peer.
#[derive(Debug)]
pub(crate) struct PeerClient {
    target: u64,
    peers: Arc<Peers>,
    /// An address that cannot be used is an unreachable peer, not the end of this node.
    client: Result<RaftClient<Channel>, String>,
}

/// Why a call to a peer failed.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("{0}")]
    Address(String),
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    #[error("{code:?}: {message}", code = .0.code(), message = .0.message())]
    Status(Box<tonic::Status>),
    #[error("the answer makes no sense: {0}")]
    Answer(String),
    #[error("failed to read the snapshot")]
    Snapshot(#[source] std::io::Error),
}

impl From<CallError> for RPCError<TypeConfig> {
    fn from(error: CallError) -> Self {
        match &error {
            // The peer is there and answered: trying again at once may help.
            CallError::Status(status) if status.code() != tonic::Code::Unavailable => {
                Self::Network(NetworkError::new(&error))
            }
            CallError::Answer(_) => Self::Network(NetworkError::new(&error)),
            _ => Self::Unreachable(Unreachable::new(&error)),
        }
    }
}

impl PeerClient {
    fn client(&self) -> Result<RaftClient<Channel>, CallError> {
        self.client.clone().map_err(CallError::Address)
    }

    fn request<T>(message: T, deadline: Duration) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.set_timeout(deadline);
        request
    }

    /// The deadline of a call that openraft ends by itself, without our knowing: ours comes first.
    fn deadline(option: &RPCOption) -> Duration {
        option.hard_ttl() * 9 / 10
    }

    async fn answer<T>(
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
        deadline: Duration,
    ) -> Result<T, CallError> {
        match tokio::time::timeout(deadline, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(CallError::Status(Box::new(status))),
            Err(_) => Err(CallError::Deadline(deadline)),
        }
    }

    fn note(&self, responder: Option<&v1::Responder>) -> Result<(), CallError> {
        self.peers
            .note_responder(self.target, responder)
            .map_err(|error| CallError::Answer(error.to_string()))
    }

    async fn call_vote(
        &self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
        is_pre_vote: bool,
    ) -> Result<VoteResponse<TypeConfig>, CallError> {
        let message = v1::VoteRequest {
            envelope: Some(self.peers.envelope(self.target)),
            vote: Some(vote_message(&rpc.vote)),
            last_log_id: rpc.last_log_id.as_ref().map(log_id_message),
            leadership_transfer: rpc.leadership_transfer,
        };
        let mut client = self.client()?;
        let deadline = Self::deadline(&option);
        let request = Self::request(message, deadline);
        let response = if is_pre_vote {
            Self::answer(client.pre_vote(request), deadline).await?
        } else {
            Self::answer(client.vote(request), deadline).await?
        };
        self.note(response.responder.as_ref())?;
        let vote = read_vote(response.vote.as_ref())
            .map_err(|error| CallError::Answer(error.to_string()))?;
        if !is_pre_vote {
            // Whatever it answered, it holds at least this vote durably.
            self.peers.note_vote(self.target, vote.leader_id.term);
        }
        Ok(VoteResponse::new(
            vote,
            response.last_log_id.as_ref().map(read_log_id),
            response.granted,
        ))
    }

    async fn call_append(
        &self,
        rpc: AppendEntriesRequest<TypeConfig>,
    ) -> Result<AppendEntriesResponse<TypeConfig>, CallError> {
        let committed = rpc.leader_commit.as_ref().map(to_position);
        let last_sent = rpc
            .entries
            .last()
            .map(|entry| entry.log_id)
            .or(rpc.prev_log_id)
            .as_ref()
            .map(to_position);
        let message = v1::AppendEntriesRequest {
            envelope: Some(self.peers.envelope(self.target)),
            vote: Some(vote_message(&rpc.vote)),
            previous_log_id: rpc.prev_log_id.as_ref().map(log_id_message),
            leader_committed: rpc.leader_commit.as_ref().map(log_id_message),
            entries: rpc
                .entries
                .iter()
                .map(|entry| v1::Entry {
                    log_id: Some(log_id_message(&entry.log_id)),
                    payload: encode_payload(&entry.payload),
                })
                .collect(),
            freshness: Some(self.peers.freshness_for(self.target)),
        };
        let mut client = self.client()?;
        let response = Self::answer(
            client.append_entries(Self::request(message, APPEND_DEADLINE)),
            APPEND_DEADLINE,
        )
        .await?;
        self.note(response.responder.as_ref())?;
        self.peers
            .freshness()
            .note_answer(self.target, response.answered_at);
        use v1::append_entries_response::Outcome;
        Ok(match response.outcome() {
            Outcome::Success => {
                // Only what is committed can never be taken back from its log.
                if let (Some(last), Some(committed)) = (last_sent, committed) {
                    self.peers
                        .note_acknowledged(self.target, last.index.min(committed.index) + 1);
                }
                AppendEntriesResponse::Success
            }
            Outcome::PartialSuccess => {
                AppendEntriesResponse::PartialSuccess(response.matching.as_ref().map(read_log_id))
            }
            Outcome::Conflict => AppendEntriesResponse::Conflict,
            Outcome::HigherVote => AppendEntriesResponse::HigherVote(
                read_vote(response.vote.as_ref())
                    .map_err(|error| CallError::Answer(error.to_string()))?,
            ),
            Outcome::Unspecified => return Err(CallError::Answer("it has no outcome".to_owned())),
        })
    }

    async fn call_transfer(
        &self,
        rpc: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<openraft::raft::TransferLeaderResponse<TypeConfig>, CallError> {
        let message = v1::TransferLeaderRequest {
            envelope: Some(self.peers.envelope(self.target)),
            from_leader: Some(vote_message(rpc.from_leader())),
            to_node_id: *rpc.to_node_id(),
            last_log_id: rpc.last_log_id().map(log_id_message),
        };
        let mut client = self.client()?;
        let response = Self::answer(
            client.transfer_leader(Self::request(message, Self::deadline(&option))),
            Self::deadline(&option),
        )
        .await?;
        use openraft::raft::TransferLeaderError;
        use v1::transfer_leader_response::Outcome;
        Ok(match response.outcome() {
            Outcome::Accepted => Ok(()),
            Outcome::VoteChanged => Err(TransferLeaderError::VoteChanged {
                expected: *rpc.from_leader(),
                actual: read_vote(response.actual_vote.as_ref())
                    .map_err(|error| CallError::Answer(error.to_string()))?,
            }),
            Outcome::LogNotFlushed => Err(TransferLeaderError::LogNotFlushed {
                expected: rpc.last_log_id().copied(),
                actual: response.actual_last_log_id.as_ref().map(read_log_id),
            }),
            Outcome::Unspecified => return Err(CallError::Answer("it has no outcome".to_owned())),
        })
    }

    async fn call_snapshot(
        &self,
        vote: Vote,
        snapshot: openraft::type_config::alias::SnapshotOf<TypeConfig, SnapshotFile>,
    ) -> Result<SnapshotResponse<TypeConfig>, CallError> {
        let file = snapshot.snapshot.clone();
        let opening = move || {
            let file = file.open_to_send().map_err(std::io::Error::other)?;
            let total_bytes = file.file().length_bytes()?;
            Ok((file, total_bytes))
        };
        let (mut file, total_bytes) = blocking(opening).await.map_err(CallError::Snapshot)?;
        let header = v1::install_snapshot_request::Header {
            envelope: Some(self.peers.envelope(self.target)),
            vote: Some(vote_message(&vote)),
            last_log_id: snapshot.meta.last_log_id.as_ref().map(log_id_message),
            membership: Some(stored_membership_message(&snapshot.meta.last_membership)),
            total_bytes,
        };
        let (sender, receiver) = tokio::sync::mpsc::channel(8);
        let reading = async move {
            let part = |part| v1::InstallSnapshotRequest { part: Some(part) };
            use v1::install_snapshot_request::Part;
            if sender.send(part(Part::Header(header))).await.is_err() {
                return Ok(());
            }
            loop {
                let reading = move || {
                    let chunk = file.next_chunk(SNAPSHOT_CHUNK_BYTES)?;
                    Ok((file, chunk))
                };
                let (stream, buffer) = blocking(reading).await?;
                file = stream;
                if buffer.is_empty() {
                    return Ok(());
                }
                if sender
                    .send(part(Part::Data(Bytes::from(buffer))))
                    .await
                    .is_err()
                {
                    // The receiver has ended the call; its answer says why.
                    return Ok(());
                }
            }
        };
        let mut client = self.client()?;
        let call = client.install_snapshot(tokio_stream::wrappers::ReceiverStream::new(receiver));
        let (read, answer): (Result<(), std::io::Error>, _) = tokio::join!(reading, call);
        read.map_err(CallError::Snapshot)?;
        let response = answer
            .map_err(|status| CallError::Status(Box::new(status)))?
            .into_inner();
        self.note(response.responder.as_ref())?;
        let vote = read_vote(response.vote.as_ref())
            .map_err(|error| CallError::Answer(error.to_string()))?;
        Ok(SnapshotResponse::new(vote))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(std::io::Error::other)?
}

impl RaftNetworkV2<TypeConfig> for PeerClient {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Response<AppendEntriesResponse<TypeConfig>> {
        Ok(self.call_append(rpc).await?)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Response<VoteResponse<TypeConfig>> {
        Ok(self.call_vote(rpc, option, false).await?)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Response<VoteResponse<TypeConfig>> {
        // The library's default grants unconditionally.
        Ok(self.call_vote(rpc, option, true).await?)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::type_config::alias::SnapshotOf<TypeConfig, SnapshotFile>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        // As long as the data needs: a receiver that is gone ends the stream by keep-alive.
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            result = self.call_snapshot(vote, snapshot) => {
                result.map_err(|error| {
                    // openraft tries again, and says nothing.
                    tracing::warn!(
                        peer = %quadraft_protocol::NodeId(self.target),
                        error = %crate::describe::describe(&error),
                        "a snapshot could not be sent"
                    );
                    StreamingError::Unreachable(Unreachable::new(&error))
                })
            }
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Response<openraft::raft::TransferLeaderResponse<TypeConfig>> {
        Ok(self.call_transfer(rpc, option).await?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use quadraft_protocol::NodeId;
    use quadraft_protocol::v1::raft_server::{Raft, RaftServer};
    use tonic::{Request, Status, Streaming};
    use uuid::Uuid;

    use super::super::peers::LocalIdentity;
    use super::super::seen::SeenTable;
    use super::*;

    fn peers(node_id: u64) -> Arc<Peers> {
        let identity = LocalIdentity {
            cluster_uuid: Uuid::nil(),
            node_id: NodeId(node_id),
            incarnation: Uuid::from_u128(u128::from(node_id)),
            boot_count: 1,
        };
        Arc::new(Peers::new(identity, SeenTable::default()))
    }

    /// A peer whose disk is slow.
    struct SlowPeer {
        peers: Arc<Peers>,
        delay: Duration,
    }

    type Answer<T> = Result<tonic::Response<T>, Status>;

    #[tonic::async_trait]
    impl Raft for SlowPeer {
        async fn append_entries(
            &self,
            _request: Request<v1::AppendEntriesRequest>,
        ) -> Answer<v1::AppendEntriesResponse> {
            tokio::time::sleep(self.delay).await;
            let mut response = v1::AppendEntriesResponse {
                responder: Some(self.peers.responder()),
                ..v1::AppendEntriesResponse::default()
            };
            response.set_outcome(v1::append_entries_response::Outcome::Success);
            Ok(tonic::Response::new(response))
        }

        async fn vote(&self, _request: Request<v1::VoteRequest>) -> Answer<v1::VoteResponse> {
            Err(Status::unimplemented(""))
        }

        async fn pre_vote(&self, _request: Request<v1::VoteRequest>) -> Answer<v1::VoteResponse> {
            Err(Status::unimplemented(""))
        }

        async fn transfer_leader(
            &self,
            _request: Request<v1::TransferLeaderRequest>,
        ) -> Answer<v1::TransferLeaderResponse> {
            Err(Status::unimplemented(""))
        }

        async fn install_snapshot(
            &self,
            _request: Request<Streaming<v1::InstallSnapshotRequest>>,
        ) -> Answer<v1::InstallSnapshotResponse> {
            Err(Status::unimplemented(""))
        }
    }

    #[tokio::test]
    async fn entries_may_take_a_slow_disk_longer_than_a_heartbeat_interval() {
        let interval = Duration::from_millis(50);
        let peer = SlowPeer {
            peers: peers(2),
            delay: interval * 4,
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(RaftServer::new(peer))
                .serve_with_incoming(tonic::transport::server::TcpIncoming::from(listener)),
        );
        let node = MemberAddresses {
            peer: address.to_string(),
            http: address.to_string(),
        };
        let mut client = Network::new(peers(1)).new_client(2, &node).await;
        let rpc = AppendEntriesRequest {
            vote: Vote::new(1, 1),
            prev_log_id: None,
            entries: Vec::new(),
            leader_commit: None,
        };
        let answer = client.append_entries(rpc, RPCOption::new(interval)).await;
        assert!(
            matches!(answer, Ok(AppendEntriesResponse::Success)),
            "{answer:?}"
        );
    }
}
