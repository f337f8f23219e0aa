//! Replacing a member whose machine is gone, or that a person wants replaced: it leaves the membership,
//! then its volume is given up, and the slot comes back empty, under a new identity, filled by the others.

use super::super::health::Leadership;
use super::super::observation::{Observation, Slot, SlotObservation};
use super::super::validate::ValidatedCluster;
use super::{Decision, Reason, Step, describe};

/// The next member to replace: one for which a person has asked, or that was unreachable for as long as
/// the spec says. Only when all other voters are healthy and a majority without it: they have what it has.
pub(super) fn replace(
    cluster: &ValidatedCluster,
    observation: &Observation,
    leadership: &Leadership<'_>,
) -> Decision {
    let membership = leadership.membership;
    let is_settled = !membership.joint && membership.index <= leadership.leader.committed_index;
    for slot in cluster.wanted_slots() {
        let Some((seen, why)) = wanted(cluster, observation, slot) else {
            continue;
        };
        let mut members = membership.members.iter();
        let Some((node, _)) = members.find(|(_, member)| **member == Some(slot)) else {
            // One that answers joins, or ends by itself because it was removed.
            if is_settled && seen.node.is_none() {
                return discard(slot, seen, &why);
            }
            continue;
        };
        let member = describe(*node, membership);
        if !is_settled || !leadership.can_lose(*node) {
            return Decision::Wait(
                Reason::ReplacingMember,
                format!("{member} {why}: it is replaced when all other voters are healthy"),
            );
        }
        let successor = leadership.healthy_voters.iter().find(|to| *to != node);
        let (step, message) = match successor {
            Some(to) if leadership.leader.node_id == *node => (
                Step::TransferLeadership {
                    from: slot,
                    to: *to,
                },
                format!("{member} hands leadership over before it is replaced"),
            ),
            _ => (
                Step::Remove {
                    slot,
                    node_id: *node,
                    membership_index: membership.index,
                },
                format!("{member} {why}: it leaves the cluster, and an empty one takes its place"),
            ),
        };
        return Decision::Step(step, Reason::ReplacingMember, message);
    }
    Decision::Nothing
}

/// Gives up what is left of a member that has left.
fn discard(slot: Slot, seen: &SlotObservation, why: &str) -> Decision {
    let Some(volume) = seen.volume.as_ref().filter(|volume| !volume.deleting) else {
        return Decision::Nothing;
    };
    Decision::Step(
        Step::Discard {
            slot,
            volume_uid: volume.uid.clone(),
            volume_resource_version: volume.resource_version.clone(),
            pod_uid: seen.pod.as_ref().map(|pod| pod.uid.clone()),
        },
        Reason::ReplacingMember,
        format!("slot {slot} {why}: it has left, and its volume is given up"),
    )
}

/// Whether the member of a slot is to be replaced, and why.
fn wanted<'a>(
    cluster: &ValidatedCluster,
    observation: &'a Observation,
    slot: Slot,
) -> Option<(&'a SlotObservation, String)> {
    let seen = observation.slots.get(&slot)?;
    let requested = cluster
        .replaced_volume
        .as_ref()
        .zip(seen.volume.as_ref())
        .is_some_and(|((wanted, uid), volume)| *wanted == slot && *uid == volume.uid);
    if requested {
        return Some((seen, "is to be replaced".to_owned()));
    }
    let after = cluster.spec.recovery.replace_after_seconds?;
    (seen.is_unreachable() && seen.unreachable_seconds >= after).then(|| {
        let why = format!("has not answered for more than {after} s");
        (seen, why)
    })
}
