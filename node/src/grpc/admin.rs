//! Administration: what the operator and the command line ask of a node.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quadraft_protocol::v1;
use quadraft_protocol::v1::admin_server::Admin;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::describe::describe;
use crate::identity::SuperblockFile;
use crate::raft::{MembershipFailure, MembershipStep, Node, addresses, membership_message_of};
use crate::state::SnapshotSummary;

const SNAPSHOT_DEADLINE: Duration = Duration::from_secs(600);
const CHUNK_BYTES: usize = 256 * 1024;

type BackupStream = Pin<Box<dyn Stream<Item = Result<v1::BackupResponse, Status>> + Send>>;

#[derive(Debug)]
pub(super) struct AdminService {
    node: Arc<Node>,
}

impl AdminService {
    pub(super) fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    async fn step(
        &self,
        step: MembershipStep,
        expected_index: u64,
    ) -> Result<Response<v1::MembershipResponse>, Status> {
        let membership = self
            .node
            .change_membership(step, expected_index)
            .await
            .map_err(|error| refuse(&error))?;
        Ok(Response::new(v1::MembershipResponse {
            membership: Some(membership_message_of(&membership)),
        }))
    }
}

fn refuse(failure: &MembershipFailure) -> Status {
    match failure {
        MembershipFailure::NotLeader { leader } => {
            let mut status = Status::failed_precondition(failure.to_string());
            if let Some(leader) = leader
                && let Ok(value) = quadraft_protocol::NodeId(*leader).to_string().parse()
            {
                status
                    .metadata_mut()
                    .insert(quadraft_protocol::LEADER_METADATA_KEY, value);
            }
            status
        }
        MembershipFailure::Precondition(_) => Status::failed_precondition(failure.to_string()),
        MembershipFailure::TimedOut => Status::deadline_exceeded(failure.to_string()),
        MembershipFailure::Stopped => Status::unavailable(failure.to_string()),
    }
}

fn member(member: Option<v1::Member>) -> Result<v1::Member, Status> {
    let member = member.ok_or_else(|| Status::invalid_argument("the member is missing"))?;
    if member.node_id == 0 || member.peer_address.is_empty() {
        return Err(Status::invalid_argument(
            "a member needs a node id and a peer address",
        ));
    }
    Ok(member)
}

fn uuid(text: &str) -> Result<Uuid, Status> {
    Uuid::parse_str(text)
        .ok()
        .filter(|uuid| !uuid.is_nil())
        .ok_or_else(|| Status::invalid_argument(format!("{text:?} is not a cluster UUID")))
}

#[tonic::async_trait]
impl Admin for AdminService {
    type BackupStream = BackupStream;

    async fn status(
        &self,
        _: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        Ok(Response::new(self.node.status()))
    }

    async fn claim(
        &self,
        request: Request<v1::ClaimRequest>,
    ) -> Result<Response<v1::ClaimResponse>, Status> {
        let wanted = uuid(&request.get_ref().cluster_uuid)?;
        if wanted == self.node.cluster_uuid() {
            return Ok(Response::new(v1::ClaimResponse {}));
        }
        Err(Status::already_exists(format!(
            "this volume belongs to cluster {}",
            self.node.cluster_uuid()
        )))
    }

    async fn initialise(
        &self,
        request: Request<v1::InitialiseRequest>,
    ) -> Result<Response<v1::InitialiseResponse>, Status> {
        let request = request.into_inner();
        let wanted = uuid(&request.cluster_uuid)?;
        if wanted != self.node.cluster_uuid() {
            return Err(Status::failed_precondition(format!(
                "this volume belongs to cluster {}, not to {wanted}",
                self.node.cluster_uuid()
            )));
        }
        let mut members = BTreeMap::new();
        for one in request.members {
            let one = member(Some(one))?;
            if members.insert(one.node_id, addresses(&one)).is_some() {
                return Err(Status::invalid_argument("a member is named twice"));
            }
        }
        if !members.contains_key(&self.node.node_id().0) {
            return Err(Status::invalid_argument(
                "the members must contain this node",
            ));
        }
        let already_initialised = self
            .node
            .initialise(members)
            .await
            .map_err(|error| refuse(&error))?;
        Ok(Response::new(v1::InitialiseResponse {
            already_initialised,
        }))
    }

    async fn add_learner(
        &self,
        request: Request<v1::AddLearnerRequest>,
    ) -> Result<Response<v1::MembershipResponse>, Status> {
        let request = request.into_inner();
        let member = member(request.member)?;
        let step = MembershipStep::AddLearner(member.node_id, addresses(&member));
        self.step(step, request.expected_membership_index).await
    }

    async fn promote(
        &self,
        request: Request<v1::PromoteRequest>,
    ) -> Result<Response<v1::MembershipResponse>, Status> {
        let request = request.into_inner();
        self.step(
            MembershipStep::Promote(request.node_id),
            request.expected_membership_index,
        )
        .await
    }

