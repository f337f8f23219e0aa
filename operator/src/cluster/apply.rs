//! Carries a plan's step out. Objects go by server-side apply; deletions carry the UID and the
//! resourceVersion that the plan saw; membership calls carry the membership index.

use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::Client;
use kube::api::{
    Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy,
};
use quadraft_protocol::{AdminConnection, ConnectionError, NodeId, v1};
use serde_json::Value;

use super::build;
use super::observation::{Observation, Slot};
use super::plan::Step;
use super::validate::{BootstrapSource, ValidatedCluster};
use crate::api::{BackupLocation, BackupPhase, RdfBackup};
use crate::jobs::{self, location_url};
use crate::kubernetes::objects::{ObjectError, Wanted};
use crate::kubernetes::{describe_error, now};
use crate::names::LABEL_LOST_CLUSTER;

/// Membership changes wait for a majority.
const CHANGE_DEADLINE: Duration = Duration::from_secs(10);

/// An action could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("{0}")]
    Object(#[from] ObjectError),
    #[error("failed to change the finalizers: {}", describe_error(.0))]
    Finalizers(#[source] kube::Error),
    #[error("failed to delete {kind} {name}: {}", describe_error(source))]
    Delete {
        kind: &'static str,
        name: String,
        source: kube::Error,
    },
    #[error("pod {name} is restarted when its disruption budget allows: {message}")]
    EvictionRefused { name: String, message: String },
    #[error("{error}{}", advice(*present_bytes))]
    Volume {
        present_bytes: Option<u64>,
        error: Box<ApplyError>,
    },
    #[error(
        "spec.storage.size is less than the volume of slot {slot} has, which cannot shrink. Everything else \
         goes on. Set it to {present_bytes} or more"
    )]
    Shrinks { slot: Slot, present_bytes: u64 },
    #[error("failed to label pod {name}: {}", describe_error(source))]
    Label { name: String, source: kube::Error },
    #[error(
        "failed to note at {what} what it is kept for: {}",
        describe_error(source)
    )]
    Keep { what: String, source: kube::Error },
    #[error("failed to make RdfBackup {name}: {}", describe_error(source))]
    Backup { name: String, source: kube::Error },
    #[error("failed to read {what}: {}", describe_error(source))]
    Read { what: String, source: kube::Error },
    #[error("{0}")]
    Node(#[from] ConnectionError),
    #[error("no node leads to ask for the change")]
    NoLeader,
    #[error("{message}")]
    Source {
        reason: &'static str,
        message: String,
    },
}

/// What to do about a volume that cannot grow.
fn advice(present_bytes: Option<u64>) -> String {
    present_bytes.map_or_else(String::new, |bytes| {
        format!(
            ". Everything else goes on. Set spec.storage.size back to {bytes} (what the volume has), or let \
             its StorageClass allow volumes to grow"
        )
    })
}

impl ApplyError {
    /// The condition's reason.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Volume { error, .. } => error.reason(),
            Self::Shrinks { .. } => "StorageCannotShrink",
            Self::Object(ObjectError::NameTaken { .. }) => "NameTaken",
            Self::Object(ObjectError::BeingDeleted { .. }) => "BeingDeleted",
            Self::Object(ObjectError::Changed { .. }) => "ObjectChanged",
            Self::Object(ObjectError::Kubernetes { kind, source, .. }) => {
                let refused =
                    matches!(source, kube::Error::Api(status) if matches!(status.code, 403 | 422));
                if refused && kind == "PersistentVolumeClaim" {
                    "StorageChangeRefused"
                } else {
                    "ApplyFailed"
                }
            }
            Self::Finalizers(_) | Self::Keep { .. } | Self::Label { .. } | Self::Backup { .. } => {
                "ApplyFailed"
            }
            Self::Delete { .. } => "DeleteFailed",
            Self::EvictionRefused { .. } => "EvictionRefused",
            Self::Read { .. } => "ReadFailed",
            Self::Node(_) => "NodeRefused",
            Self::NoLeader => "WaitingForLeader",
            Self::Source { reason, .. } => reason,
        }
    }

    /// Whether a person has to do something about the error.
    #[must_use]
    pub fn stalls(&self) -> bool {
        if let Self::Volume { error, .. } = self {
            return error.stalls();
        }
        matches!(self, Self::Object(ObjectError::NameTaken { .. }))
            || matches!(
                self.reason(),
                "StorageChangeRefused" | "StorageCannotShrink"
            )
    }

    /// Whether the error says no more than that one has to look again.
    #[must_use]
    pub fn passes(&self) -> bool {
        match self {
            Self::Volume { error, .. } => error.passes(),
            _ => matches!(self, Self::Object(ObjectError::Changed { .. })),
        }
    }

    /// Whether members do not have the template that they should: restarting them would bring them to
    /// another one.
    #[must_use]
    pub fn concerns_templates(&self) -> bool {
        match self {
            Self::Object(
                ObjectError::Kubernetes { kind, .. }
                | ObjectError::NameTaken { kind, .. }
                | ObjectError::BeingDeleted { kind, .. }
                | ObjectError::Changed { kind, .. },
            ) => matches!(
                kind.as_str(),
                "StatefulSet" | "ConfigMap" | "ServiceAccount"
            ),
            Self::Read { .. } => true,
            _ => false,
        }
    }
}

