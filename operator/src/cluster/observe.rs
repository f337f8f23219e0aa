//! Looks at the world: the cluster's objects, and each node's own word about itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod as KubernetesPod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams};
use kube::core::Selector;
use kube::{Client, ResourceExt};
use quadraft_protocol::{
    AdminConnection, NodeId, RecoveryOutcome, RecoveryReport, RestoreReport, v1,
};

use super::observation::{
    BackupSeen, Divergence, JobEnd, JobState, Loss, Mark, Membership, Node, Observation, Pod,
    Record, RecoveryFindings, RestoreFindings, Role, Slot, StatefulSetState, Termination, Volume,
    WaitingJob,
};
use super::validate::ValidatedCluster;
use super::{ask, build, plan, serving};
use crate::api::{BackupPhase, RdfBackup, RdfClusterStatus, WhenDataIsLost, condition_is_true};
use crate::jobs::{self, JobResult, explain};
use crate::kubernetes::cache::View;
use crate::kubernetes::now;
use crate::kubernetes::obstacles::{Obstacle, last_warning};
use crate::names::{
    ANNOTATION_FENCED_AT, ANNOTATION_MADE_FOR, ANNOTATION_NEW_IDENTITY,
    ANNOTATION_RECOVERY_ATTEMPT, ANNOTATION_SPEC_HASH, ANNOTATION_TEMPLATE_HASH,
    LABEL_CLUSTER_UUID, LABEL_COMPONENT, LABEL_LOST_CLUSTER, LABEL_ROLE, LABEL_SERVICE_NAME,
    LABEL_SLOT, selector,
};
use crate::quantity::parse_whole;

/// How long the makers of pods are given before they are asked why there is none.
const NO_POD_AFTER_SECONDS: i64 = 10;

/// How long a node may take to answer.
pub const NODE_DEADLINE: Duration = Duration::from_secs(2);

/// The world could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    #[error("failed to list {kind}")]
    List {
        kind: &'static str,
        source: kube::Error,
    },
}

