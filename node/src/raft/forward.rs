//! Writes from wherever they enter to the leader, and back.

use std::time::{Duration, Instant};

use openraft::async_runtime::watch::WatchReceiver as _;
use quadraft_protocol::v1::forward_client::ForwardClient;
use quadraft_protocol::{NodeId, connect_peer, v1};
use tonic::transport::Channel;

use super::failure::{Committed, WriteFailure};
use super::node::Node;
use super::writer::WriterAnswer;
use crate::sparql::update::{Write, WriteError};
use crate::state::RequestId;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const MAXIMUM_MESSAGE_BYTES: usize = 256 * 1024 * 1024;
/// Between two looks for a leader; a change of the leader ends the pause.
const LEADER_PAUSE: Duration = Duration::from_millis(50);
/// How long after a write's deadline its outcome may still arrive from the leader.
const ANSWER_GRACE: Duration = Duration::from_millis(500);
/// The details that tell a full disk from too many writes.
const DISK_FULL: &[u8] = b"disk_full";

/// How one attempt at the leader ended.
enum Attempt {
    Done(Result<Committed, WriteFailure>),
    /// Nothing was proposed: try again.
    NotProposed,
    /// It may have been proposed: the same request id makes trying again safe.
    Unknown,
}

impl Node {
    /// Commits a write through the leader, whoever that is, within `deadline`. Attempts carry the
    /// same request id, so that however often one is repeated, it is applied once.
    ///
    /// # Errors
    /// See [`WriteFailure`]: all but `OutcomeUnknown` mean that nothing was changed.
    pub async fn write(
        &self,
        id: RequestId,
        write: Write,
        deadline: Duration,
    ) -> Result<Committed, WriteFailure> {
        let until = Instant::now() + deadline;
        let mut may_be_proposed = false;
        loop {
            if self.is_stopping() {
                return Err(if may_be_proposed {
                    WriteFailure::OutcomeUnknown
                } else {
                    WriteFailure::Stopped
                });
            }
            let attempt = match self.leader() {
                Some((leader, _)) if leader == self.node_id().0 => {
                    self.write_here(id, write.clone(), until).await
                }
                Some((leader, address)) => {
                    self.write_there(leader, &address, id, &write, until).await
                }
                None => Attempt::NotProposed,
            };
            match attempt {
                Attempt::Done(Err(
                    WriteFailure::NoLeader | WriteFailure::Overloaded | WriteFailure::DiskFull(_),
                )) if may_be_proposed => {}
                Attempt::Done(result) => return result,
                Attempt::NotProposed => {}
                Attempt::Unknown => may_be_proposed = true,
            }
            if !self.wait_for_another_leader(until).await {
                return Err(if may_be_proposed {
                    WriteFailure::OutcomeUnknown
                } else {
                    WriteFailure::NoLeader
                });
            }
        }
    }

    async fn write_here(&self, id: RequestId, write: Write, until: Instant) -> Attempt {
        let answer = tokio::select! {
            answer = self.writer().write(id, write, until) => answer,
            () = self.leader_gone(self.node_id().0) => return Attempt::Unknown,
        };
        match answer {
            WriterAnswer::Committed(committed) => Attempt::Done(Ok(committed)),
            WriterAnswer::Failed(WriteFailure::NoLeader) | WriterAnswer::NotLeader => {
                Attempt::NotProposed
            }
            WriterAnswer::Failed(failure) => Attempt::Done(Err(failure)),
            WriterAnswer::Lost => Attempt::Unknown,
        }
    }

