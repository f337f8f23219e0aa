//! What the status says of an observation and a plan. A pure function apart from the time it is
//! given, so that equal worlds give equal statuses and nothing is written.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use quadraft_protocol::NodeId;

use super::health::{self, Leadership};
use super::observation::{
    BackupSeen, JobState, Observation, RecoveryFindings, Slot, SlotObservation,
};
use super::plan::{Plan, Reason, Step, Verdict, known_membership};
use super::serving;
use super::validate::ValidatedCluster;
use crate::api::{
    BackupPhase, ChosenBackup, ClusterPhase, DataLoss, HighWaterMark, InitialMember, LastRecovery,
    MemberStatus, RdfClusterStatus, Restored, RestoredAfterLoss,
};
use crate::conditions::{Wanted, merge};

/// Marks are coarse, so that writing data does not mean writing status: a mark follows once the
/// log is this far beyond it.
const MARK_EVERY_ENTRIES: u64 = 1000;

/// How often what changes with the data is written, when nothing else changes.
const DATA_EVERY_SECONDS: i64 = 60;

/// An action that the API server or a node refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub reason: String,
    pub message: String,
    /// Whether it stays until a person does something.
    pub stalls: bool,
}

/// Records what a step decides before anything is done about it.
#[must_use]
pub fn record_step(
    mut status: RdfClusterStatus,
    step: &Step,
    new_uuid: impl FnOnce() -> String,
    now: Timestamp,
) -> RdfClusterStatus {
    match step {
        Step::MakeClusterUuid => status.cluster_uuid = Some(new_uuid()),
        Step::AdoptClusterUuid(uuid) => {
            status.cluster_uuid = Some(uuid.clone());
            // Its volumes exist: whatever they hold, the cluster is never initialised over them.
            status.initialised = true;
        }
        Step::RecordInitialMembers(members) => {
            status.initial_members = members
                .iter()
                .map(|(slot, node)| InitialMember {
                    slot: i32::from(*slot),
                    node_id: node.to_string(),
                })
                .collect();
        }
        Step::RecordInitialised => {
            status.initialised = true;
            if let Some(loss) = status.data_loss.take() {
                status.restored_after_loss = Some(RestoredAfterLoss {
                    message: loss.message,
                    found_at: loss.found_at,
                    restored_at: Some(Time(now)),
                    backup: loss.backup.unwrap_or_default(),
                    lost_cluster_uuid: status
                        .lost_cluster_uuids
                        .last()
                        .cloned()
                        .unwrap_or_default(),
                    damaged_backups: loss.damaged_backups,
                });
            }
        }
        Step::RecordLoss(message) => {
            status.data_loss = Some(DataLoss {
                message: message.clone(),
                found_at: Some(Time(now)),
                ..DataLoss::default()
            });
        }
        Step::ForgetLoss => status.data_loss = None,
        Step::RecordRestore(backup) => return record_restore(status, backup, new_uuid()),
        Step::RecordVolumeGeneration(generation) => {
            status.volume_generation = i32::try_from(*generation).unwrap_or(i32::MAX);
        }
        _ => {}
    }
    status
}

/// A cluster that begins anew from a backup, or tries another one: what is remembered of its nodes is of
/// those that are lost.
fn record_restore(
    old: RdfClusterStatus,
    backup: &BackupSeen,
    new_uuid: String,
) -> RdfClusterStatus {
    let chosen = ChosenBackup {
        name: backup.name.clone(),
        log_index: number(backup.log_index).unwrap_or(i64::MAX),
        completed_at: Timestamp::from_second(backup.completed_at).ok().map(Time),
        digest: backup.digest.clone(),
    };
    let mut loss = old.data_loss.clone().unwrap_or_default();
    if let Some(damaged) = loss.backup.replace(chosen) {
        loss.damaged_backups.push(damaged.name);
        return RdfClusterStatus {
            data_loss: Some(loss),
            ..old
        };
    }
    RdfClusterStatus {
        lost_cluster_uuids: old
            .lost_cluster_uuids
            .iter()
            .chain(&old.cluster_uuid)
            .cloned()
            .collect(),
        cluster_uuid: Some(new_uuid),
        volume_generation: old.volume_generation + 1,
        backed_up_volume_generation: old.backed_up_volume_generation,
        data_loss: Some(loss),
        restored_after_loss: old.restored_after_loss.clone(),
        accepted_spec: old.accepted_spec.clone(),
        conditions: old.conditions.clone(),
        observed_generation: old.observed_generation,
        ..RdfClusterStatus::default()
    }
}