/// Looks at everything that belongs to the cluster.
///
/// # Errors
/// When the API server does not answer; a node that does not answer is part of what is seen.
pub async fn observe(
    client: &Client,
    view: View<'_>,
    cluster: &ValidatedCluster,
    status: &RdfClusterStatus,
) -> Result<Observation, ObserveError> {
    let namespace = cluster.namespace.as_str();
    let mine = selector(&cluster.name);
    // A claim may have lost its labels: a cluster is not made over it.
    let claims_of = match view {
        View::Cached(_) => mine.clone(),
        View::Live(_) => Selector::default(),
    };
    let of_service: Selector = [(LABEL_SERVICE_NAME.to_owned(), cluster.name.clone())]
        .into_iter()
        .collect();
    let failed = |kind| move |source| ObserveError::List { kind, source };
    let (sets, pods, claims, jobs, slices) = futures::try_join!(
        async {
            view.list::<StatefulSet>(namespace, &mine)
                .await
                .map_err(failed("StatefulSets"))
        },
        async {
            view.list::<KubernetesPod>(namespace, &mine)
                .await
                .map_err(failed("Pods"))
        },
        async {
            view.list::<PersistentVolumeClaim>(namespace, &claims_of)
                .await
                .map_err(failed("PersistentVolumeClaims"))
        },
        async {
            view.list::<Job>(namespace, &mine)
                .await
                .map_err(failed("Jobs"))
        },
        async {
            view.list::<EndpointSlice>(namespace, &of_service)
                .await
                .map_err(failed("EndpointSlices"))
        },
    )?;
    let now = now();
    let mut observation = Observation {
        record: record(status),
        newest_volume_generation: newest_volume_generation(cluster, &claims),
        ..Observation::default()
    };
    for claim in &claims {
        if let Some(slot) = cluster.slot_of_volume(&claim.name_any()) {
            observation.slots.entry(slot).or_default().volume = Some(volume(claim));
        }
    }
    for set in &sets {
        if let Some(slot) = slot_of(&**set) {
            let seen = observation.slots.entry(slot).or_default();
            seen.stateful_set = Some(stateful_set(set, now));
        }
    }
    for pod in pods.iter().filter(|pod| component(&***pod) == "node") {
        if let Some(slot) = slot_of(&**pod) {
            observation.slots.entry(slot).or_default().pod = Some(member_pod(pod));
        }
    }
    let warnings = warnings(client, namespace, &jobs, &sets, &pods, now)
        .await
        .map_err(failed("Events"))?;
    for job in &jobs {
        if let Some(patch) = jobs::to_keep(job, &pods) {
            let name = job.name_any();
            observation.job_ends.push(JobEnd { name, patch });
        }
        let look = JobLook {
            cluster,
            pods: &pods,
            warnings: &warnings,
            now,
        };
        match component(&**job) {
            "recovery" => {
                if let (Some(slot), Some(attempt)) = (slot_of(&**job), attempt_of(job)) {
                    let state = recovery_state(job, look);
                    observation
                        .slots
                        .entry(slot)
                        .or_default()
                        .recoveries
                        .insert(attempt, state);
                }
            }
            "restore" if job.name_any() == build::restore_job_name(cluster) => {
                observation.restore = restore_state(job, look);
            }
            "export" => {
                let name = job.name_any();
                let seen = slot_of(&**job).and_then(|slot| observation.slots.get_mut(&slot));
                if let Some(seen) = seen
                    && let Some(volume) = &seen.volume
                    && build::export_job_name(cluster, &volume.uid) == name
                {
                    seen.export = export_state(job, look);
                }
            }
            _ => {}
        }
    }
    let running: Vec<Slot> = observation
        .slots
        .iter()
        .filter(|(_, seen)| seen.pod.as_ref().is_some_and(|pod| pod.running))
        .map(|(slot, _)| *slot)
        .collect();
    let answers = join_all(running.into_iter().map(|slot| async move {
        let answer = ask(&cluster.peer_address(slot)).await;
        let start = match &answer {
            Some(_) => None,
            None => ask::how_far_a_start_is(&cluster.http_address(slot)).await,
        };
        (slot, answer, start)
    }))
    .await;
    for (slot, answer, start) in answers {
        let seen = observation.slots.entry(slot).or_default();
        seen.node = answer.map(|answer| node(cluster, answer));
        seen.start = start;
    }
    if may_need_backups(cluster, &observation) {
        observation.backups = backups(client, cluster)
            .await
            .map_err(failed("RdfBackups"))?;
    }
    if let Some(name) = plan::due_backup(cluster, &observation) {
        let api: Api<RdfBackup> = Api::namespaced(client.clone(), namespace);
        let found = api.get_opt(&name).await.map_err(failed("RdfBackups"))?;
        observation.recovery_backup = found.map(|backup| backup.status.unwrap_or_default().phase);
    }
    for member in &status.members {
        let since = member.unreachable_since.as_ref();
        let seen = Slot::try_from(member.slot)
            .ok()
            .and_then(|slot| observation.slots.get_mut(&slot));
        if let (Some(since), Some(seen)) = (since, seen)
            && seen.volume.as_ref().map(|volume| &volume.uid) == member.volume_uid.as_ref()
        {
            seen.unreachable_seconds = now.as_second() - since.0.as_second();
        }
    }
    observation.service.ready_pods = slices.iter().flat_map(|slice| ready_pods(slice)).collect();
    if serving::should_ask(cluster, &observation) {
        observation.service.answer = ask::whether_ready(&cluster.client_address()).await;
    }
    Ok(observation)
}

