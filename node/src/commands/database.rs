//! The running node as the HTTP edge sees it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use quadraft_protocol::{NodeId, RecoveryReport, v1};
use serde_json::json;

use crate::http;
use crate::raft::{self, Node};
use crate::sparql::update::Write;
use crate::state::{RequestId, State};

/// Hands requests of the HTTP edge to the node.
#[derive(Clone, Debug)]
pub(super) struct NodeDatabase(pub(super) Arc<Node>);

fn write_failure(failure: raft::WriteFailure) -> http::WriteFailure {
    match failure {
        raft::WriteFailure::Rejected(error) => http::WriteFailure::Rejected(error),
        raft::WriteFailure::NoLeader => http::WriteFailure::NoLeader,
        raft::WriteFailure::Overloaded => http::WriteFailure::Overloaded,
        raft::WriteFailure::OutcomeUnknown => http::WriteFailure::OutcomeUnknown,
        raft::WriteFailure::DiskFull(reason) => http::WriteFailure::DiskFull(reason),
        raft::WriteFailure::Stopped => http::WriteFailure::Stopped,
    }
}

fn role(status: &v1::StatusResponse) -> &'static str {
    match status.role() {
        v1::Role::Unspecified => "unknown",
        v1::Role::Waiting => "waiting",
        v1::Role::Learner => "learner",
        v1::Role::Follower => "follower",
        v1::Role::Candidate => "candidate",
        v1::Role::Leader => "leader",
        v1::Role::Stopped => "stopped",
    }
}

fn scrub(scrub: v1::Scrub) -> serde_json::Value {
    let known = |time_ms: u64| (time_ms != 0).then_some(time_ms);
    json!({
        "enabled": scrub.enabled,
        "part": (!scrub.part.is_empty()).then_some(scrub.part),
        "bytes_done": scrub.bytes_done,
        "bytes_total": scrub.bytes_total,
        "started_ms": known(scrub.started_ms),
        "next_ms": known(scrub.next_ms),
        "last": scrub.last.map(|last| json!({
            "started_ms": last.started_ms,
            "ended_ms": last.ended_ms,
            "checked_bytes": last.checked_bytes,
            "checked": last.checked,
            "mended": last.mended,
            "repaired_from_peers": last.repaired_from_peers,
            "unrepairable": last.unrepairable,
            "findings": last.findings,
        })),
    })
}

#[async_trait]
impl http::Database for NodeDatabase {
    async fn write(
        &self,
        id: RequestId,
        write: Write,
        deadline: Duration,
    ) -> Result<http::Committed, http::WriteFailure> {
        let committed = self
            .0
            .write(id, write, deadline)
            .await
            .map_err(write_failure)?;
        Ok(http::Committed {
            log_index: committed.log_index,
            duplicate: committed.duplicate,
            created: committed.created,
        })
    }

    async fn read_barrier(
        &self,
        consistency: http::Consistency,
        deadline: Duration,
    ) -> Result<http::ReadPoint, http::ReadFailure> {
        let consistency = match consistency {
            http::Consistency::Linearizable => raft::Consistency::Linearizable,
            http::Consistency::Session { minimum_index } => raft::Consistency::Session {
                minimum_log_index: minimum_index,
            },
            http::Consistency::Stale => raft::Consistency::Stale,
        };
        match self.0.read_barrier(consistency, deadline).await {
            Ok(point) => Ok(http::ReadPoint {
                age_ms: point.age_ms,
            }),
            Err(raft::ReadFailure::NoLeader) => Err(http::ReadFailure::NoLeader),
            Err(raft::ReadFailure::TimedOut) => Err(http::ReadFailure::TimedOut),
            Err(raft::ReadFailure::Stopped) => Err(http::ReadFailure::Stopped),
        }
    }

    fn state(&self) -> Arc<State> {
        self.0.state().clone()
    }

    fn readiness(&self) -> Result<(), String> {
        self.0.readiness()
    }

    fn liveness(&self) -> Result<(), String> {
        if self.0.is_alive() {
            Ok(())
        } else {
            Err("the Raft core has stopped".to_owned())
        }
    }

    fn recovery_report(&self) -> RecoveryReport {
        self.0.recovery_report().clone()
    }

    fn status(&self) -> serde_json::Value {
        let status = self.0.status();
        let leader = NodeId(status.leader_node_id);
        json!({
            "version": status.version,
            "node_id": NodeId(status.node_id),
            "cluster_uuid": status.cluster_uuid,
            "boot_count": status.boot_count,
            "role": role(&status),
            "term": status.term,
            "leader": (leader.0 != 0).then_some(leader),
            "last_log_index": status.last_log_id.map(|log_id| log_id.index),
            "committed_index": status.committed.map(|log_id| log_id.index),
            "applied_index": status.applied.map(|log_id| log_id.index),
            "disk_available_bytes": status.disk_available_bytes,
            "disk_is_short": status.disk_is_short,
            "unreadable_entries": status.unreadable.len(),
            "repaired_from_peers": status.repaired_from_peers.len(),
            "snapshot_index": status.snapshot.map(|log_id| log_id.index),
            "digest": status.digest,
            "quads": status.quads,
            "scrub": status.scrub.map(scrub),
            "ready": status.ready,
            "not_ready_reason": status.not_ready_reason,
            "members": status.membership.map(|membership| {
                membership
                    .members
                    .iter()
                    .map(|member| json!({
                        "node_id": NodeId(member.node_id),
                        "peer_address": member.peer_address,
                        "http_address": member.http_address,
                        "voter": membership
                            .configurations
                            .iter()
                            .any(|set| set.voters.contains(&member.node_id)),
                    }))
                    .collect::<Vec<_>>()
            }),
        })
    }
}
