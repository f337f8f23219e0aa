//! Judges who leads and who is healthy. Pure; the plan and the status share it.
//!
//! The rule beside the code that relies on it: a configuration of `n` voters commits with
//! `n / 2 + 1` of them, so a voter may be stopped while `healthy others > n / 2`, and one may be
//! taken out while the others that stay are all healthy.

use std::collections::{BTreeMap, BTreeSet};

use quadraft_protocol::NodeId;

use super::observation::{Membership, Node, Observation, Role, Slot, Volume};
use super::validate::ValidatedCluster;
use crate::names::ANNOTATION_ACCEPT_VOLUME;

/// A member counts as caught up while its log, or what it has applied, is at most this far behind what
/// is committed.
pub const CAUGHT_UP_ENTRIES: u64 = 256;

/// The leader, the membership it holds, and who is healthy in it.
#[derive(Clone, Debug)]
pub struct Leadership<'a> {
    pub slot: Slot,
    pub leader: &'a Node,
    pub membership: &'a Membership,
    pub healthy_voters: BTreeSet<NodeId>,
}

impl Leadership<'_> {
    /// Whether every voter except `node` is healthy.
    #[must_use]
    pub fn others_are_healthy(&self, node: NodeId) -> bool {
        self.membership
            .voters
            .iter()
            .all(|voter| *voter == node || self.healthy_voters.contains(voter))
    }

    /// Whether the healthy voters are a majority without `node`.
    #[must_use]
    pub fn has_majority_without(&self, node: NodeId) -> bool {
        let others = self.healthy_voters.iter().filter(|voter| **voter != node);
        others.count() * 2 > self.membership.voters.len()
    }

    /// Whether the voters other than `node` are all healthy and a majority without it.
    #[must_use]
    pub fn can_lose(&self, node: NodeId) -> bool {
        let voters = self.membership.voters.len();
        let others = self
            .membership
            .voters
            .iter()
            .filter(|voter| **voter != node)
            .count();
        self.others_are_healthy(node) && others * 2 > voters
    }
}

/// Where each answering node is.
#[must_use]
pub fn nodes_by_id(observation: &Observation) -> BTreeMap<NodeId, (Slot, &Node)> {
    observation
        .slots
        .iter()
        .filter_map(|(slot, seen)| seen.node.as_ref().map(|node| (node.node_id, (*slot, node))))
        .collect()
}

/// The node that leads, confirmed by a majority of its own voters in its own term, so that a
/// deposed leader that has not noticed yet is never believed. Two that claim the same term, which
/// Raft rules out, are not believed either.
#[must_use]
pub fn leadership<'a>(observation: &'a Observation, cluster_uuid: &str) -> Option<Leadership<'a>> {
    let nodes = nodes_by_id(observation);
    let claims = || {
        observation
            .slots
            .iter()
            .filter_map(|(slot, seen)| Some((*slot, seen.node.as_ref()?)))
            .filter(|(_, node)| node.role == Role::Leader && node.cluster_uuid == cluster_uuid)
    };
    let term = claims().map(|(_, node)| node.term).max()?;
    let mut newest = claims().filter(|(_, node)| node.term == term);
    let (slot, leader) = newest.next()?;
    if newest.next().is_some() {
        return None;
    }
    let membership = leader.membership.as_ref()?;
    let follows = |voter: &&NodeId| {
        nodes.get(*voter).is_some_and(|(_, node)| {
            node.term == leader.term && node.leader == Some(leader.node_id)
        })
    };
    let followers = membership.voters.iter().filter(follows).count();
    if followers * 2 <= membership.voters.len() {
        return None;
    }
    let healthy_voters = membership
        .voters
        .iter()
        .filter(|voter| {
            nodes.get(*voter).is_some_and(|(slot, node)| {
                // A pod that is being deleted may still answer: it counts as gone already.
                let stays = observation.slots[slot]
                    .pod
                    .as_ref()
                    .is_some_and(|pod| pod.running && !pod.deleting);
                stays && is_healthy(node, leader, cluster_uuid)
            })
        })
        .copied()
        .collect();
    Some(Leadership {
        slot,
        leader,
        membership,
        healthy_voters,
    })
}