    async fn remove(
        &self,
        request: Request<v1::RemoveRequest>,
    ) -> Result<Response<v1::MembershipResponse>, Status> {
        let request = request.into_inner();
        self.step(
            MembershipStep::Remove(request.node_id),
            request.expected_membership_index,
        )
        .await
    }

    async fn update_member(
        &self,
        request: Request<v1::UpdateMemberRequest>,
    ) -> Result<Response<v1::MembershipResponse>, Status> {
        let request = request.into_inner();
        let member = member(request.member)?;
        let step = MembershipStep::Update(member.node_id, addresses(&member));
        self.step(step, request.expected_membership_index).await
    }

    async fn transfer_leadership(
        &self,
        request: Request<v1::TransferLeadershipRequest>,
    ) -> Result<Response<v1::TransferLeadershipResponse>, Status> {
        let request = request.into_inner();
        let to = Some(request.to_node_id).filter(|id| *id != 0);
        let (leader_node_id, term) = self
            .node
            .transfer_leadership(to, Duration::from_millis(request.deadline_ms))
            .await
            .map_err(|error| refuse(&error))?;
        Ok(Response::new(v1::TransferLeadershipResponse {
            leader_node_id,
            term,
        }))
    }

    async fn snapshot(
        &self,
        _: Request<v1::SnapshotRequest>,
    ) -> Result<Response<v1::SnapshotResponse>, Status> {
        let log_id = self
            .node
            .take_snapshot(SNAPSHOT_DEADLINE)
            .await
            .map_err(Status::unavailable)?;
        Ok(Response::new(v1::SnapshotResponse { log_id }))
    }

    async fn verify(
        &self,
        _: Request<v1::VerifyRequest>,
    ) -> Result<Response<v1::VerifyResponse>, Status> {
        let started = Instant::now();
        let state = self.node.state().clone();
        let (kept, recomputed, quads, position) = tokio::task::spawn_blocking(move || {
            let (recomputed, quads, position) = state.recompute()?;
            let kept = position.and_then(|position| state.digest_at(position.index));
            Ok::<_, crate::state::StateError>((kept, recomputed, quads, position))
        })
        .await
        .map_err(|error| Status::internal(error.to_string()))?
        .map_err(|error| Status::data_loss(describe(&error)))?;
        Ok(Response::new(v1::VerifyResponse {
            log_index: position.map_or(0, |position| position.index),
            kept_digest: kept.map(|digest| digest.to_string()).unwrap_or_default(),
            recomputed_digest: recomputed.to_string(),
            quads,
            duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        }))
    }

    async fn digest_at(
        &self,
        request: Request<v1::DigestAtRequest>,
    ) -> Result<Response<v1::DigestAtResponse>, Status> {
        let digest = self.node.state().digest_at(request.get_ref().log_index);
        Ok(Response::new(v1::DigestAtResponse {
            known: digest.is_some(),
            digest: digest.map(|digest| digest.to_string()).unwrap_or_default(),
        }))
    }

