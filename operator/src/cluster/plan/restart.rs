//! Restarting pods whose template is out of date: one at a time, the leader last.

use super::super::health::Leadership;
use super::super::observation::{Observation, Slot, SlotObservation};
use super::super::validate::ValidatedCluster;
use super::{Decision, Reason, Step};

/// A pod of an outdated template whose container does not run (a wrong image, a wrong node
/// selector) serves nothing: it is replaced without waiting for anybody.
pub(super) fn replace_what_serves_nothing(slot: Slot, seen: &SlotObservation) -> Decision {
    let (Some(pod), true) = (&seen.pod, is_outdated(seen)) else {
        return Decision::Nothing;
    };
    if pod.running || pod.deleting || seen.node.is_some() || seen.refused().is_some() {
        return Decision::Nothing;
    }
    Decision::Step(
        Step::RestartPod {
            slot,
            pod_uid: pod.uid.clone(),
        },
        Reason::RollingRestart,
        format!("slot {slot}: its pod does not run and is of an outdated template"),
    )
}

fn is_outdated(seen: &SlotObservation) -> bool {
    match (&seen.stateful_set, &seen.pod) {
        (Some(set), Some(pod)) => {
            set.replicas > 0 && !set.deleting && pod.template_hash != set.template_hash
        }
        _ => false,
    }
}

/// Whether pods have to be restarted for no other reason than that another version of the operator makes
/// them otherwise.
pub fn is_due_to_upgrade(cluster: &ValidatedCluster, observation: &Observation) -> bool {
    let mut outdated = outdated(cluster, observation).peekable();
    outdated.peek().is_some()
        && outdated.all(|(_, seen)| match (&seen.stateful_set, &seen.pod) {
            (Some(set), Some(pod)) => set.spec_hash == pod.spec_hash,
            _ => false,
        })
}

fn outdated<'a>(
    cluster: &ValidatedCluster,
    observation: &'a Observation,
) -> impl Iterator<Item = (Slot, &'a SlotObservation)> {
    cluster
        .wanted_slots()
        .filter_map(|slot| Some((slot, observation.slots.get(&slot)?)))
        .filter(|(_, seen)| is_outdated(seen))
}

/// The next pod to restart. Only in a cluster that is otherwise as the spec wants it.
pub(super) fn roll(
    cluster: &ValidatedCluster,
    observation: &Observation,
    leadership: &Leadership<'_>,
) -> Decision {
    let outdated: Vec<(Slot, &SlotObservation)> = outdated(cluster, observation).collect();
    if outdated.is_empty() {
        return Decision::Nothing;
    }
    let membership = leadership.membership;
    let wait = |what: String| Decision::Wait(Reason::RollingRestart, what);
    if let Some(turn) = &observation.waits_for_turn {
        return wait(format!(
            "this version of the operator makes pods otherwise: they are restarted {turn}"
        ));
    }
    let complete = !membership.joint
        && membership.voters.len() == usize::from(cluster.replicas)
        && membership.members.len() == membership.voters.len();
    if !complete {
        return wait("pods are restarted when the membership is complete".to_owned());
    }
    let alone = membership.voters.len() == 1;
    // Highest slot first, the leader after all others.
    let next = outdated
        .iter()
        .rev()
        .find(|(slot, _)| *slot != leadership.slot)
        .or_else(|| outdated.first());
    let Some((slot, seen)) = next else {
        return Decision::Nothing;
    };
    let (Some(pod), Some(voter)) = (
        &seen.pod,
        membership
            .members
            .iter()
            .find(|(_, member)| **member == Some(*slot))
            .map(|(node, _)| *node),
    ) else {
        return wait(format!("slot {slot} is not a member yet"));
    };
    if pod.deleting {
        return wait(format!("slot {slot} is being restarted"));
    }
    if !alone && !leadership.can_lose(voter) {
        return wait(format!(
            "slot {slot} is restarted when all other voters are healthy"
        ));
    }
    if *slot == leadership.slot && !alone {
        let successor = membership
            .voters
            .iter()
            .find(|other| **other != voter && leadership.healthy_voters.contains(other));
        return match successor {
            Some(to) => Decision::Step(
                Step::TransferLeadership {
                    from: *slot,
                    to: *to,
                },
                Reason::RollingRestart,
                format!("slot {slot} hands leadership over before its restart"),
            ),
            None => wait("no healthy voter can take leadership".to_owned()),
        };
    }
    Decision::Step(
        Step::RestartPod {
            slot: *slot,
            pod_uid: pod.uid.clone(),
        },
        Reason::RollingRestart,
        format!("slot {slot} is restarted with the present template"),
    )
}
