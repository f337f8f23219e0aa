//! Replicas compare their digests continually: at an equal index they must be equal.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use quadraft_protocol::{AdminConnection, NodeId, v1};

use super::node::Node;

const INTERVAL: Duration = Duration::from_secs(10);
const CALL_DEADLINE: Duration = Duration::from_secs(2);

/// Compares this node's digest with its leader's until the node stops. A difference is remembered
/// and reported, never repaired silently.
pub fn start_comparing(node: Arc<Node>) {
    tokio::spawn(async move {
        let mut equal = BTreeMap::new();
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !node.is_stopping() {
            interval.tick().await;
            compare_with_leader(&node, &mut equal).await;
        }
    });
}

/// `equal` has the last index at which this node was equal to each leader.
async fn compare_with_leader(node: &Node, equal: &mut BTreeMap<u64, u64>) {
    let Some((leader, address)) = node.leader() else {
        return;
    };
    if leader == node.node_id().0 {
        return;
    }
    let status = node.state().status();
    let Some(applied) = status.applied else {
        return;
    };
    let own = status.digest.to_string();
    let answer = async {
        let mut connection = AdminConnection::connect(&address, CALL_DEADLINE).await?;
        connection
            .digest_at(v1::DigestAtRequest {
                log_index: applied.index,
            })
            .await
    }
    .await;
    // "Could not compare" is unknown, never equal, and never different.
    let Ok(v1::DigestAtResponse {
        known: true,
        digest,
    }) = answer
    else {
        return;
    };
    if digest == own {
        equal.insert(leader, applied.index);
    } else {
        tracing::error!(
            leader = %NodeId(leader),
            index = applied.index,
            own,
            other = digest,
            "this replica's digest differs from the leader's"
        );
        node.note_divergence(v1::Divergence {
            node_id: leader,
            log_index: applied.index,
            own_digest: own,
            other_digest: digest,
            equal_log_index: equal.get(&leader).copied().unwrap_or(0),
        });
    }
}
