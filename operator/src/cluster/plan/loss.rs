//! The last level of recovery: no volume of a cluster can be served from any more, and the spec says that
//! the newest backup is to take their place.
//!
//! Nothing is stopped while a volume that may hold more can still come back. What the volumes hold is
//! exported beside the backups, the volumes are kept and labelled, and the backup is restored onto new
//! ones, under a new cluster UUID. Each step is recorded or seen again from what exists, so that the
//! operator may end between any two.

use std::collections::BTreeSet;

use super::super::observation::{
    BackupSeen, JobState, Loss, Observation, Slot, SlotObservation, Volume,
};
use super::super::validate::ValidatedCluster;
use super::{Decision, Draft, Reason, Step, recovery};
use crate::api::WhenDataIsLost;

/// What became of one slot's data.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    /// A node has it.
    Kept,
    /// There is none: no volume, an empty one, or one that cannot be served from.
    Lost,
    /// It may come back, and what for.
    Awaited(String),
}

/// What to do about a cluster that nobody leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Assessment {
    /// The usual: its members come back, or a person decides.
    Usual,
    /// Some data is lost, and the rest may still come back.
    Waits(String),
    /// All is lost, and there is a backup.
    Lost,
}

/// Judges a cluster without a leader.
pub(super) fn assess(cluster: &ValidatedCluster, observation: &Observation) -> Assessment {
    if cluster.spec.recovery.when_data_is_lost != WhenDataIsLost::RestoreLatestBackup
        || newest_backup(observation).is_none()
    {
        return Assessment::Usual;
    }
    let seen = observation.slots.keys();
    let known = observation.record.nodes.keys();
    let mut slots: BTreeSet<Slot> = seen.chain(known).copied().collect();
    if slots.is_empty() {
        slots.extend(cluster.wanted_slots());
    }
    let total = slots.len();
    let nothing = SlotObservation::default();
    let (mut lost, mut awaited) = (0, Vec::new());
    for slot in slots {
        let seen = observation.slots.get(&slot).unwrap_or(&nothing);
        match standing(cluster, observation, slot, seen) {
            Standing::Kept => return Assessment::Usual,
            Standing::Lost => lost += 1,
            Standing::Awaited(what) => awaited.push(format!("slot {slot}: {what}")),
        }
    }
    if awaited.is_empty() {
        Assessment::Lost
    } else if lost * 2 > total {
        Assessment::Waits(awaited.join("; "))
    } else {
        // A majority may come back: nothing is known to be lost.
        Assessment::Usual
    }
}

fn standing(
    cluster: &ValidatedCluster,
    observation: &Observation,
    slot: Slot,
    seen: &SlotObservation,
) -> Standing {
    let awaited = |what: &str| Standing::Awaited(what.to_owned());
    if let Some(node) = &seen.node {
        return if node.membership.is_some() {
            Standing::Kept
        } else {
            Standing::Lost
        };
    }
    let Some(volume) = &seen.volume else {
        return if seen.stateful_set.is_none() && seen.pod.is_none() {
            Standing::Lost
        } else {
            awaited("its volume is being made")
        };
    };
    if cluster.given_up_volumes.contains(&volume.uid) {
        return Standing::Lost;
    }
    if volume.deleting {
        return awaited(&format!("claim {} is being deleted", volume.uid));
    }
    let settled = observation.record.settled_attempts.get(&slot);
    let deadline = cluster.spec.jobs.start_deadline_seconds();
    match recovery::recover(slot, seen, false, settled.copied().unwrap_or(0), deadline) {
        Decision::Stall(Reason::RecoveryFailed, _) => Standing::Lost,
        Decision::Step(_, _, words) | Decision::Wait(_, words) | Decision::Stall(_, words) => {
            Standing::Awaited(words)
        }
        Decision::Nothing => Standing::Awaited(format!(
            "volume {} may hold its data, and its node does not answer{}",
            volume.uid,
            seen.pod
                .as_ref()
                .and_then(|pod| pod.waiting.as_deref())
                .map_or_else(String::new, |why| format!(" ({why})"))
        )),
    }
}

/// The newest backup of this cluster that was not found damaged.
pub(super) fn newest_backup(observation: &Observation) -> Option<&BackupSeen> {
    let record = &observation.record;
    let damaged = record.loss.as_ref().map(|loss| &loss.damaged_backups);
    let is_own = |backup: &&BackupSeen| {
        record.cluster_uuid.as_ref() == Some(&backup.cluster_uuid)
            || record.lost_cluster_uuids.contains(&backup.cluster_uuid)
    };
    observation
        .backups
        .iter()
        .filter(is_own)
        .filter(|backup| damaged.is_none_or(|damaged| !damaged.contains(&backup.name)))
        .max_by_key(|backup| (backup.completed_at, &backup.name))
}

