//! A cluster's first creation, from the UUID to its initialisation, which happens once.

use std::collections::{BTreeMap, BTreeSet};

use quadraft_protocol::{ExitCode, NodeId};

use super::super::observation::{JobState, Observation, Role, Slot};
use super::super::validate::ValidatedCluster;
use super::{Decision, Draft, Reason, Step, ensure_slot, loss, recovery, restart, slots_of};

const BACKUP_INVALID: i32 = ExitCode::BackupInvalid as i32;

/// The UUID that the cluster has, or what must happen before it has one.
pub(super) fn cluster_uuid<'a>(
    cluster: &ValidatedCluster,
    observation: &'a Observation,
) -> Result<&'a str, Decision> {
    let volumes = observation
        .slots
        .iter()
        .filter_map(|(slot, seen)| Some((*slot, seen.volume.as_ref()?)));
    // What an earlier cluster of this name leaves behind may still be going: it is waited for, and its
    // data is not taken for that of this one.
    let of_this =
        |uuid: &Option<String>| uuid.is_some() && *uuid == observation.record.cluster_uuid;
    if let Some((slot, _)) = volumes
        .clone()
        .find(|(_, volume)| volume.deleting && !of_this(&volume.cluster_uuid))
    {
        return Err(Decision::Wait(
            Reason::Creating,
            format!("the volume of slot {slot} of an earlier cluster is still being deleted"),
        ));
    }
    if let Some(uuid) = &observation.record.cluster_uuid {
        for (slot, volume) in volumes {
            if volume.cluster_uuid.as_ref() != Some(uuid) {
                return Err(Decision::Stall(
                    Reason::VolumeOfAnotherCluster,
                    format!(
                        "the volume of slot {slot} belongs to {} and this cluster is {uuid}",
                        volume.cluster_uuid.as_deref().unwrap_or("no cluster")
                    ),
                ));
            }
        }
        return Ok(uuid);
    }
    if observation.newest_volume_generation > cluster.volume_generation {
        return Err(Decision::Step(
            Step::RecordVolumeGeneration(observation.newest_volume_generation),
            Reason::Creating,
            "an earlier cluster of this name had lost its first volumes".to_owned(),
        ));
    }
    let mut labels = BTreeSet::new();
    for (slot, volume) in volumes {
        match &volume.cluster_uuid {
            Some(uuid) => labels.insert(uuid.clone()),
            None => {
                return Err(Decision::Stall(
                    Reason::VolumeWithoutCluster,
                    format!(
                        "a claim with the name of slot {slot}'s volume exists and does not say \
                         which cluster it belongs to"
                    ),
                ));
            }
        };
    }
    let mut labels = labels.into_iter();
    Err(match (labels.next(), labels.next()) {
        (None, _) => Decision::Step(
            Step::MakeClusterUuid,
            Reason::Creating,
            "the cluster gets its UUID".to_owned(),
        ),
        (Some(uuid), None) if cluster.bootstrap.is_some() => Decision::Stall(
            Reason::VolumesExist,
            format!(
                "volumes of an earlier cluster {uuid} exist: delete them to restore the backup, \
                 or leave spec.bootstrap out to serve what they hold"
            ),
        ),
        (Some(uuid), None) => {
            let message = format!("the volumes hold the data of cluster {uuid}: they are served");
            Decision::Step(Step::AdoptClusterUuid(uuid), Reason::Creating, message)
        }
        (Some(one), Some(other)) => Decision::Stall(
            Reason::VolumesDisagree,
            format!("the volumes belong to different clusters: {one} and {other}"),
        ),
    })
}

/// A cluster that was not initialised yet.
pub(super) fn create(
    cluster: &ValidatedCluster,
    observation: &Observation,
    uuid: &str,
    draft: &mut Draft,
) {
    let wanted: Vec<Slot> = if cluster.bootstrap.is_some() {
        vec![0]
    } else if observation.record.initial_members.is_empty() {
        cluster.wanted_slots().collect()
    } else {
        // The spec may have changed meanwhile: what was begun is finished first.
        observation.record.initial_members.keys().copied().collect()
    };
    if cluster.bootstrap.is_some() && !restored(observation, draft) {
        return;
    }
    let existing = slots_of(observation);
    for slot in existing
        .iter()
        .chain(wanted.iter().filter(|slot| !existing.contains(slot)))
    {
        ensure_slot(observation, *slot, draft);
    }
    for (slot, seen) in &observation.slots {
        let deadline = cluster.spec.jobs.start_deadline_seconds();
        draft.add(recovery::recover(*slot, seen, false, 0, deadline));
        draft.add(restart::replace_what_serves_nothing(*slot, seen));
    }
    draft.add(initialise(
        observation,
        uuid,
        &wanted,
        cluster.bootstrap.is_some(),
    ));
}

