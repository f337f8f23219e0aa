//! One reconcile of an RdfBackup.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::runtime::controller::Action as Requeue;
use kube::{Client, Resource, ResourceExt};
use serde_json::json;

use super::data;
use super::decide::{self, Action, Attempt, Source};
use crate::api::{BackupPhase, RdfBackup, RdfBackupStatus, RdfCluster};
use crate::cluster::apply::{ApplyError, check_location, delete};
use crate::cluster::validate::{ValidatedCluster, accepted};
use crate::context::Context;
use crate::jobs::{self, JobResult, JobSpec};
use crate::kubernetes::objects::{ObjectError, Wanted};
use crate::kubernetes::obstacles::last_warning;
use crate::kubernetes::{describe_error, now, write_status};
use crate::names::{ANNOTATION_MADE_FOR, labels, owner};

/// How long the makers of pods are given before they are asked why there is none.
const NO_POD_AFTER_SECONDS: i64 = 10;

/// A reconcile that did not come to its end; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("failed to read {what}: {}", describe_error(source))]
    Read {
        what: &'static str,
        source: kube::Error,
    },
    #[error("{0}")]
    Job(#[from] ObjectError),
    #[error("{0}")]
    Delete(#[from] ApplyError),
    #[error("failed to note the end of a Job: {}", describe_error(.0))]
    Keep(#[source] kube::Error),
    #[error("failed to change the finalizers: {}", describe_error(.0))]
    Finalizers(#[source] kube::Error),
    #[error("failed to write the status: {}", describe_error(.0))]
    Status(#[source] kube::Error),
}

/// Runs the backup's Job and tells of it.
///
/// # Errors
/// When the API server does not answer or refuses.
pub async fn reconcile(
    cached: Arc<RdfBackup>,
    context: Arc<Context>,
) -> Result<Requeue, BackupError> {
    let namespace = cached.namespace().unwrap_or_default();
    let client = &context.client;
    let backups: Api<RdfBackup> = Api::namespaced(client.clone(), &namespace);
    let found = backups.get_opt(&cached.name_any()).await;
    let found = found.map_err(|source| BackupError::Read {
        what: "the backup",
        source,
    })?;
    let Some(backup) = found else {
        context.forget(&cached.uid().unwrap_or_default());
        return Ok(Requeue::await_change());
    };
    if let Some(requeue) = data::guard(&context, &backup).await? {
        return Ok(requeue);
    }
    let old = backup.status.clone().unwrap_or_default();
    if matches!(old.phase, BackupPhase::Completed | BackupPhase::Failed) {
        return Ok(Requeue::await_change());
    }
    let (source, cluster) = source(&context, &backup, &namespace).await?;
    let attempt = attempt(client, &backup, cluster.as_ref()).await?;
    let (new, action) = decide::decide(&backup, &source, attempt.as_ref(), now());
    let acts = action != Action::Nothing;
    // The number of the attempt is written before its Job is made.
    let written = write_status(client, &backup, backup.status.as_ref(), &new).await;
    written.map_err(BackupError::Status)?;
    announce(&context, &backup, &old, &new).await;
    act(client, &backup, &source, cluster.as_ref(), &action).await?;
    Ok(match new.phase {
        BackupPhase::Completed | BackupPhase::Failed => Requeue::await_change(),
        _ if acts => Requeue::requeue(Duration::from_secs(1)),
        // What a Job and its pods do is watched; why they do nothing is not.
        _ => Requeue::requeue(Duration::from_secs(10)),
    })
}

async fn act(
    client: &Client,
    backup: &RdfBackup,
    source: &Source,
    cluster: Option<&ValidatedCluster>,
    action: &Action,
) -> Result<(), BackupError> {
    match (action, source, cluster) {
        (Action::Start { attempt }, Source::Found { cluster_uuid, from }, Some(cluster)) => {
            let job = job(backup, cluster, *attempt, cluster_uuid, from);
            Ok(Wanted::new(job).ensure(client).await?)
        }
        (Action::Withdraw { uid }, ..) => {
            let namespace = backup.namespace().unwrap_or_default();
            let jobs: Api<Job> = Api::namespaced(client.clone(), &namespace);
            let status = backup.status.clone().unwrap_or_default();
            let name = job_name(backup, status.attempts);
            Ok(delete(&jobs, "Job", &name, uid, None).await?)
        }
        _ => Ok(()),
    }
}

fn job_name(backup: &RdfBackup, attempt: i32) -> String {
    let distinct = format!("{}/{attempt}", backup.uid().unwrap_or_default());
    jobs::name(&backup.name_any(), &distinct)
}

/// What people have asked for when a Job was made: later words may mend what keeps it from beginning.
fn made_for(backup: &RdfBackup, cluster: &ValidatedCluster) -> String {
    let generation = backup.metadata.generation.unwrap_or(0);
    format!("{generation}/{}", cluster.generation)
}

/// The newest Job of the backup, as it stands.
async fn attempt(
    client: &Client,
    backup: &RdfBackup,
    cluster: Option<&ValidatedCluster>,
) -> Result<Option<Attempt>, BackupError> {
    let read = |what| move |source| BackupError::Read { what, source };
    let number = backup.status.as_ref().map_or(0, |status| status.attempts);
    if number == 0 {
        return Ok(None);
    }
    let namespace = backup.namespace().unwrap_or_default();
    let name = job_name(backup, number);
    let found = look(client, &namespace, &name).await;
    let Some((job, result)) = found.map_err(read("the Job"))? else {
        return Ok(None);
    };
    Ok(Some(Attempt {
        is_outdated: cluster.is_some_and(|cluster| {
            job.annotations().get(ANNOTATION_MADE_FOR) != Some(&made_for(backup, cluster))
        }),
        is_deleted: job.metadata.deletion_timestamp.is_some(),
        uid: job.uid().unwrap_or_default(),
        created: job
            .metadata
            .creation_timestamp
            .as_ref()
            .map_or_else(now, |time| time.0),
        name,
        result,
    }))
}

/// A Job by its name and how it stands; its end is kept in it.
pub(super) async fn look(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<(Job, JobResult)>, kube::Error> {
    let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
    let Some(job) = jobs.get_opt(name).await? else {
        return Ok(None);
    };
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mine = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={name}"));
    let pods: Vec<Arc<Pod>> = pods
        .list(&mine)
        .await?
        .items
        .into_iter()
        .map(Arc::new)
        .collect();
    if let Some(patch) = jobs::to_keep(&job, &pods) {
        jobs::keep(client, namespace, name, &patch).await?;
    }
    let now = now();
    let created = job.metadata.creation_timestamp.as_ref();
    let age_seconds = created.map_or(0, |time| now.as_second() - time.0.as_second());
    let warning = if pods.is_empty() && age_seconds >= NO_POD_AFTER_SECONDS {
        last_warning(client, namespace, &job.uid().unwrap_or_default()).await?
    } else {
        None
    };
    let result = jobs::result(&job, &pods, warning.as_ref(), now);
    Ok(Some((job, result)))
}

/// The cluster and the members to ask, or why the backup has to wait.
async fn source(
    context: &Context,
    backup: &RdfBackup,
    namespace: &str,
) -> Result<(Source, Option<ValidatedCluster>), BackupError> {
    let mut cluster_uuid = None;
    let missing = |cluster_uuid, reason, message| {
        let missing = Source::Missing {
            cluster_uuid,
            reason,
            message,
        };
        (missing, None)
    };
    let name = &backup.spec.cluster_name;
    let clusters: Api<RdfCluster> = Api::namespaced(context.client.clone(), namespace);
    let found = clusters.get_opt(name).await;
    let found = found.map_err(|source| BackupError::Read {
        what: "the cluster",
        source,
    })?;
    let Some(cluster) = found else {
        let message = format!("there is no RdfCluster {name} in this namespace");
        return Ok(missing(cluster_uuid, "ClusterNotFound", message));
    };
    if let Some(status) = &cluster.status {
        cluster_uuid.clone_from(&status.cluster_uuid);
    }
    match check_location(&context.client, namespace, &backup.spec.destination).await {
        Ok(()) => {}
        Err(ApplyError::Source { reason, message }) => {
            return Ok(missing(cluster_uuid, reason, message));
        }
        Err(error) => return Ok(missing(cluster_uuid, error.reason(), error.to_string())),
    }
    let valid = match accepted(&cluster, &context.node_image_repository) {
        Ok((valid, _)) => valid,
        Err(error) => return Ok(missing(cluster_uuid, error.reason(), error.to_string())),
    };
    let status = cluster.status.unwrap_or_default();
    let from = decide::members_to_ask(&valid, &status);
    match status.cluster_uuid {
        Some(cluster_uuid) if !from.is_empty() => {
            Ok((Source::Found { cluster_uuid, from }, Some(valid)))
        }
        cluster_uuid => Ok(missing(
            cluster_uuid,
            "NoReadyMember",
            format!("no member of {name} is ready to be asked"),
        )),
    }
}

/// On which machines the Jobs may run: those of the members, without a preference to be apart.
pub(super) fn job_scheduling(cluster: &ValidatedCluster) -> serde_json::Value {
    json!({
        "nodeSelector": cluster.spec.scheduling.node_selector,
        "tolerations": cluster.spec.scheduling.tolerations,
    })
}

fn job(
    backup: &RdfBackup,
    cluster: &ValidatedCluster,
    attempt: i32,
    cluster_uuid: &str,
    from: &[String],
) -> serde_json::Value {
    let destination = &backup.spec.destination;
    let arguments = [
        "backup",
        "--from",
        &from.join(","),
        "--to",
        &data::url(backup, cluster_uuid),
        "--cluster-uuid",
        cluster_uuid,
        "--backup-id",
        &backup.uid().unwrap_or_default(),
    ];
    JobSpec {
        name: job_name(backup, attempt),
        namespace: cluster.namespace.clone(),
        labels: labels(&cluster.name, "backup"),
        annotations: json!({ ANNOTATION_MADE_FOR: made_for(backup, cluster) }),
        owner: owner(
            "RdfBackup",
            &backup.name_any(),
            &backup.uid().unwrap_or_default(),
        ),
        image: cluster.image.clone(),
        image_pull_policy: cluster.spec.image_pull_policy.clone(),
        service_account: Some(cluster.shared_name()),
        arguments: arguments.map(ToOwned::to_owned).to_vec(),
        environment: Vec::new(),
        data_claim: None,
        location: Some(destination.clone()),
        backup_is_read_only: false,
        scheduling: job_scheduling(cluster),
        security: cluster.spec.security,
        options: backup.spec.job.clone(),
    }
    .build()
}

async fn announce(
    context: &Context,
    backup: &RdfBackup,
    old: &RdfBackupStatus,
    new: &RdfBackupStatus,
) {
    let Some(condition) = new.conditions.iter().find(|one| one.type_ == "Ready") else {
        return;
    };
    let said = old.conditions.iter().find(|one| one.type_ == "Ready");
    if said.is_some_and(|said| said.reason == condition.reason) {
        return;
    }
    let warning = !matches!(
        condition.reason.as_str(),
        "JobCreated" | "Running" | "Completed"
    );
    context
        .event(
            &backup.object_ref(&()),
            warning,
            "Backup",
            &condition.reason,
            &condition.message,
        )
        .await;
}