/// What comes before the restore: everything is stopped, exported and kept.
pub(super) fn save(
    cluster: &ValidatedCluster,
    observation: &Observation,
    loss: &Loss,
    draft: &mut Draft,
) {
    let reason = Reason::DataLost;
    if let Some((slot, _)) = observation.slots.iter().find(|(_, seen)| {
        let node = seen.node.as_ref();
        node.is_some_and(|node| node.membership.is_some())
    }) {
        draft.add(Decision::Step(
            Step::ForgetLoss,
            reason,
            format!("slot {slot} has come back with its data: nothing is restored"),
        ));
        return;
    }
    let Some(backup) = newest_backup(observation) else {
        draft.add(Decision::Stall(
            reason,
            format!(
                "{}; there is no backup of this cluster any more",
                loss.message
            ),
        ));
        return;
    };
    for (slot, seen) in &observation.slots {
        draft.add(stop(*slot, seen));
    }
    if draft.is_decided() {
        return;
    }
    for (slot, seen) in &observation.slots {
        if let Some(volume) = &seen.volume {
            draft.add(export(cluster, *slot, seen, volume, backup));
        }
    }
    if draft.is_decided() {
        return;
    }
    for (slot, seen) in &observation.slots {
        let Some(volume) = seen.volume.as_ref().filter(|volume| !volume.is_kept) else {
            continue;
        };
        draft.add(Decision::Step(
            Step::KeepVolume {
                slot: *slot,
                uid: volume.uid.clone(),
            },
            reason,
            format!("the volume of slot {slot} is kept and labelled"),
        ));
    }
    draft.add(Decision::Step(
        Step::RecordRestore(Box::new(backup.clone())),
        Reason::RestoringLatestBackup,
        format!("backup {} takes the place of what was lost", backup.name),
    ));
}

/// Stops one slot: what runs on a volume that is lost serves nobody.
fn stop(slot: Slot, seen: &SlotObservation) -> Decision {
    let wait = |what: String| Decision::Wait(Reason::DataLost, what);
    if let Some(set) = &seen.stateful_set {
        if set.deleting {
            return wait(format!("the StatefulSet of slot {slot} is being deleted"));
        }
        return Decision::Step(
            Step::DeleteStatefulSet {
                slot,
                uid: set.uid.clone(),
                resource_version: set.resource_version.clone(),
            },
            Reason::DataLost,
            format!("slot {slot} is stopped, so that its volume can be exported"),
        );
    }
    if seen.pod.is_some() {
        return wait(format!("the pod of slot {slot} is being stopped"));
    }
    Decision::Nothing
}

/// Exports what a volume still holds. That it holds nothing, or cannot be read, keeps nobody from going
/// on: the volume stays.
fn export(
    cluster: &ValidatedCluster,
    slot: Slot,
    seen: &SlotObservation,
    volume: &Volume,
    backup: &BackupSeen,
) -> Decision {
    if volume.deleting || volume.is_kept || cluster.given_up_volumes.contains(&volume.uid) {
        return Decision::Nothing;
    }
    match &seen.export {
        JobState::Absent => Decision::Step(
            Step::StartExport {
                slot,
                volume_uid: volume.uid.clone(),
                beside: Box::new(backup.clone()),
            },
            Reason::DataLost,
            format!("what the volume of slot {slot} still holds is exported beside the backups"),
        ),
        JobState::Waiting(job) if job.seconds > cluster.spec.jobs.start_deadline_seconds() => {
            Decision::Nothing
        }
        JobState::Waiting(job) => {
            match recovery::withdraw_or_wait(job, &format!("slot {slot}: the export Job")) {
                Decision::Wait(Reason::Recovering, message) => {
                    Decision::Wait(Reason::DataLost, message)
                }
                decision => decision,
            }
        }
        JobState::Running => Decision::Wait(
            Reason::DataLost,
            format!("what the volume of slot {slot} still holds is being exported"),
        ),
        JobState::Succeeded(_) | JobState::Failed { .. } => Decision::Nothing,
    }
}

/// The older backup to try when the one that was being restored is damaged.
pub(super) fn older_backup(observation: &Observation, message: &str) -> Option<Decision> {
    let loss = observation.record.loss.as_ref()?;
    let current = loss.backup.as_ref()?;
    let mut without = observation.clone();
    if let Some(loss) = &mut without.record.loss {
        loss.damaged_backups.insert(current.clone());
    }
    let older = newest_backup(&without)?;
    Some(Decision::Step(
        Step::RecordRestore(Box::new(older.clone())),
        Reason::RestoringLatestBackup,
        format!(
            "backup {current} cannot be restored ({message}): the next older one is, {}",
            older.name
        ),
    ))
}