async fn ask(address: &str) -> Option<v1::StatusResponse> {
    // One deadline over connecting and asking; the name may not resolve yet either.
    let question = async {
        let mut connection = AdminConnection::connect(address, NODE_DEADLINE).await?;
        connection.status(v1::StatusRequest {}).await
    };
    match tokio::time::timeout(NODE_DEADLINE, question).await {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(error)) => {
            tracing::debug!(address, %error, "a node does not answer");
            None
        }
        Err(_) => {
            tracing::debug!(address, "a node does not answer in time");
            None
        }
    }
}

/// UIDs of the pods that a slice sends requests to.
fn ready_pods(slice: &EndpointSlice) -> impl Iterator<Item = String> {
    slice.endpoints.iter().filter_map(|endpoint| {
        // Nothing said means ready, as the API has it.
        let ready = endpoint
            .conditions
            .as_ref()
            .and_then(|conditions| conditions.ready)
            .unwrap_or(true);
        let target = endpoint.target_ref.as_ref().filter(|_| ready)?;
        target.uid.clone()
    })
}

fn component<K: kube::Resource>(object: &K) -> &str {
    object
        .meta()
        .labels
        .as_ref()
        .and_then(|labels| labels.get(LABEL_COMPONENT))
        .map_or("", String::as_str)
}

fn slot_of<K: kube::Resource>(object: &K) -> Option<Slot> {
    object.meta().labels.as_ref()?.get(LABEL_SLOT)?.parse().ok()
}

fn annotation<'a, K: kube::Resource>(object: &'a K, name: &str) -> Option<&'a str> {
    object
        .meta()
        .annotations
        .as_ref()?
        .get(name)
        .map(String::as_str)
}

fn attempt_of(job: &Job) -> Option<u32> {
    annotation(job, ANNOTATION_RECOVERY_ATTEMPT)?.parse().ok()
}

/// The number of the volumes that a cluster of this name used last, or the next one when they were lost.
fn newest_volume_generation(
    cluster: &ValidatedCluster,
    claims: &[Arc<PersistentVolumeClaim>],
) -> u32 {
    let generations = claims.iter().filter_map(|claim| {
        let (_, generation) = cluster.slot_and_generation(&claim.name_any())?;
        let is_lost = claim.labels().contains_key(LABEL_LOST_CLUSTER);
        Some(generation.saturating_add(u32::from(is_lost)))
    });
    generations.max().unwrap_or(0)
}

/// Whether backups matter: data may be lost, or is being made good.
fn may_need_backups(cluster: &ValidatedCluster, observation: &Observation) -> bool {
    let nobody_leads = observation
        .slots
        .values()
        .filter_map(|seen| seen.node.as_ref())
        .all(|node| node.role != Role::Leader);
    let wanted = cluster.spec.recovery.when_data_is_lost == WhenDataIsLost::RestoreLatestBackup;
    observation.record.loss.is_some() || (wanted && observation.record.initialised && nobody_leads)
}

async fn backups(
    client: &Client,
    cluster: &ValidatedCluster,
) -> Result<Vec<BackupSeen>, kube::Error> {
    let api: Api<RdfBackup> = Api::namespaced(client.clone(), &cluster.namespace);
    let found = api.list(&ListParams::default()).await?;
    let completed = found.items.into_iter().filter_map(|backup| {
        let name = backup.name_any();
        let status = backup.status?;
        if status.phase != BackupPhase::Completed || backup.metadata.deletion_timestamp.is_some() {
            return None;
        }
        Some(BackupSeen {
            name,
            cluster_uuid: status.source_cluster_uuid?,
            completed_at: status.completed_at?.0.as_second(),
            log_index: u64::try_from(status.log_index?).ok()?,
            digest: status.digest?,
            destination: backup.spec.destination,
        })
    });
    Ok(completed.collect())
}