/// The whole status.
#[must_use]
pub fn status(
    cluster: &ValidatedCluster,
    generation: Option<i64>,
    old: &RdfClusterStatus,
    observation: &Observation,
    plan: &Plan,
    failure: Option<&Failure>,
    now: Timestamp,
) -> RdfClusterStatus {
    let uuid = old.cluster_uuid.clone().unwrap_or_default();
    let leadership = health::leadership(observation, &uuid);
    let is_backed_up = cluster.spec.recovery.backup_after_recovery.is_none()
        || observation.recovery_backup == Some(BackupPhase::Completed);
    let mut members = members(cluster, old, observation, leadership.as_ref(), now);
    if is_backed_up {
        for member in &mut members {
            // The backup was taken for what was recovered by then.
            let before = old.members.iter().find(|old| old.slot == member.slot);
            member.backed_up_recovery_attempts =
                before.map_or(0, |before| before.settled_recovery_attempts);
        }
    }
    let ready = members.iter().filter(|member| member.ready).count();
    let versions: BTreeSet<&str> = observation
        .slots
        .values()
        .filter_map(|seen| seen.node.as_ref())
        .map(|node| node.version.as_str())
        .filter(|version| !version.is_empty())
        .collect();
    let version = if versions.is_empty() {
        old.version.clone()
    } else {
        Some(versions.into_iter().collect::<Vec<_>>().join(","))
    };
    let seen = Seen {
        cluster,
        observation,
        leadership: leadership.as_ref(),
        unreachable: unreachable(&members, now),
    };
    let conditions = conditions(&seen, plan, failure);
    let new = RdfClusterStatus {
        observed_generation: generation,
        phase: phase(cluster, observation, leadership.as_ref(), plan),
        leader: leadership
            .as_ref()
            .map(|leadership| cluster.pod_name(leadership.slot)),
        term: leadership
            .as_ref()
            .and_then(|leadership| i64::try_from(leadership.leader.term).ok()),
        ready_members: Some(format!("{ready}/{}", cluster.replicas)),
        version,
        high_water: high_water(cluster, old, observation, leadership.as_ref()),
        restored: restored(old, observation),
        backed_up_volume_generation: if is_backed_up {
            old.volume_generation
        } else {
            old.backed_up_volume_generation
        },
        accepted_spec: serde_json::to_value(&cluster.spec).ok(),
        conditions: merge(&old.conditions, conditions, generation, now),
        members,
        ..old.clone()
    };
    rarely(old, new, now)
}

/// What every write of data changes goes into the status once in a while, and whenever something else
/// does: writing data does not mean writing status.
fn rarely(old: &RdfClusterStatus, mut new: RdfClusterStatus, now: Timestamp) -> RdfClusterStatus {
    let mut without_data = new.clone();
    for member in &mut without_data.members {
        let Some(before) = old.members.iter().find(|before| before.slot == member.slot) else {
            continue;
        };
        member.last_log_index = before.last_log_index;
        member.applied_index = before.applied_index;
        member.digest.clone_from(&before.digest);
        if before.message.is_some() && member.message.is_some() {
            member.message.clone_from(&before.message);
        }
    }
    let observed = old.data_observed_at.as_ref();
    let is_recent =
        observed.is_some_and(|time| now.as_second() - time.0.as_second() < DATA_EVERY_SECONDS);
    if new == *old || (without_data == *old && is_recent) {
        return old.clone();
    }
    new.data_observed_at = Some(Time(now));
    new
}

