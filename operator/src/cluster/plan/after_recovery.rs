//! One backup after a recovery: the last level that was needed says how close it was.

use super::super::health::Leadership;
use super::super::observation::Observation;
use super::super::validate::ValidatedCluster;
use super::{Decision, Reason, Step};
use crate::api::BackupPhase;
use crate::names::short_hash;

/// The name of the backup that is still to be taken, from what was recovered; nothing when there is no
/// such backup to take.
pub fn due_backup(cluster: &ValidatedCluster, observation: &Observation) -> Option<String> {
    cluster.spec.recovery.backup_after_recovery.as_ref()?;
    let record = &observation.record;
    let mut recovered: Vec<String> = record
        .settled_attempts
        .iter()
        .filter(|(slot, settled)| {
            **settled > record.backed_up_attempts.get(slot).copied().unwrap_or(0)
        })
        .map(|(slot, settled)| format!("{slot}:{settled}"))
        .collect();
    if cluster.volume_generation > record.backed_up_volume_generation {
        recovered.push(cluster.volume_generation.to_string());
    }
    if recovered.is_empty() {
        return None;
    }
    let uuid = record.cluster_uuid.as_deref().unwrap_or_default();
    let digits = short_hash(&format!("{uuid}/{}", recovered.join(",")), 10);
    Some(format!("{}-recovered-{digits}", cluster.name))
}

/// Takes the backup when the cluster is complete. Until it is there nothing voluntary goes on.
pub(super) fn backup(
    cluster: &ValidatedCluster,
    observation: &Observation,
    leadership: &Leadership<'_>,
) -> Decision {
    let Some(name) = due_backup(cluster, observation) else {
        return Decision::Nothing;
    };
    let reason = Reason::BackupAfterRecovery;
    match observation.recovery_backup {
        Some(BackupPhase::Completed) => Decision::Nothing,
        Some(BackupPhase::Failed) => Decision::Stall(
            reason,
            format!(
                "the backup after the recovery failed: see RdfBackup {name}, and delete it to have it taken \
                 again. Nothing is restarted or scaled down before"
            ),
        ),
        Some(BackupPhase::Pending | BackupPhase::Running) => Decision::Wait(
            reason,
            format!("RdfBackup {name} is taken after the recovery"),
        ),
        None => {
            let membership = leadership.membership;
            let is_complete = !membership.joint
                && membership.voters.len() >= usize::from(cluster.replicas)
                && leadership.healthy_voters.len() == membership.voters.len();
            if !is_complete {
                return Decision::Wait(
                    reason,
                    "a backup is taken when all members have recovered".to_owned(),
                );
            }
            let message = format!("RdfBackup {name} is taken after the recovery");
            Decision::Step(Step::TakeBackup(name), reason, message)
        }
    }
}