async fn ensure_object(client: &Client, object: Value) -> Result<(), ApplyError> {
    Ok(Wanted::new(object).ensure(client).await?)
}

/// Keeps the ends of Jobs in them.
///
/// # Errors
/// When the API server does not answer or refuses.
pub async fn keep_job_ends(
    client: &Client,
    cluster: &ValidatedCluster,
    observation: &Observation,
) -> Result<(), ApplyError> {
    for end in &observation.job_ends {
        let kept = jobs::keep(client, &cluster.namespace, &end.name, &end.patch).await;
        kept.map_err(|source| ApplyError::Keep {
            what: format!("Job {}", end.name),
            source,
        })?;
    }
    Ok(())
}

/// Carries out a step that concerns objects or nodes. Steps that only record something are the
/// status phase's.
///
/// # Errors
/// When the API server or a node refuses; the next reconcile decides anew.
pub async fn carry_out(
    client: &Client,
    cluster: &ValidatedCluster,
    observation: &Observation,
    cluster_uuid: &str,
    step: &Step,
) -> Result<(), ApplyError> {
    match step {
        Step::MakeClusterUuid
        | Step::AdoptClusterUuid(_)
        | Step::RecordLoss(_)
        | Step::ForgetLoss
        | Step::RecordRestore(_)
        | Step::RecordVolumeGeneration(_)
        | Step::RecordInitialMembers(_)
        | Step::RecordInitialised => Ok(()),
        Step::Initialise { contact, members } => {
            let message = v1::InitialiseRequest {
                cluster_uuid: cluster_uuid.to_owned(),
                members: members
                    .iter()
                    .map(|(slot, node)| member(cluster, *slot, *node))
                    .collect(),
            };
            connect(cluster, *contact)
                .await?
                .initialise(message)
                .await?;
            Ok(())
        }
        Step::StartExport {
            slot,
            volume_uid,
            beside,
        } => {
            check_location(client, &cluster.namespace, &beside.destination).await?;
            let object = build::export_job(
                cluster,
                *slot,
                volume_uid,
                cluster_uuid,
                &beside.destination,
            );
            ensure_object(client, object).await
        }
        Step::KeepVolume { slot, uid } => {
            let claims: Api<PersistentVolumeClaim> =
                Api::namespaced(client.clone(), &cluster.namespace);
            let patch = serde_json::json!({ "metadata": {
                "uid": uid,
                "labels": { LABEL_LOST_CLUSTER: cluster_uuid },
            } });
            let name = cluster.volume_name(*slot);
            match claims
                .patch(&name, &PatchParams::default(), &Patch::Merge(&patch))
                .await
            {
                Ok(_) => Ok(()),
                // Another by now, or none.
                Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {
                    Ok(())
                }
                Err(source) => Err(ApplyError::Keep {
                    what: format!("volume {name}"),
                    source,
                }),
            }
        }
        Step::TakeBackup(name) => {
            let Some(destination) = &cluster.spec.recovery.backup_after_recovery else {
                return Ok(());
            };
            let backups: Api<RdfBackup> = Api::namespaced(client.clone(), &cluster.namespace);
            let backup = build::backup_after_recovery(cluster, name, destination);
            match backups.create(&PostParams::default(), &backup).await {
                Ok(_) => Ok(()),
                Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
                Err(source) => Err(ApplyError::Backup {
                    name: name.clone(),
                    source,
                }),
            }
        }
        Step::StartRestore => start_restore(client, cluster, cluster_uuid).await,
        Step::AddLearner { .. }
        | Step::Promote { .. }
        | Step::Remove { .. }
        | Step::TransferLeadership { .. } => {
            change_membership(cluster, observation, cluster_uuid, step).await
        }
        Step::RestartPod { slot, pod_uid } => {
            let pods: Api<Pod> = Api::namespaced(client.clone(), &cluster.namespace);
            let name = cluster.pod_name(*slot);
            if cluster.replicas == 1 {
                // Nothing could ever take its place: no budget lets it be evicted.
                return delete(&pods, "Pod", &name, pod_uid, None).await;
            }
            evict(&pods, &name, pod_uid).await
        }
        Step::Discard {
            slot,
            volume_uid,
            volume_resource_version,
            pod_uid,
        } => {
            let claims: Api<PersistentVolumeClaim> =
                Api::namespaced(client.clone(), &cluster.namespace);
            let name = cluster.volume_name(*slot);
            delete(
                &claims,
                "PersistentVolumeClaim",
                &name,
                volume_uid,
                Some(volume_resource_version),
            )
            .await?;
            let Some(pod_uid) = pod_uid else {
                return Ok(());
            };
            let pods: Api<Pod> = Api::namespaced(client.clone(), &cluster.namespace);
            // A machine that is gone never says that the pod has ended. Should it still run there, it has
            // the old volume, and an identity that has left the membership.
            delete_at_once(&pods, "Pod", &cluster.pod_name(*slot), pod_uid).await
        }
        Step::DeleteStatefulSet {
            slot,
            uid,
            resource_version,
        } => {
            let sets: Api<StatefulSet> = Api::namespaced(client.clone(), &cluster.namespace);
            let name = cluster.stateful_set_name(*slot);
            delete(&sets, "StatefulSet", &name, uid, Some(resource_version)).await
        }
        Step::DeleteVolume {
            slot,
            uid,
            resource_version,
        } => {
            let claims: Api<PersistentVolumeClaim> =
                Api::namespaced(client.clone(), &cluster.namespace);
            let name = cluster.volume_name(*slot);
            delete(
                &claims,
                "PersistentVolumeClaim",
                &name,
                uid,
                Some(resource_version),
            )
            .await
        }
        Step::Fence { slot, attempt } => {
            let now = now().as_second();
            let object = build::stateful_set(cluster, *slot, cluster_uuid, 0, *attempt, Some(now));
            ensure_object(client, object).await
        }
        Step::StartRecovery {
            slot,
            attempt,
            allow_new_identity,
        } => {
            let object =
                build::recovery_job(cluster, *slot, cluster_uuid, *attempt, *allow_new_identity);
            ensure_object(client, object).await
        }
        Step::WithdrawJob { name, uid } => {
            let jobs: Api<Job> = Api::namespaced(client.clone(), &cluster.namespace);
            delete(&jobs, "Job", name, uid, None).await
        }
        Step::Unfence { slot, attempt } => {
            let object = build::stateful_set(cluster, *slot, cluster_uuid, 1, *attempt, None);
            ensure_object(client, object).await
        }
    }
}

