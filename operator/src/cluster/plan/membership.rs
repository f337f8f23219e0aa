//! Steps that bring Raft's membership to the wanted slots, one at a time, and the clean-up of
//! slots that have left it.

use std::collections::BTreeSet;

use quadraft_protocol::NodeId;

use super::super::health::{self, Leadership};
use super::super::observation::{Observation, Role, Slot, SlotObservation};
use super::super::validate::ValidatedCluster;
use super::{Decision, Reason, Step, describe};

/// The next change of the membership.
pub(super) fn step(
    cluster: &ValidatedCluster,
    observation: &Observation,
    leadership: &Leadership<'_>,
    uuid: &str,
    may_scale_down: bool,
) -> Decision {
    let membership = leadership.membership;
    if membership.joint {
        return Decision::Wait(
            Reason::MembershipChanging,
            "a change of the membership is being committed".to_owned(),
        );
    }
    [
        remove_lost_identity(observation, leadership, uuid),
        join(cluster, observation, leadership, uuid),
        if may_scale_down {
            scale_down(cluster, leadership)
        } else {
            Decision::Nothing
        },
    ]
    .into_iter()
    .reduce(|first, second| match (&first, &second) {
        (Decision::Step(..), _) | (_, Decision::Nothing) => first,
        (_, Decision::Step(..)) | (Decision::Nothing, _) => second,
        _ => first,
    })
    .unwrap_or(Decision::Nothing)
}

/// A member whose slot answers under another identity: its volume is gone or gave up its promises.
fn remove_lost_identity(
    observation: &Observation,
    leadership: &Leadership<'_>,
    uuid: &str,
) -> Decision {
    let membership = leadership.membership;
    for (member, slot) in &membership.members {
        let Some(slot) = slot else { continue };
        let answers_as_another = observation
            .slots
            .get(slot)
            .and_then(|seen| seen.node.as_ref())
            .is_some_and(|node| node.node_id != *member && node.cluster_uuid == uuid);
        if !answers_as_another {
            continue;
        }
        // This disrupts nobody: the identity is gone already, and without it the others need fewer
        // votes. Waiting until all others are healthy would wait for ever when two are lost.
        if membership.voters.contains(member) && !leadership.has_majority_without(*member) {
            return Decision::Wait(
                Reason::ReplacingMember,
                format!(
                    "{} is removed when a majority of the others is healthy",
                    describe(*member, membership)
                ),
            );
        }
        return Decision::Step(
            Step::Remove {
                slot: *slot,
                node_id: *member,
                membership_index: membership.index,
            },
            Reason::ReplacingMember,
            format!(
                "{} is gone with its volume: its identity is removed",
                describe(*member, membership)
            ),
        );
    }
    Decision::Nothing
}

fn join(
    cluster: &ValidatedCluster,
    observation: &Observation,
    leadership: &Leadership<'_>,
    uuid: &str,
) -> Decision {
    let membership = leadership.membership;
    let mut waiting = Decision::Nothing;
    for slot in cluster.wanted_slots() {
        let Some(node) = observation
            .slots
            .get(&slot)
            .and_then(|seen| seen.node.as_ref())
        else {
            continue;
        };
        if node.cluster_uuid != uuid || membership.voters.contains(&node.node_id) {
            continue;
        }
        let holds_slot = |member: &Option<Slot>| *member == Some(slot);
        if membership.members.contains_key(&node.node_id) {
            let votes = membership.voters.len() + 1;
            let enough = (leadership.healthy_voters.len() + 1) * 2 > votes;
            if health::is_caught_up(node, leadership.leader) && enough {
                return Decision::Step(
                    Step::Promote {
                        slot,
                        node_id: node.node_id,
                        membership_index: membership.index,
                    },
                    Reason::Joining,
                    format!("slot {slot} has caught up and becomes a voter"),
                );
            }
            waiting = Decision::Wait(
                Reason::Joining,
                format!("slot {slot} catches up as a learner"),
            );
        } else if !membership.members.values().any(holds_slot)
            && node.role == Role::Waiting
            && node.membership.is_none()
        {
            return Decision::Step(
                Step::AddLearner {
                    slot,
                    node_id: node.node_id,
                    membership_index: membership.index,
                },
                Reason::Joining,
                format!("slot {slot} joins as a learner"),
            );
        }
    }
    waiting
}

fn scale_down(cluster: &ValidatedCluster, leadership: &Leadership<'_>) -> Decision {
    let membership = leadership.membership;
    let leaving = membership
        .members
        .iter()
        .filter_map(|(node, slot)| Some((*node, (*slot)?)))
        .filter(|(_, slot)| *slot >= cluster.replicas)
        .max_by_key(|(_, slot)| *slot);
    let Some((node, slot)) = leaving else {
        return Decision::Nothing;
    };
    let remove = Decision::Step(
        Step::Remove {
            slot,
            node_id: node,
            membership_index: membership.index,
        },
        Reason::ScalingDown,
        format!("slot {slot} leaves the cluster"),
    );
    if !membership.voters.contains(&node) {
        return remove;
    }
    // The present configuration must commit the removal: with the leaving voter when it is
    // healthy, else by a majority without it.
    let commits = leadership.healthy_voters.contains(&node) || leadership.can_lose(node);
    if membership.voters.len() < 2 || !leadership.others_are_healthy(node) || !commits {
        return Decision::Wait(
            Reason::ScalingDown,
            format!("slot {slot} leaves when all other voters are healthy"),
        );
    }
    if leadership.leader.node_id != node {
        return remove;
    }
    match successor(cluster, leadership, node) {
        Some(to) => Decision::Step(
            Step::TransferLeadership { from: slot, to },
            Reason::ScalingDown,
            format!("slot {slot} hands leadership over before it leaves"),
        ),
        None => Decision::Wait(
            Reason::ScalingDown,
            "no healthy voter can take leadership".to_owned(),
        ),
    }
}

