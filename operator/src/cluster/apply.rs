//! Carries a plan out. Objects go by server-side apply; deletions carry the UID and the
//! resourceVersion that the plan saw; membership calls carry the membership index.

use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use kube::Client;
use kube::api::{Api, DeleteParams, Preconditions, PropagationPolicy};
use quadraft_protocol::{AdminConnection, ConnectionError, NodeId, v1};
use serde_json::Value;

use super::build;
use super::observation::{Observation, Slot};
use super::plan::{Ensure, Step};
use super::validate::{BootstrapSource, ValidatedCluster};
use crate::api::{BackupLocation, BackupPhase, RdfBackup};
use crate::jobs::location_url;
use crate::kubernetes::{apply, describe_error};

/// Membership changes wait for a majority.
const CHANGE_DEADLINE: Duration = Duration::from_secs(10);

/// An action could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("failed to apply {kind} {name}: {}", describe_error(source))]
    Apply {
        kind: String,
        name: String,
        source: kube::Error,
    },
    #[error("failed to delete {kind} {name}: {}", describe_error(source))]
    Delete {
        kind: &'static str,
        name: String,
        source: kube::Error,
    },
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

impl ApplyError {
    /// The condition's reason.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Apply { kind, source, .. } => {
                let forbidden = matches!(source, kube::Error::Api(status) if status.code == 403 || status.code == 422);
                if forbidden && kind == "PersistentVolumeClaim" {
                    "StorageChangeRefused"
                } else {
                    "ApplyFailed"
                }
            }
            Self::Delete { .. } => "DeleteFailed",
            Self::Read { .. } => "ReadFailed",
            Self::Node(_) => "NodeRefused",
            Self::NoLeader => "WaitingForLeader",
            Self::Source { reason, .. } => reason,
        }
    }
}

/// Applies the plan's harmless actions.
///
/// # Errors
/// With the first object that the API server refuses; the others were still applied.
pub async fn ensure(
    client: &Client,
    cluster: &ValidatedCluster,
    observation: &Observation,
    cluster_uuid: &str,
    actions: &[Ensure],
) -> Result<(), ApplyError> {
    let mut first_error = None;
    let mut keep = |result: Result<(), ApplyError>| {
        if let Err(error) = result {
            first_error.get_or_insert(error);
        }
    };
    for object in build::shared(cluster) {
        keep(apply_object(client, cluster, &object).await);
    }
    for action in actions {
        match action {
            Ensure::Volume { slot } => {
                let seen = observation
                    .slots
                    .get(slot)
                    .and_then(|seen| seen.volume.as_ref());
                // Applied only where it is missing or has to grow: a volume never shrinks.
                if seen.is_none_or(|volume| volume.requested_bytes < cluster.storage_bytes) {
                    let object = build::volume(cluster, *slot, cluster_uuid);
                    keep(apply_object(client, cluster, &object).await);
                }
            }
            Ensure::Member {
                slot,
                replicas,
                recovery_attempt,
                refused_with,
            } => {
                let object = build::stateful_set(
                    cluster,
                    *slot,
                    cluster_uuid,
                    *replicas,
                    *recovery_attempt,
                    *refused_with,
                );
                keep(apply_object(client, cluster, &object).await);
            }
        }
    }
    first_error.map_or(Ok(()), Err)
}

async fn apply_object(
    client: &Client,
    cluster: &ValidatedCluster,
    object: &Value,
) -> Result<(), ApplyError> {
    let text = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    apply(client, &cluster.namespace, object)
        .await
        .map_err(|source| ApplyError::Apply {
            kind: text("/kind"),
            name: text("/metadata/name"),
            source,
        })
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
        Step::StartRestore => start_restore(client, cluster, cluster_uuid).await,
        Step::AddLearner { .. }
        | Step::Promote { .. }
        | Step::Remove { .. }
        | Step::TransferLeadership { .. } => {
            change_membership(cluster, observation, cluster_uuid, step).await
        }
        Step::RestartPod { slot, pod_uid } => {
            let pods: Api<Pod> = Api::namespaced(client.clone(), &cluster.namespace);
            delete(&pods, "Pod", &cluster.pod_name(*slot), pod_uid, None).await
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
        Step::Fence {
            slot,
            attempt,
            refused_with,
        } => {
            let object =
                build::stateful_set(cluster, *slot, cluster_uuid, 0, *attempt, *refused_with);
            apply_object(client, cluster, &object).await
        }
        Step::StartRecovery {
            slot,
            attempt,
            allow_new_identity,
        } => {
            let object =
                build::recovery_job(cluster, *slot, cluster_uuid, *attempt, *allow_new_identity);
            apply_object(client, cluster, &object).await
        }
        Step::Unfence { slot, attempt } => {
            let object = build::stateful_set(cluster, *slot, cluster_uuid, 1, *attempt, 0);
            apply_object(client, cluster, &object).await
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
pub(super) async fn delete<K>(
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
    match api.delete(name, &parameters).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        Err(source) => Err(ApplyError::Delete {
            kind,
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
    apply_object(client, cluster, &object).await
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

/// Checks that the claim or the secret of a location exists, so that the reason is shown where
/// a person looks, and not in a pod that never starts.
///
/// # Errors
/// When it does not, or the API server does not answer.
pub async fn check_location(
    client: &Client,
    namespace: &str,
    location: &BackupLocation,
) -> Result<(), ApplyError> {
    if let Some(name) = &location.claim_name {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
        let found = claims
            .get_opt(name)
            .await
            .map_err(|source| ApplyError::Read {
                what: format!("PersistentVolumeClaim {name}"),
                source,
            })?;
        if found.is_none() {
            return Err(ApplyError::Source {
                reason: "ClaimNotFound",
                message: format!("there is no PersistentVolumeClaim {name} in this namespace"),
            });
        }
    }
    if let Some(name) = &location.credentials_secret_name {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
        // Only the metadata: the operator never reads what is in the secret.
        let found = secrets
            .get_metadata_opt(name)
            .await
            .map_err(|source| ApplyError::Read {
                what: format!("Secret {name}"),
                source,
            })?;
        if found.is_none() {
            return Err(ApplyError::Source {
                reason: "SecretNotFound",
                message: format!("there is no Secret {name} in this namespace"),
            });
        }
    }
    Ok(())
}