fn member(cluster: &ValidatedCluster, slot: Slot, node: NodeId) -> v1::Member {
    v1::Member {
        node_id: node.0,
        peer_address: cluster.peer_address(slot),
        http_address: cluster.http_address(slot),
    }
}

async fn connect(cluster: &ValidatedCluster, slot: Slot) -> Result<AdminConnection, ApplyError> {
    Ok(AdminConnection::connect(&cluster.peer_address(slot), CHANGE_DEADLINE).await?)
}

async fn change_membership(
    cluster: &ValidatedCluster,
    observation: &Observation,
    cluster_uuid: &str,
    step: &Step,
) -> Result<(), ApplyError> {
    let leader =
        super::health::leadership(observation, cluster_uuid).ok_or(ApplyError::NoLeader)?;
    let mut connection = connect(cluster, leader.slot).await?;
    match step {
        Step::AddLearner {
            slot,
            node_id,
            membership_index,
        } => {
            let message = v1::AddLearnerRequest {
                member: Some(member(cluster, *slot, *node_id)),
                expected_membership_index: *membership_index,
            };
            connection.add_learner(message).await?;
        }
        Step::Promote {
            node_id,
            membership_index,
            ..
        } => {
            let message = v1::PromoteRequest {
                node_id: node_id.0,
                expected_membership_index: *membership_index,
            };
            connection.promote(message).await?;
        }
        Step::Remove {
            node_id,
            membership_index,
            ..
        } => {
            let message = v1::RemoveRequest {
                node_id: node_id.0,
                expected_membership_index: *membership_index,
            };
            connection.remove(message).await?;
        }
        Step::TransferLeadership { to, .. } => {
            let message = v1::TransferLeadershipRequest {
                to_node_id: to.0,
                deadline_ms: 5000,
            };
            connection.transfer_leadership(message).await?;
        }
        _ => {}
    }
    Ok(())
}

/// Deletes one object if it is still the one that the plan saw. One that is gone, or is another
/// by now, is left to the next plan.
pub async fn delete<K>(
    api: &Api<K>,
    kind: &'static str,
    name: &str,
    uid: &str,
    resource_version: Option<&String>,
) -> Result<(), ApplyError>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let parameters = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: resource_version.cloned(),
        }),
        propagation_policy: Some(PropagationPolicy::Background),
        ..DeleteParams::default()
    };
    delete_with(api, kind, name, &parameters).await
}

