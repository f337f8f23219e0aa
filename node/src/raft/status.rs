//! How the node stands, for administration, readiness and metrics.

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::metrics::RaftMetrics;
use openraft::{Instant as _, ServerState};
use quadraft_protocol::v1;

use super::codec::{log_id_message, position_message, stored_membership_message};
use super::contact::leads;
use super::node::Node;
use super::types::TypeConfig;
use crate::position::LogPosition;

impl Node {
    /// The whole status.
    #[must_use]
    pub fn status(&self) -> v1::StatusResponse {
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow_watched().clone();
        let state = self.state().status();
        let identity = self.peers().identity();
        let readiness = self.readiness_of(&metrics);
        let log = self.log().state();
        let space = self.space().status();
        v1::StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node_id: identity.node_id.0,
            cluster_uuid: identity.cluster_uuid.to_string(),
            incarnation: identity.incarnation.to_string(),
            boot_count: identity.boot_count,
            role: self.role(&metrics) as i32,
            term: metrics.current_term,
            leader_node_id: self.leader().map_or(0, |(leader, _)| leader),
            last_log_id: log.last.map(position_message),
            committed: metrics.local_committed.as_ref().map(log_id_message),
            applied: state.applied.map(position_message),
            snapshot: metrics.snapshot.as_ref().map(log_id_message),
            purged: log.purged.map(position_message),
            membership: Some(stored_membership_message(&metrics.membership_config)),
            digest: state.digest.to_string(),
            quads: state.quads,
            progress: progress(&metrics),
            ready: readiness.is_ok(),
            not_ready_reason: readiness.err().unwrap_or_default(),
            recovery_report_json: serde_json::to_string(self.recovery_report()).unwrap_or_default(),
            divergences: self.divergences(),
            unreadable: messages(self.log().unreadable()),
            repaired_from_peers: messages(self.repaired_from_peers()),
            scrub: Some(self.scrub()),
            disk_available_bytes: space.available_bytes,
            disk_is_short: space.is_short(),
        }
    }

    fn role(&self, metrics: &RaftMetrics<TypeConfig>) -> v1::Role {
        if metrics.running_state.is_err() {
            return v1::Role::Stopped;
        }
        if metrics.membership_config.nodes().next().is_none() {
            return v1::Role::Waiting;
        }
        match metrics.state {
            ServerState::Leader if leads(metrics, self.options().election_timeout()) => {
                v1::Role::Leader
            }
            // A leader that hears no majority has stepped down.
            ServerState::Leader | ServerState::Follower => v1::Role::Follower,
            ServerState::Candidate => v1::Role::Candidate,
            ServerState::Shutdown => v1::Role::Stopped,
            // A node that was removed, or not added yet, is no learner of this cluster.
            ServerState::Learner if metrics.membership_config.get_node(&metrics.id).is_none() => {
                v1::Role::Waiting
            }
            ServerState::Learner => v1::Role::Learner,
        }
    }

    /// Whether clients should be sent here, or why not.
    ///
    /// # Errors
    /// The reason, for a person.
    pub fn readiness(&self) -> Result<(), String> {
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow_watched().clone();
        self.readiness_of(&metrics)
    }

    fn readiness_of(&self, metrics: &RaftMetrics<TypeConfig>) -> Result<(), String> {
        if self.is_stopping() {
            return Err("the node is stopping".to_owned());
        }
        if self.is_leaving() {
            return Err("the node is about to stop".to_owned());
        }
        if let Err(error) = &metrics.running_state {
            return Err(format!("the Raft core has stopped: {error}"));
        }
        if let Some(what) = self.damaged_store.kept() {
            return Err(format!(
                "the store is damaged, and nobody has its data: {what}"
            ));
        }
        if metrics.membership_config.nodes().next().is_none() {
            return Err("waiting to be initialised or added to a cluster".to_owned());
        }
        if metrics.membership_config.get_node(&metrics.id).is_none() {
            return Err("this node is not a member of the cluster".to_owned());
        }
        if metrics.current_leader.is_none() {
            return Err("no leader is known".to_owned());
        }
        if let Some(reason) = self.lost_contact(metrics) {
            return Err(reason);
        }
        let next = |position: Option<u64>| position.map_or(0, |index| index + 1);
        // What is known here to be committed may be far behind: a member that is being filled, or was
        // away, hears from its leader how far the cluster is.
        let committed = next(metrics.local_committed.map(|log_id| log_id.index))
            .max(self.peers().freshness().leader_applied_index() + 1);
        let applied = next(self.state().applied().map(|applied| applied.index));
        let lag = committed.saturating_sub(applied);
        if lag > MAXIMUM_READY_LAG_ENTRIES {
            return Err(format!(
                "{lag} entries that the cluster has committed are still to be applied"
            ));
        }
        Ok(())
    }

    /// Whether a member has answered its leader lately. Meaningful on the leader only.
    pub(super) fn is_responsive(&self, id: u64, metrics: &RaftMetrics<TypeConfig>) -> bool {
        metrics
            .heartbeat
            .as_ref()
            .and_then(|heartbeat| heartbeat.get(&id).copied().flatten())
            .is_some_and(|answered| answered.elapsed() < self.options().election_timeout())
    }
}

fn messages(positions: Vec<LogPosition>) -> Vec<v1::LogId> {
    positions.into_iter().map(position_message).collect()
}

const MAXIMUM_READY_LAG_ENTRIES: u64 = 1000;

fn progress(metrics: &RaftMetrics<TypeConfig>) -> Vec<v1::Progress> {
    let Some(replication) = &metrics.replication else {
        return Vec::new();
    };
    replication
        .iter()
        .map(|(id, matching)| v1::Progress {
            node_id: *id,
            matching: matching.as_ref().map(log_id_message),
            last_acknowledged_ms: metrics
                .heartbeat
                .as_ref()
                .and_then(|heartbeat| heartbeat.get(id).copied().flatten())
                .map(|answered| u64::try_from(answered.elapsed().as_millis()).unwrap_or(u64::MAX)),
        })
        .collect()
}