    async fn write_there(
        &self,
        leader: u64,
        address: &str,
        id: RequestId,
        write: &Write,
        until: Instant,
    ) -> Attempt {
        let Ok(write) = serde_json::to_vec(write) else {
            let message = "the request cannot be passed on".to_owned();
            return Attempt::Done(Err(WriteFailure::Rejected(WriteError::Storage { message })));
        };
        let Ok(mut client) = forward_client(address) else {
            return Attempt::NotProposed;
        };
        let remaining = until.saturating_duration_since(Instant::now());
        let request = v1::WriteRequest {
            envelope: Some(self.peers().envelope(leader)),
            request_id: id.0.to_vec().into(),
            write: write.into(),
            deadline_ms: u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX),
        };
        // The leader says what became of it when its time is over: that is waited for.
        let answered = tokio::time::timeout(remaining + ANSWER_GRACE, client.write(request));
        let answered = tokio::select! {
            answered = answered => answered,
            () = self.leader_gone(leader) => return Attempt::Unknown,
        };
        match answered {
            Ok(Ok(response)) => {
                let response = response.into_inner();
                Attempt::Done(Ok(Committed {
                    log_index: response.log_index,
                    duplicate: response.duplicate,
                    created: response.created,
                }))
            }
            Ok(Err(status)) => read_failure(&status),
            Err(_) => Attempt::Unknown,
        }
    }

    /// Serves a write that a follower passed on: this node must lead.
    pub(crate) async fn write_as_leader(
        &self,
        id: RequestId,
        write: Write,
        deadline: Duration,
    ) -> Result<Committed, tonic::Status> {
        match self
            .writer()
            .write(id, write, Instant::now() + deadline)
            .await
        {
            WriterAnswer::Committed(committed) => Ok(committed),
            WriterAnswer::NotLeader => Err(tonic::Status::failed_precondition(
                "this node does not lead",
            )),
            WriterAnswer::Lost => Err(tonic::Status::aborted("another leader took over")),
            WriterAnswer::Failed(failure) => Err(write_failure(&failure)),
        }
    }

    /// Waits a moment for the leader to change; false once `until` has passed, or when no majority
    /// was heard for so long that another member should be asked.
    pub(super) async fn wait_for_another_leader(&self, until: Instant) -> bool {
        let now = Instant::now();
        if now >= until || !self.may_wait_for_a_leader() {
            return false;
        }
        let pause = LEADER_PAUSE.min(until - now);
        let mut metrics = self.raft().server_metrics();
        // Either is fine: the loop looks again.
        let _ = tokio::time::timeout(pause, metrics.changed()).await;
        true
    }
}

pub(super) fn forward_client(
    address: &str,
) -> Result<ForwardClient<Channel>, quadraft_protocol::ConnectionError> {
    Ok(ForwardClient::new(connect_peer(address, CONNECT_TIMEOUT)?)
        .max_decoding_message_size(MAXIMUM_MESSAGE_BYTES)
        .max_encoding_message_size(MAXIMUM_MESSAGE_BYTES))
}

/// A failure as the leader tells it to the follower that asked.
fn write_failure(failure: &WriteFailure) -> tonic::Status {
    match failure {
        WriteFailure::Rejected(error) => match serde_json::to_vec(error) {
            Ok(details) => tonic::Status::with_details(
                tonic::Code::InvalidArgument,
                error.to_string(),
                details.into(),
            ),
            Err(_) => tonic::Status::internal(error.to_string()),
        },
        WriteFailure::NoLeader | WriteFailure::Stopped => {
            tonic::Status::failed_precondition(failure.to_string())
        }
        WriteFailure::Overloaded => tonic::Status::resource_exhausted(failure.to_string()),
        WriteFailure::DiskFull(reason) => tonic::Status::with_details(
            tonic::Code::ResourceExhausted,
            reason.clone(),
            DISK_FULL.into(),
        ),
        WriteFailure::OutcomeUnknown => tonic::Status::aborted(failure.to_string()),
    }
}

/// The inverse of [`write_failure`]; everything that is not known to be unproposed may have been.
fn read_failure(status: &tonic::Status) -> Attempt {
    match status.code() {
        tonic::Code::InvalidArgument => {
            match serde_json::from_slice::<WriteError>(status.details()) {
                Ok(error) => Attempt::Done(Err(WriteFailure::Rejected(error))),
                Err(_) => Attempt::Unknown,
            }
        }
        tonic::Code::FailedPrecondition | tonic::Code::Unauthenticated => Attempt::NotProposed,
        tonic::Code::ResourceExhausted if status.details() == DISK_FULL => {
            Attempt::Done(Err(WriteFailure::DiskFull(status.message().to_owned())))
        }
        tonic::Code::ResourceExhausted => Attempt::Done(Err(WriteFailure::Overloaded)),
        _ => Attempt::Unknown,
    }
}

/// Who leads, in words.
pub(super) fn leader_name(leader: Option<u64>) -> String {
    leader.map_or_else(|| "nobody".to_owned(), |leader| NodeId(leader).to_string())
}