fn volume(claim: &PersistentVolumeClaim) -> Volume {
    Volume {
        uid: claim.uid().unwrap_or_default(),
        resource_version: claim.resource_version().unwrap_or_default(),
        cluster_uuid: claim.labels().get(LABEL_CLUSTER_UUID).cloned(),
        requested_bytes: claim
            .spec
            .as_ref()
            .and_then(|spec| spec.resources.as_ref()?.requests.as_ref()?.get("storage"))
            .and_then(|quantity| parse_whole(&quantity.0))
            .unwrap_or(0),
        deleting: claim.metadata.deletion_timestamp.is_some(),
        is_kept: claim.labels().contains_key(LABEL_LOST_CLUSTER),
    }
}

fn stateful_set(set: &StatefulSet, now: Timestamp) -> StatefulSetState {
    let fenced_at: Option<i64> =
        annotation(set, ANNOTATION_FENCED_AT).and_then(|text| text.parse().ok());
    StatefulSetState {
        uid: set.uid().unwrap_or_default(),
        resource_version: set.resource_version().unwrap_or_default(),
        replicas: set
            .spec
            .as_ref()
            .and_then(|spec| spec.replicas)
            .unwrap_or(1),
        template_hash: annotation(set, ANNOTATION_TEMPLATE_HASH)
            .unwrap_or("")
            .to_owned(),
        spec_hash: annotation(set, ANNOTATION_SPEC_HASH)
            .unwrap_or("")
            .to_owned(),
        recovery_attempt: annotation(set, ANNOTATION_RECOVERY_ATTEMPT)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0),
        fenced_at,
        fenced_seconds: fenced_at.map_or(0, |at| now.as_second() - at),
        deleting: set.metadata.deletion_timestamp.is_some(),
    }
}

fn member_pod(pod: &KubernetesPod) -> Pod {
    let status = pod.status.clone().unwrap_or_default();
    let container = status
        .container_statuses
        .iter()
        .flatten()
        .find(|container| container.name == "node")
        .cloned()
        .unwrap_or_default();
    let state = container.state.unwrap_or_default();
    let terminated = state
        .terminated
        .or_else(|| container.last_state.and_then(|last| last.terminated));
    let ready = status
        .conditions
        .iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let unschedulable = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    let waiting = state
        .waiting
        .map(|waiting| {
            let reason = waiting.reason.unwrap_or_default();
            match waiting.message {
                Some(message) => format!("{reason}: {message}"),
                None => reason,
            }
        })
        .or_else(|| {
            unschedulable.map(|condition| {
                format!(
                    "{}: {}",
                    condition.reason.clone().unwrap_or_default(),
                    condition.message.clone().unwrap_or_default()
                )
            })
        });
    Pod {
        uid: pod.uid().unwrap_or_default(),
        template_hash: annotation(pod, ANNOTATION_TEMPLATE_HASH)
            .unwrap_or("")
            .to_owned(),
        spec_hash: annotation(pod, ANNOTATION_SPEC_HASH)
            .unwrap_or("")
            .to_owned(),
        running: state.running.is_some(),
        ready,
        role: pod.labels().get(LABEL_ROLE).cloned(),
        deleting: pod.metadata.deletion_timestamp.is_some(),
        machine: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        termination: terminated.map(|terminated| Termination {
            exit_code: terminated.exit_code,
            message: explain(&terminated.message.unwrap_or_default()),
        }),
        waiting,
    }
}

/// What a Job is looked at with.
#[derive(Clone, Copy)]
struct JobLook<'a> {
    cluster: &'a ValidatedCluster,
    pods: &'a [Arc<KubernetesPod>],
    /// The last warning about objects without a pod, by their UIDs.
    warnings: &'a BTreeMap<String, Obstacle>,
    now: Timestamp,
}

