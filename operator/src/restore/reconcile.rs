//! One reconcile of an RdfRestore. The restoring itself is the new cluster's bootstrap.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};

use crate::api::{
    Bootstrap, BootstrapFromBackup, RdfBackup, RdfCluster, RdfRestore, RdfRestoreStatus,
    RestorePhase, condition_is_true,
};
use crate::conditions::{Wanted, merge};
use crate::context::Context;
use crate::kubernetes::{describe_error, now, write_status};

/// Says which restore made a cluster.
const ANNOTATION_RESTORE: &str = "quadraft.dev/restore-uid";

/// A reconcile that did not come to its end; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("failed to {what}: {}", describe_error(source))]
    Kubernetes {
        what: &'static str,
        source: kube::Error,
    },
}

/// Makes and follows the cluster.
///
/// # Errors
/// When the API server does not answer or refuses.
pub async fn reconcile(
    cached: Arc<RdfRestore>,
    context: Arc<Context>,
) -> Result<Action, RestoreError> {
    let failed = |what| move |source| RestoreError::Kubernetes { what, source };
    let namespace = cached.namespace().unwrap_or_default();
    let client = &context.client;
    let restores: Api<RdfRestore> = Api::namespaced(client.clone(), &namespace);
    let Some(restore) = restores
        .get_opt(&cached.name_any())
        .await
        .map_err(failed("read the restore"))?
    else {
        return Ok(Action::await_change());
    };
    let old = restore.status.clone().unwrap_or_default();
    let finished = matches!(old.phase, RestorePhase::Completed | RestorePhase::Failed);
    if finished || restore.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let name = &restore.spec.cluster.name;
    let clusters: Api<RdfCluster> = Api::namespaced(client.clone(), &namespace);
    let cluster = clusters
        .get_opt(name)
        .await
        .map_err(failed("read the cluster"))?;
    let backup = match &restore.spec.source.backup_name {
        Some(backup) => Api::<RdfBackup>::namespaced(client.clone(), &namespace)
            .get_opt(backup)
            .await
            .map_err(failed("read the backup"))?,
        None => None,
    };
    let expected = restore
        .spec
        .source
        .expected_digest
        .clone()
        .or_else(|| backup.and_then(|backup| backup.status?.digest));
    let progress = match &cluster {
        Some(cluster) => follow(&restore, cluster, expected.as_deref()),
        None => without_cluster(&old, name),
    };
    let creates = cluster.is_none() && progress.phase == RestorePhase::Restoring;
    let new = status(
        &old,
        restore.metadata.generation,
        &restore,
        expected.clone(),
        &progress,
        now(),
    );
    if old.phase != new.phase {
        let warning = new.phase == RestorePhase::Failed;
        context
            .event(
                &restore.object_ref(&()),
                warning,
                "Restore",
                &progress.reason,
                &progress.message,
            )
            .await;
    }
    write_status(client, &restore, restore.status.as_ref(), &new)
        .await
        .map_err(failed("write the status"))?;
    // That it is made is written down before it is: should it be missing later, somebody deleted it.
    if creates {
        let object = new_cluster(&restore, &namespace, expected);
        match clusters.create(&PostParams::default(), &object).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(source) => return Err(failed("create the cluster")(source)),
        }
    }
    Ok(match new.phase {
        RestorePhase::Completed | RestorePhase::Failed => Action::await_change(),
        _ => Action::requeue(Duration::from_secs(3)),
    })
}

/// The cluster that the restore makes. It has no owner: deleting the restore deletes no data.
fn new_cluster(restore: &RdfRestore, namespace: &str, expected: Option<String>) -> RdfCluster {
    let wanted = &restore.spec.cluster;
    let mut spec = wanted.spec.clone();
    spec.bootstrap = Some(Bootstrap {
        from_backup: BootstrapFromBackup {
            backup_name: restore.spec.source.backup_name.clone(),
            source: restore.spec.source.location(),
            expected_digest: expected,
        },
    });
    let mut cluster = RdfCluster::new(&wanted.name, spec);
    cluster.metadata.namespace = Some(namespace.to_owned());
    cluster.metadata.annotations = Some(
        [(
            ANNOTATION_RESTORE.to_owned(),
            restore.uid().unwrap_or_default(),
        )]
        .into(),
    );
    cluster
}

/// How a restore goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Progress {
    phase: RestorePhase,
    reason: String,
    message: String,
    digest: Option<String>,
}

impl Progress {
    fn restoring(reason: &str, message: &str) -> Self {
        Self {
            phase: RestorePhase::Restoring,
            reason: reason.to_owned(),
            message: message.to_owned(),
            digest: None,
        }
    }

    fn failed(reason: &str, message: String) -> Self {
        Self {
            phase: RestorePhase::Failed,
            reason: reason.to_owned(),
            message,
            digest: None,
        }
    }
}

/// What becomes of a restore whose cluster is not there.
fn without_cluster(old: &RdfRestoreStatus, name: &str) -> Progress {
    if old.cluster_made {
        return Progress::failed(
            "ClusterDeleted",
            format!(
                "RdfCluster {name} was made by this restore and is not there any more: it is not made \
                 again. Create another RdfRestore to have it back"
            ),
        );
    }
    Progress::restoring("ClusterCreated", "the cluster is made")
}