fn is_healthy(node: &Node, leader: &Node, cluster_uuid: &str) -> bool {
    node.ready
        && node.cluster_uuid == cluster_uuid
        && matches!(node.role, Role::Leader | Role::Follower)
        && node.leader == Some(leader.node_id)
        && has_log(node, leader)
        && has_applied(node)
        // Another member may hold the only copy that it can be repaired from.
        && node.unreadable.is_empty()
}

/// Whether a learner has what it needs to vote.
#[must_use]
pub fn is_caught_up(node: &Node, leader: &Node) -> bool {
    has_log(node, leader) && has_applied(node) && node.role == Role::Learner
}

/// Whether a node's log has what is committed, by the leader's word alone: the nodes are asked at different
/// times, and in between a busy cluster writes more than anybody may lag behind.
fn has_log(node: &Node, leader: &Node) -> bool {
    let reached = if node.node_id == leader.node_id {
        leader.last_log_index
    } else {
        leader.matching.get(&node.node_id).copied().unwrap_or(0)
    };
    reached + CAUGHT_UP_ENTRIES >= leader.committed_index
}

/// Whether a node has applied what it knows to be committed, by its own word alone. That it knows of
/// everything follows from its log and from its being ready.
fn has_applied(node: &Node) -> bool {
    node.applied_index + CAUGHT_UP_ENTRIES >= node.committed_index
}

/// Pairs of nodes whose data differs at the same applied index, by their own word or by ours.
#[must_use]
pub fn divergences(observation: &Observation) -> Vec<(NodeId, NodeId)> {
    let nodes: Vec<&Node> = observation
        .slots
        .values()
        .filter_map(|seen| seen.node.as_ref())
        .collect();
    let mut pairs = BTreeSet::new();
    for node in &nodes {
        for other in node.diverged_from.keys() {
            pairs.insert(ordered(node.node_id, *other));
        }
        for other in &nodes {
            // An empty digest, or another cluster's, is unknown: neither equal nor different.
            let comparable = node.node_id < other.node_id
                && node.cluster_uuid == other.cluster_uuid
                && node.applied_index == other.applied_index
                && node.applied_index > 0
                && !node.digest.is_empty()
                && !other.digest.is_empty();
            if comparable && node.digest != other.digest {
                pairs.insert(ordered(node.node_id, other.node_id));
            }
        }
    }
    pairs.into_iter().collect()
}

fn ordered(one: NodeId, other: NodeId) -> (NodeId, NodeId) {
    (one.min(other), one.max(other))
}

/// Whether a person has accepted the volume of a slot for a node that reached its mark there: a copy of a
/// volume that has everything is as good as the volume, when nobody uses that one any more.
#[must_use]
pub fn is_accepted(
    cluster: &ValidatedCluster,
    slot: Slot,
    volume: &Volume,
    node: &Node,
    mark_index: u64,
) -> bool {
    let accepted = cluster.accepted_volume.as_ref();
    accepted.is_some_and(|(accepted, uid)| *accepted == slot && *uid == volume.uid)
        && node.last_log_index >= mark_index
}

/// A node id that appears on another volume than before, or below the mark it had reached.
#[must_use]
pub fn set_back(cluster: &ValidatedCluster, observation: &Observation) -> Option<(Slot, String)> {
    for (slot, seen) in &observation.slots {
        let (Some(node), Some(volume)) = (&seen.node, &seen.volume) else {
            continue;
        };
        let Some(mark) = observation.record.high_water.get(&node.node_id) else {
            continue;
        };
        if mark.volume_uid != volume.uid && !is_accepted(cluster, *slot, volume, node, mark.index) {
            return Some((
                *slot,
                format!(
                    "node {} was born on volume {} and now answers from volume {}: it is a copy. If nothing \
                     uses the other one any more, and it was not written to since this one was made, accept \
                     it: kubectl annotate rdfcluster {} {ANNOTATION_ACCEPT_VOLUME}={slot}/{}",
                    node.node_id, mark.volume_uid, volume.uid, cluster.name, volume.uid
                ),
            ));
        }
        if node.last_log_index < mark.index {
            return Some((
                *slot,
                format!(
                    "the log of node {} ends at {} and had reached {}: its volume was set back in time",
                    node.node_id, node.last_log_index, mark.index
                ),
            ));
        }
    }
    None
}