/// The status of a cluster whose spec cannot be carried out, and none could before: nothing of it is
/// looked at, and what is not looked at is unknown.
#[must_use]
pub fn invalid(
    generation: Option<i64>,
    old: &RdfClusterStatus,
    failure: &Failure,
    now: Timestamp,
) -> RdfClusterStatus {
    let mut wanted = vec![
        Wanted::new("Ready", false, &failure.reason, &failure.message),
        Wanted::new("Reconciling", false, &failure.reason, ""),
        Wanted::new("Stalled", true, &failure.reason, &failure.message),
    ];
    wanted.extend(
        ["Available", "QuorumHealthy", "Degraded", "Diverged"].map(|type_| Wanted {
            type_,
            status: None,
            reason: failure.reason.clone(),
            message: "not looked at, because the spec cannot be carried out".to_owned(),
        }),
    );
    RdfClusterStatus {
        observed_generation: generation,
        phase: ClusterPhase::Stalled,
        conditions: merge(&old.conditions, wanted, generation, now),
        ..old.clone()
    }
}

/// The status of a cluster that could not be looked at, in the API server's words: whether it is Ready
/// is not known. A reconcile that fails once is tried again before anything is said.
#[must_use]
pub fn unknown(
    old: &RdfClusterStatus,
    generation: Option<i64>,
    message: &str,
    now: Timestamp,
) -> RdfClusterStatus {
    let mut wanted = vec![Wanted {
        type_: "Ready",
        status: None,
        reason: "ReadFailed".to_owned(),
        message: message.to_owned(),
    }];
    wanted.extend(
        [
            "Reconciling",
            "Stalled",
            "Available",
            "QuorumHealthy",
            "Degraded",
            "Diverged",
        ]
        .map(|type_| Wanted {
            type_,
            status: None,
            reason: "ReadFailed".to_owned(),
            message: String::new(),
        }),
    );
    RdfClusterStatus {
        conditions: merge(&old.conditions, wanted, generation, now),
        ..old.clone()
    }
}

fn number(value: u64) -> Option<i64> {
    i64::try_from(value).ok()
}

fn members(
    cluster: &ValidatedCluster,
    old: &RdfClusterStatus,
    observation: &Observation,
    leadership: Option<&Leadership<'_>>,
    now: Timestamp,
) -> Vec<MemberStatus> {
    let slots: BTreeSet<Slot> = cluster
        .wanted_slots()
        .chain(observation.slots.keys().copied())
        .collect();
    let nothing = SlotObservation::default();
    slots
        .into_iter()
        .map(|slot| {
            let seen = observation.slots.get(&slot).unwrap_or(&nothing);
            let before = old
                .members
                .iter()
                .find(|member| member.slot == i32::from(slot))
                .cloned()
                .unwrap_or_default();
            let healthy = seen.node.as_ref().is_some_and(|node| {
                leadership
                    .is_some_and(|leadership| leadership.healthy_voters.contains(&node.node_id))
            });
            let node = seen.node.as_ref();
            let unreachable_since = unreachable_since(&before, observation, seen, now);
            MemberStatus {
                slot: i32::from(slot),
                name: cluster.pod_name(slot),
                // What is not known now is what was known last.
                node_id: node.map(|node| node.node_id.to_string()).or(before.node_id),
                role: node.map(|node| format!("{:?}", node.role)),
                voter: node.is_some_and(|node| {
                    leadership
                        .map(|leadership| leadership.membership)
                        .or_else(|| known_membership(observation))
                        .is_some_and(|membership| membership.voters.contains(&node.node_id))
                }),
                // The node's own word, and that Kubernetes sends clients to it.
                ready: node.is_some_and(|node| node.ready)
                    && seen
                        .pod
                        .as_ref()
                        .is_some_and(|pod| pod.ready && !pod.deleting),
                last_log_index: node
                    .map_or(before.last_log_index, |node| number(node.last_log_index)),
                applied_index: node.map_or(before.applied_index, |node| number(node.applied_index)),
                digest: node.map_or(before.digest, |node| {
                    (!node.digest.is_empty()).then(|| node.digest.clone())
                }),
                volume_uid: seen.volume.as_ref().map(|volume| volume.uid.clone()),
                boot_count: node.map_or(before.boot_count, |node| number(node.boot_count)),
                unreachable_since,
                message: message(seen),
                settled_recovery_attempts: if healthy {
                    i32::try_from(seen.recovery_attempt()).unwrap_or(i32::MAX)
                } else {
                    before.settled_recovery_attempts
                },
                backed_up_recovery_attempts: before.backed_up_recovery_attempts,
                last_recovery: last_recovery(before.last_recovery, seen, now),
            }
        })
        .collect()
}