fn follow(restore: &RdfRestore, cluster: &RdfCluster, expected: Option<&str>) -> Progress {
    let uid = restore.uid().unwrap_or_default();
    if cluster.annotations().get(ANNOTATION_RESTORE) != Some(&uid) {
        return Progress::failed(
            "ClusterExists",
            format!(
                "RdfCluster {} exists and was not made by this restore: nothing was restored",
                cluster.name_any()
            ),
        );
    }
    let status = cluster.status.clone().unwrap_or_default();
    let digest = status
        .restored
        .as_ref()
        .map(|restored| restored.digest.clone());
    if let (Some(digest), Some(expected)) = (&digest, expected)
        && digest != expected
    {
        return Progress {
            digest: Some(digest.clone()),
            ..Progress::failed(
                "DigestDiffers",
                format!("the restored data has digest {digest} and {expected} was expected"),
            )
        };
    }
    let ready = condition_is_true(&status.conditions, "Ready");
    let mut progress = match (&digest, ready) {
        (Some(_), true) => Progress {
            phase: RestorePhase::Completed,
            reason: "Completed".to_owned(),
            message: "the cluster serves the restored data".to_owned(),
            digest: None,
        },
        _ => {
            let stalled = status
                .conditions
                .iter()
                .find(|condition| condition.type_ == "Stalled" && condition.status == "True");
            match stalled {
                // A person may still mend what stalls the cluster: this is not the end.
                Some(condition) => Progress::restoring(&condition.reason, &condition.message),
                None => Progress::restoring("Restoring", "the cluster is being restored"),
            }
        }
    };
    progress.digest = digest;
    progress
}

fn status(
    old: &RdfRestoreStatus,
    generation: Option<i64>,
    restore: &RdfRestore,
    expected: Option<String>,
    progress: &Progress,
    now: Timestamp,
) -> RdfRestoreStatus {
    let completed = progress.phase == RestorePhase::Completed;
    let failed = progress.phase == RestorePhase::Failed;
    let wanted = vec![
        Wanted::new("Ready", completed, &progress.reason, &progress.message),
        Wanted::new("Reconciling", !completed && !failed, &progress.reason, ""),
        Wanted::new(
            "Stalled",
            failed,
            &progress.reason,
            if failed { &progress.message } else { "" },
        ),
    ];
    RdfRestoreStatus {
        observed_generation: generation,
        phase: progress.phase,
        cluster_name: Some(restore.spec.cluster.name.clone()),
        cluster_made: true,
        digest: progress.digest.clone().or_else(|| old.digest.clone()),
        expected_digest: expected,
        conditions: merge(&old.conditions, wanted, generation, now),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn restore() -> RdfRestore {
        serde_json::from_value(json!({
            "apiVersion": "quadraft.dev/v1alpha1", "kind": "RdfRestore",
            "metadata": { "name": "r", "namespace": "prod", "uid": "restore-1" },
            "spec": {
                "source": { "claimName": "backups", "path": "b1" },
                "cluster": { "name": "films", "spec": { "storage": { "size": "1Gi" } } },
            },
        }))
        .unwrap()
    }

    fn cluster(digest: &str, ready: &str) -> RdfCluster {
        let mut cluster = new_cluster(&restore(), "prod", Some("d".into()));
        cluster.status = serde_json::from_value(json!({
            "restored": { "location": "", "digest": digest, "quads": 1, "sourceClusterUuid": "" },
            "conditions": [{ "type": "Ready", "status": ready, "reason": "x", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z" }],
        }))
        .unwrap();
        cluster
    }

    #[test]
    fn a_restore_is_complete_when_the_cluster_is_ready_with_the_expected_digest() {
        let progress = follow(&restore(), &cluster("d", "True"), Some("d"));
        assert_eq!(progress.phase, RestorePhase::Completed);
        let early = follow(&restore(), &cluster("d", "False"), Some("d"));
        assert_eq!(early.phase, RestorePhase::Restoring);
    }

    #[test]
    fn a_cluster_that_somebody_deleted_is_not_made_again() {
        let new = RdfRestoreStatus::default();
        let begun = without_cluster(&new, "films");
        assert_eq!(begun.phase, RestorePhase::Restoring);
        let at = Timestamp::from_second(1).unwrap();
        let written = status(&new, Some(1), &restore(), None, &begun, at);
        let gone = without_cluster(&written, "films");
        assert_eq!(
            (gone.phase, gone.reason.as_str()),
            (RestorePhase::Failed, "ClusterDeleted")
        );
    }

    #[test]
    fn another_digest_than_expected_fails_the_restore() {
        let progress = follow(&restore(), &cluster("e", "True"), Some("d"));
        assert_eq!(progress.reason, "DigestDiffers");
    }

    #[test]
    fn a_cluster_that_existed_before_is_not_taken_over() {
        let mut foreign = cluster("d", "True");
        foreign.metadata.annotations = None;
        assert_eq!(follow(&restore(), &foreign, None).reason, "ClusterExists");
    }
}