/// Deletes one object if it is still the one that the plan saw, without waiting for whoever should say
/// that it has ended.
async fn delete_at_once<K>(
    api: &Api<K>,
    kind: &'static str,
    name: &str,
    uid: &str,
) -> Result<(), ApplyError>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let parameters = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    delete_with(api, kind, name, &parameters).await
}

async fn delete_with<K>(
    api: &Api<K>,
    kind: &'static str,
    name: &str,
    parameters: &DeleteParams,
) -> Result<(), ApplyError>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    match api.delete(name, parameters).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        Err(source) => Err(ApplyError::Delete {
            kind,
            name: name.to_owned(),
            source,
        }),
    }
}

/// Evicts a pod if it is still the one that the plan saw, as the disruption budget allows: whatever else
/// takes pods away at this moment is counted too.
async fn evict(pods: &Api<Pod>, name: &str, uid: &str) -> Result<(), ApplyError> {
    // The library's own call writes its preconditions under a name that the API server does not know.
    let eviction = serde_json::json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": { "name": name },
        "deleteOptions": { "preconditions": { "uid": uid } },
    });
    let evicted: Result<Value, kube::Error> = pods
        .create_subresource("eviction", name, &PostParams::default(), &eviction)
        .await;
    match evicted {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 429 => Err(ApplyError::EvictionRefused {
            name: name.to_owned(),
            message: status.message.clone(),
        }),
        Err(source) => Err(ApplyError::Delete {
            kind: "Pod",
            name: name.to_owned(),
            source,
        }),
    }
}

async fn start_restore(
    client: &Client,
    cluster: &ValidatedCluster,
    cluster_uuid: &str,
) -> Result<(), ApplyError> {
    let Some(bootstrap) = &cluster.bootstrap else {
        return Ok(());
    };
    let jobs: Api<Job> = Api::namespaced(client.clone(), &cluster.namespace);
    let name = build::restore_job_name(cluster);
    let existing = jobs
        .get_opt(&name)
        .await
        .map_err(|source| ApplyError::Read {
            what: format!("Job {name}"),
            source,
        })?;
    if existing.is_some() {
        return Ok(());
    }
    let (location, from, digest) = match &bootstrap.source {
        BootstrapSource::Location(location) => {
            (location.clone(), location_url(location, None), None)
        }
        BootstrapSource::Backup(backup) => completed_backup(client, cluster, backup).await?,
    };
    check_location(client, &cluster.namespace, &location).await?;
    let digest = bootstrap.expected_digest.clone().or(digest);
    let object = build::restore_job(cluster, cluster_uuid, &location, &from, digest.as_deref());
    ensure_object(client, object).await
}

async fn completed_backup(
    client: &Client,
    cluster: &ValidatedCluster,
    name: &str,
) -> Result<(BackupLocation, String, Option<String>), ApplyError> {
    let backups: Api<RdfBackup> = Api::namespaced(client.clone(), &cluster.namespace);
    let backup = backups
        .get_opt(name)
        .await
        .map_err(|source| ApplyError::Read {
            what: format!("RdfBackup {name}"),
            source,
        })?;
    let source = |reason, message| ApplyError::Source { reason, message };
    let Some(backup) = backup else {
        return Err(source(
            "BackupNotFound",
            format!("there is no RdfBackup {name} in this namespace"),
        ));
    };
    let status = backup.status.unwrap_or_default();
    match (status.phase, status.location) {
        (BackupPhase::Completed, Some(location)) => {
            Ok((backup.spec.destination, location, status.digest))
        }
        (phase, _) => Err(source(
            "BackupNotCompleted",
            format!("RdfBackup {name} is {phase:?}, not Completed"),
        )),
    }
}

/// Checks that the claim of a location exists, so that the reason is shown at once. Whether a Secret is
/// there is not the operator's to look at: the pod says when it is not.
///
/// # Errors
/// When it does not, or the API server does not answer.
pub async fn check_location(
    client: &Client,
    namespace: &str,
    location: &BackupLocation,
) -> Result<(), ApplyError> {
    let Some(name) = &location.claim_name else {
        return Ok(());
    };
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let found = claims
        .get_opt(name)
        .await
        .map_err(|source| ApplyError::Read {
            what: format!("PersistentVolumeClaim {name}"),
            source,
        })?;
    if found.is_some() {
        return Ok(());
    }
    Err(ApplyError::Source {
        reason: "ClaimNotFound",
        message: format!("there is no PersistentVolumeClaim {name} in this namespace"),
    })
}