/// Since when a node should answer and does not. On another volume it has begun anew.
fn unreachable_since(
    before: &MemberStatus,
    observation: &Observation,
    seen: &SlotObservation,
    now: Timestamp,
) -> Option<Time> {
    if !observation.record.initialised || !seen.is_unreachable() {
        return None;
    }
    let volume_uid = seen.volume.as_ref().map(|volume| &volume.uid);
    let earlier = before.unreachable_since.clone();
    let earlier = earlier.filter(|_| before.volume_uid.as_ref() == volume_uid);
    Some(earlier.unwrap_or(Time(now)))
}

/// Why a member does not serve.
fn message(seen: &SlotObservation) -> Option<String> {
    if let Some(node) = &seen.node {
        let pod_is_ready = seen.pod.as_ref().is_some_and(|pod| pod.ready);
        return if !node.ready {
            Some(node.not_ready_reason.clone())
        } else if !pod_is_ready {
            Some("Kubernetes does not report its pod as ready".to_owned())
        } else {
            None
        };
    }
    if seen.is_recovering() {
        return Some("fenced for the recovery of its volume".to_owned());
    }
    let Some(pod) = &seen.pod else {
        return Some("has no pod".to_owned());
    };
    let machine = pod.machine.as_deref().unwrap_or("no machine");
    if pod.deleting {
        return Some(format!(
            "its pod is to end, and {machine} has not said that it has"
        ));
    }
    if let Some(start) = &seen.start {
        return Some(format!("is starting on {machine}: {start}"));
    }
    if pod.running {
        return Some(format!("does not answer from {machine}"));
    }
    let ended = pod.termination.as_ref().map(|termination| {
        format!(
            "ended with code {}: {}",
            termination.exit_code, termination.message
        )
    });
    ended.or_else(|| pod.waiting.clone())
}

fn last_recovery(
    before: Option<LastRecovery>,
    seen: &SlotObservation,
    now: Timestamp,
) -> Option<LastRecovery> {
    let by_node = seen.node.as_ref().and_then(|node| node.recovery.as_ref());
    let by_job = seen.recoveries.values().next_back();
    let found = match (by_job, by_node) {
        (Some(JobState::Failed { message, .. }), _) => {
            Some(("Failed".to_owned(), message.clone(), 0))
        }
        // A volume that a Job mended opens cleanly: what the Job found is what matters, until the
        // node reports something of its own.
        (Some(JobState::Succeeded(job)), Some(node))
            if node.outcome == quadraft_protocol::RecoveryOutcome::Clean =>
        {
            Some(words(job))
        }
        (_, Some(node)) => Some(words(node)),
        (Some(JobState::Succeeded(job)), None) => Some(words(job)),
        _ => None,
    };
    let Some((outcome, message, replayed)) = found else {
        return before;
    };
    let time = before
        .as_ref()
        .filter(|before| before.outcome == outcome && before.message == message)
        .and_then(|before| before.time.clone())
        .unwrap_or(Time(now));
    Some(LastRecovery {
        outcome,
        message,
        entries_replayed: number(replayed).filter(|count| *count > 0),
        time: Some(time),
    })
}

fn words(findings: &RecoveryFindings) -> (String, String, u64) {
    (
        format!("{:?}", findings.outcome),
        findings.message.clone(),
        findings.entries_replayed,
    )
}

fn high_water(
    cluster: &ValidatedCluster,
    old: &RdfClusterStatus,
    observation: &Observation,
    leadership: Option<&Leadership<'_>>,
) -> Vec<HighWaterMark> {
    let mut marks = old.high_water.clone();
    if let Some(leadership) = leadership {
        // An identity that left the membership never comes back.
        marks.retain(|mark| {
            mark.node_id
                .parse::<NodeId>()
                .is_ok_and(|node| leadership.membership.members.contains_key(&node))
        });
    }
    for (slot, seen) in &observation.slots {
        let (Some(node), Some(volume)) = (&seen.node, &seen.volume) else {
            continue;
        };
        let is_member = node
            .membership
            .as_ref()
            .is_some_and(|membership| membership.members.contains_key(&node.node_id));
        if !is_member {
            continue;
        }
        let id = node.node_id.to_string();
        let reached = i64::try_from(node.applied_index).unwrap_or(i64::MAX);
        match marks.iter_mut().find(|mark| mark.node_id == id) {
            Some(mark) if mark.volume_uid == volume.uid => {
                if reached >= mark.index.saturating_add(MARK_EVERY_ENTRIES as i64) {
                    mark.index = reached;
                }
            }
            // The evidence of a copied volume is kept as it is, unless a person has accepted it.
            Some(mark) => {
                let index = u64::try_from(mark.index).unwrap_or(0);
                if health::is_accepted(cluster, *slot, volume, node, index) {
                    mark.volume_uid.clone_from(&volume.uid);
                    mark.index = reached;
                }
            }
            None => marks.push(HighWaterMark {
                node_id: id,
                volume_uid: volume.uid.clone(),
                index: reached,
            }),
        }
    }
    marks.sort_by(|one, other| one.node_id.cmp(&other.node_id));
    marks
}