/// Whether the backup is on the volume of slot 0; says what goes on when it is not.
fn restored(observation: &Observation, draft: &mut Draft) -> bool {
    let decision = match &observation.restore {
        JobState::Succeeded(_) => return true,
        JobState::Absent => {
            // A node that runs already was restored before, and its Job is gone.
            if observation
                .slots
                .get(&0)
                .is_some_and(|seen| seen.stateful_set.is_some())
            {
                return true;
            }
            draft.ensure.push(super::Ensure::Volume { slot: 0 });
            Decision::Step(
                Step::StartRestore,
                Reason::Restoring,
                "the backup is being restored".to_owned(),
            )
        }
        JobState::Waiting(job) => {
            ensure_first_volume(observation, draft);
            match recovery::withdraw_or_wait(job, "the restore Job") {
                Decision::Wait(Reason::Recovering, message) => {
                    Decision::Wait(Reason::Restoring, message)
                }
                decision => decision,
            }
        }
        JobState::Running => {
            ensure_first_volume(observation, draft);
            Decision::Wait(Reason::Restoring, "the backup is being restored".to_owned())
        }
        JobState::Failed {
            exit_code: Some(BACKUP_INVALID),
            message,
            ..
        } if let Some(decision) = loss::older_backup(observation, message) => decision,
        JobState::Failed { message, .. } => Decision::Stall(
            Reason::RestoreFailed,
            format!("{message}; delete the restore Job to try again"),
        ),
    };
    draft.add(decision);
    false
}

/// A Job whose volume was deleted before its pod began waits for a new one.
fn ensure_first_volume(observation: &Observation, draft: &mut Draft) {
    let seen = observation.slots.get(&0);
    if seen.is_none_or(|seen| seen.volume.is_none()) {
        draft.ensure.push(super::Ensure::Volume { slot: 0 });
    }
}

fn initialise(
    observation: &Observation,
    uuid: &str,
    wanted: &[Slot],
    bootstrapped: bool,
) -> Decision {
    let nodes: BTreeMap<Slot, _> = observation
        .slots
        .iter()
        .filter_map(|(slot, seen)| Some((*slot, seen.node.as_ref()?)))
        .collect();
    for (slot, node) in &nodes {
        if !node.cluster_uuid.is_empty() && node.cluster_uuid != uuid {
            return Decision::Stall(
                Reason::VolumeOfAnotherCluster,
                format!(
                    "node {} in slot {slot} belongs to cluster {} and this cluster is {uuid}",
                    node.node_id, node.cluster_uuid
                ),
            );
        }
    }
    if nodes
        .values()
        .any(|node| node.membership.is_some() && node.cluster_uuid == uuid)
    {
        // The call went through and the operator ended before it could say so.
        return Decision::Step(
            Step::RecordInitialised,
            Reason::Initialising,
            "the cluster is initialised".to_owned(),
        );
    }
    let answering: BTreeMap<Slot, NodeId> = wanted
        .iter()
        .filter_map(|slot| Some((*slot, nodes.get(slot)?.node_id)))
        .collect();
    if bootstrapped && nodes.get(&0).is_some_and(|node| node.role == Role::Waiting) {
        return Decision::Stall(
            Reason::RestoredVolumeLost,
            "the backup was restored and the node of slot 0 answers from an empty volume: the \
             restored one is gone. Delete the RdfCluster and its volumes and create it again"
                .to_owned(),
        );
    }
    if bootstrapped || answering.len() < wanted.len() {
        return Decision::Wait(
            Reason::WaitingForMembers,
            format!("{} of {} nodes answer", answering.len(), wanted.len()),
        );
    }
    if let Some((slot, node)) = nodes.iter().find(|(_, node)| {
        node.role != Role::Waiting || node.last_log_index > 0 || node.applied_index > 0
    }) {
        return Decision::Stall(
            Reason::DataBeforeInitialisation,
            format!(
                "node {} in slot {slot} has data and no membership: the cluster is not \
                 initialised over it",
                node.node_id
            ),
        );
    }
    let recorded = &observation.record.initial_members;
    if recorded.is_empty() {
        return Decision::Step(
            Step::RecordInitialMembers(answering),
            Reason::Initialising,
            "all nodes answer: their identities are recorded".to_owned(),
        );
    }
    if *recorded != answering {
        return Decision::Stall(
            Reason::InitialMembersChanged,
            "a volume was replaced while the cluster was being initialised; it may hold the only \
             trace of the initialisation. Delete the RdfCluster and its volumes and create it again"
                .to_owned(),
        );
    }
    if nodes.values().any(|node| node.cluster_uuid != uuid) {
        return Decision::Wait(
            Reason::WaitingForMembers,
            "a node has not been born for this cluster yet".to_owned(),
        );
    }
    let Some(contact) = answering.keys().next().copied() else {
        return Decision::Nothing;
    };
    Decision::Step(
        Step::Initialise {
            contact,
            members: answering,
        },
        Reason::Initialising,
        "the cluster is being initialised".to_owned(),
    )
}
