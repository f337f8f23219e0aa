//! Raft between the nodes of one cluster.

use std::sync::Arc;

use futures::StreamExt as _;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest,
    VoteRequest, VoteResponse,
};
use openraft::storage::{Snapshot, SnapshotMeta};
use quadraft_protocol::v1;
use quadraft_protocol::v1::raft_server::Raft;
use tonic::{Request, Response, Status, Streaming};

use crate::position::LogPosition;
use crate::raft::{
    CodecError, EnvelopeError, Node, StoredMembership, TypeConfig, decode_entry, log_id_message,
    read_log_id, read_membership, read_vote, vote_message,
};
use crate::snapshots::receive_snapshot;

#[derive(Debug)]
pub(super) struct RaftService {
    node: Arc<Node>,
}

pub(super) fn refuse_envelope(error: &EnvelopeError) -> Status {
    tracing::warn!(%error, "refused a peer's call");
    Status::unauthenticated(error.to_string())
}

fn malformed(error: &CodecError) -> Status {
    Status::invalid_argument(error.to_string())
}

fn stopped(error: &dyn std::fmt::Display) -> Status {
    Status::unavailable(error.to_string())
}

impl RaftService {
    pub(super) fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    fn check(&self, envelope: Option<&v1::Envelope>) -> Result<(), Status> {
        self.node
            .peers()
            .check(envelope)
            .map_err(|error| refuse_envelope(&error))
    }

    fn vote_request(&self, request: &v1::VoteRequest) -> Result<VoteRequest<TypeConfig>, Status> {
        self.check(request.envelope.as_ref())?;
        let vote = read_vote(request.vote.as_ref()).map_err(|error| malformed(&error))?;
        let mut rpc = VoteRequest::new(vote, request.last_log_id.as_ref().map(read_log_id));
        rpc.leadership_transfer = request.leadership_transfer;
        Ok(rpc)
    }

    fn vote_response(&self, response: &VoteResponse<TypeConfig>) -> v1::VoteResponse {
        v1::VoteResponse {
            vote: Some(vote_message(&response.vote)),
            granted: response.vote_granted,
            last_log_id: response.last_log_id.as_ref().map(log_id_message),
            responder: Some(self.node.peers().responder()),
        }
    }
}