    async fn backup(
        &self,
        request: Request<v1::BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        let minimum = request.get_ref().minimum_log_index;
        self.node.readiness().map_err(Status::unavailable)?;
        let applied = self
            .node
            .state()
            .applied()
            .map_or(0, |applied| applied.index);
        if applied < minimum {
            return Err(Status::failed_precondition(format!(
                "this node has applied index {applied}, the backup wants {minimum}"
            )));
        }
        // From the store as it is read, without a copy on the volume: a volume that is mostly full has no
        // room for one.
        let node = self.node.clone();
        let (sender, receiver) = mpsc::channel(8);
        tokio::task::spawn_blocking(move || stream_state(&node, &sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

type BackupSender = mpsc::Sender<Result<v1::BackupResponse, Status>>;

fn backup_part(part: v1::backup_response::Part) -> v1::BackupResponse {
    v1::BackupResponse { part: Some(part) }
}

/// Sends one consistent state, its header first, until that is done or nobody takes it any more.
fn stream_state(node: &Node, sender: &BackupSender) {
    use v1::backup_response::Part;
    let header = |summary: &SnapshotSummary, total_bytes| {
        let header = v1::backup_response::Header {
            cluster_uuid: node.cluster_uuid().to_string(),
            node_id: node.node_id().0,
            log_id: summary.status.applied.map(|position| v1::LogId {
                term: position.term,
                index: position.index,
            }),
            digest: summary.status.digest.to_string(),
            quads: summary.status.quads,
            total_bytes,
        };
        // That nobody takes it shows at the first piece of data.
        let _ = sender.blocking_send(Ok(backup_part(Part::Header(header))));
    };
    let mut pieces = BackupPieces {
        sender,
        piece: Vec::with_capacity(CHUNK_BYTES),
    };
    let written = node.state().write_measured_snapshot(header, &mut pieces);
    let ended = written
        .map_err(|error| error.to_string())
        .and_then(|_| pieces.flush().map_err(|error| error.to_string()));
    if let Err(error) = ended {
        let status = Status::unavailable(format!("failed to read the state: {error}"));
        // Whoever has hung up does not want to know.
        let _ = sender.blocking_send(Err(status));
    }
}

/// Sends what is written to it, in pieces.
struct BackupPieces<'a> {
    sender: &'a BackupSender,
    piece: Vec<u8>,
}

impl Write for BackupPieces<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let room = CHUNK_BYTES - self.piece.len();
        let taken = buffer.len().min(room);
        self.piece.extend_from_slice(&buffer[..taken]);
        if taken == room {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(CHUNK_BYTES));
        let data = v1::backup_response::Part::Data(Bytes::from(piece));
        self.sender
            .blocking_send(Ok(backup_part(data)))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

/// A volume that belongs to no cluster yet.
#[derive(Clone, Debug)]
pub struct UnclaimedService {
    superblock: Arc<Mutex<SuperblockFile>>,
    claimed: watch::Sender<Option<Uuid>>,
}

impl UnclaimedService {
    /// The service, and where a claim shows.
    #[must_use]
    pub fn new(superblock: Arc<Mutex<SuperblockFile>>) -> (Self, watch::Receiver<Option<Uuid>>) {
        let (claimed, seen) = watch::channel(None);
        (
            Self {
                superblock,
                claimed,
            },
            seen,
        )
    }
}

fn unclaimed<T>() -> Result<T, Status> {
    Err(Status::failed_precondition(
        "this volume belongs to no cluster yet",
    ))
}

#[tonic::async_trait]
impl Admin for UnclaimedService {
    type BackupStream = BackupStream;

    async fn status(
        &self,
        _: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        let superblock = self
            .superblock
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let current = superblock.current();
        Ok(Response::new(v1::StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node_id: current.node_id.0,
            incarnation: current.incarnation.to_string(),
            boot_count: current.boot_count,
            role: v1::Role::Waiting as i32,
            not_ready_reason: "this volume belongs to no cluster yet".to_owned(),
            ..v1::StatusResponse::default()
        }))
    }

    async fn claim(
        &self,
        request: Request<v1::ClaimRequest>,
    ) -> Result<Response<v1::ClaimResponse>, Status> {
        let wanted = uuid(&request.get_ref().cluster_uuid)?;
        let mut superblock = self
            .superblock
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let current = superblock.current().cluster_uuid;
        if !current.is_nil() && current != wanted {
            return Err(Status::already_exists(format!(
                "this volume belongs to cluster {current}"
            )));
        }
        superblock
            .update(|superblock| superblock.cluster_uuid = wanted)
            .map_err(|error| Status::data_loss(describe(&error)))?;
        self.claimed.send_replace(Some(wanted));
        Ok(Response::new(v1::ClaimResponse {}))
    }

    async fn initialise(
        &self,
        _: Request<v1::InitialiseRequest>,
    ) -> Result<Response<v1::InitialiseResponse>, Status> {
        unclaimed()
    }

    async fn add_learner(
        &self,
        _: Request<v1::AddLearnerRequest>,
    ) -> Result<Response<v1::MembershipResponse>, Status> {
        unclaimed()
    }

    async fn promote(
        &self,
        _: Request<v1::PromoteRequest>,
    ) -> Result<Response<v1::MembershipResponse>, Status> {
        unclaimed()
    }

    async fn remove(
        &self,
        _: Request<v1::RemoveRequest>,
    ) -> Result<Response<v1::MembershipResponse>, Status> {
        unclaimed()
    }

    async fn update_member(
        &self,
        _: Request<v1::UpdateMemberRequest>,
    ) -> Result<Response<v1::MembershipResponse>, Status> {
        unclaimed()
    }

    async fn transfer_leadership(
        &self,
        _: Request<v1::TransferLeadershipRequest>,
    ) -> Result<Response<v1::TransferLeadershipResponse>, Status> {
        unclaimed()
    }

    async fn snapshot(
        &self,
        _: Request<v1::SnapshotRequest>,
    ) -> Result<Response<v1::SnapshotResponse>, Status> {
        unclaimed()
    }

    async fn verify(
        &self,
        _: Request<v1::VerifyRequest>,
    ) -> Result<Response<v1::VerifyResponse>, Status> {
        unclaimed()
    }

    async fn digest_at(
        &self,
        _: Request<v1::DigestAtRequest>,
    ) -> Result<Response<v1::DigestAtResponse>, Status> {
        unclaimed()
    }

    async fn backup(
        &self,
        _: Request<v1::BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        unclaimed()
    }
}
