//! One reconcile of an RdfBackup.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use serde_json::json;

use super::decide;
use crate::api::{BackupPhase, RdfBackup, RdfBackupStatus, RdfCluster};
use crate::cluster::apply::{ApplyError, check_location};
use crate::cluster::validate::{ValidatedCluster, validate};
use crate::context::Context;
use crate::jobs::{self, JobSpec, location_url};
use crate::kubernetes::{apply, describe_error, now, write_status};
use crate::names::{labels, owner, short_hash};

/// A reconcile that did not come to its end; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("failed to read {what}: {}", describe_error(source))]
    Read {
        what: &'static str,
        source: kube::Error,
    },
    #[error("failed to apply the backup Job: {}", describe_error(.0))]
    Apply(#[source] kube::Error),
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
) -> Result<Action, BackupError> {
    let read = |what| move |source| BackupError::Read { what, source };
    let namespace = cached.namespace().unwrap_or_default();
    let client = &context.client;
    let backups: Api<RdfBackup> = Api::namespaced(client.clone(), &namespace);
    let Some(backup) = backups
        .get_opt(&cached.name_any())
        .await
        .map_err(read("the backup"))?
    else {
        return Ok(Action::await_change());
    };
    let old = backup.status.clone().unwrap_or_default();
    let finished = matches!(old.phase, BackupPhase::Completed | BackupPhase::Failed);
    if finished || backup.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let generation = backup.metadata.generation;
    let jobs: Api<Job> = Api::namespaced(client.clone(), &namespace);
    let name = job_name(&backup);
    let new = match jobs.get_opt(&name).await.map_err(read("the Job"))? {
        Some(job) => {
            let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
            let mine =
                ListParams::default().labels(&format!("batch.kubernetes.io/job-name={name}"));
            let pods = pods.list(&mine).await.map_err(read("the Job's pods"))?;
            decide::from_job(
                &old,
                generation,
                &name,
                &jobs::result(&job, &pods.items),
                now(),
            )
        }
        None => match source(&context, &backup, &namespace).await? {
            Ok((cluster, from)) => {
                let object = job(&backup, &cluster, &name, &from);
                apply(client, &namespace, &object)
                    .await
                    .map_err(BackupError::Apply)?;
                decide::from_job(&old, generation, &name, &jobs::JobResult::Running, now())
            }
            Err((reason, message)) => decide::waiting(&old, generation, reason, &message, now()),
        },
    };
    announce(&context, &backup, &old, &new).await;
    write_status(client, &backup, backup.status.as_ref(), &new)
        .await
        .map_err(BackupError::Status)?;
    Ok(match new.phase {
        BackupPhase::Completed | BackupPhase::Failed => Action::await_change(),
        _ => Action::requeue(Duration::from_secs(3)),
    })
}

/// Each backup has one Job: named by the object's UID and generation, it is found again by any
/// later reconcile.
fn job_name(backup: &RdfBackup) -> String {
    format!(
        "{}-{}-{}",
        backup.name_any(),
        short_hash(&backup.uid().unwrap_or_default(), 8),
        backup.metadata.generation.unwrap_or(1)
    )
}

/// The cluster and the members to ask, or why the backup has to wait.
async fn source(
    context: &Context,
    backup: &RdfBackup,
    namespace: &str,
) -> Result<Result<(ValidatedCluster, Vec<String>), (&'static str, String)>, BackupError> {
    let name = &backup.spec.cluster_name;
    let clusters: Api<RdfCluster> = Api::namespaced(context.client.clone(), namespace);
    let found = clusters
        .get_opt(name)
        .await
        .map_err(|source| BackupError::Read {
            what: "the cluster",
            source,
        })?;
    let Some(cluster) = found else {
        return Ok(Err((
            "ClusterNotFound",
            format!("there is no RdfCluster {name} in this namespace"),
        )));
    };
    match check_location(&context.client, namespace, &backup.spec.destination).await {
        Ok(()) => {}
        Err(ApplyError::Source { reason, message }) => return Ok(Err((reason, message))),
        Err(error) => return Ok(Err((error.reason(), error.to_string()))),
    }
    let valid = match validate(&cluster, &context.node_image_repository) {
        Ok(valid) => valid,
        Err(error) => return Ok(Err((error.reason(), error.to_string()))),
    };
    let from = decide::members_to_ask(name, namespace, &cluster.status.unwrap_or_default());
    if from.is_empty() {
        return Ok(Err((
            "NoReadyMember",
            format!("no member of {name} is ready to be asked"),
        )));
    }
    Ok(Ok((valid, from)))
}

fn job(
    backup: &RdfBackup,
    cluster: &ValidatedCluster,
    name: &str,
    from: &[String],
) -> serde_json::Value {
    let destination = &backup.spec.destination;
    JobSpec {
        name: name.to_owned(),
        namespace: cluster.namespace.clone(),
        labels: labels(&cluster.name, "backup"),
        annotations: json!({}),
        owner: owner(
            "RdfBackup",
            &backup.name_any(),
            &backup.uid().unwrap_or_default(),
        ),
        image: cluster.image.clone(),
        image_pull_policy: cluster.spec.image_pull_policy.clone(),
        service_account: Some(cluster.name.clone()),
        arguments: vec![
            "backup".to_owned(),
            "--from".to_owned(),
            from.join(","),
            "--to".to_owned(),
            location_url(destination, Some(&backup.name_any())),
        ],
        environment: Vec::new(),
        data_claim: None,
        location: Some(destination.clone()),
        backup_is_read_only: false,
        scheduling: json!({
            "nodeSelector": cluster.spec.scheduling.node_selector,
            "tolerations": cluster.spec.scheduling.tolerations,
        }),
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
    let warning = !matches!(condition.reason.as_str(), "Running" | "Completed");
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