impl JobLook<'_> {
    fn result(&self, job: &Job) -> JobResult {
        let warning = self.warnings.get(&job.uid().unwrap_or_default());
        jobs::result(job, self.pods, warning, self.now)
    }

    fn waiting(&self, job: &Job, obstacle: Option<Obstacle>) -> WaitingJob {
        let generation = self.cluster.generation.to_string();
        WaitingJob {
            name: job.name_any(),
            uid: job.uid().unwrap_or_default(),
            seconds: age_seconds(job, self.now),
            obstacle: obstacle.map(|obstacle| obstacle.to_string()),
            is_outdated: annotation(job, ANNOTATION_MADE_FOR) != Some(&generation),
            deleting: job.metadata.deletion_timestamp.is_some(),
        }
    }
}

fn age_seconds<K: kube::Resource>(object: &K, now: Timestamp) -> i64 {
    let created = object.meta().creation_timestamp.as_ref();
    created.map_or(0, |time| now.as_second() - time.0.as_second())
}

/// Why Jobs and members have no pod: those that should have had one for a while are asked about.
async fn warnings(
    client: &Client,
    namespace: &str,
    jobs: &[Arc<Job>],
    sets: &[Arc<StatefulSet>],
    pods: &[Arc<KubernetesPod>],
    now: Timestamp,
) -> Result<BTreeMap<String, Obstacle>, kube::Error> {
    let has_pod = |uid: &str| {
        pods.iter().any(|pod| {
            let owners = pod.metadata.owner_references.iter().flatten();
            owners.into_iter().any(|owner| owner.uid == uid)
        })
    };
    let should_have = |uid: Option<String>, age_seconds: i64| {
        uid.filter(|uid| age_seconds >= NO_POD_AFTER_SECONDS && !has_pod(uid))
    };
    let of_jobs = jobs.iter().filter_map(|job| {
        let ended = jobs::has_ended(job);
        should_have(job.uid(), age_seconds(&**job, now)).filter(|_| !ended)
    });
    let of_sets = sets.iter().filter_map(|set| {
        let wants_pod = set.spec.as_ref().and_then(|spec| spec.replicas) != Some(0);
        should_have(set.uid(), age_seconds(&**set, now)).filter(|_| wants_pod)
    });
    let mut warnings = BTreeMap::new();
    for uid in of_jobs.chain(of_sets) {
        if let Some(warning) = last_warning(client, namespace, &uid).await? {
            warnings.insert(uid, warning);
        }
    }
    Ok(warnings)
}

fn recovery_state(job: &Job, look: JobLook<'_>) -> JobState<RecoveryFindings> {
    match look.result(job) {
        JobResult::Waiting { obstacle } => JobState::Waiting(look.waiting(job, obstacle)),
        JobResult::Running => JobState::Running,
        JobResult::Succeeded { report } => {
            let report = report.unwrap_or_default();
            JobState::Succeeded(
                recovery_findings(&report).unwrap_or_else(|| RecoveryFindings {
                    outcome: RecoveryOutcome::Recovered,
                    message: explain(&report),
                    entries_replayed: 0,
                }),
            )
        }
        JobResult::Failed { exit_code, message } => JobState::Failed {
            exit_code,
            message,
            with_new_identity: annotation(job, ANNOTATION_NEW_IDENTITY) == Some("true"),
        },
    }
}

fn export_state(job: &Job, look: JobLook<'_>) -> JobState<()> {
    match look.result(job) {
        JobResult::Waiting { obstacle } => JobState::Waiting(look.waiting(job, obstacle)),
        JobResult::Running => JobState::Running,
        JobResult::Succeeded { .. } => JobState::Succeeded(()),
        JobResult::Failed { exit_code, message } => JobState::Failed {
            exit_code,
            message,
            with_new_identity: false,
        },
    }
}

fn recovery_findings(json: &str) -> Option<RecoveryFindings> {
    let report: RecoveryReport = serde_json::from_str(json).ok()?;
    Some(RecoveryFindings {
        outcome: report.outcome,
        message: report.message,
        entries_replayed: report.entries_replayed,
    })
}