/// A healthy voter to lead next, one that stays when there is one.
fn successor(
    cluster: &ValidatedCluster,
    leadership: &Leadership<'_>,
    leaving: NodeId,
) -> Option<NodeId> {
    let slot_of = |node: &NodeId| leadership.membership.members.get(node).copied().flatten();
    leadership
        .healthy_voters
        .iter()
        .copied()
        .filter(|node| *node != leaving)
        .min_by_key(|node| {
            let slot = slot_of(node).unwrap_or(Slot::MAX);
            (slot >= cluster.replicas, slot)
        })
}

/// Slots whose objects may go: they are out of the committed membership, and either not wanted
/// or hold an identity that was removed and may not be used again.
pub(super) fn retiring(
    cluster: &ValidatedCluster,
    observation: &Observation,
    leadership: &Leadership<'_>,
) -> BTreeSet<Slot> {
    let membership = leadership.membership;
    if membership.joint || membership.index > leadership.leader.committed_index {
        return BTreeSet::new();
    }
    observation
        .slots
        .iter()
        .filter(|(slot, seen)| {
            let is_member = membership
                .members
                .values()
                .any(|member| *member == Some(**slot))
                || seen
                    .node
                    .as_ref()
                    .is_some_and(|node| membership.members.contains_key(&node.node_id));
            !is_member
                && (**slot >= cluster.replicas || was_removed(seen, membership.index))
                && !is_newer(seen, membership.index)
        })
        .map(|(slot, _)| *slot)
        .collect()
}

/// The slot's node knows a later membership than the leader told: nothing is concluded from it.
fn is_newer(seen: &SlotObservation, membership_index: u64) -> bool {
    seen.node
        .as_ref()
        .and_then(|node| node.membership.as_ref())
        .is_some_and(|own| own.index > membership_index)
}

/// The slot holds an identity that was a member once and is none now.
fn was_removed(seen: &SlotObservation, membership_index: u64) -> bool {
    seen.ended_as_removed()
        || seen
            .node
            .as_ref()
            .and_then(|node| node.membership.as_ref())
            .is_some_and(|own| own.index <= membership_index)
}

/// Takes away what a retiring slot has: first its volume, which stays until no pod uses it, then its
/// StatefulSet. Only the volume remembers what was decided: that the node was removed is known from
/// its own answer, which is gone with its pod.
pub(super) fn retire(observation: &Observation, retiring: &BTreeSet<Slot>) -> Decision {
    for slot in retiring.iter().rev() {
        let Some(seen) = observation.slots.get(slot) else {
            continue;
        };
        let message = format!("slot {slot} has left the cluster: its objects are deleted");
        if let Some(volume) = seen.volume.as_ref().filter(|volume| !volume.deleting) {
            return Decision::Step(
                Step::DeleteVolume {
                    slot: *slot,
                    uid: volume.uid.clone(),
                    resource_version: volume.resource_version.clone(),
                },
                Reason::ScalingDown,
                message,
            );
        }
        if let Some(set) = seen.stateful_set.as_ref().filter(|set| !set.deleting) {
            return Decision::Step(
                Step::DeleteStatefulSet {
                    slot: *slot,
                    uid: set.uid.clone(),
                    resource_version: set.resource_version.clone(),
                },
                Reason::ScalingDown,
                message,
            );
        }
        if seen.volume.is_some() || seen.stateful_set.is_some() || seen.pod.is_some() {
            return Decision::Wait(Reason::ScalingDown, message);
        }
    }
    Decision::Nothing
}

/// The lowest wanted slot of which nothing exists, when no other slot is on its way in.
pub(super) fn slot_to_create(
    cluster: &ValidatedCluster,
    observation: &Observation,
    leadership: &Leadership<'_>,
) -> Option<Slot> {
    let is_voter =
        |slot: Slot| {
            leadership.membership.voters.iter().any(|voter| {
                leadership.membership.members.get(voter).copied().flatten() == Some(slot)
            })
        };
    let exists = |slot: Slot| {
        observation
            .slots
            .get(&slot)
            .is_some_and(|seen| seen.volume.is_some() || seen.stateful_set.is_some())
    };
    let next = cluster.wanted_slots().find(|slot| !is_voter(*slot))?;
    (!exists(next)).then_some(next)
}

/// What to say of voters and wanted slots that are not there.
pub(super) fn missing(
    cluster: &ValidatedCluster,
    observation: &Observation,
    leadership: &Leadership<'_>,
) -> Decision {
    let membership = leadership.membership;
    let unhealthy: Vec<String> = membership
        .voters
        .iter()
        .filter(|voter| !leadership.healthy_voters.contains(voter))
        .map(|voter| describe(*voter, membership))
        .collect();
    if !unhealthy.is_empty() {
        return Decision::Wait(
            Reason::WaitingForMembers,
            format!("not healthy: {}", unhealthy.join(", ")),
        );
    }
    let answers = |slot: &Slot| {
        observation
            .slots
            .get(slot)
            .is_some_and(|seen| seen.node.is_some())
    };
    match cluster.wanted_slots().find(|slot| !answers(slot)) {
        Some(slot) => Decision::Wait(
            Reason::WaitingForMembers,
            format!("the node of slot {slot} does not answer yet"),
        ),
        None => Decision::Nothing,
    }
}