fn restored(old: &RdfClusterStatus, observation: &Observation) -> Option<Restored> {
    if old.restored.is_some() {
        return old.restored.clone();
    }
    let JobState::Succeeded(findings) = &observation.restore else {
        return None;
    };
    Some(Restored {
        location: findings.location.clone(),
        digest: findings.digest.clone(),
        quads: number(findings.quads).unwrap_or(0),
        source_cluster_uuid: findings.source_cluster_uuid.clone(),
    })
}

fn phase(
    cluster: &ValidatedCluster,
    observation: &Observation,
    leadership: Option<&Leadership<'_>>,
    plan: &Plan,
) -> ClusterPhase {
    let (reason, stalled) = match &plan.verdict {
        Verdict::Steady => return ClusterPhase::Running,
        Verdict::Progressing { reason, .. } => (*reason, false),
        Verdict::Stalled { reason, .. } => (*reason, true),
    };
    if stalled {
        return ClusterPhase::Stalled;
    }
    match reason {
        Reason::Paused => ClusterPhase::Paused,
        Reason::Restoring | Reason::RestoringLatestBackup => ClusterPhase::Restoring,
        Reason::Recovering | Reason::ReplacingMember | Reason::DataLost => ClusterPhase::Recovering,
        Reason::RollingRestart => ClusterPhase::Updating,
        Reason::ScalingDown | Reason::Joining | Reason::MembershipChanging => ClusterPhase::Scaling,
        _ if !observation.record.initialised => ClusterPhase::Creating,
        _ if leadership.is_none() => ClusterPhase::Unavailable,
        _ if leadership.is_some_and(|leadership| {
            leadership.healthy_voters.len() < usize::from(cluster.replicas)
        }) =>
        {
            ClusterPhase::Degraded
        }
        _ => ClusterPhase::Running,
    }
}

/// What the conditions are made from, beside the plan.
struct Seen<'a> {
    cluster: &'a ValidatedCluster,
    observation: &'a Observation,
    leadership: Option<&'a Leadership<'a>>,
    /// Who has not answered for some time; empty when everybody does.
    unreachable: String,
}

/// Members that have not answered for so long are told of by name.
const UNREACHABLE_AFTER_SECONDS: i64 = 60;

/// Who has not answered for some time, and why as far as anybody says.
fn unreachable(members: &[MemberStatus], now: Timestamp) -> String {
    let silent = members.iter().filter_map(|member| {
        let since = member.unreachable_since.as_ref()?.0;
        let why = member.message.as_deref().unwrap_or("nobody says why");
        (now.as_second() - since.as_second() >= UNREACHABLE_AFTER_SECONDS)
            .then(|| format!("{} has not answered since {since:.0}: {why}", member.name))
    });
    silent.collect::<Vec<_>>().join("; ")
}