pub(super) fn read_append(
    request: v1::AppendEntriesRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, CodecError> {
    let entries = request
        .entries
        .into_iter()
        .map(|entry| {
            let log_id = entry
                .log_id
                .ok_or(CodecError::Missing("an entry's log id"))?;
            let position = LogPosition {
                term: log_id.term,
                index: log_id.index,
            };
            decode_entry(position, &entry.payload)
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(AppendEntriesRequest {
        vote: read_vote(request.vote.as_ref())?,
        prev_log_id: request.previous_log_id.as_ref().map(read_log_id),
        entries,
        leader_commit: request.leader_committed.as_ref().map(read_log_id),
    })
}

#[tonic::async_trait]
impl Raft for RaftService {
    async fn append_entries(
        &self,
        request: Request<v1::AppendEntriesRequest>,
    ) -> Result<Response<v1::AppendEntriesResponse>, Status> {
        let request = request.into_inner();
        self.check(request.envelope.as_ref())?;
        let freshness = request.freshness;
        let rpc = read_append(request).map_err(|error| malformed(&error))?;
        let response = self
            .node
            .raft()
            .append_entries(rpc)
            .await
            .map_err(|error| stopped(&error))?;
        use v1::append_entries_response::Outcome;
        let mut message = v1::AppendEntriesResponse {
            responder: Some(self.node.peers().responder()),
            ..v1::AppendEntriesResponse::default()
        };
        match response {
            AppendEntriesResponse::Success => message.set_outcome(Outcome::Success),
            AppendEntriesResponse::PartialSuccess(matching) => {
                message.set_outcome(Outcome::PartialSuccess);
                message.matching = matching.as_ref().map(log_id_message);
            }
            AppendEntriesResponse::Conflict => message.set_outcome(Outcome::Conflict),
            AppendEntriesResponse::HigherVote(vote) => {
                message.set_outcome(Outcome::HigherVote);
                message.vote = Some(vote_message(&vote));
            }
        }
        if message.outcome() != Outcome::HigherVote {
            let peers = self.node.peers();
            if let Some(freshness) = &freshness {
                peers.freshness().note_leader(freshness);
            }
            message.answered_at = peers.freshness().clock_ms();
        }
        Ok(Response::new(message))
    }

    async fn vote(
        &self,
        request: Request<v1::VoteRequest>,
    ) -> Result<Response<v1::VoteResponse>, Status> {
        let rpc = self.vote_request(request.get_ref())?;
        let response = self
            .node
            .raft()
            .vote(rpc)
            .await
            .map_err(|error| stopped(&error))?;
        Ok(Response::new(self.vote_response(&response)))
    }

    async fn pre_vote(
        &self,
        request: Request<v1::VoteRequest>,
    ) -> Result<Response<v1::VoteResponse>, Status> {
        let rpc = self.vote_request(request.get_ref())?;
        let response = self
            .node
            .raft()
            .pre_vote(rpc)
            .await
            .map_err(|error| stopped(&error))?;
        Ok(Response::new(self.vote_response(&response)))
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::TransferLeaderResponse>, Status> {
        let request = request.into_inner();
        self.check(request.envelope.as_ref())?;
        let from = read_vote(request.from_leader.as_ref()).map_err(|error| malformed(&error))?;
        let rpc = TransferLeaderRequest::new(
            from,
            request.to_node_id,
            request.last_log_id.as_ref().map(read_log_id),
        );
        let result = self
            .node
            .raft()
            .handle_transfer_leader(rpc)
            .await
            .map_err(|error| stopped(&error))?;
        use v1::transfer_leader_response::Outcome;
        let mut message = v1::TransferLeaderResponse::default();
        match result {
            Ok(()) => message.set_outcome(Outcome::Accepted),
            Err(TransferLeaderError::VoteChanged { actual, .. }) => {
                message.set_outcome(Outcome::VoteChanged);
                message.actual_vote = Some(vote_message(&actual));
            }
            Err(TransferLeaderError::LogNotFlushed { actual, .. }) => {
                message.set_outcome(Outcome::LogNotFlushed);
                message.actual_last_log_id = actual.as_ref().map(log_id_message);
            }
        }
        Ok(Response::new(message))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<v1::InstallSnapshotRequest>>,
    ) -> Result<Response<v1::InstallSnapshotResponse>, Status> {
        use v1::install_snapshot_request::Part;
        let mut parts = request.into_inner();
        let first = parts.message().await?.and_then(|message| message.part);
        let Some(Part::Header(header)) = first else {
            return Err(Status::invalid_argument(
                "the stream does not begin with a header",
            ));
        };
        self.check(header.envelope.as_ref())?;
        let vote = read_vote(header.vote.as_ref()).map_err(|error| malformed(&error))?;
        let membership_message = header.membership.unwrap_or_default();
        let (membership_log_id, membership) =
            read_membership(&membership_message).map_err(|error| malformed(&error))?;
        let last_log_id = header.last_log_id.as_ref().map(read_log_id);

        self.node
            .space()
            .admit_snapshot(header.total_bytes)
            .map_err(Status::resource_exhausted)?;
        let position = header.last_log_id.map(|log_id| LogPosition {
            term: log_id.term,
            index: log_id.index,
        });
        let data = parts.map(|message| match message?.part {
            Some(Part::Data(data)) => Ok(data),
            _ => Err(Status::invalid_argument("the stream has a second header")),
        });
        let snapshots = self.node.snapshots();
        let snapshot = receive_snapshot(snapshots, position, header.total_bytes, data).await?;
        let meta = SnapshotMeta {
            last_log_id,
            last_membership: StoredMembership::new(membership_log_id, membership),
        };
        let response = self
            .node
            .raft()
            .install_full_snapshot(vote, Snapshot { meta, snapshot })
            .await
            .map_err(|error| stopped(&error))?;
        Ok(Response::new(v1::InstallSnapshotResponse {
            vote: Some(vote_message(&response.vote)),
            responder: Some(self.node.peers().responder()),
        }))
    }
}
