//! The data of a backup: where it lies, and that it goes with its RdfBackup when the spec says so.

use std::time::Duration;

use kube::api::{Api, Patch, PatchParams};
use kube::runtime::controller::Action as Requeue;
use kube::{Resource, ResourceExt};
use serde_json::json;

use super::reconcile::{BackupError, job_scheduling, look};
use crate::api::{DeletionPolicy, RdfBackup, RdfCluster};
use crate::cluster::validate::{ValidatedCluster, accepted};
use crate::context::Context;
use crate::jobs::{self, JobResult, JobSpec, location_url};
use crate::kubernetes::objects::{ObjectError, Wanted};
use crate::names::{BACKUP_FINALIZER, labels, owner};

/// URL of the backup's folder, which no other backup and no other cluster has.
pub(super) fn url(backup: &RdfBackup, cluster_uuid: &str) -> String {
    let uid = backup.uid().unwrap_or_default();
    let folder = format!("{cluster_uuid}/{}-{uid}", backup.name_any());
    location_url(&backup.spec.destination, Some(&folder))
}

/// Keeps the backup while its data has to be deleted first, and deletes it. Gives when to look again
/// when there is nothing else to do for the backup as it was seen.
pub(super) async fn guard(
    context: &Context,
    backup: &RdfBackup,
) -> Result<Option<Requeue>, BackupError> {
    let is_guarded = backup
        .finalizers()
        .iter()
        .any(|name| name == BACKUP_FINALIZER);
    let wants_deletion = backup.spec.deletion_policy == DeletionPolicy::Delete;
    if backup.metadata.deletion_timestamp.is_none() {
        if wants_deletion != is_guarded {
            set_finalizer(context, backup, wants_deletion).await?;
            // The object is another one now, which is news by itself.
            return Ok(Some(Requeue::await_change()));
        }
        return Ok(None);
    }
    if !is_guarded {
        return Ok(Some(Requeue::await_change()));
    }
    let status = backup.status.clone().unwrap_or_default();
    let is_done = match (&status.source_cluster_uuid, wants_deletion) {
        // Nothing was ever written.
        (None, _) | (_, false) => true,
        (Some(cluster_uuid), true) => delete(context, backup, cluster_uuid).await?,
    };
    if is_done {
        set_finalizer(context, backup, false).await?;
        return Ok(Some(Requeue::await_change()));
    }
    Ok(Some(Requeue::requeue(Duration::from_secs(10))))
}

/// Has a Job delete the data; whether that is done.
async fn delete(
    context: &Context,
    backup: &RdfBackup,
    cluster_uuid: &str,
) -> Result<bool, BackupError> {
    let client = &context.client;
    let namespace = backup.namespace().unwrap_or_default();
    let uid = backup.uid().unwrap_or_default();
    let name = jobs::name(&backup.name_any(), &format!("{uid}/delete"));
    let found = look(client, &namespace, &name).await;
    let found = found.map_err(|source| BackupError::Read {
        what: "the Job",
        source,
    })?;
    let (warning, reason, message) = match found.map(|(_, result)| result) {
        Some(JobResult::Succeeded { .. }) => return Ok(true),
        Some(JobResult::Failed { message, .. }) => (true, "DeletionFailed", message),
        Some(JobResult::Waiting {
            obstacle: Some(obstacle),
        }) => (true, "JobCannotStart", obstacle.to_string()),
        Some(_) => return Ok(false),
        None => {
            let clusters: Api<RdfCluster> = Api::namespaced(client.clone(), &namespace);
            let cluster = clusters.get_opt(&backup.spec.cluster_name).await;
            let cluster = cluster.map_err(|source| BackupError::Read {
                what: "the cluster",
                source,
            })?;
            let cluster =
                cluster.and_then(|cluster| accepted(&cluster, &context.node_image_repository).ok());
            let cluster = cluster.map(|(cluster, _)| cluster);
            let job = job(context, backup, cluster.as_ref(), &name, cluster_uuid);
            match Wanted::new(job).ensure(client).await {
                Ok(()) => (
                    false,
                    "DeletingData",
                    "a Job deletes the backup's data".to_owned(),
                ),
                // Everything of the namespace goes, and nothing can be made in it any more.
                Err(ObjectError::Kubernetes {
                    source: kube::Error::Api(status),
                    ..
                }) if status.is_forbidden() && status.message.contains("being terminated") => {
                    tracing::warn!(
                        backup = backup.name_any(),
                        namespace,
                        "the namespace is being deleted: the backup's data stays"
                    );
                    return Ok(true);
                }
                Err(error) => return Err(error.into()),
            }
        }
    };
    context
        .event(&backup.object_ref(&()), warning, "Backup", reason, &message)
        .await;
    Ok(false)
}

/// The Job that deletes the data. The cluster may be gone, and with it what it said of images and
/// machines.
fn job(
    context: &Context,
    backup: &RdfBackup,
    cluster: Option<&ValidatedCluster>,
    name: &str,
    cluster_uuid: &str,
) -> serde_json::Value {
    let uid = backup.uid().unwrap_or_default();
    let status = backup.status.clone().unwrap_or_default();
    let at = status.location.unwrap_or_else(|| url(backup, cluster_uuid));
    let arguments = [
        "delete-backup",
        "--at",
        &at,
        "--cluster-uuid",
        cluster_uuid,
        "--backup-id",
        &uid,
    ];
    JobSpec {
        name: name.to_owned(),
        namespace: backup.namespace().unwrap_or_default(),
        labels: labels(&backup.spec.cluster_name, "backup"),
        annotations: json!({}),
        owner: owner("RdfBackup", &backup.name_any(), &uid),
        image: cluster.map_or_else(|| context.newest_image(), |cluster| cluster.image.clone()),
        image_pull_policy: cluster.and_then(|cluster| cluster.spec.image_pull_policy.clone()),
        service_account: None,
        arguments: arguments.map(ToOwned::to_owned).to_vec(),
        environment: Vec::new(),
        data_claim: None,
        location: Some(backup.spec.destination.clone()),
        backup_is_read_only: false,
        scheduling: cluster.map_or_else(|| json!({}), job_scheduling),
        security: cluster
            .map(|cluster| cluster.spec.security)
            .unwrap_or_default(),
        options: backup.spec.job.clone(),
    }
    .build()
}

async fn set_finalizer(
    context: &Context,
    backup: &RdfBackup,
    wanted: bool,
) -> Result<(), BackupError> {
    let mut finalizers = backup.finalizers().to_vec();
    finalizers.retain(|name| name != BACKUP_FINALIZER);
    if wanted {
        finalizers.push(BACKUP_FINALIZER.to_owned());
    }
    let namespace = backup.namespace().unwrap_or_default();
    let backups: Api<RdfBackup> = Api::namespaced(context.client.clone(), &namespace);
    // The resourceVersion makes the API server refuse the patch of an object that has changed.
    let patch = json!({ "metadata": {
        "finalizers": finalizers,
        "resourceVersion": backup.resource_version(),
    } });
    let patched = backups
        .patch(
            &backup.name_any(),
            &PatchParams::default(),
            &Patch::Merge(&patch),
        )
        .await;
    match patched {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(source) => Err(BackupError::Finalizers(source)),
    }
}
