//! Objects that should be there whatever step is due, and what is still to be done about them.
//!
//! That nothing is to be done may be decided from caches. What is to be done is decided from what the
//! API server says at that moment: the plan, and each object once more.

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::apply::ApplyError;
use super::build;
use super::observation::{Observation, Slot};
use super::plan::{Ensure, Plan};
use super::validate::ValidatedCluster;
use crate::kubernetes::cache::Caches;
use crate::kubernetes::objects::Wanted;
use crate::names::LABEL_ROLE;

/// Something that should be so.
#[derive(Clone, Debug, PartialEq)]
pub enum Want {
    /// The object is there as it is written here.
    Object(Wanted),
    /// The volume is there and has the size; `present_bytes` is what it has, if it exists.
    Volume {
        object: Wanted,
        present_bytes: Option<u64>,
    },
    /// The object is not there.
    Absent(Wanted),
    /// The pod has the label of its role.
    Role {
        namespace: String,
        pod_name: String,
        pod_uid: String,
        role: &'static str,
    },
}

/// All that should be so.
#[must_use]
pub fn wants(
    cluster: &ValidatedCluster,
    observation: &Observation,
    cluster_uuid: &str,
    plan: &Plan,
) -> Vec<Want> {
    let mut wants: Vec<Want> = build::shared(cluster)
        .into_iter()
        .map(|object| Want::Object(Wanted::new(object)))
        .collect();
    let budget = Wanted::new(build::disruption_budget(cluster, plan.minimum_available));
    wants.push(if cluster.spec.scheduling.disruption_budget {
        Want::Object(budget)
    } else {
        Want::Absent(budget)
    });
    wants.extend(plan.ensure.iter().filter_map(|action| match action {
        Ensure::Volume { slot } => {
            let present_bytes = requested_bytes(observation, *slot);
            // A volume is applied where it is missing or has to grow: it never shrinks.
            present_bytes
                .is_none_or(|bytes| bytes < cluster.storage_bytes)
                .then(|| Want::Volume {
                    object: Wanted::new(build::volume(cluster, *slot, cluster_uuid)),
                    present_bytes,
                })
        }
        Ensure::Role {
            slot,
            pod_uid,
            role,
        } => Some(Want::Role {
            namespace: cluster.namespace.clone(),
            pod_name: cluster.pod_name(*slot),
            pod_uid: pod_uid.clone(),
            role,
        }),
        Ensure::Member {
            slot,
            replicas,
            recovery_attempt,
            fenced_at,
        } => Some(Want::Object(Wanted::new(build::stateful_set(
            cluster,
            *slot,
            cluster_uuid,
            *replicas,
            *recovery_attempt,
            *fenced_at,
        )))),
    }));
    wants
}

/// The volumes that have more than is asked for.
pub fn shrinking(
    cluster: &ValidatedCluster,
    observation: &Observation,
    plan: &Plan,
) -> impl Iterator<Item = ApplyError> {
    plan.ensure.iter().filter_map(|action| {
        let Ensure::Volume { slot } = action else {
            return None;
        };
        let present_bytes = requested_bytes(observation, *slot)?;
        (present_bytes > cluster.storage_bytes).then_some(ApplyError::Shrinks {
            slot: *slot,
            present_bytes,
        })
    })
}

fn requested_bytes(observation: &Observation, slot: Slot) -> Option<u64> {
    let seen = observation.slots.get(&slot)?;
    Some(seen.volume.as_ref()?.requested_bytes)
}

/// Those that are not so, as far as the watches have told.
///
/// # Errors
/// When an object in the caches cannot be read.
pub fn due(caches: &Caches, wants: Vec<Want>) -> Result<Vec<Want>, serde_json::Error> {
    let find = |wanted: &Wanted| caches.find(wanted.kind(), wanted.namespace(), wanted.name());
    let mut due = Vec::new();
    for want in wants {
        let met = match &want {
            Want::Object(object) | Want::Volume { object, .. } => {
                object.is_met(find(object)?.as_ref())
            }
            Want::Absent(object) => object.is_gone(find(object)?.as_ref()),
            // Planned only where the label is another one.
            Want::Role { .. } => false,
        };
        if !met {
            due.push(want);
        }
    }
    Ok(due)
}

/// Brings about what is due.
///
/// Gives what could not be done; the rest was.
pub async fn ensure(client: &Client, due: &[Want]) -> Vec<ApplyError> {
    let mut errors = Vec::new();
    for want in due {
        let result = match want {
            Want::Object(object) => object.ensure(client).await.map_err(ApplyError::from),
            Want::Volume {
                object,
                present_bytes,
            } => object
                .ensure(client)
                .await
                .map_err(|error| ApplyError::Volume {
                    present_bytes: *present_bytes,
                    error: Box::new(error.into()),
                }),
            Want::Absent(object) => object.remove(client).await.map_err(ApplyError::from),
            Want::Role {
                namespace,
                pod_name,
                pod_uid,
                role,
            } => {
                let pods = Api::namespaced(client.clone(), namespace);
                label(&pods, pod_name, pod_uid, role).await
            }
        };
        errors.extend(result.err());
    }
    errors
}

async fn label(
    pods: &Api<Pod>,
    pod_name: &str,
    pod_uid: &str,
    role: &str,
) -> Result<(), ApplyError> {
    let patch = json!({ "metadata": { "uid": pod_uid, "labels": { LABEL_ROLE: role } } });
    match pods
        .patch(pod_name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
    {
        Ok(_) => Ok(()),
        // Another pod by now, or none.
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(source) => Err(ApplyError::Label {
            name: pod_name.to_owned(),
            source,
        }),
    }
}