fn conditions(seen: &Seen<'_>, plan: &Plan, failure: Option<&Failure>) -> Vec<Wanted> {
    let Seen {
        cluster,
        observation,
        leadership,
        unreachable,
    } = seen;
    let (mut reason, mut message) = match &plan.verdict {
        Verdict::Steady => ("Steady".to_owned(), "as the spec wants it".to_owned()),
        Verdict::Progressing { reason, message } | Verdict::Stalled { reason, message } => {
            (reason.to_string(), message.clone())
        }
    };
    if let Some(failure) = failure {
        (reason, message) = (failure.reason.clone(), failure.message.clone());
    }
    let steady = plan.verdict == Verdict::Steady && failure.is_none();
    let stalled = matches!(plan.verdict, Verdict::Stalled { .. })
        || failure.is_some_and(|failure| failure.stalls);
    let healthy = leadership.map_or(0, |leadership| leadership.healthy_voters.len());
    let voters = leadership.map_or(0, |leadership| leadership.membership.voters.len());
    let complete = healthy == usize::from(cluster.replicas) && voters == healthy;
    let is_backed_up_meanwhile = matches!(
        plan.verdict,
        Verdict::Progressing {
            reason: Reason::BackupAfterRecovery,
            ..
        }
    ) && failure.is_none();
    let in_order = complete && (steady || cluster.paused || is_backed_up_meanwhile);
    // What keeps clients out is said when nothing else is missing.
    let obstacle = serving::obstacle(cluster, observation).filter(|_| in_order);
    let ready = in_order && obstacle.is_none();
    if let Some(obstacle) = &obstacle {
        (reason, message) = (obstacle.reason().to_owned(), obstacle.message(cluster));
    }
    let diverged = health::divergences(observation);
    let quorum = leadership.is_some();
    let quorum_message = if quorum {
        format!("{healthy} of {voters} voters are healthy")
    } else {
        message.clone()
    };
    let unreadable = unreadable_entries(observation);
    let short = short_of_space(observation);
    let (degraded, degraded_message) = if !complete && !unreadable.is_empty() {
        ("EntriesUnreadable", unreadable.as_str())
    } else if !complete && !unreachable.is_empty() {
        ("MemberUnreachable", unreachable.as_str())
    } else if !complete {
        ("MembersMissing", quorum_message.as_str())
    } else if !short.is_empty() {
        ("DiskFull", short.as_str())
    } else {
        ("AllHealthy", "")
    };
    let comparable = observation
        .slots
        .values()
        .filter(|seen| seen.node.is_some())
        .count();
    vec![
        Wanted::new("Ready", ready, &reason, &message),
        Wanted::new(
            "Reconciling",
            (!steady || obstacle.is_some()) && !stalled && !cluster.paused,
            &reason,
            &message,
        ),
        Wanted::new(
            "Stalled",
            stalled,
            &reason,
            if stalled { &message } else { "" },
        ),
        Wanted::new(
            "Available",
            quorum,
            if quorum { "LeaderConfirmed" } else { &reason },
            &quorum_message,
        ),
        Wanted::new(
            "QuorumHealthy",
            quorum && healthy * 2 > voters,
            if quorum { "MajorityHealthy" } else { &reason },
            &quorum_message,
        ),
        Wanted::new(
            "Degraded",
            observation.record.initialised && (!complete || !short.is_empty()),
            degraded,
            degraded_message,
        ),
        Wanted {
            type_: "Diverged",
            status: if !diverged.is_empty() {
                Some(true)
            } else if comparable > 0 {
                Some(false)
            } else {
                None
            },
            reason: if diverged.is_empty() {
                "NoDifferenceSeen"
            } else {
                "DigestsDiffer"
            }
            .to_owned(),
            message: diverged
                .iter()
                .map(|(one, other)| format_divergence(observation, *one, *other))
                .collect::<Vec<_>>()
                .join("; "),
        },
    ]
}

/// Who takes no writes for want of space; empty when everybody does.
fn short_of_space(observation: &Observation) -> String {
    let members = observation.slots.iter().filter_map(|(slot, seen)| {
        let node = seen.node.as_ref()?;
        let bytes = node.short_of_space?;
        Some(format!(
            "slot {slot} (node {}) has {bytes} bytes left on its disk and takes no writes",
            node.node_id
        ))
    });
    members.collect::<Vec<_>>().join("; ")
}

/// Who cannot read which entries; empty when everybody can.
fn unreadable_entries(observation: &Observation) -> String {
    const MOST: usize = 5;
    let members = observation.slots.iter().filter_map(|(slot, seen)| {
        let node = seen.node.as_ref()?;
        let unreadable = &node.unreadable;
        if unreadable.is_empty() {
            return None;
        }
        let named = unreadable[..unreadable.len().min(MOST)].join(", ");
        let more = match unreadable.len().saturating_sub(MOST) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Some(format!(
            "slot {slot} (node {}) cannot read {named}{more} of its log and asks the others for it",
            node.node_id
        ))
    });
    members.collect::<Vec<_>>().join("; ")
}

