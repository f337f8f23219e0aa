//! The end of a cluster: its volumes stay or go as the spec says.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::core::Expression;
use serde_json::json;

use super::apply::{ApplyError, delete};
use crate::api::{OnClusterDeletion, RdfCluster};
use crate::context::Context;
use crate::names::{FINALIZER, LABEL_CLUSTER_UUID, selector};

/// Whether the finalizer is on the cluster.
fn is_protected(cluster: &RdfCluster) -> bool {
    cluster.finalizers().iter().any(|name| name == FINALIZER)
}

/// Whether something has to be done when the cluster is deleted: what has an owner goes by itself, and
/// volumes that stay need nobody.
fn needs_protection(cluster: &RdfCluster) -> bool {
    cluster.spec.storage.on_cluster_deletion == OnClusterDeletion::Delete
}

/// Whether the finalizer is on the cluster if it has to be, and only then.
pub(super) fn is_in_order(cluster: &RdfCluster) -> bool {
    is_protected(cluster) == needs_protection(cluster)
}

/// Puts the finalizer on a cluster, before anything is made for it, or takes it away.
pub(super) async fn protect(context: &Context, cluster: &RdfCluster) -> Result<bool, ApplyError> {
    if is_in_order(cluster) {
        return Ok(false);
    }
    let mut finalizers = cluster.finalizers().to_vec();
    finalizers.retain(|name| name != FINALIZER);
    if needs_protection(cluster) {
        finalizers.push(FINALIZER.to_owned());
    }
    set_finalizers(context, cluster, &finalizers).await?;
    Ok(true)
}

/// Deletes the volumes if the spec says so, and lets the cluster go. StatefulSets and the rest
/// are owned by the cluster and go after it; a claim in use goes when its pod has.
pub(super) async fn finish(context: &Context, cluster: &RdfCluster) -> Result<(), ApplyError> {
    context.forget(&cluster.uid().unwrap_or_default());
    if !is_protected(cluster) {
        return Ok(());
    }
    if cluster.spec.storage.on_cluster_deletion == OnClusterDeletion::Delete {
        delete_volumes(context, cluster).await?;
    }
    let finalizers: Vec<String> = cluster
        .finalizers()
        .iter()
        .filter(|name| *name != FINALIZER)
        .cloned()
        .collect();
    set_finalizers(context, cluster, &finalizers).await
}

async fn delete_volumes(context: &Context, cluster: &RdfCluster) -> Result<(), ApplyError> {
    // Without a UUID the cluster never made a volume: one of that name is another's.
    let Some(uuid) = cluster
        .status
        .as_ref()
        .and_then(|status| status.cluster_uuid.clone())
    else {
        return Ok(());
    };
    let namespace = cluster.namespace().unwrap_or_default();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &namespace);
    let mut mine = selector(&cluster.name_any());
    mine.extend(Expression::Equal(LABEL_CLUSTER_UUID.to_owned(), uuid));
    let mine = ListParams::default().labels_from(&mine);
    let found = claims
        .list(&mine)
        .await
        .map_err(|source| ApplyError::Read {
            what: "PersistentVolumeClaims".to_owned(),
            source,
        })?;
    for claim in found {
        let (Some(uid), Some(version)) = (claim.uid(), claim.resource_version()) else {
            continue;
        };
        if claim.metadata.deletion_timestamp.is_none() {
            let name = claim.name_any();
            delete(
                &claims,
                "PersistentVolumeClaim",
                &name,
                &uid,
                Some(&version),
            )
            .await?;
        }
    }
    Ok(())
}

async fn set_finalizers(
    context: &Context,
    cluster: &RdfCluster,
    finalizers: &[String],
) -> Result<(), ApplyError> {
    let namespace = cluster.namespace().unwrap_or_default();
    let clusters: Api<RdfCluster> = Api::namespaced(context.client.clone(), &namespace);
    // The resourceVersion makes the API server refuse the patch of a stale object.
    let patch = json!({ "metadata": {
        "finalizers": finalizers,
        "resourceVersion": cluster.resource_version(),
    } });
    match clusters
        .patch(
            &cluster.name_any(),
            &PatchParams::default(),
            &Patch::Merge(&patch),
        )
        .await
    {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(source) => Err(ApplyError::Finalizers(source)),
    }
}
