//! What an operator does to the membership, through the same interface.

use std::time::{Duration, Instant};

use quadraft_protocol::{AdminConnection, v1};

use super::node::LocalNode;

const CALL_DEADLINE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Makes nodes on empty volumes one cluster.
///
/// # Errors
/// When one does not answer within a minute, or refuses.
pub async fn initialise(nodes: &[LocalNode], cluster_uuid: &str) -> Result<(), String> {
    let mut members = Vec::new();
    for node in nodes {
        let minute = Duration::from_secs(60);
        let status = node.wait_for("answering", minute, |_| true).await?;
        members.push(v1::Member {
            node_id: status.node_id,
            peer_address: node.peer_address(),
            http_address: format!("{}:{}", node.host, node.port),
        });
    }
    let first = nodes.first().ok_or("there are no nodes")?;
    let mut admin = AdminConnection::connect(&first.peer_address(), CALL_DEADLINE)
        .await
        .map_err(text)?;
    let request = v1::InitialiseRequest {
        cluster_uuid: cluster_uuid.to_owned(),
        members,
    };
    admin.initialise(request).await.map(|_| ()).map_err(text)
}

/// Puts the node that answers at `nodes[victim]` in the place of the member that had its address:
/// the old identity is removed, the new one becomes a learner, catches up, and is promoted. Whoever
/// leads meanwhile, each step is tried until it is done.
///
/// # Errors
/// When it is not done by `until`.
pub async fn replace_member(
    nodes: &[LocalNode],
    victim: usize,
    until: Instant,
) -> Result<(), String> {
    let mut last = "nobody leads".to_owned();
    while Instant::now() < until {
        match step(nodes, victim).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => last = error,
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(format!("the member was not replaced: {last}"))
}

/// Does what is next; true when nothing is left to do.
async fn step(nodes: &[LocalNode], victim: usize) -> Result<bool, String> {
    let node = &nodes[victim];
    let born = node.status().await.ok_or("the new node does not answer")?;
    let mut leading = None;
    for other in nodes {
        if let Some(status) = other.status().await
            && status.role() == v1::Role::Leader
            && status.node_id != born.node_id
        {
            leading = Some((other.peer_address(), status));
        }
    }
    let (leader, status) = leading.ok_or("nobody leads")?;
    let membership = status.membership.ok_or("the leader has no membership")?;
    let expected_membership_index = membership.log_id.ok_or("it has no log id")?.index;
    let mut admin = AdminConnection::connect(&leader, CALL_DEADLINE)
        .await
        .map_err(text)?;
    let is_voter = |node_id: u64| {
        let mut sets = membership.configurations.iter();
        sets.any(|set| set.voters.contains(&node_id))
    };
    let old = membership.members.iter().find(|member| {
        member.peer_address == node.peer_address() && member.node_id != born.node_id
    });
    let known = membership
        .members
        .iter()
        .any(|member| member.node_id == born.node_id);
    let done = if let Some(old) = old {
        let request = v1::RemoveRequest {
            node_id: old.node_id,
            expected_membership_index,
        };
        admin.remove(request).await.map(|_| false)
    } else if !known {
        let request = v1::AddLearnerRequest {
            member: Some(v1::Member {
                node_id: born.node_id,
                peer_address: node.peer_address(),
                http_address: format!("{}:{}", node.host, node.port),
            }),
            expected_membership_index,
        };
        admin.add_learner(request).await.map(|_| false)
    } else if !is_voter(born.node_id) {
        let request = v1::PromoteRequest {
            node_id: born.node_id,
            expected_membership_index,
        };
        admin.promote(request).await.map(|_| false)
    } else {
        Ok(true)
    };
    done.map_err(text)
}
