//! Whether this node is in contact with a majority: as a leader that hears from one, or through a
//! leader that does.
//!
//! The Raft library goes on calling a leader so that is cut off, and a dead one too. Such a leader
//! can confirm nothing: once no majority has answered it for an election timeout, it has stepped
//! down for everybody who asks (as etcd's CheckQuorum does; Ongaro, "Consensus: Bridging Theory and
//! Practice", 2014, section 6.2), and leads again when one answers before another is elected.

use std::time::Duration;

use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::metrics::RaftMetrics;

use super::freshness::Leading;
use super::node::Node;
use super::types::TypeConfig;
use crate::state::State;

/// In election timeouts: how long a majority may not have been heard before clients are sent
/// elsewhere. A follower hears of it through its leader, one heartbeat later.
const READY_ELECTION_TIMEOUTS: u32 = 2;
/// In election timeouts: how long a request waits for a leader. Others have elected one by then, if
/// they can: after two at most, and when votes were tied after two more.
const PATIENCE_ELECTION_TIMEOUTS: u32 = 5;
/// Between two looks at whether a leader is still there.
const LOOK: Duration = Duration::from_millis(50);

/// How long ago a majority answered what this node sent as the leader; `None` when it does not
/// lead, or none has answered yet.
fn quorum_age(metrics: &RaftMetrics<TypeConfig>) -> Option<Duration> {
    if !metrics.state.is_leader() {
        return None;
    }
    // Who is alone is its own majority.
    if metrics.membership_config.voter_ids().nth(1).is_none() {
        return Some(Duration::ZERO);
    }
    metrics
        .last_quorum_acked
        .map(|acknowledged| acknowledged.elapsed())
}

/// Whether a node with these metrics leads: it is the leader, and a majority answered it within an
/// election timeout.
pub(super) fn leads(metrics: &RaftMetrics<TypeConfig>, election_timeout: Duration) -> bool {
    quorum_age(metrics).is_some_and(|age| age <= election_timeout)
}

/// What a leader with these metrics and this state tells of how recent it is. Before it has applied
/// an entry of its own term, it does not know everything that was acknowledged before.
pub(super) fn leading(metrics: &RaftMetrics<TypeConfig>, state: &State) -> Option<Leading> {
    let quorum_age = quorum_age(metrics)?;
    let applied = state.applied()?;
    (applied.term == metrics.current_term).then_some(Leading {
        quorum_age,
        applied_index: applied.index,
    })
}

impl Node {
    /// Whether this node leads, and a majority hears it.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow_watched();
        leads(&metrics, self.options().election_timeout())
    }

    /// The leader that is known, with its peer address. A leader that stepped down is none.
    pub(super) fn leader(&self) -> Option<(u64, String)> {
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow_watched();
        let leader = metrics.current_leader?;
        if leader == self.node_id().0 && !leads(&metrics, self.options().election_timeout()) {
            return None;
        }
        let addresses = metrics.membership_config.get_node(&leader)?;
        Some((leader, addresses.peer.clone()))
    }

    /// For how long writes may be missing from this node's state: everything that was acknowledged
    /// before is in it. `None` when nothing is known.
    pub(super) fn age(&self) -> Option<Duration> {
        let metrics = self.raft().metrics();
        let leading = leading(&metrics.borrow_watched(), self.state());
        match leading {
            Some(leading) => Some(leading.quorum_age),
            None => {
                let applied = self.state().applied().map_or(0, |applied| applied.index);
                self.peers().freshness().age(applied)
            }
        }
    }

    /// How long ago a majority was heard, by this node or by the leader that it hears; since the
    /// start if none ever was.
    pub(super) fn contact_age(&self) -> Duration {
        let metrics = self.raft().metrics();
        self.contact_age_of(&metrics.borrow_watched())
    }

    pub(super) fn contact_age_of(&self, metrics: &RaftMetrics<TypeConfig>) -> Duration {
        let freshness = self.peers().freshness();
        [quorum_age(metrics), freshness.majority_age()]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or_else(|| freshness.up())
    }

    /// Why clients are not to be sent here, when no majority was heard for too long.
    pub(super) fn lost_contact(&self, metrics: &RaftMetrics<TypeConfig>) -> Option<String> {
        let age = self.contact_age_of(metrics);
        (age > self.options().election_timeout() * READY_ELECTION_TIMEOUTS).then(|| {
            format!(
                "no leader with a majority was heard for {} ms",
                age.as_millis()
            )
        })
    }

    /// Whether a request that found no leader may still wait for one.
    pub(super) fn may_wait_for_a_leader(&self) -> bool {
        self.contact_age() <= self.options().election_timeout() * PATIENCE_ELECTION_TIMEOUTS
    }

    /// Waits until this leader is not the one that is known any more, or has not been heard for
    /// twice an election timeout: what was sent to it will not be answered.
    pub(super) async fn leader_gone(&self, leader: u64) {
        let patience = self.options().election_timeout() * READY_ELECTION_TIMEOUTS;
        let mut metrics = self.raft().server_metrics();
        while self.leader().is_some_and(|(known, _)| known == leader)
            && self.contact_age() <= patience
        {
            // Either is fine: the loop looks again.
            let _ = tokio::time::timeout(LOOK, metrics.changed()).await;
        }
    }
}