fn restore_state(job: &Job, look: JobLook<'_>) -> JobState<RestoreFindings> {
    match look.result(job) {
        JobResult::Waiting { obstacle } => JobState::Waiting(look.waiting(job, obstacle)),
        JobResult::Running => JobState::Running,
        JobResult::Succeeded { report } => {
            let report: Option<RestoreReport> =
                report.and_then(|report| serde_json::from_str(&report).ok());
            JobState::Succeeded(report.map_or_else(RestoreFindings::default, |report| {
                RestoreFindings {
                    node_id: report.node_id,
                    location: report.location,
                    digest: report.digest,
                    quads: report.quads,
                    source_cluster_uuid: report.source_cluster_uuid,
                }
            }))
        }
        JobResult::Failed { exit_code, message } => JobState::Failed {
            message: format!("{}: {message}", jobs::failure_reason(exit_code, &message)),
            exit_code,
            with_new_identity: false,
        },
    }
}

/// What the status remembers. What cannot be read there is as if it had not been written.
#[must_use]
pub fn record(status: &RdfClusterStatus) -> Record {
    let slot = |slot: i32| Slot::try_from(slot).ok();
    let index = |index: i64| u64::try_from(index).unwrap_or(0);
    Record {
        cluster_uuid: status.cluster_uuid.clone(),
        initialised: status.initialised,
        initial_members: status
            .initial_members
            .iter()
            .filter_map(|member| Some((slot(member.slot)?, member.node_id.parse().ok()?)))
            .collect(),
        nodes: status
            .members
            .iter()
            .filter_map(|member| Some((slot(member.slot)?, member.node_id.as_ref()?.parse().ok()?)))
            .collect(),
        settled_attempts: status
            .members
            .iter()
            .filter_map(|member| {
                Some((
                    slot(member.slot)?,
                    u32::try_from(member.settled_recovery_attempts).ok()?,
                ))
            })
            .collect(),
        high_water: status
            .high_water
            .iter()
            .filter_map(|mark| {
                let node_id: NodeId = mark.node_id.parse().ok()?;
                Some((
                    node_id,
                    Mark {
                        volume_uid: mark.volume_uid.clone(),
                        index: index(mark.index),
                    },
                ))
            })
            .collect(),
        backed_up_attempts: status
            .members
            .iter()
            .filter_map(|member| {
                Some((
                    slot(member.slot)?,
                    u32::try_from(member.backed_up_recovery_attempts).ok()?,
                ))
            })
            .collect(),
        backed_up_volume_generation: u32::try_from(status.backed_up_volume_generation).unwrap_or(0),
        loss: status.data_loss.as_ref().map(|loss| Loss {
            message: loss.message.clone(),
            backup: loss.backup.as_ref().map(|backup| backup.name.clone()),
            damaged_backups: loss.damaged_backups.iter().cloned().collect(),
        }),
        lost_cluster_uuids: status.lost_cluster_uuids.clone(),
        ready: condition_is_true(&status.conditions, "Ready"),
        boot_counts: status
            .members
            .iter()
            .filter_map(|member| Some((slot(member.slot)?, index(member.boot_count?))))
            .collect(),
    }
}