/// Two nodes that have different data: by their own word, with where they differed first and where they
/// were equal last; or as they are now.
fn format_divergence(observation: &Observation, one: NodeId, other: NodeId) -> String {
    let nodes = health::nodes_by_id(observation);
    let name = |id: NodeId| match nodes.get(&id) {
        Some((slot, _)) => format!("slot {slot} (node {id})"),
        None => format!("node {id}"),
    };
    let told = [(one, other), (other, one)]
        .into_iter()
        .find_map(|(teller, about)| {
            let found = nodes.get(&teller)?.1.diverged_from.get(&about)?;
            Some((teller, about, found))
        });
    if let Some((teller, about, found)) = told {
        let equal = match found.equal_log_index {
            0 => "they were not found equal before".to_owned(),
            index => format!("they were equal at index {index}"),
        };
        return format!(
            "{} has digest {} and {} has {} at index {}; {equal}",
            name(teller),
            found.own_digest,
            name(about),
            found.other_digest,
            found.log_index
        );
    }
    let side = |id: NodeId| match nodes.get(&id) {
        Some((_, node)) => format!(
            "{} has digest {} at index {}",
            name(id),
            node.digest,
            node.applied_index
        ),
        None => name(id),
    };
    format!("{} and {}", side(one), side(other))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn written(index: i64, ready: bool) -> RdfClusterStatus {
        RdfClusterStatus {
            members: vec![MemberStatus {
                applied_index: Some(index),
                digest: Some(format!("digest of {index}")),
                ready,
                ..MemberStatus::default()
            }],
            ..RdfClusterStatus::default()
        }
    }

    #[test]
    fn writing_data_writes_the_status_once_a_minute_and_anything_else_at_once() {
        let first = rarely(&RdfClusterStatus::default(), written(1, true), at(0));
        assert_eq!(first.data_observed_at, Some(Time(at(0))));
        // As the next reconcile makes it from the old one.
        let next = |index, ready| RdfClusterStatus {
            data_observed_at: first.data_observed_at.clone(),
            ..written(index, ready)
        };
        assert_eq!(rarely(&first, next(2, true), at(59)), first);
        let minute = rarely(&first, next(3, true), at(60));
        assert_eq!(minute.members[0].applied_index, Some(3));
        assert_eq!(minute.data_observed_at, Some(Time(at(60))));
        let unready = rarely(&first, next(4, false), at(5));
        assert_eq!(unready.members[0].applied_index, Some(4));
        // And nothing new is never written.
        assert_eq!(rarely(&first, next(1, true), at(600)), first);
    }

    #[test]
    fn a_divergence_says_where_the_two_differ_and_where_they_were_equal() {
        use super::super::observation::{Divergence, Node};
        let node = |id: u64| Node {
            node_id: NodeId(id),
            digest: format!("digest of {id} now"),
            applied_index: 90,
            ..Node::default()
        };
        let mut observation = Observation::default();
        for (slot, id) in [(0, 1), (1, 2)] {
            let seen = SlotObservation {
                node: Some(node(id)),
                ..SlotObservation::default()
            };
            observation.slots.insert(slot, seen);
        }
        let now = format_divergence(&observation, NodeId(1), NodeId(2));
        assert!(
            now.contains("digest of 1 now") && now.contains("index 90"),
            "{now}"
        );
        let divergence = Divergence {
            log_index: 40,
            own_digest: "aa".to_owned(),
            other_digest: "bb".to_owned(),
            equal_log_index: 30,
        };
        let teller = observation
            .slots
            .get_mut(&1)
            .unwrap()
            .node
            .as_mut()
            .unwrap();
        teller.diverged_from.insert(NodeId(1), divergence);
        let told = format_divergence(&observation, NodeId(1), NodeId(2));
        let id = |id: u64| NodeId(id).to_string();
        for word in [
            "aa",
            "bb",
            "at index 40",
            "equal at index 30",
            &id(1),
            &id(2),
        ] {
            assert!(told.contains(word), "{word}: {told}");
        }
    }
}