fn node(cluster: &ValidatedCluster, answer: v1::StatusResponse) -> Node {
    let index = |log_id: Option<v1::LogId>| log_id.map_or(0, |log_id| log_id.index);
    Node {
        node_id: NodeId(answer.node_id),
        role: match answer.role() {
            v1::Role::Unspecified | v1::Role::Waiting => Role::Waiting,
            v1::Role::Learner => Role::Learner,
            v1::Role::Follower => Role::Follower,
            v1::Role::Candidate => Role::Candidate,
            v1::Role::Leader => Role::Leader,
            v1::Role::Stopped => Role::Stopped,
        },
        cluster_uuid: answer.cluster_uuid,
        version: answer.version,
        boot_count: answer.boot_count,
        term: answer.term,
        leader: (answer.leader_node_id != 0).then_some(NodeId(answer.leader_node_id)),
        last_log_index: index(answer.last_log_id),
        committed_index: index(answer.committed),
        applied_index: index(answer.applied),
        digest: answer.digest,
        ready: answer.ready,
        not_ready_reason: answer.not_ready_reason,
        membership: answer
            .membership
            .and_then(|membership| self::membership(cluster, &membership)),
        matching: answer
            .progress
            .iter()
            .map(|progress| (NodeId(progress.node_id), index(progress.matching)))
            .collect(),
        diverged_from: answer
            .divergences
            .iter()
            .map(|found| {
                let divergence = Divergence {
                    log_index: found.log_index,
                    own_digest: found.own_digest.clone(),
                    other_digest: found.other_digest.clone(),
                    equal_log_index: found.equal_log_index,
                };
                (NodeId(found.node_id), divergence)
            })
            .collect(),
        unreadable: answer
            .unreadable
            .iter()
            .map(|log_id| format!("{}.{}", log_id.term, log_id.index))
            .collect(),
        short_of_space: answer.disk_is_short.then_some(answer.disk_available_bytes),
        recovery: recovery_findings(&answer.recovery_report_json),
    }
}

/// A membership; none when the node has not been initialised.
fn membership(cluster: &ValidatedCluster, membership: &v1::Membership) -> Option<Membership> {
    let voters: BTreeSet<NodeId> = membership
        .configurations
        .iter()
        .flat_map(|set| set.voters.iter().copied().map(NodeId))
        .collect();
    if voters.is_empty() {
        return None;
    }
    let members: BTreeMap<NodeId, Option<Slot>> = membership
        .members
        .iter()
        .map(|member| {
            (
                NodeId(member.node_id),
                cluster.slot_of_address(&member.peer_address),
            )
        })
        .collect();
    Some(Membership {
        index: membership.log_id.as_ref().map_or(0, |log_id| log_id.index),
        joint: membership.configurations.len() > 1,
        voters,
        members,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn the_endpoints_that_take_requests_are_those_not_said_to_be_unready() {
        let endpoint = |uid: &str, conditions: serde_json::Value| {
            json!({
                "addresses": ["10.0.0.1"],
                "conditions": conditions,
                "targetRef": { "kind": "Pod", "name": "films-0-0", "uid": uid },
            })
        };
        let slice: EndpointSlice = serde_json::from_value(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": { "name": "films-abc" },
            "addressType": "IPv4",
            "endpoints": [
                endpoint("ready", json!({ "ready": true })),
                endpoint("unsaid", json!({})),
                endpoint("unready", json!({ "ready": false })),
                // Still served while nothing else is there, and about to be gone.
                endpoint("ends", json!({ "ready": false, "serving": true, "terminating": true })),
                { "addresses": ["10.0.0.9"] },
            ],
        }))
        .unwrap();
        let found: Vec<String> = ready_pods(&slice).collect();
        assert_eq!(found, ["ready", "unsaid"]);
    }

    #[test]
    fn a_pod_is_ready_when_its_condition_says_so_and_not_when_it_only_runs() {
        let pod = |ready: &str| {
            let pod: KubernetesPod = serde_json::from_value(json!({
                "metadata": { "name": "films-0-0", "uid": "u" },
                "status": {
                    "conditions": [
                        { "type": "PodScheduled", "status": "True" },
                        { "type": "Ready", "status": ready },
                    ],
                    "containerStatuses": [{
                        "name": "node", "image": "", "imageID": "", "ready": false,
                        "restartCount": 0, "state": { "running": {} },
                    }],
                },
            }))
            .unwrap();
            member_pod(&pod)
        };
        assert!(pod("True").ready);
        assert!(pod("False").running && !pod("False").ready);
        assert!(!member_pod(&KubernetesPod::default()).ready);
    }
}
